//! The gateway: consumes webhooks, API calls and REPLIES; emits INBOUND and votes. Never chooses a flow.

mod api;
mod app;
mod auth;
mod health;
mod ingress;
mod instances;
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

pub use auth::{BootstrapError, ensure_admin_key};

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
    let listener =
        tokio::net::TcpListener::bind(&options.listen).await.map_err(|source| StartError {
            role: "gateway",
            reason: format!("cannot listen on {}: choose a free address", options.listen),
            source: Some(Box::new(source)),
        })?;
    let local_addr = listener.local_addr().map_err(|source| StartError {
        role: "gateway",
        reason: "the listener has no address".to_owned(),
        source: Some(Box::new(source)),
    })?;
    reply::start(node).await?;
    resolve::start(node).await;
    let app = app::App::new(node.clone(), &options);
    let router = app::router(&app);
    let lifecycle = node.lifecycle.clone();
    node.lifecycle.spawn(server::run(listener, router, lifecycle, options.max_connections));
    node.health.up("gateway");
    Ok(Running { local_addr })
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
