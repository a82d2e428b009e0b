//! A limit said no: the delivery goes back for as long as the limiter named, at no cost
//! of an attempt; the journal and the person who asked hear of it once.

use std::time::Duration;

use aof_shared::event::EventType;
use aof_shared::ids::{EventId, ReplyId};
use aof_shared::limit::LimitError;
use aof_shared::message::{Reply, ReplyContent};
use aof_shared::queue::{Delivery, Publication};
use aof_shared::subject::Subject;
use aof_shared::telemetry::ScopeLabels;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::action::reply_key;
use crate::admit::{self, Scope};
use crate::consume::{Report, settle};
use crate::job::{Interrupted, Job};

/// Longer waits than this are told to the person who asked.
const TELL_AFTER_MS: u64 = 2_000;
/// A place may be free any moment: asked again after this at the latest.
const PLACE_RETRY_MS: u64 = 500;
/// Longest wait before a limit is asked again, so that a raised one acts soon.
const MAX_WAIT_MS: u64 = 30_000;
/// Wait before limits that do not answer are asked again.
const UNAVAILABLE_RETRY_MS: u64 = 500;

/// Why a delivery may not run yet.
pub(super) enum No {
    /// A limit.
    Limit {
        /// Which.
        scope: String,
        /// For how long.
        retry_after_ms: u64,
    },
    /// No decision: nothing runs unlimited.
    Unavailable(LimitError),
}

/// Gives the delivery back and says why.
pub(super) async fn send_back(
    job: &Job,
    delivery: Delivery,
    no: No,
    report: &mpsc::Sender<Report>,
) {
    let (scope, wait_ms) = match no {
        No::Unavailable(error) => {
            if job.worker.may_say("limits") {
                tracing::warn!(error = %error, "limits do not answer; work waits");
            }
            (Scope::Global, UNAVAILABLE_RETRY_MS)
        }
        No::Limit { scope, retry_after_ms } => {
            let labels = ScopeLabels { scope: admit::kind(&scope).to_owned() };
            job.worker.node.metrics.deferrals.get_or_create(&labels).inc();
            let place = scope.ends_with("/tasks") || admit::kind(&scope) == "run";
            let wait_ms = if place { retry_after_ms.min(PLACE_RETRY_MS) } else { retry_after_ms };
            if admit::kind(&scope) != "run"
                && job.worker.told.first(job.task.id)
                && let Err(error) = tell(job, &scope, wait_ms).await
            {
                tracing::warn!(error = %error, "a deferral was not journaled");
                job.worker.told.forget(job.task.id);
            }
            (Scope::of(&scope), wait_ms.min(MAX_WAIT_MS))
        }
    };
    settle::defer(delivery, wait_ms).await;
    let until = Instant::now() + Duration::from_millis(wait_ms);
    let tenant = job.tenant().clone();
    let _ = report.send(Report::Deferred { tenant, scope, until }).await;
}

/// Journals the deferral, and tells the person who asked when it takes long.
async fn tell(job: &Job, scope: &str, wait_ms: u64) -> Result<(), Interrupted> {
    let kind = admit::kind(scope);
    let data = json!({ "scope": kind, "limit": scope, "retry_after_ms": wait_ms });
    let id = EventId::derive(job.task.run.0, "deferred");
    let mut batch = vec![job.event(id, EventType::RunDeferred, data).publication()?];
    if wait_ms > TELL_AFTER_MS {
        let message = &job.task.message;
        let seconds = wait_ms.div_ceil(1_000);
        let whose = match kind {
            "global" => "everybody's",
            "org" => "your organisation's",
            "flow" => "this flow's",
            _ => "your",
        };
        let text =
            format!("Limit reached ({whose} requests). Yours is kept and runs in {seconds} s.");
        let reply = Reply {
            id: ReplyId::derive(message.id.0, "notice-limit"),
            to: message.address(),
            message: message.id,
            run: Some(job.task.run),
            content: ReplyContent::Notice { text },
        };
        let subject = Subject::reply(job.tenant(), &message.platform);
        let key = reply_key(&reply);
        batch.push(Publication::json(subject, reply.id.0, &reply)?.ordered_by(key));
    }
    job.publish(batch).await
}
