//! The loops on the embedded backend: what people see, and what survives a crash.

mod crash;
mod dying;
mod stage;
mod votes;

use aof_shared::action::{ApprovalStatus, Choice};
use aof_shared::event::EventType;
use aof_shared::ids::{EventId, TenantId};
use aof_shared::message::{Priority, ReplyContent};
use aof_shared::trace::{CAUSATION, SAME_TRACE_MS, TRACEPARENT};

use self::stage::Stage;
use crate::fixtures::{TIMEOUT_MS, action, action_of, quorum};

#[tokio::test]
async fn a_held_action_is_shown_and_approved_by_its_quorum_once() {
    let stage = Stage::open().await;
    let approver = stage.start().await;
    let action = action();
    stage.hold(&action).await;
    stage.until_cards(&action, 1).await;
    stage.vote(&action, "slack/a", Choice::Approve).await;
    stage.until_cards(&action, 2).await;
    assert!(stage.tasks().await.is_empty(), "one of two is not enough");
    stage.vote(&action, "slack/b", Choice::Approve).await;

    let (stored, task) = stage.until_decided(&action).await;
    let decision = task.decision.clone().expect("a decision");
    assert_eq!(decision.outcome, ApprovalStatus::Approved);
    assert_eq!(decision.digest, action.digest);
    assert_eq!(decision.by.iter().map(|i| i.user.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(task.message, action.task.message, "what goes on is what was held");
    assert_eq!(task.priority, Priority::Critical);
    let decided = EventId::derive(action.id.0, "decided");
    assert_eq!(stored.headers[CAUSATION], decided.to_string());
    assert_eq!(stored.headers[TRACEPARENT][3..35], stage.trace_id(), "one trace to the end");
    stage.until_events(EventType::ActionApproved, 1).await;
    assert_eq!(stage.events(EventType::ApprovalVoted).await.len(), 2);

    stage.until_cards(&action, 3).await;
    let cards = stage.cards(&action).await;
    let shown: Vec<_> = cards.iter().map(|c| (c.status, c.missing, c.votes.len())).collect();
    let (pending, approved) = (ApprovalStatus::Pending, ApprovalStatus::Approved);
    assert_eq!(shown, [(pending, 2, 0), (pending, 1, 1), (approved, 0, 2)]);
    assert!(cards.windows(2).all(|pair| pair[0].version < pair[1].version));
    let metrics = stage.metrics();
    for status in ["pending", "approved"] {
        let line =
            format!(r#"agentflow_approvals_total{{flow="prod-k8s-flow",status="{status}"}} 1"#);
        assert!(metrics.contains(&line), "{line} is missing in\n{metrics}");
    }
    stage.stop(approver).await;
}

#[tokio::test]
async fn a_decision_after_more_than_an_hour_has_a_trace_of_its_own() {
    let stage = Stage::open().await;
    let approver = stage.start().await;
    let mut action = action();
    action.expires_at_ms += SAME_TRACE_MS;
    action.digest = action.compute_digest();
    stage.hold(&action).await;
    stage.until_cards(&action, 1).await;
    stage.advance_ms(SAME_TRACE_MS);
    stage.vote(&action, "slack/a", Choice::Deny).await;
    let (stored, _) = stage.until_decided(&action).await;
    let decided = &stage.until_events(EventType::ActionDenied, 1).await[0];
    let trace = &stored.headers[TRACEPARENT][3..35];
    assert_ne!(trace, stage.trace_id());
    assert_eq!(decided.trace_id.as_deref(), Some(trace));
    stage.stop(approver).await;
}

#[tokio::test]
async fn one_denier_denies_and_later_votes_are_refused() {
    let stage = Stage::open().await;
    let approver = stage.start().await;
    let action = action();
    stage.hold(&action).await;
    stage.vote(&action, "slack/a", Choice::Deny).await;
    let (_, task) = stage.until_decided(&action).await;
    assert_eq!(task.decision.map(|d| d.outcome), Some(ApprovalStatus::Denied));
    stage.vote(&action, "slack/b", Choice::Approve).await;
    let refused = stage.until_events(EventType::ApprovalVoteRejected, 1).await;
    assert_eq!(refused[0].data["why"], "it is denied already");
    assert_eq!(stage.tasks().await.len(), 1);
    stage.stop(approver).await;
}

#[tokio::test]
async fn an_action_that_changed_or_that_nobody_can_approve_is_denied_at_once() {
    let stage = Stage::open().await;
    let approver = stage.start().await;
    let tenant = TenantId::default_tenant();
    let mut forged = action_of(&tenant, "forged");
    forged.command.argv.push("--all".to_owned());
    let mut alone = action_of(&tenant, "alone");
    alone.quorum = quorum(&["a", "slack:a"], 2);
    for (action, why) in [(&forged, "digest"), (&alone, "only 1 may")] {
        stage.hold(action).await;
        let (_, task) = stage.until_decided(action).await;
        assert_eq!(task.decision.map(|d| d.outcome), Some(ApprovalStatus::Denied));
        stage.until_cards(action, 1).await;
        let outcome = stage.cards(action).await[0].outcome.clone().unwrap_or_default();
        assert!(outcome.contains(why), "{outcome}");
    }
    stage.stop(approver).await;
}

#[tokio::test]
async fn an_action_expires_once_when_its_time_is_over() {
    let stage = Stage::open().await;
    let approver = stage.start().await;
    let action = action();
    stage.hold(&action).await;
    stage.until_cards(&action, 1).await;
    stage.advance_ms(TIMEOUT_MS - 2); // and one more goes by before the vote
    stage.vote(&action, "slack/a", Choice::Approve).await;
    stage.until_events(EventType::ApprovalVoted, 1).await;
    stage.advance_ms(1);
    let (_, task) = stage.until_decided(&action).await;
    let decision = task.decision.expect("a decision");
    assert_eq!((decision.outcome, decision.by.len()), (ApprovalStatus::Expired, 0));
    stage.vote(&action, "slack/b", Choice::Approve).await;
    let refused = stage.until_events(EventType::ApprovalVoteRejected, 1).await;
    assert_eq!(refused[0].data["why"], "it is expired already");
    stage.until_events(EventType::ActionExpired, 1).await;
    stage.until_cards(&action, 3).await;
    stage.stop(approver).await;
    let again = stage.start().await;
    stage.advance_ms(TIMEOUT_MS);
    stage.settled().await;
    assert_eq!(stage.tasks().await.len(), 1, "no second decision after a restart");
    stage.stop(again).await;
}

#[tokio::test]
async fn what_expired_while_no_approver_ran_is_settled_at_the_next_start() {
    let mut stage = Stage::open().await;
    let approver = stage.start().await;
    let action = action();
    stage.hold(&action).await;
    stage.until_cards(&action, 1).await;
    stage.stop(approver).await;
    stage.advance_ms(TIMEOUT_MS + 1);
    stage.reopen().await;
    let approver = stage.start().await;
    let (_, task) = stage.until_decided(&action).await;
    assert_eq!(task.decision.map(|d| d.outcome), Some(ApprovalStatus::Expired));
    stage.stop(approver).await;
}

#[tokio::test]
async fn what_cannot_be_read_or_names_another_tenant_is_a_dead_letter() {
    let stage = Stage::open().await;
    let approver = stage.start().await;
    stage.publish_raw(b"{\"type\":\"held\"}").await;
    let mut foreign = action_of(&TenantId::new("org-b").expect("a name"), "Ev1");
    foreign.quorum.require = 1;
    stage.hold_as(&TenantId::default_tenant(), &foreign).await;
    let dead = stage.until_events(EventType::DeadLetterAdded, 2).await;
    let mut reasons: Vec<_> = dead.iter().map(|e| e.data["reason"].to_string()).collect();
    reasons.sort();
    assert_eq!(reasons, ["\"foreign_tenant\"", "\"unreadable\""]);
    assert_eq!(stage.approval(&foreign).await, None, "the other tenant got nothing");
    stage.stop(approver).await;
}

#[tokio::test]
async fn a_redelivered_action_is_neither_posted_nor_counted_twice() {
    let stage = Stage::open().await;
    let approver = stage.start().await;
    let action = action();
    stage.hold(&action).await;
    stage.until_cards(&action, 1).await;
    stage.hold_again(&action).await;
    stage.settled().await;
    assert_eq!(stage.cards(&action).await.len(), 1);
    assert!(stage.metrics().contains(r#"status="pending"} 1"#));
    stage.stop(approver).await;
}

/// What a reply shows, if it is a card.
fn view(content: ReplyContent) -> Option<aof_shared::action::ApprovalView> {
    match content {
        ReplyContent::Approval { view } => Some(*view),
        ReplyContent::Answer { .. } | ReplyContent::Notice { .. } => None,
    }
}
