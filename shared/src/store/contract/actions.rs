//! Held actions: votes, decisions, one start, one end.

use futures_util::future::join_all;
use uuid::Uuid;

use super::{NOW_MS, StoreFixture, action_id, address, approved, held, settlement, tenant, vote};
use crate::action::{ApprovalStatus, Choice};
use crate::ids::FlowName;
use crate::message::Priority;
use crate::queue::Publication;
use crate::store::{ActionEnd, ActionStart, ApprovalFilter};
use crate::subject::Subject;

/// A redelivered hold changes nothing.
pub async fn a_held_action_is_stored_once(fixture: &mut impl StoreFixture) {
    let (t, store) = (tenant("a"), fixture.store());
    let first = held(&t, action_id(1));
    assert!(store.hold(&first).await.expect("hold"));
    let mut second = first.clone();
    second.rule = "another".to_owned();
    assert!(!store.hold(&second).await.expect("hold"));
    let stored = store.approval(&t, first.id).await.expect("get").expect("it is there");
    assert_eq!((stored.action, stored.status), (first, ApprovalStatus::Pending));
    assert_eq!(store.approval(&t, action_id(2)).await.expect("get"), None);
}

/// One entry a person, in the place of the earlier one; a late older vote does not count.
pub async fn the_latest_vote_of_a_person_counts(fixture: &mut impl StoreFixture) {
    let (t, store, id) = (tenant("a"), fixture.store(), action_id(1));
    store.hold(&held(&t, id)).await.expect("hold");
    let cast = [
        vote("U1", Choice::Approve, 10),
        vote("U2", Choice::Deny, 11),
        vote("U1", Choice::Withdraw, 12),
        vote("U1", Choice::Approve, 9),
    ];
    let mut votes = Vec::new();
    for vote in &cast {
        let approval = store.record_vote(&t, id, vote).await.expect("vote");
        votes = approval.expect("it is pending").votes;
    }
    assert_eq!(votes, [cast[2].clone(), cast[1].clone()]);
}

/// Afterwards nobody's vote changes anything.
pub async fn votes_are_taken_only_while_pending(fixture: &mut impl StoreFixture) {
    let (t, store) = (tenant("a"), fixture.store());
    let action = approved(&store, &t, action_id(1)).await;
    let late = vote("U2", Choice::Deny, 99);
    assert_eq!(store.record_vote(&t, action.id, &late).await.expect("vote"), None);
    assert_eq!(store.record_vote(&t, action_id(2), &late).await.expect("vote"), None);
    let stored = store.approval(&t, action.id).await.expect("get").expect("it is there");
    assert!(stored.votes.is_empty());
}

/// The second settlement is refused, and its outbox with it.
pub async fn settling_happens_once_with_its_outbox(fixture: &mut impl StoreFixture) {
    let (t, id) = (tenant("a"), action_id(1));
    fixture.store().hold(&held(&t, id)).await.expect("hold");
    let flow = FlowName::new("flow").expect("a name");
    let publication = Publication::new(Subject::task(&t, &flow), Uuid::from_u128(9), "decision")
        .ordered_by("k")
        .with_priority(Priority::Critical)
        .with_header("traceparent", "00");
    let mut settlement = settlement(ApprovalStatus::Approved);
    settlement.outbox.push(publication.clone());
    assert!(fixture.store().settle(&t, id, &settlement).await.expect("settle"));
    assert!(!fixture.store().settle(&t, id, &settlement).await.expect("settle"));
    fixture.restart().await;
    let store = fixture.store();
    let stored = store.approval(&t, id).await.expect("get").expect("it is there");
    assert_eq!((stored.status, stored.decided_at_ms), (ApprovalStatus::Approved, Some(NOW_MS)));
    let outbox = store.outbox(10).await.expect("outbox");
    assert_eq!(outbox.len(), 1);
    let read = &outbox[0].publication;
    assert_eq!((&read.subject, read.id), (&publication.subject, publication.id));
    assert_eq!((&read.headers, &read.payload), (&publication.headers, &publication.payload));
    assert_eq!(read.ordering_key, publication.ordering_key);
    assert_eq!(read.priority, publication.priority);
    store.outbox_done(&[outbox[0].seq]).await.expect("done");
    assert!(store.outbox(10).await.expect("outbox").is_empty());
}

/// Of many at once exactly one settles, and one outbox is written.
pub async fn concurrent_settlements_settle_once(fixture: &mut impl StoreFixture) {
    let (t, store, id) = (tenant("a"), fixture.store(), action_id(1));
    store.hold(&held(&t, id)).await.expect("hold");
    let decisions = (0..50_u128).map(|n| {
        let status = if n % 2 == 0 { ApprovalStatus::Approved } else { ApprovalStatus::Denied };
        let mut settlement = settlement(status);
        settlement.outbox.push(Publication::new(Subject::action(&t), Uuid::from_u128(n), "x"));
        let (store, t) = (store.clone(), t.clone());
        async move { store.settle(&t, id, &settlement).await.expect("settle") }
    });
    let first = join_all(decisions).await.into_iter().filter(|settled| *settled).count();
    assert_eq!(first, 1);
    assert_eq!(store.outbox(100).await.expect("outbox").len(), 1);
}

/// Expired and decided ones are told apart; the earliest expiry is known.
pub async fn overdue_is_what_is_pending_and_over(fixture: &mut impl StoreFixture) {
    let (t, store) = (tenant("a"), fixture.store());
    assert_eq!(store.next_expiry().await.expect("next"), None);
    for n in 1..=3 {
        let mut action = held(&t, action_id(n));
        action.expires_at_ms = NOW_MS + u64::try_from(n).expect("small") * 1_000;
        store.hold(&action).await.expect("hold");
    }
    let denied = settlement(ApprovalStatus::Denied);
    store.settle(&t, action_id(1), &denied).await.expect("settle");
    assert_eq!(store.next_expiry().await.expect("next"), Some(NOW_MS + 2_000));
    for (at, expected) in [(1_999, vec![]), (2_000, vec![2]), (9_000, vec![2, 3])] {
        let overdue = store.overdue(NOW_MS + at, 10).await.expect("overdue");
        let found: Vec<_> = overdue.iter().map(|approval| approval.action.id).collect();
        assert_eq!(found, expected.into_iter().map(action_id).collect::<Vec<_>>(), "at {at}");
    }
    assert_eq!(store.overdue(NOW_MS + 9_000, 1).await.expect("overdue").len(), 1);
}

/// One start for one decision, however many ask.
pub async fn an_action_starts_once(fixture: &mut impl StoreFixture) {
    let (t, store) = (tenant("a"), fixture.store());
    let action = approved(&store, &t, action_id(1)).await;
    let starts = (0..20).map(|_| store.start_action(&t, action.id, &action.digest));
    let starts = join_all(starts).await;
    let fresh = starts.iter().filter(|start| matches!(start, Ok(ActionStart::Fresh))).count();
    assert_eq!(fresh, 1);
}

/// Neither pending nor denied nor under another digest.
pub async fn an_unapproved_or_changed_action_never_starts(fixture: &mut impl StoreFixture) {
    let (t, store) = (tenant("a"), fixture.store());
    let pending = held(&t, action_id(1));
    store.hold(&pending).await.expect("hold");
    let denied = held(&t, action_id(2));
    store.hold(&denied).await.expect("hold");
    let settled = store.settle(&t, denied.id, &settlement(ApprovalStatus::Denied)).await;
    assert!(settled.expect("settle"));
    let good = approved(&store, &t, action_id(3)).await;
    let cases = [
        (pending.id, pending.digest.as_str()),
        (denied.id, denied.digest.as_str()),
        (good.id, "another digest"),
        (action_id(4), good.digest.as_str()),
    ];
    for (id, digest) in cases {
        let start = store.start_action(&t, id, digest).await.expect("start");
        assert_eq!(start, ActionStart::NotApproved, "{id}");
    }
    let start = store.start_action(&t, good.id, &good.digest).await.expect("start");
    assert_eq!(start, ActionStart::Fresh, "a wrong digest must not use the approval up");
}

/// A crash between start and end leaves it uncertain; only its end can change that.
pub async fn a_start_without_an_end_is_uncertain_for_ever(fixture: &mut impl StoreFixture) {
    let t = tenant("a");
    let action = approved(&fixture.store(), &t, action_id(1)).await;
    let mut expected = ActionStart::Fresh;
    for _ in 0..3 {
        let store = fixture.store();
        let start = store.start_action(&t, action.id, &action.digest).await.expect("start");
        assert_eq!(start, expected);
        expected = ActionStart::Uncertain;
        drop(store);
        fixture.restart().await;
    }
    let stored = fixture.store().approval(&t, action.id).await.expect("get").expect("there");
    assert_eq!(stored.status, ApprovalStatus::Uncertain);
}

/// Whoever asks after the end is told it.
pub async fn an_ended_action_tells_how(fixture: &mut impl StoreFixture) {
    let (t, store) = (tenant("a"), fixture.store());
    let action = approved(&store, &t, action_id(1)).await;
    store.start_action(&t, action.id, &action.digest).await.expect("start");
    let end = ActionEnd { status: ApprovalStatus::Executed, outcome: "deleted".to_owned() };
    store.finish_action(&t, action.id, &end).await.expect("finish");
    let late = ActionEnd { status: ApprovalStatus::Failed, outcome: "late".to_owned() };
    store.finish_action(&t, action.id, &late).await.expect("finish");
    let start = store.start_action(&t, action.id, &action.digest).await.expect("start");
    assert_eq!(start, ActionStart::Ended(end));
    let stored = store.approval(&t, action.id).await.expect("get").expect("it is there");
    assert_eq!(stored.outcome.as_deref(), Some("deleted"));
}

/// By place and message; the thread does not matter.
pub async fn an_approval_is_found_by_its_post(fixture: &mut impl StoreFixture) {
    let (t, store) = (tenant("a"), fixture.store());
    let mut at = address(&t);
    store.hold(&held(&t, action_id(1))).await.expect("hold");
    store.set_posted(&t, action_id(1), &at, "1.1").await.expect("posted");
    at.thread = Some("0.9".to_owned());
    let found = store.approval_posted_as(&at, "1.1").await.expect("get").expect("it is there");
    assert_eq!((found.action.id, found.posted.as_deref()), (action_id(1), Some("1.1")));
    assert_eq!(store.approval_posted_as(&at, "1.2").await.expect("get"), None);
    at.channel = "C2".to_owned();
    assert_eq!(store.approval_posted_as(&at, "1.1").await.expect("get"), None);
}

/// Newest first, by status, not more than asked for.
pub async fn listings_are_newest_first_and_bounded(fixture: &mut impl StoreFixture) {
    let (t, store) = (tenant("a"), fixture.store());
    for n in 1..=4 {
        store.hold(&held(&t, action_id(n))).await.expect("hold");
    }
    let denied = settlement(ApprovalStatus::Denied);
    store.settle(&t, action_id(3), &denied).await.expect("settle");
    let cases = [
        (None, 10, vec![4, 3, 2, 1]),
        (None, 2, vec![4, 3]),
        (Some(ApprovalStatus::Pending), 10, vec![4, 2, 1]),
        (Some(ApprovalStatus::Denied), 10, vec![3]),
    ];
    for (status, limit, expected) in cases {
        let listed = store.approvals(&t, &ApprovalFilter { status, limit }).await.expect("list");
        let ids: Vec<_> = listed.iter().map(|approval| approval.action.id).collect();
        assert_eq!(ids, expected.into_iter().map(action_id).collect::<Vec<_>>());
    }
}
