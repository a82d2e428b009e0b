//! The log of a consumer whose leaders do not last.

use super::*;
use crate::queue::contract::{spec, task, tenant};
use crate::subject::Stream;

/// Leaders, each gone before it would write a snapshot.
const LEADERS: usize = 5;
/// Acks of each, a record each.
const ACKS: usize = 90;
/// Records between two snapshots, and those of one leader, with room for announcements.
const MOST_RECORDS: u64 = 256 + 2 * ACKS as u64;

#[tokio::test]
async fn a_log_stays_short_however_often_leaders_change() {
    let options = options(&NEWEST);
    let (t, mut most) = (tenant("a"), 0);
    for _ in 0..LEADERS {
        let node = Node::open(options.clone()).await;
        let consumer = node.queue.consumer(spec(Stream::Tasks, "worker")).await.expect("it opens");
        for _ in 0..ACKS {
            node.queue.publish(vec![task(&t, "x")]).await.expect("it is stored");
            let mut pulled = consumer.pull(None, 1, PATIENCE_MS).await.expect("it pulls");
            pulled.pop().expect("what was published").ack().await.expect("it is on record");
        }
        drop(consumer);
        let client = async_nats::connect(NEWEST.url()).await.expect("it connects");
        let streams = async_nats::jetstream::new(client);
        let name = format!("{}_PROGRESS", options.name.to_ascii_uppercase());
        let stream = streams.get_stream(name).await.expect("it is there");
        most = most.max(stream.cached_info().state.messages);
        node.close().await;
    }
    assert!(most > ACKS as u64, "acks were put together: nothing was tried");
    assert!(most <= MOST_RECORDS, "{most} records");
}
