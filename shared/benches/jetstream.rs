//! Publishing on JetStream against bare async-nats on the same server, in one run.
//!
//! The ceiling publishes the same subjects, ids and payloads with as many calls in flight
//! and waits for each ack. `cargo bench -p aof-shared --bench jetstream [-- quick]`; needs
//! the servers that `tests/run` installs. Compare lines of one run only.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aof_servers::{NATS_FLOOR, NATS_NEWEST, Nats, NatsOptions};
use aof_shared::clock::SystemClock;
use aof_shared::ids::{FlowName, TenantId};
use aof_shared::lifecycle::Lifecycle;
use aof_shared::queue::jetstream::{Caps, JetStreamOptions, open};
use aof_shared::queue::{Publication, Queue, ReadRange};
use aof_shared::secret::Secret;
use aof_shared::subject::{Stream, Subject};
use async_nats::jetstream::{context::Context, message::PublishMessage, stream::Config};
use uuid::Uuid;

/// A Slack message as the gateway normalises it is about this long.
const PAYLOAD_BYTES: usize = 700;
const IN_FLIGHT: [usize; 3] = [1, 64, 512];
/// Messages in one call, as the router publishes.
const BATCH: usize = 64;
/// Tenants whose history is read.
const TENANTS: u64 = 1_000;
/// Messages of that history.
const HISTORY: u64 = 100_000;

fn main() {
    let quick = std::env::args().any(|arg| arg.eq_ignore_ascii_case("quick"));
    let time = Duration::from_secs(if quick { 1 } else { 3 });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    for (version, sync_always) in [(NATS_FLOOR, false), (NATS_NEWEST, false), (NATS_NEWEST, true)] {
        let server = Nats::start(&NatsOptions {
            version: version.to_owned(),
            sync_always,
            ..NatsOptions::default()
        });
        println!("NATS {version}, sync always: {sync_always}");
        runtime.block_on(publishing(&server, time));
        if !sync_always {
            runtime.block_on(reading(&server, time));
        }
    }
}

async fn connect(server: &Nats, lifecycle: &Lifecycle) -> Arc<dyn Queue> {
    let options = JetStreamOptions {
        name: format!("b-{:x}", rand::random::<u32>()),
        node: "bench".to_owned(),
        url: Secret::new(server.url()),
        monitor_url: Some(server.monitor_url()),
        replicas: 1,
        caps: Caps::default(),
    };
    open(options, Arc::new(SystemClock), lifecycle).await.expect("it opens").0
}

async fn publishing(server: &Nats, time: Duration) {
    let lifecycle = Lifecycle::new();
    let queue = connect(server, &lifecycle).await;
    let bare = bare(server).await;
    for in_flight in IN_FLIGHT {
        let context = bare.clone();
        let ceiling = run(in_flight, time, move |n| publish_bare(context.clone(), n)).await;
        let ours = Arc::clone(&queue);
        let rate = run(in_flight, time, move |n| publish(Arc::clone(&ours), n, 1)).await;
        println!(
            "  publish, {in_flight:>3} in flight: {rate:>8.0}/s; bare {ceiling:>8.0}/s; {:.0} %",
            100.0 * rate / ceiling
        );
    }
    let rate = run(8, time, move |n| publish(Arc::clone(&queue), n, BATCH)).await;
    println!("  publish, 8 calls of {BATCH} in flight: {:>8.0} calls/s", rate);
    lifecycle.stop();
}

fn id(n: u64) -> Uuid {
    Uuid::from_u64_pair(rand::random(), n)
}

async fn publish(queue: Arc<dyn Queue>, n: u64, count: usize) {
    let tenant = TenantId::new(format!("tenant-{}", n % TENANTS)).expect("a name");
    let flow = FlowName::new("flow").expect("a name");
    let one = || {
        let subject = Subject::task(&tenant, &flow);
        Publication::new(subject, id(n), vec![b'x'; PAYLOAD_BYTES])
            .ordered_by(format!("slack/main/C{n}"))
            .with_header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    };
    queue.publish((0..count).map(|_| one()).collect()).await.expect("publish");
}

async fn bare(server: &Nats) -> Context {
    let client = async_nats::connect(server.url()).await.expect("a connection");
    let context = async_nats::jetstream::new(client);
    let config = Config {
        name: "BARE".to_owned(),
        subjects: vec!["bare.>".to_owned()],
        duplicate_window: Duration::from_secs(7_200),
        ..Config::default()
    };
    context.create_stream(config).await.expect("a stream");
    context
}

async fn publish_bare(context: Context, n: u64) {
    let message = PublishMessage::build()
        .payload(vec![b'x'; PAYLOAD_BYTES].into())
        .message_id(id(n).to_string())
        .header("Key", format!("slack/main/C{n}"))
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let subject = format!("bare.tenant-{}.flow", n % TENANTS);
    context.send_publish(subject, message).await.expect("send").await.expect("an ack");
}

/// Calls a second with `in_flight` of them at once.
async fn run<F, W>(in_flight: usize, time: Duration, call: W) -> f64
where
    F: Future<Output = ()> + Send,
    W: Fn(u64) -> F + Clone + Send + Sync + 'static,
{
    let (count, tasks) = (Arc::new(AtomicU64::new(0)), Lifecycle::new());
    let begun = Instant::now();
    for _ in 0..in_flight {
        let (count, call) = (Arc::clone(&count), call.clone());
        tasks.spawn(async move {
            while begun.elapsed() < time {
                call(count.fetch_add(1, Ordering::Relaxed)).await;
            }
        });
    }
    tasks.drained().await;
    per_second(count.load(Ordering::Relaxed), begun)
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn per_second(count: u64, begun: Instant) -> f64 {
    count as f64 / begun.elapsed().as_secs_f64()
}

/// Reads of one tenant's slice out of everyone's history.
async fn reading(server: &Nats, time: Duration) {
    let lifecycle = Lifecycle::new();
    let queue = connect(server, &lifecycle).await;
    for base in (0..HISTORY).step_by(500) {
        let event = |n| {
            let tenant = TenantId::new(format!("tenant-{}", n % TENANTS)).expect("a name");
            Publication::new(Subject::event(&tenant, "run.step"), id(n), vec![b'e'; 400])
        };
        queue.publish((base..base + 500).map(event).collect()).await.expect("publish");
    }
    for in_flight in [1, 16] {
        let ours = Arc::clone(&queue);
        let rate = run(in_flight, time, move |n| read(Arc::clone(&ours), n)).await;
        println!(
            "  read {} of {HISTORY} messages, {in_flight:>2} in flight: {:>6.0} reads/s",
            HISTORY / TENANTS,
            rate
        );
    }
    lifecycle.stop();
}

async fn read(queue: Arc<dyn Queue>, n: u64) {
    let tenant = TenantId::new(format!("tenant-{}", n % TENANTS)).expect("a name");
    let range = ReadRange { tenant: Some(tenant), ..ReadRange::default() };
    let found = queue.read(Stream::Events, range, 200, 0).await.expect("read");
    assert_eq!(found.len() as u64, HISTORY / TENANTS);
}
