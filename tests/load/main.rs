//! Benchmarks of a whole node, with the ceiling of the same machine from the same run.
//!
//! `cargo bench --bench load` prints throughput, latency at half load, memory, start time,
//! what approval, fairness, recovery from `kill -9` and replay come to. The load generator and a stand-in for Slack's API share the machine with the node.
//! `cargo bench --bench load -- throughput` runs one part. `AOF_BACKEND=cluster` measures a
//! node on NATS, Redis and PostgreSQL, `roles` a process for each role; `AOF_NATS_SYNC=interval`
//! lets NATS acknowledge before it syncs. `scaling` is measured on a cluster only.

mod approval;
mod ceiling;
mod chain;
mod client;
mod fairness;
mod model;
mod recovery;
mod replay;
mod scaling;
mod slack;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use aof_harness as harness;
use client::Connection;
use harness::{Manifests, Node};

/// Messages of one throughput run.
const MESSAGES: u64 = 60_000;
/// Connections that post at once. A commit is shared by whoever waits for it, so what a
/// node reaches grows with them; `AOF_CONNECTIONS` sets another number.
const CONNECTIONS: u64 = 256;
/// Messages of the memory run.
const MEMORY_MESSAGES: u64 = 200_000;
/// Longest wait for the last answers.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the stand-in for Slack saw: answers, and when by message number.
#[derive(Default)]
struct Answers {
    count: AtomicU64,
    at: Mutex<Vec<(u64, Instant)>>,
    keep_times: bool,
}

fn connections() -> u64 {
    std::env::var("AOF_CONNECTIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(CONNECTIONS)
}

struct Bench {
    node: Node,
    answers: Arc<Answers>,
    _manifests: Manifests,
    _data: tempfile::TempDir,
}

impl Bench {
    async fn start(keep_times: bool) -> Self {
        let answers = Arc::new(Answers { keep_times, ..Answers::default() });
        let seen = Arc::clone(&answers);
        let api = slack::listen(move |text| {
            seen.count.fetch_add(1, Ordering::SeqCst);
            if seen.keep_times {
                let n = text[1..].parse().expect("`m` and a number");
                seen.at.lock().expect("ok").push((n, Instant::now()));
            }
        })
        .await;
        let manifests = Manifests::new(
            "  runtime: {max_concurrent_tasks: 256, max_tasks_per_user: 256, task_timeout_secs: 60}\n",
        );
        manifests.agent("echo", "  model: echo:repeat\n  memory: {max_messages: 0}\n");
        for tenant in 0..TENANTS {
            flow_of(&manifests, tenant, api, "echo");
        }
        let data =
            tempfile::Builder::new().tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let node = Node::start(env!("CARGO_BIN_EXE_aofctl"), manifests.dir.path(), data.path());
        Self { node, answers, _manifests: manifests, _data: data }
    }

    async fn answered(&self, expected: u64) {
        let end = Instant::now() + PATIENCE;
        while self.answers.count.load(Ordering::SeqCst) < expected {
            assert!(
                Instant::now() < end,
                "{} of {expected} answered after {PATIENCE:?}\n{}",
                self.answers.count.load(Ordering::SeqCst),
                self.node.log()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Organisations that share the load.
const TENANTS: u64 = 20;

/// A flow by which `agent` answers one organisation's mentions.
fn flow_of(manifests: &Manifests, org: u64, api: SocketAddr, agent: &str) {
    let context =
        format!("  context: {{organization: org-{org}}}\n  agents:\n    - name: {agent}\n");
    let (token, secret) = (format!("xoxb-{org}"), harness::SIGNING_SECRET);
    let trigger = harness::slack_trigger(api, &token, secret, &context);
    manifests.flow(&format!("flow-{org}"), &trigger);
}

/// The request for message `n`: its own channel and user, so that no per-channel pace or
/// per-user limit is what gets measured.
fn request(n: u64, addr: SocketAddr) -> Vec<u8> {
    request_of(n % TENANTS, n, addr)
}

/// The same for one organisation.
fn request_of(org: u64, n: u64, addr: SocketAddr) -> Vec<u8> {
    let ts = format!("{}.{n:06}", 1_700_000_000 + n / 1_000_000);
    let body = harness::mention(&format!("C{n:08}"), &format!("U{n:08}"), &ts, &format!("m{n}"));
    let timestamp = harness::now_secs();
    let mut head = String::new();
    let _ = write!(
        head,
        "POST /webhook/slack/org-{org} HTTP/1.1\r\nhost: {addr}\r\ncontent-type: application/json\r\n\
         x-slack-request-timestamp: {timestamp}\r\nx-slack-signature: {}\r\ncontent-length: {}\r\n\r\n",
        harness::sign(harness::SIGNING_SECRET, timestamp, &body),
        body.len()
    );
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body.as_bytes());
    bytes
}

/// The requests of these messages, signed before anything is measured: making them costs
/// as much as a tenth of what the node does with them.
fn requests(messages: std::ops::Range<u64>, addr: SocketAddr) -> Vec<Vec<u8>> {
    messages.map(|n| request(n, addr)).collect()
}

/// Posts `requests` over all connections, as fast as they are accepted.
async fn post_all(addr: SocketAddr, requests: &[Vec<u8>]) {
    let next = AtomicUsize::new(0);
    let posters = (0..connections()).map(|_| async {
        let mut connection = Connection::open(addr).await;
        while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
            assert_eq!(connection.send(request).await, 200);
        }
    });
    futures_util::future::join_all(posters).await;
}

#[tokio::main]
async fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let runs = |part: &str| wanted.is_empty() || wanted.iter().any(|w| w == part);
    let mut rate = 5_000.0;
    let cluster = harness::Backend::chosen() != harness::Backend::Embedded;
    if runs("ceiling") {
        ceiling::print().await;
    }
    if cluster && runs("ceiling") {
        chain::print().await;
    }
    if runs("idle") {
        idle().await;
    }
    if runs("throughput") {
        rate = throughput().await;
    }
    if runs("latency") {
        latency(rate / 2.0).await;
    }
    if runs("approval") {
        approval::run().await;
    }
    if runs("fairness") {
        fairness::run().await;
    }
    if runs("memory") {
        memory().await;
    }
    if cluster && runs("scaling") {
        scaling::run().await;
    }
    if runs("recovery") {
        recovery::run().await;
    }
    if runs("replay") {
        replay::run().await;
    }
}

async fn idle() {
    let bench = Bench::start(false).await;
    println!(
        "idle: start to ready {} ms, resident {:.1} MB",
        bench.node.ready_ms,
        mega(bench.node.resident_bytes())
    );
}

async fn throughput() -> f64 {
    let bench = Bench::start(false).await;
    let addr = bench.node.addr();
    let from = MESSAGES / 10;
    post_all(addr, &requests(0..from, addr)).await;
    bench.answered(from).await;
    let measured = requests(from..from + MESSAGES, addr);
    let (began, used_ms) = (Instant::now(), bench.node.processor_ms());
    post_all(addr, &measured).await;
    let accepted = began.elapsed();
    bench.answered(from + MESSAGES).await;
    let answered = began.elapsed();
    let used_ms = bench.node.processor_ms() - used_ms;
    let rate = MESSAGES as f64 / answered.as_secs_f64();
    println!(
        "throughput, {} connections: {MESSAGES} signed webhooks accepted at {:.0}/s, answered end to end at {rate:.0}/s \
         ({} before the 2xx), {:.0} µs of the node's processor time each, resident {:.1} MB",
        connections(),
        MESSAGES as f64 / accepted.as_secs_f64(),
        if cluster_in_memory() { "no fsync" } else { "fsync" },
        used_ms as f64 * 1e3 / MESSAGES as f64,
        mega(bench.node.resident_bytes()),
    );
    rate
}

/// Posts at a fixed rate whatever comes back, so that a stall shows in the figures.
async fn latency(rate: f64) {
    let seconds = 15.0;
    let bench = Bench::start(true).await;
    let addr = bench.node.addr();
    let total = (rate * seconds) as u64;
    let requests = requests(0..total, addr);
    let (began, next) = (Instant::now(), AtomicUsize::new(0));
    let due = |n: usize| began + Duration::from_secs_f64(n as f64 / rate);
    let posters = (0..connections()).map(|_| async {
        let mut connection = Connection::open(addr).await;
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(request) = requests.get(n) else { return };
            tokio::time::sleep_until(due(n).into()).await;
            connection.send(request).await;
        }
    });
    futures_util::future::join_all(posters).await;
    bench.answered(total).await;
    let mut micros = Histogram::<u64>::new(3).expect("three digits");
    let answered = bench.answers.at.lock().expect("ok");
    assert_eq!(answered.len() as u64, total, "every message is answered once");
    for (n, at) in answered.iter() {
        let took = at.saturating_duration_since(due(usize::try_from(*n).expect("small")));
        micros.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX)).expect("in range");
    }
    println!(
        "latency at {rate:.0}/s, webhook due to answer at Slack: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        milli(micros.value_at_quantile(0.5)),
        milli(micros.value_at_quantile(0.99)),
        milli(micros.max()),
    );
}

async fn memory() {
    let bench = Bench::start(false).await;
    let addr = bench.node.addr();
    let step = MEMORY_MESSAGES / 4;
    for quarter in 0..4 {
        post_all(addr, &requests(quarter * step..(quarter + 1) * step, addr)).await;
        bench.answered((quarter + 1) * step).await;
        println!(
            "memory: after {} messages resident {:.1} MB",
            (quarter + 1) * step,
            mega(bench.node.resident_bytes())
        );
    }
}

/// A 2xx that NATS' own default stands behind.
fn cluster_in_memory() -> bool {
    harness::Backend::chosen() != harness::Backend::Embedded && !harness::nats_options().sync_always
}

fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn milli(micros: u64) -> f64 {
    micros as f64 / 1e3
}
