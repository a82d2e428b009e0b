//! Models over HTTP that answer, call tools, fail, and talk nonsense.

use std::sync::atomic::AtomicUsize;

use aof_shared::config::{Daemon, ModelEndpoint};
use aof_shared::event::EventType;
use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use super::*;
use crate::Worker;
use crate::model::Models;

/// Answers call `n` with the `n`th of its answers, then with the last.
struct Script {
    answers: Vec<ResponseTemplate>,
    calls: AtomicUsize,
}

impl Respond for Script {
    fn respond(&self, _: &Request) -> ResponseTemplate {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        self.answers[call.min(self.answers.len() - 1)].clone()
    }
}

/// A streamed answer of the OpenAI API.
fn stream(chunks: &[Value]) -> ResponseTemplate {
    let mut body = String::new();
    for chunk in chunks {
        body.push_str(&format!("data: {chunk}\n\n"));
    }
    body.push_str("data: [DONE]\n\n");
    ResponseTemplate::new(200).set_body_raw(body, "text/event-stream")
}

fn delta(delta: Value) -> Value {
    json!({"choices": [{"index": 0, "delta": delta}]})
}

pub(super) fn text(words: &[&str]) -> ResponseTemplate {
    let mut chunks: Vec<_> = words.iter().map(|w| delta(json!({"content": w}))).collect();
    chunks.push(json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}));
    chunks.push(json!({"choices": [], "usage": {
        "prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15}}));
    stream(&chunks)
}

pub(super) fn tool_call(name: &str, arguments: &str) -> ResponseTemplate {
    stream(&[
        delta(json!({"tool_calls": [{"index": 0, "id": "call_1", "type": "function",
            "function": {"name": name, "arguments": arguments}}]})),
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}),
    ])
}

async fn served(answers: Vec<ResponseTemplate>) -> (MockServer, Daemon) {
    let server = MockServer::start().await;
    let script = Script { answers, calls: AtomicUsize::new(0) };
    Mock::given(any()).respond_with(script).mount(&server).await;
    let endpoint =
        ModelEndpoint { base_url: Some(format!("{}/v1", server.uri())), ..Default::default() };
    let models = [("local".to_owned(), endpoint)].into();
    (server, Daemon { models, ..Daemon::default() })
}

/// What a run of the scripted model comes to: status, answer, calls made, tokens.
async fn outcome(answers: Vec<ResponseTemplate>) -> (String, String, Vec<Value>) {
    outcome_over("openai", answers).await
}

/// The same with a server that speaks another API.
async fn outcome_over(api: &str, answers: Vec<ResponseTemplate>) -> (String, String, Vec<Value>) {
    let (server, mut daemon) = served(answers).await;
    daemon.models.values_mut().for_each(|endpoint| endpoint.api = Some(api.to_owned()));
    let agent = modeller("local", &["echo"]);
    let rig = Rig::new(snapshot(agent, vec![flow("acme", "ops", &[])], daemon));
    rig.start_with(Models::impatient()).await;
    let task = fixture::task("acme", "ops", "do it");
    rig.send(&task).await;
    let (status, answer) = rig.end(&task).await;
    rig.stop().await;
    let requests = server.received_requests().await.expect("they are kept");
    let bodies = requests.iter().map(|r| serde_json::from_slice(&r.body).expect("JSON")).collect();
    (status, answer, bodies)
}

impl Rig {
    /// Starts a worker whose models wait milliseconds between tries.
    async fn start_with(&self, models: Models) {
        crate::start_worker(&self.node, self.options(), models).await.expect("it starts");
    }
}

#[tokio::test]
async fn an_answer_streams_and_its_tokens_are_counted() {
    let (server, daemon) = served(vec![text(&["Hel", "lo", "!"])]).await;
    let rig = Rig::new(snapshot(modeller("local", &[]), vec![flow("acme", "ops", &[])], daemon));
    rig.start().await;
    let task = fixture::task("acme", "ops", "hi");
    rig.send(&task).await;
    assert_eq!(rig.end(&task).await, ("success".to_owned(), "Hello!".to_owned()));
    let end = rig.event(&task.message, EventType::RunCompleted).await;
    assert_eq!(end.data["tokens"], 15);
    // The next message of the conversation brings the history.
    let mut message = fixture::message("acme", "second", "again");
    message.conversation.clone_from(&task.message.conversation);
    let second = fixture::task_of(message, "ops");
    rig.send(&second).await;
    rig.end(&second).await;
    let requests = server.received_requests().await.expect("they are kept");
    let body: Value = serde_json::from_slice(&requests[1].body).expect("JSON");
    let said: Vec<_> =
        body["messages"].as_array().expect("a list").iter().map(|m| m["content"].clone()).collect();
    assert_eq!(said, [json!("hi"), json!("Hello!"), json!("again")]);
    rig.stop().await;
}

#[tokio::test]
async fn tool_calls_run_and_their_results_go_back() {
    let (status, answer, bodies) = outcome(vec![
        tool_call("echo", r#"{"args": ["from", "the", "tool"]}"#),
        text(&["It said: ", "from the tool"]),
    ])
    .await;
    assert_eq!((status.as_str(), answer.as_str()), ("success", "It said: from the tool"));
    let messages = bodies[1]["messages"].as_array().expect("a list");
    let result = messages.last().expect("the result");
    assert_eq!(result["role"], "tool");
    assert_eq!(result["content"], "from the tool\n");
    assert_eq!(bodies[0]["tools"][0]["function"]["name"], "echo");
}

#[tokio::test]
async fn what_passes_is_tried_again_and_what_is_wrong_is_not() {
    for (answers, status, part, calls) in [
        (vec![ResponseTemplate::new(429), text(&["ok"])], "success", "ok", 2),
        (
            vec![ResponseTemplate::new(503), ResponseTemplate::new(500), text(&["ok"])],
            "success",
            "ok",
            3,
        ),
        (vec![ResponseTemplate::new(500)], "failed", "500", 4),
        (
            vec![
                ResponseTemplate::new(401).set_body_json(json!({"error": {"message": "bad key"}})),
            ],
            "failed",
            "bad key",
            1,
        ),
        (vec![ResponseTemplate::new(404)], "failed", "404", 1),
    ] {
        let (ended, answer, bodies) = outcome(answers).await;
        assert_eq!(ended, status, "{answer}");
        assert!(answer.contains(part), "{answer}");
        assert_eq!(bodies.len(), calls, "{answer}");
    }
}

#[tokio::test]
async fn nonsense_ends_with_a_clear_message_inside_the_limits() {
    let garbage =
        ResponseTemplate::new(200).set_body_raw("data: {nonsense\n\n", "text/event-stream");
    let silent = ResponseTemplate::new(200).set_body_raw("", "text/event-stream");
    for (answers, part, most) in [
        (vec![garbage], "makes no sense", 4),
        (vec![silent], "makes no sense", 4),
        (vec![text(&[])], "empty answer", 1),
        (vec![tool_call("echo", r#"{"args": ["again"]}"#)], "without a final answer", 10),
        (vec![tool_call("no_such_tool", "{}")], "without a final answer", 10),
        (vec![tool_call("echo", "not json at all")], "without a final answer", 10),
    ] {
        let (status, answer, bodies) = outcome(answers).await;
        assert_eq!(status, "failed", "{answer}");
        assert!(answer.contains(part), "{part}: {answer}");
        assert!(bodies.len() <= most, "{part}: {} calls", bodies.len());
    }
}

#[tokio::test]
async fn an_answer_without_its_end_is_no_answer() {
    let half = |kind: &str, body: String| ResponseTemplate::new(200).set_body_raw(body, kind);
    let lines = r#"{"message": {"role": "assistant", "content": "half"}, "done": false}"#;
    let events = r#"{"candidates": [{"content": {"role": "model", "parts": [{"text": "half"}]}}]}"#;
    for (api, answer) in [
        ("ollama", half("application/x-ndjson", format!("{lines}\n"))),
        ("gemini", half("text/event-stream", format!("data: {events}\n\n"))),
    ] {
        let (status, answer, bodies) = outcome_over(api, vec![answer]).await;
        assert_eq!(status, "failed", "{api}: {answer}");
        assert!(answer.contains("broke off"), "{api}: {answer}");
        assert_eq!(bodies.len(), 1, "{api}: what was shown is not asked for again");
    }
}

#[tokio::test]
async fn a_request_is_cut_at_its_token_limit() {
    let (_server, daemon) = served(vec![tool_call("echo", r#"{"args": ["x"]}"#)]).await;
    let mut ops = flow("acme", "ops", &[]);
    ops.limits.max_tokens_per_request = Some(60);
    let rig = Rig::new(snapshot(modeller("local", &["echo"]), vec![ops], daemon));
    rig.start().await;
    let task = fixture::task("acme", "ops", "go on for ever");
    rig.send(&task).await;
    let (status, answer) = rig.end(&task).await;
    assert_eq!(status, "refused");
    assert!(answer.contains("limit of 60 tokens"), "{answer}");
    rig.stop().await;
}

#[test]
fn a_worker_is_shared_between_threads() {
    fn check<T: Send + Sync>() {}
    check::<Worker>();
}
