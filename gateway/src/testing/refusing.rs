//! The real queue behind a switch that makes it refuse to store, as a full disk does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aof_shared::ids::TenantId;
use aof_shared::queue::{
    Backlog, Consumer, ConsumerSpec, Durability, Publication, Queue, QueueError, ReadRange,
    Receipt, Stored,
};
use aof_shared::subject::Stream;
use async_trait::async_trait;

/// Passes everything through, and refuses publications while the switch is on.
pub(crate) struct Refusing {
    pub(crate) inner: Arc<dyn Queue>,
    pub(crate) full: Arc<AtomicBool>,
}

#[async_trait]
impl Queue for Refusing {
    fn durability(&self) -> Durability {
        self.inner.durability()
    }

    async fn publish(&self, batch: Vec<Publication>) -> Result<Vec<Receipt>, QueueError> {
        if self.full.load(Ordering::SeqCst) {
            return Err(QueueError::Full { stream: Stream::Inbound });
        }
        self.inner.publish(batch).await
    }

    async fn consumer(&self, spec: ConsumerSpec) -> Result<Arc<dyn Consumer>, QueueError> {
        self.inner.consumer(spec).await
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

    async fn remove(
        &self,
        stream: Stream,
        tenant: &TenantId,
        seq: u64,
    ) -> Result<bool, QueueError> {
        self.inner.remove(stream, tenant, seq).await
    }

    async fn backlog(&self, stream: Stream) -> Result<Vec<Backlog>, QueueError> {
        self.inner.backlog(stream).await
    }
}
