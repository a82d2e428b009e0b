//! Many readers, few consumers; listeners that lag.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::Instant;
use uuid::Uuid;

use super::{FLOOR, NEWEST, Node, PATIENCE_MS, options};
use crate::ids::MessageId;
use crate::queue::contract::{event, task, tenant};
use crate::queue::{Backlog, Publication, ReadRange};
use crate::subject::{LiveSubject, Stream, Subject};

const READERS: usize = 300;

#[tokio::test]
async fn hundreds_of_readers_share_one_feed() {
    let node = Node::open(options(&NEWEST)).await;
    let client = async_nats::connect(node.options.url.expose()).await.expect("a connection");
    let context = async_nats::jetstream::new(client);
    let name = format!("{}_EVENTS", node.options.name.to_uppercase());
    let readers = (0..READERS).map(|n| {
        let (queue, t) = (Arc::clone(&node.queue), tenant(&format!("t{n}")));
        let range = ReadRange { tenant: Some(t), ..ReadRange::default() };
        async move { queue.read(Stream::Events, range, 10, PATIENCE_MS).await }
    });
    let publishing = async {
        let consumers = async || {
            let stream = context.get_stream(&name).await.expect("the stream");
            stream.cached_info().state.consumer_count
        };
        // Each looked once at the server, and then waits at the feed.
        let end = Instant::now() + Duration::from_millis(PATIENCE_MS);
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            if consumers().await == 1 {
                break;
            }
            assert!(Instant::now() < end, "{} consumers", consumers().await);
        }
        for n in 0..READERS {
            let message = event(&tenant(&format!("t{n}")), "run.step", &n.to_string());
            node.queue.publish(vec![message]).await.expect("publish");
        }
        assert_eq!(consumers().await, 1);
    };
    let (found, ()) = tokio::join!(join_all(readers), publishing);
    for (n, found) in found.into_iter().enumerate() {
        let found = found.expect("read");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].payload, n.to_string());
    }
    node.close().await;
}

#[tokio::test]
async fn a_long_history_is_read_in_pages_and_slices() {
    for server in [&FLOOR, &NEWEST] {
        let node = Node::open(options(server)).await;
        let (a, b) = (tenant("a"), tenant("b"));
        for n in 0..30 {
            let batch = (0..50).map(|m| event(&a, "run.step", &format!("{n}/{m}")));
            let rare = [event(&b, "run.failed", "rare")].into_iter().filter(|_| n % 10 == 0);
            node.queue.publish(batch.chain(rare).collect()).await.expect("publish");
        }
        let read = |tenant: &_, after_seq, limit| {
            let range =
                ReadRange { tenant: Some(Clone::clone(tenant)), after_seq, ..ReadRange::default() };
            node.queue.read(Stream::Events, range, limit, 0)
        };
        assert_eq!(read(&b, 0, 100).await.expect("read").len(), 3);
        let all = read(&a, 0, 10_000).await.expect("read");
        assert_eq!(all.len(), 1_500);
        assert!(all.is_sorted_by(|one, two| one.seq < two.seq));
        let part = read(&a, all[699].seq, 600).await.expect("read");
        assert_eq!(
            part.iter().map(|m| m.seq).collect::<Vec<_>>(),
            all[700..1_300].iter().map(|m| m.seq).collect::<Vec<_>>()
        );
        node.close().await;
    }
}

#[tokio::test]
async fn what_nobody_consumes_is_counted_as_stored() {
    let node = Node::open(options(&FLOOR)).await;
    let (a, b) = (tenant("a"), tenant("b"));
    let dead = |t| Publication::new(Subject::dead(t, "worker"), Uuid::now_v7(), "x");
    node.queue.publish(vec![dead(&a), dead(&b), dead(&a)]).await.expect("publish");
    node.queue.publish(vec![task(&a, "x")]).await.expect("publish");
    let read = node.queue.read(Stream::Dead, ReadRange::default(), 10, 0).await.expect("read");
    let mut counted = node.queue.backlog(Stream::Dead).await.expect("backlog");
    counted.sort_unstable_by(|one, two| one.tenant.cmp(&two.tenant));
    let of = |tenant, pending, n: usize| Backlog {
        tenant,
        pending,
        oldest_at_ms: read[n].published_at_ms,
    };
    assert_eq!(counted, [of(a, 2, 0), of(b, 1, 1)]);
    node.close().await;
}

#[tokio::test]
async fn the_last_of_a_stream_is_one_that_is_still_there() {
    let node = Node::open(options(&FLOOR)).await;
    let t = tenant("a");
    let dead = || Publication::new(Subject::dead(&t, "worker"), Uuid::now_v7(), "x");
    node.queue.publish(vec![dead(), dead(), dead()]).await.expect("publish");
    for (gone, bounds) in [(3, (1, 2)), (1, (2, 2)), (2, (0, 0))] {
        assert!(node.queue.remove(Stream::Dead, &t, gone).await.expect("remove"));
        assert_eq!(node.queue.bounds(Stream::Dead).await.expect("bounds"), bounds);
    }
    node.close().await;
}

#[tokio::test]
async fn a_listener_that_lags_loses_the_oldest() {
    const SIGNALS: u32 = 1_000;
    let node = Node::open(options(&NEWEST)).await;
    let subject = LiveSubject::answer(&tenant("a"), MessageId(Uuid::nil()));
    let mut slow = node.live.listen(&subject).await.expect("listen");
    let mut quick = node.live.listen(&subject).await.expect("listen");
    let last = Bytes::from((SIGNALS - 1).to_string());
    let sending = async {
        for n in 0..SIGNALS {
            node.live.send(&subject, Bytes::from(n.to_string())).await;
        }
    };
    let hearing = async { while quick.next().await.expect("a signal") != last {} };
    let wait = Duration::from_millis(PATIENCE_MS);
    tokio::time::timeout(wait, async { tokio::join!(sending, hearing) }).await.expect("in time");
    let first = slow.next().await.expect("a signal");
    assert_ne!(first, "0", "the oldest is lost");
    let to_the_end = async { while slow.next().await.expect("a signal") != last {} };
    tokio::time::timeout(wait, to_the_end).await.expect("the newest is there");
    drop((slow, quick));
    node.close().await;
}
