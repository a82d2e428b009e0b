//! Start and stop: who runs, who was told to stop, and who is still at it.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Handed to every role: owns its tasks and says when to drain.
///
/// Nothing is spawned beside it, so `drained` knows of everything that runs.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Lifecycle {
    /// Nothing runs and nothing was told to stop.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `work` until it ends; [`Lifecycle::drained`] waits for it.
    pub fn spawn<F>(&self, work: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(work)
    }

    /// Asks everyone to take in nothing new and finish.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// True once [`Lifecycle::stop`] was called.
    #[must_use]
    pub fn stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Waits for [`Lifecycle::stop`].
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// A lifecycle that stops with this one but can be stopped and drained alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { stop: self.stop.child_token(), tasks: TaskTracker::new() }
    }

    /// Waits until every spawned task has ended. Call after [`Lifecycle::stop`].
    pub async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}
