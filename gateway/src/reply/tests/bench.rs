//! How many replies a second pass on the embedded backend, the platform costing nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;

use aof_shared::config::Config;
use aof_shared::ids::PlatformName;
use aof_shared::lifecycle::Lifecycle;
use aof_shared::message::Reply;
use aof_shared::node::{Health, Node};
use aof_shared::queue::{Publication, ReadRange};
use aof_shared::subject::{Stream, Subject};
use aof_shared::telemetry::Metrics;

use super::harness::{answer, ports};
use crate::reply::port::{Body, Outlet, Piece, Posted, SendError};
use crate::reply::start_with;

/// Replies of one measurement, each to a channel of its own.
const REPLIES: usize = 20_000;
/// Replies published at once.
const BATCH: usize = 500;

/// Takes everything at once.
struct Nowhere;

#[async_trait]
impl Outlet for Nowhere {
    fn pieces(&self, reply: &Reply) -> Vec<Piece> {
        vec![Piece { id: reply.id, body: Body::Text("hi".to_owned()) }]
    }

    fn repeatable(&self, _body: &Body) -> bool {
        false
    }

    fn wait_ms(&self, _reply: &Reply, _body: &Body) -> u64 {
        0
    }

    async fn send(&self, _reply: &Reply, _piece: &Piece) -> Result<Posted, SendError> {
        Ok(Posted { id: Some("1.0".to_owned()), channel: None })
    }

    async fn decorate(&self, _reply: &Reply, _posted: &str) {}
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures: cargo test --release -p aof-gateway replies_a_second -- --ignored --nocapture"]
async fn replies_a_second_over_many_channels() {
    let dir = tempfile::tempdir().expect("a directory");
    let lifecycle = Lifecycle::new();
    let node = Node {
        ports: ports(dir.path(), &lifecycle).await,
        config: Config::new(aof_shared::config::Snapshot::default()),
        metrics: Arc::new(Metrics::default()),
        tracer: aof_shared::trace::Tracer::default(),
        health: Health::default(),
        members: Default::default(),
        lifecycle,
    };
    let replies: Vec<Reply> = (0..REPLIES).map(|n| answer(&format!("C{n}"), "hi")).collect();
    for batch in replies.chunks(BATCH) {
        let publications = batch.iter().map(|reply| {
            let subject = Subject::reply(&reply.to.tenant, &reply.to.platform);
            let publication = Publication::json(subject, reply.id.0, reply).expect("JSON");
            publication.ordered_by(format!("slack/main/{}", reply.to.channel))
        });
        node.ports.queue.publish(publications.collect()).await.expect("they are stored");
    }
    let outlet: Arc<dyn Outlet> = Arc::new(Nowhere);
    let started = Instant::now();
    start_with(&node, HashMap::from([(PlatformName::slack(), outlet)])).await.expect("it starts");
    let mut journaled = 0;
    let mut after_seq = 0;
    while journaled < REPLIES {
        let rests = vec!["reply.sent".to_owned()];
        let range = ReadRange { rests, after_seq, ..ReadRange::default() };
        let events = node.ports.queue.read(Stream::Events, range, BATCH, 1_000).await;
        let events = events.expect("the journal can be read");
        assert!(!events.is_empty(), "only {journaled} of {REPLIES} were journaled");
        journaled += events.len();
        after_seq = events.last().map_or(after_seq, |event| event.seq);
    }
    let rate = REPLIES as f64 / started.elapsed().as_secs_f64();
    println!("{REPLIES} replies over as many channels: {rate:.0} a second");
    node.lifecycle.stop();
    node.lifecycle.drained().await;
    assert!(rate > 5_000.0, "{rate:.0} a second is below what is needed");
}
