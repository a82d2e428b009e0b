//! Reading what a stream keeps: one tenant's slice costs what it returns.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull};
use futures_util::StreamExt;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::queue::{BoxError, QueueError, ReadRange, Stored};
use crate::subject::Stream;

use super::connect::{Link, unavailable};
use super::message::from_delivery;
use super::tail::{Look, Tail};

/// Most messages in one read, whatever was asked for.
const MAX_READ: usize = 10_000;
/// Payload bytes after which a read returns what it has.
const MAX_READ_BYTES: usize = 64 << 20;
/// Messages asked of the server at once.
const PAGE: usize = 512;
/// Reads of the server at once; each has a short-lived consumer. The others wait their turn.
const MAX_READERS: usize = 16;
/// The server forgets a consumer that nobody has asked for this long.
const FORGET_MS: u64 = 5_000;
/// Time between two reads of a reader that waits while its node stops.
const POLL_MS: u64 = 250;

/// Reads history.
pub(super) struct History {
    link: Arc<Link>,
    turns: Semaphore,
    tails: [Arc<Tail>; Stream::ALL.len()],
}

impl History {
    pub(super) fn new(link: &Arc<Link>) -> Self {
        let tails = Stream::ALL.map(Tail::new);
        Self { link: Arc::clone(link), turns: Semaphore::new(MAX_READERS), tails }
    }

    /// See [`crate::queue::Queue::read`].
    pub(super) async fn read(
        &self,
        stream: Stream,
        range: ReadRange,
        limit: usize,
        wait_ms: u64,
    ) -> Result<Vec<Stored>, QueueError> {
        self.link.ready()?;
        let limit = limit.min(MAX_READ);
        if limit == 0 {
            return Ok(Vec::new());
        }
        if wait_ms == 0 {
            return self.select(stream, &range, range.after_seq, limit).await;
        }
        let end = Instant::now() + Duration::from_millis(wait_ms);
        self.wait(stream, &range, limit, end).await
    }

    /// Looks at the stream's end in memory, and asks the server for what is older.
    async fn wait(
        &self,
        stream: Stream,
        range: &ReadRange,
        limit: usize,
        end: Instant,
    ) -> Result<Vec<Stored>, QueueError> {
        let tail = &self.tails[stream as usize];
        let mut changes = tail.join(&self.link);
        let mut after = range.after_seq;
        loop {
            changes.borrow_and_update();
            match tail.look(range, after, limit) {
                Look::Found(found) => return Ok(found),
                Look::Nothing(last) => after = last,
                Look::Ask(then) => {
                    let found = self.select(stream, range, after, limit).await?;
                    if !found.is_empty() {
                        return Ok(found);
                    }
                    after = after.max(then);
                }
            }
            self.link.ready()?;
            let next = if self.link.lifecycle.stopping() {
                end.min(Instant::now() + Duration::from_millis(POLL_MS))
            } else {
                end
            };
            let changed = tokio::time::timeout_at(next, changes.changed()).await;
            if changed.is_err() && Instant::now() >= end {
                return Ok(Vec::new());
            }
        }
    }

    /// Reads the server: what `range` selects after `after`.
    async fn select(
        &self,
        stream: Stream,
        range: &ReadRange,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Stored>, QueueError> {
        let read = async {
            let _turn = self.turns.acquire().await?;
            select(&self.link, stream, range, after, limit).await
        };
        match self.link.answer(read).await {
            Some(Ok(found)) => Ok(found),
            Some(Err(error)) => Err(unavailable("NATS did not give its history", Some(error))),
            None => Err(unavailable("NATS did not answer", None)),
        }
    }
}

/// True when `range` selects `message`; its sequence number aside.
pub(super) fn matches(range: &ReadRange, message: &Stored) -> bool {
    let at_ms = message.published_at_ms;
    range.tenant.as_ref().is_none_or(|tenant| tenant == message.subject.tenant())
        && (range.rests.is_empty() || range.rests.iter().any(|r| r == message.subject.rest()))
        && range.from_ms.is_none_or(|from_ms| at_ms >= from_ms)
        && range.to_ms.is_none_or(|to_ms| at_ms < to_ms)
}

/// Reads through a consumer that lives as long as this call.
async fn select(
    link: &Arc<Link>,
    stream: Stream,
    range: &ReadRange,
    after: u64,
    limit: usize,
) -> Result<Vec<Stored>, BoxError> {
    let name = link.stream(stream);
    let mut filters = link.space.filters(stream, range.tenant.as_ref(), &range.rests);
    // One filter finds its messages by index; for several the server looks at every message.
    let filter_subject = if filters.len() == 1 { filters.remove(0) } else { String::new() };
    let config = pull::Config {
        deliver_policy: start(range, after),
        ack_policy: AckPolicy::None,
        filter_subject,
        filter_subjects: filters,
        inactive_threshold: Duration::from_millis(FORGET_MS),
        memory_storage: true,
        num_replicas: 1,
        ..pull::Config::default()
    };
    let consumer = link.context.create_consumer_on_stream(config, name).await?;
    let info = consumer.cached_info();
    let found = if info.num_pending == 0 {
        Ok(Vec::new())
    } else {
        fetch(link, &consumer, range, after, limit).await
    };
    let (forget, consumer) = (Arc::clone(link), info.name.clone());
    let name = name.to_owned();
    link.lifecycle.spawn(async move {
        // The server forgets it by itself too, only later.
        let _ = forget.context.delete_consumer_from_stream(&consumer, &name).await;
    });
    found
}

fn start(range: &ReadRange, after: u64) -> DeliverPolicy {
    let nanos = range.from_ms.map(|from_ms| i128::from(from_ms) * 1_000_000);
    match nanos.and_then(|nanos| async_nats::datetime::from_nanos(nanos).ok()) {
        Some(start_time) if after == 0 => DeliverPolicy::ByStartTime { start_time },
        _ => DeliverPolicy::ByStartSequence { start_sequence: after + 1 },
    }
}

async fn fetch(
    link: &Link,
    consumer: &Consumer<pull::Config>,
    range: &ReadRange,
    after: u64,
    limit: usize,
) -> Result<Vec<Stored>, BoxError> {
    let (mut found, mut bytes) = (Vec::new(), 0);
    loop {
        let page = PAGE.min(limit - found.len());
        let mut messages = consumer.fetch().max_messages(page).messages().await?;
        let mut left = 0;
        while let Some(message) = messages.next().await {
            let message = message?;
            left = message.info()?.pending;
            let stored = match from_delivery(&link.space, message) {
                Ok(incoming) => incoming.stored,
                Err(error) => {
                    tracing::warn!(%error, "left out of history");
                    continue;
                }
            };
            if range.to_ms.is_some_and(|to_ms| stored.published_at_ms >= to_ms) {
                return Ok(found);
            }
            if stored.seq > after && matches(range, &stored) {
                bytes += stored.payload.len();
                found.push(stored);
            }
        }
        if left == 0 || found.len() >= limit || bytes > MAX_READ_BYTES {
            return Ok(found);
        }
    }
}
