//! A backend whose process is killed at a chosen operation: just before its effect, or
//! after the effect and before the answer. From then on nothing answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use aof_shared::action::{Approval, HeldAction, RecordedVote};
use aof_shared::clock::UnixMs;
use aof_shared::ids::{ActionId, ReplyId, RunId, TenantId};
use aof_shared::ids::{InstanceName, PlatformName};
use aof_shared::message::Address;
use aof_shared::queue::{
    Backlog, Cause, Consumer, ConsumerSpec, Delivery, Durability, Publication, Queue, QueueError,
    ReadRange, Receipt, Settle, Stored, Unconcluded, publish_then_ack,
};
use aof_shared::store::{
    ActionEnd, ActionStart, ApiKey, ApprovalFilter, ChannelName, MemoryKey, Note, NoteKey,
    OutboxEntry, Ports, RunEnd, RunStart, RunState, SendState, Settlement, Store, StoreError, Turn,
};
use aof_shared::subject::Stream;
use async_trait::async_trait;
use uuid::Uuid;

/// Which side of an operation's effect the kill is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Before,
    After,
}

/// Counts operations down to the kill.
pub(super) struct Fuse {
    left: AtomicUsize,
    side: Side,
    dead: AtomicBool,
}

struct Dead;

impl Fuse {
    pub(super) fn new(operations: usize, side: Side) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(operations), side, dead: AtomicBool::new(false) })
    }

    pub(super) fn burnt(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Runs one operation, unless the process is dead.
    async fn spend<T>(&self, operation: impl Future<Output = T>) -> Result<T, Dead> {
        if self.burnt() {
            return Err(Dead);
        }
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if left.is_ok() {
            return Ok(operation.await);
        }
        if self.dead.swap(true, Ordering::SeqCst) || self.side == Side::Before {
            return Err(Dead);
        }
        operation.await;
        Err(Dead)
    }
}

impl From<Dead> for QueueError {
    fn from(_: Dead) -> Self {
        Self::Unconfirmed { waited_ms: 0 }
    }
}

impl From<Dead> for StoreError {
    fn from(_: Dead) -> Self {
        Self::Unconfirmed { reason: "killed".to_owned() }
    }
}

/// `ports`, until the fuse has burnt down.
pub(super) fn dying(ports: Ports, fuse: &Arc<Fuse>) -> Ports {
    let queue = Arc::new(DyingQueue { inner: ports.queue.clone(), fuse: fuse.clone() });
    let store = Arc::new(DyingStore { inner: ports.store.clone(), fuse: fuse.clone() });
    Ports { queue, store, together: None, ..ports }
}

struct DyingQueue {
    inner: Arc<dyn Queue>,
    fuse: Arc<Fuse>,
}

struct DyingConsumer {
    inner: Arc<dyn Consumer>,
    fuse: Arc<Fuse>,
}

struct DyingSettle {
    inner: Box<dyn Settle>,
    fuse: Arc<Fuse>,
}

#[async_trait]
impl Queue for DyingQueue {
    fn durability(&self) -> Durability {
        self.inner.durability()
    }

    async fn publish(&self, batch: Vec<Publication>) -> Result<Vec<Receipt>, QueueError> {
        self.fuse.spend(self.inner.publish(batch)).await?
    }

    async fn conclude(
        &self,
        batch: Vec<Publication>,
        deliveries: Vec<Delivery>,
    ) -> Result<(), Unconcluded> {
        publish_then_ack(self, batch, deliveries).await
    }

    async fn consumer(&self, spec: ConsumerSpec) -> Result<Arc<dyn Consumer>, QueueError> {
        let inner = self.inner.consumer(spec).await?;
        Ok(Arc::new(DyingConsumer { inner, fuse: self.fuse.clone() }))
    }

    async fn read(
        &self,
        stream: Stream,
        range: ReadRange,
        limit: usize,
        wait_ms: u64,
    ) -> Result<Vec<Stored>, QueueError> {
        self.inner.read(stream, range, limit, wait_ms).await
    }

    async fn bounds(&self, stream: Stream) -> Result<(u64, u64), QueueError> {
        self.inner.bounds(stream).await
    }

    async fn remove(&self, stream: Stream, of: &TenantId, seq: u64) -> Result<bool, QueueError> {
        self.inner.remove(stream, of, seq).await
    }

    async fn backlog(&self, stream: Stream) -> Result<Vec<Backlog>, QueueError> {
        self.inner.backlog(stream).await
    }
}

#[async_trait]
impl Consumer for DyingConsumer {
    async fn pull(
        &self,
        tenant: Option<&TenantId>,
        max: usize,
        wait_ms: u64,
    ) -> Result<Vec<Delivery>, QueueError> {
        if self.fuse.burnt() {
            return Err(Dead.into());
        }
        let pulled = self.inner.pull(tenant, max, wait_ms).await?;
        let wrap = |delivery: Delivery| {
            let Delivery { message, failures, settle } = delivery;
            let settle = Box::new(DyingSettle { inner: settle, fuse: self.fuse.clone() });
            Delivery { message, failures, settle }
        };
        Ok(pulled.into_iter().map(wrap).collect())
    }

    async fn active_tenants(&self) -> Result<Vec<TenantId>, QueueError> {
        self.inner.active_tenants().await
    }
}

#[async_trait]
impl Settle for DyingSettle {
    async fn ack(self: Box<Self>) -> Result<(), QueueError> {
        let Self { inner, fuse } = *self;
        fuse.spend(inner.ack()).await?
    }

    async fn nak(self: Box<Self>, delay_ms: u64, cause: Cause) -> Result<(), QueueError> {
        let Self { inner, fuse } = *self;
        fuse.spend(inner.nak(delay_ms, cause)).await?
    }

    async fn extend(&self) -> Result<(), QueueError> {
        self.inner.extend().await
    }
}

struct DyingStore {
    inner: Arc<dyn Store>,
    fuse: Arc<Fuse>,
}

/// Methods that the approver uses, through the fuse; and those that it never may.
macro_rules! store {
    (
        fused { $(fn $name:ident($($parameter:tt)*) [$($argument:ident),*] -> $ok:ty;)+ }
        foreign { $(fn $other:ident($($ignored:tt)*) -> $other_ok:ty;)+ }
    ) => {
        #[async_trait]
        impl Store for DyingStore {
            $(async fn $name(&self, $($parameter)*) -> Result<$ok, StoreError> {
                self.fuse.spend(self.inner.$name($($argument),*)).await?
            })+
            $(async fn $other(&self, $($ignored)*) -> Result<$other_ok, StoreError> {
                unreachable!("not the approver's")
            })+
        }
    };
}

store! {
    fused {
        fn hold(action: &HeldAction) [action] -> bool;
        fn approval(of: &TenantId, id: ActionId) [of, id] -> Option<Approval>;
        fn approvals(of: &TenantId, filter: &ApprovalFilter) [of, filter] -> Vec<Approval>;
        fn approval_posted_as(at: &Address, message: &str) [at, message] -> Option<Approval>;
        fn record_vote(
            of: &TenantId, id: ActionId, vote: &RecordedVote
        ) [of, id, vote] -> Option<Approval>;
        fn settle(of: &TenantId, id: ActionId, end: &Settlement) [of, id, end] -> bool;
        fn overdue(now_ms: UnixMs, limit: usize) [now_ms, limit] -> Vec<Approval>;
        fn next_expiry() [] -> Option<UnixMs>;
        fn outbox(limit: usize) [limit] -> Vec<OutboxEntry>;
        fn outbox_done(seqs: &[u64]) [seqs] -> ();
    }
    foreign {
        fn begin_run(_: &RunStart, _: Uuid) -> RunState;
        fn save_checkpoint(_: &TenantId, _: RunId, _: Uuid, _: &serde_json::Value) -> bool;
        fn run(_: &TenantId, _: RunId) -> Option<(RunStart, RunState)>;
        fn finish_run(
            _: &TenantId, _: RunId, _: &RunEnd, _: Option<(&MemoryKey, &[Turn])>
        ) -> bool;
        fn history(_: &MemoryKey, _: u32) -> Vec<Turn>;
        fn set_posted(_: &TenantId, _: ActionId, _: &Address, _: &str) -> ();
        fn start_action(_: &TenantId, _: ActionId, _: &str) -> ActionStart;
        fn finish_action(_: &TenantId, _: ActionId, _: &ActionEnd) -> ();
        fn begin_send(_: &TenantId, _: ReplyId, _: UnixMs) -> SendState;
        fn finish_send(_: &TenantId, _: ReplyId, _: Option<&str>) -> ();
        fn abort_send(_: &TenantId, _: ReplyId) -> ();
        fn put_key(_: &ApiKey) -> ();
        fn put_first_key(_: &ApiKey) -> bool;
        fn key_by_hash(_: &str) -> Option<ApiKey>;
        fn keys(_: Option<&TenantId>) -> Vec<ApiKey>;
        fn revoke_key(_: Option<&TenantId>, _: &str, _: UnixMs) -> bool;
        fn put_channels(_: &TenantId, _: &PlatformName, _: &InstanceName, _: &[ChannelName]) -> ();
        fn channel(
            _: &TenantId, _: &PlatformName, _: &InstanceName, _: &str
        ) -> Option<ChannelName>;
        fn put_note(_: &NoteKey, _: &Note, _: UnixMs) -> ();
        fn note(_: &NoteKey, _: UnixMs) -> Option<Note>;
    }
}
