//! The server dies, freezes and comes back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aof_servers::{NATS_2_12, NATS_FLOOR, NATS_NEWEST};
use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Node, PATIENCE_MS, options, server};
use crate::ids::MessageId;
use crate::queue::contract::{event, task, tenant};
use crate::queue::{Publication, Queue, QueueError, ReadRange};
use crate::subject::{LiveSubject, Stream};

const PUBLISHERS: usize = 16;
const KILLS: usize = 3;
/// Time between two kills, in milliseconds.
const BETWEEN_MS: u64 = 400;
/// Longest that a call may take while the server is away, in milliseconds.
const BOUND_MS: u64 = 7_000;

/// Publishes until `stop`, each id until it has a receipt.
async fn publish_until(
    queue: Arc<dyn Queue>,
    stop: Arc<AtomicBool>,
    receipts: Arc<Mutex<BTreeMap<Uuid, u64>>>,
) {
    let t = tenant("a");
    while !stop.load(Ordering::Relaxed) {
        let batch: Vec<_> = (0..3).map(|n| event(&t, "run.step", &n.to_string())).collect();
        let stored = loop {
            match queue.publish(batch.clone()).await {
                Ok(stored) => break stored,
                Err(QueueError::Unavailable { .. } | QueueError::Unconfirmed { .. }) => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => panic!("{error:?}"),
            }
        };
        let mut receipts = receipts.lock().expect("no panic");
        receipts.extend(batch.iter().zip(stored).map(|(message, r)| (message.id, r.seq)));
    }
}

async fn kills(version: &str, sync_always: bool) {
    let server = server(version, sync_always);
    let node = Node::open(options(&server)).await;
    let (stop, receipts) = (Arc::new(AtomicBool::new(false)), Arc::default());
    let publishers = (0..PUBLISHERS)
        .map(|_| publish_until(Arc::clone(&node.queue), Arc::clone(&stop), Arc::clone(&receipts)));
    let killer = async {
        for _ in 0..KILLS {
            tokio::time::sleep(Duration::from_millis(BETWEEN_MS)).await;
            server.kill();
            server.start_again();
        }
        tokio::time::sleep(Duration::from_millis(BETWEEN_MS)).await;
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(join_all(publishers), killer);
    let receipts = receipts.lock().expect("no panic").clone();
    let mut stored: BTreeMap<Uuid, u64> = BTreeMap::new();
    let mut after_seq = 0;
    loop {
        let range = ReadRange { after_seq, ..ReadRange::default() };
        let page = node.queue.read(Stream::Events, range, 1_000, 0).await.expect("read");
        let Some(last) = page.last() else { break };
        after_seq = last.seq;
        for message in page {
            assert_eq!(stored.insert(message.id, message.seq), None, "stored twice");
        }
    }
    assert!(receipts.len() >= 3 * PUBLISHERS, "only {} receipts", receipts.len());
    for (id, seq) in &receipts {
        assert_eq!(stored.get(id), Some(seq), "a receipt without its message");
    }
    assert_eq!(stored.len(), receipts.len(), "every call was tried until it had receipts");
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_receipt_outlives_kills_of_the_oldest_server() {
    kills(NATS_FLOOR, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_receipt_outlives_kills_of_the_newest_server() {
    kills(NATS_NEWEST, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_receipt_outlives_kills_of_a_server_that_syncs() {
    kills(NATS_2_12, true).await;
}

async fn timed(queue: &Arc<dyn Queue>, publication: &Publication) -> Result<u64, QueueError> {
    let begun = Instant::now();
    let stored = queue.publish(vec![publication.clone()]).await;
    assert!(begun.elapsed() < Duration::from_millis(BOUND_MS), "took {:?}", begun.elapsed());
    stored.map(|receipts| receipts[0].seq)
}

/// Tries until the server is back.
async fn recovered(queue: &Arc<dyn Queue>, publication: &Publication) -> u64 {
    let end = Instant::now() + Duration::from_millis(PATIENCE_MS);
    loop {
        match timed(queue, publication).await {
            Ok(seq) => return seq,
            Err(error) => assert!(Instant::now() < end, "still {error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_said_to_be_in_bounded_time() {
    let server = server(NATS_NEWEST, false);
    let node = Node::open(options(&server)).await;
    server.pause();
    // The signal may take a moment to reach every thread of the server.
    let end = Instant::now() + Duration::from_millis(PATIENCE_MS);
    let (publication, frozen) = loop {
        let publication = task(&tenant("a"), "x");
        match timed(&node.queue, &publication).await {
            Ok(_) => assert!(Instant::now() < end, "it does not freeze"),
            Err(error) => break (publication, error),
        }
    };
    assert!(matches!(frozen, QueueError::Unconfirmed { .. }), "{frozen:?}");
    server.resume();
    let seq = recovered(&node.queue, &publication).await;
    server.kill();
    // The connection may still look alive for a moment.
    let end = Instant::now() + Duration::from_millis(PATIENCE_MS);
    while !matches!(timed(&node.queue, &publication).await, Err(QueueError::Unavailable { .. })) {
        assert!(Instant::now() < end, "nobody noticed");
    }
    let read = node.queue.read(Stream::Tasks, ReadRange::default(), 1, 0).await;
    assert!(matches!(read, Err(QueueError::Unavailable { .. })), "{read:?}");
    server.start_again();
    assert_eq!(recovered(&node.queue, &publication).await, seq, "stored once");
    node.close().await;
}

#[tokio::test]
async fn readers_and_listeners_go_on_when_the_server_is_back() {
    let server = server(NATS_NEWEST, false);
    let node = Node::open(options(&server)).await;
    let t = tenant("a");
    let subject = LiveSubject::answer(&t, MessageId(Uuid::nil()));
    let mut listener = node.live.listen(&subject).await.expect("listen");
    let waiting = |after_seq, wait_ms| {
        let range = ReadRange { tenant: Some(t.clone()), after_seq, ..ReadRange::default() };
        node.queue.read(Stream::Events, range, 10, wait_ms)
    };
    assert!(waiting(0, 100).await.expect("nothing yet").is_empty());
    server.kill();
    server.start_again();
    let message = event(&t, "run.step", "after");
    let seq = recovered(&node.queue, &message).await;
    let end = Instant::now() + Duration::from_millis(PATIENCE_MS);
    let mut found = Vec::new();
    while found.is_empty() {
        assert!(Instant::now() < end, "the reader does not go on");
        found = waiting(0, 500).await.unwrap_or_default();
    }
    assert_eq!(found[0].seq, seq);
    // What comes now comes through the feed that was opened anew.
    let next = event(&t, "run.step", "next");
    let (found, _) = tokio::join!(waiting(seq, PATIENCE_MS), recovered(&node.queue, &next));
    assert_eq!(found.expect("read")[0].id, next.id);
    let heard = async {
        loop {
            node.live.send(&subject, Bytes::from_static(b"again")).await;
            let wait = Duration::from_millis(100);
            if let Ok(heard) = tokio::time::timeout(wait, listener.next()).await {
                return heard;
            }
        }
    };
    let heard = tokio::time::timeout(Duration::from_millis(PATIENCE_MS), heard).await;
    assert_eq!(heard.expect("in time"), Some(Bytes::from_static(b"again")));
    drop(listener);
    node.close().await;
}
