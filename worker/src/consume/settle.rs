//! Settles deliveries: acks, hands back, and puts what nobody can read into DEAD.

use aof_shared::dead::DeadLetter;
use aof_shared::event::{Event, EventType};
use aof_shared::ids::{EventId, MessageId, ReplyId};
use aof_shared::message::{Message, Reply, ReplyContent, Task};
use aof_shared::queue::{Cause, Delivery, Publication, Stored};
use aof_shared::subject::Subject;
use aof_shared::telemetry::DeadLetterLabels;
use serde_json::json;

use crate::action::reply_key;
use crate::job::{Interrupted, Job, publish};
use crate::{ROLE, Worker};

/// Wait before a delivery is tried again after queue or store failed it.
const RETRY_MS: u64 = 1_000;
/// The dead letter's reason for a payload that is no task.
const UNREADABLE: &str = "unreadable";

/// Why a payload is not a task of its subject's tenant.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    /// Not a task at all.
    #[error("not a task: {0}")]
    Json(#[from] serde_json::Error),
    /// Another tenant's message under this tenant's subject.
    #[error("its message is of another tenant than its subject")]
    Tenant,
}

/// The task of a delivery.
///
/// # Errors
/// [`Unreadable`]; it will never be readable.
pub(super) fn parse(delivery: &Delivery) -> Result<Task, Unreadable> {
    let task: Task = serde_json::from_slice(&delivery.message.payload)?;
    if &task.message.tenant != delivery.message.subject.tenant() {
        return Err(Unreadable::Tenant);
    }
    Ok(task)
}

/// Done. An ack that fails brings it again, which finds the run finished.
pub(super) async fn ack(delivery: Delivery) {
    let seq = delivery.message.seq;
    if let Err(error) = delivery.ack().await {
        tracing::warn!(seq, error = %error, "ack failed; the task comes again");
    }
}

/// A limit said no.
pub(super) async fn defer(delivery: Delivery, delay_ms: u64) {
    nak(delivery, delay_ms, Cause::Deferred).await;
}

/// The node drains: another one goes on from the checkpoint.
pub(super) async fn hand_back(delivery: Delivery) {
    nak(delivery, 0, Cause::Drained).await;
}

/// Queue or store failed. Only what is wrong with the task itself costs an attempt.
/// A delivery that is no longer held comes by itself.
pub(super) async fn interrupted(job: &Job, held: Option<Delivery>, error: &Interrupted) {
    let cause = if error.is_outage() { Cause::Deferred } else { Cause::Failed };
    let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    if cause == Cause::Failed || job.worker.may_say("work") {
        tracing::warn!(run.id = %job.task.run, error = %error, source, "work stopped; it comes again");
    }
    if let Some(delivery) = held {
        nak(delivery, RETRY_MS, cause).await;
    }
}

async fn nak(delivery: Delivery, delay_ms: u64, cause: Cause) {
    let seq = delivery.message.seq;
    if let Err(error) = delivery.nak(delay_ms, cause).await {
        tracing::debug!(seq, error = %error, "nak failed; the task comes after its ack wait");
    }
}

/// Moves a payload that is no task to DEAD, with its one terminal event.
pub(super) async fn poison(worker: &Worker, delivery: Delivery, why: &Unreadable) {
    let batch = match letters(worker, &delivery.message, why) {
        Ok(batch) => batch,
        Err(error) => {
            tracing::error!(error = %error, "a dead letter cannot be written");
            return nak(delivery, RETRY_MS, Cause::Deferred).await;
        }
    };
    if let Err(error) = publish(worker, batch).await {
        tracing::warn!(error = %error, "dead letter was not stored; the task comes again");
        return nak(delivery, RETRY_MS, Cause::Deferred).await;
    }
    let labels = DeadLetterLabels { role: ROLE.to_owned(), reason: UNREADABLE.to_owned() };
    worker.node.metrics.dead_letters.get_or_create(&labels).inc();
    tracing::error!(subject = %delivery.message.subject, why = %why, "dead letter");
    ack(delivery).await;
}

fn letters(
    worker: &Worker,
    source: &Stored,
    why: &Unreadable,
) -> Result<Vec<Publication>, serde_json::Error> {
    let tenant = source.subject.tenant();
    let json: serde_json::Value = serde_json::from_slice(&source.payload).unwrap_or_default();
    let message_id: Option<MessageId> =
        json.pointer("/message/id").and_then(|id| serde_json::from_value(id.clone()).ok());
    let now_ms = worker.now_ms();
    let letter = DeadLetter {
        seq: 0,
        tenant: tenant.clone(),
        role: ROLE.to_owned(),
        reason: UNREADABLE.to_owned(),
        detail: why.to_string(),
        subject: source.subject.to_string(),
        payload: String::from_utf8_lossy(&source.payload).into_owned(),
        failures: 0,
        message_id,
        run_id: None,
        at_ms: now_ms,
    };
    let id = message_id.map_or(source.id, |id| id.0);
    let mut event =
        Event::new(EventId::derive(id, "terminal"), tenant, EventType::DeadLetterAdded, now_ms)
            .with(json!({ "role": ROLE, "reason": UNREADABLE, "detail": why.to_string() }));
    event.message_id = message_id;
    let mut batch = vec![letter.publication(source)?, event.publication()?];
    let message = json.get("message").and_then(|m| serde_json::from_value(m.clone()).ok());
    if let Some(message) = message.filter(|m: &Message| &m.tenant == tenant) {
        batch.push(notice(&message)?);
    }
    Ok(batch)
}

/// Tells the person who asked, when at least their message can be read.
fn notice(message: &Message) -> Result<Publication, serde_json::Error> {
    let text = "Your request cannot be read and was set aside for an operator.".to_owned();
    let reply = Reply {
        id: ReplyId::derive(message.id.0, "notice-dead"),
        to: message.address(),
        message: message.id,
        run: None,
        content: ReplyContent::Notice { text },
    };
    let key = reply_key(&reply);
    let subject = Subject::reply(&message.tenant, &message.platform);
    Ok(Publication::json(subject, reply.id.0, &reply)?.ordered_by(key))
}
