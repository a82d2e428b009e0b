//! Readiness while there is no room: red from the first write that finds none, green once
//! there is room again.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aof_shared::node::{Health, Node};
use aof_shared::queue::QueueError;
use aof_shared::queue::watched::{WatchedQueue, WriteWatch};
use tokio::sync::Notify;

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

/// Watches the writes of `node`, whose data is in `data_dir`.
pub(crate) fn watch(node: &mut Node, data_dir: &Path) {
    let full = Arc::new(Notify::new());
    let health = node.health.clone();
    health.up(PART);
    let inner = Arc::clone(&node.ports.queue);
    let room = Room { health: health.clone(), full: Arc::clone(&full) };
    node.ports.queue = Arc::new(WatchedQueue::new(inner, room));
    let (probe, lifecycle) = (data_dir.join(PROBE_FILE), node.lifecycle.clone());
    node.lifecycle.spawn(async move {
        tokio::select! {
            () = lifecycle.stopped() => {}
            () = recover(&health, &full, probe) => {}
        }
    });
}

/// Once full, looks until there is room.
async fn recover(health: &Health, full: &Notify, probe: PathBuf) {
    loop {
        full.notified().await;
        tracing::error!("no room left: messages are refused until there is");
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let probe = probe.clone();
            if tokio::task::spawn_blocking(move || has_room(&probe)).await.unwrap_or(false) {
                break;
            }
        }
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
