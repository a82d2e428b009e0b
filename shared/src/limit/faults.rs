//! Limits whose answers get lost, from a seed: for contract suites and simulations.
//!
//! What it injects stays inside the port's promises: a call fails before it has an effect or
//! after, or its answer comes late.

use std::sync::Arc;

use async_trait::async_trait;

use super::contract::LimitFixture;
use super::{Admission, Demand, LimitError, Limits};
use crate::queue::faults::{Dice, Fault, FaultRates};

fn injected() -> LimitError {
    LimitError { reason: "injected fault".to_owned(), source: None }
}

/// Wraps limits.
pub struct FaultyLimits {
    inner: Arc<dyn Limits>,
    dice: Arc<Dice>,
}

impl FaultyLimits {
    /// `inner`, with the faults that `dice` rolls.
    #[must_use]
    pub fn new(inner: Arc<dyn Limits>, dice: Arc<Dice>) -> Self {
        Self { inner, dice }
    }

    /// `call`, or what goes wrong instead.
    async fn risk<T>(
        &self,
        call: impl Future<Output = Result<T, LimitError>> + Send,
    ) -> Result<T, LimitError> {
        self.dice.maybe_late().await;
        match self.dice.fault() {
            Fault::Before => Err(injected()),
            Fault::After => call.await.and(Err(injected())),
            Fault::None => call.await,
        }
    }
}

#[async_trait]
impl Limits for FaultyLimits {
    async fn admit(&self, demand: &Demand) -> Result<Admission, LimitError> {
        self.risk(self.inner.admit(demand)).await
    }

    async fn renew(&self, demand: &Demand) -> Result<bool, LimitError> {
        self.risk(self.inner.renew(demand)).await
    }

    async fn release(&self, demand: &Demand) -> Result<(), LimitError> {
        self.risk(self.inner.release(demand)).await
    }

    async fn charge(
        &self,
        scope: &str,
        day: u32,
        amount: u64,
        charge_id: &str,
    ) -> Result<u64, LimitError> {
        self.risk(self.inner.charge(scope, day, amount, charge_id)).await
    }

    async fn spent(&self, scope: &str, day: u32) -> Result<u64, LimitError> {
        self.risk(self.inner.spent(scope, day)).await
    }
}

/// A fixture of the contract whose limits are faulty: every promise holds for callers that
/// try again.
pub struct FaultyFixture<F> {
    inner: F,
    dice: Arc<Dice>,
}

impl<F> FaultyFixture<F> {
    /// Wraps `inner` with the default rates, rolled from `seed`.
    pub fn new(inner: F, seed: u64) -> Self {
        Self { inner, dice: Dice::new(seed, FaultRates::default()) }
    }
}

#[async_trait]
impl<F: LimitFixture> LimitFixture for FaultyFixture<F> {
    fn limits(&self) -> Arc<dyn Limits> {
        Arc::new(FaultyLimits::new(self.inner.limits(), Arc::clone(&self.dice)))
    }

    async fn pass_ms(&self, ms: u64) {
        self.inner.pass_ms(ms).await;
    }

    async fn restart(&mut self) {
        self.inner.restart().await;
    }
}
