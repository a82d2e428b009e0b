//! Ends of deliveries: ack, nak, extend, and dropping.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use crate::clock::UnixMs;
use crate::queue::{Cause, QueueError, Settle};
use crate::sqlite::{DbError, Job};

use super::consumer::Core;
use super::tables::{self, signed};
use super::{Shared, queue_error};
use crate::queue::dispatch::Taken;

/// A delivery's hold on its message. Dropping it unsettled hands the message back at
/// once and counts nothing.
pub(super) struct Lease {
    core: Arc<Core>,
    seq: u64,
    token: u64,
    failures: u32,
    settled: bool,
}

impl Lease {
    pub(super) fn new(core: &Arc<Core>, taken: &Taken) -> Self {
        Self {
            core: Arc::clone(core),
            seq: taken.seq,
            token: taken.token,
            failures: taken.failures,
            settled: false,
        }
    }

    /// From here on a job settles it, even if the caller gives up.
    fn begin(&mut self) -> Result<Arc<Shared>, QueueError> {
        let shared = self.core.shared()?;
        if self.core.begin_settle(self.seq, self.token).is_none() {
            self.settled = true;
            return Err(QueueError::Unavailable {
                reason: "the lease has ended and the message was given to another".to_owned(),
                source: None,
            });
        }
        self.settled = true;
        Ok(shared)
    }

    /// Starts an ack that others write. `false`: the lease has ended.
    pub(super) fn begin_ack(&self) -> bool {
        self.core.begin_settle(self.seq, self.token).is_some()
    }

    /// Writes the ack into the batch at hand.
    pub(super) fn write_ack(&self, conn: &Connection, shared: &Shared) -> Result<(), DbError> {
        write_ack(conn, shared, &self.core, (self.seq, self.failures))
    }

    /// The ack is on disk.
    pub(super) fn acked(&mut self, shared: &Shared) {
        self.settled = true;
        if self.core.settled(self.seq, self.token) {
            shared.wake_after_batch(&self.core);
        }
    }

    /// The ack did not happen: the message is still held.
    pub(super) fn hold_on(&mut self) {
        self.core.hold_on(self.seq, self.token);
    }

    fn ack_job(&self, shared: &Arc<Shared>) -> (AckJob, oneshot::Receiver<Result<(), DbError>>) {
        let (answer, answered) = oneshot::channel();
        let job = AckJob {
            shared: Arc::clone(shared),
            core: Arc::clone(&self.core),
            lease: (self.seq, self.token),
            failures: self.failures,
            answer: Some(answer),
        };
        (job, answered)
    }

    /// The message is no longer stored: there is nothing to deliver.
    pub(super) async fn vanish(mut self, shared: &Arc<Shared>) {
        if self.begin().is_err() {
            return;
        }
        let (job, _answered) = self.ack_job(shared);
        if let Err(error) = shared.db.submit(Box::new(job)).await {
            tracing::debug!(%error, "a vanished message was not settled");
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.settled {
            self.core.give_back((self.seq, self.token), self.failures, 0);
        }
    }
}

#[async_trait]
impl Settle for Lease {
    async fn ack(mut self: Box<Self>) -> Result<(), QueueError> {
        let shared = self.begin()?;
        let (job, answered) = self.ack_job(&shared);
        let stream = self.core.stream;
        let refused = |error| queue_error(error, stream);
        shared.db.submit(Box::new(job)).await.map_err(refused)?;
        answered.await.map_err(|_| refused(DbError::closed()))?.map_err(refused)
    }

    async fn nak(mut self: Box<Self>, delay_ms: u64, cause: Cause) -> Result<(), QueueError> {
        let shared = self.begin()?;
        let due_at_ms =
            if delay_ms == 0 { 0 } else { shared.clock.now_ms().saturating_add(delay_ms) };
        if cause != Cause::Failed {
            // Costs no attempt, so there is nothing to write down: after a restart the
            // limiter is asked again.
            self.core.give_back((self.seq, self.token), self.failures, due_at_ms);
            return Ok(());
        }
        let (answer, answered) = oneshot::channel();
        let mut job = RetryJob::timeout(&self.core, self.seq, self.failures.saturating_add(1));
        job.due_at_ms = due_at_ms;
        job.lease = Some((self.token, answer));
        let refused = |error| queue_error(error, self.core.stream);
        shared.db.submit(Box::new(job)).await.map_err(refused)?;
        answered.await.map_err(|_| refused(DbError::closed()))?.map_err(refused)
    }

    async fn extend(&self) -> Result<(), QueueError> {
        if self.core.extend(self.seq, self.token) {
            return Ok(());
        }
        Err(QueueError::Unavailable {
            reason: "the lease has ended and the message was given to another".to_owned(),
            source: None,
        })
    }
}

/// Takes a message out of a work queue, or moves a history consumer on.
fn write_ack(
    conn: &Connection,
    shared: &Shared,
    core: &Core,
    (seq, failures): (u64, u32),
) -> Result<(), DbError> {
    if core.stream.is_work_queue() {
        if let Some(bytes) = tables::delete(conn, core.stream, seq)? {
            shared.ledger.lock().gone(core.stream, 1, bytes);
        }
    } else {
        shared.ledger.lock().ack(conn, core.id, &[seq])?;
    }
    if failures > 0 {
        conn.prepare_cached("DELETE FROM retries WHERE consumer = ? AND seq = ?")?
            .execute(params![core.id, signed(seq)])?;
    }
    Ok(())
}

/// One ack by itself.
struct AckJob {
    shared: Arc<Shared>,
    core: Arc<Core>,
    lease: (u64, u64),
    failures: u32,
    answer: Option<oneshot::Sender<Result<(), DbError>>>,
}

impl Job for AckJob {
    fn run(&mut self, conn: &Connection) -> Result<(), DbError> {
        write_ack(conn, &self.shared, &self.core, (self.lease.0, self.failures))
    }

    fn done(mut self: Box<Self>, outcome: Result<(), DbError>) {
        match outcome {
            Ok(()) => {
                if self.core.settled(self.lease.0, self.lease.1) {
                    self.shared.wake_after_batch(&self.core);
                }
            }
            Err(_) => self.core.give_back(self.lease, self.failures, 0),
        }
        if let Some(answer) = self.answer.take() {
            // The holder may have gone; the message is settled all the same.
            let _ = answer.send(outcome);
        }
    }
}

impl Drop for AckJob {
    /// A job that never ran, because the writer is gone, must not keep the message.
    fn drop(&mut self) {
        if self.answer.is_some() {
            self.core.give_back(self.lease, self.failures, 0);
        }
    }
}

/// Writes down that an attempt failed.
pub(super) struct RetryJob {
    core: Arc<Core>,
    seq: u64,
    failures: u32,
    due_at_ms: UnixMs,
    /// Token of the delivery to give back afterwards; none for a timeout.
    lease: Option<(u64, oneshot::Sender<Result<(), DbError>>)>,
}

impl RetryJob {
    pub(super) fn timeout(core: &Arc<Core>, seq: u64, failures: u32) -> Self {
        Self { core: Arc::clone(core), seq, failures, due_at_ms: 0, lease: None }
    }
}

impl Job for RetryJob {
    fn run(&mut self, conn: &Connection) -> Result<(), DbError> {
        conn.prepare_cached("INSERT OR REPLACE INTO retries VALUES (?, ?, ?, ?)")?.execute(
            params![self.core.id, signed(self.seq), self.failures, signed(self.due_at_ms)],
        )?;
        Ok(())
    }

    fn done(mut self: Box<Self>, outcome: Result<(), DbError>) {
        let Some((token, answer)) = self.lease.take() else { return };
        // Even when it was not written down, it counts in memory.
        self.core.give_back((self.seq, token), self.failures, self.due_at_ms);
        // The holder may have gone; the message is back all the same.
        let _ = answer.send(outcome);
    }
}

impl Drop for RetryJob {
    fn drop(&mut self) {
        if let Some((token, _)) = self.lease.take() {
            self.core.give_back((self.seq, token), self.failures, self.due_at_ms);
        }
    }
}
