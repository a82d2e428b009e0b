//! Readiness while there is no room: red from the first write that finds none, green once
//! there is room again.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aof_shared::ids::TenantId;
use aof_shared::node::{Health, Node};
use aof_shared::queue::{
    Backlog, Consumer, ConsumerSpec, Durability, Publication, Queue, QueueError, ReadRange,
    Receipt, Stored,
};
use aof_shared::subject::Stream;
use async_trait::async_trait;
use tokio::sync::Notify;

/// The part of the node's health.
const PART: &str = "storage";
/// How often a full disk is looked at again.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Room that there must be to take work again, in bytes; a commit needs about a tenth.
const ROOM_BYTES: usize = 1 << 20;
/// The file that is written to find out, and removed at once.
const PROBE_FILE: &str = "room.probe";

/// A queue that tells the node's health when it is full.
struct Watched {
    inner: Arc<dyn Queue>,
    health: Health,
    full: Arc<Notify>,
}

/// Watches the writes of `node`, whose data is in `data_dir`.
pub(crate) fn watch(node: &mut Node, data_dir: &Path) {
    let full = Arc::new(Notify::new());
    let health = node.health.clone();
    health.up(PART);
    let inner = Arc::clone(&node.ports.queue);
    node.ports.queue = Arc::new(Watched { inner, health: health.clone(), full: Arc::clone(&full) });
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

#[async_trait]
impl Queue for Watched {
    fn durability(&self) -> Durability {
        self.inner.durability()
    }

    async fn publish(&self, batch: Vec<Publication>) -> Result<Vec<Receipt>, QueueError> {
        let published = self.inner.publish(batch).await;
        if let Err(error @ QueueError::Full { .. }) = &published {
            let parts = self.health.parts();
            if parts.get(PART).is_none_or(Option::is_none) {
                let reason = format!("{error}: make room where the data is; nothing is lost");
                self.health.down(PART, reason);
                self.full.notify_one();
            }
        }
        published
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
