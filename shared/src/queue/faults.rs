//! A queue whose answers get lost, from a seed: for contract suites and simulations.
//!
//! What it injects stays inside the port's promises: errors before an effect are
//! `Unavailable`, lost answers after one are `Unconfirmed`, an ack may get lost either
//! way, deliveries come late or are handed back and come again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{
    Backlog, Cause, Consumer, ConsumerSpec, Delivery, Durability, Publication, Queue, QueueError,
    ReadRange, Receipt, Settle, Stored, Unconcluded, publish_then_ack,
};
use crate::ids::TenantId;
use crate::subject::Stream;

/// How often what goes wrong, in percent of the calls.
#[derive(Debug, Clone, Copy)]
pub struct FaultRates {
    /// The call fails and nothing happened.
    pub before: u32,
    /// It happened and the answer is lost.
    pub after: u32,
    /// The answer comes late, by up to 5 ms.
    pub late: u32,
    /// A pulled delivery is handed back instead, and comes again.
    pub returned: u32,
}

impl Default for FaultRates {
    fn default() -> Self {
        Self { before: 10, after: 10, late: 10, returned: 10 }
    }
}

const MAX_LATE_US: u64 = 5_000;

/// Rolls the dice; the same seed and the same calls give the same faults.
pub struct Dice {
    rng: Mutex<StdRng>,
    rates: FaultRates,
}

/// What goes wrong with one call.
pub(crate) enum Fault {
    /// It fails and nothing happened.
    Before,
    /// It happened and the answer is lost.
    After,
    /// Nothing.
    None,
}

impl Dice {
    /// From `seed`.
    #[must_use]
    pub fn new(seed: u64, rates: FaultRates) -> Arc<Self> {
        Arc::new(Self { rng: Mutex::new(StdRng::seed_from_u64(seed)), rates })
    }

    fn happens(&self, percent: u32) -> bool {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        rng.random_range(0..100_u32) < percent
    }

    pub(crate) fn fault(&self) -> Fault {
        if self.happens(self.rates.before) {
            Fault::Before
        } else if self.happens(self.rates.after) {
            Fault::After
        } else {
            Fault::None
        }
    }

    pub(crate) async fn maybe_late(&self) {
        if self.happens(self.rates.late) {
            let us = {
                let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
                rng.random_range(0..MAX_LATE_US)
            };
            tokio::time::sleep(Duration::from_micros(us)).await;
        }
    }
}

fn unavailable() -> QueueError {
    QueueError::Unavailable { reason: "injected fault".to_owned(), source: None }
}

fn unconfirmed() -> QueueError {
    QueueError::Unconfirmed { waited_ms: 0 }
}

/// Wraps a queue.
pub struct FaultyQueue {
    inner: Arc<dyn Queue>,
    dice: Arc<Dice>,
}

impl FaultyQueue {
    /// `inner`, with the faults that `dice` rolls.
    #[must_use]
    pub fn new(inner: Arc<dyn Queue>, dice: Arc<Dice>) -> Self {
        Self { inner, dice }
    }
}

#[async_trait]
impl Queue for FaultyQueue {
    fn durability(&self) -> Durability {
        self.inner.durability()
    }

    async fn publish(&self, batch: Vec<Publication>) -> Result<Vec<Receipt>, QueueError> {
        self.dice.maybe_late().await;
        match self.dice.fault() {
            Fault::Before => Err(unavailable()),
            Fault::After => self.inner.publish(batch).await.and(Err(unconfirmed())),
            Fault::None => self.inner.publish(batch).await,
        }
    }

    async fn conclude(
        &self,
        batch: Vec<Publication>,
        deliveries: Vec<Delivery>,
    ) -> Result<(), Unconcluded> {
        publish_then_ack(self, batch, deliveries).await
    }

    async fn consumer(&self, spec: ConsumerSpec) -> Result<Arc<dyn Consumer>, QueueError> {
        if self.dice.happens(self.dice.rates.before) {
            return Err(unavailable());
        }
        let inner = self.inner.consumer(spec).await?;
        Ok(Arc::new(FaultyConsumer { inner, dice: Arc::clone(&self.dice) }))
    }

    async fn read(
        &self,
        stream: Stream,
        range: ReadRange,
        limit: usize,
        wait_ms: u64,
    ) -> Result<Vec<Stored>, QueueError> {
        self.dice.maybe_late().await;
        match self.dice.fault() {
            Fault::Before | Fault::After => Err(unavailable()),
            Fault::None => self.inner.read(stream, range, limit, wait_ms).await,
        }
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
        match self.dice.fault() {
            Fault::Before => Err(unavailable()),
            Fault::After => self.inner.remove(stream, tenant, seq).await.and(Err(unconfirmed())),
            Fault::None => self.inner.remove(stream, tenant, seq).await,
        }
    }

    async fn backlog(&self, stream: Stream) -> Result<Vec<Backlog>, QueueError> {
        self.inner.backlog(stream).await
    }
}

struct FaultyConsumer {
    inner: Arc<dyn Consumer>,
    dice: Arc<Dice>,
}

#[async_trait]
impl Consumer for FaultyConsumer {
    async fn pull(
        &self,
        tenant: Option<&TenantId>,
        max: usize,
        wait_ms: u64,
    ) -> Result<Vec<Delivery>, QueueError> {
        self.dice.maybe_late().await;
        match self.dice.fault() {
            Fault::Before => return Err(unavailable()),
            // What was pulled is dropped, and so handed back.
            Fault::After => {
                return self.inner.pull(tenant, max, wait_ms).await.and(Err(unavailable()));
            }
            Fault::None => {}
        }
        let mut pulled = self.inner.pull(tenant, max, wait_ms).await?;
        // Only the end of a pull comes back, so that the order of the rest stands.
        while !pulled.is_empty() && self.dice.happens(self.dice.rates.returned) {
            pulled.pop();
        }
        let dice = &self.dice;
        let wrap = |delivery: Delivery| Delivery {
            message: delivery.message,
            failures: delivery.failures,
            settle: Box::new(FaultySettle { inner: delivery.settle, dice: Arc::clone(dice) }),
        };
        Ok(pulled.into_iter().map(wrap).collect())
    }

    async fn active_tenants(&self) -> Result<Vec<TenantId>, QueueError> {
        // An error after the effect would lose names, which no adapter may.
        if self.dice.happens(self.dice.rates.before) {
            return Err(unavailable());
        }
        self.inner.active_tenants().await
    }
}

struct FaultySettle {
    inner: Box<dyn Settle>,
    dice: Arc<Dice>,
}

#[async_trait]
impl Settle for FaultySettle {
    async fn ack(self: Box<Self>) -> Result<(), QueueError> {
        self.dice.maybe_late().await;
        match self.dice.fault() {
            Fault::Before => Err(unavailable()),
            Fault::After => self.inner.ack().await.and(Err(unconfirmed())),
            Fault::None => self.inner.ack().await,
        }
    }

    async fn nak(self: Box<Self>, delay_ms: u64, cause: Cause) -> Result<(), QueueError> {
        match self.dice.fault() {
            Fault::Before => Err(unavailable()),
            Fault::After => self.inner.nak(delay_ms, cause).await.and(Err(unconfirmed())),
            Fault::None => self.inner.nak(delay_ms, cause).await,
        }
    }

    async fn extend(&self) -> Result<(), QueueError> {
        match self.dice.fault() {
            Fault::Before => Err(unavailable()),
            Fault::After => self.inner.extend().await.and(Err(unconfirmed())),
            Fault::None => self.inner.extend().await,
        }
    }
}
