//! A million recorded decisions, made again: how fast, beside reading the same records and
//! doing nothing with them; and that none of them differs from itself.

use std::process::Command;
use std::time::{Duration, Instant};

use aof_harness as harness;
use aof_shared::backend::open_embedded;
use aof_shared::clock::SystemClock;
use aof_shared::ids::{InstanceName, MessageId, PlatformName, TenantId};
use aof_shared::lifecycle::Lifecycle;
use aof_shared::message::{Channel, Message, MessageKind, User};
use aof_shared::queue::Publication;
use aof_shared::subject::Subject;
use futures_util::StreamExt;
use harness::{Manifests, Node};
use serde_json::Value;

/// Decisions; `AOF_DECISIONS` sets another number.
const DECISIONS: u64 = 1_000_000;
/// Messages stored at once.
const BATCH: u64 = 512;
/// Flows of the organisation, each on a channel of its own, every other one with a pattern.
const FLOWS: u64 = 100;
/// Longest wait for the router to decide everything.
const PATIENCE: Duration = Duration::from_secs(900);
const ACCOUNT: &str = "replayed";

pub(crate) async fn run() {
    let wanted = std::env::var("AOF_DECISIONS").ok().and_then(|n| n.parse().ok());
    let decisions = wanted.unwrap_or(DECISIONS);
    let (recorded, other) = (manifests(""), manifests("x"));
    let data = tempfile::Builder::new().tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    store(data.path(), decisions).await;
    let node = Node::start(env!("CARGO_BIN_EXE_aofctl"), recorded.dir.path(), data.path());
    decided(&node).await;
    let (read_rate, bytes) = read(&node, decisions).await;
    println!(
        "replay ceiling: the same records read over HTTP and thrown away, {read_rate:.0} decisions/s, \
         {} bytes each",
        bytes / decisions
    );
    let (own, report) = replay(&node, "recorded");
    let coverage = &report["coverage"];
    assert_eq!(coverage["covered"], decisions, "{coverage}");
    assert_eq!(report["differences"], serde_json::json!({}), "{report:#}");
    println!(
        "replay: {decisions} decisions against their own configuration, 0 differences, {:.0}/s \
         ({:.0} % of the ceiling)",
        decisions as f64 / own.as_secs_f64(),
        decisions as f64 / own.as_secs_f64() / read_rate * 100.0
    );
    let (took, report) = replay(&node, other.dir.path().to_str().expect("text"));
    assert_eq!(report["coverage"]["covered"], decisions);
    println!(
        "replay: against a folder where every pattern is another, {:.0}/s, differences {}",
        decisions as f64 / took.as_secs_f64(),
        report["differences"]
    );
}

/// One request an hour, so that what is routed keeps waiting. `more` changes every pattern.
fn manifests(more: &str) -> Manifests {
    let manifests = Manifests::new("  limits: {per_organization: {max_requests_per_hour: 1}}\n");
    manifests.agent("echo", "  model: echo:repeat\n");
    for flow in 0..FLOWS {
        let pattern = if flow % 2 == 0 {
            format!(", patterns: [\"deploy{more} .*{}\"]", flow % 10)
        } else {
            String::new()
        };
        manifests.flow(
            &format!("flow-{flow}"),
            &format!(
                "  trigger: {{type: Slack, config: {{channels: [C{flow:08}]{pattern}}}}}\n  \
                 context: {{organization: {ACCOUNT}}}\n  agents: [{{name: echo}}]\n"
            ),
        );
    }
    manifests
}

/// Puts messages into INBOUND as the gateway does.
async fn store(data: &std::path::Path, decisions: u64) {
    let lifecycle = Lifecycle::new();
    let ports =
        open_embedded(data, std::sync::Arc::new(SystemClock), &lifecycle).expect("it opens");
    for from in (0..decisions).step_by(usize::try_from(BATCH).expect("small")) {
        let batch = (from..decisions.min(from + BATCH)).map(publication).collect();
        ports.queue.publish(batch).await.expect("stored");
    }
    lifecycle.stop();
    drop(ports);
    lifecycle.drained().await;
}

fn publication(n: u64) -> Publication {
    let tenant = TenantId::new(ACCOUNT).expect("a plain name");
    let (platform, instance) = (PlatformName::slack(), InstanceName::new("org").expect("a name"));
    let event_id = format!("EvRecorded{n}");
    let channel = format!("C{:08}", n % FLOWS);
    let message = Message {
        id: MessageId::derive(&tenant, &platform, &instance, &event_id),
        tenant: tenant.clone(),
        instance,
        platform: platform.clone(),
        kind: MessageKind::Mention,
        channel: Channel { id: channel, name: None, direct: false },
        thread: None,
        reply_to: None,
        user: User::new(format!("U{:08}", n % 1_000)),
        text: format!("please deploy the service of team {} to production, number {n}", n % 10),
        media: Vec::new(),
        event_id,
        conversation: format!("C{n:08}"),
        sent_at_ms: 1_700_000_000_000,
        received_at_ms: 1_700_000_000_000,
        raw: "x".repeat(500),
    };
    let subject = Subject::inbound(&tenant, &platform);
    Publication::json(subject, message.id.0, &message)
        .expect("a message is JSON")
        .ordered_by(message.ordering_key())
}

/// Waits until the router has decided about everything.
async fn decided(node: &Node) {
    let (http, began) = (reqwest::Client::new(), Instant::now());
    loop {
        assert!(began.elapsed() < PATIENCE, "the router decides in {PATIENCE:?}");
        let asked = http.get(format!("{}/status", node.url)).bearer_auth(node.admin_key());
        let status: Value =
            asked.send().await.expect("an answer").json().await.expect("a document");
        let queues = status["queues"].as_array().expect("queues");
        if !queues.iter().any(|queue| queue["stream"] == "INBOUND" && queue["pending"] != 0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Decisions a second and bytes in all of reading what replay reads, both streams at once.
async fn read(node: &Node, decisions: u64) -> (f64, u64) {
    let began = Instant::now();
    let types = "message.routed,message.unrouted,message.ignored";
    let (events, messages) = (format!("events?follow=false&after=0&type={types}"), "messages");
    let (a, b) = tokio::join!(drain(node, &events), drain(node, messages));
    (decisions as f64 / began.elapsed().as_secs_f64(), a + b)
}

async fn drain(node: &Node, path: &str) -> u64 {
    let url = format!("{}/accounts/{ACCOUNT}/{path}", node.url);
    let asked = reqwest::Client::new().get(url).bearer_auth(node.admin_key());
    let answer = asked.header("accept", "application/x-ndjson").send().await.expect("an answer");
    let (mut pieces, mut bytes) = (answer.bytes_stream(), 0);
    while let Some(piece) = pieces.next().await {
        bytes += piece.expect("a piece").len() as u64;
    }
    bytes
}

/// How long `aofctl replay` takes, and its report on the account.
fn replay(node: &Node, against: &str) -> (Duration, Value) {
    let began = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_aofctl"))
        .args(["replay", "--last", "7d", "--account", ACCOUNT, "--output", "json"])
        .args(["--limit", "3", "--against", against])
        .env("AOF_SERVER", &node.url)
        .env("AOF_API_KEY", node.admin_key())
        .output()
        .expect("it runs");
    let took = began.elapsed();
    let mut document: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (took, document["accounts"][0].take())
}
