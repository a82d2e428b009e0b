//! Servers and nodes of one test, each its own process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aof_harness::{Manifests, until};
use aof_servers::{Member, MemberOptions, Nats, NatsOptions, Postgres, Redis};
use serde_json::{Value, json};

use super::ADMIN_KEY;

/// Longest wait for one answer: shorter than a chat waits for its run, which is asked for
/// again under the same event.
const ANSWER: Duration = Duration::from_secs(15);
/// Pause before what was refused is said again.
const AGAIN: Duration = Duration::from_millis(100);

/// The servers, and manifests with one agent for `echo`, `sleep` and `printenv`.
pub(super) struct Stand {
    pub(super) nats: Nats,
    pub(super) redis: Redis,
    pub(super) postgres: Postgres,
    pub(super) http: reqwest::Client,
}

impl Stand {
    pub(super) fn new(nats: &NatsOptions) -> Self {
        Self {
            nats: Nats::start(nats),
            redis: Redis::start(),
            postgres: Postgres::start(),
            http: reqwest::Client::builder().timeout(ANSWER).build().expect("a client"),
        }
    }

    /// Starts a node on `config`; `env` goes before what leads to the servers.
    pub(super) fn node(&self, role: &str, config: &Path, env: &[(&str, &str)]) -> Member {
        let mut all = vec![("AOF_ADMIN_KEY", ADMIN_KEY), ("AOF_LOG", "warn")];
        all.extend(env);
        let options = MemberOptions {
            binary: PathBuf::from(env!("CARGO_BIN_EXE_aofctl")),
            role: role.to_owned(),
            config: config.to_owned(),
            env: all.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        };
        Member::start(&options, (&self.nats, &self.redis, &self.postgres))
    }

    /// Status and body of a GET at a node; 0 when nobody answers.
    pub(super) async fn get(&self, url: &str, path: &str) -> (u16, Value) {
        let Ok(answer) = self.http.get(format!("{url}{path}")).bearer_auth(ADMIN_KEY).send().await
        else {
            return (0, Value::Null);
        };
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    /// Says `text` once under `event`: status and body; 0 when nobody answers.
    pub(super) async fn say(&self, url: &str, event: &str, text: &str) -> (u16, Value) {
        let body = json!({
            "text": text, "user": "u1", "conversation": event, "event_id": event, "channel": "ops",
        });
        let chat = self.http.post(format!("{url}/accounts/default/chat"));
        let Ok(answer) = chat.bearer_auth(ADMIN_KEY).json(&body).send().await else {
            return (0, Value::Null);
        };
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    /// Says `text` under `event` until it is answered.
    pub(super) async fn chat(&self, url: &str, event: &str, text: &str) -> Value {
        until(event, async || match self.say(url, event, text).await {
            (200, answer) => Some(answer),
            _ => {
                tokio::time::sleep(AGAIN).await;
                None
            }
        })
        .await
    }

    /// The journal of the account `default`.
    pub(super) async fn journal(&self, url: &str) -> Vec<Value> {
        let url = format!("{url}/accounts/default/events?follow=false&after=0");
        let asked = self.http.get(url).bearer_auth(ADMIN_KEY);
        let answer = asked.header("accept", "application/x-ndjson").send().await;
        let text = answer.expect("an answer").text().await.expect("a body");
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

/// Waits until all are ready.
pub(super) async fn ready(nodes: &[&Member]) {
    for node in nodes {
        until("a node to be ready", async || node.is_ready().then_some(())).await;
    }
}

/// Where a node takes requests.
pub(super) fn url(node: &Member) -> String {
    format!("http://{}", node.addr())
}

/// Manifests with one agent that runs plain commands.
pub(super) fn manifests(daemon: &str) -> Manifests {
    let manifests = Manifests::new(daemon);
    manifests.agent("shell", "  runtime: command\n  tools: [echo, sleep, printenv]\n");
    let rest = "  context: {env: {WHOSE: nobody}}\n  agents: [{name: shell}]\n";
    manifests.flow("ops", &format!("  trigger: {{type: Chat}}\n{rest}"));
    manifests
}

/// The configuration of a node on these manifests.
pub(super) fn config(manifests: &Manifests) -> PathBuf {
    manifests.dir.path().join("daemon.yaml")
}
