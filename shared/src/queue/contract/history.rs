//! History, removal, backlogs, signals.

use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::{
    MAX_TRIES, PATIENCE_MS, QueueFixture, event, nothing, open, publish, settle, spec, take, task,
    tenant, text,
};
use crate::ids::{MessageId, PlatformName, TenantId};
use crate::queue::{Publication, ReadRange, Stored};
use crate::subject::{LiveSubject, Stream, Subject};

async fn read(fixture: &impl QueueFixture, range: ReadRange) -> Vec<String> {
    for _ in 0..MAX_TRIES {
        if let Ok(found) = fixture.queue().read(Stream::Events, range.clone(), 100, 0).await {
            return found.iter().map(body).collect();
        }
    }
    panic!("could not read in {MAX_TRIES} tries")
}

fn body(stored: &Stored) -> String {
    String::from_utf8_lossy(&stored.payload).into_owned()
}

fn inbound(tenant: &TenantId, body: &str) -> Publication {
    let subject = Subject::inbound(tenant, &PlatformName::slack());
    Publication::new(subject, Uuid::now_v7(), body.to_owned())
}

/// Acking moves a consumer on and takes nothing from history.
pub async fn a_history_stream_keeps_what_is_acked(fixture: &mut impl QueueFixture) {
    let t = tenant("a");
    publish(fixture, vec![inbound(&t, "x")]).await;
    let consumer = open(fixture, spec(Stream::Inbound, "router")).await;
    take(&consumer, 1).await.remove(0).ack().await.expect("ack");
    nothing(&consumer).await;
    let range = ReadRange { tenant: Some(t), ..ReadRange::default() };
    let stored = fixture.queue().read(Stream::Inbound, range, 10, 0).await.expect("read");
    assert_eq!(stored.iter().map(body).collect::<Vec<_>>(), ["x"]);
    // Another consumer begins at the beginning.
    let other = open(fixture, spec(Stream::Inbound, "other")).await;
    assert_eq!(text(&take(&other, 1).await[0]), "x");
}

/// Acks in any order are remembered, each one.
pub async fn a_consumer_goes_on_where_it_was(fixture: &mut impl QueueFixture) {
    let t = tenant("a");
    publish(fixture, (0..30).map(|n| inbound(&t, &n.to_string())).collect()).await;
    let consumer = open(fixture, spec(Stream::Inbound, "router")).await;
    let mut kept = Vec::new();
    for (n, delivery) in take(&consumer, 30).await.into_iter().enumerate().rev() {
        if n % 3 == 1 {
            kept.push(delivery);
        } else {
            settle(&consumer, delivery).await;
        }
    }
    drop((kept, consumer));
    fixture.restart().await;
    let consumer = open(fixture, spec(Stream::Inbound, "router")).await;
    let mut left: Vec<usize> = Vec::new();
    for delivery in take(&consumer, 10).await {
        left.push(text(&delivery).parse().expect("a number"));
        settle(&consumer, delivery).await;
    }
    left.sort_unstable();
    assert_eq!(left, (0..30).filter(|n| n % 3 == 1).collect::<Vec<_>>());
    nothing(&consumer).await;
}

/// The wall holds in both directions.
pub async fn read_sees_one_tenant_only(fixture: &mut impl QueueFixture) {
    let (a, b) = (tenant("a"), tenant("b"));
    let batch = vec![
        event(&a, "run.started", "a1"),
        event(&b, "run.started", "b1"),
        event(&a, "run.step", "a2"),
    ];
    publish(fixture, batch).await;
    for (tenant, expected) in [(&a, vec!["a1", "a2"]), (&b, vec!["b1"])] {
        let range = ReadRange { tenant: Some(tenant.clone()), ..ReadRange::default() };
        assert_eq!(read(fixture, range).await, expected);
    }
    assert_eq!(read(fixture, ReadRange::default()).await, ["a1", "b1", "a2"]);
}

/// Every part of a range counts.
pub async fn read_selects_by_rest_and_time(fixture: &mut impl QueueFixture) {
    let t = tenant("a");
    for (kind, text) in [("run.started", "0"), ("run.step", "1"), ("run.completed", "2")] {
        publish(fixture, vec![event(&t, kind, text)]).await;
        fixture.pass_ms(100).await;
    }
    let stored =
        fixture.queue().read(Stream::Events, ReadRange::default(), 10, 0).await.expect("read");
    let at = |n: usize| Some(stored[n].published_at_ms);
    let rests = vec!["run.step".to_owned(), "run.completed".to_owned()];
    let cases = [
        (ReadRange { rests, ..ReadRange::default() }, vec!["1", "2"]),
        (ReadRange { after_seq: stored[0].seq, ..ReadRange::default() }, vec!["1", "2"]),
        (ReadRange { from_ms: at(1), ..ReadRange::default() }, vec!["1", "2"]),
        (ReadRange { to_ms: at(1), ..ReadRange::default() }, vec!["0"]),
        (ReadRange { from_ms: at(1), to_ms: at(2), ..ReadRange::default() }, vec!["1"]),
        (ReadRange { from_ms: at(2).map(|t| t + 1), ..ReadRange::default() }, vec![]),
    ];
    for (range, expected) in cases {
        assert_eq!(read(fixture, range.clone()).await, expected, "{range:?}");
    }
}

/// A reader that is at the end waits for what comes.
pub async fn read_waits_for_the_first(fixture: &mut impl QueueFixture) {
    let t = tenant("a");
    let fixture = &*fixture;
    let queue = fixture.queue();
    let range = ReadRange { tenant: Some(t.clone()), ..ReadRange::default() };
    let (found, _) = tokio::join!(queue.read(Stream::Events, range, 10, PATIENCE_MS), async {
        publish(fixture, vec![event(&tenant("b"), "run.step", "other")]).await;
        publish(fixture, vec![event(&t, "run.step", "x")]).await
    });
    assert_eq!(found.expect("read").iter().map(body).collect::<Vec<_>>(), ["x"]);
}

/// Only its owner takes a message out, once.
pub async fn removed_messages_are_gone_for_their_tenant_only(fixture: &mut impl QueueFixture) {
    let (a, b) = (tenant("a"), tenant("b"));
    let dead = Publication::new(Subject::dead(&a, "worker"), Uuid::now_v7(), "x");
    let seq = publish(fixture, vec![dead]).await[0].seq;
    let queue = fixture.queue();
    for (who, expected) in [(&b, false), (&a, true), (&a, false)] {
        let removed = queue.remove(Stream::Dead, who, seq).await.expect("remove");
        assert_eq!(removed, expected, "by {who}");
    }
}

/// Waiting, out and delayed ones count; settled ones do not.
pub async fn backlog_counts_what_is_not_settled(fixture: &mut impl QueueFixture) {
    let (a, b) = (tenant("a"), tenant("b"));
    publish(fixture, vec![inbound(&a, "a1"), inbound(&b, "b1")]).await;
    publish(fixture, vec![task(&a, "1"), task(&a, "2").ordered_by("k")]).await;
    fixture.pass_ms(10).await;
    publish(fixture, vec![task(&a, "3").ordered_by("k"), task(&b, "4")]).await;
    let count = async |stream| {
        let mut found: Vec<_> = fixture
            .queue()
            .backlog(stream)
            .await
            .expect("backlog")
            .into_iter()
            .map(|backlog| (backlog.tenant.to_string(), backlog.pending))
            .collect();
        found.sort_unstable();
        found
    };
    let pairs = |list: &[(&str, u64)]| {
        list.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect::<Vec<_>>()
    };
    assert_eq!(count(Stream::Tasks).await, pairs(&[("a", 3), ("b", 1)]));
    assert_eq!(count(Stream::Inbound).await, pairs(&[("a", 1), ("b", 1)]));
    let consumer = open(fixture, spec(Stream::Tasks, "worker")).await;
    let mut out = take(&consumer, 3).await;
    assert_eq!(count(Stream::Tasks).await, pairs(&[("a", 3), ("b", 1)]));
    let of_b = out.iter().position(|d| d.message.subject.tenant() == &b).expect("b's");
    out.remove(of_b).ack().await.expect("ack");
    assert_eq!(count(Stream::Tasks).await, pairs(&[("a", 3)]));
    let router = open(fixture, spec(Stream::Inbound, "router")).await;
    take(&router, 2).await.remove(0).ack().await.expect("ack");
    assert_eq!(count(Stream::Inbound).await.len(), 1);
}

/// Signals go to those who listen, and to nobody later.
pub async fn signals_reach_who_listens_now(fixture: &mut impl QueueFixture) {
    let live = fixture.live();
    let subject = LiveSubject::answer(&tenant("a"), MessageId(Uuid::nil()));
    let other = LiveSubject::answer(&tenant("b"), MessageId(Uuid::nil()));
    live.send(&subject, Bytes::from_static(b"too early")).await;
    let mut one = live.listen(&subject).await.expect("listen");
    let mut two = live.listen(&subject).await.expect("listen");
    let mut foreign = live.listen(&other).await.expect("listen");
    live.send(&subject, Bytes::from_static(b"now")).await;
    let wait = Duration::from_millis(PATIENCE_MS);
    for listener in [&mut one, &mut two] {
        let heard = tokio::time::timeout(wait, listener.next()).await.expect("a signal");
        assert_eq!(heard, Some(Bytes::from_static(b"now")));
    }
    let short = Duration::from_millis(50);
    assert!(tokio::time::timeout(short, foreign.next()).await.is_err(), "another's signal");
}
