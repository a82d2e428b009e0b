//! Keeps the queue gauges of `/metrics` true: depth by stream and tenant, age by stream.

use std::time::Duration;

use aof_shared::node::Node;
use aof_shared::subject::Stream;
use aof_shared::telemetry::{DepthLabels, StreamLabels};

/// How often the backlog is looked at.
const INTERVAL: Duration = Duration::from_secs(5);
/// The streams whose backlog is work that waits.
const WAITING: [Stream; 5] =
    [Stream::Inbound, Stream::Tasks, Stream::Actions, Stream::Replies, Stream::Dead];

/// Samples until the node stops.
pub(crate) async fn run(node: Node) {
    let mut tick = tokio::time::interval(INTERVAL);
    loop {
        tokio::select! {
            () = node.lifecycle.stopped() => return,
            _ = tick.tick() => sample(&node).await,
        }
    }
}

async fn sample(node: &Node) {
    let now_ms = node.ports.clock.now_ms();
    let metrics = &node.metrics;
    let mut depths = Vec::new();
    for stream in WAITING {
        let Ok(backlog) = node.ports.queue.backlog(stream).await else {
            tracing::warn!(stream = stream.name(), "backlog cannot be read; its gauges are stale");
            return;
        };
        let oldest = backlog.iter().map(|b| b.oldest_at_ms).min().unwrap_or(now_ms);
        let age = Duration::from_millis(now_ms.saturating_sub(oldest)).as_secs_f64();
        let labels = StreamLabels { stream: stream.name().to_owned() };
        metrics.queue_age.get_or_create(&labels).set(age);
        depths.extend(backlog.into_iter().map(|b| (stream, b)));
    }
    // Tenants with nothing waiting leave the listing.
    metrics.queue_depth.clear();
    for (stream, backlog) in depths {
        let labels =
            DepthLabels { stream: stream.name().to_owned(), tenant: backlog.tenant.to_string() };
        let depth = i64::try_from(backlog.pending).unwrap_or(i64::MAX);
        metrics.queue_depth.get_or_create(&labels).set(depth);
    }
}
