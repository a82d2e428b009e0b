//! An index from random ids to numbers that grow, whose entries are written in pieces.
//!
//! A B-tree of random ids writes a page for each of them; this writes some 50 bytes.
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

use super::{DbError, signed, unsigned};
use segment::{Sealing, Segment};

/// Most ids in a segment.
const MAX_SEAL_IDS: usize = 3_600_000;
/// Segments grow with what the window holds, so that a look passes about so many filters.
const WANTED_SEGMENTS: usize = 32;
/// Buckets of a segment written in one commit.
const BUCKETS_A_COMMIT: usize = 64;

/// An id within its space: a stream, or a kind of record.
pub(crate) type Key = (u8, Uuid);

/// The statements of one index; see [`sql`].
pub(crate) struct Sql {
    pub(crate) log: &'static str,
    pub(crate) logged: &'static str,
    pub(crate) forget: &'static str,
    pub(crate) segments: &'static str,
    pub(crate) add_segment: &'static str,
    pub(crate) drop_segment: &'static str,
    pub(crate) find: &'static str,
    pub(crate) add: &'static str,
    pub(crate) drop_from: &'static str,
    pub(crate) drop: &'static str,
}

/// The statements over an index's three tables: the log of recent ids, the segments, and
/// the segments' entries.
macro_rules! sql {
    ($log:literal, $segments:literal, $entries:literal) => {
        $crate::sqlite::ids::Sql {
            log: concat!("INSERT INTO ", $log, " VALUES (?, ?, ?, ?, ?)"),
            logged: concat!("SELECT * FROM ", $log, " ORDER BY n"),
            forget: concat!("DELETE FROM ", $log, " WHERE n <= ?"),
            segments: concat!(
                "SELECT id, ids, last_at_ms, filter FROM ",
                $segments,
                " ORDER BY id"
            ),
            add_segment: concat!("INSERT INTO ", $segments, " VALUES (?, ?, ?, ?)"),
            drop_segment: concat!("DELETE FROM ", $segments, " WHERE id = ?"),
            find: concat!("SELECT entries FROM ", $entries, " WHERE at = ?"),
            add: concat!("INSERT INTO ", $entries, " VALUES (?, ?)"),
            drop_from: concat!("DELETE FROM ", $entries, " WHERE at >= ?"),
            drop: concat!("DELETE FROM ", $entries, " WHERE at >= ? AND at < ?"),
        }
    };
}
pub(crate) use sql;

/// The index.
pub(crate) struct Ids {
    sql: &'static Sql,
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
    /// Fewest ids in a segment.
    min_seal_ids: usize,
}

impl Ids {
    fn empty(sql: &'static Sql, min_seal_ids: usize) -> Self {
        Self {
            sql,
            recent: HashMap::new(),
            recent_at_ms: 0,
            sealing: None,
            segments: VecDeque::new(),
            uncommitted: Vec::new(),
            logged: 0,
            next_segment: 1,
            min_seal_ids,
        }
    }

    /// Reads what is stored; drops what a crash left of an unfinished segment. A segment
    /// takes `min_seal_ids` at least, which memory holds twice.
    pub(crate) fn load(
        conn: &Connection,
        sql: &'static Sql,
        min_seal_ids: usize,
    ) -> Result<Self, DbError> {
        let mut ids = Self::empty(sql, min_seal_ids);
        ids.segments = segment::load(conn, sql)?;
        ids.next_segment = ids.segments.back().map_or(1, |segment| segment.id + 1);
        segment::delete_from(conn, sql, ids.next_segment)?;
        let mut statement = conn.prepare(sql.logged)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            ids.logged = row.get(0)?;
            let space: u8 = row.get(1)?;
            let first = unsigned(row.get(2)?);
            ids.recent_at_ms = ids.recent_at_ms.max(unsigned(row.get(3)?));
            let logged = row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?;
            for (number, id) in (first..).zip(logged.as_chunks::<16>().0) {
                ids.recent.insert((space, Uuid::from_bytes(*id)), number);
            }
        }
        Ok(ids)
    }

    /// True when nothing was ever added.
    pub(crate) fn is_empty(&self) -> bool {
        self.recent.is_empty() && self.sealing.is_none() && self.segments.is_empty()
    }

    /// The number of `key`, if it is known.
    pub(crate) fn get(&self, conn: &Connection, key: Key) -> Result<Option<u64>, DbError> {
        if let Some(seq) = self.recent.get(&key) {
            return Ok(Some(*seq));
        }
        if let Some(seq) = self.sealing.as_ref().and_then(|sealing| sealing.get(&key)) {
            return Ok(Some(seq));
        }
        let hash = filter::hash(key);
        for segment in self.segments.iter().rev() {
            if let Some(number) = segment.find((conn, self.sql), hash, &key)? {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// Adds a key, which is logged with its batch.
    pub(crate) fn insert(&mut self, key: Key, number: u64, at_ms: UnixMs) {
        self.recent.insert(key, number);
        self.recent_at_ms = self.recent_at_ms.max(at_ms);
        self.uncommitted.push(key);
    }

    /// Logs the batch's new ids of one space, 16 bytes each, numbered from `first` on.
    pub(crate) fn log(
        &mut self,
        conn: &Connection,
        space: u8,
        (first, at_ms): (u64, UnixMs),
        ids: &[u8],
    ) -> Result<(), DbError> {
        self.logged += 1;
        conn.prepare_cached(self.sql.log)?.execute(params![
            self.logged,
            space,
            signed(first),
            signed(at_ms),
            ids
        ])?;
        Ok(())
    }

    /// Writes a piece of an unfinished segment.
    pub(crate) fn write(&mut self, conn: &Connection) -> Result<(), DbError> {
        match &mut self.sealing {
            Some(sealing) => sealing.write((conn, self.sql), BUCKETS_A_COMMIT),
            None => Ok(()),
        }
    }

    /// Keeps or forgets what the batch added.
    pub(crate) fn ended(&mut self, committed: bool) {
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
        (ids / WANTED_SEGMENTS).clamp(self.min_seal_ids, MAX_SEAL_IDS)
    }

    /// Deletes one segment whose ids are all older than `cutoff_ms`. `false`: there is none.
    pub(crate) fn expire(&mut self, conn: &Connection, cutoff_ms: UnixMs) -> Result<bool, DbError> {
        let Some(oldest) = self.segments.front().filter(|s| s.last_at_ms < cutoff_ms) else {
            return Ok(false);
        };
        oldest.delete((conn, self.sql))?;
        // After a rollback its rows are still there: the next start expires them again.
        self.segments.pop_front();
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
