//! Approval cards over the whole loop: posted, found again, updated, never going back.

use serde_json::json;
use uuid::Uuid;
use wiremock::matchers::path;
use wiremock::{Mock, ResponseTemplate};

use aof_shared::action::{ApprovalStatus, Command, HeldAction, Identity, Quorum, SelfApproval};
use aof_shared::ids::{
    ActionId, AgentName, FlowName, PlatformName, ReplyId, Revision, RunId, TaskId,
};
use aof_shared::message::{
    Channel, Message, MessageKind, Priority, Reply, ReplyContent, Task, User,
};
use aof_shared::store::Settlement;
use aof_shared::subject::Stream;

use super::harness::{Bench, answer, posted};

/// Stores an action held in `channel` and `thread`.
pub(super) async fn held(bench: &Bench, channel: &str, thread: &str) -> HeldAction {
    let reply = answer(channel, "");
    let task_id = TaskId(Uuid::now_v7());
    let flow: FlowName = "prod-k8s-flow".parse().expect("a name");
    let agent: AgentName = "k8s-ops".parse().expect("a name");
    let requester = Identity::new(PlatformName::slack(), "U015DEV01");
    let run = RunId::derive(task_id);
    let now_ms = bench.node.ports.clock.now_ms();
    let message = Message {
        id: reply.message,
        tenant: reply.to.tenant.clone(),
        instance: reply.to.instance.clone(),
        platform: reply.to.platform.clone(),
        kind: MessageKind::Mention,
        channel: Channel { id: channel.to_owned(), name: None, direct: false },
        thread: Some(thread.to_owned()),
        reply_to: None,
        user: User::new("U015DEV01"),
        text: "delete it".to_owned(),
        media: Vec::new(),
        event_id: "Ev1".to_owned(),
        conversation: "C1/170.0".to_owned(),
        sent_at_ms: now_ms,
        received_at_ms: now_ms,
        raw: String::new(),
    };
    let task = Task {
        id: task_id,
        run,
        message,
        flow: flow.clone(),
        agent: agent.clone(),
        revision: Revision::default(),
        score: 100,
        priority: Priority::Normal,
        decision: None,
    };
    let mut action = HeldAction {
        id: ActionId::derive(run, 1),
        tenant: reply.to.tenant.clone(),
        flow,
        revision: Revision::default(),
        agent,
        run,
        step: 1,
        requester,
        command: Command {
            argv: ["kubectl", "delete", "pod", "web"].map(str::to_owned).to_vec(),
            directory: "/srv".to_owned(),
            environment: std::collections::BTreeMap::new(),
            target: "prod".to_owned(),
        },
        rule: "kubectl delete".to_owned(),
        quorum: Quorum {
            chain: "default".to_owned(),
            approvers: vec!["U015LEAD".to_owned()],
            require: 1,
            self_approval: SelfApproval::Never,
        },
        held_at_ms: now_ms,
        expires_at_ms: now_ms + 300_000,
        nonce: "n".to_owned(),
        digest: String::new(),
        task: Box::new(task),
        traceparent: None,
    };
    action.digest = action.compute_digest();
    assert!(bench.node.ports.store.hold(&action).await.expect("the store takes it"));
    action
}

/// The card of `action` as the store has it now, under `version`.
pub(super) async fn card(bench: &Bench, action: &HeldAction, version: u64) -> Reply {
    let stored = bench.node.ports.store.approval(&action.tenant, action.id).await;
    let approval = stored.expect("the store answers").expect("it is held");
    Reply {
        id: ReplyId::derive(action.id.0, &format!("card-{version}")),
        to: action.address(),
        message: action.message().id,
        run: Some(action.run),
        content: ReplyContent::Approval { view: Box::new(approval.view(1, version)) },
    }
}

async fn updates(bench: &Bench) -> Vec<serde_json::Value> {
    bench.bodies("/chat.update").await
}

async fn mount_rest(bench: &Bench) {
    for method in ["/chat.update", "/reactions.add"] {
        Mock::given(path(method))
            .respond_with(
                ResponseTemplate::new(200).set_body_json(json!({"ok": true, "ts": "1.0"})),
            )
            .mount(&bench.slack)
            .await;
    }
}

pub(super) async fn settle(bench: &Bench, action: &HeldAction, status: ApprovalStatus) {
    let at_ms = bench.node.ports.clock.now_ms();
    let settlement = Settlement { status, at_ms, outbox: Vec::new() };
    let done = bench.node.ports.store.settle(&action.tenant, action.id, &settlement).await;
    assert!(done.expect("the store answers"));
}

#[tokio::test]
async fn a_card_is_posted_seeded_found_and_updated_in_place() {
    let bench = Bench::start().await;
    posted("1.0").expect(1).mount(&bench.slack).await;
    mount_rest(&bench).await;
    let action = held(&bench, "C1", "170.0").await;
    let first = card(&bench, &action, 1).await;
    bench.publish(&first).await;
    bench.event("reply.sent", &first).await;
    let store = &bench.node.ports.store;
    let found = store.approval_posted_as(&first.to, "1.0").await.expect("the store answers");
    assert_eq!(found.expect("a vote finds it").action.id, action.id);
    let post = &bench.bodies("/chat.postMessage").await[0];
    assert!(post["blocks"].to_string().contains("aof.approve"));
    assert_eq!(post["thread_ts"], "170.0");
    bench.request_count(3).await;
    let seeds = bench.bodies("/reactions.add").await;
    assert_eq!([&seeds[0]["name"], &seeds[1]["name"]], ["+1", "-1"]);

    settle(&bench, &action, ApprovalStatus::Denied).await;
    let second = card(&bench, &action, 2).await;
    bench.publish(&second).await;
    bench.event("reply.sent", &second).await;
    let update = &updates(&bench).await[0];
    assert_eq!(update["ts"], "1.0");
    assert!(!update["blocks"].to_string().contains("aof.approve"));
    bench.settled(Stream::Replies).await;
}

#[tokio::test]
async fn a_card_never_goes_back_to_an_earlier_state() {
    let bench = Bench::start().await;
    posted("1.0").expect(1).mount(&bench.slack).await;
    mount_rest(&bench).await;
    let action = held(&bench, "C1", "170.0").await;
    let first = card(&bench, &action, 1).await;
    let late = card(&bench, &action, 2).await;
    settle(&bench, &action, ApprovalStatus::Denied).await;
    let newest = card(&bench, &action, 3).await;
    for reply in [&first, &newest, &late] {
        bench.publish(reply).await;
    }
    let event = bench.event("reply.sent", &late).await;
    assert_eq!(event.data["outcome"], "superseded");
    let post = bench.bodies("/chat.postMessage").await;
    assert!(post[0]["text"].as_str().expect("text").contains("Denied"), "as the store has it");
    for update in updates(&bench).await {
        assert!(update["text"].as_str().expect("text").contains("Denied"));
    }
}

#[tokio::test]
async fn a_card_whose_message_is_gone_is_posted_anew() {
    let bench = Bench::start().await;
    posted("1.0").up_to_n_times(1).mount(&bench.slack).await;
    posted("2.0").mount(&bench.slack).await;
    let gone = json!({"ok": false, "error": "message_not_found"});
    Mock::given(path("/chat.update"))
        .respond_with(ResponseTemplate::new(200).set_body_json(gone))
        .mount(&bench.slack)
        .await;
    let action = held(&bench, "C1", "170.0").await;
    let first = card(&bench, &action, 1).await;
    bench.publish(&first).await;
    bench.event("reply.sent", &first).await;
    settle(&bench, &action, ApprovalStatus::Expired).await;
    let second = card(&bench, &action, 2).await;
    bench.publish(&second).await;
    let event = bench.event("reply.sent", &second).await;
    assert_eq!(event.data["platform_id"], "2.0");
    let stored = bench.node.ports.store.approval(&action.tenant, action.id).await;
    let posted = stored.expect("the store answers").expect("it is there").posted;
    assert_eq!(posted.as_deref(), Some("2.0"));
}
