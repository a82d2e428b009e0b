//! The embedded queue against the same disk's own ceiling, in one run.
//!
//! The ceiling is bare SQLite: the same rows, prepared inserts, one commit a batch.
//! `cargo bench -p aof-shared --bench queue [-- quick|full]`; `full` adds a million waiting
//! messages. Compare lines of one run only.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aof_shared::backend::open_embedded;
use aof_shared::clock::SystemClock;
use aof_shared::ids::{FlowName, PlatformName, TenantId};
use aof_shared::lifecycle::Lifecycle;
use aof_shared::queue::{Consumer, ConsumerSpec, Publication};
use aof_shared::store::Ports;
use aof_shared::subject::{Stream, Subject};
use rusqlite::{Connection, params};
use uuid::Uuid;

/// A Slack message as the gateway normalises it is about this long.
const PAYLOAD_BYTES: usize = 700;
const TENANTS: usize = 50;
const IN_FLIGHT: [usize; 3] = [1, 64, 512];
const CHAIN_WORKERS: usize = 8;
const PULL: usize = 64;

fn main() {
    let full = std::env::args().any(|arg| arg.eq_ignore_ascii_case("full"));
    let quick = std::env::args().any(|arg| arg.eq_ignore_ascii_case("quick"));
    let seconds = if quick { 1 } else { 3 };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    for in_flight in IN_FLIGHT {
        let ceiling = ceiling(in_flight, Duration::from_secs(seconds));
        let rate = runtime.block_on(publish_rate(in_flight, Duration::from_secs(seconds)));
        println!(
            "publish, {in_flight:>3} in flight: {rate:>8.0} rows/s; bare SQLite {ceiling:>8.0} \
             rows/s; {:.0} %",
            100.0 * rate / ceiling
        );
    }
    for in_flight in [64, 1_024] {
        runtime.block_on(chain(in_flight, Duration::from_secs(seconds)));
    }
    runtime.block_on(idle_tenants(100_000));
    if full {
        runtime.block_on(waiting(1_000_000));
    }
}

fn message(tenant: &TenantId, n: u64) -> Publication {
    let flow = FlowName::new("flow").expect("a name");
    let payload = vec![b'x'; PAYLOAD_BYTES];
    Publication::new(Subject::task(tenant, &flow), random_id(n), payload)
        .ordered_by(format!("slack/main/C{n}"))
        .with_header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
}

/// A random-looking id, as derived ids are.
fn random_id(n: u64) -> Uuid {
    let mut bits = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bd1_e995;
    bits ^= bits >> 29;
    Uuid::from_u64_pair(bits.wrapping_mul(0xbf58_476d_1ce4_e5b9), n)
}

fn tenants() -> Vec<TenantId> {
    (0..TENANTS).map(|n| TenantId::new(format!("tenant-{n}")).expect("a name")).collect()
}

/// Rows a second into a table of the same shape, `batch` to a commit.
fn ceiling(batch: usize, time: Duration) -> f64 {
    let dir = tempfile::tempdir().expect("a directory");
    let conn = Connection::open(dir.path().join("raw.db")).expect("open");
    conn.pragma_update(None, "journal_mode", "WAL").expect("WAL");
    conn.pragma_update(None, "synchronous", "FULL").expect("FULL");
    conn.execute_batch(
        "CREATE TABLE t (seq INTEGER PRIMARY KEY, tenant TEXT, rest TEXT, at_ms INTEGER, \
         priority INTEGER, key INTEGER, id BLOB, headers BLOB, payload BLOB) STRICT",
    )
    .expect("table");
    let (payload, headers, id) = (vec![b'x'; PAYLOAD_BYTES], vec![b'h'; 70], [7_u8; 16]);
    let (begun, mut rows) = (Instant::now(), 0_u64);
    while begun.elapsed() < time {
        conn.execute_batch("BEGIN IMMEDIATE").expect("begin");
        for _ in 0..batch {
            rows += 1;
            let seq = i64::try_from(rows).expect("small");
            conn.prepare_cached("INSERT INTO t VALUES (?,?,?,?,?,?,?,?,?)")
                .expect("prepare")
                .execute(params![seq, "tenant-1", "flow", seq, 0, seq, id, headers, payload])
                .expect("insert");
        }
        conn.execute_batch("COMMIT").expect("commit");
    }
    per_second(rows, begun)
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn per_second(count: u64, begun: Instant) -> f64 {
    count as f64 / begun.elapsed().as_secs_f64()
}

fn open(dir: &Path) -> (Ports, Lifecycle) {
    let lifecycle = Lifecycle::new();
    let ports = open_embedded(dir, Arc::new(SystemClock), &lifecycle).expect("it opens");
    (ports, lifecycle)
}

async fn publish_rate(in_flight: usize, time: Duration) -> f64 {
    let dir = tempfile::tempdir().expect("a directory");
    let (ports, lifecycle) = open(dir.path());
    let (count, tenants) = (Arc::new(AtomicU64::new(0)), Arc::new(tenants()));
    let begun = Instant::now();
    for _ in 0..in_flight {
        let (queue, count, tenants) = (ports.queue.clone(), count.clone(), tenants.clone());
        lifecycle.spawn(async move {
            while begun.elapsed() < time {
                let n = count.fetch_add(1, Ordering::Relaxed);
                let tenant = &tenants[usize::try_from(n).expect("small") % TENANTS];
                queue.publish(vec![message(tenant, n)]).await.expect("publish");
            }
        });
    }
    lifecycle.stop();
    lifecycle.drained().await;
    per_second(count.load(Ordering::Relaxed), begun)
}

fn spec(stream: Stream, name: &str) -> ConsumerSpec {
    ConsumerSpec {
        stream,
        name: name.to_owned(),
        rest: None,
        ack_wait_ms: 30_000,
        max_ack_pending: 10_000,
    }
}

/// One hop: takes a message, publishes what follows from it, acks.
async fn hop<F>(consumer: Arc<dyn Consumer>, ports: Ports, stop: Lifecycle, next: F)
where
    F: Fn(&Publication) -> Vec<Publication> + Send + Sync + Copy + 'static,
{
    while !stop.stopping() {
        let taken = consumer.pull(None, PULL, 100).await.expect("pull");
        let settled = taken.into_iter().map(|delivery| {
            let ports = ports.clone();
            async move {
                let message = &delivery.message;
                let from = Publication {
                    subject: message.subject.clone(),
                    id: message.id,
                    headers: message.headers.clone(),
                    payload: message.payload.clone(),
                    ordering_key: Some(message.id.to_string()),
                    priority: aof_shared::message::Priority::Normal,
                };
                let batch = next(&from);
                if !batch.is_empty() {
                    ports.queue.publish(batch).await.expect("publish");
                }
                delivery.ack().await.expect("ack");
            }
        });
        futures_util::future::join_all(settled).await;
    }
}

fn journal(from: &Publication, kind: &str, label: &str) -> Publication {
    let id = Uuid::new_v5(&from.id, label.as_bytes());
    Publication::new(Subject::event(from.subject.tenant(), kind), id, vec![b'e'; 400])
}

/// Messages a second through INBOUND, TASKS and REPLIES, with an event at each hop.
async fn chain(in_flight: usize, time: Duration) {
    let dir = tempfile::tempdir().expect("a directory");
    let (ports, lifecycle) = open(dir.path());
    let done = Arc::new(AtomicU64::new(0));
    let router = ports.queue.consumer(spec(Stream::Inbound, "router")).await.expect("open");
    let worker = ports.queue.consumer(spec(Stream::Tasks, "worker")).await.expect("open");
    let reply = ports.queue.consumer(spec(Stream::Replies, "reply")).await.expect("open");
    for _ in 0..CHAIN_WORKERS {
        let routed = |from: &Publication| {
            let flow = FlowName::new("flow").expect("a name");
            let mut task = from.clone();
            task.subject = Subject::task(from.subject.tenant(), &flow);
            task.id = Uuid::new_v5(&from.id, b"task");
            vec![task, journal(from, "message.routed", "routed")]
        };
        let worked = |from: &Publication| {
            let mut reply = from.clone();
            reply.subject = Subject::reply(from.subject.tenant(), &PlatformName::slack());
            reply.id = Uuid::new_v5(&from.id, b"reply");
            vec![reply, journal(from, "run.completed", "terminal")]
        };
        let sent = |from: &Publication| vec![journal(from, "reply.sent", "sent")];
        lifecycle.spawn(hop(router.clone(), ports.clone(), lifecycle.clone(), routed));
        lifecycle.spawn(hop(worker.clone(), ports.clone(), lifecycle.clone(), worked));
        lifecycle.spawn(hop(reply.clone(), ports.clone(), lifecycle.clone(), sent));
    }
    let (begun, tenants) = (Instant::now(), Arc::new(tenants()));
    for _ in 0..in_flight {
        let (ports, done, tenants) = (ports.clone(), done.clone(), tenants.clone());
        let stop = lifecycle.clone();
        lifecycle.spawn(async move {
            while !stop.stopping() {
                let n = done.fetch_add(1, Ordering::Relaxed);
                let mut first = message(&tenants[usize::try_from(n).expect("small") % TENANTS], n);
                first.subject = Subject::inbound(first.subject.tenant(), &PlatformName::slack());
                let accepted = journal(&first, "message.accepted", "accepted");
                ports.queue.publish(vec![first, accepted]).await.expect("publish");
                backpressure(&ports).await;
            }
        });
    }
    tokio::time::sleep(time).await;
    let waiting = left(&ports).await;
    let finished = done.load(Ordering::Relaxed).saturating_sub(waiting);
    println!(
        "three hops, {in_flight:>4} publishers: {:>8.0} messages/s through; {waiting} on the way; \
         {} MiB resident",
        per_second(finished, begun),
        resident_kib() / 1_024
    );
    lifecycle.stop();
    lifecycle.drained().await;
}

async fn left(ports: &Ports) -> u64 {
    let mut sum = 0;
    for stream in [Stream::Inbound, Stream::Tasks, Stream::Replies] {
        let backlog = ports.queue.backlog(stream).await.expect("backlog");
        sum += backlog.iter().map(|backlog| backlog.pending).sum::<u64>();
    }
    sum
}

/// A load generator that outruns the hops measures nothing.
async fn backpressure(ports: &Ports) {
    if rand::random::<u16>() < 64 && left(ports).await > 20_000 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let digits: String = line.unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_default()
}

/// What a tenant costs after its only message is done.
async fn idle_tenants(count: u64) {
    let dir = tempfile::tempdir().expect("a directory");
    let (ports, _lifecycle) = open(dir.path());
    let worker = ports.queue.consumer(spec(Stream::Tasks, "worker")).await.expect("open");
    let tenants: Vec<TenantId> =
        (0..count).map(|n| TenantId::new(format!("tenant-{n}")).expect("a name")).collect();
    let before = resident_kib();
    for (chunk, tenants) in tenants.chunks(1_000).enumerate() {
        let base = u64::try_from(chunk).expect("small") * 1_000;
        let batch = tenants.iter().zip(base..).map(|(tenant, n)| message(tenant, n)).collect();
        ports.queue.publish(batch).await.expect("publish");
        let taken = worker.pull(None, 1_000, 1_000).await.expect("pull");
        let acks = taken.into_iter().map(aof_shared::queue::Delivery::ack);
        futures_util::future::join_all(acks).await;
    }
    let bytes = resident_kib().saturating_sub(before) * 1_024 / count;
    println!("idle tenants: {bytes} bytes each for {count} (dedupe ids included)");
}

/// A full stream: how soon a restart takes messages again, and gives them out.
async fn waiting(count: u64) {
    let dir = tempfile::tempdir().expect("a directory");
    let tenants = tenants();
    let (ports, lifecycle) = open(dir.path());
    for base in (0..count).step_by(1_000) {
        let batch = (base..base + 1_000)
            .map(|n| message(&tenants[usize::try_from(n).expect("small") % TENANTS], n))
            .collect();
        ports.queue.publish(batch).await.expect("publish");
    }
    lifecycle.stop();
    lifecycle.drained().await;
    // As after kill -9: a copy of the files with the log not moved into the database.
    let copy = tempfile::tempdir().expect("a directory");
    for name in ["aof.db", "aof.db-wal"] {
        std::fs::copy(dir.path().join(name), copy.path().join(name)).expect("copy");
    }
    drop(ports);
    let before = resident_kib();
    let begun = Instant::now();
    let (ports, _lifecycle) = open(copy.path());
    let opened = begun.elapsed();
    ports.queue.publish(vec![message(&tenants[0], count + 1)]).await.expect("publish");
    let published = begun.elapsed();
    let worker = ports.queue.consumer(spec(Stream::Tasks, "worker")).await.expect("open");
    let first = worker.pull(None, 1, 10_000).await.expect("pull");
    let delivered = begun.elapsed();
    drop(first);
    let begun_load = Instant::now();
    while worker_backlog(&ports).await <= count && begun_load.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!(
        "{count} waiting: open {} ms, first receipt {} ms, first delivery {} ms, all known {} ms; \
         {} MiB more resident",
        opened.as_millis(),
        published.as_millis(),
        delivered.as_millis(),
        begun.elapsed().as_millis(),
        resident_kib().saturating_sub(before) / 1_024
    );
}

async fn worker_backlog(ports: &Ports) -> u64 {
    let backlog = ports.queue.backlog(Stream::Tasks).await.expect("backlog");
    backlog.iter().map(|backlog| backlog.pending).sum()
}
