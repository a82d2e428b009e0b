//! `kill -9` of a node at random moments under load. Afterwards the ledger must balance: what was
//! accepted ended exactly once, nothing destructive ran twice, no run started twice.
//!
//! `AOF_KILLS=200 cargo test --test chaos -- --nocapture` is the long run.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aof_harness as harness;
use harness::{Api, Manifests, Node, Sender, Slack};
use serde_json::{Value, json};

use crate::draws::{Draws, seed};

/// Kills in a short run; `AOF_KILLS` sets another number.
const KILLS: u64 = 12;
/// Messages a second while it lasts.
const RATE: u64 = 40;

/// Of four commands two are harmless, one needs two votes, one is refused.
///
/// `mktemp` makes a new name each time it runs, so the folder counts the executions.
fn command(n: u64, dir: &Path) -> String {
    let dir = dir.display();
    match n % 4 {
        0 | 2 => format!("mktemp -p {dir} run-{n}.XXXXXXXX"),
        1 => format!("mktemp -d -p {dir} held-{n}.XXXXXXXX"),
        _ => format!("kubectl get pods-{n}"),
    }
}

fn manifests(api: std::net::SocketAddr) -> Manifests {
    let manifests = Manifests::new(
        "  runtime: {max_concurrent_tasks: 32, max_tasks_per_user: 32, task_timeout_secs: 20}\n",
    );
    manifests.agent("shell", "  runtime: command\n  tools: [mktemp]\n");
    for tenant in ["a", "b"] {
        let rest = format!(
            "  context: {{organization: org-{tenant}}}\n  agents:\n    - name: shell\n  approval:\n    \
             timeout_secs: 6\n    self_approval: never\n    chains:\n      - name: two\n        \
             approvers: [alice, bob]\n        require: 2\n    rules:\n      - pattern: mktemp -d\n        chain: two\n"
        );
        manifests.flow(
            &format!("ops-{tenant}"),
            &harness::slack_trigger(api, &format!("xoxb-{tenant}"), harness::SIGNING_SECRET, &rest),
        );
    }
    manifests
}

fn kills() -> u64 {
    std::env::var("AOF_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(KILLS)
}

/// What the outside saw.
#[derive(Default)]
struct Outside {
    url: Mutex<String>,
    accepted: Mutex<BTreeMap<String, String>>,
    sent: AtomicU64,
    stop: AtomicBool,
}

async fn post_load(http: reqwest::Client, outside: Arc<Outside>, dir: std::path::PathBuf) {
    let mut tick = tokio::time::interval(Duration::from_millis(1000 / RATE));
    while !outside.stop.load(Ordering::SeqCst) {
        tick.tick().await;
        let n = outside.sent.fetch_add(1, Ordering::SeqCst);
        let tenant =
            if n.is_multiple_of(2) == (n / 4).is_multiple_of(2) { "org-a" } else { "org-b" };
        let channel = format!("C{:08}", n % 64);
        let ts = format!("1700000000.{n:06}");
        let body = harness::mention(&channel, &format!("U{}", n % 16), &ts, &command(n, &dir));
        let url = outside.url.lock().expect("ok").clone();
        let sender = Sender { http: http.clone(), ..Sender::new(&url, tenant) };
        // A platform tries again when it got no 2xx; three tries are enough to matter.
        for _ in 0..3 {
            let Ok(answer) = sender.post(body.clone()).await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            if answer.status().is_success() {
                let answer: Value = answer.json().await.unwrap_or_default();
                if let Some(id) = answer["message_id"].as_str() {
                    let mut accepted = outside.accepted.lock().expect("ok");
                    accepted.insert(id.to_owned(), tenant.to_owned());
                    break;
                }
            }
        }
    }
}

/// Approves half of what is held with both people, lets one deny a quarter, ignores the rest.
async fn vote(
    http: reqwest::Client,
    outside: Arc<Outside>,
    keys: BTreeMap<(String, String), String>,
) {
    while !outside.stop.load(Ordering::SeqCst) {
        for account in ["org-a", "org-b"] {
            let url = outside.url.lock().expect("ok").clone();
            let list = format!("{url}/accounts/{account}/approvals?status=pending");
            let key = |user: &str| &keys[&(account.to_owned(), user.to_owned())];
            let Ok(answer) = http.get(&list).bearer_auth(key("alice")).send().await else {
                continue;
            };
            let Ok(listed) = answer.json::<Value>().await else { continue };
            for approval in listed["approvals"].as_array().into_iter().flatten() {
                let id = approval["id"].as_str().unwrap_or_default();
                let ballots: &[(&str, &str)] = match id.as_bytes().first().map_or(0, |b| b % 4) {
                    0 | 1 => &[("alice", "approve"), ("bob", "approve")],
                    2 => &[("alice", "deny")],
                    _ => &[],
                };
                for (user, vote) in ballots {
                    let post = http
                        .post(format!("{url}/accounts/{account}/approvals/{id}/votes"))
                        .bearer_auth(key(user))
                        .json(&json!({"vote": vote, "reason": "chaos"}));
                    let _ = post.send().await;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn make_keys(node: &Node) -> BTreeMap<(String, String), String> {
    let mut keys = BTreeMap::new();
    for account in ["org-a", "org-b"] {
        for user in ["alice", "bob"] {
            let person = Api::operator(node, account).person(user, &["read", "approve"]).await;
            keys.insert((account.to_owned(), user.to_owned()), person.key);
        }
    }
    keys
}

const TERMINAL: [&str; 5] =
    ["run.completed", "run.failed", "message.ignored", "message.unrouted", "dead_letter.added"];

/// Terminal events by message: how each accepted message ended, as often as it did.
async fn endings(node: &Node) -> BTreeMap<String, Vec<String>> {
    let mut ends: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for account in ["org-a", "org-b"] {
        let mut seen = HashSet::new();
        for event in Api::operator(node, account).journal().await {
            let kind = event["type"].as_str().unwrap_or_default();
            let had_run = kind == "dead_letter.added" && event["run_id"].is_string();
            let Some(message) = event["message_id"].as_str() else { continue };
            if !TERMINAL.contains(&kind) || had_run || !seen.insert(event["seq"].as_u64()) {
                continue;
            }
            let status = event["data"]["status"].as_str().unwrap_or(kind);
            ends.entry(message.to_owned()).or_default().push(status.to_owned());
        }
    }
    ends
}

/// How often each command ran, from the names that it left behind.
fn executions(dir: &Path) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        let command = name.split('.').next().unwrap_or_default().to_owned();
        *counts.entry(command).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_loses_nothing_and_repeats_nothing() {
    let (slack, api) = Slack::start(&[]).await;
    let manifests = manifests(api);
    let data = tempfile::tempdir().expect("a folder");
    let effects = tempfile::tempdir().expect("a folder");
    let http =
        reqwest::Client::builder().timeout(Duration::from_secs(5)).build().expect("a client");
    let start = || Node::start(env!("CARGO_BIN_EXE_aofctl"), manifests.dir.path(), data.path());

    let mut node = start();
    let keys = make_keys(&node).await;
    let outside = Arc::new(Outside::default());
    *outside.url.lock().expect("ok") = node.url.clone();
    let load = post_load(http.clone(), Arc::clone(&outside), effects.path().to_owned());
    let votes = vote(http.clone(), Arc::clone(&outside), keys);
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    let (load, votes) = (tokio::spawn(load), tokio::spawn(votes));

    let seed = seed();
    let mut draws = Draws::of(seed);
    for _ in 0..kills() {
        tokio::time::sleep(Duration::from_millis(30 + draws.below(700))).await;
        node.kill();
        node = start();
        *outside.url.lock().expect("ok") = node.url.clone();
    }
    // The voters stay until everything is settled; new messages stop.
    load.abort();
    let accepted = outside.accepted.lock().expect("ok").clone();
    let ends = harness::until("every accepted message to end", async || {
        let ends = endings(&node).await;
        accepted.keys().all(|id| ends.contains_key(id)).then_some(ends)
    })
    .await;
    outside.stop.store(true, Ordering::SeqCst);
    let _ = votes.await;

    let mut ledger: BTreeMap<&str, u64> = BTreeMap::new();
    let mut twice = Vec::new();
    for id in accepted.keys() {
        let ended = &ends[id];
        *ledger.entry(ended[0].as_str()).or_default() += 1;
        if ended.len() > 1 {
            twice.push(format!("{id}: {ended:?}"));
        }
    }
    let ran = executions(effects.path());
    let repeated: Vec<_> = ran.iter().filter(|(_, times)| **times > 1).collect();
    println!(
        "ledger after {} kills (seed {seed}): sent {}, accepted {}, ended {ledger:?}; commands run {}, \
         of them held ones {}; run twice {}; ended twice {}; replies at Slack {}",
        kills(),
        outside.sent.load(Ordering::SeqCst),
        accepted.len(),
        ran.len(),
        ran.keys().filter(|name| name.starts_with("held-")).count(),
        repeated.len(),
        twice.len(),
        slack.posted(),
    );
    assert!(accepted.len() > 20, "the load hardly got through: {} accepted", accepted.len());
    assert!(repeated.is_empty(), "ran more than once: {repeated:?}");
    assert!(twice.is_empty(), "ended more than once: {twice:?}");
}
