//! `POST /accounts/{a}/chat`: a message like any other, answered as JSON or as a stream.

mod answer;
mod stream;
mod turn;

use aof_shared::ids::{AgentName, InstanceName, MessageId, PlatformName};
use aof_shared::message::{Channel, Message, MessageKind, User};
use aof_shared::queue::Durability;
use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use self::turn::{Turn, Update};
use super::{agents, body};
use crate::app::Shared;
use crate::auth::{Caller, Scope};
use crate::ingress::Hop;
use crate::problem::{Problem, ProblemBody};

/// The one instance of the platform `chat`.
const INSTANCE: &str = "api";
/// The channel of a message that names none.
const DEFAULT_CHANNEL: &str = "api";
/// Longest channel, user, conversation or event id in bytes.
const MAX_ID_BYTES: usize = 256;

/// The routes of this file.
pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(any_agent)).routes(routes!(one_agent))
}

/// A message to send.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
struct ChatRequest {
    /// What to say.
    text: String,
    /// The channel, which flows may filter on.
    #[serde(default)]
    channel: Option<String>,
    /// Who says it; only the operator's key may name somebody else than its own user.
    #[serde(default)]
    user: Option<String>,
    /// What it belongs to: messages of one conversation run one at a time and share a
    /// memory. One a user and channel unless set.
    #[serde(default)]
    conversation: Option<String>,
    /// The caller's own id of the message; sending it again is a duplicate.
    #[serde(default)]
    event_id: Option<String>,
}

/// How a message ended, or how far it is.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
struct ChatAnswer {
    #[schema(value_type = String)]
    message_id: Uuid,
    #[schema(value_type = Option<String>)]
    run_id: Option<Uuid>,
    /// `success`, `refused`, `denied`, `expired`, `failed`, `ignored`, `unrouted`; with
    /// 202 `held` or `accepted`.
    status: String,
    /// The whole answer, Markdown; for `failed` what went wrong.
    answer: String,
    /// The approval that it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    approval_id: Option<Uuid>,
    /// It had been accepted before.
    duplicate: bool,
    /// `fsync`, `quorum` or `memory`.
    #[schema(value_type = String)]
    durability: Durability,
}

/// Sends a message to whichever flow and agent fit it best. With `Accept:
/// text/event-stream` the answer is streamed: `accepted`, then `delta` (`offset`, `text`:
/// cut what you have at `offset` and append), `step`, and at the end `done`.
#[utoipa::path(
    post,
    path = "/accounts/{account}/chat",
    tag = "chat",
    params(("account" = String, Path, description = "the account")),
    security(("key" = ["chat"])),
    request_body = ChatRequest,
    responses(
        (status = 200, description = "how it ended", body = ChatAnswer),
        (status = 202, description = "accepted; held or still running", body = ChatAnswer),
        (status = 400, body = ProblemBody),
        (status = 404, body = ProblemBody),
        (status = 503, description = "not accepted; send it again", body = ProblemBody),
    )
)]
async fn any_agent(
    State(app): State<Shared>,
    Path(account): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    chat(app, &account, None, request).await
}

/// Sends a message to one agent of the account.
#[utoipa::path(
    post,
    path = "/accounts/{account}/agents/{agent}/chat",
    tag = "chat",
    params(
        ("account" = String, Path, description = "the account"),
        ("agent" = String, Path, description = "the agent's name"),
    ),
    security(("key" = ["chat"])),
    request_body = ChatRequest,
    responses(
        (status = 200, description = "how it ended", body = ChatAnswer),
        (status = 202, description = "accepted; held or still running", body = ChatAnswer),
        (status = 400, body = ProblemBody),
        (status = 404, description = "no such account or agent", body = ProblemBody),
        (status = 503, description = "not accepted; send it again", body = ProblemBody),
    )
)]
async fn one_agent(
    State(app): State<Shared>,
    Path((account, agent)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    chat(app, &account, Some(&agent), request).await
}

async fn chat(
    app: Shared,
    account: &str,
    agent: Option<&str>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, content) = request.into_parts();
    let caller = app.authorize(&parts.headers, account, Scope::Chat).await?;
    let agent = agent.map(|name| known_agent(&app, &caller, name)).transpose()?;
    let wanted: ChatRequest = body::json(&parts.headers, content, app.max_body_bytes).await?;
    let message = message_of(&wanted, &caller, app.now_ms())?;
    let permit = app.streams.open(&caller.tenant)?;
    let span = app.span("gateway.api.chat", body::trace(&parts.headers), &caller.tenant);
    let hop = Hop { agent, ..Hop::of(span.context()) };
    let turn = Turn::begin(&app, message, hop).await?;
    drop(span);
    if streams(&parts.headers) {
        return Ok(stream::answer(app, turn, permit).into_response());
    }
    let answered = wait(&app, turn).await;
    drop(permit);
    Ok(answered)
}

fn streams(headers: &HeaderMap) -> bool {
    body::accepts(headers, "text/event-stream")
}

fn known_agent(app: &Shared, caller: &Caller, name: &str) -> Result<AgentName, Problem> {
    let missing = || Problem::not_found("agent", name);
    let known = AgentName::new(name).map_err(|_| missing())?;
    let snapshot = app.node.config.current();
    if !agents::reachable(&snapshot, &caller.tenant).contains_key(&known) {
        return Err(missing());
    }
    Ok(known)
}

fn message_of(wanted: &ChatRequest, caller: &Caller, now_ms: u64) -> Result<Message, Problem> {
    if wanted.text.trim().is_empty() {
        return Err(Problem::invalid_field("/text", "say something"));
    }
    let channel = id_of("/channel", wanted.channel.as_deref())?;
    let user = user_of(wanted, caller)?;
    let place = channel.unwrap_or(DEFAULT_CHANNEL);
    let conversation = id_of("/conversation", wanted.conversation.as_deref())?
        .map_or_else(|| format!("{place}:{user}"), str::to_owned);
    let event_id = id_of("/event_id", wanted.event_id.as_deref())?
        .map_or_else(|| Uuid::now_v7().to_string(), |id| format!("{user}:{id}"));
    let platform = PlatformName::chat();
    let instance = InstanceName::new(INSTANCE).expect("a plain constant");
    Ok(Message {
        id: MessageId::derive(&caller.tenant, &platform, &instance, &event_id),
        tenant: caller.tenant.clone(),
        instance,
        platform,
        kind: MessageKind::Mention,
        channel: Channel {
            id: place.to_owned(),
            name: channel.map(str::to_owned),
            direct: channel.is_none(),
        },
        thread: None,
        reply_to: None,
        user: User::new(user),
        text: wanted.text.trim().to_owned(),
        media: Vec::new(),
        event_id,
        conversation,
        sent_at_ms: now_ms,
        received_at_ms: now_ms,
        raw: String::new(),
    })
}

fn id_of<'a>(pointer: &str, id: Option<&'a str>) -> Result<Option<&'a str>, Problem> {
    match id {
        Some(id) if id.is_empty() || id.len() > MAX_ID_BYTES || id.contains(char::is_control) => {
            Err(Problem::invalid_field(pointer, "use 1 to 256 bytes without control characters"))
        }
        other => Ok(other),
    }
}

fn user_of(wanted: &ChatRequest, caller: &Caller) -> Result<String, Problem> {
    let own = &caller.key.user;
    match id_of("/user", wanted.user.as_deref())? {
        Some(user) if user != own && !caller.is_operator() => {
            Err(Problem::invalid_field("/user", "only the operator's key may speak as others"))
        }
        Some(user) => Ok(user.to_owned()),
        None => Ok(own.clone()),
    }
}

/// Waits until the message ended or is held, at most `chat_wait_ms`.
async fn wait(app: &Shared, mut turn: Turn) -> Response {
    let deadline = tokio::time::sleep(std::time::Duration::from_millis(app.chat_wait_ms));
    let mut deadline = std::pin::pin!(deadline);
    loop {
        let update = tokio::select! {
            update = turn.next() => update,
            () = deadline.as_mut() => None,
        };
        match update {
            Some(Update::Delta { .. } | Update::Step { .. }) => {}
            Some(Update::Held(answer)) => {
                return (StatusCode::ACCEPTED, Json(answer)).into_response();
            }
            Some(Update::Done(answer)) => return Json(answer).into_response(),
            None => return (StatusCode::ACCEPTED, Json(turn.so_far())).into_response(),
        }
    }
}
