//! Turns a dead letter back into work.

use aof_shared::action::ActionMessage;
use aof_shared::dead::DeadLetter;
use aof_shared::ids::{AgentName, EventId, MessageId};
use aof_shared::message::{Message, PINNED_AGENT, Reply, Task};
use aof_shared::queue::{Publication, Stored};
use aof_shared::subject::{Stream, Subject};
use aof_shared::trace::{TRACEPARENT, TraceContext};

use crate::app::App;
use crate::ingress::{Hop, message_batch, vote_key};
use crate::problem::Problem;

/// Work that came out of a dead letter.
pub(super) struct Revived {
    /// To publish; the ids are derived, so that twice is once.
    pub(super) batch: Vec<Publication>,
    /// The new message, where it became one.
    pub(super) message: Option<MessageId>,
}

/// A message's run is over and stays over, so a message or task starts again as a new
/// message; nothing of its old approvals comes with it.
pub(super) fn revive(
    app: &App,
    stored: &Stored,
    letter: &DeadLetter,
    trace: TraceContext,
) -> Result<Revived, Problem> {
    let unreadable = || Problem::conflict("its payload cannot be read: abandon it");
    let subject = Subject::parse(&letter.subject)
        .filter(|s| s.tenant() == &letter.tenant)
        .ok_or_else(unreadable)?;
    let message = match subject.stream() {
        Stream::Inbound => serde_json::from_str::<Message>(&letter.payload).ok(),
        Stream::Tasks => serde_json::from_str::<Task>(&letter.payload).ok().map(|t| t.message),
        _ => {
            return Ok(Revived {
                batch: vec![again(stored, letter, subject, trace)],
                message: None,
            });
        }
    };
    let message = message.filter(|m| m.tenant == letter.tenant).ok_or_else(unreadable)?;
    let fresh = renewed(message, stored, app.now_ms());
    let agent = stored.headers.get(PINNED_AGENT).and_then(|name| AgentName::new(name).ok());
    let hop = Hop { retry_of: letter.message_id, agent, ..Hop::of(trace) };
    Ok(Revived { batch: message_batch(app, &fresh, hop), message: Some(fresh.id) })
}

fn renewed(mut message: Message, stored: &Stored, now_ms: u64) -> Message {
    message.event_id = format!("retry:{}:{}", stored.id, message.event_id);
    message.id =
        MessageId::derive(&message.tenant, &message.platform, &message.instance, &message.event_id);
    message.received_at_ms = now_ms;
    message
}

fn again(
    stored: &Stored,
    letter: &DeadLetter,
    subject: Subject,
    trace: TraceContext,
) -> Publication {
    let id = EventId::derive(stored.id, "retry").0;
    let key = ordering_key(subject.stream(), &letter.payload);
    let again = Publication::new(subject, id, letter.payload.clone().into_bytes())
        .with_header(TRACEPARENT, trace.traceparent());
    match key {
        Some(key) => again.ordered_by(key),
        None => again,
    }
}

/// The key that the payload was published under; `None` where it cannot be read, which
/// its consumer will say of it again.
fn ordering_key(stream: Stream, payload: &str) -> Option<String> {
    match stream {
        Stream::Actions => Some(match serde_json::from_str(payload).ok()? {
            ActionMessage::Held(action) => action.run.to_string(),
            ActionMessage::Vote(vote) => vote_key(&vote.target),
        }),
        Stream::Replies => {
            let to = serde_json::from_str::<Reply>(payload).ok()?.to;
            Some(format!("{}/{}/{}", to.platform, to.instance, to.channel))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use aof_shared::ids::ActionId;
    use serde_json::json;

    use super::*;

    #[test]
    fn replies_and_votes_keep_their_ordering_key() {
        let to = json!({ "tenant": "a", "platform": "slack", "instance": "main", "channel": "C1",
            "thread": null });
        let nil = uuid::Uuid::nil();
        let reply = json!({ "id": nil, "to": to, "message": nil, "run": null,
            "content": { "kind": "notice", "text": "hi" } });
        assert!(ordering_key(Stream::Replies, "{nonsense").is_none());
        let typed: Result<Reply, _> = serde_json::from_value(reply.clone());
        assert!(typed.is_ok(), "{typed:?}");
        let key = ordering_key(Stream::Replies, &reply.to_string());
        assert_eq!(key.as_deref(), Some("slack/main/C1"));
        let target = aof_shared::action::VoteTarget::Action { id: ActionId(nil) };
        assert_eq!(vote_key(&target), format!("vote/{}", ActionId(nil)));
    }
}
