//! The log of a consumer's progress on the server. Every append names the record that it
//! follows, so a leader that was deposed without knowing cannot write.

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, pull};
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream as Handle};
use bytes::Bytes;
use futures_util::StreamExt;

use crate::queue::BoxError;
use crate::subject::Stream;

use super::connect::Link;
use super::inventory;
use super::progress::{Change, Progress, Record};

/// Records between two snapshots, whoever wrote them: what the next leader reads.
pub(super) const SNAPSHOT_EVERY: u64 = 256;
/// Records asked of the server at once.
const PAGE: usize = 512;
/// The server forgets a reader that did not end in order after this long.
const FORGET_MS: u64 = 5_000;
/// Longest wait for one append, in milliseconds.
const APPEND_MS: u64 = 1_000;
/// Tries of one append, and of an announcement.
const MAX_TRIES: usize = 5;
/// Pause between two tries, in milliseconds.
const PAUSE_MS: u64 = 50;

/// Why a record was not appended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    /// Another leader wrote.
    #[error("another leader has taken over")]
    Deposed,
    /// The consumer was opened with another filter.
    #[error("the consumer takes `{found}` already, not `{wanted}`")]
    OtherRest {
        /// What the log says.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// Whether it was written is unknown.
    #[error("the progress log does not answer")]
    Away(#[source] BoxError),
}

fn away(error: impl Into<BoxError>) -> LogError {
    LogError::Away(error.into())
}

/// The log of one consumer, as its leader writes it.
pub(super) struct Log {
    link: Arc<Link>,
    subject: String,
    /// The record that the next one follows.
    last: u64,
    epoch: u64,
    number: u64,
}

async fn handle(link: &Link) -> Result<Handle<()>, LogError> {
    link.context.get_stream_no_info(&link.names.progress).await.map_err(away)
}

/// What a log says.
#[derive(Default)]
pub(super) struct Written {
    /// All records together.
    pub(super) progress: Progress,
    /// The place of the last one.
    last: u64,
    /// How many there are.
    records: u64,
}

impl Written {
    fn take(&mut self, place: u64, record: Bytes) -> Result<(), LogError> {
        self.progress.apply(&Record::decode(record).map_err(away)?);
        self.last = place;
        self.records += 1;
        Ok(())
    }
}

/// Reads a whole log: most of it at once, then what a server that lags has not seen yet from
/// the stream's leader, record by record.
pub(super) async fn read(link: &Arc<Link>, subject: &str) -> Result<Written, LogError> {
    let mut written = Written::default();
    for (place, record) in at_once(link, subject).await.map_err(away)? {
        written.take(place, record)?;
    }
    let handle = handle(link).await?;
    while let Some(message) = next(&handle, subject, written.last + 1).await? {
        written.take(message.sequence, message.payload)?;
    }
    Ok(written)
}

/// Place and content of each record that one server has.
async fn at_once(link: &Arc<Link>, subject: &str) -> Result<Vec<(u64, Bytes)>, BoxError> {
    let config = pull::Config {
        ack_policy: AckPolicy::None,
        filter_subject: subject.to_owned(),
        inactive_threshold: Duration::from_millis(FORGET_MS),
        memory_storage: true,
        num_replicas: 1,
        ..pull::Config::default()
    };
    let context = &link.context;
    let made = context.create_consumer_on_stream(config, &link.names.progress);
    let reader: Consumer<pull::Config> = made.await?;
    let (mut left, mut found) = (reader.cached_info().num_pending, Vec::new());
    while left > 0 {
        let (mut page, before) = (reader.fetch().max_messages(PAGE).messages().await?, left);
        while let Some(message) = page.next().await {
            let message = message?;
            let info = message.info()?;
            left = info.pending;
            found.push((info.stream_sequence, message.payload.clone()));
        }
        if left == before {
            break; // the rest is read one by one
        }
    }
    let (forget, name) = (Arc::clone(link), reader.cached_info().name.clone());
    link.lifecycle.spawn(async move {
        let stream = &forget.names.progress;
        let _ = forget.context.delete_consumer_from_stream(&name, stream).await;
    });
    Ok(found)
}

async fn next(
    handle: &Handle<()>,
    subject: &str,
    from: u64,
) -> Result<Option<StreamMessage>, LogError> {
    match handle.get_first_raw_message_by_subject(subject, from).await {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(away(error)),
    }
}

impl Log {
    /// Reads the log and announces a new leader in it: from then on no other can write.
    pub(super) async fn take_over(
        link: &Arc<Link>,
        (stream, name): (Stream, &str),
        rest: &str,
    ) -> Result<(Self, Progress), LogError> {
        let subject = link.space.progress(stream, name);
        for _ in 0..MAX_TRIES {
            let Written { mut progress, last, records } = read(link, &subject).await?;
            if progress.epoch > 0 && progress.rest != rest {
                let (found, wanted) = (progress.rest, rest.to_owned());
                return Err(LogError::OtherRest { found, wanted });
            }
            let epoch = progress.epoch + 1;
            let change = Change::Lead { rest: rest.to_owned() };
            let record = Record { epoch, number: 0, change };
            // An answer that is lost leaves an epoch that nobody leads.
            let Ok(last) = publish(link, &subject, last, record.encode()).await else { continue };
            progress.apply(&record);
            let link = Arc::clone(link);
            let mut log = Self { link, subject, last, epoch, number: 0 };
            let state = inventory::state(&log.link, stream).await.map_err(away)?;
            if progress.cut(state.last_sequence) {
                tracing::error!(
                    %stream, consumer = name, last_seq = state.last_sequence,
                    "the stream lost messages that were settled already: a server lost its disk \
                     or power without `sync_interval: always`"
                );
                log.snapshot(progress.snapshot()).await?;
            } else if records >= SNAPSHOT_EVERY {
                // Leaders that do not last write none: the log would grow with each.
                log.snapshot(progress.snapshot()).await?;
            }
            return Ok((log, progress));
        }
        Err(LogError::Deposed)
    }

    /// Appends one record; when it returns, the record is stored.
    pub(super) async fn append(&mut self, change: Change) -> Result<(), LogError> {
        self.number += 1;
        let record = Record { epoch: self.epoch, number: self.number, change };
        let bytes = record.encode();
        let mut cause = None;
        for _ in 0..MAX_TRIES {
            match publish(&self.link, &self.subject, self.last, bytes.clone()).await {
                Ok(last) => {
                    self.last = last;
                    return Ok(());
                }
                Err(error) => cause = Some(error),
            }
            match self.find().await {
                Ok(true) => return Ok(()),
                Err(LogError::Deposed) => return Err(LogError::Deposed),
                Ok(false) | Err(_) => tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await,
            }
        }
        Err(away(cause.unwrap_or_else(|| "no answer".into())))
    }

    /// True when the record whose answer was lost is there.
    async fn find(&mut self) -> Result<bool, LogError> {
        let handle = handle(&self.link).await?;
        let look = handle.get_last_raw_message_by_subject(&self.subject);
        let wait = Duration::from_millis(APPEND_MS);
        let found = tokio::time::timeout(wait, look).await.map_err(away)?.map_err(away)?;
        let record = Record::decode(found.payload).map_err(away)?;
        if (record.epoch, record.number) == (self.epoch, self.number) {
            self.last = found.sequence;
            return Ok(true);
        }
        if found.sequence == self.last { Ok(false) } else { Err(LogError::Deposed) }
    }

    /// Writes everything anew and drops the records that it stands for.
    pub(super) async fn snapshot(&mut self, parts: Vec<Change>) -> Result<(), LogError> {
        let mut first = None;
        for part in parts {
            self.append(part).await?;
            first.get_or_insert(self.last);
        }
        let handle = handle(&self.link).await?;
        let before = first.unwrap_or_default();
        // What stays is only read once more by the next leader.
        if let Err(error) = handle.purge().filter(&self.subject).sequence(before).await {
            tracing::debug!(%error, "old progress records were not dropped");
        }
        Ok(())
    }
}

async fn publish(link: &Link, subject: &str, after: u64, bytes: Bytes) -> Result<u64, BoxError> {
    expect(link, subject, after, bytes).await?.ok_or_else(|| "another record came first".into())
}

/// Publishes after `after` and nothing else. `None`: something else was there.
pub(super) async fn expect(
    link: &Link,
    subject: &str,
    after: u64,
    bytes: Bytes,
) -> Result<Option<u64>, BoxError> {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, after.to_string());
    let published = async {
        link.context.publish_with_headers(subject.to_owned(), headers, bytes).await?.await
    };
    match tokio::time::timeout(Duration::from_millis(APPEND_MS), published).await? {
        Ok(ack) => Ok(Some(ack.sequence)),
        Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(None),
        Err(error) => Err(error.into()),
    }
}
