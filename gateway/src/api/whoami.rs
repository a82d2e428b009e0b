//! `GET /whoami`: whose key this is, so that a client can find its account.

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
    OpenApiRouter::new().routes(routes!(whoami))
}

/// Whom a key speaks for.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct WhoamiBody {
    /// The account that the key is bound to; `null` for the operator's, which may act in any.
    tenant: Option<String>,
    /// Who chats and votes with it.
    user: String,
    /// What it may do.
    scopes: Vec<String>,
}

/// Says whose key the request carries. For every key that counts.
#[utoipa::path(
    get,
    path = "/whoami",
    tag = "keys",
    security(("key" = [])),
    responses((status = 200, body = WhoamiBody), (status = 401, body = ProblemBody))
)]
async fn whoami(
    State(app): State<Shared>,
    headers: HeaderMap,
) -> Result<Json<WhoamiBody>, Problem> {
    let key = app.key(&headers).await?;
    let tenant = key.tenant.as_ref().map(ToString::to_string);
    Ok(Json(WhoamiBody { tenant, user: key.user.clone(), scopes: key.scopes.clone() }))
}
