//! Approvals: shown to their own account, and votes whose answer is true.

use aof_shared::action::{
    ActionMessage, Choice, Command, HeldAction, Identity, Quorum, RecordedVote, SelfApproval, Vote,
};
use aof_shared::event::{Event, EventType};
use aof_shared::ids::{ActionId, AgentName, EventId, FlowName, Revision, RunId, TaskId};
use aof_shared::message::{Message, Priority, Task};
use aof_shared::queue::ConsumerSpec;
use aof_shared::subject::Stream;
use aof_shared::trace::causation;
use serde_json::{Value, json};

use crate::testing::{AT, Gateway, read, tenant};

/// Holds an action of account `a` for a message that came in.
async fn hold(gateway: &Gateway) -> ActionId {
    let body = json!({ "type": "event_callback", "event": { "type": "message", "channel": "C1",
        "user": "U1", "text": "rm -r x", "ts": "1531420600.0001" } });
    let answer = gateway.signed("a", "application/json", &body.to_string()).send().await;
    assert_eq!(read(answer.expect("an answer")).await.0, 200);
    let message = gateway.inbound().await.pop().expect("a message");
    let action = held(message);
    assert!(gateway.ports.store.hold(&action).await.expect("held"));
    action.id
}

/// What an agent would hold for `message`.
pub(super) fn held(message: Message) -> HeldAction {
    let flow = FlowName::new("ops").expect("a plain name");
    let agent = AgentName::new("shell-a").expect("a plain name");
    let task = TaskId::derive(message.id, &flow);
    let run = RunId::derive(task);
    let requester = Identity::new(message.platform.clone(), "U1");
    let quorum = Quorum {
        chain: "default".to_owned(),
        approvers: vec!["ann".to_owned()],
        require: 2,
        self_approval: SelfApproval::Never,
    };
    let command = Command {
        argv: vec!["/bin/rm".to_owned(), "-r".to_owned(), "x".to_owned()],
        directory: "/tmp".to_owned(),
        environment: [("TOKEN".to_owned(), "sha256:0".to_owned())].into(),
        target: "here".to_owned(),
    };
    let mut action = HeldAction {
        id: ActionId::derive(run, 1),
        tenant: tenant("a"),
        flow: flow.clone(),
        revision: Revision::default(),
        agent: agent.clone(),
        run,
        step: 1,
        requester,
        command,
        rule: "rm".to_owned(),
        quorum,
        held_at_ms: AT * 1000,
        expires_at_ms: AT * 1000 + 300_000,
        nonce: "n".to_owned(),
        digest: String::new(),
        traceparent: None,
        task: Box::new(Task {
            id: task,
            run,
            message,
            flow,
            agent,
            revision: Revision::default(),
            score: 10,
            priority: Priority::Normal,
            decision: None,
        }),
    };
    action.digest = action.compute_digest();
    action
}

#[tokio::test]
async fn an_approval_is_shown_to_its_own_account_without_secrets() {
    let gateway = Gateway::start().await;
    let id = hold(&gateway).await;
    let keys = [gateway.key("a", "ann", &["read"]).await, gateway.key("b", "bo", &["read"]).await];
    let (_, list) = gateway.get(&keys[0], "/accounts/a/approvals?status=pending").await;
    let shown = &list["approvals"][0];
    assert_eq!((&shown["id"], &shown["missing"]), (&json!(id), &json!(2)), "{list}");
    assert_eq!(shown["argv"], json!(["/bin/rm", "-r", "x"]));
    assert_eq!(shown["self_approval"], "never");
    assert_eq!(shown["environment"], json!(["TOKEN"]));
    let (_, one) = gateway.get(&keys[0], &format!("/accounts/a/approvals/{id}")).await;
    assert_eq!(one, *shown);
    let (_, none) = gateway.get(&keys[0], "/accounts/a/approvals?status=denied").await;
    assert_eq!(none["approvals"], json!([]));
    assert_eq!(gateway.get(&keys[0], "/accounts/a/approvals?status=odd").await.0, 400);
    let (_, theirs) = gateway.get(&keys[1], "/accounts/b/approvals").await;
    assert_eq!(theirs["approvals"], json!([]));
    for account in ["a", "b"] {
        let path = format!("/accounts/{account}/approvals/{id}");
        assert_eq!(gateway.get(&keys[1], &path).await.0, 404);
    }
}

/// Answers the next vote as the approver would, and returns it.
async fn approver(gateway: &Gateway, counts: bool) -> Vote {
    let spec = ConsumerSpec {
        stream: Stream::Actions,
        name: "approver".to_owned(),
        rest: None,
        ack_wait_ms: 30_000,
        max_ack_pending: 10,
    };
    let consumer = gateway.ports.queue.consumer(spec).await.expect("a consumer");
    let mut deliveries = consumer.pull(None, 1, 10_000).await.expect("pulled");
    let delivery = deliveries.pop().expect("a vote within ten seconds");
    let stored = &delivery.message;
    let Ok(ActionMessage::Vote(vote)) = serde_json::from_slice(&stored.payload) else {
        panic!("no vote: {stored:?}")
    };
    let kind = if counts { EventType::ApprovalVoted } else { EventType::ApprovalVoteRejected };
    let cause = causation(&stored.headers).expect("a cause");
    let id = EventId::derive(stored.id, "vote");
    let event = Event::new(id, stored.subject.tenant(), kind, AT * 1000).caused_by(cause);
    let event = event.with(json!({ "why": "not listed", "reason": vote.reason }));
    let publication = event.publication().expect("an event");
    gateway.ports.queue.publish(vec![publication]).await.expect("published");
    delivery.ack().await.expect("acked");
    *vote
}

#[tokio::test]
async fn a_votes_answer_says_whether_it_counted() {
    let gateway = Gateway::start().await;
    let id = hold(&gateway).await;
    let key = gateway.key("a", "ann", &["approve"]).await;
    let path = format!("/accounts/a/approvals/{id}/votes");
    let body = json!({ "vote": "approve", "reason": "fine", "user": "mallory", "tenant": "b" });
    let ((status, answer), vote) =
        tokio::join!(gateway.post(&key, &path, &body), approver(&gateway, true));
    assert_eq!((status, &answer["result"]), (200, &json!("counted")), "{answer}");
    assert_eq!(answer["approval"]["id"], json!(id));
    let voter = (vote.voter.platform.as_str(), vote.voter.user.as_str());
    assert_eq!(voter, ("api", "ann"), "the key says who votes");
    assert_eq!(vote.reason.as_deref(), Some("fine"));
    let body = json!({ "vote": "deny" });
    let ((status, answer), _) =
        tokio::join!(gateway.post(&key, &path, &body), approver(&gateway, false));
    assert_eq!(status, 409);
    assert!(answer["detail"].as_str().is_some_and(|d| d.contains("not listed")), "{answer}");
}

#[tokio::test]
async fn a_vote_again_or_taken_back_without_one_is_answered_at_once() {
    let gateway = Gateway::start().await;
    let id = hold(&gateway).await;
    let key = gateway.key("a", "ann", &["approve"]).await;
    let path = format!("/accounts/a/approvals/{id}/votes");
    let (status, answer) = gateway.post(&key, &path, &json!({ "vote": "withdraw" })).await;
    assert_eq!(status, 409);
    assert!(answer["detail"].as_str().is_some_and(|d| d.contains("no vote")), "{answer}");
    let voter = Identity::new("api".parse().expect("a name"), "ann");
    let vote = RecordedVote { voter, choice: Choice::Approve, reason: None, cast_at_ms: AT };
    gateway.ports.store.record_vote(&tenant("a"), id, &vote).await.expect("recorded");
    let (status, answer) = gateway.post(&key, &path, &json!({ "vote": "approve" })).await;
    assert_eq!((status, &answer["result"]), (200, &json!("already counted")), "{answer}");
    let waiting = gateway.ports.queue.backlog(Stream::Actions).await.expect("a backlog");
    assert!(waiting.is_empty(), "{waiting:?}");
}

#[tokio::test]
async fn a_vote_that_may_not_be_cast_never_reaches_the_approver() {
    let gateway = Gateway::start().await;
    let id = hold(&gateway).await;
    let check = async |key: &str, account: &str, id: &str, body: Value, expected: u16| {
        let path = format!("/accounts/{account}/approvals/{id}/votes");
        let (status, answer) = gateway.post(key, &path, &body).await;
        assert_eq!(status, expected, "{account} {body}: {answer}");
    };
    let ann = gateway.key("a", "ann", &["approve"]).await;
    let bo = gateway.key("b", "bo", &["approve"]).await;
    let reader = gateway.key("a", "kim", &["read"]).await;
    let (id, yes) = (id.to_string(), json!({ "vote": "approve" }));
    check(&bo, "a", &id, yes.clone(), 404).await;
    check(&bo, "b", &id, yes.clone(), 404).await;
    check(&reader, "a", &id, yes.clone(), 403).await;
    check(&ann, "a", "none", yes, 404).await;
    check(&ann, "a", &id, json!({ "vote": "maybe" }), 400).await;
    check(&ann, "a", &id, json!({}), 400).await;
    let waiting = gateway.ports.queue.backlog(Stream::Actions).await.expect("a backlog");
    assert!(waiting.is_empty(), "{waiting:?}");
}
