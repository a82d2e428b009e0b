//! Storing a batch, and handing it to the consumers once it is on disk.

use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::clock::UnixMs;
use crate::queue::{Publication, QueueError, Receipt, Stored};
use crate::sqlite::{DbError, Job};
use crate::subject::Stream;

use super::tables::{self, MAX_HEADER_BYTES, index, key_hash};
use super::{MAX_PAYLOAD_BYTES, Shared};
use crate::queue::dispatch::Item;

/// What a publish call came to.
pub(super) type Answer = Result<Vec<Receipt>, QueueError>;

/// Refuses what no stream takes.
pub(super) fn check(batch: &[Publication]) -> Result<(), QueueError> {
    for publication in batch {
        let texts = publication.headers.iter().flat_map(|(name, value)| [name, value]);
        let longest = texts.map(String::len).max().unwrap_or_default();
        for (bytes, max_bytes) in
            [(publication.payload.len(), MAX_PAYLOAD_BYTES), (longest, MAX_HEADER_BYTES)]
        {
            if bytes > max_bytes {
                return Err(QueueError::TooLarge { bytes, max_bytes });
            }
        }
    }
    Ok(())
}

/// Publications that are stored together.
pub(super) struct Batch {
    shared: Arc<Shared>,
    batch: Vec<Publication>,
    now_ms: UnixMs,
    /// When each was stored, beside its receipt.
    stored: Vec<(Receipt, UnixMs)>,
    refused: Option<QueueError>,
}

impl Batch {
    pub(super) fn new(shared: Arc<Shared>, batch: Vec<Publication>) -> Self {
        let now_ms = shared.clock.now_ms();
        let stored = Vec::with_capacity(batch.len());
        Self { shared, batch, now_ms, stored, refused: None }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// False when a stream of the batch cannot take its part.
    pub(super) fn has_room(&self) -> bool {
        self.full().is_none()
    }

    /// Stores it. `false`: there is no room, and nothing was stored.
    pub(super) fn run(&mut self, conn: &Connection) -> Result<bool, DbError> {
        self.stored.clear();
        self.refused = self.full();
        if self.refused.is_some() {
            return Ok(false);
        }
        self.store(conn)?;
        Ok(true)
    }

    /// Hands over what was stored.
    pub(super) fn done(self, outcome: Result<(), DbError>) -> Answer {
        let stream = self.batch.first().map(|publication| publication.subject.stream());
        match (self.refused, outcome) {
            (Some(refused), _) => Err(refused),
            (None, Err(error)) => Err(super::queue_error(error, stream.unwrap_or(Stream::Events))),
            (None, Ok(())) => {
                Self::hand_over(self.batch, &self.stored, &self.shared);
                Ok(self.stored.into_iter().map(|(receipt, _)| receipt).collect())
            }
        }
    }

    /// A stream of the batch that has no room for its part.
    fn full(&self) -> Option<QueueError> {
        let ledger = self.shared.ledger.lock();
        let mut bytes = [0_u64; super::ledger::STREAMS];
        self.batch.iter().find_map(|publication| {
            let stream = publication.subject.stream();
            let sum = &mut bytes[index(stream)];
            *sum += publication.payload.len() as u64;
            let meta = ledger.meta(stream);
            let full = meta.bytes + *sum > self.shared.caps.max_stream_bytes
                || meta.messages >= self.shared.caps.max_stream_messages;
            full.then_some(QueueError::Full { stream })
        })
    }

    fn store(&mut self, conn: &Connection) -> Result<(), DbError> {
        let mut ledger = self.shared.ledger.lock();
        let mut scratch = Vec::new();
        for publication in &self.batch {
            let stream = publication.subject.stream();
            if let Some(seq) = ledger.seen(conn, stream, publication.id)? {
                self.stored.push((Receipt { seq, duplicate: true }, 0));
                continue;
            }
            let bytes = publication.payload.len();
            let (seq, at_ms) = ledger.next(stream, publication.id, bytes, self.now_ms);
            let key = key_hash(publication.subject.tenant(), publication.ordering_key.as_deref());
            tables::insert(conn, publication, (seq, at_ms, key), &mut scratch)?;
            if !stream.is_work_queue() {
                for consumer in self.shared.filtered_out(stream, publication.subject.rest()) {
                    ledger.ack(conn, consumer, &[seq])?;
                }
            }
            self.stored.push((Receipt { seq, duplicate: false }, at_ms));
        }
        Ok(())
    }

    /// Gives what is new to the consumers, without reading it back.
    fn hand_over(batch: Vec<Publication>, stored: &[(Receipt, UnixMs)], shared: &Shared) {
        let mut touched = [None; super::ledger::STREAMS];
        for (publication, (receipt, at_ms)) in batch.into_iter().zip(stored) {
            if receipt.duplicate {
                continue;
            }
            let stream = publication.subject.stream();
            touched[index(stream)] = Some(receipt.seq);
            let cores = shared.consumers(stream);
            let rest = publication.subject.rest();
            let Some(last) = cores.iter().rposition(|core| core.wants(rest)) else { continue };
            let tenant = publication.subject.tenant();
            let item = Item {
                seq: receipt.seq,
                tenant: tenant.clone(),
                priority: publication.priority,
                key: key_hash(tenant, publication.ordering_key.as_deref()),
                failures: 0,
                due_at_ms: 0,
            };
            let message = Stored {
                seq: receipt.seq,
                subject: publication.subject,
                id: publication.id,
                headers: publication.headers,
                payload: publication.payload,
                published_at_ms: *at_ms,
            };
            for core in &cores[..last] {
                if core.wants(message.subject.rest()) {
                    core.add(item.clone(), Some(message.clone()));
                    shared.wake_after_batch(core);
                }
            }
            cores[last].add(item, Some(message));
            shared.wake_after_batch(&cores[last]);
        }
        for (at, seq) in touched.into_iter().enumerate() {
            if let Some(seq) = seq {
                shared.tails[at].send_replace(seq);
            }
        }
    }
}

/// One publish call.
pub(super) struct PublishJob {
    batch: Batch,
    answer: oneshot::Sender<Answer>,
}

impl PublishJob {
    pub(super) fn new(batch: Batch, answer: oneshot::Sender<Answer>) -> Self {
        Self { batch, answer }
    }
}

impl Job for PublishJob {
    fn run(&mut self, conn: &Connection) -> Result<(), DbError> {
        self.batch.run(conn).map(drop)
    }

    fn done(self: Box<Self>, outcome: Result<(), DbError>) {
        // A publisher that gave up finds its message stored when it asks again.
        let _ = self.answer.send(self.batch.done(outcome));
    }
}
