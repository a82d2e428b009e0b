//! What a role is started with, and what keeps it honest: loops that must not end, and
//! consumers that are waited for.

mod health;
pub mod members;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use crate::config::Config;
use crate::lifecycle::Lifecycle;
use crate::queue::{Consumer, ConsumerSpec, QueueError};
use crate::store::Ports;
use crate::telemetry::Metrics;
use crate::trace::Tracer;

pub use self::health::Health;
use self::members::Members;

/// First and longest pause before a consumer that was not to be had is asked for again, in
/// ms; doubles in between.
const FIRST_RETRY_MS: u64 = 250;
const MAX_RETRY_MS: u64 = 5_000;

/// What every role gets: ports, configuration, metrics, health, and its lifecycle.
#[derive(Clone)]
pub struct Node {
    /// The backend.
    pub ports: Ports,
    /// The configuration in force.
    pub config: Config,
    /// The node's series.
    pub metrics: Arc<Metrics>,
    /// Opens spans.
    pub tracer: Tracer,
    /// Which parts can work.
    pub health: Health,
    /// Which nodes there are.
    pub members: Members,
    /// Owns the tasks and says when to drain.
    pub lifecycle: Lifecycle,
}

/// Why a role did not start. Says what to do next.
#[derive(Debug, thiserror::Error)]
#[error("{role} cannot start: {reason}")]
pub struct StartError {
    /// The role.
    pub role: &'static str,
    /// What is wrong and what to do.
    pub reason: String,
    /// The cause.
    #[source]
    pub source: Option<crate::queue::BoxError>,
}

impl Node {
    /// Opens a consumer of `role`, waiting for a queue that is away until the node stops.
    ///
    /// # Errors
    /// [`StartError`] when the queue refuses it, or the node stops meanwhile.
    pub async fn consumer(
        &self,
        role: &'static str,
        spec: ConsumerSpec,
    ) -> Result<Arc<dyn Consumer>, StartError> {
        let mut retry_ms = FIRST_RETRY_MS;
        loop {
            let error = match self.ports.queue.consumer(spec.clone()).await {
                Ok(consumer) => return Ok(consumer),
                Err(error) => error,
            };
            let what = format!("the consumer `{}` of {}", spec.name, spec.stream);
            let away = matches!(error, QueueError::Unavailable { .. });
            if !away || self.lifecycle.stopping() {
                let reason = format!("{what} cannot be opened; see whether the queue is up");
                return Err(StartError { role, reason, source: Some(Box::new(error)) });
            }
            if retry_ms == FIRST_RETRY_MS {
                tracing::warn!(%error, role, "{what} is waited for");
            }
            self.health.down(role, format!("waits for {what}: {error}"));
            tokio::select! {
                () = self.lifecycle.stopped() => {}
                () = tokio::time::sleep(Duration::from_millis(retry_ms)) => {}
            }
            retry_ms = (retry_ms * 2).min(MAX_RETRY_MS);
        }
    }

    /// Runs a loop of `part` that must not end before the node stops. If it does, the part
    /// is dead: the node is neither ready nor alive, since only a restart helps.
    pub fn keep<F>(&self, part: &'static str, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (health, lifecycle) = (self.health.clone(), self.lifecycle.clone());
        self.lifecycle.spawn(async move {
            let ended = AssertUnwindSafe(work).catch_unwind().await;
            if lifecycle.stopping() {
                return;
            }
            let why = if ended.is_err() { "its loop panicked" } else { "its loop ended" };
            tracing::error!(part, why, "a part of this node is dead; restart the node");
            health.dead(part, why);
        });
    }
}
