//! `POST /accounts/{a}/messages/{seq}/replay`: lets a message come in again, as a new one
//! that names its origin. For the operator.

use aof_shared::ids::{AgentName, MessageId, TenantId};
use aof_shared::message::{Message, PINNED_AGENT};
use aof_shared::queue::{ReadRange, Stored};
use aof_shared::subject::Stream;
use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::body;
use crate::app::{App, Shared};
use crate::auth::Scope;
use crate::ingress::{Hop, publish_message};
use crate::problem::{Problem, ProblemBody};

/// Largest request, in bytes.
const MAX_BODY_BYTES: usize = 4 * 1_024;
/// Longest name of a replay, in bytes.
const MAX_NAME_BYTES: usize = 64;
/// What the platform's event id of a replayed message starts with.
const PREFIX: &str = "replay:";

/// The routes of this file.
pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(replay))
}

/// Which replay the message comes again in.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
struct ReplayRequest {
    /// 1 to 64 letters, digits, `-` or `_`. Once in each replay a message comes again.
    name: String,
}

/// The message that came of it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct ReplayBody {
    /// The new message.
    message_id: String,
    /// The message that it repeats.
    origin: String,
    /// It had come again in this replay before; nothing runs twice.
    duplicate: bool,
}

/// Lets an accepted message come in again: really, to the flows in force now, with answers
/// sent to where it was written. It is a new message, whose `message.accepted` names its
/// origin and the replay. What was itself replayed does not come again.
#[utoipa::path(
    post,
    path = "/accounts/{account}/messages/{seq}/replay",
    tag = "journal",
    params(
        ("account" = String, Path, description = "the account"),
        ("seq" = u64, Path, description = "its `seq` in the listing"),
    ),
    security(("key" = ["operate"])),
    request_body = ReplayRequest,
    responses(
        (status = 202, body = ReplayBody),
        (status = 400, body = ProblemBody),
        (status = 403, description = "not the operator's key", body = ProblemBody),
        (status = 404, description = "no such account or message", body = ProblemBody),
        (status = 409, description = "it is a replayed message itself", body = ProblemBody),
        (status = 503, description = "not accepted; send it again", body = ProblemBody),
    )
)]
async fn replay(
    State(app): State<Shared>,
    Path((account, seq)): Path<(String, String)>,
    headers: HeaderMap,
    request: Request,
) -> Result<(StatusCode, Json<ReplayBody>), Problem> {
    let caller = app.authorize(&headers, &account, Scope::Operate).await?;
    if !caller.is_operator() {
        return Err(Problem::forbidden("only the operator's key may replay messages for real"));
    }
    let request: ReplayRequest = body::json(&headers, request.into_body(), MAX_BODY_BYTES).await?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let name = request.name;
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(plain) {
        let detail = "use 1 to 64 letters, digits, `-` or `_`";
        return Err(Problem::invalid_field("/name", detail));
    }
    let stored = find(&app, &caller.tenant, &seq).await?;
    let unreadable = || Problem::conflict("the message cannot be read");
    let message: Message = serde_json::from_slice(&stored.payload).map_err(|_| unreadable())?;
    if message.tenant != caller.tenant {
        return Err(unreadable());
    }
    if message.event_id.starts_with(PREFIX) {
        return Err(Problem::conflict("it is a replayed message itself: replay its origin"));
    }
    let origin = message.id;
    let again = again(message, &name, app.now_ms());
    let span = app.span("gateway.api.messages.again", body::trace(&headers), &caller.tenant);
    let agent = stored.headers.get(PINNED_AGENT).and_then(|name| AgentName::new(name).ok());
    let hop = Hop { agent, retry_of: Some(origin), replay: Some(name), ..Hop::of(span.context()) };
    let accepted = publish_message(&app, &again, hop).await?;
    let body = ReplayBody {
        message_id: accepted.message_id.to_string(),
        origin: origin.to_string(),
        duplicate: accepted.duplicate,
    };
    Ok((StatusCode::ACCEPTED, Json(body)))
}

async fn find(app: &App, tenant: &TenantId, seq: &str) -> Result<Stored, Problem> {
    let missing = || Problem::not_found("message", seq);
    let seq: u64 = seq.parse().ok().filter(|seq| *seq > 0).ok_or_else(missing)?;
    let tenant = Some(tenant.clone());
    let range = ReadRange { tenant, after_seq: seq - 1, ..ReadRange::default() };
    let page = app.node.ports.queue.read(Stream::Inbound, range, 1, 0).await?;
    page.into_iter().find(|stored| stored.seq == seq).ok_or_else(missing)
}

/// The same words from the same person in the same place, now, under an id that is derived
/// from the origin and the replay: asking twice is asking once.
fn again(mut message: Message, name: &str, now_ms: u64) -> Message {
    message.event_id = format!("{PREFIX}{name}:{}", message.id);
    message.id =
        MessageId::derive(&message.tenant, &message.platform, &message.instance, &message.event_id);
    message.received_at_ms = now_ms;
    message
}
