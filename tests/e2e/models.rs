//! Agents with a model, told by third-party servers: a scripted one that speaks every
//! provider's API (aimock), and a real one (SmolLM2 in llama.cpp).

mod answers;
mod failures;
mod memory;
mod real;
mod tools;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use aof_harness::{Api, Manifests, ModelServer, Node, until};
use eventsource_stream::Eventsource;
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::root;

/// The provider of each API, and what its `base_url` ends in.
const PROVIDERS: [(&str, &str); 4] =
    [("openai", "/v1"), ("anthropic", "/v1"), ("google", "/v1beta"), ("ollama", "")];
/// The key that the node has for `openai`.
const KEY: &str = "k3y-of-the-test";
/// What the stub `kubectl` does: notes that it ran, and answers.
const KUBECTL: &str = r#"#!/bin/sh
echo "$*" >> "${0%/*}/ran"
case "$1" in
  get) echo "api-0 Running" ;;
  delete) echo "$2 $3 deleted" ;;
  *) echo "unexpected" ;;
esac
"#;

/// A scripted model, and a node whose agents use it, one flow a provider: channel and
/// agent are called like the provider.
struct Scene {
    model: ModelServer,
    node: Node,
    api: Api,
    manifests: Manifests,
    bin: tempfile::TempDir,
    _data: tempfile::TempDir,
}

/// What a streamed answer was.
struct Streamed {
    deltas: Vec<String>,
    text: String,
    done: Value,
}

impl Scene {
    /// `None`, said aloud, where third-party tools are not installed.
    fn start() -> Option<Self> {
        Some(Self::on(scripted(None)?, ""))
    }

    /// With a model that is served already, and more lines in the daemon's `spec`.
    fn on(model: ModelServer, more: &str) -> Self {
        let mut spec = String::from("  models:\n");
        for (provider, path) in PROVIDERS {
            spec.push_str(&format!("    {provider}:\n      base_url: {}{path}\n", model.url));
            if provider == "openai" {
                spec.push_str("      api_key_env: AOF_TEST_MODEL_KEY\n");
            }
        }
        let manifests = Manifests::new(&(spec + more));
        let bin = tempfile::tempdir().expect("a folder");
        let kubectl = bin.path().join("kubectl");
        std::fs::write(&kubectl, KUBECTL).expect("a writable folder");
        let runnable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&kubectl, runnable).expect("a mode");
        for (provider, _) in PROVIDERS {
            agent(&manifests, provider, &format!("{provider}:scripted"), "");
            flow(&manifests, provider, &bin, "");
        }
        let data = tempfile::tempdir().expect("a folder");
        let config = manifests.dir.path().join("daemon.yaml");
        let env = [("AOF_LOG", "info"), ("AOF_TEST_MODEL_KEY", KEY)];
        let node = Node::serve(env!("CARGO_BIN_EXE_aofctl"), &config, data.path(), &env);
        let api = Api::operator(&node, "default");
        Self { model, node, api, manifests, bin, _data: data }
    }

    /// Asks in `channel`, in a conversation of its own.
    async fn ask(&self, channel: &str, text: &str) -> Value {
        let conversation = format!("{channel}: {text}");
        let body = json!({"channel": channel, "text": text, "conversation": conversation});
        let (status, answer) = self.api.post("chat", &body).await;
        assert!((200..300).contains(&status), "{status}: {answer}");
        answer
    }

    /// The bodies of the model's requests, oldest first.
    async fn asked(&self) -> Vec<Value> {
        self.model.journal().await.into_iter().map(|request| request["body"].clone()).collect()
    }

    /// The lines of the commands that ran.
    fn ran(&self) -> Vec<String> {
        let ran = std::fs::read_to_string(self.bin.path().join("ran")).unwrap_or_default();
        ran.lines().map(ToOwned::to_owned).collect()
    }
}

/// A scripted model; with a key, it takes no other.
fn scripted(key: Option<&str>) -> Option<ModelServer> {
    ModelServer::scripted(&root().join("tests/e2e/tools/model.json"), key)
}

/// An agent that may list, describe and delete with the stub `kubectl`.
fn agent(manifests: &Manifests, name: &str, model: &str, more: &str) {
    manifests.agent(
        name,
        &format!(
            "  model: {model}\n  instructions: You run a cluster.\n  max_iterations: 4\n  \
             tools: [kubectl]\n  tool_config:\n    kubectl:\n      \
             allowed_commands: [get, describe, delete]\n{more}"
        ),
    );
}

/// A flow of the channel and agent `name`, whose deletions need two people.
fn flow(manifests: &Manifests, name: &str, bin: &tempfile::TempDir, context: &str) {
    let path = bin.path().display();
    manifests.flow(
        name,
        &format!(
            "  trigger:\n    type: Chat\n    config:\n      channels: [{name}]\n  \
             context:\n    env:\n      PATH: \"{path}:/usr/bin:/bin\"\n{context}  \
             agents:\n    - name: {name}\n  approval:\n    chains:\n      - name: pair\n        \
             approvers: [alice, bob]\n        require: 2\n    rules:\n      \
             - pattern: kubectl delete\n        chain: pair\n"
        ),
    );
}

/// Asks for a streamed answer, and puts its deltas together as the API says.
async fn streamed(api: &Api, channel: &str, text: &str) -> Streamed {
    let url = format!("{}/accounts/{}/chat", api.url, api.account);
    let body = json!({"channel": channel, "text": text});
    let request = api.http.post(url).bearer_auth(&api.key).json(&body);
    let answer = request.header("accept", "text/event-stream").send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let mut events = answer.bytes_stream().eventsource();
    let (mut deltas, mut text) = (Vec::new(), String::new());
    while let Some(event) = events.next().await {
        let event = event.expect("a whole event");
        let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
        match event.event.as_str() {
            "delta" => {
                let delta = data["text"].as_str().expect("a delta's text").to_owned();
                let offset = data["offset"].as_u64().and_then(|n| usize::try_from(n).ok());
                text.truncate(offset.expect("a delta's offset"));
                text.push_str(&delta);
                deltas.push(delta);
            }
            "done" => return Streamed { deltas, text, done: data },
            _ => {}
        }
    }
    panic!("the stream ended without `done`: {text:?}");
}

/// The terminal event of the message of `answer`.
async fn end_of(api: &Api, answer: &Value) -> Value {
    until("the terminal event", async || {
        let journal = api.journal().await;
        journal.into_iter().find(|event| {
            let kind = event["type"].as_str().unwrap_or_default();
            event["message_id"] == answer["message_id"]
                && ["run.completed", "run.failed"].contains(&kind)
        })
    })
    .await
}

/// The product.
fn aofctl() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_aofctl"))
}
