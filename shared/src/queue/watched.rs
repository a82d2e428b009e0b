//! A queue whose writes are watched: before each, and when one fails.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    Backlog, Consumer, ConsumerSpec, Delivery, Durability, Publication, Queue, QueueError,
    ReadRange, Receipt, Stored, Unconcluded,
};
use crate::ids::TenantId;
use crate::subject::Stream;

/// Who watches.
pub trait WriteWatch: Send + Sync {
    /// Asked before a batch is stored.
    ///
    /// # Errors
    /// What the publisher is told instead; nothing is stored then.
    fn before(&self) -> Result<(), QueueError> {
        Ok(())
    }

    /// Told of a batch that was not stored, or may not have been.
    fn failed(&self, _error: &QueueError) {}
}

/// `inner`, watched.
pub struct WatchedQueue<W> {
    inner: Arc<dyn Queue>,
    watch: W,
}

impl<W: WriteWatch> WatchedQueue<W> {
    /// All calls go to `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Queue>, watch: W) -> Self {
        Self { inner, watch }
    }
}

#[async_trait]
impl<W: WriteWatch> Queue for WatchedQueue<W> {
    fn durability(&self) -> Durability {
        self.inner.durability()
    }

    async fn publish(&self, batch: Vec<Publication>) -> Result<Vec<Receipt>, QueueError> {
        self.watch.before()?;
        let published = self.inner.publish(batch).await;
        published.inspect_err(|error| self.watch.failed(error))
    }

    async fn conclude(
        &self,
        batch: Vec<Publication>,
        deliveries: Vec<Delivery>,
    ) -> Result<(), Unconcluded> {
        if let Err(error) = self.watch.before() {
            return Err(Unconcluded { error, deliveries });
        }
        let concluded = self.inner.conclude(batch, deliveries).await;
        concluded.inspect_err(|unconcluded| self.watch.failed(&unconcluded.error))
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
