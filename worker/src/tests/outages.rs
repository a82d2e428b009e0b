//! A queue that goes away while a command runs.

use std::sync::atomic::{AtomicU64, Ordering};

use aof_shared::queue::{
    Backlog, Consumer, ConsumerSpec, Durability, Publication, Queue, QueueError, ReadRange,
    Receipt, Stored,
};
use async_trait::async_trait;

use super::*;

/// Takes nothing in for the first `refuses` calls.
struct Away {
    inner: Arc<dyn Queue>,
    refuses: u64,
    refused: AtomicU64,
}

#[async_trait]
impl Queue for Away {
    fn durability(&self) -> Durability {
        self.inner.durability()
    }

    async fn publish(&self, batch: Vec<Publication>) -> Result<Vec<Receipt>, QueueError> {
        if self.refused.load(Ordering::SeqCst) < self.refuses {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Err(QueueError::Unavailable { reason: "away".to_owned(), source: None });
        }
        self.inner.publish(batch).await
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

#[tokio::test]
async fn a_command_goes_on_while_the_queue_is_away_and_ends_as_it_ended() {
    let mut rig = Rig::new(simple(commander(&["head"])));
    let path = rig.dir.path().join("said");
    let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo runs");
    assert!(made.success());
    let task = fixture::task("acme", "ops", &format!("head -n 1 {}", path.display()));
    rig.send(&task).await;
    // As many refusals as one publication has tries, so that it gives up.
    let refuses = u64::from(crate::job::PUBLISH_ATTEMPTS);
    let inner = Arc::clone(&rig.node.ports.queue);
    let away = Arc::new(Away { inner, refuses, refused: AtomicU64::new(0) });
    rig.node.ports.queue = Arc::clone(&away) as Arc<dyn Queue>;
    rig.start().await;
    until("a publication that gave up", async || {
        (away.refused.load(Ordering::SeqCst) == refuses).then_some(())
    })
    .await;
    // Open both ways: neither opening nor writing waits for the command to read.
    let said = std::fs::File::options().read(true).write(true).open(path);
    let mut said = said.expect("the pipe opens");
    std::io::Write::write_all(&mut said, b"still here\n").expect("it takes a line");
    assert_eq!(rig.end(&task).await, ("success".to_owned(), "```\nstill here\n```".to_owned()));
    let (message, tenant) = (task.message.id, &task.message.tenant);
    assert_eq!(rig.count(message, tenant, EventType::RunStarted).await, 1);
    rig.stop().await;
}
