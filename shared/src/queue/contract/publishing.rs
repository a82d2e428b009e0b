//! Durable, deduplicated, atomic.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use uuid::Uuid;

use super::{QueueFixture, event, publish, task, tenant};
use crate::queue::{Publication, QueueError, ReadRange};
use crate::subject::{Stream, Subject};

/// A receipt outlives the process.
pub async fn receipts_survive_a_restart(fixture: &mut impl QueueFixture) {
    let t = tenant("a");
    let batch: Vec<_> = (0..50).map(|n| task(&t, &n.to_string())).collect();
    let receipts = publish(fixture, batch.clone()).await;
    fixture.restart().await;
    let again = publish(fixture, batch).await;
    for (first, second) in receipts.iter().zip(&again) {
        assert_eq!((second.seq, second.duplicate), (first.seq, true));
    }
}

/// The second publication of an id names the first one's place.
pub async fn an_id_is_stored_once(fixture: &mut impl QueueFixture) {
    let first = task(&tenant("a"), "x");
    let stored = publish(fixture, vec![first.clone()]).await;
    publish(fixture, vec![task(&tenant("a"), "y")]).await;
    let again = publish(fixture, vec![first]).await;
    assert_eq!((again[0].seq, again[0].duplicate), (stored[0].seq, true));
    assert_eq!(fixture.queue().bounds(Stream::Tasks).await.expect("bounds").1, stored[0].seq + 1);
}

/// Dedupe ids belong to a stream.
pub async fn an_id_in_two_streams_is_two_messages(fixture: &mut impl QueueFixture) {
    let t = tenant("a");
    let one = task(&t, "x");
    let two = Publication::new(Subject::event(&t, "run.started"), one.id, "x");
    let receipts = publish(fixture, vec![one, two]).await;
    assert!(receipts.iter().all(|receipt| !receipt.duplicate), "{receipts:?}");
}

/// One id twice in a batch is one message.
pub async fn duplicates_within_a_batch_are_stored_once(fixture: &mut impl QueueFixture) {
    let one = task(&tenant("a"), "x");
    let receipts = publish(fixture, vec![one.clone(), one]).await;
    assert_eq!(receipts[0].seq, receipts[1].seq);
    assert_eq!(receipts.iter().filter(|receipt| receipt.duplicate).count(), 1);
}

/// What no stream takes leaves nothing of its batch behind.
pub async fn a_batch_over_the_size_limit_is_refused_whole(fixture: &mut impl QueueFixture) {
    let t = tenant("a");
    let small = task(&t, "small");
    let mut large = task(&t, "");
    large.payload = vec![0; (4 << 20) + 1].into();
    let refused = fixture.queue().publish(vec![small, large]).await;
    assert!(matches!(refused, Err(QueueError::TooLarge { .. })), "{refused:?}");
    assert_eq!(fixture.queue().bounds(Stream::Tasks).await.expect("bounds"), (0, 0));
}

/// Nobody overwrites anybody, and no position is left out on a history stream.
pub async fn concurrent_publishers_get_distinct_positions(fixture: &mut impl QueueFixture) {
    const PUBLISHERS: usize = 100;
    let t = tenant("a");
    let fixture = &*fixture;
    let publishers =
        (0..PUBLISHERS).map(|n| publish(fixture, vec![event(&t, "run.step", &n.to_string())]));
    let receipts = join_all(publishers).await;
    let places: BTreeSet<u64> = receipts.iter().map(|receipt| receipt[0].seq).collect();
    assert_eq!(places.len(), PUBLISHERS);
    let range = ReadRange { tenant: Some(t), ..ReadRange::default() };
    let stored = loop {
        if let Ok(stored) = fixture.queue().read(Stream::Events, range.clone(), 1_000, 0).await {
            break stored;
        }
    };
    assert_eq!(stored.iter().map(|message| message.seq).collect::<BTreeSet<_>>(), places);
}

/// Positions grow for ever, also when the stream was emptied and restarted.
pub async fn sequence_numbers_are_never_used_again(fixture: &mut impl QueueFixture) {
    let t = tenant("a");
    let dead = || Publication::new(Subject::dead(&t, "worker"), Uuid::now_v7(), "x");
    let first = publish(fixture, vec![dead()]).await[0].seq;
    let removed = fixture.queue().remove(Stream::Dead, &t, first).await.expect("remove");
    assert!(removed);
    fixture.restart().await;
    let second = publish(fixture, vec![dead()]).await[0].seq;
    assert!(second > first, "{second} after {first}");
}
