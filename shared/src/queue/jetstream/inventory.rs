//! What a stream holds: its ends, one message of it, and how much for whom.

use std::collections::HashMap;

use async_nats::jetstream::stream::{
    DeleteMessageErrorKind, LastRawMessageErrorKind, RawMessageErrorKind, State, Stream as Handle,
};
use async_nats::jetstream::{ErrorCode, message::StreamMessage};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::ids::TenantId;
use crate::queue::{Backlog, QueueError, Stored};
use crate::subject::Stream;

use super::ack::unconfirmed;
use super::connect::{Link, unavailable};
use super::message::from_stream;

/// Tenants whose oldest message is looked up at once.
const MAX_LOOKUPS: usize = 64;

/// The stream, for requests that need no look at its state.
async fn handle(link: &Link, stream: Stream) -> Result<Handle<()>, QueueError> {
    link.ready()?;
    let name = link.stream(stream);
    link.context
        .get_stream_no_info(name)
        .await
        .map_err(|error| unavailable("NATS does not take the stream's name", Some(error.into())))
}

/// What the server says of a stream.
pub(super) async fn state(link: &Link, stream: Stream) -> Result<State, QueueError> {
    link.ready()?;
    let found = link.context.get_stream(link.stream(stream)).await;
    let found = found.map_err(|e| unavailable("NATS did not tell of a stream", Some(e.into())))?;
    Ok(found.cached_info().state.clone())
}

/// See [`crate::queue::Queue::bounds`].
pub(super) async fn bounds(link: &Link, stream: Stream) -> Result<(u64, u64), QueueError> {
    let state = state(link, stream).await?;
    if state.messages == 0 {
        return Ok((0, 0));
    }
    let handle = handle(link, stream).await?;
    if message(&handle, state.last_sequence).await?.is_some() {
        return Ok((state.first_sequence, state.last_sequence));
    }
    // The last one was taken out; a message before it is the last now.
    match handle.get_last_raw_message_by_subject(&link.space.all(stream)).await {
        Ok(last) => Ok((state.first_sequence, last.sequence)),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok((0, 0)),
        Err(error) => Err(unavailable("NATS did not tell of a stream", Some(error.into()))),
    }
}

/// One message, from the stream's leader; `None`: it is not there.
async fn message(handle: &Handle<()>, seq: u64) -> Result<Option<StreamMessage>, QueueError> {
    match handle.get_raw_message(seq).await {
        Ok(message) => Ok(Some(message)),
        Err(error) => match error.kind() {
            RawMessageErrorKind::NoMessageFound => Ok(None),
            _ => Err(unavailable("NATS did not give a message", Some(error.into()))),
        },
    }
}

/// See [`crate::queue::Queue::remove`].
pub(super) async fn remove(
    link: &Link,
    stream: Stream,
    tenant: &TenantId,
    seq: u64,
) -> Result<bool, QueueError> {
    let handle = handle(link, stream).await?;
    let Some(found) = message(&handle, seq).await? else { return Ok(false) };
    let owner = link.space.parse(&found.subject).map(|subject| subject.tenant().clone());
    if owner.as_ref() != Some(tenant) {
        return Ok(false);
    }
    match handle.delete_message(seq).await {
        Ok(removed) => Ok(removed),
        Err(error) => match error.kind() {
            DeleteMessageErrorKind::JetStream(cause) if gone(cause.error_code()) => Ok(false),
            DeleteMessageErrorKind::JetStream(cause) => {
                Err(unavailable(cause.to_string(), Some(cause.into())))
            }
            _ => Err(unconfirmed()),
        },
    }
}

/// Somebody else took it out first.
fn gone(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::NO_MESSAGE_FOUND | ErrorCode::SEQUENCE_NOT_FOUND)
        || code == ErrorCode::STREAM_MESSAGE_DELETE_FAILED
}

/// What a stream that nobody consumes holds, by tenant.
pub(super) async fn backlog(link: &Link, stream: Stream) -> Result<Vec<Backlog>, QueueError> {
    link.ready()?;
    let name = link.stream(stream);
    let failed = |error| unavailable("NATS did not count a stream", Some(error));
    let handle = link.context.get_stream_no_info(name).await.map_err(|e| failed(e.into()))?;
    let info = handle.info_builder().subjects(link.space.all(stream)).fetch();
    let mut subjects = info.await.map_err(|error| failed(error.into()))?;
    let mut counted: HashMap<TenantId, u64> = HashMap::new();
    while let Some((subject, count)) = subjects.try_next().await.map_err(|e| failed(e.into()))? {
        let Some(subject) = link.space.parse(&subject) else { continue };
        *counted.entry(subject.tenant().clone()).or_default() += count as u64;
    }
    let looked_up = counted.into_iter().map(|(tenant, pending)| {
        let handle = &handle;
        async move {
            let oldest = oldest(link, handle, stream, &tenant).await?;
            // Its last message may have left since it was counted.
            let at_ms = oldest.map(|stored| stored.published_at_ms);
            Ok(at_ms.map(|oldest_at_ms| Backlog { tenant, pending, oldest_at_ms }))
        }
    });
    let found: Vec<Option<Backlog>> =
        stream::iter(looked_up).buffer_unordered(MAX_LOOKUPS).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

async fn oldest(
    link: &Link,
    handle: &Handle<()>,
    stream: Stream,
    tenant: &TenantId,
) -> Result<Option<Stored>, QueueError> {
    let mut oldest: Option<Stored> = None;
    for filter in link.space.filters(stream, Some(tenant), &[]) {
        let first = handle.get_first_raw_message_by_subject(&filter, 1).await;
        let message = match first {
            Ok(message) => message,
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => continue,
            Err(error) => {
                return Err(unavailable("NATS did not give a message", Some(error.into())));
            }
        };
        if let Ok(incoming) = from_stream(&link.space, message) {
            oldest = oldest.filter(|o| o.seq < incoming.stored.seq).or(Some(incoming.stored));
        }
    }
    Ok(oldest)
}
