//! The connection: bounded waits, reconnects for ever, and no server that is too old.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::{self, context::ContextBuilder};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::lifecycle::Lifecycle;
use crate::queue::{BoxError, Durability, QueueError};
use crate::secret::Secret;
use crate::subject::{Space, Stream};

use super::monitor;
use super::streams::Names;

/// Oldest server that keeps what it is asked: older ones ignore newer fields in silence,
/// and a filter that is ignored shows one tenant another's messages.
const FLOOR: (i64, i64) = (2, 10);
/// First server that stores a batch whole or not at all.
const ATOMIC: (i64, i64) = (2, 12);
/// Longest wait for a connection at start.
const CONNECT_WAIT_MS: u64 = 5_000;
/// Longest wait for one server while connecting.
const DIAL_WAIT_MS: u64 = 2_000;
/// Time between two signs of life; the client gives a server up after three without answer.
const PING_MS: u64 = 2_000;
/// Longest pause between two tries to connect again.
const MAX_RECONNECT_MS: u64 = 1_000;
/// First pause between two tries to connect again.
const RECONNECT_MS: u64 = 20;
/// Longest wait for an answer of the server.
pub(super) const ANSWER_WAIT_MS: u64 = 5_000;
/// Commands that wait for the connection; then callers wait, for [`ANSWER_WAIT_MS`].
const MAX_WAITING_COMMANDS: usize = 4_096;
/// Longest cluster name in bytes.
const MAX_NAME_BYTES: usize = 32;

/// Where the servers are and what the streams should be.
#[derive(Debug, Clone)]
pub struct JetStreamOptions {
    /// The cluster's name, `[a-z0-9-]{1,32}`: prefix of everything it keeps.
    pub name: String,
    /// This node's name, for the server's list of connections.
    pub node: String,
    /// One URL, or several with commas between them; may hold a user and a password.
    pub url: Secret,
    /// The server's monitoring endpoint, `http://host:8222`: the only place that says
    /// whether the server syncs every message.
    pub monitor_url: Option<String>,
    /// Copies of each stream: 1, 3 or 5.
    pub replicas: usize,
    /// How much the streams hold.
    pub caps: super::streams::Caps,
}

/// Why the queue did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Try again: the servers may be down or starting.
    #[error("NATS at {servers} cannot be reached: {reason}")]
    Unreachable {
        /// The servers, without credentials.
        servers: Servers,
        /// What was wrong.
        reason: String,
        /// The cause.
        #[source]
        source: Option<BoxError>,
    },
    /// Do not start: it stays as it is until somebody changes it.
    #[error("NATS at {servers} cannot be used: {reason}")]
    Refused {
        /// The servers, without credentials.
        servers: Servers,
        /// What is wrong, and the way out.
        reason: String,
    },
}

/// Hosts and ports, without credentials, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servers(Vec<String>);

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

impl Servers {
    pub(super) fn refused(&self, reason: impl Into<String>) -> OpenError {
        OpenError::Refused { servers: self.clone(), reason: reason.into() }
    }

    pub(super) fn unreachable(&self, error: impl Into<BoxError>) -> OpenError {
        let source = error.into();
        let reason = source.to_string();
        OpenError::Unreachable { servers: self.clone(), reason, source: Some(source) }
    }
}

/// What every part of the adapter stands on.
pub(super) struct Link {
    pub(super) client: Client,
    pub(super) context: jetstream::Context,
    pub(super) servers: Servers,
    pub(super) names: Names,
    pub(super) space: Space,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) lifecycle: Lifecycle,
    pub(super) replicas: usize,
    pub(super) caps: super::streams::Caps,
    /// The server syncs before it answers.
    pub(super) sync_always: bool,
    /// Counts lost connections.
    lost: watch::Receiver<u64>,
    /// The server that we are connected to takes atomic batches.
    atomic: AtomicBool,
    /// The server that we are connected to is not [`FLOOR`] or newer.
    too_old: AtomicBool,
}

impl Link {
    /// Connects, looks what the server can do, and watches it from then on.
    pub(super) async fn connect(
        options: &JetStreamOptions,
        clock: Arc<dyn Clock>,
        lifecycle: &Lifecycle,
    ) -> Result<Arc<Self>, OpenError> {
        let address = Address::parse(options)?;
        let servers = address.servers.clone();
        let (connects, connected) = watch::channel(0_u64);
        let (losses, lost) = watch::channel(0_u64);
        let client = dial(options, address, (connects, losses)).await?;
        let context = ContextBuilder::new()
            .timeout(Duration::from_millis(ANSWER_WAIT_MS))
            .ack_timeout(Duration::from_millis(ANSWER_WAIT_MS))
            .backpressure_on_inflight(true)
            .build(client.clone());
        check_version(&client, &servers)?;
        let sync_always = match &options.monitor_url {
            Some(url) => monitor::sync_always(url).await.map_err(|e| servers.unreachable(e))?,
            None => false,
        };
        let link = Arc::new(Self {
            names: Names::new(&options.name),
            space: Space::new(&options.name),
            atomic: AtomicBool::new(at_least(&client, ATOMIC)),
            too_old: AtomicBool::new(false),
            replicas: options.replicas,
            caps: options.caps,
            lifecycle: lifecycle.clone(),
            client,
            context,
            servers,
            clock,
            lost,
            sync_always,
        });
        lifecycle.spawn(watch_server(Arc::downgrade(&link), lifecycle.clone(), connected));
        Ok(link)
    }

    /// How durable a receipt is.
    pub(super) fn durability(&self) -> Durability {
        match (self.replicas, self.sync_always) {
            (3.., _) => Durability::Quorum,
            (_, true) => Durability::Fsync,
            (_, false) => Durability::Memory,
        }
    }

    /// True when a batch can be stored whole or not at all.
    pub(super) fn atomic(&self) -> bool {
        self.atomic.load(Ordering::Relaxed)
    }

    /// Refuses before anything is sent when it cannot be answered.
    pub(super) fn ready(&self) -> Result<(), QueueError> {
        if self.client.connection_state() != State::Connected {
            return Err(unavailable("NATS is away", None));
        }
        if self.too_old.load(Ordering::Relaxed) {
            return Err(unavailable("NATS came back as a version older than 2.10", None));
        }
        Ok(())
    }

    /// Waits for an answer. `None`: it took longer than [`ANSWER_WAIT_MS`], or the
    /// connection that it would come on was lost.
    pub(super) async fn answer<F: Future>(&self, asked: F) -> Option<F::Output> {
        let mut lost = self.lost.clone();
        lost.mark_unchanged();
        tokio::select! {
            biased;
            answer = asked => Some(answer),
            _ = lost.changed() => None,
            () = tokio::time::sleep(Duration::from_millis(ANSWER_WAIT_MS)) => None,
        }
    }

    /// Looks again what the server can do.
    fn look(&self) {
        let too_old = !at_least(&self.client, FLOOR);
        if too_old && !self.too_old.load(Ordering::Relaxed) {
            let found = self.client.server_info().version;
            tracing::error!(
                servers = %self.servers, %found,
                "NATS came back as a version that this program cannot use; run 2.10 or newer"
            );
        }
        self.too_old.store(too_old, Ordering::Relaxed);
        self.atomic.store(at_least(&self.client, ATOMIC), Ordering::Relaxed);
    }

    /// The stream as the server calls it.
    pub(super) fn stream(&self, stream: Stream) -> &str {
        self.names.stream(stream)
    }
}

/// Nothing happened.
pub(super) fn unavailable(reason: impl Into<String>, source: Option<BoxError>) -> QueueError {
    QueueError::Unavailable { reason: reason.into(), source }
}

/// True when the server that we are connected to is `version` or newer.
fn at_least(client: &Client, (major, minor): (i64, i64)) -> bool {
    client.is_server_compatible(major, minor, 0)
}

fn check_version(client: &Client, servers: &Servers) -> Result<(), OpenError> {
    if at_least(client, FLOOR) {
        return Ok(());
    }
    Err(servers.refused(format!(
        "it runs version {}, which ignores what it does not know and would show one tenant \
         another's messages; run NATS 2.10 or newer, 2.12 for batches that are stored whole",
        client.server_info().version
    )))
}

/// Looks at the server after each connect until the link is dropped or the node stops.
async fn watch_server(
    link: std::sync::Weak<Link>,
    lifecycle: Lifecycle,
    mut connected: watch::Receiver<u64>,
) {
    loop {
        tokio::select! {
            () = lifecycle.stopped() => return,
            changed = connected.changed() => if changed.is_err() { return },
        }
        let Some(link) = link.upgrade() else { return };
        link.look();
    }
}

/// A parsed URL list; the credentials apart, so that no error or log can hold them.
struct Address {
    urls: Vec<ServerAddr>,
    servers: Servers,
    user: Option<(String, Option<String>)>,
}

impl Address {
    fn parse(options: &JetStreamOptions) -> Result<Self, OpenError> {
        let mut address = Self { urls: Vec::new(), servers: Servers(Vec::new()), user: None };
        for text in options.url.expose().split(',').map(str::trim).filter(|text| !text.is_empty()) {
            let Ok(server) = text.parse::<ServerAddr>() else {
                return Err(address.servers.refused(
                    "the URL cannot be read; write `nats://host:4222`, several with commas \
                     between them",
                ));
            };
            let mut url = server.into_inner();
            if !url.username().is_empty() {
                let password = url.password().map(unescape);
                address.user = Some((unescape(url.username()), password));
            }
            // Both fail only for URLs without a host, which the next line refuses.
            let _ = url.set_username("");
            let _ = url.set_password(None);
            let server = ServerAddr::from_url(url)
                .map_err(|error| address.servers.refused(error.to_string()))?;
            address.servers.0.push(format!("{}:{}", server.host(), server.port()));
            address.urls.push(server);
        }
        address.check(options)
    }

    fn check(self, options: &JetStreamOptions) -> Result<Self, OpenError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let name = &options.name;
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(plain) {
            return Err(self.servers.refused(format!(
                "the cluster's name `{name}` is not 1 to {MAX_NAME_BYTES} letters a-z, digits \
                 and `-`"
            )));
        }
        if ![1, 3, 5].contains(&options.replicas) {
            return Err(self
                .servers
                .refused(format!("{} replicas cannot be had: 1, 3 or 5", options.replicas)));
        }
        if self.urls.is_empty() {
            return Err(self.servers.refused("no URL was given"));
        }
        Ok(self)
    }
}

/// `%40` and the like as the characters they stand for.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let escaped = hex.filter(|_| first == b'%').and_then(|h| u8::from_str_radix(h, 16).ok());
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn dial(
    options: &JetStreamOptions,
    address: Address,
    (connects, losses): (watch::Sender<u64>, watch::Sender<u64>),
) -> Result<Client, OpenError> {
    let servers = address.servers;
    let mut connect = ConnectOptions::new()
        .name(format!("{} {}", options.name, options.node))
        .connection_timeout(Duration::from_millis(DIAL_WAIT_MS))
        .request_timeout(Some(Duration::from_millis(ANSWER_WAIT_MS)))
        .ping_interval(Duration::from_millis(PING_MS))
        .client_capacity(MAX_WAITING_COMMANDS)
        .max_reconnects(None)
        .reconnect_delay_callback(|attempts| {
            let doubled = RECONNECT_MS << attempts.min(10);
            Duration::from_millis(doubled.min(MAX_RECONNECT_MS))
        })
        .event_callback(move |event| {
            log(&event);
            match event {
                Event::Connected => connects.send_modify(|count| *count += 1),
                Event::Disconnected => losses.send_modify(|count| *count += 1),
                _ => {}
            }
            std::future::ready(())
        });
    connect = match address.user {
        Some((user, Some(password))) => connect.user_and_password(user, password),
        Some((token, None)) => connect.token(token),
        None => connect,
    };
    let wait = Duration::from_millis(CONNECT_WAIT_MS);
    match tokio::time::timeout(wait, connect.connect(address.urls)).await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) => Err(match error.kind() {
            ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => servers
                .refused(
                    "it does not accept the credentials; check the user and password in the URL",
                ),
            ConnectErrorKind::ServerParse => servers.refused("its URL cannot be read"),
            _ => servers.unreachable(error),
        }),
        Err(_) => Err(servers.unreachable(format!("no answer in {CONNECT_WAIT_MS} ms"))),
    }
}

fn log(event: &Event) {
    match event {
        Event::Connected => tracing::info!("connected to NATS"),
        Event::Disconnected => tracing::warn!("the connection to NATS is lost; trying again"),
        Event::SlowConsumer(subscription) => {
            tracing::warn!(subscription, "messages of a subscription were dropped: too slow");
        }
        Event::ServerError(error) => tracing::warn!(%error, "NATS reports an error"),
        other => tracing::debug!(event = %other, "NATS"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(name: &str, url: &str) -> JetStreamOptions {
        JetStreamOptions {
            name: name.to_owned(),
            node: "n".to_owned(),
            url: Secret::new(url),
            monitor_url: None,
            replicas: 1,
            caps: super::super::streams::Caps::default(),
        }
    }

    #[test]
    fn credentials_are_taken_out_of_the_url() {
        let address = Address::parse(&options("aof", "nats://me:p%40ss@a:1, b:2")).expect("valid");
        assert_eq!(address.servers.to_string(), "a:1, b:2");
        assert_eq!(address.user, Some(("me".to_owned(), Some("p@ss".to_owned()))));
        let shown = format!("{:?}", address.urls);
        assert!(!shown.contains("p@ss") && !shown.contains("p%40ss"), "{shown}");
    }

    #[test]
    fn names_and_urls_that_cannot_be_used_are_refused() {
        for (name, url) in
            [("", "a:1"), ("A", "a:1"), ("a.b", "a:1"), ("aof", ""), ("aof", "http://x")]
        {
            let refused = Address::parse(&options(name, url)).err();
            assert!(matches!(refused, Some(OpenError::Refused { .. })), "{name} {url}");
        }
    }
}
