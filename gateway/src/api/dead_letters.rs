//! `/accounts/{a}/dead-letters`: what could not be done; tried again or given up by a person.

mod revive;

use aof_shared::dead::DeadLetter;
use aof_shared::event::{Event, EventType};
use aof_shared::ids::{EventId, TenantId};
use aof_shared::queue::{ReadRange, Stored};
use aof_shared::subject::Stream;
use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body;
use crate::app::{App, Shared};
use crate::auth::Scope;
use crate::ingress::traced;
use crate::problem::{Problem, ProblemBody};

/// Dead letters in one listing.
const PAGE: usize = 100;

/// The routes of this file.
pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show, abandon)).routes(routes!(retry))
}

/// A dead letter; its payload only when it is shown alone.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct DeadLetterBody {
    /// Names it.
    seq: u64,
    /// The role that gave up.
    role: String,
    /// A short constant.
    reason: String,
    /// What went wrong, for people.
    detail: String,
    /// The subject it was on.
    subject: String,
    failures: u32,
    message_id: Option<String>,
    run_id: Option<String>,
    at_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
}

/// Dead letters, oldest first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct DeadLetterList {
    dead_letters: Vec<DeadLetterBody>,
    /// Ask again with `?after=` this for more; missing at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_after: Option<u64>,
}

impl DeadLetterBody {
    fn of(letter: DeadLetter) -> Self {
        Self {
            seq: letter.seq,
            role: letter.role,
            reason: letter.reason,
            detail: letter.detail,
            subject: letter.subject,
            failures: letter.failures,
            message_id: letter.message_id.map(|id| id.to_string()),
            run_id: letter.run_id.map(|id| id.to_string()),
            at_ms: letter.at_ms,
            payload: None,
        }
    }
}

#[derive(Debug, Deserialize)]
struct Query {
    after: Option<u64>,
}

/// Lists the account's dead letters, oldest first.
#[utoipa::path(
    get,
    path = "/accounts/{account}/dead-letters",
    tag = "dead letters",
    params(
        ("account" = String, Path, description = "the account"),
        ("after" = Option<u64>, Query, description = "only those after this `seq`"),
    ),
    security(("key" = ["read"])),
    responses((status = 200, body = DeadLetterList), (status = 404, body = ProblemBody))
)]
async fn list(
    State(app): State<Shared>,
    Path(account): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Json<DeadLetterList>, Problem> {
    let caller = app.authorize(&headers, &account, Scope::Read).await?;
    let query: Query = body::query(query.as_deref())?;
    let tenant = Some(caller.tenant);
    let after_seq = query.after.unwrap_or(0);
    let range = ReadRange { tenant, after_seq, ..ReadRange::default() };
    let page = app.node.ports.queue.read(Stream::Dead, range, PAGE, 0).await?;
    let next_after = (page.len() == PAGE).then(|| page.last().map_or(0, |s| s.seq));
    let letters = page.iter().filter_map(|stored| DeadLetter::from_stored(stored).ok());
    Ok(Json(DeadLetterList { dead_letters: letters.map(DeadLetterBody::of).collect(), next_after }))
}

/// Shows one, with its payload.
#[utoipa::path(
    get,
    path = "/accounts/{account}/dead-letters/{seq}",
    tag = "dead letters",
    params(
        ("account" = String, Path, description = "the account"),
        ("seq" = u64, Path, description = "its `seq`"),
    ),
    security(("key" = ["read"])),
    responses((status = 200, body = DeadLetterBody), (status = 404, body = ProblemBody))
)]
async fn show(
    State(app): State<Shared>,
    Path((account, seq)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<DeadLetterBody>, Problem> {
    let caller = app.authorize(&headers, &account, Scope::Read).await?;
    let (_, letter) = find(&app, &caller.tenant, &seq).await?;
    let payload = letter.payload.clone();
    Ok(Json(DeadLetterBody { payload: Some(payload), ..DeadLetterBody::of(letter) }))
}

async fn find(app: &App, tenant: &TenantId, seq: &str) -> Result<(Stored, DeadLetter), Problem> {
    let missing = || Problem::not_found("dead letter", seq);
    let seq: u64 = seq.parse().ok().filter(|seq| *seq > 0).ok_or_else(missing)?;
    let tenant = Some(tenant.clone());
    let range = ReadRange { tenant, after_seq: seq - 1, ..ReadRange::default() };
    let page = app.node.ports.queue.read(Stream::Dead, range, 1, 0).await?;
    let stored = page.into_iter().find(|s| s.seq == seq).ok_or_else(missing)?;
    let letter = DeadLetter::from_stored(&stored).map_err(|_| missing())?;
    Ok((stored, letter))
}

/// What came of a retry.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct RetryBody {
    /// The message that now tries again; missing where the payload was sent again as it was.
    message_id: Option<String>,
}

/// Tries it again: a message or task as a new message that names its origin, anything
/// else as it was. It leaves the dead letters.
#[utoipa::path(
    post,
    path = "/accounts/{account}/dead-letters/{seq}/retry",
    tag = "dead letters",
    params(
        ("account" = String, Path, description = "the account"),
        ("seq" = u64, Path, description = "its `seq`"),
    ),
    security(("key" = ["operate"])),
    responses(
        (status = 202, body = RetryBody),
        (status = 404, body = ProblemBody),
        (status = 409, description = "its payload cannot be read", body = ProblemBody),
    )
)]
async fn retry(
    State(app): State<Shared>,
    Path((account, seq)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<(StatusCode, Json<RetryBody>), Problem> {
    let caller = app.authorize(&headers, &account, Scope::Operate).await?;
    let (stored, letter) = find(&app, &caller.tenant, &seq).await?;
    let span = app.span("gateway.api.dead_letters", body::trace(&headers), &caller.tenant);
    let revived = revive::revive(&app, &stored, &letter, span.context())?;
    let mut batch = revived.batch;
    let by = caller.key.user.as_str();
    let retried = EventType::DeadLetterRetried;
    batch.push(traced(&settled(&app, (&stored, &letter), retried, by), span.context()));
    app.node.ports.queue.publish(batch).await?;
    app.node.ports.queue.remove(Stream::Dead, &caller.tenant, stored.seq).await?;
    let message_id = revived.message.map(|id| id.to_string());
    Ok((StatusCode::ACCEPTED, Json(RetryBody { message_id })))
}

/// Gives it up: it leaves the dead letters, and the journal says who did it.
#[utoipa::path(
    delete,
    path = "/accounts/{account}/dead-letters/{seq}",
    tag = "dead letters",
    params(
        ("account" = String, Path, description = "the account"),
        ("seq" = u64, Path, description = "its `seq`"),
    ),
    security(("key" = ["operate"])),
    responses((status = 204), (status = 404, body = ProblemBody))
)]
async fn abandon(
    State(app): State<Shared>,
    Path((account, seq)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let caller = app.authorize(&headers, &account, Scope::Operate).await?;
    let (stored, letter) = find(&app, &caller.tenant, &seq).await?;
    let by = caller.key.user.as_str();
    let event = settled(&app, (&stored, &letter), EventType::DeadLetterAbandoned, by);
    let span = app.span("gateway.api.dead_letters", body::trace(&headers), &caller.tenant);
    app.node.ports.queue.publish(vec![traced(&event, span.context())]).await?;
    app.node.ports.queue.remove(Stream::Dead, &caller.tenant, stored.seq).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the journal says about a settled dead letter; once, whoever asks how often.
fn settled(
    app: &App,
    (stored, letter): (&Stored, &DeadLetter),
    kind: EventType,
    by: &str,
) -> Event {
    let id = EventId::derive(stored.id, kind.name());
    let mut event = Event::new(id, &letter.tenant, kind, app.now_ms()).with(json!({
        "seq": stored.seq,
        "role": letter.role,
        "reason": letter.reason,
        "by": by,
    }));
    event.message_id = letter.message_id;
    event.run_id = letter.run_id;
    event
}
