//! Which ids a stream has seen, for at least the dedupe window.

use std::collections::{HashMap, VecDeque};

use uuid::Uuid;

use crate::clock::UnixMs;
use crate::sqlite::DbError;
use crate::subject::Stream;

use super::tables::{column, signed, unsigned};

/// How long an id is remembered at least. Source: the port's promise.
pub(super) const WINDOW_MS: u64 = 2 * 60 * 60 * 1_000;

type Key = (Stream, Uuid);

/// The ids, newest last.
#[derive(Default)]
pub(super) struct Dedupe {
    known: HashMap<Key, u64>,
    order: VecDeque<(UnixMs, Key)>,
    /// Added by the batch that is not committed yet.
    uncommitted: usize,
}

impl Dedupe {
    pub(super) fn load(conn: &rusqlite::Connection, now_ms: UnixMs) -> Result<Self, DbError> {
        let mut dedupe = Self::default();
        let mut statement = conn.prepare(
            "SELECT stream, first_seq, at_ms, ids FROM seen WHERE at_ms >= ? ORDER BY n",
        )?;
        let mut rows = statement.query([signed(now_ms.saturating_sub(WINDOW_MS))])?;
        while let Some(row) = rows.next()? {
            let number: i64 = row.get(0)?;
            let Some(stream) = Stream::ALL.into_iter().find(|s| column(*s) == number) else {
                return Err(DbError::Corrupt { what: "dedupe ids", reason: "stream".to_owned() });
            };
            let first = unsigned(row.get(1)?);
            let at_ms = unsigned(row.get(2)?);
            let ids = row.get_ref(3)?.as_blob().map_err(rusqlite::Error::from)?;
            for (seq, id) in (first..).zip(ids.as_chunks::<16>().0) {
                dedupe.insert(stream, Uuid::from_bytes(*id), seq, at_ms);
            }
        }
        dedupe.uncommitted = 0;
        Ok(dedupe)
    }

    pub(super) fn get(&self, stream: Stream, id: Uuid) -> Option<u64> {
        self.known.get(&(stream, id)).copied()
    }

    pub(super) fn insert(&mut self, stream: Stream, id: Uuid, seq: u64, at_ms: UnixMs) {
        self.known.insert((stream, id), seq);
        self.order.push_back((at_ms, (stream, id)));
        self.uncommitted += 1;
    }

    pub(super) fn ended(&mut self, committed: bool, now_ms: UnixMs) {
        let added = std::mem::take(&mut self.uncommitted);
        if !committed {
            for _ in 0..added {
                if let Some((_, key)) = self.order.pop_back() {
                    self.known.remove(&key);
                }
            }
        }
        let cutoff = now_ms.saturating_sub(WINDOW_MS);
        while self.order.front().is_some_and(|(at_ms, _)| *at_ms < cutoff) {
            if let Some((_, key)) = self.order.pop_front() {
                self.known.remove(&key);
            }
        }
    }
}
