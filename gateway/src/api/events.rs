//! `GET /accounts/{a}/events`: the journal as server-sent events or JSON lines.

mod cursor;
mod filter;
mod related;

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::sse::{self, KeepAlive};
use axum::response::{IntoResponse, Response, Sse};
use futures_util::stream::{Stream, unfold};
use serde_json::json;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::cursor::{Cursor, Item};
use self::filter::{Filter, Query, Start};
use super::body;
use crate::app::Shared;
use crate::auth::Scope;
use crate::problem::{Problem, ProblemBody};
use crate::streams::StreamPermit;

/// A silent stream says so this often, so that proxies keep it open.
pub(super) const HEARTBEAT_MS: u64 = 15_000;

/// The routes of this file.
pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(journal))
}

/// Reads the account's journal, and follows it. A stream of one `message_id` or `run_id`
/// ends with `done` after its last event; a reader with `to` ends there. An id that the journal no longer holds is
/// answered with one `resync`, then everything that is left.
#[utoipa::path(
    get,
    path = "/accounts/{account}/events",
    tag = "journal",
    params(
        ("account" = String, Path, description = "the account"),
        ("after" = Option<u64>, Query, description = "only events after this `seq`"),
        ("tail" = Option<usize>, Query, description = "start with the last so many, up to 1,000"),
        ("type" = Option<String>, Query, description = "types, with commas; `approval.*` for all of a kind"),
        ("message_id" = Option<String>, Query, description = "only of this message"),
        ("run_id" = Option<String>, Query, description = "only of this run"),
        ("conversation" = Option<String>, Query, description = "only of this conversation, as events name it"),
        ("flow" = Option<String>, Query, description = "only of messages that this flow took, from then on"),
        ("agent" = Option<String>, Query, description = "only of messages that went to this agent, from then on"),
        ("user" = Option<String>, Query, description = "only of messages that this user wrote"),
        ("from" = Option<String>, Query, description = "only at or after: RFC 3339, or milliseconds"),
        ("to" = Option<String>, Query, description = "only before; ends the stream there"),
        ("follow" = Option<bool>, Query, description = "wait for more; true unless set"),
        ("Last-Event-ID" = Option<String>, Header, description = "goes before `after`"),
    ),
    security(("key" = ["read"])),
    responses(
        (status = 200, description = "one event each", content_type = "text/event-stream", body = String),
        (status = 400, body = ProblemBody),
        (status = 404, body = ProblemBody),
        (status = 429, description = "too many streams", body = ProblemBody),
    )
)]
async fn journal(
    State(app): State<Shared>,
    Path(account): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = app.authorize(&headers, &account, Scope::Read).await?;
    let query: Query = body::query(query.as_deref())?;
    let last = headers.get("last-event-id").and_then(|v| v.to_str().ok());
    let start = Start::of(&query, last)?;
    let filter = Filter::of(&query)?;
    let permit = app.streams.open(&caller.tenant)?;
    let lines = body::accepts(&headers, "application/x-ndjson");
    let cursor = Cursor::open(app, caller.tenant, filter, start).await?;
    if lines {
        return Ok(json_lines(cursor, permit));
    }
    let events = items(cursor, permit, |item| Ok::<_, Infallible>(as_sse(&item)));
    let heartbeat = Duration::from_millis(HEARTBEAT_MS);
    let keep_alive = KeepAlive::new().interval(heartbeat).text("heartbeat");
    Ok(Sse::new(events).keep_alive(keep_alive).into_response())
}

/// Every item of the cursor, until it is over or the client leaves.
fn items<T>(
    cursor: Cursor,
    permit: StreamPermit,
    shape: impl Fn(Item) -> T + Copy,
) -> impl Stream<Item = T> {
    unfold((cursor, permit), move |(mut cursor, permit)| async move {
        let item = cursor.next().await?;
        Some((shape(item), (cursor, permit)))
    })
}

fn as_sse(item: &Item) -> sse::Event {
    match item {
        Item::Event(event) => {
            let data = serde_json::to_string(event).expect("an event has only text keys");
            sse::Event::default().id(event.seq.to_string()).event(event.kind.name()).data(data)
        }
        Item::Resync { first_seq } => sse::Event::default()
            .event("resync")
            .data(json!({ "first_seq": first_seq }).to_string()),
        Item::Broken => sse::Event::default().event("broken").data("{}"),
        Item::Done { seq } => sse::Event::default().id(seq.to_string()).event("done").data("{}"),
    }
}

/// One event a line; what is no event of the journal is left out, but for `resync`.
fn json_lines(cursor: Cursor, permit: StreamPermit) -> Response {
    let lines = items(cursor, permit, |item| {
        let line = match item {
            Item::Event(event) => {
                serde_json::to_string(&*event).expect("an event has only text keys") + "\n"
            }
            Item::Resync { first_seq } => {
                format!("{}\n", json!({ "type": "resync", "first_seq": first_seq }))
            }
            // The body breaks off, so that nobody takes what came for everything.
            Item::Broken => return Err(std::io::Error::other("the journal cannot be read")),
            Item::Done { .. } => String::new(),
        };
        Ok(line)
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}
