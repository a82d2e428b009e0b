//! The embedded adapters against the ports' contracts.

use std::sync::Arc;

use async_trait::async_trait;

use crate::backend::open_embedded;
use crate::clock::ManualClock;
use crate::lifecycle::Lifecycle;
use crate::limit::Limits;
use crate::limit::contract::LimitFixture;
use crate::queue::contract::QueueFixture;
use crate::queue::faults::{Dice, FaultRates, FaultyQueue};
use crate::queue::{Live, Queue};
use crate::store::contract::StoreFixture;
use crate::store::{Ports, Store};

/// 2024-01-15, so that two hours before it is a time too.
const START_MS: u64 = 1_705_314_600_000;

/// A backend in a directory of its own, on a clock that stands still.
pub(crate) struct Embedded {
    dir: tempfile::TempDir,
    clock: ManualClock,
    lifecycle: Lifecycle,
    ports: Option<Ports>,
}

impl Embedded {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut fixture = Self {
            dir,
            clock: ManualClock::at(START_MS),
            lifecycle: Lifecycle::new(),
            ports: None,
        };
        fixture.open();
        fixture
    }

    fn open(&mut self) {
        let clock = Arc::new(self.clock.clone());
        let ports = open_embedded(self.dir.path(), clock, &self.lifecycle);
        self.ports = Some(ports.expect("it opens"));
    }

    pub(crate) fn ports(&self) -> &Ports {
        self.ports.as_ref().expect("it is open")
    }
}

impl Embedded {
    async fn reopen(&mut self) {
        self.lifecycle.stop();
        self.ports = None;
        self.lifecycle.drained().await;
        self.lifecycle = Lifecycle::new();
        self.open();
    }
}

#[async_trait]
impl QueueFixture for Embedded {
    fn queue(&self) -> Arc<dyn Queue> {
        Arc::clone(&self.ports().queue)
    }

    fn live(&self) -> Arc<dyn Live> {
        Arc::clone(&self.ports().live)
    }

    async fn pass_ms(&self, ms: u64) {
        self.clock.advance_ms(ms);
    }

    async fn restart(&mut self) {
        self.reopen().await;
    }
}

#[async_trait]
impl LimitFixture for Embedded {
    fn limits(&self) -> Arc<dyn Limits> {
        Arc::clone(&self.ports().limits)
    }

    async fn pass_ms(&self, ms: u64) {
        self.clock.advance_ms(ms);
    }

    async fn restart(&mut self) {
        self.reopen().await;
    }
}

#[async_trait]
impl StoreFixture for Embedded {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.ports().store)
    }

    async fn restart(&mut self) {
        self.reopen().await;
    }
}

mod queue {
    use super::Embedded;
    crate::queue_contract!(Embedded::new());
}

/// The same, with answers that get lost.
struct Faulty {
    embedded: Embedded,
    dice: Arc<Dice>,
    /// None while it is reopened.
    queue: Option<Arc<dyn Queue>>,
}

impl Faulty {
    async fn new(seed: u64) -> Self {
        let embedded = Embedded::new().await;
        let dice = Dice::new(seed, FaultRates::default());
        let queue = Arc::new(FaultyQueue::new(embedded.queue(), Arc::clone(&dice)));
        Self { embedded, dice, queue: Some(queue) }
    }
}

#[async_trait]
impl QueueFixture for Faulty {
    fn queue(&self) -> Arc<dyn Queue> {
        self.queue.clone().expect("it is open")
    }

    fn live(&self) -> Arc<dyn Live> {
        self.embedded.live()
    }

    async fn pass_ms(&self, ms: u64) {
        self.embedded.clock.advance_ms(ms);
    }

    async fn restart(&mut self) {
        // The wrapper must let go of the directory too.
        self.queue = None;
        self.embedded.reopen().await;
        let queue = FaultyQueue::new(self.embedded.queue(), Arc::clone(&self.dice));
        self.queue = Some(Arc::new(queue));
    }
}

mod queue_under_faults_1 {
    use super::Faulty;
    crate::queue_contract_under_faults!(Faulty::new(1));
}

mod queue_under_faults_2 {
    use super::Faulty;
    crate::queue_contract_under_faults!(Faulty::new(2));
}

mod limits {
    use super::Embedded;
    crate::limit_contract!(Embedded::new());
}

mod limits_under_faults {
    use super::Embedded;
    use crate::limit::faults::FaultyFixture;
    crate::limit_contract!(async { FaultyFixture::new(Embedded::new().await, 1) });
}

mod store {
    use super::Embedded;
    crate::store_contract!(Embedded::new());
}

mod store_under_faults {
    use super::{Dice, Embedded, FaultRates};
    use crate::store::contract::UnderFaults;

    async fn faulty() -> UnderFaults<Embedded> {
        UnderFaults::new(Embedded::new().await, Dice::new(1, FaultRates::default()))
    }

    crate::store_contract_under_faults!(faulty());
}
