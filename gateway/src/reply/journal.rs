//! What became of a reply, for the journal and for DEAD.

use serde_json::{Value, json};

use aof_shared::clock::UnixMs;
use aof_shared::dead::DeadLetter;
use aof_shared::event::{Event, EventType};
use aof_shared::ids::EventId;
use aof_shared::message::{Reply, ReplyContent};
use aof_shared::queue::{Publication, Stored};
use aof_shared::trace::{TraceContext, causation};

/// The role that gives up, in dead letters and metrics.
pub(crate) const ROLE: &str = "gateway";

/// `reply.sent` or `reply.failed`; one a publication, however often it is delivered. A
/// dead letter that is retried is a publication of its own, and tells its own end.
pub(crate) fn event(
    kind: EventType,
    reply: &Reply,
    source: &Stored,
    at_ms: UnixMs,
    more: Value,
) -> Event {
    let mut data = json!({
        "reply_id": reply.id,
        "platform": reply.to.platform,
        "instance": reply.to.instance,
        "channel": reply.to.channel,
        "status": status(&reply.content),
    });
    if let (Some(data), Value::Object(more)) = (data.as_object_mut(), more) {
        data.extend(more);
    }
    let mut event = Event::new(EventId::derive(source.id, "sent"), &reply.to.tenant, kind, at_ms);
    event.message_id = Some(reply.message);
    event.run_id = reply.run;
    event.causation_id = causation(&source.headers);
    event.trace_id = Some(TraceContext::of(&source.headers).trace_id());
    event.data = data;
    event
}

/// What the reply says of its run or action, in a word.
pub(crate) fn status(content: &ReplyContent) -> &'static str {
    match content {
        ReplyContent::Answer { status, .. } => status.as_str(),
        ReplyContent::Notice { .. } => "notice",
        ReplyContent::Approval { view } => view.status.as_str(),
    }
}

/// A dead letter for `source`.
pub(crate) fn dead_letter(
    source: &Stored,
    reply: Option<&Reply>,
    why: (&'static str, String),
    failures: u32,
    at_ms: UnixMs,
) -> Result<Publication, serde_json::Error> {
    let (reason, detail) = why;
    let letter = DeadLetter {
        seq: 0,
        tenant: source.subject.tenant().clone(),
        role: ROLE.to_owned(),
        reason: reason.to_owned(),
        detail,
        subject: source.subject.to_string(),
        payload: String::from_utf8_lossy(&source.payload).into_owned(),
        failures,
        message_id: reply.map(|r| r.message),
        run_id: reply.and_then(|r| r.run),
        at_ms,
    };
    letter.publication(source)
}
