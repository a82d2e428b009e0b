//! The queue port: durable streams, consumers, and short-lived signals.
//!
//! An adapter MUST pass `contract` unchanged, alone and wrapped in faults. What it
//! promises:
//!
//! - **durable**: when `publish` returns a receipt, the message outlives `kill -9` of
//!   everything, as far as [`Queue::durability`] says.
//! - **deduplicated**: a publication whose id the stream has seen within the dedupe
//!   window (at least two hours) MUST NOT be stored again; its receipt says
//!   `duplicate` and names the first one's sequence number.
//! - **atomic batches**: one `publish` call of one stream is stored whole or not at all.
//! - **at least once**: a delivery that is not settled within the consumer's
//!   `ack_wait_ms`, or whose holder died, MUST be delivered again.
//! - **ordered by key**: of the messages with one ordering key at most one is out at a
//!   time, in publish order; the next follows when it is acked or terminated. A `nak`
//!   keeps its place.
//! - **counted by cause**: only [`Cause::Failed`] raises [`Delivery::failures`].

#[cfg(any(test, feature = "testing"))]
pub mod contract;
mod dispatch;
pub(crate) mod embedded;
#[cfg(any(test, feature = "testing"))]
pub mod faults;
pub mod jetstream;
pub mod watched;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

use crate::clock::UnixMs;
use crate::ids::TenantId;
use crate::message::Priority;
use crate::subject::{LiveSubject, Stream, Subject};

/// What a source error is kept as.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why the queue did not do it.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// Did not happen: the stream or disk is full. Try again later.
    #[error("stream {stream} is full")]
    Full {
        /// The stream.
        stream: Stream,
    },
    /// Did not happen: the backend is away or shutting down. Try again later.
    #[error("queue is unavailable: {reason}")]
    Unavailable {
        /// What was wrong, in lower case.
        reason: String,
        /// The cause.
        #[source]
        source: Option<BoxError>,
    },
    /// May have happened: try again with the same id.
    #[error("queue gave no answer in {waited_ms} ms")]
    Unconfirmed {
        /// How long was waited.
        waited_ms: u64,
    },
    /// Will never happen: larger than the stream takes.
    #[error("message of {bytes} bytes is larger than {max_bytes} bytes")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The cap.
        max_bytes: usize,
    },
}

/// How durable a receipt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// On this disk: survives power loss.
    Fsync,
    /// On a majority of servers.
    Quorum,
    /// In memory or in the page cache of one server.
    Memory,
}

/// Small text values beside the payload, such as `traceparent`.
pub type Headers = BTreeMap<String, String>;

/// A message to publish.
#[derive(Debug, Clone)]
pub struct Publication {
    /// Where to.
    pub subject: Subject,
    /// The dedupe id; derived ids make hops idempotent.
    pub id: Uuid,
    /// Small text values.
    pub headers: Headers,
    /// The body; at most 4 MiB.
    pub payload: Bytes,
    /// Messages with one key are delivered one at a time, in order.
    pub ordering_key: Option<String>,
    /// Overtakes within its tenant, but never within its ordering key.
    pub priority: Priority,
}

impl Publication {
    /// A publication with no headers, no ordering key and normal priority.
    #[must_use]
    pub fn new(subject: Subject, id: Uuid, payload: impl Into<Bytes>) -> Self {
        Self {
            subject,
            id,
            headers: Headers::new(),
            payload: payload.into(),
            ordering_key: None,
            priority: Priority::Normal,
        }
    }

    /// Serializes `body` as the JSON payload.
    ///
    /// # Errors
    /// When `body` has a map with keys that are not text.
    pub fn json<T: serde::Serialize>(
        subject: Subject,
        id: Uuid,
        body: &T,
    ) -> Result<Self, serde_json::Error> {
        Ok(Self::new(subject, id, serde_json::to_vec(body)?))
    }

    /// Sets the ordering key.
    #[must_use]
    pub fn ordered_by(mut self, key: impl Into<String>) -> Self {
        self.ordering_key = Some(key.into());
        self
    }

    /// Sets the priority.
    #[must_use]
    pub fn with_priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }
}

/// What a publication became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Position in the stream, from 1.
    pub seq: u64,
    /// The id was seen before; `seq` is the first one's.
    pub duplicate: bool,
}

/// A durable consumer, shared by all who open it under the same name.
#[derive(Debug, Clone)]
pub struct ConsumerSpec {
    /// The stream.
    pub stream: Stream,
    /// One name per purpose: `router`, `worker`, `approver`, `reply-slack`.
    pub name: String,
    /// Only messages whose subject's rest is this; `None` takes all.
    pub rest: Option<String>,
    /// A delivery silent for this long goes to another.
    pub ack_wait_ms: u64,
    /// How many deliveries may be out at once, for all holders together.
    pub max_ack_pending: usize,
}

/// Why a delivery goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Something broke: counts as an attempt.
    Failed,
    /// A limit, a lease, a pause: costs no attempt.
    Deferred,
    /// The node drains: costs no attempt.
    Drained,
}

/// A stored message.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Position in the stream, from 1.
    pub seq: u64,
    /// Where it was published.
    pub subject: Subject,
    /// Its dedupe id.
    pub id: Uuid,
    /// Small text values.
    pub headers: Headers,
    /// The body.
    pub payload: Bytes,
    /// When it was stored.
    pub published_at_ms: UnixMs,
}

/// A message on loan. Settle it with `ack`, `nak` or `term`; dropping it unsettled
/// hands it back at once where the adapter can, else after `ack_wait_ms`.
pub struct Delivery {
    /// The message.
    pub message: Stored,
    /// How many earlier deliveries were given back as [`Cause::Failed`] or timed out.
    pub failures: u32,
    /// Settles it.
    pub settle: Box<dyn Settle>,
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery")
            .field("subject", &self.message.subject.to_string())
            .field("seq", &self.message.seq)
            .field("failures", &self.failures)
            .finish_non_exhaustive()
    }
}

impl Delivery {
    /// Done: it leaves a work queue, a history stream's consumer moves on. Returns once
    /// the backend has confirmed.
    ///
    /// # Errors
    /// [`QueueError`]; the message will then be delivered again.
    pub async fn ack(self) -> Result<(), QueueError> {
        self.settle.ack().await
    }

    /// Gives it back, to be delivered again after `delay_ms`.
    ///
    /// # Errors
    /// [`QueueError`]; it then comes back after `ack_wait_ms`.
    pub async fn nak(self, delay_ms: u64, cause: Cause) -> Result<(), QueueError> {
        self.settle.nak(delay_ms, cause).await
    }

    /// Says that the holder lives: the ack wait starts again.
    ///
    /// # Errors
    /// [`QueueError`]; the lease may have ended.
    pub async fn extend(&self) -> Result<(), QueueError> {
        self.settle.extend().await
    }
}

/// The adapter's side of a [`Delivery`].
#[async_trait]
pub trait Settle: Send + Sync + std::any::Any {
    /// See [`Delivery::ack`].
    async fn ack(self: Box<Self>) -> Result<(), QueueError>;
    /// See [`Delivery::nak`].
    async fn nak(self: Box<Self>, delay_ms: u64, cause: Cause) -> Result<(), QueueError>;
    /// See [`Delivery::extend`].
    async fn extend(&self) -> Result<(), QueueError>;
}

/// A durable consumer.
#[async_trait]
pub trait Consumer: Send + Sync {
    /// Takes up to `max` deliveries, of `tenant` or of anyone. Waits up to `wait_ms` for
    /// the first; returns what is there then, which may be nothing.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`].
    async fn pull(
        &self,
        tenant: Option<&TenantId>,
        max: usize,
        wait_ms: u64,
    ) -> Result<Vec<Delivery>, QueueError>;

    /// Waits for tenants that have something to deliver, and names each once. A tenant
    /// is named again after a `pull` for it came back short and something new arrived
    /// or became due. The first call names everyone with a backlog. Cost follows the
    /// tenants named, not the tenants known. At most one caller at a time.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`].
    async fn active_tenants(&self) -> Result<Vec<TenantId>, QueueError>;
}

/// What waits for one tenant.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Backlog {
    /// Whose.
    pub tenant: TenantId,
    /// How many messages are not settled.
    pub pending: u64,
    /// When the oldest of them was published.
    pub oldest_at_ms: UnixMs,
}

/// What to read from a stream's history.
#[derive(Debug, Clone, Default)]
pub struct ReadRange {
    /// Only this tenant's; `None` reads everyone's and is for operators only.
    pub tenant: Option<TenantId>,
    /// Only these subject rests (event types, platforms); empty reads all.
    pub rests: Vec<String>,
    /// After this sequence number.
    pub after_seq: u64,
    /// Published at or after.
    pub from_ms: Option<UnixMs>,
    /// Published before.
    pub to_ms: Option<UnixMs>,
}

/// Why a batch was not stored, and the deliveries that would have been acked.
#[derive(Debug)]
pub struct Unconcluded {
    /// As of [`Queue::publish`].
    pub error: QueueError,
    /// Those that are still held; the others come again by themselves.
    pub deliveries: Vec<Delivery>,
}

/// [`Queue::conclude`] in two steps.
///
/// # Errors
/// [`Unconcluded`].
pub async fn publish_then_ack<Q: Queue + ?Sized>(
    queue: &Q,
    batch: Vec<Publication>,
    deliveries: Vec<Delivery>,
) -> Result<(), Unconcluded> {
    if let Err(error) = queue.publish(batch).await {
        return Err(Unconcluded { error, deliveries });
    }
    let acks = deliveries.into_iter().map(Delivery::ack);
    for acked in futures_util::future::join_all(acks).await {
        if let Err(error) = acked {
            tracing::warn!(%error, "ack failed; the message comes again");
        }
    }
    Ok(())
}

/// Durable streams.
#[async_trait]
pub trait Queue: Send + Sync {
    /// How durable a receipt of this queue is, for the server's real settings.
    fn durability(&self) -> Durability;

    /// Stores a batch of one stream or of several; per stream it is atomic. Receipts
    /// come in the order of the batch.
    ///
    /// # Errors
    /// [`QueueError`], whose variants say whether it may have happened.
    async fn publish(&self, batch: Vec<Publication>) -> Result<Vec<Receipt>, QueueError>;

    /// Stores `batch`, then acks `deliveries`, which led to it; at once where the backend
    /// can. Returns when the batch is stored: a delivery whose ack failed comes again, and
    /// whoever takes it publishes the same ids.
    ///
    /// # Errors
    /// [`Unconcluded`] as of [`Queue::publish`], with the deliveries that are still held:
    /// all of them, in their order, when the batch is too large.
    async fn conclude(
        &self,
        batch: Vec<Publication>,
        deliveries: Vec<Delivery>,
    ) -> Result<(), Unconcluded>;

    /// Opens or creates a durable consumer.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`].
    async fn consumer(&self, spec: ConsumerSpec) -> Result<Arc<dyn Consumer>, QueueError>;

    /// Reads up to `limit` stored messages in order, waiting up to `wait_ms` for the first.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`].
    async fn read(
        &self,
        stream: Stream,
        range: ReadRange,
        limit: usize,
        wait_ms: u64,
    ) -> Result<Vec<Stored>, QueueError>;

    /// First and last sequence number that `stream` still holds for anyone; `(0, 0)` when empty.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`].
    async fn bounds(&self, stream: Stream) -> Result<(u64, u64), QueueError>;

    /// Takes one message of `tenant` out of a stream (dead letters). `false`: not there.
    ///
    /// # Errors
    /// [`QueueError`].
    async fn remove(&self, stream: Stream, tenant: &TenantId, seq: u64)
    -> Result<bool, QueueError>;

    /// What waits in a stream, by tenant; tenants with nothing are left out. INBOUND
    /// counts what the consumer `router` has not acked. A consumer that was just opened
    /// counts what it has loaded so far.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`].
    async fn backlog(&self, stream: Stream) -> Result<Vec<Backlog>, QueueError>;
}

/// Receives signals of one subject.
#[async_trait]
pub trait Listener: Send {
    /// The next signal; `None` when the backend is gone. A listener that lags loses
    /// the oldest signals.
    async fn next(&mut self) -> Option<Bytes>;
}

/// Short-lived signals: at most once, to whoever listens now.
#[async_trait]
pub trait Live: Send + Sync {
    /// Sends to all who listen now. Never waits and never fails: nobody may rely on it.
    async fn send(&self, subject: &LiveSubject, payload: Bytes);

    /// Listens from now on.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`].
    async fn listen(&self, subject: &LiveSubject) -> Result<Box<dyn Listener>, QueueError>;
}
