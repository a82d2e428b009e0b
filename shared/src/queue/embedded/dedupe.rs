//! Which ids a stream has seen, for at least the dedupe window.
//!
//! Recent ids are in memory, and on disk in the order they came: 16 bytes each, one row a
//! commit. When there are enough of them they become a segment: sorted into buckets on
//! disk, with a two-byte-an-id filter in memory that says which segments need no look.
//! A segment is written a few buckets a commit; until it is whole, memory has its ids.

mod filter;
mod segment;

use std::collections::{HashMap, VecDeque};

use rusqlite::{Connection, params};
use uuid::Uuid;

use crate::clock::UnixMs;
use crate::sqlite::DbError;
use crate::subject::Stream;

use super::tables::{column, index, signed, unsigned};
use segment::{Sealing, Segment};

/// How long an id is remembered at least. Source: the port's promise.
pub(super) const WINDOW_MS: u64 = 2 * 60 * 60 * 1_000;
/// Fewest ids in a segment; a hash table of twice the memory would hold few more.
const MIN_SEAL_IDS: usize = 112_000;
/// Most ids in a segment.
const MAX_SEAL_IDS: usize = 3_600_000;
/// Segments grow with what the window holds, so that a look passes about so many filters.
const WANTED_SEGMENTS: usize = 32;
/// Buckets of a segment written in one commit.
const BUCKETS_A_COMMIT: usize = 64;

/// An id within its stream.
type Key = (Stream, Uuid);

/// The ids.
#[derive(Default)]
pub(super) struct Dedupe {
    recent: HashMap<Key, u64>,
    recent_at_ms: UnixMs,
    sealing: Option<Sealing>,
    /// Oldest first.
    segments: VecDeque<Segment>,
    /// Added by the batch that is not committed yet.
    uncommitted: Vec<Key>,
    /// Last row of `seen`.
    logged: i64,
    next_segment: i64,
    min_seal_ids: Option<usize>,
}

fn stream_of(number: i64) -> Result<Stream, DbError> {
    let found = Stream::ALL.into_iter().find(|stream| column(*stream) == number);
    found.ok_or_else(|| DbError::Corrupt { what: "dedupe ids", reason: "stream".to_owned() })
}

impl Dedupe {
    /// Reads what is stored; drops what a crash left of an unfinished segment.
    pub(super) fn load(conn: &Connection) -> Result<Self, DbError> {
        let mut dedupe = Self { segments: segment::load(conn)?, ..Self::default() };
        dedupe.next_segment = dedupe.segments.back().map_or(1, |segment| segment.id + 1);
        segment::delete_from(conn, dedupe.next_segment)?;
        let mut statement =
            conn.prepare("SELECT n, stream, first_seq, at_ms, ids FROM seen ORDER BY n")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            dedupe.logged = row.get(0)?;
            let stream = stream_of(row.get(1)?)?;
            let first = unsigned(row.get(2)?);
            dedupe.recent_at_ms = dedupe.recent_at_ms.max(unsigned(row.get(3)?));
            let ids = row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?;
            for (seq, id) in (first..).zip(ids.as_chunks::<16>().0) {
                dedupe.recent.insert((stream, Uuid::from_bytes(*id)), seq);
            }
        }
        Ok(dedupe)
    }

    /// The first sequence number of `id`, if the stream has seen it.
    pub(super) fn get(
        &self,
        conn: &Connection,
        stream: Stream,
        id: Uuid,
    ) -> Result<Option<u64>, DbError> {
        let key = (stream, id);
        if let Some(seq) = self.recent.get(&key) {
            return Ok(Some(*seq));
        }
        if let Some(seq) = self.sealing.as_ref().and_then(|sealing| sealing.get(&key)) {
            return Ok(Some(seq));
        }
        let hash = filter::hash(index(stream), id);
        for segment in self.segments.iter().rev() {
            if let Some(seq) = segment.find(conn, hash, &key)? {
                return Ok(Some(seq));
            }
        }
        Ok(None)
    }

    pub(super) fn insert(&mut self, stream: Stream, id: Uuid, seq: u64, at_ms: UnixMs) {
        self.recent.insert((stream, id), seq);
        self.recent_at_ms = self.recent_at_ms.max(at_ms);
        self.uncommitted.push((stream, id));
    }

    /// Writes the batch's new ids of one stream, and a piece of an unfinished segment.
    pub(super) fn log(
        &mut self,
        conn: &Connection,
        stream: Stream,
        (first_seq, at_ms): (u64, UnixMs),
        ids: &[u8],
    ) -> Result<(), DbError> {
        let sql = "INSERT INTO seen (n, stream, first_seq, at_ms, ids) VALUES (?, ?, ?, ?, ?)";
        self.logged += 1;
        conn.prepare_cached(sql)?.execute(params![
            self.logged,
            column(stream),
            signed(first_seq),
            signed(at_ms),
            ids
        ])?;
        Ok(())
    }

    /// Writes a piece of an unfinished segment.
    pub(super) fn write(&mut self, conn: &Connection) -> Result<(), DbError> {
        match &mut self.sealing {
            Some(sealing) => sealing.write(conn, BUCKETS_A_COMMIT),
            None => Ok(()),
        }
    }

    /// Keeps or forgets what the batch added.
    pub(super) fn ended(&mut self, committed: bool) {
        if !committed {
            for key in self.uncommitted.drain(..) {
                self.recent.remove(&key);
            }
        }
        self.uncommitted.clear();
        if let Some(mut sealing) = self.sealing.take() {
            if sealing.ended(committed) {
                self.segments.push_back(sealing.into_segment());
            } else {
                self.sealing = Some(sealing);
            }
        } else if self.recent.len() >= self.seal_ids() {
            let recent = std::mem::take(&mut self.recent);
            self.sealing =
                Some(Sealing::new(self.next_segment, recent, self.recent_at_ms, self.logged));
            self.next_segment += 1;
        }
    }

    fn seal_ids(&self) -> usize {
        let ids: usize = self.segments.iter().map(|segment| segment.ids).sum();
        let least = self.min_seal_ids.unwrap_or(MIN_SEAL_IDS);
        (ids / WANTED_SEGMENTS).clamp(least, MAX_SEAL_IDS)
    }

    /// Deletes one segment whose ids are all out of the window. `false`: there is none.
    pub(super) fn expire(&mut self, conn: &Connection, now_ms: UnixMs) -> Result<bool, DbError> {
        let cutoff = now_ms.saturating_sub(WINDOW_MS);
        let Some(oldest) = self.segments.front().filter(|s| s.last_at_ms < cutoff) else {
            return Ok(false);
        };
        oldest.delete(conn)?;
        // After a rollback its rows are still there: the next start expires them again.
        self.segments.pop_front();
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
