//! One organisation a thousand times noisier than 99 others, on a node that cannot keep
//! up with it: who is served, and what a quiet one notices.
//!
//! A run takes [`MODEL_MS`] at a stand-in for a model, and [`PLACES`] run at once: that is
//! the ceiling, some 640 runs a second. The quiet ones ask once a second each and the noisy
//! one 1,000 times, so by max-min fairness every quiet one is due all that it asks for, and
//! the noisy one what is left.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aof_harness as harness;
use harness::{Manifests, Node};
use hdrhistogram::Histogram;

use super::client::Connection;
use super::{flow_of, milli, model, slack};

/// Organisations that ask once a second.
const QUIET: u64 = 99;
/// Requests a second of the noisy one.
const NOISE: u64 = 1_000;
/// Runs at once.
const PLACES: u64 = 32;
/// How long the model takes.
const MODEL_MS: u64 = 50;
/// How long each half is measured.
const SPAN: Duration = Duration::from_secs(15);
/// Longest wait for the quiet ones' last answers.
const PATIENCE: Duration = Duration::from_secs(20);
/// The noisy one's number, after the quiet ones'.
const NOISY: u64 = QUIET;
/// Connections of the noisy one.
const NOISY_CONNECTIONS: u64 = 32;

/// When each text was answered.
type Answered = Arc<Mutex<HashMap<String, Instant>>>;

pub(crate) async fn run() {
    let alone = half(0).await;
    let beside = half(NOISE).await;
    let ratio = beside.p99_ms / alone.p99_ms;
    println!(
        "fairness, one organisation {NOISE}x noisier than {QUIET} others: Jain {:.4} of what each was due; \
         a quiet one's p50 {:.1} ms (alone {:.1}), p99 {:.1} ms (alone {:.1}): {ratio:.2}x; \
         the noisy one got {:.0} runs/s of a ceiling of {}",
        beside.jain,
        beside.p50_ms,
        alone.p50_ms,
        beside.p99_ms,
        alone.p99_ms,
        beside.noisy_rate,
        PLACES * 1_000 / MODEL_MS,
    );
}

struct Half {
    p50_ms: f64,
    p99_ms: f64,
    jain: f64,
    noisy_rate: f64,
}

async fn half(noise: u64) -> Half {
    let answered = Answered::default();
    let seen = Arc::clone(&answered);
    let api = slack::listen(move |text| {
        seen.lock().expect("ok").insert(text.to_owned(), Instant::now());
    })
    .await;
    let model = model::listen(Duration::from_millis(MODEL_MS)).await;
    let manifests = manifests(api, model);
    let data = tempfile::Builder::new().tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let node = Node::start(env!("CARGO_BIN_EXE_aofctl"), manifests.dir.path(), data.path());
    let addr = node.addr();
    let began = Instant::now();
    let quiet = (0..QUIET).map(|org| poster(addr, org, (0, 1), 1.0));
    // Each connection takes its share of the noise.
    let each = noise as f64 / NOISY_CONNECTIONS as f64;
    let noisy = (0..NOISY_CONNECTIONS)
        .filter(|_| noise > 0)
        .map(|at| poster(addr, NOISY, (at, NOISY_CONNECTIONS), each));
    let (asked, _) =
        tokio::join!(futures_util::future::join_all(quiet), futures_util::future::join_all(noisy),);
    let asked: Vec<_> = asked.into_iter().flatten().collect();
    let span = began.elapsed().as_secs_f64();
    let of_noisy = |all: &HashMap<String, Instant>| {
        all.keys().filter(|text| text.starts_with(&format!("o{NOISY} "))).count()
    };
    let noisy_served = of_noisy(&answered.lock().expect("ok"));
    wait_for(&asked, &answered).await;
    let noisy_rate = noisy_served as f64 / span;
    let half = tally(&asked, &answered, noisy_rate);
    drop(node);
    half
}

fn manifests(api: SocketAddr, model: SocketAddr) -> Manifests {
    let manifests = Manifests::new(&format!(
        "  runtime: {{max_concurrent_tasks: {PLACES}, max_tasks_per_user: {PLACES}, task_timeout_secs: 60}}\n  \
         models:\n    openai:\n      base_url: http://{model}/v1\n"
    ));
    manifests.agent("slow", "  model: openai:m\n  memory: {max_messages: 0}\n");
    for org in 0..=NOISY {
        flow_of(&manifests, org, api, "slow");
    }
    manifests
}

/// Asks at a fixed rate for [`SPAN`], each time in another channel; returns what was asked,
/// and when it was due.
async fn poster(
    addr: SocketAddr,
    org: u64,
    (first, step): (u64, u64),
    rate: f64,
) -> Vec<(u64, String, Instant)> {
    let mut connection = Connection::open(addr).await;
    // Nobody starts at the same moment.
    let phase = ((org * 37 + first * 11) % 100) as f64 / 100.0 / rate;
    let began = Instant::now() + Duration::from_secs_f64(phase);
    let mut asked = Vec::new();
    for turn in 0_u32.. {
        let due = began + Duration::from_secs_f64(f64::from(turn) / rate);
        if due > began + SPAN {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        let n = u64::from(turn) * step + first;
        let text = format!("o{org} m{n}");
        let ts = format!("1700000000.{n:06}");
        let channel = format!("C{org:03}{n:06}");
        let body = harness::mention(&channel, &format!("U{n}"), &ts, &text);
        assert_eq!(connection.send(&signed(addr, org, &body)).await, 200);
        asked.push((org, text, due));
    }
    asked
}

fn signed(addr: SocketAddr, org: u64, body: &str) -> Vec<u8> {
    let timestamp = harness::now_secs();
    let signature = harness::sign(harness::SIGNING_SECRET, timestamp, body);
    format!(
        "POST /webhook/slack/org-{org} HTTP/1.1\r\nhost: {addr}\r\ncontent-type: application/json\r\n\
         x-slack-request-timestamp: {timestamp}\r\nx-slack-signature: {signature}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

async fn wait_for(asked: &[(u64, String, Instant)], answered: &Answered) {
    let end = Instant::now() + PATIENCE;
    let all = |answered: &Answered| {
        let answered = answered.lock().expect("ok");
        asked.iter().all(|(_, text, _)| answered.contains_key(text))
    };
    while Instant::now() < end && !all(answered) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What the quiet ones noticed. What was never answered counts as not served, and as slow
/// as the wait for it.
fn tally(asked: &[(u64, String, Instant)], answered: &Answered, noisy_rate: f64) -> Half {
    let answered = answered.lock().expect("ok");
    let mut micros = Histogram::<u64>::new(3).expect("three digits");
    let mut shares: HashMap<u64, (f64, f64)> = HashMap::new();
    for (org, text, due) in asked {
        let took = answered.get(text).map(|at| at.saturating_duration_since(*due));
        let share = shares.entry(*org).or_default();
        share.0 += 1.0;
        // Served in time to count for the span.
        share.1 += f64::from(u8::from(took.is_some_and(|took| took < SPAN)));
        let took = took.unwrap_or(PATIENCE).as_micros();
        micros.record(u64::try_from(took).unwrap_or(u64::MAX)).expect("in range");
    }
    let mut due: Vec<f64> = shares.values().map(|(asked, served)| served / asked).collect();
    if noisy_rate > 0.0 {
        let ceiling = (PLACES * 1_000 / MODEL_MS) as f64;
        let left = (ceiling - QUIET as f64).min(NOISE as f64);
        due.push((noisy_rate / left).min(1.0));
    }
    let (sum, squares) = due.iter().fold((0.0, 0.0), |(s, q), x| (s + x, q + x * x));
    Half {
        p50_ms: milli(micros.value_at_quantile(0.5)),
        p99_ms: milli(micros.value_at_quantile(0.99)),
        jain: sum * sum / (due.len() as f64 * squares),
        noisy_rate,
    }
}
