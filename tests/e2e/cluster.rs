//! A cluster of processes on real servers: any order, outages, drains.

mod balanced;
mod draining;
mod encrypted;
mod full;
mod neighbours;
mod refused;
mod stand;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aof_harness::{Manifests, until};
use aof_servers::{Nats, NatsOptions, Postgres, Redis};
use serde_json::{Value, json};

/// An operator's key, as `AOF_ADMIN_KEY` gives it.
pub(crate) const ADMIN_KEY: &str =
    "aof_00112233aabb_00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// How long each server stays away.
const AWAY: Duration = Duration::from_secs(3);
/// People who chat all the time.
const PEOPLE: usize = 4;

/// The servers, and what all nodes share.
pub(crate) struct Cluster {
    nats: Nats,
    redis: Redis,
    postgres: Postgres,
    pub(crate) manifests: Manifests,
    /// What every node finds in its environment beside the servers.
    pub(crate) env: Vec<(String, String)>,
    data: tempfile::TempDir,
    http: reqwest::Client,
}

/// A node as a process; killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) url: String,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let manifests = Manifests::new("");
        manifests.agent("shell", "  runtime: command\n  tools: [echo]\n");
        let trigger = "  trigger: {type: Chat}\n";
        manifests.flow("ops", &format!("{trigger}  agents: [{{name: shell}}]\n"));
        Self {
            nats: Nats::start(&NatsOptions::default()),
            redis: Redis::start(),
            postgres: Postgres::start(),
            manifests,
            env: Vec::new(),
            data: tempfile::tempdir().expect("a folder"),
            http: reqwest::Client::new(),
        }
    }

    pub(crate) fn node(&self, role: &str) -> Process {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let address = free.expect("a free port").to_string();
        let config: &Path = self.manifests.dir.path();
        let child = Command::new(env!("CARGO_BIN_EXE_aofctl"))
            .args(["serve", "--role", role, "--listen", &address, "--config"])
            .arg(config.join("daemon.yaml"))
            .arg("--data-dir")
            .arg(self.data.path().join(role))
            .env("AOF_LOG", std::env::var("AOF_LOG").unwrap_or_else(|_| "error".to_owned()))
            .env("AOF_ADMIN_KEY", ADMIN_KEY)
            .env("NATS_URL", self.nats.url())
            .env("REDIS_URL", self.redis.url())
            .env("DATABASE_URL", self.postgres.url())
            .env("OTEL_SERVICE_NAME", format!("aof-{role}"))
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("aofctl starts");
        Process { child, url: format!("http://{address}") }
    }

    /// Status and body; status 0 when nobody answers.
    async fn get(&self, url: String) -> (u16, Value) {
        let Ok(answer) = self.http.get(url).bearer_auth(ADMIN_KEY).send().await else {
            return (0, Value::Null);
        };
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or_default())
    }

    pub(crate) async fn ready(&self, nodes: &[Process]) {
        for node in nodes {
            until("a node to be ready", async || {
                let (status, _) = self.get(format!("{}/readyz", node.url)).await;
                (status == 200).then_some(())
            })
            .await;
        }
    }

    /// Chats under `event` until it is answered; the answer, and whether it was ever refused.
    async fn chat(&self, gateway: &Process, user: &str, event: &str) -> (Value, bool) {
        let url = format!("{}/accounts/default/chat", gateway.url);
        let said = format!("echo {event}");
        let body = json!({"text": said, "user": user, "event_id": event, "channel": "ops"});
        let mut refused = false;
        let answer = until(event, async || {
            let sent = self.http.post(&url).bearer_auth(ADMIN_KEY).json(&body).send().await.ok()?;
            let (status, after) =
                (sent.status().as_u16(), sent.headers().contains_key("retry-after"));
            let answer: Value = sent.json().await.unwrap_or_default();
            if status == 503 {
                refused = true;
                assert!(after, "when to come back: {answer}");
                tokio::time::sleep(Duration::from_millis(200)).await;
                return None;
            }
            assert!(matches!(status, 200 | 202), "{status}: {answer}");
            (status == 200).then_some(answer)
        })
        .await;
        (answer, refused)
    }

    /// Every terminal event of the account: message and kind.
    async fn ended(&self, gateway: &Process) -> Vec<String> {
        let url = format!("{}/accounts/default/events?follow=false&after=0", gateway.url);
        let asked = self.http.get(url).bearer_auth(ADMIN_KEY);
        let answer = asked.header("accept", "application/x-ndjson").send().await;
        let text = answer.expect("an answer").text().await.expect("a body");
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let ended = events.filter(|event| event["type"] == "run.completed");
        ended.filter_map(|event| event["message_id"].as_str().map(str::to_owned)).collect()
    }
}

impl Process {
    /// SIGTERM; returns the exit code.
    fn drain(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
        self.child.wait().expect("the child ends").code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn four_roles_start_before_their_servers_answer_a_chat_and_drain() {
    let cluster = Cluster::new();
    cluster.nats.kill();
    cluster.redis.kill();
    cluster.postgres.kill();
    let nodes = ["worker", "approver", "router", "gateway"].map(|role| cluster.node(role));
    for node in &nodes {
        let why = until("a reason to wait", async || {
            let (status, ready) = cluster.get(format!("{}/readyz", node.url)).await;
            let why = ready["parts"]["nats"].as_str().map(str::to_owned);
            why.filter(|_| status == 503)
        })
        .await;
        assert!(why.starts_with(&format!("waiting for NATS at {}", cluster.nats.url())), "{why}");
        assert_eq!(cluster.get(format!("{}/livez", node.url)).await.0, 200);
    }
    cluster.postgres.start_again();
    cluster.redis.start_again();
    cluster.nats.start_again();
    cluster.ready(&nodes).await;
    let gateway = &nodes[3];
    let (answer, _) = cluster.chat(gateway, "u1", "first").await;
    assert_eq!((&answer["status"], &answer["durability"]), (&json!("success"), &json!("memory")));
    assert!(answer["answer"].as_str().is_some_and(|text| text.contains("first")), "{answer}");
    let listed = until("all nodes in the listing", async || {
        let (_, status) = cluster.get(format!("{}/status", gateway.url)).await;
        let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
        (nodes.len() == 4).then_some(nodes)
    })
    .await;
    let roles: Vec<&Value> = listed.iter().map(|node| &node["roles"][0]).collect();
    for role in ["gateway", "router", "worker", "approver"] {
        assert!(roles.contains(&&json!(role)), "{roles:?}");
    }
    for node in nodes {
        assert_eq!(node.drain(), Some(0));
    }
}

#[tokio::test]
async fn each_server_may_die_under_load_and_nothing_is_lost() {
    let cluster = Cluster::new();
    let nodes =
        ["gateway", "router", "worker", "worker", "approver"].map(|role| cluster.node(role));
    cluster.ready(&nodes).await;
    let gateway = &nodes[0];
    let over = std::sync::atomic::AtomicBool::new(false);
    let person = async |n: usize| {
        let mut answers = Vec::new();
        while !over.load(std::sync::atomic::Ordering::SeqCst) {
            let event = format!("event-{n}-{}", answers.len());
            answers.push(cluster.chat(gateway, &format!("u{n}"), &event).await);
        }
        answers
    };
    let outages = async {
        let away = async |part: &str| {
            until(&format!("{part} to be away"), async || {
                let (_, ready) = cluster.get(format!("{}/readyz", nodes[1].url)).await;
                ready["parts"][part].as_str().map(str::to_owned)
            })
            .await
        };
        cluster.redis.kill();
        let why = away("redis").await;
        assert!(why.starts_with("Redis is away since 20"), "{why}");
        tokio::time::sleep(AWAY).await;
        cluster.redis.start_again();
        cluster.ready(&nodes).await;
        cluster.postgres.kill();
        away("postgres").await;
        tokio::time::sleep(AWAY).await;
        cluster.postgres.start_again();
        cluster.ready(&nodes).await;
        cluster.nats.kill();
        away("nats").await;
        let (alive, _) = cluster.get(format!("{}/livez", gateway.url)).await;
        assert_eq!(alive, 200, "an outage is no reason to restart");
        let back = async {
            tokio::time::sleep(AWAY).await;
            cluster.nats.start_again();
            cluster.ready(&nodes).await;
        };
        let (meanwhile, ()) = tokio::join!(cluster.chat(gateway, "late", "event-late"), back);
        tokio::time::sleep(AWAY).await;
        over.store(true, std::sync::atomic::Ordering::SeqCst);
        meanwhile
    };
    let people = futures_util::future::join_all((0..PEOPLE).map(person));
    let (answers, meanwhile) = tokio::join!(people, outages);
    assert!(meanwhile.1, "a chat was taken while NATS was away");
    let mut answers: Vec<(Value, bool)> = answers.into_iter().flatten().collect();
    answers.push(meanwhile);
    let refused = answers.iter().filter(|(_, refused)| *refused).count();
    println!("{} answered, {refused} of them refused at first", answers.len());
    let failed = answers.iter().map(|(answer, _)| answer).filter(|a| a["status"] != "success");
    let failed: Vec<&Value> = failed.collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let mut ended = cluster.ended(gateway).await;
    ended.sort_unstable();
    let all = ended.len();
    ended.dedup();
    assert_eq!(all, ended.len(), "a message ended twice");
    for (answer, _) in &answers {
        let id = answer["message_id"].as_str().expect("an id").to_owned();
        assert!(ended.binary_search(&id).is_ok(), "{id} has no end in the journal");
    }
    assert_eq!(ended.len(), answers.len(), "something ended that nobody sent");
}
