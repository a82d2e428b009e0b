//! Walks one account's journal from a position, page by page, and waits at its end.

use std::collections::VecDeque;
use std::time::Duration;

use aof_shared::event::Event;
use aof_shared::ids::TenantId;
use aof_shared::queue::{QueueError, ReadRange, Stored};
use aof_shared::subject::Stream;

use super::filter::{Filter, Start};
use crate::app::Shared;

/// Events read at once by who follows.
const PAGE: usize = 256;
/// Events read at once by who reads history: a page costs a look-up.
const HISTORY_PAGE: usize = 2_000;
/// How long one read waits for something new.
const READ_WAIT_MS: u64 = 5_000;
/// How long a follower rests when the queue is away.
const BACKOFF_MS: u64 = 500;
/// How far back a reader that returns learns which messages are of its flow, agent or user,
/// in places of the journal.
const LOOK_BACK: u64 = 100_000;
/// How much wider each look back for `tail` is than the one before.
const WIDEN: u64 = 8;

/// What a reader gets.
#[derive(Debug)]
pub(super) enum Item {
    /// An entry of the journal.
    Event(Box<Event>),
    /// What the reader knew last is no longer held; the oldest that is.
    Resync {
        /// Its sequence number.
        first_seq: u64,
    },
    /// The journal could not be read to its end: what was shown is not all.
    Broken,
    /// The story is complete.
    Done {
        /// The last event's sequence number.
        seq: u64,
    },
}

/// A position in one account's journal.
pub(super) struct Cursor {
    app: Shared,
    tenant: TenantId,
    filter: Filter,
    after_seq: u64,
    /// Where history ended when reading began: who does not follow stops there.
    end_seq: u64,
    ready: VecDeque<Item>,
    over: bool,
}

impl Cursor {
    /// Finds the position.
    ///
    /// # Errors
    /// [`QueueError`] when the journal cannot be read.
    pub(super) async fn open(
        app: Shared,
        tenant: TenantId,
        filter: Filter,
        start: Start,
    ) -> Result<Self, QueueError> {
        let (first, last) = app.node.ports.queue.bounds(Stream::Events).await?;
        let mut cursor = Self {
            app,
            tenant,
            filter,
            after_seq: 0,
            end_seq: last,
            ready: VecDeque::new(),
            over: false,
        };
        cursor.after_seq = match start {
            Start::After(seq) if seq > last || seq + 1 < first => {
                cursor.ready.push_back(Item::Resync { first_seq: first });
                first.saturating_sub(1)
            }
            Start::After(seq) => {
                cursor.learn(seq).await?;
                seq
            }
            Start::Oldest if cursor.filter.from_ms.is_some() => 0,
            Start::Oldest => first.saturating_sub(1),
            Start::Now | Start::Tail(0) => last,
            Start::Tail(n) => cursor.before_newest(n, (first, last)).await?,
        };
        Ok(cursor)
    }

    /// The next item; `None` at the end of a reader that does not follow, after `done`,
    /// and when the node stops.
    pub(super) async fn next(&mut self) -> Option<Item> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Some(item);
            }
            if self.over {
                return None;
            }
            let wait_ms = if self.filter.follow { READ_WAIT_MS } else { 0 };
            let app = self.app.clone();
            let read = tokio::select! {
                () = app.node.lifecycle.stopped() => return None,
                read = self.page(self.after_seq, wait_ms) => read,
            };
            match read {
                Ok(page) => self.take(&page),
                Err(error) if self.filter.follow => {
                    tracing::debug!(%error, "journal cannot be read");
                    tokio::time::sleep(Duration::from_millis(BACKOFF_MS)).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "journal cannot be read to its end");
                    self.over = true;
                    return Some(Item::Broken);
                }
            }
        }
    }

    fn take(&mut self, page: &[Stored]) {
        let at_end = page.last().is_none_or(|last| last.seq >= self.end_seq);
        self.over = !self.filter.follow && at_end;
        for stored in page {
            self.after_seq = stored.seq;
            let event = match Event::from_stored(stored) {
                Ok(event) => event,
                Err(error) => {
                    let tenant = &self.tenant;
                    tracing::warn!(tenant.id = %tenant, seq = stored.seq, %error,
                        "an event of the journal cannot be read and is left out");
                    continue;
                }
            };
            if !self.filter.takes(&event) {
                continue;
            }
            let (seq, ends) = (event.seq, self.filter.ends_with(&event));
            self.ready.push_back(Item::Event(Box::new(event)));
            if ends {
                self.ready.push_back(Item::Done { seq });
                self.over = true;
                return;
            }
        }
    }

    /// Learns from the events up to `seq` which messages are of the flow, agent or user that
    /// is asked for: a reader that returns gets the rest of their stories too.
    async fn learn(&mut self, seq: u64) -> Result<(), QueueError> {
        let naming = self.filter.naming();
        let mut after_seq = seq.saturating_sub(LOOK_BACK);
        while !naming.is_empty() && after_seq < seq {
            let range = ReadRange {
                tenant: Some(self.tenant.clone()),
                rests: naming.clone(),
                after_seq,
                ..ReadRange::default()
            };
            let queue = &self.app.node.ports.queue;
            let page = queue.read(Stream::Events, range, HISTORY_PAGE, 0).await?;
            let Some(last) = page.last() else { break };
            after_seq = last.seq;
            for event in
                page.iter().filter(|s| s.seq <= seq).filter_map(|s| Event::from_stored(s).ok())
            {
                self.filter.takes(&event);
            }
        }
        Ok(())
    }

    async fn page(&self, after_seq: u64, wait_ms: u64) -> Result<Vec<Stored>, QueueError> {
        let range = ReadRange {
            tenant: Some(self.tenant.clone()),
            rests: self.filter.kinds.clone(),
            after_seq,
            from_ms: self.filter.from_ms,
            to_ms: self.filter.to_ms,
        };
        let limit = if self.filter.follow { PAGE } else { HISTORY_PAGE };
        self.app.node.ports.queue.read(Stream::Events, range, limit, wait_ms).await
    }

    /// The position before the newest `n` events that are wanted: looks back ever wider.
    async fn before_newest(&self, n: usize, (first, last): (u64, u64)) -> Result<u64, QueueError> {
        let mut width = n as u64;
        loop {
            let from = last.saturating_sub(width).max(first.saturating_sub(1));
            let mut newest: VecDeque<u64> = VecDeque::new();
            let mut filter = self.filter.clone();
            let mut after = from;
            loop {
                let page = self.page(after, 0).await?;
                for stored in &page {
                    if !wants(&mut filter, stored) {
                        continue;
                    }
                    newest.push_back(stored.seq);
                    if newest.len() > n {
                        newest.pop_front();
                    }
                }
                match page.last() {
                    Some(stored) if stored.seq < last => after = stored.seq,
                    _ => break,
                }
            }
            if newest.len() == n || from < first {
                return Ok(newest.front().map_or(last, |seq| seq - 1));
            }
            width = width.saturating_mul(WIDEN);
        }
    }
}

fn wants(filter: &mut Filter, stored: &Stored) -> bool {
    Event::from_stored(stored).is_ok_and(|event| filter.takes(&event))
}
