//! Chooses the backend. The one place that knows which adapters stand behind the ports.

mod cluster;
mod patience;
pub mod watch;

use std::path::Path;
use std::sync::Arc;

pub use self::cluster::{ClusterOptions, open_cluster};
pub use self::patience::Waiting;
use crate::clock::Clock;
use crate::lifecycle::Lifecycle;
use crate::limit::embedded::EmbeddedLimits;
use crate::queue::embedded::live::EmbeddedLive;
use crate::queue::embedded::{Caps, EmbeddedQueue, StartError};
pub use crate::sqlite::OpenError;
use crate::sqlite::{DbError, Opened};
use crate::store::Ports;
use crate::store::embedded::EmbeddedStore;
use crate::store::embedded::rows::Rows;

/// The servers' names in health.
pub(crate) const NATS: &str = "nats";
pub(crate) const REDIS: &str = "redis";
pub(crate) const POSTGRES: &str = "postgres";

/// Why the backend did not open. Says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The data directory or its database cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A server of the cluster is there and cannot be used; waiting does not help.
    #[error("{reason}")]
    Refused {
        /// Which, where, what is wrong and what to do, without passwords.
        reason: String,
    },
    /// The node was told to stop before its servers were there.
    #[error("told to stop before the servers of the cluster were there")]
    Stopped,
    /// The database was opened, but what it holds cannot be read.
    #[error("the database holds something unreadable; restore a backup or move it away")]
    State {
        /// The cause.
        #[source]
        source: crate::queue::BoxError,
    },
}

/// Opens `<data_dir>/aof.db`, making both when they are not there. One process at a time
/// may have it open. MUST be called inside a Tokio runtime.
///
/// What is in flight is written until the last port is dropped, which also ends the
/// writer; `lifecycle` owns the background tasks, which end when it stops.
///
/// # Errors
/// [`BackendError`]; nothing keeps running then.
pub fn open_embedded(
    data_dir: &Path,
    clock: Arc<dyn Clock>,
    lifecycle: &Lifecycle,
) -> Result<Ports, BackendError> {
    open_with(data_dir, clock, lifecycle, Caps::default())
}

pub(crate) fn open_with(
    data_dir: &Path,
    clock: Arc<dyn Clock>,
    lifecycle: &Lifecycle,
    caps: Caps,
) -> Result<Ports, BackendError> {
    let opened = Opened::open(data_dir)?;
    let state = |error: DbError| BackendError::State { source: Box::new(error) };
    let rows = Rows::load(opened.conn()).map_err(state)?;
    let beside = Box::new(rows.clone());
    let started = EmbeddedQueue::start(opened, Arc::clone(&clock), lifecycle, caps, beside);
    let (queue, db) = started.map_err(|error| match error {
        StartError::Open(error) => BackendError::Open(error),
        StartError::State(error) => state(error),
    })?;
    let together = queue.together(rows.clone());
    Ok(Ports {
        queue: Arc::new(queue),
        live: Arc::new(EmbeddedLive::default()),
        limits: Arc::new(EmbeddedLimits::new(db.clone(), Arc::clone(&clock))),
        store: Arc::new(EmbeddedStore::new(db, rows)),
        together: Some(Arc::new(together)),
        clock,
    })
}

#[cfg(test)]
pub(crate) mod tests;
