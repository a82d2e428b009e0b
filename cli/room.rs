//! Readiness while there is no room, on the node's own disk or in NATS: red from the first
//! write that finds none, green once there is room again.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aof_shared::clock::rfc3339;
use aof_shared::event::{Event, EventType};
use aof_shared::ids::{EventId, TenantId};
use aof_shared::node::{Health, Node};
use aof_shared::queue::QueueError;
use aof_shared::queue::watched::{WatchedQueue, WriteWatch};
use aof_shared::store::Ports;
use serde_json::json;
use tokio::sync::Notify;
use uuid::Uuid;

/// The part of the node's health.
const PART: &str = "storage";
/// How often a full disk is looked at again.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Room that there must be to take work again, in bytes; a commit needs about a tenth.
const ROOM_BYTES: usize = 1 << 20;
/// The file that is written to find out, and removed at once.
const PROBE_FILE: &str = "room.probe";

/// Tells the node's health when the queue is full.
struct Room {
    health: Health,
    full: Arc<Notify>,
}

/// How to find out whether there is room again.
pub(crate) enum Probe {
    /// Write to the data directory, and remove it.
    Disk(PathBuf),
    /// Journal the outage at a server, where its entry is of use.
    Journal {
        /// The node that says so.
        node: String,
    },
}

impl Probe {
    /// Of the node whose data is in `data_dir`.
    pub(crate) fn disk(data_dir: &Path) -> Self {
        Self::Disk(data_dir.join(PROBE_FILE))
    }

    /// Looks until there is room.
    async fn wait(&self, ports: &Ports) {
        let (outage, since_ms) = (EventId(Uuid::now_v7()), ports.clock.now_ms());
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let is_room = match self {
                Self::Disk(probe) => {
                    let probe = probe.clone();
                    tokio::task::spawn_blocking(move || has_room(&probe)).await.unwrap_or(false)
                }
                Self::Journal { node } => journaled(ports, outage, (node, since_ms)).await,
            };
            if is_room {
                return;
            }
        }
    }
}

/// Whether the journal takes the entry of an outage, once however often it is offered.
async fn journaled(ports: &Ports, outage: EventId, (node, since_ms): (&str, u64)) -> bool {
    let data = json!({ "node": node, "since": rfc3339(since_ms) });
    let tenant = TenantId::default_tenant();
    let event = Event::new(outage, &tenant, EventType::StorageRecovered, ports.clock.now_ms());
    let publication = event.with(data).publication();
    ports.queue.publish(publication.into_iter().collect()).await.is_ok()
}

/// Watches the writes of `node`.
pub(crate) fn watch(node: &mut Node, probe: Probe) {
    let full = Arc::new(Notify::new());
    let health = node.health.clone();
    health.up(PART);
    let ports = node.ports.clone();
    let room = Room { health: health.clone(), full: Arc::clone(&full) };
    node.ports.queue = Arc::new(WatchedQueue::new(Arc::clone(&ports.queue), room));
    let lifecycle = node.lifecycle.clone();
    node.lifecycle.spawn(async move {
        tokio::select! {
            () = lifecycle.stopped() => {}
            () = recover(&health, &full, &ports, &probe) => {}
        }
    });
}

/// Once full, waits until there is room.
async fn recover(health: &Health, full: &Notify, ports: &Ports, probe: &Probe) {
    loop {
        full.notified().await;
        tracing::error!("no room left: messages are refused until there is");
        probe.wait(ports).await;
        health.up(PART);
        tracing::info!("there is room again");
    }
}

fn has_room(probe: &Path) -> bool {
    let written = std::fs::File::create(probe).and_then(|mut file| {
        file.write_all(&vec![1; ROOM_BYTES])?;
        file.sync_all()
    });
    // It may not even have been made.
    let _ = std::fs::remove_file(probe);
    written.is_ok()
}

impl WriteWatch for Room {
    fn failed(&self, error: &QueueError) {
        let parts = self.health.parts();
        if matches!(error, QueueError::Full { .. }) && parts.get(PART).is_none_or(Option::is_none) {
            let reason = format!("{error}: make room where the data is; nothing is lost");
            self.health.down(PART, reason);
            self.full.notify_one();
        }
    }
}
