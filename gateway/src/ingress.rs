//! Publishes what came in: a message with its `message.accepted`, or a vote. Answers after the receipt.

use aof_shared::action::{ActionMessage, Vote, VoteTarget};
use aof_shared::config::Instance;
use aof_shared::event::{Event, EventType};
use aof_shared::ids::{AgentName, EventId, MessageId, ReplyId, TenantId};
use aof_shared::message::{Message, PINNED_AGENT, Reply, ReplyContent};
use aof_shared::queue::{Durability, Publication, QueueError, Receipt};
use aof_shared::subject::{Stream, Subject};
use aof_shared::trace::{CAUSATION, Span, SpanKind, TRACEPARENT, TraceContext};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::app::App;

/// What the queue made of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accepted {
    /// The message.
    pub(crate) message_id: MessageId,
    /// It had been accepted before.
    pub(crate) duplicate: bool,
    /// How durable it is.
    pub(crate) durability: Durability,
    /// Where its `message.accepted` stands in the journal.
    pub(crate) journal_seq: u64,
}

/// The receipt as senders get it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ReceiptBody {
    /// The message's id; the same for every delivery of the same event.
    #[schema(value_type = String)]
    pub(crate) message_id: Uuid,
    /// It had been accepted before.
    pub(crate) duplicate: bool,
    /// `fsync`, `quorum` or `memory`.
    #[schema(value_type = String)]
    pub(crate) durability: Durability,
}

impl From<Accepted> for ReceiptBody {
    fn from(accepted: Accepted) -> Self {
        Self {
            message_id: accepted.message_id.0,
            duplicate: accepted.duplicate,
            durability: accepted.durability,
        }
    }
}

/// What goes with a message beside itself.
#[derive(Debug, Clone)]
pub(crate) struct Hop {
    /// The trace that it belongs to.
    pub(crate) trace: TraceContext,
    /// The agent that the sender asked for by name.
    pub(crate) agent: Option<AgentName>,
    /// The message that this one tries again.
    pub(crate) retry_of: Option<MessageId>,
    /// The replay that it belongs to.
    pub(crate) replay: Option<String>,
}

impl Hop {
    /// A hop that belongs to `trace` and nothing else.
    pub(crate) fn of(trace: TraceContext) -> Self {
        Self { trace, agent: None, retry_of: None, replay: None }
    }
}

/// Publishes `message` and its `message.accepted` in one batch.
///
/// # Errors
/// [`QueueError`]: nothing was accepted, or it may be tried again under the same id.
pub(crate) async fn publish_message(
    app: &App,
    message: &Message,
    hop: Hop,
) -> Result<Accepted, QueueError> {
    let span = publishing_message(app, hop.trace, message);
    let batch = message_batch(app, message, Hop { trace: span.context(), ..hop });
    let receipts = published(app, batch, span).await?;
    let [inbound, journal] = first_two(&receipts);
    if inbound.duplicate {
        journal_duplicate(app, message).await;
    }
    Ok(Accepted {
        message_id: message.id,
        duplicate: inbound.duplicate,
        durability: app.node.ports.queue.durability(),
        journal_seq: journal.seq,
    })
}

/// The span of a publication.
pub(crate) fn publishing(
    app: &App,
    trace: TraceContext,
    stream: Stream,
    tenant: &TenantId,
) -> Span {
    let opening = app.node.tracer.span("gateway.ingress", SpanKind::Producer);
    let mut span = opening.under(Some(trace)).start();
    span.tag_published(stream).tag("tenant.id", tenant);
    span
}

/// The span of the publication of `message`.
pub(crate) fn publishing_message(app: &App, trace: TraceContext, message: &Message) -> Span {
    let mut span = publishing(app, trace, Stream::Inbound, &message.tenant);
    span.tag("message.id", &message.id).tag("platform", &message.platform);
    span
}

async fn published(
    app: &App,
    batch: Vec<Publication>,
    mut span: Span,
) -> Result<Vec<Receipt>, QueueError> {
    let receipts = app.node.ports.queue.publish(batch).await;
    if receipts.is_err() {
        span.fail("not_accepted");
    }
    receipts
}

/// INBOUND and EVENTS entries of one message, in this order.
pub(crate) fn message_batch(app: &App, message: &Message, hop: Hop) -> Vec<Publication> {
    let trace = hop.trace;
    let accepted = EventId::derive(message.id.0, "accepted");
    let mut event =
        Event::new(accepted, &message.tenant, EventType::MessageAccepted, message.received_at_ms)
            .about(message)
            .under(&app.node.config.current().revision)
            .with(json!({
                "platform": message.platform,
                "instance": message.instance,
                "channel": message.channel.id,
                "user": message.user.id,
                "kind": message.kind,
                "event_id": message.event_id,
                "retry_of": hop.retry_of,
                "agent": hop.agent,
                "replay": hop.replay,
            }));
    event.trace_id = Some(trace.trace_id());
    let subject = Subject::inbound(&message.tenant, &message.platform);
    let mut inbound = Publication::json(subject, message.id.0, message)
        .expect("a message has only text keys")
        .ordered_by(message.ordering_key())
        .with_header(TRACEPARENT, trace.traceparent())
        .with_header(CAUSATION, accepted.to_string());
    if let Some(agent) = &hop.agent {
        inbound = inbound.with_header(PINNED_AGENT, agent.as_str());
    }
    vec![inbound, traced(&event, trace)]
}

/// A notice in answer to a message that nothing works on: once, however often the message is
/// delivered.
pub(crate) fn notice(message: &Message, text: &str, trace: TraceContext) -> Publication {
    let reply = Reply {
        id: ReplyId::derive(message.id.0, "notice-empty"),
        to: message.address(),
        message: message.id,
        run: None,
        content: ReplyContent::Notice { text: text.to_owned() },
    };
    let Message { tenant, platform, instance, channel, .. } = message;
    Publication::json(Subject::reply(tenant, platform), reply.id.0, &reply)
        .expect("a reply has only text keys")
        .ordered_by(format!("{platform}/{instance}/{}", channel.id))
        .with_header(TRACEPARENT, trace.traceparent())
}

/// How an account is linked to its platform now, in the platform's own word and code.
pub(crate) fn state(
    app: &App,
    instance: &Instance,
    (state, reason): (&str, Option<u64>),
    trace: TraceContext,
) -> Publication {
    tracing::info!(tenant.id = %instance.tenant, instance.name = %instance.name,
        platform = %instance.platform, state, reason, "instance state");
    let id = EventId(Uuid::now_v7());
    let mut event =
        Event::new(id, &instance.tenant, EventType::InstanceState, app.now_ms()).with(json!({
            "platform": instance.platform,
            "instance": instance.name,
            "state": state,
            "reason": reason,
        }));
    event.trace_id = Some(trace.trace_id());
    traced(&event, trace)
}

/// `event` as a publication of `trace`.
pub(crate) fn traced(event: &Event, trace: TraceContext) -> Publication {
    let publication = event.publication().expect("event data has only text keys");
    publication.with_header(TRACEPARENT, trace.traceparent())
}

fn first_two(receipts: &[Receipt]) -> [Receipt; 2] {
    *receipts.first_chunk().expect("a receipt for each publication of the batch")
}

/// Best effort: the first delivery is in the journal already.
pub(crate) async fn journal_duplicate(app: &App, message: &Message) {
    let id = EventId(Uuid::now_v7());
    let event = Event::new(id, &message.tenant, EventType::MessageDuplicate, app.now_ms())
        .about(message)
        .caused_by(EventId::derive(message.id.0, "accepted"));
    let publication = event.publication().expect("event data has only text keys");
    if let Err(error) = app.node.ports.queue.publish(vec![publication]).await {
        tracing::debug!(%error, message.id = %message.id, "duplicate not journaled");
    }
}

/// A vote on its way.
#[derive(Debug)]
pub(crate) struct VotePublication {
    /// Whose approval it is about.
    pub(crate) tenant: TenantId,
    /// Dedupe id, derived from the platform's event where there is one.
    pub(crate) id: Uuid,
    /// The vote.
    pub(crate) vote: Vote,
    /// The trace that it belongs to.
    pub(crate) trace: TraceContext,
}

/// The ordering key of votes on `target`.
pub(crate) fn vote_key(target: &VoteTarget) -> String {
    match target {
        VoteTarget::Action { id } => format!("vote/{id}"),
        VoteTarget::Posted { at, message } => {
            format!("vote/{}/{}/{}/{message}", at.platform, at.instance, at.channel)
        }
    }
}

/// Publishes a vote. Votes on one thing keep their order. What the approver says about
/// it names [`VotePublication::id`] as its cause.
///
/// # Errors
/// [`QueueError`]: it was not cast, or may be cast again under the same id.
pub(crate) async fn publish_vote(app: &App, cast: VotePublication) -> Result<Receipt, QueueError> {
    let span = publishing(app, cast.trace, Stream::Actions, &cast.tenant);
    let publication = vote(VotePublication { trace: span.context(), ..cast });
    let receipts = published(app, vec![publication], span).await?;
    Ok(*receipts.first().expect("a receipt for each publication of the batch"))
}

/// The ACTIONS entry of one vote.
pub(crate) fn vote(cast: VotePublication) -> Publication {
    let key = vote_key(&cast.vote.target);
    Publication::json(
        Subject::action(&cast.tenant),
        cast.id,
        &ActionMessage::Vote(Box::new(cast.vote)),
    )
    .expect("a vote has only text keys")
    .ordered_by(key)
    .with_header(TRACEPARENT, cast.trace.traceparent())
    .with_header(CAUSATION, cast.id.to_string())
}
