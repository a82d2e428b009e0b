//! The approver is killed at every operation in turn; exactly one decision comes of it.

use aof_shared::action::{ApprovalStatus, Choice, HeldAction};
use aof_shared::event::EventType;
use aof_shared::ids::TenantId;

use super::dying::{Fuse, Side, dying};
use super::stage::{Stage, until};
use crate::fixtures::{TIMEOUT_MS, action_of};

/// More operations than any story here takes; a story that outlives its fuse ends the search.
const MOST_OPERATIONS: usize = 200;

/// How a held action comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Story {
    Approved,
    Denied,
    Expired,
}

impl Story {
    fn status(self) -> ApprovalStatus {
        match self {
            Self::Approved => ApprovalStatus::Approved,
            Self::Denied => ApprovalStatus::Denied,
            Self::Expired => ApprovalStatus::Expired,
        }
    }

    async fn tell(self, stage: &Stage, action: &HeldAction) {
        stage.hold(action).await;
        match self {
            Self::Approved => {
                stage.vote(action, "slack/a", Choice::Approve).await;
                stage.vote(action, "slack/b", Choice::Approve).await;
            }
            Self::Denied => stage.vote(action, "slack/b", Choice::Deny).await,
            Self::Expired => {}
        }
    }
}

/// Kills an approver in the middle of `story`; true if it died before the story's end.
async fn kill_once(story: Story, at: usize, side: Side) -> bool {
    let mut stage = Stage::open().await;
    let mut action = action_of(&TenantId::default_tenant(), "Ev1");
    action.digest = action.compute_digest();
    let fuse = Fuse::new(at, side);
    let doomed = stage.start_on(dying(stage.ports(), &fuse)).await;
    story.tell(&stage, &action).await;
    if story == Story::Expired {
        let stored = async || {
            let there = stage.approval(&action).await.is_some();
            (there || fuse.burnt()).then_some(())
        };
        until("the action to be held", stored).await;
        stage.advance_ms(TIMEOUT_MS);
    }
    let over = async || {
        let told = stage.approval(&action).await.is_some_and(|a| a.status == story.status());
        if fuse.burnt() {
            return Some(());
        }
        let outbox = stage.ports().store.outbox(1).await.expect("readable");
        let backlog = stage.ports().queue.backlog(aof_shared::subject::Stream::Actions).await;
        (told && outbox.is_empty() && backlog.expect("readable").is_empty()).then_some(())
    };
    until("the story's end or the kill", over).await;
    let died = fuse.burnt();
    stage.stop(doomed).await;
    stage.reopen().await;
    let heir = stage.start().await;
    let (_, task) = stage.until_decided(&action).await;
    assert_eq!(task.decision.map(|d| d.outcome), Some(story.status()), "{story:?} {at} {side:?}");
    stage.settled().await;
    stage.stop(heir).await;
    stage.until_decided(&action).await;
    let kinds = [EventType::ActionApproved, EventType::ActionDenied, EventType::ActionExpired];
    let mut decided = 0;
    for kind in kinds {
        decided += stage.events(kind).await.len();
    }
    assert_eq!(decided, 1, "{story:?} {at} {side:?}");
    let votes = stage.events(EventType::ApprovalVoted).await.len();
    let refused = stage.events(EventType::ApprovalVoteRejected).await.len();
    let expected = match story {
        Story::Approved => 2,
        Story::Denied => 1,
        Story::Expired => 0,
    };
    assert_eq!((votes, refused), (expected, 0), "{story:?} {at} {side:?}");
    let card = stage.cards(&action).await.pop().expect("a card");
    assert_eq!(card.status, story.status(), "{story:?} {at} {side:?}");
    died
}

async fn kill_everywhere(story: Story) {
    let mut kills = 0;
    for side in [Side::Before, Side::After] {
        for at in 0..MOST_OPERATIONS {
            if !kill_once(story, at, side).await {
                break;
            }
            kills += 1;
        }
    }
    assert!(kills >= 10, "{story:?}: only {kills} kills");
    println!("{story:?}: {kills} kills, one decision each");
}

#[tokio::test]
async fn an_approver_killed_anywhere_approves_once() {
    kill_everywhere(Story::Approved).await;
}

#[tokio::test]
async fn an_approver_killed_anywhere_denies_once() {
    kill_everywhere(Story::Denied).await;
}

#[tokio::test]
async fn an_approver_killed_anywhere_expires_once() {
    kill_everywhere(Story::Expired).await;
}
