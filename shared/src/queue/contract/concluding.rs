//! A batch and the acks of what led to it.

use super::{ACK_WAIT_MS, QueueFixture, nothing, open, publish, spec, take, task, tenant, texts};
use crate::queue::{Publication, QueueError, ReadRange, Unconcluded};
use crate::subject::{Stream, Subject};

/// Larger than any queue takes in one message.
const TOO_LARGE_BYTES: usize = 5 << 20;

/// Stored and acked, now and after a restart; the next of the key follows.
pub async fn what_is_concluded_is_stored_and_acked(fixture: &mut impl QueueFixture) {
    let t = tenant("a");
    let batch = ["1", "2"].map(|text| task(&t, text).ordered_by("k")).to_vec();
    publish(fixture, batch).await;
    let consumer = open(fixture, spec(Stream::Tasks, "worker")).await;
    let first = take(&consumer, 1).await;
    let led_to = Publication::new(Subject::action(&t), uuid::Uuid::now_v7(), "led to".to_owned());
    fixture.queue().conclude(vec![led_to], first).await.expect("concluded");
    let second = take(&consumer, 1).await;
    assert_eq!(texts(&second), ["2"]);
    fixture.queue().conclude(Vec::new(), second).await.expect("concluded");
    fixture.pass_ms(ACK_WAIT_MS + 1).await;
    nothing(&consumer).await;
    drop(consumer);
    fixture.restart().await;
    nothing(&open(fixture, spec(Stream::Tasks, "worker")).await).await;
    let range = ReadRange::default();
    let stored = fixture.queue().read(Stream::Actions, range, 10, 0).await.expect("read");
    assert_eq!(stored.len(), 1);
    assert_eq!(&stored[0].payload[..], b"led to");
}

/// A batch that is refused leaves its deliveries with their holder.
pub async fn a_refused_conclusion_keeps_its_deliveries(fixture: &mut impl QueueFixture) {
    let t = tenant("a");
    publish(fixture, vec![task(&t, "x")]).await;
    let consumer = open(fixture, spec(Stream::Tasks, "worker")).await;
    let held = take(&consumer, 1).await;
    let large = task(&t, &"x".repeat(TOO_LARGE_BYTES));
    let refused = fixture.queue().conclude(vec![large], held).await;
    let Err(Unconcluded { error: QueueError::TooLarge { .. }, mut deliveries }) = refused else {
        panic!("a message of {TOO_LARGE_BYTES} bytes was not refused as too large")
    };
    nothing(&consumer).await;
    let held = deliveries.pop().expect("it is still held");
    held.extend().await.expect("extend");
    held.ack().await.expect("ack");
    fixture.pass_ms(ACK_WAIT_MS + 1).await;
    nothing(&consumer).await;
}

/// Nobody concludes with a delivery that another has; what was stored stays.
pub async fn a_late_conclusion_stores_its_batch_only(fixture: &mut impl QueueFixture) {
    let t = tenant("a");
    publish(fixture, vec![task(&t, "x")]).await;
    let consumer = open(fixture, spec(Stream::Tasks, "worker")).await;
    let late = take(&consumer, 1).await;
    fixture.pass_ms(ACK_WAIT_MS + 1).await;
    let again = take(&consumer, 1).await;
    let led_to = Publication::new(Subject::action(&t), uuid::Uuid::now_v7(), "led to".to_owned());
    fixture.queue().conclude(vec![led_to], late).await.expect("stored");
    assert_eq!(again[0].failures, 1);
    again.into_iter().next().expect("one").ack().await.expect("the later holder's ack counts");
    let range = ReadRange::default();
    let stored = fixture.queue().read(Stream::Actions, range, 10, 0).await.expect("read");
    assert_eq!(stored.len(), 1);
}
