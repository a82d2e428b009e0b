//! The queue on NATS JetStream: streams store, replicate and dedupe; one elected leader a
//! consumer dispatches.
//!
//! All streams retain by limits and have no JetStream consumer on the hot path: JetStream
//! knows neither order within a key nor attempts by cause, and a consumer a tenant does not
//! carry to thousands of tenants.

mod ack;
mod batch;
mod connect;
mod consumer;
mod consumers;
mod desk;
mod feed;
mod fetch;
mod group;
mod history;
mod holder;
mod inventory;
mod lead;
mod leader;
mod live;
mod log;
mod member;
mod message;
mod monitor;
mod namer;
mod progress;
mod protocol;
mod publish;
mod ranges;
mod retention;
mod settle;
mod streams;
mod sweep;
mod tail;
mod wire;

use std::sync::Arc;

use async_trait::async_trait;

use crate::clock::Clock;
use crate::ids::TenantId;
use crate::lifecycle::Lifecycle;
use crate::queue::{
    Backlog, Consumer, ConsumerSpec, Delivery, Durability, Live, Publication, Queue, QueueError,
    ReadRange, Receipt, Stored, Unconcluded, publish_then_ack,
};
use crate::subject::Stream;

use connect::Link;
pub use connect::{JetStreamOptions, OpenError, Servers};
use consumers::Consumers;
use history::History;
use live::NatsLive;
use publish::Publisher;
pub use streams::Caps;

/// The adapter.
struct JetStreamQueue {
    link: Arc<Link>,
    publisher: Publisher,
    history: History,
    consumers: Consumers,
}

/// Connects, and makes or upgrades the streams; any number of nodes may do so at once.
/// `lifecycle` owns the background tasks, which end when it stops or the queue is dropped.
///
/// # Errors
/// [`OpenError`], which tells what passes from what somebody must change.
pub async fn open(
    options: JetStreamOptions,
    clock: Arc<dyn Clock>,
    lifecycle: &Lifecycle,
) -> Result<(Arc<dyn Queue>, Arc<dyn Live>), OpenError> {
    let (queue, live) = start(options, clock, lifecycle).await?;
    Ok((Arc::new(queue), Arc::new(live)))
}

async fn start(
    options: JetStreamOptions,
    clock: Arc<dyn Clock>,
    lifecycle: &Lifecycle,
) -> Result<(JetStreamQueue, NatsLive), OpenError> {
    let link = Link::connect(&options, clock, lifecycle).await?;
    streams::ensure(&link).await?;
    retention::start(&link);
    let live = NatsLive::new(&link);
    let (publisher, history) = (Publisher::new(&link), History::new(&link));
    let consumers = Consumers::new(&link);
    Ok((JetStreamQueue { link, publisher, history, consumers }, live))
}

#[async_trait]
impl Queue for JetStreamQueue {
    fn durability(&self) -> Durability {
        self.link.durability()
    }

    async fn publish(&self, batch: Vec<Publication>) -> Result<Vec<Receipt>, QueueError> {
        self.publisher.publish(batch).await
    }

    async fn conclude(
        &self,
        batch: Vec<Publication>,
        deliveries: Vec<Delivery>,
    ) -> Result<(), Unconcluded> {
        publish_then_ack(self, batch, deliveries).await
    }

    async fn consumer(&self, spec: ConsumerSpec) -> Result<Arc<dyn Consumer>, QueueError> {
        Ok(Arc::new(self.consumers.open(&spec).await?))
    }

    async fn read(
        &self,
        stream: Stream,
        range: ReadRange,
        limit: usize,
        wait_ms: u64,
    ) -> Result<Vec<Stored>, QueueError> {
        self.history.read(stream, range, limit, wait_ms).await
    }

    async fn bounds(&self, stream: Stream) -> Result<(u64, u64), QueueError> {
        inventory::bounds(&self.link, stream).await
    }

    async fn remove(
        &self,
        stream: Stream,
        tenant: &TenantId,
        seq: u64,
    ) -> Result<bool, QueueError> {
        inventory::remove(&self.link, stream, tenant, seq).await
    }

    async fn backlog(&self, stream: Stream) -> Result<Vec<Backlog>, QueueError> {
        self.consumers.backlog(stream).await
    }
}

#[cfg(test)]
mod tests;
