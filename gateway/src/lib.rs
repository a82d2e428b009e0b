//! The gateway: consumes webhooks, API calls and REPLIES; emits INBOUND and votes. Never chooses a flow.

mod api;
mod app;
mod auth;
mod connections;
mod front;
mod health;
mod ingress;
mod instances;
mod intake;
mod openapi;
mod outcome;
mod platform;
mod problem;
pub mod reply;
pub mod resolve;
mod seen;
mod server;
mod streams;
mod webhook;

use std::net::SocketAddr;

use aof_shared::node::{Node, StartError};

pub use auth::{ADMIN_KEY_FILE, BootstrapError, OperatorKey, ensure_admin_key, ensure_cluster_key};
pub use front::{Front, listen};

/// Largest request body in bytes, unless set otherwise.
pub const DEFAULT_MAX_BODY_BYTES: usize = 1024 * 1024;
/// Connections open at once, unless set otherwise; further ones wait in the listen queue.
pub const DEFAULT_MAX_CONNECTIONS: usize = 4096;
/// How long a chat request without streaming waits for its answer, unless set otherwise.
pub const DEFAULT_CHAT_WAIT_MS: u64 = 300_000;

/// How the gateway listens.
#[derive(Debug, Clone)]
pub struct Options {
    /// `host:port`; port 0 takes a free one.
    pub listen: String,
    /// Largest request body in bytes; more is 413.
    pub max_body_bytes: usize,
    /// Connections open at once.
    pub max_connections: usize,
    /// How long a chat request without streaming waits before it answers 202.
    pub chat_wait_ms: u64,
}

impl Options {
    /// Listens on `listen`, with the defaults for everything else.
    #[must_use]
    pub fn new(listen: impl Into<String>) -> Self {
        Self {
            listen: listen.into(),
            max_body_bytes: DEFAULT_MAX_BODY_BYTES,
            max_connections: DEFAULT_MAX_CONNECTIONS,
            chat_wait_ms: DEFAULT_CHAT_WAIT_MS,
        }
    }
}

/// A gateway that accepts requests until its node is told to stop.
#[derive(Debug, Clone)]
pub struct Running {
    /// Where it listens.
    pub local_addr: SocketAddr,
}

/// Binds, starts the egress, then serves on the node's lifecycle. Stopping the lifecycle
/// closes the listener, ends streams, and lets requests in flight finish.
///
/// # Errors
/// [`StartError`] when the address cannot be bound or the egress cannot start.
pub async fn start(node: &Node, options: Options) -> Result<Running, StartError> {
    let front = listen(&options, &node.health, &node.metrics, &node.lifecycle).await?;
    start_behind(&front, node, &options).await?;
    Ok(Running { local_addr: front.local_addr })
}

/// As [`start`], on a listener that is bound already and answers for the node.
///
/// # Errors
/// [`StartError`] when the egress cannot start.
pub async fn start_behind(front: &Front, node: &Node, options: &Options) -> Result<(), StartError> {
    reply::start(node).await?;
    resolve::start(node).await;
    let app = app::App::new(node.clone(), options, front.operations.clone());
    connections::start(&app, reply::discord::Discord::new(reply::paced(node)?));
    front.answer(app::router(&app));
    node.health.up("gateway");
    Ok(())
}

/// The OpenAPI document of the HTTP API, as `GET /openapi.json` serves it.
///
/// # Errors
/// Never in practice: the document is made of text.
pub fn openapi_json() -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(&openapi::document())
}

#[cfg(test)]
mod testing;
