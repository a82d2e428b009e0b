//! Whose votes count, on what, and how often.

use aof_shared::action::{ApprovalStatus, Choice, Quorum, SelfApproval, VoteTarget};
use aof_shared::event::EventType;
use aof_shared::ids::{ActionId, TenantId};
use aof_shared::message::Address;

use super::stage::Stage;
use crate::fixtures::{action, action_of, quorum};

#[tokio::test]
async fn one_person_with_two_accounts_counts_once() {
    let stage = Stage::open().await;
    let approver = stage.start().await;
    let action = action();
    stage.hold(&action).await;
    stage.vote(&action, "slack/a", Choice::Approve).await;
    stage.vote(&action, "telegram/a", Choice::Approve).await;
    stage.vote(&action, "slack/a", Choice::Approve).await;
    stage.settled().await;
    // The third is the first again: it changes nothing and is not journaled.
    assert_eq!(stage.until_events(EventType::ApprovalVoted, 2).await.len(), 2);
    assert!(stage.tasks().await.is_empty(), "one human is not two");
    stage.vote(&action, "api/b", Choice::Approve).await;
    let (_, task) = stage.until_decided(&action).await;
    assert_eq!(task.decision.map(|d| d.by.len()), Some(2));
    stage.stop(approver).await;
}

#[tokio::test]
async fn a_withdrawn_vote_does_not_count() {
    let stage = Stage::open().await;
    let approver = stage.start().await;
    let action = action();
    stage.hold(&action).await;
    stage.vote(&action, "slack/a", Choice::Approve).await;
    stage.vote(&action, "slack/a", Choice::Withdraw).await;
    stage.vote(&action, "slack/b", Choice::Approve).await;
    stage.until_events(EventType::ApprovalVoted, 3).await;
    stage.settled().await;
    assert!(stage.tasks().await.is_empty());
    let approval = stage.approval(&action).await.expect("held");
    assert_eq!(approval.status, ApprovalStatus::Pending);
    stage.stop(approver).await;
}

#[tokio::test]
async fn others_are_ignored_and_journaled() {
    let stage = Stage::open().await;
    let approver = stage.start().await;
    let action = action();
    stage.hold(&action).await;
    stage.vote(&action, "slack/mallory", Choice::Approve).await;
    stage.vote(&action, "slack/mallory", Choice::Deny).await;
    let refused = stage.until_events(EventType::ApprovalVoteRejected, 2).await;
    assert_eq!(refused[0].data["voter"]["user"], "mallory");
    assert_eq!(refused[0].data["why"], "not an approver of this chain");
    let approval = stage.approval(&action).await.expect("held");
    assert_eq!((approval.status, approval.votes.len()), (ApprovalStatus::Pending, 0));
    stage.stop(approver).await;
}

#[tokio::test]
async fn requesters_approve_their_own_only_where_that_is_allowed() {
    let stage = Stage::open().await;
    let approver = stage.start().await;
    let tenant = TenantId::default_tenant();
    let mut never = action_of(&tenant, "never");
    never.quorum = Quorum { self_approval: SelfApproval::Never, ..quorum(&["me", "a"], 1) };
    stage.hold(&never).await;
    stage.vote(&never, "slack/me", Choice::Approve).await;
    stage.until_events(EventType::ApprovalVoteRejected, 1).await;
    assert!(stage.tasks().await.is_empty());

    let mut allowed = action_of(&tenant, "allowed");
    allowed.quorum = quorum(&["me", "a"], 1);
    stage.hold(&allowed).await;
    stage.vote(&allowed, "slack/me", Choice::Approve).await;
    let (_, task) = stage.until_decided(&allowed).await;
    assert_eq!(task.decision.map(|d| d.outcome), Some(ApprovalStatus::Approved));
    stage.stop(approver).await;
}

#[tokio::test]
async fn two_tenants_cannot_vote_on_each_others_actions() {
    let stage = Stage::open().await;
    let approver = stage.start().await;
    let [one, other] = ["org-a", "org-b"].map(|name| TenantId::new(name).expect("a name"));
    let [of_one, of_other] = [&one, &other].map(|tenant| {
        let mut action = action_of(tenant, "Ev1");
        action.quorum = quorum(&["a"], 1);
        action
    });
    assert_ne!(of_one.id, of_other.id);
    for (action, intruder, shown) in [(&of_one, &other, "9.1"), (&of_other, &one, "9.2")] {
        stage.hold(action).await;
        stage.until_cards(action, 1).await;
        let at = action.address();
        let target = VoteTarget::Action { id: action.id };
        stage.vote_on(intruder, target, "slack/a", Choice::Approve).await;
        // The same channel, but in the intruder's own name: nothing is posted there.
        let store = stage.ports().store;
        store.set_posted(&action.tenant, action.id, &at, shown).await.expect("stored");
        let at = Address { tenant: intruder.clone(), ..at };
        let target = VoteTarget::Posted { at, message: shown.to_owned() };
        stage.vote_on(intruder, target, "slack/a", Choice::Approve).await;
        // In the owner's name, from the intruder's subject.
        let target = VoteTarget::Posted { at: action.address(), message: shown.to_owned() };
        stage.vote_on(intruder, target, "slack/a", Choice::Approve).await;
    }
    stage.until_events(EventType::DeadLetterAdded, 2).await;
    stage.settled_in_time().await; // votes on unknown actions wait a little
    for action in [&of_one, &of_other] {
        let approval = stage.approval(action).await.expect("held");
        assert_eq!((approval.status, approval.votes.len()), (ApprovalStatus::Pending, 0));
        stage.vote(action, "slack/a", Choice::Approve).await;
        stage.until_decided(action).await;
    }
    stage.stop(approver).await;
}

#[tokio::test]
async fn a_reaction_on_the_card_is_a_vote_also_just_before_it_is_known() {
    let stage = Stage::open().await;
    let approver = stage.start().await;
    let mut action = action();
    action.quorum = quorum(&["a"], 1);
    stage.hold(&action).await;
    stage.until_cards(&action, 1).await;
    let at = Address { thread: None, ..action.address() };
    let target = VoteTarget::Posted { at: at.clone(), message: "1.7".to_owned() };
    stage.vote_on(&action.tenant, target, "slack/a", Choice::Approve).await;
    stage.advance_ms(400);
    stage.ports().store.set_posted(&action.tenant, action.id, &at, "1.7").await.expect("stored");
    stage.settled_in_time().await;
    stage.until_decided(&action).await;
    stage.stop(approver).await;
}

#[tokio::test]
async fn a_reaction_on_another_message_leaves_no_trace() {
    let stage = Stage::open().await;
    let approver = stage.start().await;
    let action = action();
    stage.hold(&action).await;
    stage.until_cards(&action, 1).await;
    let at = action.address();
    stage.ports().store.set_posted(&action.tenant, action.id, &at, "1.7").await.expect("stored");
    let target = VoteTarget::Posted { at, message: "2.2".to_owned() };
    stage.vote_on(&action.tenant, target, "slack/a", Choice::Approve).await;
    stage.settled().await; // at once: no card of this channel is on its way
    for kind in [EventType::ApprovalVoted, EventType::ApprovalVoteRejected] {
        assert!(stage.events(kind).await.is_empty());
    }
    stage.stop(approver).await;
}

#[tokio::test]
async fn a_vote_on_an_action_that_never_comes_is_refused_in_the_end() {
    let stage = Stage::open().await;
    let approver = stage.start().await;
    let target = VoteTarget::Action { id: ActionId(uuid::Uuid::nil()) };
    let tenant = TenantId::default_tenant();
    stage.vote_on(&tenant, target, "slack/a", Choice::Approve).await;
    stage.settled_in_time().await;
    let refused = stage.until_events(EventType::ApprovalVoteRejected, 1).await;
    assert_eq!(refused[0].data["why"], "there is no such action");
    stage.stop(approver).await;
}
