//! Publishing: refused whole before anything is sent, or one part a stream.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::queue::{Publication, QueueError, Receipt};
use crate::subject::Stream;

use super::ack::{publish_one, unconfirmed};
use super::batch::{MAX_MESSAGES, publish_in_order};
use super::connect::{ANSWER_WAIT_MS, Link, unavailable};
use super::group::Group;
use super::message::{Outgoing, encode};

/// Calls on their way at once; the others wait their turn.
const MAX_CALLS: usize = 1_024;

/// Stores publications.
pub(super) struct Publisher {
    link: Arc<Link>,
    turns: Semaphore,
    groups: [Group; Stream::ALL.len()],
}

/// One stream's part of a call.
struct Part {
    stream: Stream,
    /// Without an id twice.
    messages: Vec<Outgoing>,
    /// For each publication its place in the call and in `messages`.
    places: Vec<(usize, usize)>,
}

impl Publisher {
    pub(super) fn new(link: &Arc<Link>) -> Self {
        let groups = Stream::ALL.map(|stream| Group::new(link, stream));
        Self { link: Arc::clone(link), turns: Semaphore::new(MAX_CALLS), groups }
    }

    /// See [`crate::queue::Queue::publish`].
    pub(super) async fn publish(
        &self,
        batch: Vec<Publication>,
    ) -> Result<Vec<Receipt>, QueueError> {
        let count = batch.len();
        let parts = self.split(batch)?;
        self.link.ready()?;
        let stored = join_all(parts.into_iter().map(|part| self.store(part))).await;
        let mut receipts = vec![None; count];
        for (place, receipt) in whole(stored)?.into_iter().flatten() {
            receipts[place] = Some(receipt);
        }
        receipts.into_iter().map(|receipt| receipt.ok_or_else(unconfirmed)).collect()
    }

    /// Writes every message before any is sent, so that a refusal refuses all.
    fn split(&self, batch: Vec<Publication>) -> Result<Vec<Part>, QueueError> {
        let max_bytes = self.link.client.max_payload();
        let mut parts: Vec<Part> = Vec::new();
        let mut known: HashMap<(Stream, Uuid), usize> = HashMap::new();
        for (place, publication) in batch.into_iter().enumerate() {
            let stream = publication.subject.stream();
            let at = parts.iter().position(|part| part.stream == stream).unwrap_or_else(|| {
                parts.push(Part { stream, messages: Vec::new(), places: Vec::new() });
                parts.len() - 1
            });
            let part = &mut parts[at];
            let n = *known.entry((stream, publication.id)).or_insert(part.messages.len());
            part.places.push((place, n));
            let message = encode(&self.link.space, publication, max_bytes)?;
            if n == part.messages.len() {
                part.messages.push(message);
            }
        }
        match parts.iter().find(|part| part.messages.len() > MAX_MESSAGES) {
            // The caller splits what is too large, and cannot be told of the number.
            Some(part) => Err(QueueError::TooLarge {
                bytes: part.messages.iter().map(|message| message.bytes).sum(),
                max_bytes: part.messages.iter().take(MAX_MESSAGES).map(|m| m.bytes).sum(),
            }),
            None => Ok(parts),
        }
    }

    /// Stores one stream's part. Receipts come with their places in the call.
    async fn store(&self, part: Part) -> Result<Vec<(usize, Receipt)>, QueueError> {
        let stored = self.store_messages(part.stream, part.messages).await?;
        let mut given = vec![false; stored.len()];
        let receipts = part.places.into_iter().map(|(place, n)| {
            let again = std::mem::replace(&mut given[n], true);
            (place, Receipt { seq: stored[n].seq, duplicate: stored[n].duplicate || again })
        });
        Ok(receipts.collect())
    }

    async fn store_messages(
        &self,
        stream: Stream,
        messages: Vec<Outgoing>,
    ) -> Result<Vec<Receipt>, QueueError> {
        // A sync is shared by a group, and so are the files that a server makes a batch.
        if self.link.atomic() && (self.link.sync_always || messages.len() > 1) {
            return self.groups[stream as usize].publish(messages).await;
        }
        let wait = Duration::from_millis(ANSWER_WAIT_MS);
        let turn = tokio::time::timeout(wait, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(unavailable("too many publishers wait for NATS", None));
        };
        let expected = messages.len();
        let stored = match &messages[..] {
            [message] => vec![publish_one(&self.link, stream, message).await?],
            messages => publish_in_order(&self.link, stream, messages).await?,
        };
        if stored.len() == expected { Ok(stored) } else { Err(unconfirmed()) }
    }
}

/// The parts' answers as one: an error says that nothing happened only if none did.
fn whole<T>(parts: Vec<Result<T, QueueError>>) -> Result<Vec<T>, QueueError> {
    let may_have =
        |part: &Result<T, _>| matches!(part, Ok(_) | Err(QueueError::Unconfirmed { .. }));
    if parts.iter().any(Result::is_err) && parts.iter().any(may_have) {
        return Err(unconfirmed());
    }
    parts.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_that_nothing_happened_only_if_none_did() {
        let full = || Err(QueueError::Full { stream: Stream::Tasks });
        assert_eq!(whole(vec![Ok(1), Ok(2)]).expect("both"), [1, 2]);
        assert!(matches!(whole::<()>(vec![full(), full()]), Err(QueueError::Full { .. })));
        assert!(matches!(whole(vec![full(), Ok(())]), Err(QueueError::Unconfirmed { .. })));
        let lost = || Err(QueueError::Unconfirmed { waited_ms: 1 });
        assert!(matches!(whole::<()>(vec![full(), lost()]), Err(QueueError::Unconfirmed { .. })));
    }
}
