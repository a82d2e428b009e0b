//! Writes what a decision means: tasks, events, notices, dead letters. Pure.
//!
//! Every id is derived, so that a message that is routed twice is published once.

use aof_shared::clock::UnixMs;
use aof_shared::dead::DeadLetter;
use aof_shared::event::{Event, EventType};
use aof_shared::ids::{EventId, MessageId, ReplyId, Revision, RunId, TaskId};
use aof_shared::message::{Message, PINNED_AGENT, Reply, ReplyContent, Task};
use aof_shared::queue::{Publication, Stored};
use aof_shared::subject::Subject;
use aof_shared::trace::{CAUSATION, TRACEPARENT, TraceContext, causation};
use serde_json::{Value, json};

use crate::channel::{Known, Naming};
use crate::explain::Ranked;
use crate::score::Request;
use crate::select::Candidate;
use crate::table::{Miss, Route, is_addressed};

/// A payload in a dead letter is cut here, in bytes: below the queue's 4 MiB even when
/// every byte has to be escaped.
const MAX_DEAD_PAYLOAD_BYTES: usize = 512 * 1_024;

/// `data.reason` when a flow would have matched if the channel's name were known.
const UNRESOLVED: &str = "unresolved_channel";

/// What people are told then.
const UNRESOLVED_NOTICE: &str = "I could not look up this channel's name, so I cannot tell which flow is meant. Try again in \
     a minute; whoever runs this bot sees the cause in `aofctl status`.";

/// The delivery that something is written about.
pub(crate) struct Origin<'a> {
    stored: &'a Stored,
    trace: TraceContext,
    revision: &'a Revision,
    at_ms: UnixMs,
}

type Publications = Result<Vec<Publication>, serde_json::Error>;

impl<'a> Origin<'a> {
    /// `trace` is the span of the work on it.
    pub(crate) fn new(
        stored: &'a Stored,
        trace: TraceContext,
        revision: &'a Revision,
        at_ms: UnixMs,
    ) -> Self {
        Self { stored, trace, revision, at_ms }
    }

    /// The task, and that it was routed. `data` is what led there.
    pub(crate) fn routed(&self, route: Route, mut message: Message, data: Value) -> Publications {
        message.raw = String::new();
        let event = self.event(EventType::MessageRouted, "routed", &message);
        let id = TaskId::derive(message.id, &route.flow);
        let run = RunId::derive(id);
        let event = event.of_run(run).with(data);
        let subject = Subject::task(&message.tenant, &route.flow);
        let key = message.ordering_key();
        let task = Task {
            id,
            run,
            message,
            flow: route.flow,
            agent: route.agent,
            revision: self.revision.clone(),
            score: route.score,
            priority: route.priority,
            decision: None,
        };
        let published = Publication::json(subject, id.0, &task)?;
        let mut published = published.ordered_by(key).with_priority(task.priority);
        if let Some(agent) = self.stored.headers.get(PINNED_AGENT) {
            published = published.with_header(PINNED_AGENT, agent);
        }
        Ok(vec![self.traced(published, event.id), self.journaled(&event)?])
    }

    /// That nothing works on the message, and a notice to whoever spoke to the bot.
    pub(crate) fn missed(&self, miss: Miss, message: &Message, mut data: Value) -> Publications {
        let kind = match miss {
            Miss::Chatter => EventType::MessageIgnored,
            Miss::Strict | Miss::NoDefault | Miss::UnknownAgent | Miss::NoAgent => {
                EventType::MessageUnrouted
            }
        };
        let unresolved = data["unresolved_channel"] == true;
        data["reason"] = if unresolved { UNRESOLVED } else { miss.reason() }.into();
        let text = if unresolved { UNRESOLVED_NOTICE } else { notice(miss) };
        if kind == EventType::MessageUnrouted {
            data["detail"] = text.into();
        }
        let event = self.event(kind, "terminal", message).with(data);
        let mut all = vec![self.journaled(&event)?];
        if kind == EventType::MessageUnrouted && wants_notice(message) {
            let reply = Reply {
                id: ReplyId::derive(message.id.0, "notice-unrouted"),
                to: message.address(),
                message: message.id,
                run: None,
                content: ReplyContent::Notice { text: text.to_owned() },
            };
            let subject = Subject::reply(&message.tenant, &message.platform);
            let Message { platform, instance, channel, .. } = message;
            let published = Publication::json(subject, reply.id.0, &reply)?
                .ordered_by(format!("{platform}/{instance}/{}", channel.id));
            all.push(self.traced(published, event.id));
        }
        Ok(all)
    }

    /// That the delivery cannot be handled at all, with its payload.
    pub(crate) fn dead(&self, reason: &str, detail: String, failures: u32) -> Publications {
        let stored = self.stored;
        // The gateway publishes a message under the message's own id.
        let message = MessageId(stored.id);
        let tenant = stored.subject.tenant();
        let kept = &stored.payload[..stored.payload.len().min(MAX_DEAD_PAYLOAD_BYTES)];
        let letter = DeadLetter {
            seq: 0,
            tenant: tenant.clone(),
            role: "router".to_owned(),
            reason: reason.to_owned(),
            detail: detail.clone(),
            subject: stored.subject.to_string(),
            payload: String::from_utf8_lossy(kept).into_owned(),
            failures,
            message_id: Some(message),
            run_id: None,
            at_ms: self.at_ms,
        };
        let id = EventId::derive(message.0, "terminal");
        let mut event = Event::new(id, tenant, EventType::DeadLetterAdded, self.at_ms)
            .caused_by(self.cause(message))
            .under(self.revision)
            .with(json!({ "role": "router", "reason": reason, "detail": detail }));
        event.message_id = Some(message);
        event.trace_id = Some(self.trace.trace_id());
        Ok(vec![self.traced(letter.publication(stored)?, event.id), self.journaled(&event)?])
    }

    fn event(&self, kind: EventType, label: &str, message: &Message) -> Event {
        let id = EventId::derive(message.id.0, label);
        let mut event = Event::new(id, &message.tenant, kind, self.at_ms)
            .about(message)
            .caused_by(self.cause(message.id))
            .under(self.revision);
        event.trace_id = Some(self.trace.trace_id());
        event
    }

    /// The event that led here: what the gateway named, else that it was accepted.
    fn cause(&self, message: MessageId) -> EventId {
        causation(&self.stored.headers).unwrap_or_else(|| EventId::derive(message.0, "accepted"))
    }

    fn journaled(&self, event: &Event) -> Result<Publication, serde_json::Error> {
        let cause = event.causation_id.unwrap_or(event.id);
        Ok(self.traced(event.publication()?, cause))
    }

    fn traced(&self, publication: Publication, cause: EventId) -> Publication {
        publication
            .with_header(TRACEPARENT, self.trace.traceparent())
            .with_header(CAUSATION, cause.to_string())
    }
}

/// What a decision was made from beside the message.
pub(crate) struct Basis {
    /// Digest of the configuration.
    pub(crate) config: Revision,
    /// What was known of the channel's name.
    pub(crate) known: Known,
    /// A flow would have matched if the name were known.
    pub(crate) hangs_on_name: bool,
    /// Where the message stands in INBOUND.
    pub(crate) inbound_seq: u64,
}

/// What a decision was made from, for the journal. Never the text: that stays in INBOUND.
pub(crate) fn data(
    route: Option<&Route>,
    candidates: &[Candidate<'_>],
    request: &Request<'_>,
    basis: &Basis,
) -> Value {
    let mut data = json!({
        "candidates": Ranked::all(candidates, request),
        "channel_id": request.message.channel.id,
        "channel_name": match request.naming {
            Naming::Named(name) => Some(name),
            Naming::Nameless | Naming::Unresolved => None,
        },
        "naming": basis.known,
        "config": basis.config,
        "inbound_seq": basis.inbound_seq,
    });
    if basis.hangs_on_name {
        data["unresolved_channel"] = true.into();
    }
    if let Some(route) = route {
        data["flow"] = route.flow.as_str().into();
        data["agent"] = route.agent.as_str().into();
        data["score"] = route.score.into();
    }
    data
}

/// Nobody reads an answer to an alert.
fn wants_notice(message: &Message) -> bool {
    is_addressed(message) && message.kind != aof_shared::message::MessageKind::Alert
}

/// What people are told of a message that nothing works on; also `data.detail`.
fn notice(miss: Miss) -> &'static str {
    match miss {
        Miss::NoAgent => {
            "The flow for this message has no agent. Ask whoever runs this bot to add one."
        }
        Miss::UnknownAgent => {
            "No flow takes this message to that agent here. Ask without naming an agent, or ask \
             whoever runs this bot."
        }
        Miss::Chatter | Miss::Strict | Miss::NoDefault => {
            "No flow matches this message here. Ask whoever runs this bot to add a flow for this \
             channel, or ask in a channel that has one."
        }
    }
}
