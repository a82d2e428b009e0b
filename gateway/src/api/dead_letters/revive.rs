//! Turns a dead letter back into work.

use aof_shared::dead::DeadLetter;
use aof_shared::ids::{EventId, MessageId};
use aof_shared::message::{Message, Task};
use aof_shared::queue::{Publication, Stored};
use aof_shared::subject::{Stream, Subject};
use aof_shared::trace::{TRACEPARENT, TraceContext};

use crate::app::App;
use crate::ingress::{Hop, message_batch};
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
    let hop = Hop { retry_of: letter.message_id, ..Hop::of(trace) };
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
    Publication::new(subject, id, letter.payload.clone().into_bytes())
        .with_header(TRACEPARENT, trace.traceparent())
}
