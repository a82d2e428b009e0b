//! One message to a stream and the answer to it, as the port's callers need it.

use async_nats::client::{Request, RequestErrorKind};
use async_nats::jetstream::{self, ErrorCode};
use async_nats::{HeaderMap, RequestError};

use crate::queue::{QueueError, Receipt};
use crate::subject::Stream;

use super::connect::{ANSWER_WAIT_MS, Link, unavailable};
use super::message::Outgoing;

/// What a stream answers.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Ack {
    #[serde(default)]
    pub(super) seq: u64,
    #[serde(default)]
    duplicate: bool,
    /// How many messages of an atomic batch were stored; absent for anything else.
    #[serde(default)]
    pub(super) count: Option<u64>,
    #[serde(default)]
    error: Option<jetstream::Error>,
}

impl Ack {
    pub(super) fn receipt(&self) -> Receipt {
        Receipt { seq: self.seq, duplicate: self.duplicate }
    }
}

/// Why a message or batch has no receipt.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The stream refused it and nothing was stored.
    Stream(jetstream::Error),
    /// Anything else.
    Queue(QueueError),
}

impl Refusal {
    /// True for refusals with one of `codes`.
    pub(super) fn is(&self, codes: &[ErrorCode]) -> bool {
        matches!(self, Self::Stream(error) if codes.contains(&error.error_code()))
    }

    /// True when the stream itself refused it.
    pub(super) fn nothing_stored(&self) -> bool {
        matches!(self, Self::Stream(_))
    }

    /// For the caller of `publish`.
    pub(super) fn into_error(self, stream: Stream) -> QueueError {
        match self {
            Self::Queue(error) => error,
            Self::Stream(error) => refused(stream, error),
        }
    }
}

/// Publishes one message and waits for its receipt.
pub(super) async fn publish_one(
    link: &Link,
    stream: Stream,
    message: &Outgoing,
) -> Result<Receipt, QueueError> {
    let sent = send(link, message, message.headers.clone()).await;
    sent.map(|ack| ack.receipt()).map_err(|refusal| refusal.into_error(stream))
}

/// Sends one message with `headers` and waits for the stream's answer.
pub(super) async fn send(
    link: &Link,
    message: &Outgoing,
    headers: HeaderMap,
) -> Result<Ack, Refusal> {
    let request = Request::new().headers(headers).payload(message.payload.clone());
    let sent = link.client.send_request(message.subject.clone(), request);
    let answer = link.answer(sent).await.ok_or_else(|| Refusal::Queue(unconfirmed()))?;
    let answer = answer
        .map_err(|error| Refusal::Queue(failed(error, message.bytes, link.client.max_payload())))?;
    let ack: Ack =
        serde_json::from_slice(&answer.payload).map_err(|_| Refusal::Queue(unconfirmed()))?;
    match ack.error {
        Some(error) => Err(Refusal::Stream(error)),
        None => Ok(ack),
    }
}

/// It may have been stored.
pub(super) fn unconfirmed() -> QueueError {
    QueueError::Unconfirmed { waited_ms: ANSWER_WAIT_MS }
}

/// A request that brought no answer of the stream.
fn failed(error: RequestError, bytes: usize, max_bytes: usize) -> QueueError {
    match error.kind() {
        RequestErrorKind::NoResponders => {
            unavailable("no stream takes it: JetStream is away or starting", Some(error.into()))
        }
        RequestErrorKind::InvalidSubject => unavailable("its subject is not one", None),
        RequestErrorKind::MaxPayloadExceeded => QueueError::TooLarge { bytes, max_bytes },
        RequestErrorKind::TimedOut | RequestErrorKind::Other => unconfirmed(),
    }
}

/// A stream's refusal. Nothing was stored, unless another copy of it is just being stored.
fn refused(stream: Stream, error: jetstream::Error) -> QueueError {
    match error.error_code() {
        // "maximum messages exceeded", "maximum bytes exceeded", "no space left on device"
        ErrorCode::STREAM_STORE_FAILED
        | ErrorCode::INSUFFICIENT_RESOURCES
        | ErrorCode::STORAGE_RESOURCES_EXCEEDED
        | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
        | ErrorCode::MEMORY_RESOURCES_EXCEEDED => {
            tracing::warn!(%stream, %error, "a stream is full");
            QueueError::Full { stream }
        }
        ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT => QueueError::Unconfirmed { waited_ms: 0 },
        _ => unavailable(error.to_string(), Some(error.into())),
    }
}
