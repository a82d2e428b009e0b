//! `GET /accounts/{a}/agents`: who an account can talk to.

use std::collections::BTreeMap;

use aof_shared::config::{Runtime, Snapshot};
use aof_shared::ids::{AgentName, TenantId};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::Shared;
use crate::auth::Scope;
use crate::problem::{Problem, ProblemBody};

/// The routes of this file.
pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(list))
}

/// An agent as an account sees it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct AgentBody {
    /// Its name, for `/accounts/{account}/agents/{agent}/chat`.
    name: String,
    /// `model`, `command` or `remote`.
    #[schema(value_type = String)]
    runtime: Runtime,
    /// `provider:name`, or only the name; empty without a model.
    model: String,
    /// What it can do: the programs and queries it may use.
    tools: Vec<String>,
    /// The account's flows that use it; empty for the default agent.
    flows: Vec<String>,
    /// `ready`, or `undefined` when a flow names it and no document defines it.
    health: String,
}

/// The agents of an account.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct AgentList {
    agents: Vec<AgentBody>,
}

/// Lists the agents of the account's flows, and the default agent.
#[utoipa::path(
    get,
    path = "/accounts/{account}/agents",
    tag = "chat",
    params(("account" = String, Path, description = "the account")),
    security(("key" = ["read"])),
    responses((status = 200, body = AgentList), (status = 404, body = ProblemBody))
)]
async fn list(
    State(app): State<Shared>,
    Path(account): Path<String>,
    headers: HeaderMap,
) -> Result<Json<AgentList>, Problem> {
    let caller = app.authorize(&headers, &account, Scope::Read).await?;
    let snapshot = app.node.config.current();
    let agents = reachable(&snapshot, &caller.tenant)
        .into_iter()
        .map(|(name, flows)| describe(&snapshot, &name, flows))
        .collect();
    Ok(Json(AgentList { agents }))
}

/// The agents that a tenant's messages can reach, with the flows that lead there.
pub(super) fn reachable(
    snapshot: &Snapshot,
    tenant: &TenantId,
) -> BTreeMap<AgentName, Vec<String>> {
    let mut agents: BTreeMap<AgentName, Vec<String>> = BTreeMap::new();
    for flow in snapshot.flows.iter().filter(|f| &f.tenant == tenant) {
        for agent in &flow.agents {
            agents.entry(agent.name.clone()).or_default().push(flow.name.to_string());
        }
    }
    if let Some(default) = &snapshot.daemon.default_agent
        && !snapshot.daemon.strict_mode
    {
        agents.entry(default.clone()).or_default();
    }
    agents
}

fn describe(snapshot: &Snapshot, name: &AgentName, flows: Vec<String>) -> AgentBody {
    let agent = snapshot.agents.get(name);
    let model = agent.map(|a| match (a.model.provider.as_str(), a.model.name.as_str()) {
        ("", model) => model.to_owned(),
        (provider, model) => format!("{provider}:{model}"),
    });
    AgentBody {
        name: name.to_string(),
        runtime: agent.map(|a| a.runtime).unwrap_or_default(),
        model: model.unwrap_or_default(),
        tools: agent.map(|a| a.tools.clone()).unwrap_or_default(),
        flows,
        health: if agent.is_some() { "ready" } else { "undefined" }.to_owned(),
    }
}
