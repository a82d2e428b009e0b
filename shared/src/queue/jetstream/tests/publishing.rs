//! Receipts and refusals beyond the contract.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use super::{FLOOR, NEWEST, Node, SYNCED, options};
use crate::queue::contract::{event, task, tenant};
use crate::queue::jetstream::{Caps, JetStreamOptions};
use crate::queue::{QueueError, ReadRange};
use crate::subject::Stream;

#[tokio::test]
async fn a_batch_with_some_known_ids_stores_the_others() {
    for server in [&FLOOR, &NEWEST, &SYNCED] {
        let node = Node::open(options(server)).await;
        let t = tenant("a");
        let batch: Vec<_> = (0..5).map(|n| event(&t, "run.step", &n.to_string())).collect();
        let known = node.queue.publish(vec![batch[2].clone()]).await.expect("publish")[0];
        let receipts = node.queue.publish(batch.clone()).await.expect("publish");
        assert_eq!((receipts[2].seq, receipts[2].duplicate), (known.seq, true));
        let fresh = receipts.iter().filter(|receipt| !receipt.duplicate).count();
        assert_eq!(fresh, 4, "{receipts:?}");
        let again = node.queue.publish(batch).await.expect("publish");
        assert!(again.iter().all(|receipt| receipt.duplicate));
        assert!(again.iter().zip(&receipts).all(|(again, first)| again.seq == first.seq));
        let stored = node.queue.read(Stream::Events, ReadRange::default(), 100, 0).await;
        assert_eq!(stored.expect("read").len(), 5);
        node.close().await;
    }
}

#[tokio::test]
async fn one_caller_s_duplicate_does_not_keep_out_who_shares_its_batch() {
    const CALLERS: usize = 200;
    let node = Node::open(options(&SYNCED)).await;
    let t = tenant("a");
    let known = event(&t, "run.step", "known");
    let first = node.queue.publish(vec![known.clone()]).await.expect("publish")[0];
    let calls = (0..CALLERS).map(|n| {
        let batch = match n % 10 {
            0 => vec![known.clone()],
            1 => vec![event(&t, "run.step", "two"), event(&t, "run.step", "of them")],
            _ => vec![event(&t, "run.step", "one")],
        };
        node.queue.publish(batch)
    });
    let mut places = BTreeSet::from([first.seq]);
    for (n, stored) in join_all(calls).await.into_iter().enumerate() {
        for receipt in stored.expect("publish") {
            assert_eq!(receipt.duplicate, n % 10 == 0);
            assert!(places.insert(receipt.seq) || receipt.seq == first.seq);
        }
    }
    let stored = node.queue.read(Stream::Events, ReadRange::default(), 1_000, 0).await;
    let stored: BTreeSet<u64> = stored.expect("read").iter().map(|message| message.seq).collect();
    assert_eq!(stored, places);
    node.close().await;
}

#[tokio::test]
async fn a_full_stream_refuses_and_keeps_what_it_has() {
    for server in [&FLOOR, &NEWEST, &SYNCED] {
        let caps = Caps { max_stream_messages: 3, ..Caps::default() };
        let node = Node::open(JetStreamOptions { caps, ..options(server) }).await;
        let t = tenant("a");
        for n in 0..3 {
            node.queue.publish(vec![task(&t, &n.to_string())]).await.expect("publish");
        }
        let refused = node.queue.publish(vec![task(&t, "4")]).await;
        assert!(matches!(refused, Err(QueueError::Full { stream: Stream::Tasks })), "{refused:?}");
        // Another stream takes its part, so that nobody may say that nothing happened.
        let both = vec![task(&t, "5"), event(&t, "run.step", "5")];
        let refused = node.queue.publish(both).await;
        assert!(matches!(refused, Err(QueueError::Unconfirmed { .. })), "{refused:?}");
        assert_eq!(node.queue.bounds(Stream::Tasks).await.expect("bounds"), (1, 3));
        node.close().await;
    }
}

#[tokio::test]
async fn a_batch_for_a_full_stream_is_refused_whole() {
    for server in [&NEWEST, &SYNCED] {
        let caps = Caps { max_stream_messages: 3, ..Caps::default() };
        let node = Node::open(JetStreamOptions { caps, ..options(server) }).await;
        let t = tenant("a");
        let batch = |count: usize| (0..count).map(|n| task(&t, &n.to_string())).collect();
        node.queue.publish(batch(2)).await.expect("publish");
        let refused = node.queue.publish(batch(2)).await;
        assert!(matches!(refused, Err(QueueError::Full { .. })), "{refused:?}");
        assert_eq!(node.queue.bounds(Stream::Tasks).await.expect("bounds"), (1, 2));
        node.close().await;
    }
}

#[tokio::test]
async fn what_the_server_takes_no_message_of_is_too_large() {
    let node = Node::open(options(&NEWEST)).await;
    let mut large = task(&tenant("a"), "");
    // Our own cap is 4 MiB, a server's that was given no other is 1 MiB.
    large.payload = vec![0; 2 << 20].into();
    let refused = node.queue.publish(vec![large]).await;
    assert!(matches!(refused, Err(QueueError::TooLarge { max_bytes, .. }) if max_bytes == 1 << 20));
    node.close().await;
}
