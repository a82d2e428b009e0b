//! A slice as it happened: each message with its text, and what it led to, with times.

use std::collections::{HashMap, HashSet};

use aof_shared::ids::{MessageId, TenantId};
use serde_json::{Value, json};

use super::record::Input;
use super::slice::Slice;
use super::source::Source;
use crate::output::{self, BOLD, Format, paint};
use crate::trace;

/// Events kept of one message; a run with more steps shows these.
const MAX_EVENTS: usize = 1_000;

/// Writes the first `limit` messages of the slice; all are counted.
///
/// # Errors
/// When the past cannot be read to its end.
pub(super) async fn show(
    (account, source): (&TenantId, &Source),
    slice: &Slice,
    limit: usize,
    format: Format,
) -> anyhow::Result<()> {
    let (stories, seen) = stories(source, slice, limit).await?;
    let inputs = inputs(source, slice, &stories).await?;
    let told: Vec<Value> = stories.iter().map(|story| told(story, &inputs)).collect();
    if format.is_json() {
        output::json(&json!({
            "account": account, "slice": slice, "messages_in_slice": seen, "messages": told,
        }));
        return Ok(());
    }
    output::line(format_args!(
        "{}: {seen} messages from {} to {}",
        paint(BOLD, account.as_str()),
        slice.from,
        slice.to
    ));
    for (story, told) in stories.iter().zip(&told) {
        output::line("");
        let [id, at, who, place] =
            ["message_id", "time", "user", "conversation"].map(|field| output::text(&told[field]));
        output::line(format_args!("{at} {id} {who} in {place}"));
        let text = output::visible(&output::text(&told["text"]));
        for line in text.lines() {
            output::line(format_args!("  > {line}"));
        }
        for line in trace::draw(&trace::tree(&story.events)).lines() {
            output::line(format_args!("  {line}"));
        }
    }
    let more = seen.saturating_sub(stories.len() as u64);
    if more > 0 {
        output::line(format_args!(
            "\n{more} more messages; --limit shows more, --flow, --agent and --user fewer"
        ));
    } else if seen == 0 {
        anstream::eprintln!("nothing happened then; choose another --from, --to or --last");
    }
    Ok(())
}

/// One message's events, in order.
struct Story {
    id: MessageId,
    events: Vec<Value>,
}

/// The first `limit` messages of the slice, and how many there are.
async fn stories(
    source: &Source,
    slice: &Slice,
    limit: usize,
) -> anyhow::Result<(Vec<Story>, u64)> {
    let mut events = source.events(slice, &[]).await?;
    let mut stories: Vec<Story> = Vec::new();
    let mut places: HashMap<MessageId, usize> = HashMap::new();
    let mut others: HashSet<MessageId> = HashSet::new();
    while let Some(line) = events.next().await? {
        let Ok(event) = serde_json::from_slice::<Value>(&line) else { continue };
        let id = event["message_id"].as_str().and_then(|id| id.parse().ok());
        let Some(id) = id.map(MessageId) else { continue };
        match places.get(&id) {
            Some(&place) if stories[place].events.len() < MAX_EVENTS => {
                stories[place].events.push(event);
            }
            Some(_) => {}
            None if stories.len() < limit => {
                places.insert(id, stories.len());
                stories.push(Story { id, events: vec![event] });
            }
            None => drop(others.insert(id)),
        }
    }
    let seen = stories.len() + others.len();
    Ok((stories, seen as u64))
}

/// What was written, of the messages that are shown.
async fn inputs(
    source: &Source,
    slice: &Slice,
    stories: &[Story],
) -> anyhow::Result<HashMap<MessageId, Input>> {
    let mut wanted: HashSet<MessageId> = stories.iter().map(|story| story.id).collect();
    let mut found = HashMap::new();
    let mut messages = source.messages(slice).await?;
    while !wanted.is_empty()
        && let Some(line) = messages.next().await?
    {
        let Ok(input) = serde_json::from_slice::<Input>(&line) else { continue };
        if wanted.remove(&input.message.id) {
            found.insert(input.message.id, input);
        }
    }
    Ok(found)
}

fn told(story: &Story, inputs: &HashMap<MessageId, Input>) -> Value {
    let first = story.events.first().unwrap_or(&Value::Null);
    let input = inputs.get(&story.id).map(|input| &input.message);
    json!({
        "message_id": story.id,
        "time": first["time"],
        "conversation": first["conversation"],
        "platform": input.map(|m| &m.platform),
        "channel": input.map(|m| &m.channel),
        "user": input.map(|m| &m.user.id),
        "text": input.map(|m| &m.text),
        "events": trace::tree(&story.events),
    })
}
