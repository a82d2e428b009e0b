//! The contract against the oldest and the newest server, and one that syncs every write.

mod dispatching;
mod log;
mod opening;
mod outage;
mod publishing;
mod reading;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aof_servers::{NATS_2_12, NATS_FLOOR, NATS_NEWEST, Nats, NatsOptions};
use async_trait::async_trait;
use uuid::Uuid;

use super::{Caps, JetStreamOptions, open};
use crate::clock::SystemClock;
use crate::lifecycle::Lifecycle;
use crate::queue::contract::QueueFixture;
use crate::queue::faults::{Dice, FaultRates, FaultyQueue};
use crate::queue::{Live, Queue};
use crate::secret::Secret;

/// Seed of the faults.
const SEED: u64 = 7;
/// How long something that must happen may take, in milliseconds.
const PATIENCE_MS: u64 = 20_000;

fn server(version: &str, sync_always: bool) -> Nats {
    let version = version.to_owned();
    Nats::start(&NatsOptions { version, sync_always, ..NatsOptions::default() })
}

// One server a test binary and version: a server costs a second to start.
static FLOOR: LazyLock<Nats> = LazyLock::new(|| server(NATS_FLOOR, false));
pub(super) static NEWEST: LazyLock<Nats> = LazyLock::new(|| server(NATS_NEWEST, false));
static SYNCED: LazyLock<Nats> = LazyLock::new(|| server(NATS_2_12, true));

/// Options for a cluster of its own on `server`.
pub(super) fn options(server: &Nats) -> JetStreamOptions {
    let random = Uuid::now_v7().simple().to_string();
    JetStreamOptions {
        name: format!("t-{}", &random[random.len() - 12..]),
        node: "n1".to_owned(),
        url: Secret::new(server.url()),
        monitor_url: Some(server.monitor_url()),
        replicas: 1,
        caps: Caps::default(),
    }
}

/// One node that has the queue open.
struct Node {
    options: JetStreamOptions,
    queue: Arc<dyn Queue>,
    live: Arc<dyn Live>,
    lifecycle: Lifecycle,
}

impl Node {
    async fn open(options: JetStreamOptions) -> Self {
        let lifecycle = Lifecycle::new();
        let (queue, live) =
            open(options.clone(), Arc::new(SystemClock), &lifecycle).await.expect("it opens");
        Self { options, queue, live, lifecycle }
    }

    async fn restart(&mut self) {
        self.lifecycle.stop();
        let again = Self::open(self.options.clone()).await;
        std::mem::replace(self, again).close().await;
    }

    async fn close(self) {
        let Self { queue, live, lifecycle, .. } = self;
        lifecycle.stop();
        drop((queue, live));
        let wait = Duration::from_millis(PATIENCE_MS);
        tokio::time::timeout(wait, lifecycle.drained()).await.expect("everything ends");
    }
}

struct Fixture {
    node: Node,
    /// The node's queue, or one whose answers get lost.
    queue: Arc<dyn Queue>,
    dice: Option<Arc<Dice>>,
}

impl Fixture {
    async fn on(server: &Nats, dice: Option<Arc<Dice>>) -> Self {
        let node = Node::open(options(server)).await;
        let queue = Self::wrapped(&node, dice.as_ref());
        Self { node, queue, dice }
    }

    fn wrapped(node: &Node, dice: Option<&Arc<Dice>>) -> Arc<dyn Queue> {
        let queue = Arc::clone(&node.queue);
        match dice {
            Some(dice) => Arc::new(FaultyQueue::new(queue, Arc::clone(dice))),
            None => queue,
        }
    }
}

#[async_trait]
impl QueueFixture for Fixture {
    fn queue(&self) -> Arc<dyn Queue> {
        Arc::clone(&self.queue)
    }

    fn live(&self) -> Arc<dyn Live> {
        Arc::clone(&self.node.live)
    }

    async fn pass_ms(&self, ms: u64) {
        // The server's time is the system's.
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    async fn restart(&mut self) {
        self.node.restart().await;
        self.queue = Self::wrapped(&self.node, self.dice.as_ref());
    }
}

fn dice() -> Option<Arc<Dice>> {
    Some(Dice::new(SEED, FaultRates::default()))
}

mod floor {
    use super::*;
    crate::queue_contract!(Fixture::on(&FLOOR, None));
}

mod newest {
    use super::*;
    crate::queue_contract!(Fixture::on(&NEWEST, None));
}

mod synced {
    use super::*;
    crate::queue_contract!(Fixture::on(&SYNCED, None));
}

mod floor_under_faults {
    use super::*;
    crate::queue_contract_under_faults!(Fixture::on(&FLOOR, dice()));
}

mod under_faults {
    use super::*;
    crate::queue_contract_under_faults!(Fixture::on(&NEWEST, dice()));
}
