//! Chat: the whole answer as JSON, the same answer as a stream, and what survives lost chunks.

use aof_shared::event::{Event, EventType};
use aof_shared::ids::{ActionId, EventId, FlowName, RunId, TaskId};
use aof_shared::message::{AnswerChunk, Message, PINNED_AGENT};
use aof_shared::queue::{ConsumerSpec, Headers};
use aof_shared::subject::{LiveSubject, Stream};
use serde_json::{Value, json};

use super::approvals::held;
use crate::Options;
use crate::outcome::terminal_id;
use crate::testing::{AT, Gateway, read, tenant};

const ANSWER: &str = "Hällo, world";

fn run_of(message: &Message) -> RunId {
    RunId::derive(TaskId::derive(message.id, &FlowName::new("ops").expect("a plain name")))
}

async fn journal(gateway: &Gateway, event: Event) {
    let publication = event.publication().expect("an event");
    gateway.ports.queue.publish(vec![publication]).await.expect("published");
}

/// Takes the next message in.
async fn next_message(gateway: &Gateway) -> (Message, Headers) {
    let spec = ConsumerSpec {
        stream: Stream::Inbound,
        name: "router".to_owned(),
        rest: None,
        ack_wait_ms: 30_000,
        max_ack_pending: 10,
    };
    let consumer = gateway.ports.queue.consumer(spec).await.expect("a consumer");
    let mut deliveries = consumer.pull(None, 1, 10_000).await.expect("pulled");
    let delivery = deliveries.pop().expect("a message within ten seconds");
    let message = serde_json::from_slice(&delivery.message.payload).expect("a message");
    let headers = delivery.message.headers.clone();
    delivery.ack().await.expect("acked");
    (message, headers)
}

async fn finish(gateway: &Gateway, message: &Message) {
    let event = Event::new(terminal_id(message.id), &message.tenant, EventType::RunCompleted, AT)
        .about(message)
        .of_run(run_of(message))
        .with(json!({ "status": "success", "answer": ANSWER }));
    journal(gateway, event).await;
}

/// Works as a worker would: the chunks that `lost` spares, a step, then the end.
async fn work(gateway: &Gateway, lost: &[usize]) -> (Message, Headers) {
    let (message, headers) = next_message(gateway).await;
    let subject = LiveSubject::answer(&message.tenant, message.id);
    let pieces = [(0, "Häl"), (4, "lo, "), (8, "world")];
    let deltas = pieces.map(|(offset, text)| AnswerChunk::Delta { offset, text: text.to_owned() });
    for (n, chunk) in deltas.iter().enumerate().filter(|(n, _)| !lost.contains(n)) {
        let payload = serde_json::to_vec(chunk).expect("a chunk");
        gateway.ports.live.send(&subject, payload.into()).await;
        if n == 0 {
            let step = AnswerChunk::Step { text: "ran uname".to_owned() };
            let payload = serde_json::to_vec(&step).expect("a chunk");
            gateway.ports.live.send(&subject, payload.into()).await;
        }
    }
    finish(gateway, &message).await;
    (message, headers)
}

/// A stream's events as name and data.
fn parsed(text: &str) -> Vec<(String, Value)> {
    let field = |block: &str, name: &str| {
        let line = block.lines().find_map(|l| l.strip_prefix(name).map(str::to_owned));
        line.unwrap_or_default()
    };
    let blocks = text.split("\n\n").filter(|b| b.contains("data: "));
    let event = |b: &str| serde_json::from_str(&field(b, "data: ")).expect("JSON");
    blocks.map(|b| (field(b, "event: "), event(b))).collect()
}

async fn stream(gateway: &Gateway, body: &Value) -> Vec<(String, Value)> {
    let request = gateway.http.post(gateway.at("/accounts/a/chat")).bearer_auth(&gateway.admin);
    let request = request.header("accept", "text/event-stream").json(body);
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    parsed(&answer.text().await.expect("the whole stream"))
}

#[tokio::test]
async fn json_answers_carry_the_whole_truth_and_duplicates_the_same() {
    let gateway = Gateway::start().await;
    let key = gateway.key("a", "ann", &["chat"]).await;
    let body = json!({ "text": " hi ", "channel": "ops", "event_id": "e1", "tenant": "b" });
    let ask = gateway.post(&key, "/accounts/a/chat", &body);
    let ((status, answer), (message, _)) = tokio::join!(ask, work(&gateway, &[]));
    assert_eq!(status, 200, "{answer}");
    assert_eq!((&answer["answer"], &answer["status"]), (&json!(ANSWER), &json!("success")));
    assert_eq!(answer["message_id"], json!(message.id));
    assert_eq!(answer["run_id"], json!(run_of(&message)));
    assert_eq!((&answer["duplicate"], &answer["durability"]), (&json!(false), &json!("fsync")));
    assert_eq!((message.tenant.as_str(), message.user.id.as_str()), ("a", "ann"));
    assert_eq!((message.text.as_str(), message.channel.id.as_str()), ("hi", "ops"));
    let (status, again) = gateway.post(&key, "/accounts/a/chat", &body).await;
    assert_eq!((status, &again["duplicate"]), (200, &json!(true)), "{again}");
    assert_eq!(again["answer"], answer["answer"]);
    assert_eq!(gateway.inbound().await.len(), 1);
}

#[tokio::test]
async fn a_stream_ends_in_the_answer_whatever_was_lost() {
    let gateway = Gateway::start().await;
    for (n, lost) in [&[][..], &[1], &[0, 2], &[0, 1, 2]].into_iter().enumerate() {
        let body = json!({ "text": "hi", "event_id": n.to_string() });
        let (events, _) = tokio::join!(stream(&gateway, &body), work(&gateway, lost));
        let mut text = String::new();
        for (_, data) in events.iter().filter(|(name, _)| name == "delta") {
            let offset =
                usize::try_from(data["offset"].as_u64().expect("an offset")).expect("fits");
            text.truncate(offset);
            text.push_str(data["text"].as_str().expect("text"));
        }
        assert_eq!(text, ANSWER, "lost {lost:?}: {events:?}");
        assert_eq!(events[0].0, "accepted");
        let (name, done) = events.last().expect("an end");
        assert_eq!((name.as_str(), &done["answer"]), ("done", &json!(ANSWER)));
        let stepped = events.iter().any(|(name, _)| name == "step");
        assert_eq!(stepped, !lost.contains(&0));
    }
}

#[tokio::test]
async fn a_held_action_is_told_at_once_and_a_stream_goes_on() {
    let gateway = Gateway::start().await;
    let hold = async |gateway: &Gateway| {
        let (message, _) = next_message(gateway).await;
        let action = ActionId::derive(run_of(&message), 1);
        let id = EventId::derive(action.0, "held");
        let event = Event::new(id, &message.tenant, EventType::ActionHeld, AT).about(&message);
        journal(gateway, event.with(json!({ "action_id": action }))).await;
        // The approver comes after the journal, and the answer after both.
        let stored = held(message.clone());
        assert_eq!(stored.id, action);
        assert!(gateway.ports.store.hold(&stored).await.expect("held"));
        (message, action)
    };
    let body = json!({ "text": "rm -r x" });
    let ask = gateway.post(&gateway.admin, "/accounts/a/chat", &body);
    let ((status, answer), (_, action)) = tokio::join!(ask, hold(&gateway));
    assert_eq!((status, &answer["status"]), (202, &json!("held")), "{answer}");
    assert_eq!(answer["approval_id"], json!(action));
    let known = gateway.ports.store.approval(&tenant("a"), action).await;
    assert!(known.expect("the store answers").is_some(), "told before it could be voted on");
    let later = async {
        let (message, _) = hold(&gateway).await;
        finish(&gateway, &message).await;
    };
    let (events, ()) = tokio::join!(stream(&gateway, &body), later);
    let names: Vec<_> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["accepted", "step", "delta", "done"], "{events:?}");
    assert_eq!(events[1].1["status"], "held");
}

#[tokio::test]
async fn who_waits_too_long_is_told_that_it_was_accepted() {
    let gateway = Gateway::start_with(|o| Options { chat_wait_ms: 50, ..o }).await;
    let body = json!({ "text": "hi" });
    let (status, answer) = gateway.post(&gateway.admin, "/accounts/a/chat", &body).await;
    assert_eq!((status, &answer["status"]), (202, &json!("accepted")), "{answer}");
    assert_eq!(gateway.inbound().await.len(), 1);
}

#[tokio::test]
async fn an_agent_can_be_asked_for_by_name_within_its_account() {
    let gateway = Gateway::start().await;
    let body = json!({ "text": "hi" });
    let path = "/accounts/a/agents/shell-a/chat";
    let ask = gateway.post(&gateway.admin, path, &body);
    let ((status, _), (_, headers)) = tokio::join!(ask, work(&gateway, &[]));
    assert_eq!(status, 200);
    assert_eq!(headers.get(PINNED_AGENT).map(String::as_str), Some("shell-a"));
    for other in ["shell-b", "nobody", "a%20b"] {
        let path = format!("/accounts/a/agents/{other}/chat");
        assert_eq!(gateway.post(&gateway.admin, &path, &body).await.0, 404, "{other}");
    }
}

#[tokio::test]
async fn only_the_operator_speaks_as_others_and_bad_input_says_where() {
    let gateway = Gateway::start().await;
    let key = gateway.key("a", "ann", &["chat"]).await;
    let check = async |body: Value, pointer: &str| {
        let (status, answer) = gateway.post(&key, "/accounts/a/chat", &body).await;
        assert_eq!((status, &answer["errors"][0]["pointer"]), (400, &json!(pointer)), "{body}");
    };
    check(json!({ "text": "  " }), "/text").await;
    check(json!({}), "").await;
    check(json!({ "text": "hi", "user": "bo" }), "/user").await;
    check(json!({ "text": "hi", "channel": "" }), "/channel").await;
    check(json!({ "text": "hi", "conversation": "a\nb" }), "/conversation").await;
    let as_bo = json!({ "text": "hi", "user": "bo" });
    let ask = gateway.post(&gateway.admin, "/accounts/a/chat", &as_bo);
    let ((status, _), (message, _)) = tokio::join!(ask, work(&gateway, &[]));
    assert_eq!((status, message.user.id.as_str()), (200, "bo"));
    let large = gateway.http.post(gateway.at("/accounts/a/chat")).bearer_auth(&key);
    let large = large.json(&json!({ "text": "x".repeat(1024 * 1024) })).send().await;
    assert_eq!(read(large.expect("an answer")).await.0, 413);
}

#[tokio::test]
async fn a_stopping_node_lets_nobody_wait() {
    let gateway = Gateway::start().await;
    let body = json!({ "text": "hi" });
    let stop = async {
        next_message(&gateway).await;
        gateway.lifecycle.stop();
    };
    let ask = gateway.post(&gateway.admin, "/accounts/a/chat", &body);
    let ((status, answer), ()) = tokio::join!(ask, stop);
    assert_eq!((status, &answer["status"]), (202, &json!("accepted")), "{answer}");
}
