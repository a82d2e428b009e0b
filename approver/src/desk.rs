//! What the loops share: ports, wake-ups, and the traces of what is held.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use aof_shared::clock::UnixMs;
use aof_shared::ids::ActionId;
use aof_shared::lifecycle::Lifecycle;
use aof_shared::node::{Health, Node};
use aof_shared::queue::{Publication, QueueError};
use aof_shared::store::{Ports, StoreError};
use aof_shared::telemetry::{ApprovalLabels, DeadLetterLabels, Metrics};
use aof_shared::trace::TraceContext;
use tokio::sync::Notify;

use crate::ROLE;

/// Pause before something that the backend refused is tried again, in ms.
pub(crate) const RETRY_MS: u64 = 500;

/// Held actions whose trace is remembered; decisions on older ones continue the vote's.
const REMEMBERED_TRACES: usize = 10_000;

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
    traces: Mutex<Traces>,
}

#[derive(Default)]
struct Traces {
    by_action: HashMap<ActionId, TraceContext>,
    oldest_first: VecDeque<ActionId>,
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
            traces: Mutex::default(),
        }
    }

    pub(crate) fn now_ms(&self) -> UnixMs {
        self.ports.clock.now_ms()
    }

    /// Publishes what follows from a delivery, in one batch.
    pub(crate) async fn publish(&self, batch: Vec<Publication>) -> Result<(), QueueError> {
        self.ports.queue.publish(batch).await.map(|_receipts| ())
    }

    /// Remembers the trace that an action was held in.
    pub(crate) fn remember_trace(&self, id: ActionId, trace: TraceContext) {
        let mut traces = self.traces.lock().unwrap_or_else(PoisonError::into_inner);
        if traces.by_action.insert(id, trace).is_none() {
            traces.oldest_first.push_back(id);
        }
        if traces.oldest_first.len() > REMEMBERED_TRACES
            && let Some(oldest) = traces.oldest_first.pop_front()
        {
            traces.by_action.remove(&oldest);
        }
    }

    /// A span in the trace that the action was held in, if that is known.
    pub(crate) fn trace_of(&self, id: ActionId) -> Option<TraceContext> {
        let traces = self.traces.lock().unwrap_or_else(PoisonError::into_inner);
        traces.by_action.get(&id).map(|trace| trace.child())
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

    /// Waits before the next try, or until the lifecycle stops.
    pub(crate) async fn pause(&self) {
        let pause = std::time::Duration::from_millis(RETRY_MS);
        let _ = tokio::time::timeout(pause, self.lifecycle.stopped()).await;
    }
}
