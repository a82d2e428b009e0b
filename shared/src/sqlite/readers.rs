//! A few read-only connections, opened when first needed.

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::{DbError, open_reader};

/// Reads that run at once; more wait.
const MAX_READERS: usize = 4;

/// The pool.
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    turns: Semaphore,
    /// Nobody else may open the directory while somebody can read it.
    _lock: Arc<File>,
}

impl Readers {
    pub(super) fn new(path: PathBuf, lock: Arc<File>) -> Self {
        Self { path, idle: Mutex::default(), turns: Semaphore::new(MAX_READERS), _lock: lock }
    }

    /// Runs `work` on a connection of the pool, in a thread that may block.
    pub(super) async fn run<T, F>(self: &Arc<Self>, work: F) -> Result<T, DbError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, DbError> + Send + 'static,
    {
        let _turn = self.turns.acquire().await.map_err(|_| DbError::closed())?;
        let pool = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || pool.on_connection(work));
        done.await.map_err(|error| DbError::Unavailable { reason: error.to_string() })?
    }

    fn on_connection<T, F>(&self, work: F) -> Result<T, DbError>
    where
        F: FnOnce(&Connection) -> Result<T, DbError>,
    {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let conn = match idle {
            Some(conn) => conn,
            None => open_reader(&self.path)?,
        };
        let result = work(&conn);
        let mut pool = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < MAX_READERS {
            pool.push(conn);
        }
        result
    }
}
