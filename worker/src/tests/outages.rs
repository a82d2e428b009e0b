//! A queue that goes away while a command runs.

use std::sync::atomic::{AtomicU64, Ordering};

use aof_shared::queue::QueueError;
use aof_shared::queue::watched::{WatchedQueue, WriteWatch};

use super::*;

/// Takes nothing in for the first `refuses` calls.
struct Away {
    refuses: u64,
    refused: Arc<AtomicU64>,
}

impl WriteWatch for Away {
    fn before(&self) -> Result<(), QueueError> {
        if self.refused.load(Ordering::SeqCst) < self.refuses {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Err(QueueError::Unavailable { reason: "away".to_owned(), source: None });
        }
        Ok(())
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
    let refused = Arc::new(AtomicU64::new(0));
    let away = Away { refuses, refused: Arc::clone(&refused) };
    let inner = Arc::clone(&rig.node.ports.queue);
    rig.node.ports.together = None;
    rig.node.ports.queue = Arc::new(WatchedQueue::new(inner, away));
    rig.start().await;
    until("a publication that gave up", async || {
        (refused.load(Ordering::SeqCst) == refuses).then_some(())
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
