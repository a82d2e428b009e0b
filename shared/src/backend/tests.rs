//! The embedded adapters against the ports' contracts.

use std::sync::Arc;

use async_trait::async_trait;

use crate::backend::open_embedded;
use crate::clock::ManualClock;
use crate::lifecycle::Lifecycle;
use crate::limit::Limits;
use crate::limit::contract::LimitFixture;
use crate::queue::contract::QueueFixture;
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

mod limits {
    use super::Embedded;
    crate::limit_contract!(Embedded::new());
}

mod store {
    use super::Embedded;
    crate::store_contract!(Embedded::new());
}
