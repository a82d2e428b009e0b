//! Saves a slice as a capsule: configurations, events, messages, approvals with their votes.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use aof_shared::clock::{Clock, SystemClock, rfc3339};
use serde_json::{Value, json};

use super::capsule::{self, Writer};
use super::slice::Slice;
use super::source::Source;
use crate::EXIT_DONE;
use crate::client::{Client, ClientError};
use crate::output::{self, Format};

/// What a capsule holds.
#[derive(Debug, Default)]
struct Counts {
    configurations: u64,
    events: u64,
    messages: u64,
    approvals: u64,
}

/// Saves `slice` of the client's account as `path`.
///
/// # Errors
/// When the past cannot be read to its end, or the file cannot be written: then there is none.
pub(super) async fn save(
    client: &Client,
    slice: &Slice,
    path: &Path,
    format: Format,
) -> anyhow::Result<ExitCode> {
    let saved_at = rfc3339(SystemClock.now_ms());
    let mut writer =
        Writer::start(path, &capsule::head(client.account.as_str(), slice, &saved_at))?;
    let source = Source::Node(client.clone());
    let mut counts = Counts::default();
    let mut lines = source.configurations().await?;
    while let Some(line) = lines.next().await? {
        writer.add("event", &line)?;
        counts.configurations += 1;
    }
    let mut actions = BTreeSet::new();
    let mut about = BTreeSet::new();
    let mut lines = source.events(slice, &[]).await?;
    while let Some(line) = lines.next().await? {
        let event: Value = serde_json::from_slice(&line)?;
        // They are there already.
        if event["type"] == "config.recorded" {
            continue;
        }
        actions.extend(event["data"]["action_id"].as_str().map(str::to_owned));
        about.extend(event["message_id"].as_str().map(str::to_owned));
        writer.add("event", &line)?;
        counts.events += 1;
    }
    let mut lines = source.messages(slice).await?;
    while let Some(line) = lines.next().await? {
        let message: Value = serde_json::from_slice(&line)?;
        if message["message"]["id"].as_str().is_some_and(|id| about.contains(id)) {
            writer.add("message", &line)?;
            counts.messages += 1;
        }
    }
    for id in actions {
        // A refused command has an id too, and no approval.
        match client.get(&format!("/approvals/{id}")).await {
            Ok(approval) => {
                writer.add("approval", approval.to_string().as_bytes())?;
                counts.approvals += 1;
            }
            Err(ClientError::Problem { problem }) if problem.status == 404 => {}
            Err(error) => return Err(error.into()),
        }
    }
    let digest = writer.finish(path)?;
    told(path, &counts, &digest, format);
    Ok(ExitCode::from(EXIT_DONE))
}

fn told(path: &Path, counts: &Counts, digest: &str, format: Format) {
    let Counts { configurations, events, messages, approvals } = counts;
    if format.is_json() {
        return output::json(&json!({
            "file": path, "sha256": digest, "configurations": configurations, "events": events,
            "messages": messages, "approvals": approvals,
        }));
    }
    output::line(format_args!(
        "saved {messages} messages, {events} events, {approvals} approvals and {configurations} \
         configurations in {}\nsha256 {digest}\nnext:  aofctl replay {}",
        path.display(),
        path.display()
    ));
}
