//! Reads bodies and queries under their caps, and turns what is wrong into problems.

use std::time::Duration;

use aof_shared::trace::{TRACEPARENT, TraceContext};
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// A body that is not here by then never comes.
const BODY_READ_MS: u64 = 10_000;

/// The whole body, at most `cap_bytes`.
///
/// # Errors
/// 413 over the cap, 408 when it is slow, 400 when it breaks off.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    cap_bytes: usize,
) -> Result<Bytes, Problem> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok());
    if announced.and_then(|v| v.parse().ok()).is_some_and(|n: usize| n > cap_bytes) {
        return Err(Problem::too_large(cap_bytes));
    }
    let deadline = Duration::from_millis(BODY_READ_MS);
    tokio::time::timeout(deadline, collect(body, cap_bytes))
        .await
        .map_err(|_| Problem::too_slow())?
}

/// A body that came in one piece is not copied.
async fn collect(body: Body, cap_bytes: usize) -> Result<Bytes, Problem> {
    let mut pieces = body.into_data_stream();
    let mut whole = Bytes::new();
    let mut joined: Option<Vec<u8>> = None;
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| Problem::invalid("the body broke off"))?;
        let held = joined.as_ref().map_or(whole.len(), Vec::len);
        if held + piece.len() > cap_bytes {
            return Err(Problem::too_large(cap_bytes));
        }
        match &mut joined {
            Some(joined) => joined.extend_from_slice(&piece),
            None if whole.is_empty() => whole = piece,
            None => joined = Some([&whole[..], &piece[..]].concat()),
        }
    }
    Ok(joined.map_or(whole, Bytes::from))
}

/// The body as JSON. Fields that are not known are ignored.
///
/// # Errors
/// As [`read`], and 400 when it is not the JSON that is wanted.
pub(crate) async fn json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    cap_bytes: usize,
) -> Result<T, Problem> {
    let bytes = read(headers, body, cap_bytes).await?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Problem::invalid_field("", format!("the body is not what is wanted: {e}")))
}

/// The query's parameters.
///
/// # Errors
/// 400 when one cannot be read.
pub(crate) fn query<T: DeserializeOwned>(query: Option<&str>) -> Result<T, Problem> {
    serde_urlencoded::from_str(query.unwrap_or_default())
        .map_err(|e| Problem::invalid_field("?", format!("the query cannot be read: {e}")))
}

/// The caller's trace. Only where a key says who calls: it decides what is recorded.
pub(crate) fn trace(headers: &HeaderMap) -> Option<TraceContext> {
    TraceContext::parse(headers.get(TRACEPARENT)?.to_str().ok()?)
}

/// True when the client asks for this media type.
pub(crate) fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok());
    values
        .flat_map(|v| v.split(','))
        .any(|v| v.split(';').next().is_some_and(|v| v.trim().eq_ignore_ascii_case(media_type)))
}
