//! The signals that stop a node, and the drain that follows.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use aof_shared::lifecycle::Lifecycle;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::EXIT_COULD_NOT;

/// How long a node may take to finish what it has begun once it is told to stop.
pub(super) const DRAIN_DEADLINE: Duration = Duration::from_secs(30);

/// SIGTERM and SIGINT.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the system does not let it.
    pub(super) fn listen() -> anyhow::Result<Self> {
        let terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
        Ok(Self { terminate, interrupt })
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Stops `lifecycle` and waits until it is drained, the next signal, or the deadline.
    pub(super) async fn drain(mut self, lifecycle: &Lifecycle) -> ExitCode {
        tracing::info!(deadline_s = DRAIN_DEADLINE.as_secs(), "node draining");
        lifecycle.stop();
        tokio::select! {
            () = lifecycle.drained() => {
                tracing::info!("node drained");
                ExitCode::SUCCESS
            }
            () = self.next() => {
                tracing::warn!("second signal: ending at once; what was accepted is kept");
                ExitCode::from(EXIT_COULD_NOT)
            }
            () = tokio::time::sleep(DRAIN_DEADLINE) => {
                tracing::warn!("drain deadline passed; what was accepted is kept");
                ExitCode::from(EXIT_COULD_NOT)
            }
        }
    }
}
