//! The queue on SQLite: rows are the truth, dispatch happens in memory.
//!
//! A publication is one job of the writer; after its commit it goes to the consumers from
//! memory, in commit order. A message of a work queue is deleted when acked; a history
//! stream keeps its messages, and each consumer's progress beside them.

mod conclude;
mod consumer;
mod ledger;
pub(crate) mod live;
mod open;
mod progress;
mod publish;
mod read;
mod retention;
mod settle;
pub(crate) mod tables;
mod together;

use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use tokio::sync::{oneshot, watch};

use crate::clock::Clock;
use crate::ids::TenantId;
use crate::lifecycle::Lifecycle;
use crate::queue::{
    Backlog, Consumer, ConsumerSpec, Delivery, Durability, Publication, Queue, QueueError,
    ReadRange, Receipt, Stored, Unconcluded, publish_then_ack,
};
use crate::sqlite::{BatchHook, Db, DbError, OpenError, Opened};
use crate::store::embedded::rows::Rows;
use crate::subject::Stream;

use consumer::{Core, Handle};
use ledger::{Ledger, LedgerHook, STREAMS, SharedLedger, Woken};
use tables::{index, of_stream, signed};
use together::EmbeddedTogether;

/// Largest payload in bytes. Source: `Publication::payload`.
const MAX_PAYLOAD_BYTES: usize = 4 << 20;

/// How much a stream holds and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caps {
    /// Payload bytes in one stream; then publishers are refused with `Full`.
    pub(crate) max_stream_bytes: u64,
    /// Messages in one stream; then publishers are refused with `Full`.
    pub(crate) max_stream_messages: u64,
    /// Age after which history is deleted.
    pub(crate) max_age_ms: u64,
    /// Payload bytes of history from which on the oldest is deleted whatever its age.
    pub(crate) history_bytes: u64,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            max_stream_bytes: 32 << 30,
            max_stream_messages: 200_000_000,
            max_age_ms: 7 * 24 * 60 * 60 * 1_000,
            history_bytes: 16 << 30,
        }
    }
}

/// What the queue's parts share.
pub(crate) struct Shared {
    db: Db,
    clock: Arc<dyn Clock>,
    ledger: SharedLedger,
    caps: Caps,
    consumers: [RwLock<Arc<Vec<Arc<Core>>>>; STREAMS],
    /// Last committed sequence number of each stream.
    tails: [watch::Sender<u64>; STREAMS],
    woken: Woken,
}

impl Shared {
    fn consumers(&self, stream: Stream) -> Arc<Vec<Arc<Core>>> {
        Arc::clone(&self.consumers[index(stream)].read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Wakes those who wait for `core` once the writer has answered the batch.
    fn wake_after_batch(&self, core: &Arc<Core>) {
        if core.mark_woken() {
            self.woken.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(core));
        }
    }

    /// Called on the writer thread, between two hand-overs.
    fn register(&self, core: Arc<Core>) {
        let mut slot =
            self.consumers[index(core.stream)].write().unwrap_or_else(PoisonError::into_inner);
        let mut list = slot.as_ref().clone();
        list.push(core);
        *slot = Arc::new(list);
    }

    /// Consumers of a history stream that will never see a message with this rest.
    fn filtered_out(&self, stream: Stream, rest: &str) -> Vec<i64> {
        let cores = self.consumers(stream);
        cores.iter().filter(|core| !core.wants(rest)).map(|core| core.id).collect()
    }
}

/// A database error as the queue's callers see it.
fn queue_error(error: DbError, stream: Stream) -> QueueError {
    match error {
        DbError::Full => QueueError::Full { stream },
        DbError::Unconfirmed { .. } => QueueError::Unconfirmed { waited_ms: 0 },
        other => {
            QueueError::Unavailable { reason: other.to_string(), source: Some(Box::new(other)) }
        }
    }
}

/// The adapter.
pub(crate) struct EmbeddedQueue {
    shared: Arc<Shared>,
    lifecycle: Lifecycle,
    /// One consumer is opened at a time.
    opening: tokio::sync::Mutex<()>,
}

impl EmbeddedQueue {
    /// Loads the queue's state and starts the writer, which asks `beside` too.
    pub(crate) fn start(
        opened: Opened,
        clock: Arc<dyn Clock>,
        lifecycle: &Lifecycle,
        caps: Caps,
        beside: Box<dyn BatchHook>,
    ) -> Result<(Self, Db), StartError> {
        let ledger = Ledger::load(opened.conn())?;
        let tails = Stream::ALL.map(|stream| watch::Sender::new(ledger.meta(stream).last_seq));
        let ledger = SharedLedger::new(ledger);
        let woken = Woken::default();
        let hook = LedgerHook { ledger: ledger.clone(), woken: Woken::clone(&woken) };
        let db = opened.start(vec![Box::new(hook), beside])?;
        let consumers = Stream::ALL.map(|_| RwLock::default());
        let shared =
            Arc::new(Shared { db: db.clone(), clock, ledger, caps, consumers, tails, woken });
        retention::start(&shared, lifecycle);
        let lifecycle = lifecycle.clone();
        Ok((Self { shared, lifecycle, opening: tokio::sync::Mutex::default() }, db))
    }

    /// What commits the queue's writes with those of the store beside it.
    pub(crate) fn together(&self, rows: Rows) -> EmbeddedTogether {
        EmbeddedTogether::new(Arc::clone(&self.shared), rows)
    }

    fn find(&self, stream: Stream, name: &str) -> Option<Arc<Core>> {
        self.shared.consumers(stream).iter().find(|core| core.name == name).cloned()
    }

    async fn open(&self, spec: &ConsumerSpec) -> Result<Arc<Core>, QueueError> {
        let _one = self.opening.lock().await;
        if let Some(core) = self.find(spec.stream, &spec.name) {
            if core.rest != spec.rest {
                return Err(overlap(spec, &core));
            }
            core.update(spec);
            return Ok(core);
        }
        if spec.stream.is_work_queue() {
            let cores = self.shared.consumers(spec.stream);
            let other = cores
                .iter()
                .find(|core| core.rest.is_none() || spec.rest.is_none() || core.rest == spec.rest);
            if let Some(core) = other {
                return Err(overlap(spec, core));
            }
        }
        open::open(&self.shared, &self.lifecycle, spec).await
    }
}

/// A message of a work queue belongs to one consumer.
fn overlap(spec: &ConsumerSpec, core: &Core) -> QueueError {
    QueueError::Unavailable {
        reason: format!(
            "consumer `{}` of {} takes what `{}` takes already; give them different filters",
            spec.name, spec.stream, core.name
        ),
        source: None,
    }
}

/// Why the queue did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The writer did not start.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The state cannot be read.
    #[error(transparent)]
    State(#[from] DbError),
}

#[async_trait]
impl Queue for EmbeddedQueue {
    fn durability(&self) -> Durability {
        Durability::Fsync
    }

    async fn publish(&self, batch: Vec<Publication>) -> Result<Vec<Receipt>, QueueError> {
        publish::check(&batch)?;
        let Some(first) = batch.first() else { return Ok(Vec::new()) };
        let stream = first.subject.stream();
        let (answer, answered) = oneshot::channel();
        let batch = publish::Batch::new(Arc::clone(&self.shared), batch);
        let job = publish::PublishJob::new(batch, answer);
        self.shared.db.submit(Box::new(job)).await.map_err(|e| queue_error(e, stream))?;
        answered.await.map_err(|_| queue_error(DbError::closed(), stream))?
    }

    async fn conclude(
        &self,
        batch: Vec<Publication>,
        deliveries: Vec<Delivery>,
    ) -> Result<(), Unconcluded> {
        if conclude::are_leases(&deliveries) {
            return conclude::conclude(&self.shared, batch, deliveries).await;
        }
        publish_then_ack(self, batch, deliveries).await
    }

    async fn consumer(&self, spec: ConsumerSpec) -> Result<Arc<dyn Consumer>, QueueError> {
        Ok(Arc::new(Handle::new(self.open(&spec).await?)))
    }

    async fn read(
        &self,
        stream: Stream,
        range: ReadRange,
        limit: usize,
        wait_ms: u64,
    ) -> Result<Vec<Stored>, QueueError> {
        read::read(&self.shared, stream, range, limit, wait_ms).await
    }

    async fn bounds(&self, stream: Stream) -> Result<(u64, u64), QueueError> {
        let read = self.shared.db.read(move |conn| {
            let sql = of_stream!(stream, "SELECT min(seq), max(seq) FROM ", "");
            Ok(conn.prepare_cached(sql)?.query_row([], |row| {
                Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?))
            })?)
        });
        let (first, last) = read.await.map_err(|error| queue_error(error, stream))?;
        let seq = |value: Option<i64>| value.map_or(0, tables::unsigned);
        Ok((seq(first), seq(last)))
    }

    async fn remove(
        &self,
        stream: Stream,
        tenant: &TenantId,
        seq: u64,
    ) -> Result<bool, QueueError> {
        let (owner, shared) = (tenant.clone(), Arc::clone(&self.shared));
        let ledger = self.shared.ledger.clone();
        let write = self.shared.db.write(move |conn| {
            let sql = of_stream!(stream, "SELECT 1 FROM ", " WHERE seq = ?1 AND tenant = ?2");
            let theirs =
                conn.prepare_cached(sql)?.exists(rusqlite::params![signed(seq), owner.as_str()])?;
            if !theirs {
                return Ok(false);
            }
            if let Some(bytes) = tables::delete(conn, stream, seq)? {
                ledger.lock().gone(stream, 1, bytes);
            }
            Ok(true)
        });
        let removed = write.await.map_err(|error| queue_error(error, stream))?;
        for core in shared.consumers(stream).iter() {
            core.forget_payload(seq);
        }
        Ok(removed)
    }

    async fn backlog(&self, stream: Stream) -> Result<Vec<Backlog>, QueueError> {
        if stream == Stream::Inbound && self.find(stream, ROUTER).is_none() {
            self.open(&router_spec()).await?;
        }
        read::backlog(&self.shared, stream).await
    }
}

/// The consumer whose progress is INBOUND's backlog. Source: `Queue::backlog`.
const ROUTER: &str = "router";
/// Until the router itself opens it.
const ROUTER_ACK_WAIT_MS: u64 = 30_000;

fn router_spec() -> ConsumerSpec {
    ConsumerSpec {
        stream: Stream::Inbound,
        name: ROUTER.to_owned(),
        rest: None,
        ack_wait_ms: ROUTER_ACK_WAIT_MS,
        max_ack_pending: usize::MAX,
    }
}
