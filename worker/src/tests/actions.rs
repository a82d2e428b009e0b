//! Held actions run on their decision, once, or not at all.

use std::path::{Path, PathBuf};

use aof_shared::action::{ActionMessage, ApprovalStatus, Decision, HeldAction, Identity};
use aof_shared::config::{Approval, ApprovalChain, ApprovalMode, Daemon};
use aof_shared::event::EventType;
use aof_shared::ids::{EventId, PlatformName};
use aof_shared::message::{Reply, ReplyContent, Task};
use aof_shared::store::{ActionStart, Settlement};
use aof_shared::subject::Stream;

use super::*;

/// `touch` needs one of U2, U3; it works in `dir`.
fn held_flow(dir: &Path) -> Flow {
    let mut ops = flow("acme", "ops", &[("TOKEN", "s3cret-token")]);
    ops.context.working_dir = Some(dir.to_owned());
    ops.approval = Approval {
        mode: ApprovalMode::Required,
        require_for: vec!["touch".to_owned()],
        chains: vec![ApprovalChain {
            name: "default".to_owned(),
            approvers: vec!["U2".to_owned(), "U3".to_owned()],
            require: 1,
        }],
        timeout_secs: 300,
        ..Approval::default()
    };
    ops
}

struct Scene {
    rig: Rig,
    work: TempDir,
    task: Task,
}

impl Scene {
    async fn new() -> Self {
        let work = tempfile::tempdir().expect("a directory");
        let rig = Rig::new(snapshot(
            commander(&["touch"]),
            vec![held_flow(work.path())],
            Daemon::default(),
        ));
        let task = fixture::task("acme", "ops", "touch marker");
        rig.start().await;
        rig.send(&task).await;
        Self { rig, work, task }
    }

    fn marker(&self) -> PathBuf {
        self.work.path().join("marker")
    }

    /// Takes the approver's part: stores what the worker held.
    async fn held(&self) -> HeldAction {
        let tenant = &self.task.message.tenant;
        self.rig.event(&self.task.message, EventType::ActionHeld).await;
        self.rig.settled().await;
        let actions = self.rig.stored(Stream::Actions, tenant).await;
        let action = actions.iter().find_map(|stored| {
            match serde_json::from_slice(&stored.payload).expect("an action message") {
                ActionMessage::Held(action) => Some(*action),
                ActionMessage::Vote(_) => None,
            }
        });
        let action = action.expect("it is published");
        self.rig.node.ports.store.hold(&action).await.expect("it is stored");
        action
    }

    async fn decide(&self, action: &HeldAction, outcome: ApprovalStatus) -> Task {
        let at_ms = self.rig.node.ports.clock.now_ms();
        let settlement = Settlement { status: outcome, at_ms, outbox: Vec::new() };
        let store = &self.rig.node.ports.store;
        store.settle(&action.tenant, action.id, &settlement).await.expect("it settles");
        let mut task = (*action.task).clone();
        let by = Identity::new(PlatformName::slack(), "U2");
        task.decision = Some(Decision {
            action: action.id,
            outcome,
            digest: action.digest.clone(),
            by: vec![by],
            reasons: vec!["wrong cluster.".to_owned()],
            decided_at_ms: at_ms,
        });
        task
    }

    async fn send(&self, decided: &Task) {
        self.rig.send_as(decided, uuid::Uuid::now_v7()).await;
    }

    async fn count(&self, kind: EventType) -> usize {
        let message = &self.task.message;
        self.rig.count(message.id, &message.tenant, kind).await
    }
}

#[tokio::test]
async fn an_approved_action_runs_once_however_often_its_decision_comes() {
    let scene = Scene::new().await;
    let action = scene.held().await;
    assert!(!scene.marker().exists(), "not before its decision");
    assert_eq!(action.digest, action.compute_digest());
    assert!(!serde_json::to_string(&action).expect("plain").contains("s3cret-token"));
    let decided = scene.decide(&action, ApprovalStatus::Approved).await;
    scene.send(&decided).await;
    assert_eq!(scene.rig.end(&scene.task).await.0, "success");
    assert!(scene.marker().exists());
    std::fs::remove_file(scene.marker()).expect("it is there");
    scene.send(&decided).await;
    scene.rig.send_as(&scene.task, uuid::Uuid::now_v7()).await;
    scene.rig.settled().await;
    assert!(!scene.marker().exists(), "it ran once");
    for kind in [EventType::ActionHeld, EventType::ActionStarted, EventType::ActionExecuted] {
        assert_eq!(scene.count(kind).await, 1, "{}", kind.name());
    }
    let replies = scene.rig.stored(Stream::Replies, &action.tenant).await;
    let card = replies.iter().any(|stored| {
        let reply: Reply = serde_json::from_slice(&stored.payload).expect("a reply");
        matches!(reply.content, ReplyContent::Approval { view }
            if view.status == ApprovalStatus::Executed)
    });
    assert!(card, "the card shows the end");
    scene.rig.stop().await;
}

#[tokio::test]
async fn a_denied_or_expired_action_never_runs_and_the_requester_hears_it() {
    for (outcome, status, part) in [
        (ApprovalStatus::Denied, "denied", "denied by U2: wrong cluster. It did not run."),
        (ApprovalStatus::Expired, "expired", "in time: wrong cluster. It did not run."),
    ] {
        let scene = Scene::new().await;
        let action = scene.held().await;
        let decided = scene.decide(&action, outcome).await;
        scene.send(&decided).await;
        let (ended, answer) = scene.rig.end(&scene.task).await;
        assert_eq!(ended, status);
        assert!(answer.contains(part), "{answer}");
        assert!(!scene.marker().exists());
        scene.rig.stop().await;
    }
}

#[tokio::test]
async fn any_difference_to_what_was_approved_is_refused() {
    type Change = fn(&Scene, &mut Task);
    let changes: [(&str, Change); 4] = [
        ("another digest", |_, task| {
            task.decision.as_mut().expect("it is set").digest = "0".repeat(64);
        }),
        ("another flow revision", |scene, _| {
            let mut ops = held_flow(scene.work.path());
            ops.revision = Revision::of(b"edited");
            let edited = snapshot(commander(&["touch"]), vec![ops], Daemon::default());
            scene.rig.node.config.apply(edited);
        }),
        ("another environment", |scene, _| {
            let mut ops = held_flow(scene.work.path());
            ops.context.env.insert("TOKEN".to_owned(), Secret::new("rotated-token"));
            let edited = snapshot(commander(&["touch"]), vec![ops], Daemon::default());
            scene.rig.node.config.apply(edited);
        }),
        ("a tool that is no longer listed", |scene, _| {
            let ops = held_flow(scene.work.path());
            let edited = snapshot(commander(&["ls"]), vec![ops], Daemon::default());
            scene.rig.node.config.apply(edited);
        }),
    ];
    for (what, change) in changes {
        let scene = Scene::new().await;
        let action = scene.held().await;
        let mut decided = scene.decide(&action, ApprovalStatus::Approved).await;
        change(&scene, &mut decided);
        scene.send(&decided).await;
        let (ended, answer) = scene.rig.end(&scene.task).await;
        assert_eq!(ended, "refused", "{what}: {answer}");
        assert!(!scene.marker().exists(), "{what}");
        assert_eq!(scene.count(EventType::ActionFailed).await, 1, "{what}");
        scene.rig.stop().await;
    }
}

#[tokio::test]
async fn a_crash_after_the_start_leaves_it_uncertain_and_never_runs_it_again() {
    let scene = Scene::new().await;
    let action = scene.held().await;
    let decided = scene.decide(&action, ApprovalStatus::Approved).await;
    let store = &scene.rig.node.ports.store;
    let state = store.start_action(&action.tenant, action.id, &action.digest).await;
    assert_eq!(state.expect("it starts"), ActionStart::Fresh, "a worker that then died");
    scene.send(&decided).await;
    let (ended, answer) = scene.rig.end(&scene.task).await;
    assert_eq!(ended, "failed");
    assert!(answer.contains("Uncertain") && answer.contains("by hand"), "{answer}");
    assert!(!scene.marker().exists());
    assert_eq!(scene.count(EventType::ActionUncertain).await, 1);
    let started = scene.count(EventType::ActionStarted).await;
    assert_eq!(started, 1, "the worker that died had not journaled it");
    let id = EventId::derive(action.id.0, "ended");
    assert!(scene.rig.events(&action.tenant).await.iter().any(|event| event.id == id));
    scene.rig.stop().await;
}

#[tokio::test]
async fn a_decision_without_a_stored_approval_runs_nothing() {
    let scene = Scene::new().await;
    let action = scene.held().await;
    let mut decided = (*action.task).clone();
    decided.decision = Some(Decision {
        action: action.id,
        outcome: ApprovalStatus::Approved,
        digest: action.digest.clone(),
        by: Vec::new(),
        reasons: Vec::new(),
        decided_at_ms: scene.rig.node.ports.clock.now_ms(),
    });
    scene.send(&decided).await;
    let (ended, answer) = scene.rig.end(&scene.task).await;
    assert_eq!(ended, "refused", "{answer}");
    assert!(!scene.marker().exists());
    scene.rig.stop().await;
}

#[tokio::test]
async fn a_lost_ack_of_the_held_delivery_asks_again_under_the_same_id() {
    let scene = Scene::new().await;
    scene.held().await;
    scene.rig.send_as(&scene.task, uuid::Uuid::now_v7()).await;
    scene.rig.settled().await;
    let actions = scene.rig.stored(Stream::Actions, &scene.task.message.tenant).await;
    assert_eq!(actions.len(), 1);
    assert_eq!(scene.count(EventType::ActionHeld).await, 1);
    scene.rig.stop().await;
}

/// The newest card of `action`.
async fn last_card(scene: &Scene, action: &HeldAction) -> aof_shared::action::ApprovalView {
    let replies = scene.rig.stored(Stream::Replies, &action.tenant).await;
    let cards = replies.iter().filter_map(|stored| {
        let reply: Reply = serde_json::from_slice(&stored.payload).expect("a reply");
        match reply.content {
            ReplyContent::Approval { view } => Some(*view),
            _ => None,
        }
    });
    cards.last().expect("a card")
}

#[tokio::test]
async fn an_action_whose_flow_or_agent_is_gone_ends_as_failed_and_everyone_hears_it() {
    let mut no_agent = simple(commander(&["touch"]));
    no_agent.agents.clear();
    let no_flow = snapshot(commander(&["touch"]), Vec::new(), Daemon::default());
    for (gone, part) in
        [(no_flow, "`ops` is no longer configured"), (no_agent, "no agent `helper`")]
    {
        let scene = Scene::new().await;
        let action = scene.held().await;
        scene.rig.node.config.apply(gone);
        let decided = scene.decide(&action, ApprovalStatus::Approved).await;
        scene.send(&decided).await;
        let (ended, answer) = scene.rig.end(&scene.task).await;
        assert_eq!(ended, "failed", "{answer}");
        assert!(answer.contains(part) && answer.contains("marker` was approved"), "{answer}");
        scene.send(&decided).await;
        scene.rig.settled().await;
        assert!(!scene.marker().exists());
        let store = &scene.rig.node.ports.store;
        let stored = store.approval(&action.tenant, action.id).await.expect("it reads");
        let stored = stored.expect("it is there");
        assert_eq!(stored.status, ApprovalStatus::Failed);
        assert!(stored.outcome.is_some_and(|outcome| outcome.contains(part)), "{part}");
        let card = last_card(&scene, &action).await;
        assert_eq!(card.status, ApprovalStatus::Failed);
        assert_eq!(scene.count(EventType::ActionFailed).await, 1);
        assert_eq!(scene.count(EventType::ActionStarted).await, 0, "it never did");
        let events = scene.rig.events(&action.tenant).await;
        assert_eq!(events.iter().filter(|e| terminal(e)).count(), 1);
        scene.rig.stop().await;
    }
}

#[tokio::test]
async fn an_approval_that_comes_after_its_run_ended_does_not_stay_approved() {
    let scene = Scene::new().await;
    let action = scene.held().await;
    let ops = held_flow(scene.work.path());
    let flows = snapshot(commander(&["touch"]), vec![ops], Daemon::default());
    scene.rig.node.config.apply(snapshot(commander(&["touch"]), Vec::new(), Daemon::default()));
    scene.rig.send_as(&scene.task, uuid::Uuid::now_v7()).await;
    assert_eq!(scene.rig.end(&scene.task).await.0, "failed", "its flow is gone");
    scene.rig.node.config.apply(flows);
    let decided = scene.decide(&action, ApprovalStatus::Approved).await;
    scene.send(&decided).await;
    scene.rig.event(&scene.task.message, EventType::ActionFailed).await;
    scene.rig.settled().await;
    let store = &scene.rig.node.ports.store;
    let stored = store.approval(&action.tenant, action.id).await.expect("it reads");
    assert_eq!(stored.expect("it is there").status, ApprovalStatus::Failed);
    assert!(!scene.marker().exists());
    scene.rig.stop().await;
}
