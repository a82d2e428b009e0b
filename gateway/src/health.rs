//! `/livez`, `/readyz`, `/metrics`: what a supervisor, a load balancer and a scraper ask.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use aof_shared::lifecycle::Lifecycle;
use aof_shared::node::Health;
use aof_shared::queue::Backlog;
use aof_shared::store::Ports;
use aof_shared::subject::Stream;
use aof_shared::telemetry::{DepthLabels, Metrics, PartLabels, StreamLabels};
use axum::Json;
use axum::extract::{FromRef, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::Shared;

/// The queue's gauges are read at most this often.
const GAUGES_EVERY_MS: u64 = 5_000;
/// As `encode` writes it.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What operations ask of a process, with or without a gateway.
#[derive(Clone)]
pub(crate) struct Operations {
    health: Health,
    metrics: Arc<Metrics>,
    lifecycle: Lifecycle,
    gauges: Arc<Gauges>,
}

/// Where the queue's gauges come from, and when they were read last, in milliseconds.
#[derive(Default)]
struct Gauges {
    ports: OnceLock<Ports>,
    last_ms: AtomicU64,
}

impl Operations {
    /// Before there is a backend.
    pub(crate) fn new(health: Health, metrics: Arc<Metrics>, lifecycle: Lifecycle) -> Self {
        Self { health, metrics, lifecycle, gauges: Arc::default() }
    }

    /// The part works.
    pub(crate) fn up(&self, part: &'static str) {
        self.health.up(part);
    }

    /// The queue's depth and age are read from `ports` from now on.
    pub(crate) fn read_gauges_of(&self, ports: &Ports) {
        let _ = self.gauges.ports.set(ports.clone());
    }
}

impl FromRef<Shared> for Operations {
    fn from_ref(app: &Shared) -> Self {
        app.operations.clone()
    }
}

/// The routes of this file and no others.
pub(crate) fn alone(operations: &Operations) -> axum::Router {
    let (routes, _) = OpenApiRouter::<Operations>::new()
        .routes(routes!(livez))
        .routes(routes!(readyz))
        .routes(routes!(metrics))
        .split_for_parts();
    routes.with_state(operations.clone())
}

/// The routes of this file.
pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(livez)).routes(routes!(readyz)).routes(routes!(metrics))
}

/// Whether a node can work.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Readiness {
    ready: bool,
    /// It was told to stop.
    stopping: bool,
    /// The parts, and why one cannot work. A node may be ready without some of them: what
    /// needs those waits.
    parts: BTreeMap<String, Option<String>>,
    /// What is wrong with the cluster although every part works.
    warnings: BTreeMap<String, String>,
}

/// Says that the process runs. Restart it when this does not answer or is not 200: a part
/// of it is dead then, which nothing else mends.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "operations",
    responses((status = 200, body = String), (status = 503, body = String))
)]
async fn livez(State(operations): State<Operations>) -> (StatusCode, &'static str) {
    if operations.health.alive() {
        return (StatusCode::OK, "alive\n");
    }
    (StatusCode::SERVICE_UNAVAILABLE, "a part is dead: /readyz says which; restart this node\n")
}

/// Says whether requests should come here. A part that is down is no reason to restart.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operations",
    responses((status = 200, body = Readiness), (status = 503, body = Readiness))
)]
async fn readyz(State(operations): State<Operations>) -> Response {
    let Operations { health, lifecycle, .. } = &operations;
    let stopping = lifecycle.stopping();
    let ready = health.ready() && !stopping;
    let parts = health.parts().into_iter().map(|(part, why)| (part.to_owned(), why)).collect();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let warnings = health.notices();
    (status, Json(Readiness { ready, stopping, parts, warnings })).into_response()
}

/// All series in the OpenMetrics text format.
#[utoipa::path(get, path = "/metrics", tag = "operations", responses((status = 200, body = String)))]
async fn metrics(State(operations): State<Operations>) -> Response {
    let Operations { health, metrics, gauges, .. } = &operations;
    gauges.read(metrics).await;
    for (part, why) in health.parts() {
        let labels = PartLabels { part: part.to_owned() };
        metrics.part_up.get_or_create(&labels).set(i64::from(why.is_none()));
    }
    ([(header::CONTENT_TYPE, OPENMETRICS)], metrics.encode()).into_response()
}

impl Gauges {
    /// Depth and age as the queue has them; left as they were when it does not answer.
    async fn read(&self, metrics: &Metrics) {
        let Some(ports) = self.ports.get() else { return };
        let now_ms = ports.clock.now_ms();
        let last_ms = self.last_ms.load(Ordering::Relaxed);
        let due = now_ms.saturating_sub(last_ms) >= GAUGES_EVERY_MS || last_ms == 0;
        let order = Ordering::Relaxed;
        if !due || self.last_ms.compare_exchange(last_ms, now_ms, order, order).is_err() {
            return;
        }
        let mut read = Vec::new();
        for stream in Stream::ALL.into_iter().filter(|s| *s != Stream::Events) {
            match ports.queue.backlog(stream).await {
                Ok(backlog) => read.push((stream, backlog)),
                Err(error) => {
                    tracing::debug!(%error, "queue depth cannot be read");
                    return;
                }
            }
        }
        // Tenants with nothing waiting leave the listing.
        metrics.queue_depth.clear();
        for (stream, backlog) in read {
            show(metrics, stream.name(), backlog, now_ms);
        }
    }
}

fn show(metrics: &Metrics, stream: &str, backlog: Vec<Backlog>, now_ms: u64) {
    let oldest = backlog.iter().map(|b| b.oldest_at_ms).min().unwrap_or(now_ms);
    let age_ms = u32::try_from(now_ms.saturating_sub(oldest)).unwrap_or(u32::MAX);
    let labels = StreamLabels { stream: stream.to_owned() };
    metrics.queue_age.get_or_create(&labels).set(f64::from(age_ms) / 1000.0);
    for waiting in backlog {
        let labels = DepthLabels { stream: stream.to_owned(), tenant: waiting.tenant.to_string() };
        let depth = i64::try_from(waiting.pending).unwrap_or(i64::MAX);
        metrics.queue_depth.get_or_create(&labels).set(depth);
    }
}
