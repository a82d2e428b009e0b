//! Deletes history that is too old or too much. Any number of nodes may do it at once.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::stream::{LastRawMessageErrorKind, State, Stream as Handle};

use crate::clock::UnixMs;
use crate::queue::BoxError;
use crate::subject::Stream;

use super::connect::Link;
use super::inventory;
use super::streams::DEDUPE_MS;

/// Time between two rounds, in milliseconds.
const EVERY_MS: u64 = 30_000;

/// Keeps EVENTS within its bytes until the node stops or the queue is dropped; its age is
/// the server's business.
pub(super) fn start(link: &Arc<Link>) {
    let (weak, stop) = (Arc::downgrade(link), link.lifecycle.clone());
    link.lifecycle.spawn(async move {
        loop {
            tokio::select! {
                () = stop.stopped() => return,
                () = tokio::time::sleep(Duration::from_millis(EVERY_MS)) => {}
            }
            let Some(link) = weak.upgrade() else { return };
            if let Err(error) = trim(&link, Stream::Events, u64::MAX).await {
                tracing::warn!(%error, "old history was not deleted");
            }
        }
    });
}

/// Deletes what is older than the age cap and, while `stream` holds too many bytes, its
/// oldest; nothing after `upto`, and nothing younger than the dedupe window, so that a
/// duplicate can be shown. INBOUND's `upto` is what the router has acked without a gap.
pub(super) async fn trim(link: &Link, stream: Stream, upto: u64) -> Result<(), BoxError> {
    let state = inventory::state(link, stream).await?;
    if state.messages == 0 {
        return Ok(());
    }
    let handle = link.context.get_stream_no_info(link.stream(stream)).await?;
    let ends = (state.first_sequence, state.last_sequence + 1);
    let filter = link.space.all(stream);
    let before = |age_ms| link.clock.now_ms().saturating_sub(age_ms);
    let aged = first_at(&handle, &filter, ends, before(link.caps.max_age_ms)).await?;
    let too_many = excess(&state, link.caps.history_bytes);
    let keep = if too_many > aged {
        too_many.min(first_at(&handle, &filter, ends, before(DEDUPE_MS)).await?).max(aged)
    } else {
        aged
    };
    let keep = keep.min(upto.saturating_add(1));
    if keep > state.first_sequence {
        handle.purge().sequence(keep).await?;
    }
    Ok(())
}

/// The first sequence number that may stay when the stream is to hold `max_bytes`, as if
/// all messages were of one size; the next round corrects that.
fn excess(state: &State, max_bytes: u64) -> u64 {
    let over = u128::from(state.bytes.saturating_sub(max_bytes));
    let spread = u128::from(state.last_sequence + 1 - state.first_sequence);
    let share = over * spread / u128::from(state.bytes.max(1));
    state.first_sequence.saturating_add(u64::try_from(share).unwrap_or(u64::MAX))
}

/// The first sequence number that was published at or after `at_ms`. Times never go back
/// within a stream, so this halves its way there.
async fn first_at(
    handle: &Handle<()>,
    filter: &str,
    (mut low, mut high): (u64, u64),
    at_ms: UnixMs,
) -> Result<u64, BoxError> {
    while low < high {
        let middle = low + (high - low) / 2;
        let message = match handle.get_first_raw_message_by_subject(filter, middle).await {
            Ok(message) => message,
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
                high = middle;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let stored_ms = message.time.unix_timestamp_nanos() / 1_000_000;
        if stored_ms >= i128::from(at_ms) {
            high = middle;
        } else {
            low = message.sequence + 1;
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::{Clock, ManualClock, SystemClock};
    use crate::lifecycle::Lifecycle;
    use crate::queue::contract::{event, tenant};
    use crate::queue::jetstream::tests::{NEWEST, options};
    use crate::queue::jetstream::{Caps, JetStreamQueue};
    use crate::queue::{Queue, ReadRange};

    async fn left(queue: &JetStreamQueue) -> Vec<u64> {
        let read = queue.read(Stream::Events, ReadRange::default(), 100, 0).await;
        read.expect("read").iter().map(|message| message.seq).collect()
    }

    #[tokio::test]
    async fn only_what_may_go_is_deleted() {
        let clock = ManualClock::at(SystemClock.now_ms());
        let caps = Caps { history_bytes: 0, ..Caps::default() };
        let options = super::super::JetStreamOptions { caps, ..options(&NEWEST) };
        let lifecycle = Lifecycle::new();
        let (queue, _) = super::super::start(options, Arc::new(clock.clone()), &lifecycle)
            .await
            .expect("it opens");
        for n in 0..10 {
            let message = event(&tenant("a"), "run.step", &n.to_string());
            queue.publish(vec![message]).await.expect("publish");
        }
        let trim = async |upto| trim(&queue.link, Stream::Events, upto).await.expect("trim");
        // Too many bytes, but younger than the dedupe window.
        trim(u64::MAX).await;
        assert_eq!(left(&queue).await.len(), 10);
        clock.advance_ms(DEDUPE_MS + 1_000);
        trim(4).await;
        assert_eq!(left(&queue).await, [5, 6, 7, 8, 9, 10]);
        trim(u64::MAX).await;
        assert!(left(&queue).await.is_empty());
        lifecycle.stop();
    }
}
