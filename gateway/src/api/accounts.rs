//! `GET /accounts`: whose flows, platform accounts and keys there are. For the operator.

use std::collections::BTreeSet;

use aof_shared::ids::TenantId;
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
    OpenApiRouter::new().routes(routes!(accounts))
}

/// Every account that manifests or keys name.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct AccountList {
    /// Their names, sorted.
    accounts: Vec<String>,
}

/// Lists the accounts.
#[utoipa::path(
    get,
    path = "/accounts",
    tag = "operations",
    security(("key" = ["operate"])),
    responses(
        (status = 200, body = AccountList),
        (status = 401, body = ProblemBody),
        (status = 403, description = "not the operator's key", body = ProblemBody),
    )
)]
async fn accounts(
    State(app): State<Shared>,
    headers: HeaderMap,
) -> Result<Json<AccountList>, Problem> {
    app.operator(&headers).await?;
    let snapshot = app.node.config.current();
    let keys = app.node.ports.store.keys(None).await?;
    let flows = snapshot.flows.iter().map(|flow| &flow.tenant);
    let instances = snapshot.instances.iter().map(|instance| &instance.tenant);
    let of_keys = keys.iter().filter_map(|key| key.tenant.as_ref());
    let default = TenantId::default_tenant();
    let all: BTreeSet<&TenantId> =
        flows.chain(instances).chain(of_keys).chain([&default]).collect();
    Ok(Json(AccountList { accounts: all.into_iter().map(ToString::to_string).collect() }))
}
