//! `GET /status`: the node as its operator sees it.

use std::collections::BTreeMap;

use aof_shared::node::members::Seen;
use aof_shared::queue::{Backlog, Durability};
use aof_shared::subject::Stream;
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::Shared;
use crate::problem::{Problem, ProblemBody};

/// The routes of this file.
pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(status))
}

/// A node now.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct StatusBody {
    version: String,
    /// The nodes of the cluster, the one that answers first; empty without a cluster.
    nodes: Vec<NodeBody>,
    /// Whether every part can work.
    ready: bool,
    /// The parts, and why one cannot work.
    parts: BTreeMap<String, Option<String>>,
    /// What to look at although every part works, by what it concerns.
    warnings: BTreeMap<String, String>,
    /// How durable an accepted message is.
    #[schema(value_type = String)]
    durability: Durability,
    /// Hash of the configuration in force.
    revision: String,
    flows: usize,
    agents: usize,
    instances: usize,
    /// What waits, by stream and tenant.
    queues: Vec<QueueBody>,
}

/// A node of the cluster.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct NodeBody {
    id: String,
    roles: Vec<String>,
    version: String,
    /// Hash of the configuration that it serves.
    revision: String,
    address: String,
    started_at_ms: u64,
    /// How far its clock is ahead of the answering node's; negative when behind.
    clock_ahead_ms: i64,
    heard_ms_ago: u64,
}

impl From<Seen> for NodeBody {
    fn from(seen: Seen) -> Self {
        let Seen { member, ahead_ms, heard_ms_ago } = seen;
        Self {
            id: member.id,
            roles: member.roles,
            version: member.version,
            revision: member.revision,
            address: member.address,
            started_at_ms: member.started_at_ms,
            clock_ahead_ms: ahead_ms,
            heard_ms_ago,
        }
    }
}

/// What waits in one stream.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct QueueBody {
    /// `INBOUND`, `TASKS`, `ACTIONS`, `REPLIES` or `DEAD`.
    stream: String,
    pending: u64,
    oldest_age_ms: u64,
    tenants: Vec<TenantBacklog>,
}

/// What waits for one tenant.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct TenantBacklog {
    tenant: String,
    pending: u64,
    oldest_age_ms: u64,
}

/// Shows the node: parts, queues, configuration. For the operator's key.
#[utoipa::path(
    get,
    path = "/status",
    tag = "operations",
    security(("key" = ["operate"])),
    responses((status = 200, body = StatusBody), (status = 403, body = ProblemBody))
)]
async fn status(
    State(app): State<Shared>,
    headers: HeaderMap,
) -> Result<Json<StatusBody>, Problem> {
    app.operator(&headers).await?;
    let node = &app.node;
    let snapshot = node.config.current();
    let mut warnings = node.health.warnings();
    let mut queues = Vec::new();
    for stream in Stream::ALL.into_iter().filter(|s| *s != Stream::Events) {
        match node.ports.queue.backlog(stream).await {
            Ok(backlog) => queues.push(queue_body(stream, &backlog, app.now_ms())),
            // Whoever asks what is wrong needs an answer most of all now.
            Err(error) => {
                warnings.insert("queues".to_owned(), format!("cannot be read: {error}"));
                break;
            }
        }
    }
    let parts = node.health.parts().into_iter().map(|(part, why)| (part.to_owned(), why)).collect();
    Ok(Json(StatusBody {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        nodes: node.members.list().into_iter().map(NodeBody::from).collect(),
        ready: node.health.ready() && !node.lifecycle.stopping(),
        parts,
        warnings,
        durability: node.ports.queue.durability(),
        revision: snapshot.revision.to_string(),
        flows: snapshot.flows.len(),
        agents: snapshot.agents.len(),
        instances: snapshot.instances.len(),
        queues,
    }))
}

fn queue_body(stream: Stream, backlog: &[Backlog], now_ms: u64) -> QueueBody {
    let tenants: Vec<_> = backlog
        .iter()
        .map(|b| TenantBacklog {
            tenant: b.tenant.to_string(),
            pending: b.pending,
            oldest_age_ms: now_ms.saturating_sub(b.oldest_at_ms),
        })
        .collect();
    QueueBody {
        stream: stream.name().to_owned(),
        pending: tenants.iter().map(|t| t.pending).sum(),
        oldest_age_ms: tenants.iter().map(|t| t.oldest_age_ms).max().unwrap_or(0),
        tenants,
    }
}
