//! A segment of older ids on disk: buckets of 25-byte entries, found by hash.

use std::collections::{HashMap, VecDeque};

use rusqlite::{Connection, OptionalExtension, params};

use crate::clock::UnixMs;
use crate::sqlite::{DbError, signed, unsigned};

use super::filter::{self, Filter, Hash};
use super::{Key, Sql};

/// A connection, and the statements to use on it.
type On<'a> = (&'a Connection, &'static Sql);

/// Buckets of a segment; a power of two. A row's key is `segment * BUCKETS + bucket`.
const BUCKETS: usize = 4_096;
/// Id, space, number.
const ENTRY_BYTES: usize = 16 + 1 + 8;

fn bucket(hash: Hash) -> usize {
    // The top bits: the filter uses the low ones.
    usize::try_from(hash.0 >> 52).unwrap_or_default() % BUCKETS
}

fn row_of(segment: i64, bucket: usize) -> i64 {
    let buckets = i64::try_from(BUCKETS).unwrap_or(i64::MAX);
    segment * buckets + i64::try_from(bucket).unwrap_or_default()
}

fn entry(key: &Key, seq: u64) -> [u8; ENTRY_BYTES] {
    let mut bytes = [0; ENTRY_BYTES];
    bytes[..16].copy_from_slice(key.1.as_bytes());
    bytes[16] = key.0;
    bytes[17..].copy_from_slice(&seq.to_le_bytes());
    bytes
}

/// A whole segment.
pub(super) struct Segment {
    pub(super) id: i64,
    pub(super) ids: usize,
    pub(super) last_at_ms: UnixMs,
    filter: Filter,
}

impl Segment {
    /// The sequence number of `key`, if it is here.
    pub(super) fn find(
        &self,
        (conn, sql): On<'_>,
        hash: Hash,
        key: &Key,
    ) -> Result<Option<u64>, DbError> {
        if !self.filter.may_hold(hash) {
            return Ok(None);
        }
        let mut statement = conn.prepare_cached(sql.find)?;
        let found = statement.query_row([row_of(self.id, bucket(hash))], |row| {
            let entries = row.get_ref(0)?.as_blob()?.as_chunks::<ENTRY_BYTES>().0;
            let wanted = entry(key, 0);
            Ok(entries.iter().find(|known| known[..17] == wanted[..17]).map(|known| {
                let mut seq = [0; 8];
                seq.copy_from_slice(&known[17..]);
                u64::from_le_bytes(seq)
            }))
        });
        Ok(found.optional()?.flatten())
    }

    /// Deletes its rows.
    pub(super) fn delete(&self, (conn, sql): On<'_>) -> Result<(), DbError> {
        conn.prepare_cached(sql.drop)?.execute([row_of(self.id, 0), row_of(self.id + 1, 0)])?;
        conn.prepare_cached(sql.drop_segment)?.execute([self.id])?;
        Ok(())
    }
}

/// Deletes buckets of segments that were never finished.
pub(super) fn delete_from(
    conn: &Connection,
    sql: &'static Sql,
    segment: i64,
) -> Result<(), DbError> {
    conn.execute(sql.drop_from, [row_of(segment, 0)])?;
    Ok(())
}

/// All whole segments, oldest first.
pub(super) fn load(conn: &Connection, sql: &'static Sql) -> Result<VecDeque<Segment>, DbError> {
    let corrupt = || DbError::Corrupt { what: "ids", reason: "filter".to_owned() };
    let mut statement = conn.prepare(sql.segments)?;
    let mut rows = statement.query([])?;
    let mut segments = VecDeque::new();
    while let Some(row) = rows.next()? {
        let filter = row.get_ref(3)?.as_blob().map_err(rusqlite::Error::from)?;
        segments.push_back(Segment {
            id: row.get(0)?,
            ids: usize::try_from(row.get::<_, i64>(1)?).unwrap_or_default(),
            last_at_ms: unsigned(row.get(2)?),
            filter: Filter::from_bytes(filter).ok_or_else(corrupt)?,
        });
    }
    Ok(segments)
}

/// A segment that is being written.
pub(super) struct Sealing {
    segment: Segment,
    known: HashMap<Key, u64>,
    buckets: Vec<Vec<u8>>,
    /// Buckets on disk, and with those of the batch that is not committed yet.
    written: usize,
    writing: usize,
    /// Rows of the log that it replaces.
    upto: i64,
}

impl Sealing {
    pub(super) fn new(id: i64, known: HashMap<Key, u64>, last_at_ms: UnixMs, upto: i64) -> Self {
        let mut filter = Filter::for_ids(known.len());
        let mut buckets = vec![Vec::new(); BUCKETS];
        for (key, seq) in &known {
            let hash = filter::hash(*key);
            filter.add(hash);
            buckets[bucket(hash)].extend_from_slice(&entry(key, *seq));
        }
        let segment = Segment { id, ids: known.len(), last_at_ms, filter };
        Self { segment, known, buckets, written: 0, writing: 0, upto }
    }

    pub(super) fn get(&self, key: &Key) -> Option<u64> {
        self.known.get(key).copied()
    }

    /// Writes up to `count` buckets; with the last of them the segment itself.
    pub(super) fn write(&mut self, (conn, sql): On<'_>, count: usize) -> Result<(), DbError> {
        let end = (self.written + count).min(BUCKETS);
        let mut statement = conn.prepare_cached(sql.add)?;
        for at in self.written..end {
            statement.execute(params![row_of(self.segment.id, at), self.buckets[at].as_slice()])?;
        }
        self.writing = end;
        if end == BUCKETS {
            let Segment { id, ids, last_at_ms, filter } = &self.segment;
            let ids = i64::try_from(*ids).unwrap_or(i64::MAX);
            conn.prepare_cached(sql.add_segment)?.execute(params![
                id,
                ids,
                signed(*last_at_ms),
                filter.to_bytes()
            ])?;
            conn.prepare_cached(sql.forget)?.execute([self.upto])?;
        }
        Ok(())
    }

    /// Keeps or forgets what the batch wrote. `true`: the segment is whole.
    pub(super) fn ended(&mut self, committed: bool) -> bool {
        if committed {
            for bucket in &mut self.buckets[self.written..self.writing] {
                *bucket = Vec::new();
            }
            self.written = self.writing;
        } else {
            self.writing = self.written;
        }
        self.written == BUCKETS
    }

    pub(super) fn into_segment(self) -> Segment {
        self.segment
    }
}
