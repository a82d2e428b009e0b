//! Atomic batches: stored whole or not at all, by servers that can.

use std::time::Duration;

use async_nats::header::{
    NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL, NATS_BATCH_ID, NATS_BATCH_SEQUENCE,
    NATS_EXPECTED_LAST_MESSAGE_ID,
};
use async_nats::jetstream::ErrorCode;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::queue::{QueueError, Receipt};
use crate::subject::Stream;

use super::ack::{self, Refusal, publish_one, unconfirmed};
use super::connect::{Link, unavailable};
use super::message::Outgoing;

/// Most messages in one batch. Source: the server's limit.
pub(super) const MAX_MESSAGES: usize = 1_000;
/// Messages of one call that are on their way at once, when batches cannot be had.
const MAX_AHEAD: usize = 256;
/// Tries of a batch that other batches keep out, or that meets ids stored meanwhile.
const MAX_TRIES: u32 = 6;
/// No message has this id.
const NO_ID: &str = "none";
/// First pause before such a try, in milliseconds; doubled each time.
const PAUSE_MS: u64 = 10;

/// Refusals that another try may mend; nothing was stored.
const CROWDED: [ErrorCode; 2] =
    [ErrorCode::ATOMIC_PUBLISH_TOO_MANY_INFLIGHT, ErrorCode::ATOMIC_PUBLISH_INCOMPLETE_BATCH];
/// An id of the batch is stored already; nothing else was stored.
pub(super) const SEEN: [ErrorCode; 1] = [ErrorCode::ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE];

/// Stores `messages`, whose ids differ, whole or not at all; those that are stored already
/// count as stored.
pub(super) async fn publish_batch(
    link: &Link,
    stream: Stream,
    messages: &[Outgoing],
) -> Result<Vec<Receipt>, QueueError> {
    let mut known = vec![None; messages.len()];
    for attempt in 0..MAX_TRIES {
        let fresh: Vec<_> =
            messages.iter().zip(&known).filter_map(|(m, k)| k.is_none().then_some(m)).collect();
        let mut stored = match send(link, &fresh).await {
            Ok(stored) => stored.into_iter(),
            Err(refusal) if refusal.is(&SEEN) => {
                known = seen(link, stream, messages).await?;
                continue;
            }
            Err(refusal) if refusal.is(&CROWDED) => {
                tokio::time::sleep(Duration::from_millis(PAUSE_MS << attempt)).await;
                continue;
            }
            Err(refusal) => return Err(refusal.into_error(stream)),
        };
        return known
            .into_iter()
            .map(|known| known.or_else(|| stored.next()).ok_or_else(unconfirmed))
            .collect();
    }
    Err(unavailable("the server has too many batches to take another", None))
}

/// Sends one batch of messages whose ids are new. Receipts come in their order.
pub(super) async fn send(link: &Link, messages: &[&Outgoing]) -> Result<Vec<Receipt>, Refusal> {
    let Some((last, before)) = messages.split_last() else { return Ok(Vec::new()) };
    if before.is_empty() {
        return Ok(vec![ack::send(link, last, last.headers.clone()).await?.receipt()]);
    }
    // Unique to this connection and batch, and short enough for an id.
    let id = link.client.new_inbox();
    let headers = |message: &Outgoing, place: usize| {
        let mut headers = message.headers.clone();
        headers.insert(NATS_BATCH_ID, id.as_str());
        headers.insert(NATS_BATCH_SEQUENCE, place.to_string());
        headers
    };
    let ahead = async {
        for (n, message) in before.iter().enumerate() {
            let headers = headers(message, n + 1);
            let (subject, payload) = (message.subject.clone(), message.payload.clone());
            link.client.publish_with_headers(subject, headers, payload).await?;
        }
        Ok::<(), async_nats::PublishError>(())
    };
    // Without its last message a batch is never stored.
    let away = |source| Refusal::Queue(unavailable("NATS is away", source));
    let sent = link.answer(ahead).await.ok_or_else(|| away(None))?;
    sent.map_err(|error| away(Some(error.into())))?;
    let mut headers = headers(last, messages.len());
    headers.insert(NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL);
    let ack = ack::send(link, last, headers).await?;
    let count = messages.len() as u64;
    if ack.count != Some(count) {
        // A server of the cluster that knows no batches took it as single messages.
        return in_order(link, messages).await;
    }
    let first = (ack.seq + 1).saturating_sub(count);
    Ok((first..=ack.seq).map(|seq| Receipt { seq, duplicate: false }).collect())
}

/// Publishes one after the other, some ahead of their receipts.
async fn in_order(link: &Link, messages: &[&Outgoing]) -> Result<Vec<Receipt>, Refusal> {
    let mut sent = Vec::with_capacity(messages.len());
    for message in messages {
        sent.push(ack::send(link, message, message.headers.clone()));
    }
    let receipts = stream::iter(sent).buffered(MAX_AHEAD).map_ok(|ack| ack.receipt());
    receipts.try_collect().await
}

/// For servers without batches: in order, but not whole when it ends in between; the
/// caller's next try with the same ids completes it.
pub(super) async fn publish_in_order(
    link: &Link,
    stream: Stream,
    messages: &[Outgoing],
) -> Result<Vec<Receipt>, QueueError> {
    let Some((first, rest)) = messages.split_first() else { return Ok(Vec::new()) };
    let mut receipts = vec![publish_one(link, stream, first).await?];
    let rest: Vec<_> = rest.iter().collect();
    // The first one is stored, so whatever happens now may have happened in part.
    receipts.extend(in_order(link, &rest).await.map_err(|_| unconfirmed())?);
    Ok(receipts)
}

/// Which of `messages` are stored already.
async fn seen(
    link: &Link,
    stream: Stream,
    messages: &[Outgoing],
) -> Result<Vec<Option<Receipt>>, QueueError> {
    let mut asked = Vec::with_capacity(messages.len());
    for message in messages {
        asked.push(is_seen(link, stream, message));
    }
    stream::iter(asked).buffered(MAX_AHEAD).try_collect().await
}

/// Offers a message under a condition that never holds, which the server checks after the
/// id: it tells of an id that it knows, and stores nothing.
async fn is_seen(
    link: &Link,
    stream: Stream,
    message: &Outgoing,
) -> Result<Option<Receipt>, QueueError> {
    let mut headers = message.headers.clone();
    headers.insert(NATS_EXPECTED_LAST_MESSAGE_ID, NO_ID);
    match ack::send(link, message, headers).await {
        Ok(ack) => Ok(Some(ack.receipt())),
        Err(refusal) if refusal.is(&[ErrorCode::STREAM_WRONG_LAST_MESSAGE_ID]) => Ok(None),
        Err(refusal) => Err(refusal.into_error(stream)),
    }
}
