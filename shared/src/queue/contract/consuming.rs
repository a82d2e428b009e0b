//! At least once, ordered by key, counted by cause, tenants apart.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{
    ACK_WAIT_MS, PATIENCE_MS, QueueFixture, nothing, open, publish, settle, spec, take, take_of,
    task, tenant, text, texts,
};
use crate::ids::PlatformName;
use crate::message::Priority;
use crate::queue::{Cause, Consumer, Publication};
use crate::subject::{Stream, Subject};

/// Every field arrives.
pub async fn what_was_published_is_delivered_as_it_was(fixture: &mut impl QueueFixture) {
    let sent = task(&tenant("a"), "body").with_header("traceparent", "00-1").ordered_by("k");
    publish(fixture, vec![sent.clone()]).await;
    for _ in 0..2 {
        let consumer = open(fixture, spec(Stream::Tasks, "worker")).await;
        let got = take(&consumer, 1).await;
        let message = &got[0].message;
        assert_eq!(message.subject, sent.subject);
        assert_eq!((message.id, &message.headers), (sent.id, &sent.headers));
        assert_eq!((&message.payload, message.seq), (&sent.payload, 1));
        drop(got);
        // From the disk too.
        drop(consumer);
        fixture.restart().await;
    }
}

/// Acked is done, now and after a restart.
pub async fn an_acked_message_does_not_come_back(fixture: &mut impl QueueFixture) {
    publish(fixture, vec![task(&tenant("a"), "x")]).await;
    let consumer = open(fixture, spec(Stream::Tasks, "worker")).await;
    let got = take(&consumer, 1).await.remove(0);
    settle(&consumer, got).await;
    fixture.pass_ms(ACK_WAIT_MS + 1).await;
    nothing(&consumer).await;
    drop(consumer);
    fixture.restart().await;
    nothing(&open(fixture, spec(Stream::Tasks, "worker")).await).await;
}

/// A silent holder loses it, and that counts.
pub async fn an_unsettled_delivery_comes_back_after_its_ack_wait(fixture: &mut impl QueueFixture) {
    publish(fixture, vec![task(&tenant("a"), "x")]).await;
    let consumer = open(fixture, spec(Stream::Tasks, "worker")).await;
    let silent = take(&consumer, 1).await;
    assert_eq!(silent[0].failures, 0);
    nothing(&consumer).await;
    fixture.pass_ms(ACK_WAIT_MS + 1).await;
    let again = take(&consumer, 1).await;
    assert_eq!(again[0].failures, 1);
}

/// A holder that says it lives keeps it.
pub async fn extending_keeps_a_delivery(fixture: &mut impl QueueFixture) {
    publish(fixture, vec![task(&tenant("a"), "x")]).await;
    let consumer = open(fixture, spec(Stream::Tasks, "worker")).await;
    let held = take(&consumer, 1).await.remove(0);
    for _ in 0..3 {
        fixture.pass_ms(ACK_WAIT_MS / 2 + 1).await;
        held.extend().await.expect("extend");
        nothing(&consumer).await;
    }
    held.ack().await.expect("ack");
    fixture.pass_ms(ACK_WAIT_MS + 1).await;
    nothing(&consumer).await;
}

/// Whoever lost the lease cannot end the next holder's.
pub async fn a_settled_lease_cannot_be_settled_again_by_a_late_holder(
    fixture: &mut impl QueueFixture,
) {
    let t = tenant("a");
    let batch = vec![task(&t, "1").ordered_by("k"), task(&t, "2").ordered_by("k")];
    publish(fixture, batch).await;
    let consumer = open(fixture, spec(Stream::Tasks, "worker")).await;
    let late = take(&consumer, 1).await.remove(0);
    fixture.pass_ms(ACK_WAIT_MS + 1).await;
    let current = take(&consumer, 1).await.remove(0);
    assert_eq!(text(&current), "1");
    assert!(late.extend().await.is_err(), "the lease has ended");
    assert!(late.ack().await.is_err(), "the lease has ended");
    // The key is still taken by the one who holds it now.
    nothing(&consumer).await;
    current.ack().await.expect("ack");
    assert_eq!(texts(&take(&consumer, 1).await), ["2"]);
}

/// Dropping hands back and costs no attempt.
pub async fn a_dropped_delivery_comes_back_uncounted(fixture: &mut impl QueueFixture) {
    publish(fixture, vec![task(&tenant("a"), "x")]).await;
    let consumer = open(fixture, spec(Stream::Tasks, "worker")).await;
    for _ in 0..3 {
        assert_eq!(take(&consumer, 1).await[0].failures, 0);
    }
}

/// Limits and drains cost no attempt.
pub async fn only_failures_count(fixture: &mut impl QueueFixture) {
    publish(fixture, vec![task(&tenant("a"), "x")]).await;
    let consumer = open(fixture, spec(Stream::Tasks, "worker")).await;
    let causes = [Cause::Deferred, Cause::Failed, Cause::Drained, Cause::Failed, Cause::Deferred];
    for (cause, failures) in causes.into_iter().zip([0, 0, 1, 1, 2]) {
        let got = take(&consumer, 1).await.remove(0);
        assert_eq!(got.failures, failures, "before {cause:?}");
        got.nak(0, cause).await.expect("nak");
    }
}

/// A restart does not forget attempts.
pub async fn failures_survive_a_restart(fixture: &mut impl QueueFixture) {
    publish(fixture, vec![task(&tenant("a"), "x")]).await;
    let consumer = open(fixture, spec(Stream::Tasks, "worker")).await;
    let got = take(&consumer, 1).await.remove(0);
    got.nak(0, Cause::Failed).await.expect("nak");
    drop(consumer);
    fixture.restart().await;
    let consumer = open(fixture, spec(Stream::Tasks, "worker")).await;
    assert_eq!(take(&consumer, 1).await[0].failures, 1);
}

/// The delay is kept, for failed and deferred ones.
pub async fn a_nak_waits_for_its_delay(fixture: &mut impl QueueFixture) {
    for cause in [Cause::Failed, Cause::Deferred] {
        publish(fixture, vec![task(&tenant("a"), "x")]).await;
        let consumer = open(fixture, spec(Stream::Tasks, "worker")).await;
        let got = take(&consumer, 1).await.remove(0);
        got.nak(500, cause).await.expect("nak");
        nothing(&consumer).await;
        fixture.pass_ms(501).await;
        take(&consumer, 1).await.remove(0).ack().await.expect("ack");
    }
}

/// Of one key at most one is out, in publish order; other keys do not wait for it.
pub async fn one_key_is_delivered_one_at_a_time_in_order(fixture: &mut impl QueueFixture) {
    const EACH: usize = 20;
    let t = tenant("a");
    for n in 0..EACH {
        let batch = ["x", "y"].map(|k| task(&t, &format!("{k}{n}")).ordered_by(k));
        publish(fixture, batch.to_vec()).await;
    }
    let consumer = open(fixture, spec(Stream::Tasks, "worker")).await;
    let mut next = std::collections::BTreeMap::from([('x', 0), ('y', 0)]);
    let mut done = 0;
    while done < 2 * EACH {
        let Ok(out) = consumer.pull(None, 10, 100).await else { continue };
        let keys: Vec<char> = out.iter().filter_map(|d| text(d).chars().next()).collect();
        assert_eq!(keys.len(), keys.iter().collect::<BTreeSet<_>>().len(), "two of one key");
        for delivery in out {
            let body = text(&delivery);
            let (key, n) = body.split_at(1);
            let key = key.chars().next().expect("one letter");
            let n: usize = n.parse().expect("a number");
            // A lost ack may bring back the one before, never skip one.
            let expected = next.get_mut(&key).expect("x or y");
            assert!(n == *expected || n + 1 == *expected, "{body} but expected {expected}");
            let fresh = n == *expected;
            if fresh {
                *expected += 1;
                done += 1;
            }
            if delivery.ack().await.is_err() && fresh {
                continue;
            }
        }
    }
}

/// What comes back is still the first of its key.
pub async fn a_nak_keeps_its_place_in_its_key(fixture: &mut impl QueueFixture) {
    let t = tenant("a");
    publish(fixture, vec![task(&t, "1").ordered_by("k"), task(&t, "2").ordered_by("k")]).await;
    let consumer = open(fixture, spec(Stream::Tasks, "worker")).await;
    take(&consumer, 1).await.remove(0).nak(500, Cause::Failed).await.expect("nak");
    nothing(&consumer).await;
    fixture.pass_ms(501).await;
    let first = take(&consumer, 1).await.remove(0);
    assert_eq!(text(&first), "1");
    first.ack().await.expect("ack");
    assert_eq!(texts(&take(&consumer, 1).await), ["2"]);
}

/// Critical work goes first within its tenant, behind what its conversation said before.
pub async fn critical_overtakes_but_never_within_its_key(fixture: &mut impl QueueFixture) {
    let t = tenant("a");
    let batch = vec![
        task(&t, "normal"),
        task(&t, "k1").ordered_by("k"),
        task(&t, "k2").ordered_by("k").with_priority(Priority::Critical),
        task(&t, "critical").with_priority(Priority::Critical),
    ];
    publish(fixture, batch).await;
    for restart in [false, true] {
        if restart {
            fixture.restart().await;
        }
        let consumer = open(fixture, spec(Stream::Tasks, "worker")).await;
        let out = take(&consumer, 3).await;
        assert_eq!(texts(&out), ["critical", "normal", "k1"], "after a restart: {restart}");
    }
    let consumer = open(fixture, spec(Stream::Tasks, "worker")).await;
    for delivery in take(&consumer, 3).await {
        delivery.ack().await.expect("ack");
    }
    assert_eq!(texts(&take(&consumer, 1).await), ["k2"]);
}

/// The cap holds for all holders together, and room is used at once.
pub async fn no_more_than_max_ack_pending_are_out(fixture: &mut impl QueueFixture) {
    let t = tenant("a");
    publish(fixture, (0..5).map(|n| task(&t, &n.to_string())).collect()).await;
    let mut few = spec(Stream::Tasks, "worker");
    few.max_ack_pending = 2;
    let consumer = open(fixture, few).await;
    let mut out = consumer.pull(None, 10, 100).await.expect("pull");
    assert_eq!(out.len(), 2);
    nothing(&consumer).await;
    out.remove(0).ack().await.expect("ack");
    assert_eq!(texts(&consumer.pull(None, 10, 100).await.expect("pull")), ["2"]);
}

/// Consumers with different filters share a work queue.
pub async fn filters_split_a_stream(fixture: &mut impl QueueFixture) {
    let t = tenant("a");
    let reply = |platform: PlatformName| {
        let body = platform.to_string();
        let subject = Subject::reply(&t, &platform);
        Publication::new(subject, uuid::Uuid::now_v7(), body)
    };
    let publication = |platform| reply(platform);
    publish(fixture, vec![publication(PlatformName::slack()), publication(PlatformName::chat())])
        .await;
    for name in ["slack", "chat"] {
        let mut filtered = spec(Stream::Replies, &format!("reply-{name}"));
        filtered.rest = Some(name.to_owned());
        let consumer = open(fixture, filtered).await;
        let got = take(&consumer, 1).await.remove(0);
        assert_eq!(text(&got), name);
        got.ack().await.expect("ack");
        nothing(&consumer).await;
    }
    publish(fixture, vec![publication(PlatformName::slack())]).await;
    let mut filtered = spec(Stream::Replies, "reply-chat");
    filtered.rest = Some("chat".to_owned());
    nothing(&open(fixture, filtered).await).await;
}

/// A pull for one tenant sees nothing of another's.
pub async fn tenants_are_pulled_apart(fixture: &mut impl QueueFixture) {
    let (a, b) = (tenant("a"), tenant("b"));
    publish(fixture, vec![task(&a, "a1"), task(&b, "b1"), task(&a, "a2")]).await;
    let consumer = open(fixture, spec(Stream::Tasks, "worker")).await;
    let of_b = take_of(&consumer, Some(&b), 1).await;
    assert_eq!(texts(&of_b), ["b1"]);
    let of_a = take_of(&consumer, Some(&a), 2).await;
    assert_eq!(texts(&of_a), ["a1", "a2"]);
    assert!(of_a.iter().all(|delivery| delivery.message.subject.tenant() == &a));
}

/// One tenant's flood does not stand before another's first message.
pub async fn many_tenants_are_served_in_turn(fixture: &mut impl QueueFixture) {
    let (flood, quiet) = (tenant("flood"), tenant("quiet"));
    publish(fixture, (0..500).map(|n| task(&flood, &n.to_string())).collect()).await;
    publish(fixture, vec![task(&quiet, "q")]).await;
    let consumer = open(fixture, spec(Stream::Tasks, "worker")).await;
    let first = take(&consumer, 10).await;
    assert!(texts(&first).contains(&"q".to_owned()), "{:?}", texts(&first));
}

async fn names(consumer: &std::sync::Arc<dyn Consumer>) -> Option<BTreeSet<String>> {
    let wait = Duration::from_millis(100);
    let named = tokio::time::timeout(wait, consumer.active_tenants()).await.ok()?;
    Some(named.expect("names").iter().map(ToString::to_string).collect())
}

/// Everyone with a backlog first, then only who is new.
pub async fn active_tenants_names_each_once(fixture: &mut impl QueueFixture) {
    let (a, b, c) = (tenant("a"), tenant("b"), tenant("c"));
    publish(fixture, vec![task(&a, "1"), task(&b, "1"), task(&a, "2")]).await;
    let consumer = open(fixture, spec(Stream::Tasks, "worker")).await;
    assert_eq!(names(&consumer).await, Some(BTreeSet::from(["a".into(), "b".into()])));
    assert_eq!(names(&consumer).await, None);
    publish(fixture, vec![task(&a, "3"), task(&c, "1")]).await;
    assert_eq!(names(&consumer).await, Some(BTreeSet::from(["c".into()])));
}

/// New work, due work and room for more name a tenant again.
pub async fn a_tenant_is_named_again_after_a_short_pull(fixture: &mut impl QueueFixture) {
    let a = tenant("a");
    let again = Some(BTreeSet::from(["a".to_owned()]));
    publish(fixture, vec![task(&a, "1")]).await;
    let mut few = spec(Stream::Tasks, "worker");
    few.max_ack_pending = 1;
    let consumer = open(fixture, few).await;
    assert_eq!(names(&consumer).await, again);
    let mut out = consumer.pull(Some(&a), 10, 0).await.expect("pull");
    assert_eq!(names(&consumer).await, None);
    // New work, which one cap keeps back until there is room.
    publish(fixture, vec![task(&a, "2")]).await;
    assert_eq!(names(&consumer).await, again);
    assert!(consumer.pull(Some(&a), 10, 0).await.expect("pull").is_empty());
    assert_eq!(names(&consumer).await, None);
    out.remove(0).ack().await.expect("ack");
    assert_eq!(names(&consumer).await, again);
    // Due work.
    let mut out = consumer.pull(Some(&a), 10, 0).await.expect("pull");
    assert_eq!(texts(&out), ["2"]);
    out.remove(0).nak(500, Cause::Deferred).await.expect("nak");
    assert_eq!(names(&consumer).await, None);
    fixture.pass_ms(501).await;
    assert_eq!(names(&consumer).await, again);
}

/// A pull that finds nothing waits, and returns as soon as there is something.
pub async fn pull_waits_for_the_first(fixture: &mut impl QueueFixture) {
    let consumer = open(fixture, spec(Stream::Tasks, "worker")).await;
    let fixture = &*fixture;
    let begun = tokio::time::Instant::now();
    let (pulled, _) = tokio::join!(consumer.pull(None, 10, PATIENCE_MS), async {
        publish(fixture, vec![task(&tenant("a"), "x")]).await
    });
    assert_eq!(texts(&pulled.expect("pull")), ["x"]);
    assert!(begun.elapsed() < Duration::from_millis(PATIENCE_MS / 2));
}

/// Everything that waited or was out is there after a restart, in order, uncounted.
pub async fn unacked_messages_survive_a_restart(fixture: &mut impl QueueFixture) {
    let t = tenant("a");
    publish(fixture, (0..20).map(|n| task(&t, &n.to_string())).collect()).await;
    let consumer = open(fixture, spec(Stream::Tasks, "worker")).await;
    let mut out = take(&consumer, 10).await;
    let acked = out.remove(3);
    settle(&consumer, acked).await;
    drop((out, consumer));
    fixture.restart().await;
    let consumer = open(fixture, spec(Stream::Tasks, "worker")).await;
    let expected: Vec<String> = (0..20).filter(|n| *n != 3).map(|n| n.to_string()).collect();
    let out = take(&consumer, 19).await;
    assert_eq!(texts(&out), expected);
    assert!(out.iter().all(|delivery| delivery.failures == 0));
}
