//! `/livez`, `/readyz`, `/metrics`: what a supervisor, a load balancer and a scraper ask.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use aof_shared::subject::Stream;
use aof_shared::telemetry::{DepthLabels, StreamLabels};
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::{App, Shared};

/// The queue's gauges are read at most this often.
const GAUGES_EVERY_MS: u64 = 5_000;
/// As `encode` writes it.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// When the queue's gauges were read last, in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Gauges(AtomicU64);

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
    /// The parts, and why one cannot work.
    parts: BTreeMap<String, Option<String>>,
}

/// Says that the process runs. Restart it when this does not answer.
#[utoipa::path(get, path = "/livez", tag = "operations", responses((status = 200, body = String)))]
async fn livez() -> &'static str {
    "alive\n"
}

/// Says whether requests should come here. A part that is down is no reason to restart.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operations",
    responses((status = 200, body = Readiness), (status = 503, body = Readiness))
)]
async fn readyz(State(app): State<Shared>) -> Response {
    let stopping = app.node.lifecycle.stopping();
    let ready = app.node.health.ready() && !stopping;
    let parts = app.node.health.parts();
    let parts = parts.into_iter().map(|(part, why)| (part.to_owned(), why)).collect();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, stopping, parts })).into_response()
}

/// All series in the OpenMetrics text format.
#[utoipa::path(get, path = "/metrics", tag = "operations", responses((status = 200, body = String)))]
async fn metrics(State(app): State<Shared>) -> Response {
    read_gauges(&app).await;
    ([(header::CONTENT_TYPE, OPENMETRICS)], app.node.metrics.encode()).into_response()
}

/// Depth and age as the queue has them; left as they were when it does not answer.
async fn read_gauges(app: &App) {
    let now_ms = app.now_ms();
    let last = app.gauges.0.load(Ordering::Relaxed);
    let due = now_ms.saturating_sub(last) >= GAUGES_EVERY_MS || last == 0;
    let won = due
        && app
            .gauges
            .0
            .compare_exchange(last, now_ms, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
    if !won {
        return;
    }
    let mut read = Vec::new();
    for stream in Stream::ALL.into_iter().filter(|s| *s != Stream::Events) {
        match app.node.ports.queue.backlog(stream).await {
            Ok(backlog) => read.push((stream, backlog)),
            Err(error) => {
                tracing::debug!(%error, "queue depth cannot be read");
                return;
            }
        }
    }
    let metrics = &app.node.metrics;
    metrics.queue_depth.clear();
    for (stream, backlog) in read {
        let stream = stream.name().to_owned();
        let oldest = backlog.iter().map(|b| b.oldest_at_ms).min().unwrap_or(now_ms);
        let age_ms = u32::try_from(now_ms.saturating_sub(oldest)).unwrap_or(u32::MAX);
        let labels = StreamLabels { stream: stream.clone() };
        metrics.queue_age.get_or_create(&labels).set(f64::from(age_ms) / 1000.0);
        for waiting in backlog {
            let labels = DepthLabels { stream: stream.clone(), tenant: waiting.tenant.to_string() };
            let depth = i64::try_from(waiting.pending).unwrap_or(i64::MAX);
            metrics.queue_depth.get_or_create(&labels).set(depth);
        }
    }
}
