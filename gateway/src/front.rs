//! The listener of a process: bound before anything else, so that supervisors and load
//! balancers get an answer while servers are still waited for.
//!
//! It answers `/livez`, `/readyz` and `/metrics` from the start. Everything else is 503 until
//! the gateway takes over, or 404 on a node that has no gateway.

use std::net::SocketAddr;
use std::sync::Arc;

use aof_shared::lifecycle::Lifecycle;
use aof_shared::node::{Health, Node, StartError};
use aof_shared::telemetry::Metrics;
use arc_swap::ArcSwap;
use axum::Router;
use axum::http::Uri;
use axum::response::IntoResponse;

use crate::health::{self, Operations};
use crate::problem::Problem;
use crate::{Options, server};

/// The part that is down until every role works.
const START: &str = "start";

/// What answers now; swapped as a whole.
pub(crate) type Answering = Arc<ArcSwap<Router>>;

/// A bound listener that answers.
#[derive(Clone)]
pub struct Front {
    /// Where it listens.
    pub local_addr: SocketAddr,
    pub(crate) operations: Operations,
    answering: Answering,
}

/// Binds and answers until `lifecycle` stops.
///
/// # Errors
/// [`StartError`] when the address cannot be bound.
pub async fn listen(
    options: &Options,
    health: &Health,
    metrics: &Arc<Metrics>,
    lifecycle: &Lifecycle,
) -> Result<Front, StartError> {
    let failed = |source: std::io::Error| StartError {
        role: "listener",
        reason: format!("cannot listen on {}: choose a free address", options.listen),
        source: Some(Box::new(source)),
    };
    let listener = tokio::net::TcpListener::bind(&options.listen).await.map_err(failed)?;
    let local_addr = listener.local_addr().map_err(failed)?;
    // Servers that are there are not enough: what comes before the roles do is 503.
    health.down(START, "its roles are not started yet");
    let operations = Operations::new(health.clone(), Arc::clone(metrics), lifecycle.clone());
    let starting = health::alone(&operations).fallback(starting);
    let answering = Arc::new(ArcSwap::from_pointee(starting));
    let running =
        server::run(listener, Arc::clone(&answering), lifecycle.clone(), options.max_connections);
    lifecycle.spawn(running);
    Ok(Front { local_addr, operations, answering })
}

impl Front {
    /// Says what there is on a node without a gateway: health and metrics alone.
    pub fn without_gateway(&self, node: &Node) {
        self.operations.read_gauges_of(&node.ports);
        self.answer(health::alone(&self.operations).fallback(no_gateway));
    }

    /// Lets `router` answer every later request: the node has started.
    pub(crate) fn answer(&self, router: Router) {
        self.answering.store(Arc::new(router));
        self.operations.up(START);
    }
}

async fn starting() -> impl IntoResponse {
    Problem::unavailable("this node is starting; /readyz says what it waits for").into_response()
}

async fn no_gateway(uri: Uri) -> impl IntoResponse {
    Problem::not_found("gateway on this node, nor", uri.path()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(front: &Front, path: &str) -> reqwest::Response {
        let url = format!("http://{}{path}", front.local_addr);
        reqwest::get(url).await.expect("an answer")
    }

    #[tokio::test]
    async fn a_node_that_starts_is_alive_and_says_what_it_waits_for() {
        let (health, metrics) = (Health::default(), Arc::new(Metrics::default()));
        let lifecycle = Lifecycle::new();
        let options = Options::new("127.0.0.1:0");
        health.down("nats", "waiting for NATS at nats://127.0.0.1:4222");
        let front = listen(&options, &health, &metrics, &lifecycle).await.expect("a free port");
        assert_eq!(get(&front, "/livez").await.status(), 200);
        let ready = get(&front, "/readyz").await;
        assert_eq!(ready.status(), 503);
        let ready: serde_json::Value = ready.json().await.expect("JSON");
        assert_eq!(ready["parts"]["nats"], "waiting for NATS at nats://127.0.0.1:4222");
        assert_eq!(get(&front, "/metrics").await.status(), 200);
        let webhook = get(&front, "/webhook/slack").await;
        assert_eq!(webhook.status(), 503);
        assert!(webhook.headers().contains_key("retry-after"));
        health.up("nats");
        assert_eq!(get(&front, "/readyz").await.status(), 503, "its roles take nothing yet");
        front.answer(health::alone(&front.operations));
        assert_eq!(get(&front, "/readyz").await.status(), 200);
        let again = format!("http://{}", front.local_addr);
        let taken = listen(
            &Options::new(again.trim_start_matches("http://")),
            &health,
            &metrics,
            &lifecycle,
        )
        .await;
        assert!(taken.err().is_some_and(|e| e.to_string().contains("choose a free address")));
        health.dead("router", "its loop ended");
        assert_eq!(get(&front, "/livez").await.status(), 503, "only a restart helps");
        lifecycle.stop();
        lifecycle.drained().await;
    }

    #[tokio::test]
    async fn a_connection_kept_open_sees_the_next_router() {
        let lifecycle = Lifecycle::new();
        let options = Options::new("127.0.0.1:0");
        let front = listen(&options, &Health::default(), &Arc::default(), &lifecycle)
            .await
            .expect("a free port");
        let client = reqwest::Client::new();
        let url = format!("http://{}/x", front.local_addr);
        assert_eq!(client.get(&url).send().await.expect("an answer").status(), 503);
        front.answer(Router::new().route("/x", axum::routing::get(|| async { "here" })));
        assert_eq!(client.get(&url).send().await.expect("an answer").status(), 200);
        lifecycle.stop();
    }
}
