//! What failed for good, tried again by a person with `aofctl dead-letters retry`.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aof_harness::{
    Api, Manifests, Node, SIGNING_SECRET, Sender, Slack, mention, slack_trigger, until,
};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::Value;

/// A model's API that refuses its first call for good and answers all others.
#[derive(Clone, Default)]
struct Model(Arc<AtomicUsize>);

impl Model {
    async fn start() -> (Self, String) {
        let model = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
        let app =
            Router::new().route("/v1/chat/completions", post(complete)).with_state(model.clone());
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(async move { axum::serve(listener, app).await });
        (model, url)
    }
}

async fn complete(State(model): State<Model>) -> Response {
    if model.0.fetch_add(1, Ordering::SeqCst) == 0 {
        let error = r#"{"error": {"message": "bad key"}}"#;
        return (StatusCode::UNAUTHORIZED, error).into_response();
    }
    let answer = r#"{"choices": [{"index": 0, "delta": {"content": "all is well"}}]}"#;
    let end = r#"{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}"#;
    let body = format!("data: {answer}\n\ndata: {end}\n\ndata: [DONE]\n\n");
    ([("content-type", "text/event-stream")], body).into_response()
}

struct Stage {
    node: Node,
    api: Api,
    slack: Slack,
    sender: Sender,
    _manifests: Manifests,
    _data: tempfile::TempDir,
}

async fn stage(daemon: &str, model: &str) -> Stage {
    let (slack, address) = Slack::start(&[]).await;
    let manifests = Manifests::new(daemon);
    manifests.agent("helper", &format!("  model: {model}\n"));
    let trigger = slack_trigger(address, "xoxb-1", SIGNING_SECRET, "");
    manifests.flow("ops", &format!("{trigger}  agents: [{{name: helper}}]\n"));
    let data = tempfile::tempdir().expect("a folder");
    let node = Node::start(env!("CARGO_BIN_EXE_aofctl"), manifests.dir.path(), data.path());
    let api = Api::operator(&node, "default");
    let sender = Sender::new(&node.url, "default");
    Stage { node, api, slack, sender, _manifests: manifests, _data: data }
}

impl Stage {
    async fn says(&self, text: &str) -> String {
        let event = mention("C0000001", "U0000001", "1700000000.000100", text);
        let receipt = self.sender.accepted(event).await;
        receipt["message_id"].as_str().expect("an id").to_owned()
    }

    /// Waits for `count` events of one type; gives the last.
    async fn nth(&self, kind: &str, count: usize) -> Value {
        until(&format!("{count} × {kind}"), async || {
            let events = self.api.events(kind).await;
            (events.len() >= count).then(|| events.last().cloned()).flatten()
        })
        .await
    }

    fn aofctl(&self, args: &[&str]) -> Value {
        let output = Command::new(env!("CARGO_BIN_EXE_aofctl"))
            .args(args)
            .args(["--output", "json", "--server", &self.node.url])
            .env("AOF_API_KEY", self.node.admin_key())
            .output()
            .expect("aofctl runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {errors}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// The number of the only dead letter.
    async fn dead(&self) -> String {
        let list = until("a dead letter", async || {
            let list = self.aofctl(&["dead-letters", "list"]);
            (list["dead_letters"].as_array().map(Vec::len) == Some(1)).then_some(list)
        })
        .await;
        list["dead_letters"][0]["seq"].to_string()
    }
}

#[tokio::test]
async fn a_failed_run_really_runs_again_as_a_new_message_that_names_its_origin() {
    let (model, url) = Model::start().await;
    let daemon = format!("  models:\n    local: {{base_url: {url}}}\n");
    let stage = stage(&daemon, "local:small").await;
    let first = stage.says("how are you").await;
    let failed = stage.nth("run.failed", 1).await;
    assert_eq!(failed["message_id"], first.as_str());
    let calls = model.0.load(Ordering::SeqCst);

    let retried = stage.aofctl(&["dead-letters", "retry", &stage.dead().await]);
    let second = retried["message_id"].as_str().expect("a new message").to_owned();
    assert_ne!(second, first);
    let completed = stage.nth("run.completed", 1).await;
    assert_eq!(completed["message_id"], second.as_str());
    assert_eq!(completed["data"]["answer"], "all is well");
    assert_eq!(model.0.load(Ordering::SeqCst), calls + 1, "the model was asked again");
    let accepted = stage.nth("message.accepted", 2).await;
    assert_eq!(accepted["data"]["retry_of"], first.as_str());
    let answer = until("the answer", async || {
        let posts = stage.slack.calls("chat.postMessage");
        posts.into_iter().find(|post| post["text"] == "all is well")
    })
    .await;
    assert_eq!(answer["thread_ts"], "1700000000.000100", "in the thread of the first");
    let list = stage.aofctl(&["dead-letters", "list"]);
    assert_eq!(list["dead_letters"].as_array().map(Vec::len), Some(0), "{list}");
}

#[tokio::test]
async fn a_reply_that_was_refused_is_sent_once_after_the_bot_was_invited() {
    let stage = stage("", "echo:repeat").await;
    stage.slack.refuse("chat.postMessage", Some("not_in_channel"));
    let message = stage.says("hello").await;
    let failed = stage.nth("reply.failed", 1).await;
    assert_eq!(failed["data"]["reason"], "not_in_channel");
    let seq = stage.dead().await;
    stage.aofctl(&["dead-letters", "retry", &seq]);
    stage.nth("reply.failed", 2).await;
    assert_eq!(stage.slack.posted(), 0, "not invited yet");

    stage.slack.refuse("chat.postMessage", None);
    let seq = stage.dead().await;
    stage.aofctl(&["dead-letters", "retry", &seq]);
    let sent = stage.nth("reply.sent", 1).await;
    assert_eq!(sent["message_id"], message.as_str());
    assert_eq!(sent["data"]["reply_id"], failed["data"]["reply_id"]);
    assert_eq!(stage.slack.posted(), 1);
    assert_eq!(stage.api.events("run.started").await.len(), 1, "the run is not run again");
}
