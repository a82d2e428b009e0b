//! A record of the store, the batch that it leads to and the acks, in one commit.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::queue::{Delivery, Publication};
use crate::sqlite::{DbError, Job};
use crate::store::embedded::record;
use crate::store::embedded::rows::Rows;
use crate::store::{Record, Recorded, Together};

use super::Shared;
use super::conclude::{again, are_leases, take_leases};
use super::publish::{Batch, check};
use super::settle::Lease;

/// The queue's and the store's common database.
pub(crate) struct EmbeddedTogether {
    shared: Arc<Shared>,
    rows: Rows,
}

impl EmbeddedTogether {
    /// `rows` is a hook of the queue's database.
    pub(crate) fn new(shared: Arc<Shared>, rows: Rows) -> Self {
        Self { shared, rows }
    }
}

#[async_trait]
impl Together for EmbeddedTogether {
    async fn conclude(
        &self,
        record: &Record,
        batch: Vec<Publication>,
        deliveries: Vec<Delivery>,
    ) -> Result<Recorded, (Vec<Publication>, Vec<Delivery>)> {
        if check(&batch).is_err() || !are_leases(&deliveries) {
            return Err((batch, deliveries));
        }
        let (leases, rest) = take_leases(deliveries);
        let (answer, answered) = oneshot::channel();
        let job = RecordJob {
            record: record.clone(),
            rows: self.rows.clone(),
            did: Did::Nothing,
            batch: Batch::new(Arc::clone(&self.shared), batch.clone()),
            leases,
            answer,
        };
        if self.shared.db.submit(Box::new(job)).await.is_err() {
            // The writer is gone, and the deliveries with it.
            return Err((batch, Vec::new()));
        }
        match answered.await {
            Ok(Done::Concluded) => Ok(Recorded::Concluded),
            Ok(Done::EndedBefore(leases)) => Ok(Recorded::EndedBefore(again(leases, rest))),
            Ok(Done::Failed(leases)) => Err((batch, again(leases, rest))),
            Err(_) => Err((batch, Vec::new())),
        }
    }
}

/// What the last run of a [`RecordJob`] wrote.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Did {
    /// There is no room.
    Nothing,
    /// The run had ended before.
    EndedBefore,
    /// Record, batch and acks.
    All,
}

/// What became of a [`RecordJob`], with the leases that are still held.
enum Done {
    Concluded,
    EndedBefore(Vec<Lease>),
    Failed(Vec<Lease>),
}

/// Owns the leases while it waits: dropped, it hands them back.
struct RecordJob {
    record: Record,
    rows: Rows,
    did: Did,
    batch: Batch,
    leases: Vec<Lease>,
    answer: oneshot::Sender<Done>,
}

impl Job for RecordJob {
    fn run(&mut self, conn: &Connection) -> Result<(), DbError> {
        self.did = Did::Nothing;
        if !self.batch.has_room() {
            return Ok(());
        }
        if !record::write(conn, &self.rows, &self.record)? {
            self.did = Did::EndedBefore;
            return Ok(());
        }
        self.batch.run(conn)?;
        for lease in &self.leases {
            lease.write_ack(conn, self.batch.shared())?;
        }
        self.did = Did::All;
        Ok(())
    }

    fn done(self: Box<Self>, outcome: Result<(), DbError>) {
        let Self { did, batch, mut leases, answer, .. } = *self;
        let shared = Arc::clone(batch.shared());
        let ended_before = did == Did::EndedBefore && outcome.is_ok();
        let done = if did == Did::All && batch.done(outcome).is_ok() {
            leases.iter_mut().for_each(|lease| lease.acked(&shared));
            Done::Concluded
        } else {
            leases.iter_mut().for_each(Lease::hold_on);
            if ended_before { Done::EndedBefore(leases) } else { Done::Failed(leases) }
        };
        // Whoever asked may have gone; what is not settled is then handed back.
        let _ = answer.send(done);
    }
}
