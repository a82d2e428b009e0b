//! What the loops share: ports, wake-ups, series, spans.

use std::sync::Arc;

use aof_shared::clock::UnixMs;
use aof_shared::lifecycle::Lifecycle;
use aof_shared::node::{Health, Node};
use aof_shared::queue::{Publication, QueueError};
use aof_shared::store::{Ports, StoreError};
use aof_shared::telemetry::{ApprovalLabels, DeadLetterLabels, Metrics};
use aof_shared::throttle::Throttle;
use aof_shared::trace::Tracer;
use tokio::sync::Notify;

use crate::ROLE;

/// Pause before something that the backend refused is tried again, in ms.
pub(crate) const RETRY_MS: u64 = 500;

/// One log line in this time about what each loop waits for.
const SAY_AWAY_EVERY_MS: u64 = 30_000;

/// Why a delivery or settlement was not handled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandleError {
    /// See [`StoreError`].
    #[error("the store did not do it")]
    Store(#[from] StoreError),
    /// See [`QueueError`].
    #[error("the queue did not do it")]
    Queue(#[from] QueueError),
    /// Will never work: cannot be read or written as JSON.
    #[error("it is not the JSON that it should be")]
    Json(#[from] serde_json::Error),
    /// Will never work: it names another tenant than its subject.
    #[error("it names tenant `{named}`, but its subject another")]
    Foreign {
        /// The tenant it names.
        named: String,
    },
}

impl HandleError {
    /// The dead letter's reason where trying again cannot help; `None` where it can.
    pub(crate) fn hopeless(&self) -> Option<&'static str> {
        match self {
            Self::Json(_) => Some("unreadable"),
            Self::Foreign { .. } => Some("foreign_tenant"),
            Self::Store(StoreError::Corrupt { .. }) => Some("corrupt"),
            Self::Queue(QueueError::TooLarge { .. }) => Some("too_large"),
            Self::Store(_) | Self::Queue(_) => None,
        }
    }
}

/// The error with its causes, for logs and dead letters.
pub(crate) fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Shared by the loops of one approver.
pub(crate) struct Desk {
    pub(crate) ports: Ports,
    pub(crate) health: Health,
    pub(crate) lifecycle: Lifecycle,
    /// Something was settled.
    pub(crate) settled: Notify,
    /// Something was held, or found to be overdue.
    pub(crate) held: Notify,
    metrics: Arc<Metrics>,
    /// What was logged of backends that are away.
    said: Throttle,
    pub(crate) tracer: Tracer,
}

impl Desk {
    pub(crate) fn new(node: &Node) -> Self {
        Self {
            ports: node.ports.clone(),
            health: node.health.clone(),
            lifecycle: node.lifecycle.clone(),
            settled: Notify::new(),
            held: Notify::new(),
            metrics: node.metrics.clone(),
            said: Throttle::new(SAY_AWAY_EVERY_MS),
            tracer: node.tracer.clone(),
        }
    }

    pub(crate) fn now_ms(&self) -> UnixMs {
        self.ports.clock.now_ms()
    }

    /// Publishes what follows from a delivery, in one batch.
    pub(crate) async fn publish(&self, batch: Vec<Publication>) -> Result<(), QueueError> {
        self.ports.queue.publish(batch).await.map(|_receipts| ())
    }

    /// Counts an approval of `flow` that is `status` now.
    pub(crate) fn count_approval(&self, flow: &str, status: &str) {
        let labels = ApprovalLabels { flow: flow.to_owned(), status: status.to_owned() };
        self.metrics.approvals.get_or_create(&labels).inc();
    }

    /// Counts a dead letter.
    pub(crate) fn count_dead_letter(&self, reason: &str) {
        let labels = DeadLetterLabels { role: ROLE.to_owned(), reason: reason.to_owned() };
        self.metrics.dead_letters.get_or_create(&labels).inc();
    }

    /// Says that `what` waits for a backend, once in a while.
    pub(crate) fn waits(&self, what: &'static str, error: &dyn std::error::Error) {
        if self.said.allows(what, self.now_ms()) {
            tracing::warn!(error = chain_of(error), "{what} waits for the backend");
        }
    }

    /// Waits before the next try, or until the lifecycle stops.
    pub(crate) async fn pause(&self) {
        let pause = std::time::Duration::from_millis(RETRY_MS);
        let _ = tokio::time::timeout(pause, self.lifecycle.stopped()).await;
    }
}
