//! `kill -9` of a node with a million messages waiting, and how soon the next one accepts.

use std::time::{Duration, Instant};

use aof_harness as harness;
use aof_shared::backend::open_embedded;
use aof_shared::clock::SystemClock;
use aof_shared::ids::{InstanceName, MessageId, PlatformName, TenantId};
use aof_shared::lifecycle::Lifecycle;
use aof_shared::message::{Channel, Message, MessageKind, User};
use aof_shared::queue::Publication;
use aof_shared::subject::Subject;
use harness::{Manifests, Node};

use super::client::Connection;
use super::{TENANTS, connections, milli, request};

/// Messages that wait; `AOF_WAITING` sets another number.
const WAITING: u64 = 1_000_000;
/// Messages stored at once.
const BATCH: u64 = 512;
/// Kills; the middle one is reported, and the slowest.
const KILLS: usize = 5;
/// How long the node takes in messages before it is killed.
const BEFORE_KILL: Duration = Duration::from_secs(2);

pub(crate) async fn run() {
    let waiting = std::env::var("AOF_WAITING").ok().and_then(|n| n.parse().ok());
    let waiting = waiting.unwrap_or(WAITING);
    // Every organisation may run one request an hour, so that the rest keeps waiting.
    let manifests = Manifests::new("  limits: {per_organization: {max_requests_per_hour: 1}}\n");
    manifests.agent("echo", "  model: echo:repeat\n");
    let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    for tenant in 0..TENANTS {
        let context =
            format!("  context: {{organization: org-{tenant}}}\n  agents:\n    - name: echo\n");
        let token = format!("xoxb-{tenant}");
        let trigger = harness::slack_trigger(nowhere, &token, harness::SIGNING_SECRET, &context);
        manifests.flow(&format!("flow-{tenant}"), &trigger);
    }
    let data = tempfile::Builder::new().tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    store(data.path(), waiting).await;
    let start = || Node::start(env!("CARGO_BIN_EXE_aofctl"), manifests.dir.path(), data.path());
    let mut node = start();
    let (mut took_ms, mut next) = (Vec::with_capacity(KILLS), 0);
    for _ in 0..KILLS {
        next = take_in(&node, next).await;
        // What is in flight now is cut off in the middle.
        let killed = Instant::now();
        node.kill();
        node = start();
        let mut connection = Connection::open(node.addr()).await;
        assert_eq!(connection.send(&request(next, node.addr())).await, 200);
        next += 1;
        took_ms.push(killed.elapsed().as_secs_f64() * 1e3);
    }
    took_ms.sort_by(f64::total_cmp);
    println!(
        "recovery: kill -9 with {waiting} messages waiting, to the next one's fsynced 2xx: p50 {:.0} ms, \
         slowest of {KILLS} {:.0} ms; resident {:.1} MB",
        took_ms[KILLS / 2],
        took_ms[KILLS - 1],
        milli(node.resident_bytes() / 1_000),
    );
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
    let ports =
        open_embedded(data, std::sync::Arc::new(SystemClock), &lifecycle).expect("it opens");
    for from in (0..waiting).step_by(usize::try_from(BATCH).expect("small")) {
        let batch = (from..waiting.min(from + BATCH)).map(publication).collect();
        ports.queue.publish(batch).await.expect("stored");
    }
    lifecycle.stop();
    drop(ports);
    lifecycle.drained().await;
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
