//! The end of a stream in memory, shared by everyone in this process who waits for it.
//!
//! A reader at the end costs the server nothing: one feed a stream fills a ring, and each
//! reader picks its own from what is new. The feed runs while somebody waits.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;

use crate::queue::{ReadRange, Stored};
use crate::subject::Stream;

use super::connect::Link;
use super::feed::Feed;
use super::history::matches;
use super::inventory;

/// Messages kept for readers that lag; they read the server beyond.
const MAX_MESSAGES: usize = 8_192;
/// Payload bytes kept for readers that lag.
const MAX_BYTES: usize = 16 << 20;
/// How long a feed runs on when nobody waits.
const IDLE_MS: u64 = 30_000;

/// The last messages of a stream.
#[derive(Default)]
struct Ring {
    /// Everything after this is here.
    floor: u64,
    messages: VecDeque<Arc<Stored>>,
    bytes: usize,
    /// The feed runs, and `floor` holds.
    filled: bool,
    /// A task fills it, or is about to.
    running: bool,
}

impl Ring {
    fn push(&mut self, message: Stored) {
        self.bytes += message.payload.len();
        self.messages.push_back(Arc::new(message));
        while self.messages.len() > MAX_MESSAGES || self.bytes > MAX_BYTES {
            let Some(oldest) = self.messages.pop_front() else { break };
            self.bytes -= oldest.payload.len();
            self.floor = oldest.seq;
        }
    }

    fn last(&self) -> u64 {
        self.messages.back().map_or(self.floor, |message| message.seq)
    }

    fn clear(&mut self) {
        *self = Self { running: self.running, ..Self::default() };
    }
}

/// What a look into the ring found.
pub(super) enum Look {
    /// These, in order.
    Found(Vec<Stored>),
    /// Nothing up to this place.
    Nothing(u64),
    /// The ring does not reach back so far; the server knows. Nothing is missed when the
    /// ring is asked again from this place on.
    Ask(u64),
}

/// One stream's end.
pub(super) struct Tail {
    stream: Stream,
    ring: Mutex<Ring>,
    changes: watch::Sender<u64>,
}

impl Tail {
    pub(super) fn new(stream: Stream) -> Arc<Self> {
        Arc::new(Self { stream, ring: Mutex::default(), changes: watch::Sender::new(0) })
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the feed unless it runs, and tells of every change from now on.
    pub(super) fn join(self: &Arc<Self>, link: &Arc<Link>) -> watch::Receiver<u64> {
        let changes = self.changes.subscribe();
        let start = !std::mem::replace(&mut self.lock().running, true);
        if start {
            let (tail, feeding) = (Arc::clone(self), Arc::downgrade(link));
            let lifecycle = link.lifecycle.clone();
            link.lifecycle.spawn(async move {
                tokio::select! {
                    () = tail.fill(feeding) => {}
                    () = lifecycle.stopped() => {}
                }
                tail.lock().clear();
                tail.lock().running = false;
                tail.changes.send_modify(|change| *change += 1);
            });
        }
        changes
    }

    /// Picks from what is new after `after`.
    pub(super) fn look(&self, range: &ReadRange, after: u64, limit: usize) -> Look {
        let ring = self.lock();
        if !ring.filled {
            return Look::Ask(after);
        }
        if after < ring.floor {
            return Look::Ask(ring.last());
        }
        let start = ring.messages.partition_point(|message| message.seq <= after);
        let new = ring.messages.range(start..);
        let found: Vec<Arc<Stored>> =
            new.filter(|message| matches(range, message)).take(limit).cloned().collect();
        let last = ring.last();
        drop(ring);
        if found.is_empty() {
            return Look::Nothing(last.max(after));
        }
        Look::Found(found.iter().map(|message| Stored::clone(message)).collect())
    }

    /// Feeds the ring until nobody has waited for a while.
    async fn fill(&self, link: Weak<Link>) {
        let Some(mut feed) = self.begin(&link).await else { return };
        let mut idle_since = tokio::time::Instant::now();
        loop {
            let check = tokio::time::sleep(Duration::from_millis(IDLE_MS));
            let message = tokio::select! {
                message = feed.next() => Some(message),
                () = check => None,
            };
            if self.changes.receiver_count() > 0 {
                idle_since = tokio::time::Instant::now();
            }
            if idle_since.elapsed() >= Duration::from_millis(IDLE_MS) {
                return;
            }
            let Some(message) = message else { continue };
            {
                let mut ring = self.lock();
                ring.push(message.stored);
                while let Some(more) = feed.ready() {
                    ring.push(more.stored);
                }
            }
            self.changes.send_modify(|change| *change += 1);
        }
    }

    /// Where the stream ends now; tries until the server tells.
    async fn begin(&self, link: &Weak<Link>) -> Option<Feed> {
        loop {
            let link = link.upgrade()?;
            if let Ok(state) = inventory::state(&link, self.stream).await {
                let mut ring = self.lock();
                ring.clear();
                ring.floor = state.last_sequence;
                ring.filled = true;
                drop(ring);
                self.changes.send_modify(|change| *change += 1);
                return Some(Feed::after(&link, self.stream, state.last_sequence));
            }
            drop(link);
            tokio::time::sleep(Duration::from_millis(BEGIN_PAUSE_MS)).await;
        }
    }
}

/// Pause before the server is asked again where a stream ends.
const BEGIN_PAUSE_MS: u64 = 200;
