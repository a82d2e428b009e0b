//! Opens the servers of a cluster: the queue on NATS JetStream, limits on Redis, records on
//! PostgreSQL. All three at once, each waited for on its own.

use std::sync::Arc;

use super::patience::{Failure, Server, Waiting};
use super::{BackendError, NATS, POSTGRES, REDIS};
use crate::clock::Clock;
use crate::config::Servers;
use crate::lifecycle::Lifecycle;
use crate::limit::redis as limits;
use crate::node::Health;
use crate::queue::{Durability, jetstream as queue};
use crate::store::{Ports, postgres as store};

/// Which cluster, and who joins it.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// Its servers.
    pub servers: Servers,
    /// What this node calls itself, for the servers' own listings.
    pub node: String,
}

/// Opens a cluster's ports. Waits for servers that are down, for as long as `waiting` lets
/// it. What they are set up to lose is a notice in health, and does not keep anyone out.
/// `lifecycle` owns the background tasks; stop it after every role has ended.
///
/// # Errors
/// [`BackendError::Refused`] when one of them cannot be used however long one waits: wrong
/// credentials, too old, somebody else's data, a newer schema. [`BackendError::Stopped`].
pub async fn open_cluster(
    options: ClusterOptions,
    clock: Arc<dyn Clock>,
    lifecycle: &Lifecycle,
    waiting: Waiting<'_>,
) -> Result<Ports, BackendError> {
    let ClusterOptions { servers, node } = options;
    let at = |part, name, url: &crate::secret::Secret| Server {
        part,
        name,
        at: url.without_credentials(),
    };
    let nats = at(NATS, "NATS", &servers.nats_url);
    let redis = at(REDIS, "Redis", &servers.redis_url);
    let postgres = at(POSTGRES, "PostgreSQL", &servers.database_url);
    let ((queue, live), limits, (store, findings)) = tokio::try_join!(
        waiting.open(&nats, async || {
            let options = queue::JetStreamOptions {
                name: servers.name.clone(),
                node: node.clone(),
                url: servers.nats_url.clone(),
                monitor_url: servers.nats_monitor_url.as_ref().map(|url| url.expose().to_owned()),
                replicas: usize::from(servers.replicas),
                caps: queue::Caps::default(),
            };
            queue::open(options, Arc::clone(&clock), lifecycle).await.map_err(Failure::from)
        }),
        waiting.open(&redis, async || {
            let (name, url) = (servers.name.clone(), servers.redis_url.clone());
            limits::open(limits::RedisOptions { name, url }).await.map_err(Failure::from)
        }),
        waiting.open(&postgres, async || {
            let (name, url) = (servers.name.clone(), servers.database_url.clone());
            let options = store::PostgresOptions { name, url };
            store::open(&options, lifecycle).await.map_err(Failure::from)
        }),
    )?;
    if queue.durability() == Durability::Memory {
        note(waiting.health, "durability of NATS", &[forgets(&servers)]);
    }
    note(waiting.health, "durability of Redis", &limits.findings);
    note(waiting.health, "durability of PostgreSQL", &findings);
    Ok(Ports { queue, live, limits: limits.limits, store, together: None, clock })
}

/// Says in log and health what a server is set up to lose.
fn note(health: &Health, part: &str, findings: &[String]) {
    if findings.is_empty() {
        return;
    }
    let findings = findings.join("; ");
    tracing::warn!("{part}: {findings}");
    health.notice(part, Some(findings));
}

/// What a single NATS server that does not sync may lose, and what to do.
fn forgets(servers: &Servers) -> String {
    let unknown = match servers.nats_monitor_url {
        Some(_) => "it does not sync each message (`sync_interval: always`)",
        None => "nobody says that it syncs each message (no `nats_monitor_url`)",
    };
    format!(
        "accepted messages may be lost when its machine loses power: {unknown} and there are \
         fewer than 3 `replicas`"
    )
}

impl From<queue::OpenError> for Failure {
    fn from(error: queue::OpenError) -> Self {
        match error {
            queue::OpenError::Unreachable { reason, .. } => Self::Away(reason),
            queue::OpenError::Refused { .. } => Self::Refused(error.to_string()),
        }
    }
}

impl From<limits::OpenError> for Failure {
    fn from(error: limits::OpenError) -> Self {
        match error {
            limits::OpenError::Unreachable { source, .. } => Self::Away(source.to_string()),
            limits::OpenError::Refused { .. } => Self::Refused(error.to_string()),
        }
    }
}

impl From<store::OpenError> for Failure {
    fn from(error: store::OpenError) -> Self {
        match error {
            store::OpenError::Unreachable { reason, .. } => Self::Away(reason),
            store::OpenError::Refused { .. } => Self::Refused(error.to_string()),
        }
    }
}
