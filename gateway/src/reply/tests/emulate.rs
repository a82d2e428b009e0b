//! The same against a stand-in for Slack that is not ours: `emulate` 0.11.2 from npm.
//!
//! Runs with `AOF_EMULATE=1`, and then fails loudly when it cannot; the package is kept
//! in `target/emulate`.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::{Child, Command};

use aof_shared::action::ApprovalStatus;
use aof_shared::ids::PlatformName;
use aof_shared::subject::Stream;

use super::cards::{card, held, settle};
use super::harness::{Bench, answer, until};

/// The version that platforms.md describes.
const PACKAGE: &str = "emulate@0.11.2";
/// Its seed: our token, and a channel that a flow could name.
const SEED: &str = "slack:\n  users: [{name: aof}]\n  channels: [{name: production}]\n  \
                    tokens: [{token: xoxb-test, type: bot, user: aof}]\n";

/// A running stand-in; ends with its value.
struct Emulate {
    base: String,
    http: reqwest::Client,
    _child: Child,
    _dir: tempfile::TempDir,
}

impl Emulate {
    async fn start() -> Self {
        let script = installed().await;
        let dir = tempfile::tempdir().expect("a directory");
        let seed = dir.path().join("seed.yaml");
        std::fs::write(&seed, SEED).expect("the seed can be written");
        // Free for now: it takes no port 0.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let child = Command::new("node")
            .arg(script)
            .args(["start", "--service", "slack", "--port", &port.to_string(), "--seed"])
            .arg(&seed)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("node runs");
        let base = format!("http://127.0.0.1:{port}/api");
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let emulate = Self { base, http, _child: child, _dir: dir };
        until("an answer of emulate", || emulate.ask("auth.test", &[])).await;
        emulate
    }

    /// Asks as a reader of our own would; `None` when nobody answers.
    async fn ask(&self, method: &str, form: &[(&str, &str)]) -> Option<Value> {
        let url = format!("{}/{method}", self.base);
        let asked = self.http.post(url).bearer_auth("xoxb-test").form(form).send().await.ok()?;
        let answer: Value = asked.json().await.ok()?;
        assert_eq!(answer["ok"], true, "{method}: {answer}");
        Some(answer)
    }

    /// The messages of a thread, its root first.
    async fn thread(&self, channel: &str, ts: &str) -> Vec<Value> {
        let asked = self.ask("conversations.replies", &[("channel", channel), ("ts", ts)]).await;
        asked.expect("it answers")["messages"].as_array().expect("messages").clone()
    }
}

/// The package's program, installed if need be.
async fn installed() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/emulate");
    let script = root.join("node_modules/emulate/dist/index.js");
    if !script.exists() {
        std::fs::create_dir_all(&root).expect("the cache folder can be made");
        let status = Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--prefix"])
            .arg(&root)
            .arg(PACKAGE)
            .status()
            .await
            .expect("AOF_EMULATE=1 needs npm");
        assert!(status.success() && script.exists(), "{PACKAGE} could not be installed");
    }
    script
}

#[tokio::test]
async fn posts_threads_cards_and_channels_work_on_emulate() {
    if std::env::var("AOF_EMULATE").as_deref() != Ok("1") {
        println!("left out: egress against {PACKAGE}; set AOF_EMULATE=1 (needs node and npm)");
        return;
    }
    let emulate = Emulate::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    let bench = Bench::open(dir.path(), &emulate.base, Duration::from_secs(5)).await;

    let channel = resolved(&bench, &emulate).await;
    let root = answer(&channel, "# Done\n**web** is `up`");
    bench.publish(&root).await;
    let event = bench.event("reply.sent", &root).await;
    let ts = event.data["platform_id"].as_str().expect("a ts").to_owned();
    let mut inside = answer(&channel, "and more");
    inside.to.thread = Some(ts.clone());
    bench.publish(&inside).await;
    bench.event("reply.sent", &inside).await;
    let thread = emulate.thread(&channel, &ts).await;
    assert_eq!(thread[0]["text"], "*Done*\n*web* is `up`");
    assert_eq!(thread[1]["text"], "and more");

    approval(&bench, &emulate, &channel, &ts).await;

    let nowhere = answer("CNOWHERE00", "hi");
    bench.publish(&nowhere).await;
    let event = bench.event("reply.failed", &nowhere).await;
    assert_eq!(event.data["reason"], "channel_not_found");
    bench.settled(Stream::Replies).await;
}

/// Channel names are read at the start; a wrong id is remembered as such.
async fn resolved(bench: &Bench, emulate: &Emulate) -> String {
    let list = emulate.ask("conversations.list", &[]).await.expect("it answers");
    let channels = list["channels"].as_array().expect("channels");
    let production = channels.iter().find(|c| c["name"] == "production").expect("it is seeded");
    let id = production["id"].as_str().expect("an id").to_owned();
    crate::resolve::start(&bench.node).await;
    let tenant = "org-a".parse().expect("a name");
    let instance = "main".parse().expect("a name");
    let slack = PlatformName::slack();
    let store = &bench.node.ports.store;
    let known = until("a channel's name", || async {
        store.channel(&tenant, &slack, &instance, &id).await.expect("the store answers")
    })
    .await;
    assert_eq!(known.name.as_deref(), Some("production"));
    id
}

/// A card is posted with its reactions, and updated in place.
async fn approval(bench: &Bench, emulate: &Emulate, channel: &str, thread: &str) {
    let action = held(bench, channel, thread).await;
    let first = card(bench, &action, 1).await;
    bench.publish(&first).await;
    let event = bench.event("reply.sent", &first).await;
    let ts = event.data["platform_id"].as_str().expect("a ts").to_owned();
    let message = until("two reactions", || async {
        let messages = emulate.thread(channel, thread).await;
        let card = messages.into_iter().find(|m| m["ts"] == ts.as_str())?;
        (card["reactions"].as_array().map(Vec::len) == Some(2)).then_some(card)
    })
    .await;
    assert!(message["blocks"].to_string().contains("aof.deny"), "{message}");
    settle(bench, &action, ApprovalStatus::Approved).await;
    let second = card(bench, &action, 2).await;
    bench.publish(&second).await;
    bench.event("reply.sent", &second).await;
    let messages = emulate.thread(channel, thread).await;
    let updated = messages.iter().find(|m| m["ts"] == ts.as_str()).expect("the same message");
    assert!(updated["text"].as_str().expect("text").contains("Approved"));
    assert!(!updated["blocks"].to_string().contains("aof.deny"), "{updated}");
}
