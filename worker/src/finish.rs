//! The end of a run: recorded once, then told to everyone who asked.

use std::sync::PoisonError;

use aof_shared::dead::DeadLetter;
use aof_shared::event::EventType;
use aof_shared::ids::{EventId, ReplyId};
use aof_shared::message::{AnswerChunk, Reply, ReplyContent, RunStatus};
use aof_shared::queue::Publication;
use aof_shared::store::{Record, RunEnd, Turn};
use aof_shared::subject::{LiveSubject, Subject};
use aof_shared::telemetry::{
    DeadLetterLabels, ErrorLabels, LatencyLabels, RequestLabels, TraceLabels,
};
use serde_json::json;

use crate::ROLE;
use crate::action::reply_key;
use crate::agent::Ending;
use crate::agent::memory;
use crate::agent::stream::send;
use crate::job::{Interrupted, Job};

/// Longest error of a failed run in its log line, in characters.
const MAX_LOGGED_CHARS: usize = 500;

/// Why a run that had ended before is told again.
const TOLD_AGAIN: &str = "redelivered";

/// How a run ends.
pub(crate) fn end(job: &Job, ending: &Ending) -> RunEnd {
    let now_ms = job.now_ms();
    RunEnd {
        status: ending.status,
        answer: job.mask.apply(ending.answer.clone()),
        tokens: ending.checkpoint.tokens,
        elapsed_ms: now_ms.saturating_sub(ending.checkpoint.started_at_ms),
        at_ms: now_ms,
    }
}

/// The end of a run as it is recorded, with what its conversation remembers.
pub(crate) fn record(job: &Job, end: &RunEnd) -> Record {
    let message = &job.task.message;
    let agent = &job.setup.agent;
    let turn = |role: &str, text: String, agent| Turn {
        role: role.to_owned(),
        text,
        agent,
        at_ms: end.at_ms,
    };
    let memory = (agent.memory.max_messages > 0).then(|| {
        let key = memory::key(agent.memory.session, &job.task.flow, message);
        let asked = turn("user", job.mask.apply(message.text.clone()), None);
        let answered = turn("assistant", end.answer.clone(), Some(job.task.agent.clone()));
        (key, vec![asked, answered])
    });
    Record::RunEnd { tenant: job.tenant().clone(), run: job.task.run, end: end.clone(), memory }
}

/// What a run's end leads to: its reply and terminal event, and its dead letter when it
/// failed. The ids are derived: telling again tells nobody twice.
///
/// # Errors
/// [`Interrupted::Record`].
pub(crate) fn told(job: &Job, end: &RunEnd, reason: &str) -> Result<Vec<Publication>, Interrupted> {
    let message = &job.task.message;
    let reply = Reply {
        id: ReplyId::derive(job.task.run.0, "answer"),
        to: message.address(),
        message: message.id,
        run: Some(job.task.run),
        content: ReplyContent::Answer { text: end.answer.clone(), status: end.status },
    };
    let subject = Subject::reply(job.tenant(), &message.platform);
    let key = reply_key(&reply);
    let mut batch = vec![
        terminal(job, end, reason).publication()?,
        Publication::json(subject, reply.id.0, &reply)?.ordered_by(key),
    ];
    if end.status == RunStatus::Failed {
        batch.push(dead_letter(job, reason, &end.answer).publication(&job.source)?);
    }
    Ok(batch)
}

fn terminal(job: &Job, end: &RunEnd, reason: &str) -> aof_shared::event::Event {
    let kind = match end.status {
        RunStatus::Failed => EventType::RunFailed,
        _ => EventType::RunCompleted,
    };
    let mut data = json!({
        "status": end.status, "flow": job.task.flow, "agent": job.task.agent,
        "answer": end.answer, "tokens": end.tokens, "elapsed_ms": end.elapsed_ms,
    });
    if !reason.is_empty() {
        data["reason"] = reason.into();
    }
    job.event(EventId::derive(job.task.message.id.0, "terminal"), kind, data)
}

fn dead_letter(job: &Job, reason: &str, detail: &str) -> DeadLetter {
    DeadLetter {
        seq: 0,
        tenant: job.tenant().clone(),
        role: ROLE.to_owned(),
        reason: reason.to_owned(),
        detail: detail.to_owned(),
        subject: job.source.subject.to_string(),
        payload: String::from_utf8_lossy(&job.source.payload).into_owned(),
        failures: 0,
        message_id: Some(job.task.message.id),
        run_id: Some(job.task.run),
        at_ms: job.now_ms(),
    }
}

/// Sends the end to whoever listens to the stream.
pub(crate) async fn stream_end(job: &Job, end: &RunEnd) {
    let subject = LiveSubject::answer(job.tenant(), job.task.message.id);
    let chunk = AnswerChunk::Done { text: end.answer.clone(), status: end.status };
    send(&*job.worker.node.ports.live, &subject, &chunk).await;
}

/// Counts a finished request and writes its log line. Once a run, where it ended.
pub(crate) fn count(job: &Job, end: &RunEnd, reason: &str) {
    let (task, message) = (&job.task, &job.task.message);
    let metrics = &job.worker.node.metrics;
    let text = |name: &dyn std::fmt::Display| name.to_string();
    let requests = RequestLabels {
        flow: text(&task.flow),
        platform: text(&message.platform),
        agent: text(&task.agent),
    };
    metrics.requests.get_or_create(&requests).inc();
    let latency_ms = job.now_ms().saturating_sub(message.received_at_ms);
    let labels = LatencyLabels { flow: text(&task.flow), agent: text(&task.agent) };
    let recorded = job.trace.sampled().then(|| TraceLabels { trace_id: job.trace.trace_id() });
    metrics.latency.get_or_create(&labels).observe(seconds(latency_ms), recorded, None);
    if end.status == RunStatus::Failed {
        let labels = ErrorLabels { flow: text(&task.flow), error_type: reason.to_owned() };
        metrics.errors.get_or_create(&labels).inc();
        let labels = DeadLetterLabels { role: ROLE.to_owned(), reason: reason.to_owned() };
        metrics.dead_letters.get_or_create(&labels).inc();
    }
    let action = job.last_command.lock().unwrap_or_else(PoisonError::into_inner).clone();
    macro_rules! line {
        ($level:ident, $text:literal $(, $more:ident)*) => {
            tracing::$level!(
                target: "request",
                flow = %task.flow,
                platform = %message.platform,
                channel = message.channel.name.as_deref().unwrap_or(&message.channel.id),
                user = %message.user.id,
                agent = %task.agent,
                action = action.as_deref().unwrap_or("answer"),
                latency_ms,
                tokens_used = end.tokens,
                status = end.status.as_str(),
                $($more,)*
                trace_id = %job.trace.trace_id(),
                message_id = %message.id,
                run_id = %task.run,
                tenant = %message.tenant,
                revision = %task.revision,
                $text
            )
        };
    }
    if end.status == RunStatus::Failed {
        // The answer of a failed run says what went wrong; masked when it was recorded.
        let error: String = end.answer.chars().take(MAX_LOGGED_CHARS).collect();
        let error = error.as_str();
        line!(warn, "request failed", reason, error);
    } else {
        line!(info, "request finished");
    }
}

/// Milliseconds of a request are far below 2^53, where floats stop being exact.
#[expect(clippy::cast_precision_loss, reason = "latencies are small")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

/// Why a run that had ended before is told again, for [`told`].
pub(crate) fn reason_again(end: &RunEnd) -> &'static str {
    if end.status == RunStatus::Failed { TOLD_AGAIN } else { "" }
}
