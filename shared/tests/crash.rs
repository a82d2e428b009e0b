//! `kill -9` at random moments: whatever was confirmed is there afterwards, once.
//!
//! The test runs itself again as a child that publishes, pulls and acks, and writes down
//! what was confirmed; then it kills the child and looks.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aof_shared::backend::open_embedded;
use aof_shared::clock::SystemClock;
use aof_shared::ids::{FlowName, TenantId};
use aof_shared::lifecycle::Lifecycle;
use aof_shared::queue::{ConsumerSpec, Publication};
use aof_shared::store::Ports;
use aof_shared::subject::{Stream, Subject};
use uuid::Uuid;

/// Names the data directory to the child.
const CHILD: &str = "AOF_CRASH_CHILD";
/// How often the child is killed; `AOF_CRASH_ROUNDS` overrides it.
const ROUNDS: usize = 8;
const PUBLISHERS: u64 = 16;
const LONGEST_LIFE_MS: u64 = 250;
/// Longest wait for a backlog to be loaded.
const DEADLINE: Duration = Duration::from_secs(30);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(10);

fn open(dir: &Path) -> (Ports, Lifecycle) {
    let lifecycle = Lifecycle::new();
    let ports = open_embedded(dir, Arc::new(SystemClock), &lifecycle).expect("it opens");
    (ports, lifecycle)
}

fn spec() -> ConsumerSpec {
    ConsumerSpec {
        stream: Stream::Tasks,
        name: "worker".to_owned(),
        rest: None,
        ack_wait_ms: 60_000,
        max_ack_pending: 1_000_000,
    }
}

fn task(id: Uuid) -> Publication {
    let tenant = TenantId::new(format!("t{}", id.as_u128() % 3)).expect("a name");
    let flow = FlowName::new("flow").expect("a name");
    Publication::new(Subject::task(&tenant, &flow), id, id.to_string())
        .ordered_by((id.as_u128() % 7).to_string())
}

/// One line at a time, so that the parent never reads half of one as a whole.
fn say(what: &str, id: Uuid) {
    let line = format!("{what} {id}\n");
    // The parent may be gone; then nobody needs the line.
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
}

/// Publishes and acks until it is killed.
async fn child(dir: &Path) {
    let (ports, lifecycle) = open(dir);
    let consumer = ports.queue.consumer(spec()).await.expect("consumer");
    for _ in 0..PUBLISHERS {
        let queue = ports.queue.clone();
        lifecycle.spawn(async move {
            loop {
                let id = Uuid::now_v7();
                let event = Subject::event(&TenantId::default_tenant(), "run.step");
                let batch = vec![task(id), Publication::new(event, id, "x")];
                if queue.publish(batch).await.is_ok() {
                    say("published", id);
                }
            }
        });
    }
    loop {
        for delivery in consumer.pull(None, 10, 100).await.expect("pull") {
            let id = delivery.message.id;
            if id.as_u128() % 2 == 0 {
                say("acking", id);
                delivery.ack().await.expect("ack");
                say("acked", id);
            }
        }
    }
}

/// What children were told.
#[derive(Default)]
struct Told {
    published: BTreeSet<Uuid>,
    acking: BTreeSet<Uuid>,
    acked: BTreeSet<Uuid>,
}

fn live_and_die(dir: &Path, life: Duration, told: &mut Told) {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "confirmed_messages_survive_kill_9", "--nocapture", "--test-threads=1"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a child");
    let lines = BufReader::new(child.stdout.take().expect("a pipe"));
    let killer = std::thread::spawn(move || {
        std::thread::sleep(life);
        child.kill().expect("kill -9");
        child.wait().expect("it is dead");
    });
    for line in lines.lines() {
        let Ok(line) = line else { break };
        // Other lines are the test harness's own.
        let Some((what, id)) = line.split_once(' ') else { continue };
        let Ok(id) = Uuid::parse_str(id) else { continue };
        let set = match what {
            "published" => &mut told.published,
            "acking" => &mut told.acking,
            "acked" => &mut told.acked,
            _ => continue,
        };
        set.insert(id);
    }
    killer.join().expect("the killer");
}

/// Every confirmed message is stored once, and waits unless its ack was confirmed.
async fn check(dir: &Path, told: &Told) {
    let (ports, lifecycle) = open(dir);
    let mut events = BTreeSet::new();
    let mut range = aof_shared::queue::ReadRange::default();
    loop {
        let read = ports.queue.read(Stream::Events, range.clone(), 1_000, 0).await.expect("read");
        let Some(last) = read.last() else { break };
        range.after_seq = last.seq;
        for event in &read {
            assert!(events.insert(event.id), "{} is stored twice", event.id);
        }
    }
    let lost: Vec<_> = told.published.difference(&events).collect();
    assert!(lost.is_empty(), "confirmed events were lost: {lost:?}");
    let again = told.published.iter().map(|id| task(*id)).collect();
    let receipts = ports.queue.publish(again).await.expect("publish");
    assert!(receipts.iter().all(|receipt| receipt.duplicate), "a confirmed task was lost");
    let consumer = ports.queue.consumer(spec()).await.expect("consumer");
    // Everything that waits, one of each key at a time; handed back at the end.
    let mut waiting = BTreeSet::new();
    let mut out = consumer.pull(None, 1_000_000, 1_000).await.expect("pull");
    for delivery in out.drain(..) {
        assert!(waiting.insert(delivery.message.id), "delivered twice at once");
        assert!(!told.acked.contains(&delivery.message.id), "a confirmed ack was forgotten");
    }
    let left = told.published.len().saturating_sub(told.acking.len()) as u64;
    // A long backlog is still being loaded when the consumer is there.
    let begun = Instant::now();
    loop {
        let backlog = ports.queue.backlog(Stream::Tasks).await.expect("backlog");
        let pending: u64 = backlog.iter().map(|backlog| backlog.pending).sum();
        if pending >= left {
            break;
        }
        assert!(begun.elapsed() < DEADLINE, "{pending} wait, at least {left} must");
        tokio::time::sleep(LOOK).await;
    }
    lifecycle.stop();
    drop((consumer, ports));
    lifecycle.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn confirmed_messages_survive_kill_9() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return child(Path::new(&dir)).await;
    }
    let rounds = std::env::var("AOF_CRASH_ROUNDS").ok().and_then(|n| n.parse().ok());
    let dir = tempfile::tempdir().expect("a directory");
    let mut told = Told::default();
    for round in 0..rounds.unwrap_or(ROUNDS) {
        // At least once long enough to have confirmed something.
        let least = if round == 0 { 1_000 } else { 20 };
        let life = Duration::from_millis(least + rand::random::<u64>() % LONGEST_LIFE_MS);
        live_and_die(dir.path(), life, &mut told);
        check(dir.path(), &told).await;
    }
    println!("{} confirmed, {} acked", told.published.len(), told.acked.len());
    assert!(!told.published.is_empty(), "the child confirmed nothing");
}
