//! Promises that hold for callers that try again with the same ids until they are answered.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::join_all;
use uuid::Uuid;

use super::records::key;
use super::{
    HOLDER, NOW_MS, StoreFixture, action_id, end, held, memory, run_id, settlement, start, tenant,
    turn, vote,
};
use crate::action::{ApprovalStatus, Choice};
use crate::ids::ReplyId;
use crate::queue::Publication;
use crate::queue::faults::Dice;
use crate::store::faults::FaultyStore;
use crate::store::{ActionStart, ApprovalFilter, RunState, SendState, Store, StoreError};
use crate::subject::Subject;

/// Callers at once.
const CALLERS: usize = 20;
/// Faults are a fifth of the calls; so many in a row do not happen.
const MAX_TRIES: usize = 100;

/// A fixture whose store loses answers.
pub struct UnderFaults<F> {
    inner: F,
    dice: Arc<Dice>,
}

impl<F> UnderFaults<F> {
    /// `inner`, with the faults that `dice` rolls.
    pub fn new(inner: F, dice: Arc<Dice>) -> Self {
        Self { inner, dice }
    }
}

#[async_trait]
impl<F: StoreFixture> StoreFixture for UnderFaults<F> {
    fn store(&self) -> Arc<dyn Store> {
        Arc::new(FaultyStore::new(self.inner.store(), Arc::clone(&self.dice)))
    }

    async fn restart(&mut self) {
        self.inner.restart().await;
    }
}

/// Asks until there is a clear answer.
async fn again<T>(call: impl AsyncFn() -> Result<T, StoreError>) -> T {
    for _ in 0..MAX_TRIES {
        match call().await {
            Ok(answer) => return answer,
            Err(StoreError::Unavailable { .. } | StoreError::Unconfirmed { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("no clear answer in {MAX_TRIES} attempts")
}

/// A lost answer may hide the one begin; there is never a second.
pub async fn a_retried_begin_begins_at_most_once(fixture: &mut impl StoreFixture) {
    let (t, store) = (tenant("a"), fixture.store());
    let begun = start(&t, run_id(1));
    let begins = (0..CALLERS).map(|_| again(async || store.begin_run(&begun, HOLDER).await));
    let states = join_all(begins).await;
    let new = states.iter().filter(|state| **state == RunState::Begun).count();
    assert!(new <= 1, "{new} began");
    let stored = again(async || store.run(&t, begun.run).await).await;
    assert_eq!(stored, Some((begun, RunState::Resumed { checkpoint: None })));
}

/// One end, and its turns once.
pub async fn a_retried_end_is_written_once(fixture: &mut impl StoreFixture) {
    let (t, store) = (tenant("a"), fixture.store());
    let (run, key, turns) = (run_id(1), memory(&t), [turn("q"), turn("a")]);
    again(async || store.begin_run(&start(&t, run), HOLDER).await).await;
    let ends = (0..CALLERS)
        .map(|_| again(async || store.finish_run(&t, run, &end("x"), Some((&key, &turns))).await));
    let first = join_all(ends).await.into_iter().filter(|first| *first).count();
    assert!(first <= 1, "{first} ended it");
    assert_eq!(again(async || store.history(&key, 10).await).await, turns);
    let state = again(async || store.begin_run(&start(&t, run), HOLDER).await).await;
    assert_eq!(state, RunState::Finished(end("x")));
}

/// Whoever lost the answer to its claim does not send.
pub async fn a_retried_claim_is_fresh_at_most_once(fixture: &mut impl StoreFixture) {
    let (t, store, reply) = (tenant("a"), fixture.store(), ReplyId(Uuid::from_u128(1)));
    let claims = (0..CALLERS).map(|_| again(async || store.begin_send(&t, reply, NOW_MS).await));
    let fresh = join_all(claims).await.into_iter().filter(|s| *s == SendState::Fresh).count();
    assert!(fresh <= 1, "{fresh} may send");
    again(async || store.finish_send(&t, reply, Some("1.1")).await).await;
    let state = again(async || store.begin_send(&t, reply, NOW_MS).await).await;
    assert_eq!(state, SendState::Sent(Some("1.1".to_owned())));
}

/// The same key again is no other key.
pub async fn a_retried_key_is_there_once(fixture: &mut impl StoreFixture) {
    let (t, store) = (tenant("a"), fixture.store());
    let one = key("1", Some(&t));
    for _ in 0..CALLERS {
        again(async || store.put_key(&one).await).await;
    }
    assert_eq!(again(async || store.keys(Some(&t)).await).await, [one]);
    assert!(again(async || store.revoke_key(Some(&t), "1", NOW_MS).await).await);
}

/// One entry a person.
pub async fn a_retried_vote_counts_once(fixture: &mut impl StoreFixture) {
    let (t, store, id) = (tenant("a"), fixture.store(), action_id(1));
    for _ in 0..CALLERS {
        again(async || store.hold(&held(&t, id)).await).await;
    }
    let cast = vote("U2", Choice::Approve, 10);
    let votes = (0..CALLERS).map(|_| again(async || store.record_vote(&t, id, &cast).await));
    join_all(votes).await;
    let all = ApprovalFilter { status: None, limit: 10 };
    let listed = again(async || store.approvals(&t, &all).await).await;
    let votes: Vec<_> = listed.into_iter().map(|approval| approval.votes).collect();
    assert_eq!(votes, [vec![cast]]);
}

/// One decision, one outbox, whoever asks how often.
pub async fn a_retried_settlement_is_published_once(fixture: &mut impl StoreFixture) {
    let (t, store, id) = (tenant("a"), fixture.store(), action_id(1));
    again(async || store.hold(&held(&t, id)).await).await;
    let settles = (0..CALLERS).map(|n| {
        let mut settlement = settlement(ApprovalStatus::Approved);
        let n = u128::try_from(n).expect("small");
        settlement.outbox.push(Publication::new(Subject::action(&t), Uuid::from_u128(n), "x"));
        let (store, t) = (&store, &t);
        async move { again(async || store.settle(t, id, &settlement).await).await }
    });
    let first = join_all(settles).await.into_iter().filter(|first| *first).count();
    assert!(first <= 1, "{first} settled it");
    let outbox = again(async || store.outbox(100).await).await;
    assert_eq!(outbox.len(), 1);
    again(async || store.outbox_done(&[outbox[0].seq]).await).await;
    assert!(again(async || store.outbox(100).await).await.is_empty());
}

/// Whoever lost the answer to its start does not run the command.
pub async fn a_retried_start_is_fresh_at_most_once(fixture: &mut impl StoreFixture) {
    let (t, store) = (tenant("a"), fixture.store());
    let action = held(&t, action_id(1));
    again(async || store.hold(&action).await).await;
    let approve = settlement(ApprovalStatus::Approved);
    again(async || store.settle(&t, action.id, &approve).await).await;
    let starts = (0..CALLERS)
        .map(|_| again(async || store.start_action(&t, action.id, &action.digest).await));
    let starts = join_all(starts).await;
    let fresh = starts.iter().filter(|start| **start == ActionStart::Fresh).count();
    assert!(fresh <= 1, "{fresh} may run it");
    let later = again(async || store.start_action(&t, action.id, &action.digest).await).await;
    assert_eq!(later, ActionStart::Uncertain);
}
