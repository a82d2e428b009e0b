//! `kill -9` of a node with a million messages waiting: how soon the next one accepts, and
//! how soon it answers somebody who has nothing waiting.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aof_harness as harness;
use aof_shared::backend::{ClusterOptions, Waiting, open_cluster, open_embedded};
use aof_shared::clock::SystemClock;
use aof_shared::config::Daemon;
use aof_shared::ids::{InstanceName, MessageId, PlatformName, TenantId};
use aof_shared::lifecycle::Lifecycle;
use aof_shared::manifest::Env;
use aof_shared::message::{Channel, Message, MessageKind, User};
use aof_shared::node::Health;
use aof_shared::queue::Publication;
use aof_shared::store::Ports;
use aof_shared::subject::Subject;
use harness::{Backend, Manifests, Node};

use super::client::Connection;
use super::{TENANTS, connections, flow_of, milli, request, request_of, slack};

/// Messages that wait; `AOF_WAITING` sets another number.
const WAITING: u64 = 1_000_000;
/// Messages stored at once.
const BATCH: u64 = 512;
/// Kills; the middle one is reported, and the slowest.
const KILLS: u64 = 5;
/// How long the node takes in messages before it is killed.
const BEFORE_KILL: Duration = Duration::from_secs(2);
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn run() {
    let waiting = std::env::var("AOF_WAITING").ok().and_then(|n| n.parse().ok());
    let waiting = waiting.unwrap_or(WAITING);
    // Every organisation may run one request an hour, so that the rest keeps waiting.
    let manifests = Manifests::new("  limits: {per_organization: {max_requests_per_hour: 1}}\n");
    manifests.agent("echo", "  model: echo:repeat\n");
    let answered = Arc::new(Mutex::new(HashMap::new()));
    let seen = Arc::clone(&answered);
    let api = slack::listen(move |text| {
        seen.lock().expect("ok").insert(text.to_owned(), Instant::now());
    })
    .await;
    // Those after the first have nothing waiting: one for each kill.
    for org in 0..TENANTS + KILLS {
        flow_of(&manifests, org, api, "echo");
    }
    let data = tempfile::Builder::new().tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    store(data.path(), waiting).await;
    let start = || Node::start(env!("CARGO_BIN_EXE_aofctl"), manifests.dir.path(), data.path());
    let mut node = start();
    let (mut accepted_ms, mut answered_ms, mut next) = (Vec::new(), Vec::new(), 0);
    for kill in 0..KILLS {
        next = take_in(&node, next).await;
        // What is in flight now is cut off in the middle.
        let killed = Instant::now();
        node.kill();
        node = start();
        let mut connection = Connection::open(node.addr()).await;
        let fresh = request_of(TENANTS + kill, next, node.addr());
        assert_eq!(connection.send(&fresh).await, 200);
        accepted_ms.push(killed.elapsed().as_secs_f64() * 1e3);
        let at = answer(&answered, &format!("m{next}")).await;
        answered_ms.push((at - killed).as_secs_f64() * 1e3);
        next += 1;
    }
    let (accepted, answered) = (spread(&mut accepted_ms), spread(&mut answered_ms));
    println!(
        "recovery: kill -9 with {waiting} messages waiting, to the next one's durable 2xx: {accepted}; \
         to the answer of one with nothing waiting: {answered}; resident {:.1} MB",
        milli(node.resident_bytes() / 1_000),
    );
}

/// The middle one and the largest.
fn spread(ms: &mut [f64]) -> String {
    ms.sort_by(f64::total_cmp);
    format!("p50 {:.0} ms, slowest of {} {:.0} ms", ms[ms.len() / 2], ms.len(), ms[ms.len() - 1])
}

/// When `text` was answered.
async fn answer(answered: &Mutex<HashMap<String, Instant>>, text: &str) -> Instant {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(at) = answered.lock().expect("ok").get(text) {
            return *at;
        }
        assert!(Instant::now() < end, "{text} was not answered in {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Messages from `next` on until [`BEFORE_KILL`] is over; returns the first that was not sent.
async fn take_in(node: &Node, next: u64) -> u64 {
    let (addr, began) = (node.addr(), Instant::now());
    let posters = (0..connections()).map(|offset| async move {
        let mut connection = Connection::open(addr).await;
        let mut at = next + offset;
        while began.elapsed() < BEFORE_KILL {
            assert_eq!(connection.send(&request(at, addr)).await, 200, "message {at}");
            at += connections();
        }
        at
    });
    let ends = futures_util::future::join_all(posters).await;
    ends.into_iter().max().unwrap_or(next)
}

/// Puts messages into INBOUND as the gateway does, without their journal.
async fn store(data: &std::path::Path, waiting: u64) {
    let lifecycle = Lifecycle::new();
    let ports = open(data, &lifecycle).await;
    for from in (0..waiting).step_by(usize::try_from(BATCH).expect("small")) {
        let batch = (from..waiting.min(from + BATCH)).map(publication).collect();
        ports.queue.publish(batch).await.expect("stored");
    }
    lifecycle.stop();
    drop(ports);
    lifecycle.drained().await;
}

/// The ports that nodes on `data` will have.
async fn open(data: &std::path::Path, lifecycle: &Lifecycle) -> Ports {
    let (backend, clock) = (Backend::chosen(), Arc::new(SystemClock));
    if backend == Backend::Embedded {
        return open_embedded(data, clock, lifecycle).expect("it opens");
    }
    let variables = backend.variables(data);
    let env = Env::new(move |name| {
        let found = variables.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| value.clone())
    });
    let settings = Daemon::default().cluster.with_env(&env).expect("all are named");
    let servers = settings.servers().expect("all are named").expect("a cluster");
    let options = ClusterOptions { servers, node: "load".to_owned() };
    let health = Health::default();
    let waiting = Waiting { health: &health, lifecycle };
    open_cluster(options, clock, lifecycle, waiting).await.expect("it opens")
}

fn publication(n: u64) -> Publication {
    let tenant = TenantId::new(format!("org-{}", n % TENANTS)).expect("a plain name");
    let (platform, instance) = (PlatformName::slack(), InstanceName::new("org").expect("a name"));
    let event_id = format!("EvWaiting{n}");
    let message = Message {
        id: MessageId::derive(&tenant, &platform, &instance, &event_id),
        tenant: tenant.clone(),
        instance,
        platform: platform.clone(),
        kind: MessageKind::Mention,
        channel: Channel { id: format!("C{n:08}"), name: None, direct: false },
        thread: None,
        reply_to: None,
        user: User::new(format!("U{n:08}")),
        text: format!("m{n}"),
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
