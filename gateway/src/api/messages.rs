//! `/accounts/{a}/messages`: what came in, as INBOUND keeps it, the input of decisions; and
//! one of them again.

mod again;

use aof_shared::clock::UnixMs;
use aof_shared::ids::TenantId;
use aof_shared::message::{Message, PINNED_AGENT};
use aof_shared::queue::{QueueError, ReadRange, Stored};
use aof_shared::subject::Stream;
use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{body, span};
use crate::app::Shared;
use crate::auth::Scope;
use crate::problem::{Problem, ProblemBody};
use crate::streams::StreamPermit;

/// Messages read at once, which is all that a reader holds in memory.
const PAGE: usize = 1_000;

/// The routes of this file.
pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(messages)).merge(again::routes())
}

#[derive(Debug, Deserialize)]
struct Query {
    from: Option<String>,
    to: Option<String>,
    after: Option<u64>,
    raw: Option<bool>,
}

/// One line of the answer.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct InboundBody {
    /// Position in INBOUND.
    seq: u64,
    /// When it was accepted.
    published_at_ms: UnixMs,
    /// The agent that the sender asked for by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    /// The message; `raw` only when asked for.
    #[schema(value_type = Object)]
    message: Message,
}

/// Reads the account's accepted messages, oldest first, one a line. Messages are kept as
/// long as INBOUND keeps them.
#[utoipa::path(
    get,
    path = "/accounts/{account}/messages",
    tag = "journal",
    params(
        ("account" = String, Path, description = "the account"),
        ("from" = Option<String>, Query, description = "accepted at or after: RFC 3339, or milliseconds"),
        ("to" = Option<String>, Query, description = "accepted before"),
        ("after" = Option<u64>, Query, description = "only after this `seq`"),
        ("raw" = Option<bool>, Query, description = "with the body as received, secrets redacted"),
    ),
    security(("key" = ["read"])),
    responses(
        (status = 200, description = "one a line", content_type = "application/x-ndjson", body = InboundBody),
        (status = 400, body = ProblemBody),
        (status = 404, body = ProblemBody),
        (status = 429, description = "too many streams", body = ProblemBody),
    )
)]
async fn messages(
    State(app): State<Shared>,
    Path(account): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = app.authorize(&headers, &account, Scope::Read).await?;
    let query: Query = body::query(query.as_deref())?;
    let permit = app.streams.open(&caller.tenant)?;
    let range = ReadRange {
        tenant: Some(caller.tenant.clone()),
        from_ms: span::at_ms("?from", query.from.as_deref())?,
        to_ms: span::at_ms("?to", query.to.as_deref())?,
        after_seq: query.after.unwrap_or(0),
        ..ReadRange::default()
    };
    let (_, end_seq) = app.node.ports.queue.bounds(Stream::Inbound).await?;
    let reader = Reader {
        app,
        end_seq,
        tenant: caller.tenant,
        range,
        raw: query.raw.unwrap_or(false),
        over: false,
        _permit: permit,
    };
    let pages = unfold(reader, |mut reader| async move {
        let page = reader.next().await?;
        Some((page.map_err(std::io::Error::other), reader))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(pages)).into_response())
}

/// A position in one account's INBOUND.
struct Reader {
    app: Shared,
    tenant: TenantId,
    range: ReadRange,
    /// Where INBOUND ended when reading began.
    end_seq: u64,
    raw: bool,
    over: bool,
    _permit: StreamPermit,
}

impl Reader {
    /// The lines of the next page; `None` at the end and when the node stops. After an
    /// error the body breaks off, so that nobody takes what came for everything.
    async fn next(&mut self) -> Option<Result<Bytes, QueueError>> {
        if self.over || self.app.node.lifecycle.stopping() {
            return None;
        }
        let queue = &self.app.node.ports.queue;
        let page = match queue.read(Stream::Inbound, self.range.clone(), PAGE, 0).await {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(%error, "INBOUND cannot be read to its end");
                self.over = true;
                return Some(Err(error));
            }
        };
        let last = page.last()?;
        self.range.after_seq = last.seq;
        self.over = last.seq >= self.end_seq;
        let mut lines = Vec::with_capacity(page.len() * 512);
        for stored in &page {
            self.write(stored, &mut lines);
        }
        Some(Ok(lines.into()))
    }

    fn write(&self, stored: &Stored, lines: &mut Vec<u8>) {
        let message = serde_json::from_slice::<Message>(&stored.payload);
        // The router refuses what is not the subject's tenant's, and so does this.
        let Some(mut message) = message.ok().filter(|m| m.tenant == self.tenant) else {
            tracing::warn!(tenant.id = %self.tenant, seq = stored.seq,
                "a message of INBOUND cannot be read and is left out");
            return;
        };
        if !self.raw {
            message.raw = String::new();
        }
        let line = InboundBody {
            seq: stored.seq,
            published_at_ms: stored.published_at_ms,
            agent: stored.headers.get(PINNED_AGENT).cloned(),
            message,
        };
        serde_json::to_writer(&mut *lines, &line).expect("a message has only text keys");
        lines.push(b'\n');
    }
}
