//! The writer thread: takes all jobs that wait, runs them in one transaction, commits
//! once, and answers each.
//!
//! When a job of a batch fails, the batch is rolled back and its jobs run again one by
//! one, so that only those that fail themselves are refused.

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::DbError;

/// Most jobs in one commit.
const MAX_BATCH_JOBS: usize = 1_024;

/// A piece of work for the writer.
pub(crate) trait Job: Send {
    /// Reads and writes inside the batch's transaction. May run again after a rollback:
    /// anything outside of the database belongs into `done`.
    fn run(&mut self, conn: &Connection) -> Result<(), DbError>;
    /// Called after the commit, in the order of the batch.
    fn done(self: Box<Self>, outcome: Result<(), DbError>);
}

/// State that lives beside the database and is written with each batch.
pub(crate) trait BatchHook: Send {
    /// Writes what the batch's jobs changed.
    fn before_commit(&mut self, conn: &Connection) -> Result<(), DbError>;
    /// Keeps or forgets what the batch's jobs changed.
    fn ended(&mut self, committed: bool);
    /// Every job of the batch is done.
    fn answered(&mut self);
}

/// A closure as a job.
pub(super) struct Call<T, F> {
    work: F,
    value: Option<T>,
    answer: oneshot::Sender<Result<T, DbError>>,
}

impl<T, F> Call<T, F> {
    pub(super) fn new(work: F, answer: oneshot::Sender<Result<T, DbError>>) -> Self {
        Self { work, value: None, answer }
    }
}

impl<T, F> Job for Call<T, F>
where
    T: Send,
    F: FnMut(&Connection) -> Result<T, DbError> + Send,
{
    fn run(&mut self, conn: &Connection) -> Result<(), DbError> {
        self.value = Some((self.work)(conn)?);
        Ok(())
    }

    fn done(self: Box<Self>, outcome: Result<(), DbError>) {
        let Self { value, answer, .. } = *self;
        // Whoever asked may have gone; the work is done all the same.
        let _ = answer.send(outcome.and_then(|()| value.ok_or_else(DbError::closed)));
    }
}

/// Owns the writing connection.
pub(super) struct Writer {
    conn: Connection,
    waiting: mpsc::Receiver<Box<dyn Job>>,
    hooks: Vec<Box<dyn BatchHook>>,
}

impl Writer {
    pub(super) fn new(
        conn: Connection,
        waiting: mpsc::Receiver<Box<dyn Job>>,
        hooks: Vec<Box<dyn BatchHook>>,
    ) -> Self {
        Self { conn, waiting, hooks }
    }

    /// Works until every handle is dropped.
    pub(super) fn run(mut self) {
        let mut batch = Vec::with_capacity(MAX_BATCH_JOBS);
        while self.waiting.blocking_recv_many(&mut batch, MAX_BATCH_JOBS) > 0 {
            if let Err(error) = self.commit(&mut batch) {
                self.one_by_one(&mut batch, &error);
            }
            for job in batch.drain(..) {
                job.done(Ok(()));
            }
            self.hooks.iter_mut().for_each(|hook| hook.answered());
        }
        // Leaves no log behind for the next start to read through.
        if let Err(error) = self.conn.pragma_update(None, "wal_checkpoint", "TRUNCATE") {
            tracing::debug!(%error, "no checkpoint at close");
        }
    }

    /// Each job alone; a batch of one keeps the error it already has.
    fn one_by_one(&mut self, batch: &mut Vec<Box<dyn Job>>, error: &DbError) {
        if batch.len() > 1 {
            tracing::warn!(%error, jobs = batch.len(), "commit failed, trying each write alone");
        }
        let alone = batch.len() == 1;
        for mut job in batch.drain(..) {
            let outcome = if alone {
                Err(error.clone())
            } else {
                self.commit(std::slice::from_mut(&mut job))
            };
            job.done(outcome);
        }
    }

    fn commit(&mut self, batch: &mut [Box<dyn Job>]) -> Result<(), DbError> {
        let result = self.in_transaction(batch);
        if result.is_err() && !self.conn.is_autocommit() {
            // A rollback that fails leaves the transaction to the next BEGIN, which then
            // fails too and comes here again.
            if let Err(error) = self.execute("ROLLBACK") {
                tracing::warn!(%error, "rollback failed");
            }
        }
        self.hooks.iter_mut().for_each(|hook| hook.ended(result.is_ok()));
        result
    }

    fn in_transaction(&mut self, batch: &mut [Box<dyn Job>]) -> Result<(), DbError> {
        self.execute("BEGIN IMMEDIATE")?;
        for job in batch {
            job.run(&self.conn)?;
        }
        for hook in &mut self.hooks {
            hook.before_commit(&self.conn)?;
        }
        self.execute("COMMIT").map_err(|error| match DbError::from(error) {
            // The log may hold the whole transaction although the fsync failed.
            DbError::Unavailable { reason } => DbError::Unconfirmed { reason },
            other => other,
        })
    }

    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.conn.prepare_cached(sql)?.execute([]).map(drop)
    }
}
