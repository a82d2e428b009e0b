//! A batch and the acks of the deliveries that led to it, in one commit.

use std::any::Any;
use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::queue::{Delivery, Publication, QueueError, Stored, Unconcluded};
use crate::sqlite::{DbError, Job};

use super::Shared;
use super::publish::{Batch, check};
use super::settle::Lease;

/// True when every delivery is one of this backend's own.
pub(super) fn are_leases(deliveries: &[Delivery]) -> bool {
    deliveries.iter().all(|delivery| {
        let settle: &dyn Any = &*delivery.settle;
        settle.is::<Lease>()
    })
}

/// See [`crate::queue::Queue::conclude`]; the deliveries are [`Lease`]s.
pub(super) async fn conclude(
    shared: &Arc<Shared>,
    batch: Vec<Publication>,
    deliveries: Vec<Delivery>,
) -> Result<(), Unconcluded> {
    if let Err(error) = check(&batch) {
        return Err(Unconcluded { error, deliveries });
    }
    let (leases, rest) = take_leases(deliveries);
    let (answer, answered) = oneshot::channel();
    let batch = Batch::new(Arc::clone(shared), batch);
    let job = ConcludeJob { batch, leases, answer };
    if let Err(error) = shared.db.submit(Box::new(job)).await {
        return Err(lost(error));
    }
    match answered.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err((error, leases))) => Err(Unconcluded { error, deliveries: again(leases, rest) }),
        Err(_) => Err(lost(DbError::closed())),
    }
}

/// Begins the acks of what is still held, and what [`again`] needs beside the leases.
pub(super) fn take_leases(deliveries: Vec<Delivery>) -> (Vec<Lease>, Vec<(Stored, u32)>) {
    let (mut leases, mut rest) = (Vec::new(), Vec::new());
    for Delivery { message, failures, settle } in deliveries {
        let settle: Box<dyn Any> = settle;
        // One whose lease has ended was given to another, who will find what is stored.
        if let Ok(lease) = settle.downcast::<Lease>()
            && lease.begin_ack()
        {
            leases.push(*lease);
            rest.push((message, failures));
        }
    }
    (leases, rest)
}

/// The writer is gone, and the deliveries with it.
fn lost(error: DbError) -> Unconcluded {
    let error = QueueError::Unavailable { reason: error.to_string(), source: None };
    Unconcluded { error, deliveries: Vec::new() }
}

/// The deliveries of leases that were not acked.
pub(super) fn again(leases: Vec<Lease>, rest: Vec<(Stored, u32)>) -> Vec<Delivery> {
    let both = leases.into_iter().zip(rest);
    both.map(|(lease, (message, failures))| Delivery { message, failures, settle: Box::new(lease) })
        .collect()
}

type Outcome = Result<(), (QueueError, Vec<Lease>)>;

/// Owns the leases while it waits: dropped, it hands them back.
struct ConcludeJob {
    batch: Batch,
    leases: Vec<Lease>,
    answer: oneshot::Sender<Outcome>,
}

impl Job for ConcludeJob {
    fn run(&mut self, conn: &Connection) -> Result<(), DbError> {
        if !self.batch.run(conn)? {
            return Ok(());
        }
        for lease in &self.leases {
            lease.write_ack(conn, self.batch.shared())?;
        }
        Ok(())
    }

    fn done(self: Box<Self>, outcome: Result<(), DbError>) {
        let Self { batch, mut leases, answer } = *self;
        let shared = Arc::clone(batch.shared());
        let outcome = match batch.done(outcome) {
            Ok(_) => {
                leases.iter_mut().for_each(|lease| lease.acked(&shared));
                Ok(())
            }
            Err(error) => {
                leases.iter_mut().for_each(|lease| lease.hold_on());
                Err((error, leases))
            }
        };
        // Whoever asked may have gone; what is not settled is then handed back.
        let _ = answer.send(outcome);
    }
}
