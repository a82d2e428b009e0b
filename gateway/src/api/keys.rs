//! `/accounts/{a}/keys`: makes, lists and revokes API keys. A key is shown once.

use aof_shared::store::ApiKey;
use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body;
use crate::app::Shared;
use crate::auth::{Caller, Scope, draw, record};
use crate::problem::{Problem, ProblemBody};

/// Longest name of a key's user in bytes.
const MAX_USER_BYTES: usize = 128;

/// The routes of this file.
pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(revoke))
}

/// A key to make.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
struct NewKey {
    /// Who chats and votes with it; the maker unless set.
    #[serde(default)]
    user: Option<String>,
    /// `chat`, `read`, `approve`, `operate`; at most what the maker's key has.
    #[serde(default)]
    scopes: Option<Vec<String>>,
    /// Seconds until it expires; never unless set.
    #[serde(default)]
    expires_in_secs: Option<u64>,
}

/// A key as listings show it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct KeyBody {
    id: String,
    user: String,
    scopes: Vec<String>,
    created_at_ms: u64,
    expires_at_ms: Option<u64>,
    revoked_at_ms: Option<u64>,
    /// The key itself; only in the answer that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

/// The keys of an account.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct KeyList {
    keys: Vec<KeyBody>,
}

impl KeyBody {
    fn of(key: ApiKey, text: Option<String>) -> Self {
        Self {
            id: key.id,
            user: key.user,
            scopes: key.scopes,
            created_at_ms: key.created_at_ms,
            expires_at_ms: key.expires_at_ms,
            revoked_at_ms: key.revoked_at_ms,
            key: text,
        }
    }
}

/// Lists the account's keys, without their secrets.
#[utoipa::path(
    get,
    path = "/accounts/{account}/keys",
    tag = "keys",
    params(("account" = String, Path, description = "the account")),
    security(("key" = ["operate"])),
    responses((status = 200, body = KeyList), (status = 404, body = ProblemBody))
)]
async fn list(
    State(app): State<Shared>,
    Path(account): Path<String>,
    headers: HeaderMap,
) -> Result<Json<KeyList>, Problem> {
    let caller = app.authorize(&headers, &account, Scope::Operate).await?;
    let keys = app.node.ports.store.keys(Some(&caller.tenant)).await?;
    Ok(Json(KeyList { keys: keys.into_iter().map(|k| KeyBody::of(k, None)).collect() }))
}

/// Makes a key. Its text is in this answer and nowhere else.
#[utoipa::path(
    post,
    path = "/accounts/{account}/keys",
    tag = "keys",
    params(("account" = String, Path, description = "the account")),
    security(("key" = ["operate"])),
    request_body = NewKey,
    responses(
        (status = 201, body = KeyBody),
        (status = 400, body = ProblemBody),
        (status = 404, body = ProblemBody),
    )
)]
async fn create(
    State(app): State<Shared>,
    Path(account): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, content) = request.into_parts();
    let caller = app.authorize(&parts.headers, &account, Scope::Operate).await?;
    let wanted: NewKey = body::json(&parts.headers, content, app.max_body_bytes).await?;
    let user = user_of(&wanted, &caller)?;
    let scopes = scopes_of(&wanted, &caller)?;
    no_borrowed_vote(&user, &scopes, &caller)?;
    let (id, text) = draw();
    let mut key = record(&text, id, Some(caller.tenant.clone()), &user);
    key.scopes = scopes;
    key.created_at_ms = app.now_ms();
    key.expires_at_ms = wanted
        .expires_in_secs
        .map(|secs| app.now_ms().saturating_add(secs.saturating_mul(1000)))
        .into_iter()
        .chain(caller.key.expires_at_ms)
        .min();
    app.node.ports.store.put_key(&key).await?;
    Ok((StatusCode::CREATED, Json(KeyBody::of(key, Some(text)))).into_response())
}

fn user_of(wanted: &NewKey, caller: &Caller) -> Result<String, Problem> {
    let user = wanted.user.clone().unwrap_or_else(|| caller.key.user.clone());
    let plain = !user.is_empty() && !user.chars().any(|c| c.is_control() || c.is_whitespace());
    if plain && user.len() <= MAX_USER_BYTES {
        return Ok(user);
    }
    Err(Problem::invalid_field("/user", "use 1 to 128 bytes without spaces"))
}

/// Whoever could make an approver's key for others could be a quorum alone: within an
/// account everyone votes as themselves, and only the node's operator hands out votes.
fn no_borrowed_vote(user: &str, scopes: &[String], caller: &Caller) -> Result<(), Problem> {
    let votes = scopes.iter().any(|scope| scope == Scope::Approve.as_str());
    if votes && caller.key.tenant.is_some() && user != caller.key.user {
        let detail = "only the operator's key makes keys that vote as somebody else";
        return Err(Problem::invalid_field("/user", detail));
    }
    Ok(())
}

/// A key passes on at most what it may do itself. Source: K2.
fn scopes_of(wanted: &NewKey, caller: &Caller) -> Result<Vec<String>, Problem> {
    let default = || vec![Scope::Chat.as_str().to_owned(), Scope::Read.as_str().to_owned()];
    let scopes = wanted.scopes.clone().unwrap_or_else(default);
    for (n, scope) in scopes.iter().enumerate() {
        let pointer = format!("/scopes/{n}");
        if !Scope::ALL.iter().any(|known| known.as_str() == scope) {
            let wanted = "use `chat`, `read`, `approve` or `operate`";
            return Err(Problem::invalid_field(&pointer, wanted));
        }
        if !caller.key.scopes.contains(scope) {
            return Err(Problem::invalid_field(&pointer, "your own key lacks this scope"));
        }
    }
    if scopes.is_empty() {
        return Err(Problem::invalid_field("/scopes", "name at least one scope"));
    }
    Ok(scopes)
}

/// Revokes a key, at once here and within seconds on every other gateway.
#[utoipa::path(
    delete,
    path = "/accounts/{account}/keys/{id}",
    tag = "keys",
    params(
        ("account" = String, Path, description = "the account"),
        ("id" = String, Path, description = "the key's id"),
    ),
    security(("key" = ["operate"])),
    responses((status = 204), (status = 404, body = ProblemBody))
)]
async fn revoke(
    State(app): State<Shared>,
    Path((account, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let caller = app.authorize(&headers, &account, Scope::Operate).await?;
    let store = &app.node.ports.store;
    let found = store.revoke_key(Some(&caller.tenant), &id, app.now_ms()).await?;
    app.keys.forget();
    if found { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::not_found("key", &id)) }
}
