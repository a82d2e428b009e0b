//! What the writer knows beside the rows: sequence numbers, sizes, dedupe ids, and how far
//! consumers have come. Written with each commit, taken back with each rollback.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, params};
use uuid::Uuid;

use crate::clock::UnixMs;
use crate::sqlite::ids::{self, Ids};
use crate::sqlite::{BatchHook, DbError, signed, unsigned};
use crate::subject::Stream;

use super::consumer::Core;
use super::progress::Progress;
use super::tables::{column, index};

/// How long a dedupe id is remembered at least. Source: the port's promise.
pub(super) const WINDOW_MS: u64 = 2 * 60 * 60 * 1_000;
/// Fewest dedupe ids in a segment; a hash table of twice the memory would hold few more.
const MIN_SEAL_IDS: usize = 112_000;
/// Where dedupe ids are.
const SEEN: ids::Sql = ids::sql!("seen", "segments", "segment_ids");

/// Number of streams.
pub(super) const STREAMS: usize = Stream::ALL.len();

/// The row of one stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) last_seq: u64,
    pub(super) last_at_ms: UnixMs,
    pub(super) bytes: u64,
    pub(super) messages: u64,
}

/// A stream's space of dedupe ids.
fn space(stream: Stream) -> u8 {
    // There are six streams.
    stream as u8
}

/// The state. Only the writer thread changes it.
pub(super) struct Ledger {
    streams: [Meta; STREAMS],
    before: [Meta; STREAMS],
    /// Ids that the batch added, 16 bytes each.
    ids: [Vec<u8>; STREAMS],
    dedupe: Ids,
    progress: HashMap<i64, Progress>,
    acked: Vec<i64>,
}

impl Ledger {
    pub(super) fn load(conn: &Connection) -> Result<Self, DbError> {
        let mut ledger = Self {
            streams: Default::default(),
            before: Default::default(),
            ids: Default::default(),
            dedupe: Ids::load(conn, &SEEN, MIN_SEAL_IDS)?,
            progress: HashMap::new(),
            acked: Vec::new(),
        };
        let mut statement =
            conn.prepare("SELECT stream, last_seq, last_at_ms, bytes, messages FROM streams")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let number: i64 = row.get(0)?;
            if let Some(stream) = Stream::ALL.into_iter().find(|s| column(*s) == number) {
                ledger.streams[index(stream)] = Meta {
                    last_seq: unsigned(row.get(1)?),
                    last_at_ms: unsigned(row.get(2)?),
                    bytes: unsigned(row.get(3)?),
                    messages: unsigned(row.get(4)?),
                };
            }
        }
        ledger.before = ledger.streams;
        Ok(ledger)
    }

    pub(super) fn meta(&self, stream: Stream) -> Meta {
        self.streams[index(stream)]
    }

    /// The first sequence number of `id`, if the stream has seen it.
    pub(super) fn seen(
        &self,
        conn: &Connection,
        stream: Stream,
        id: Uuid,
    ) -> Result<Option<u64>, DbError> {
        self.dedupe.get(conn, (space(stream), id))
    }

    /// Deletes dedupe ids that are out of their window. `false`: there are none.
    pub(super) fn expire_ids(
        &mut self,
        conn: &Connection,
        now_ms: UnixMs,
    ) -> Result<bool, DbError> {
        self.dedupe.expire(conn, now_ms.saturating_sub(WINDOW_MS))
    }

    /// Takes the next sequence number for `id`; time never goes back within a stream.
    pub(super) fn next(
        &mut self,
        stream: Stream,
        id: Uuid,
        bytes: usize,
        now_ms: UnixMs,
    ) -> (u64, UnixMs) {
        let meta = &mut self.streams[index(stream)];
        meta.last_seq += 1;
        meta.last_at_ms = meta.last_at_ms.max(now_ms);
        meta.bytes += bytes as u64;
        meta.messages += 1;
        let taken = (meta.last_seq, meta.last_at_ms);
        self.ids[index(stream)].extend_from_slice(id.as_bytes());
        self.dedupe.insert((space(stream), id), taken.0, taken.1);
        taken
    }

    /// A message left the stream.
    pub(super) fn gone(&mut self, stream: Stream, messages: u64, bytes: u64) {
        let meta = &mut self.streams[index(stream)];
        meta.bytes = meta.bytes.saturating_sub(bytes);
        meta.messages = meta.messages.saturating_sub(messages);
    }

    /// The progress of a history consumer, loaded when first asked for.
    pub(super) fn progress(
        &mut self,
        conn: &Connection,
        consumer: i64,
    ) -> Result<&mut Progress, DbError> {
        match self.progress.entry(consumer) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(new) => Ok(new.insert(Progress::load(conn, consumer)?)),
        }
    }

    /// True when that consumer is done with `seq`.
    pub(super) fn is_acked(&self, consumer: i64, seq: u64) -> bool {
        self.progress.get(&consumer).is_some_and(|progress| progress.is_acked(seq))
    }

    /// Marks messages of a history consumer done.
    pub(super) fn ack(
        &mut self,
        conn: &Connection,
        consumer: i64,
        seqs: &[u64],
    ) -> Result<(), DbError> {
        let progress = self.progress(conn, consumer)?;
        for seq in seqs {
            progress.ack(*seq);
        }
        if !self.acked.contains(&consumer) {
            self.acked.push(consumer);
        }
        Ok(())
    }

    fn write(&mut self, conn: &Connection) -> Result<(), DbError> {
        for stream in Stream::ALL {
            let at = index(stream);
            let (meta, before) = (self.streams[at], self.before[at]);
            if meta != before {
                conn.prepare_cached("INSERT OR REPLACE INTO streams VALUES (?, ?, ?, ?, ?)")?
                    .execute(params![
                        column(stream),
                        signed(meta.last_seq),
                        signed(meta.last_at_ms),
                        signed(meta.bytes),
                        signed(meta.messages)
                    ])?;
            }
            if !self.ids[at].is_empty() {
                let first = (before.last_seq + 1, meta.last_at_ms);
                self.dedupe.log(conn, space(stream), first, &self.ids[at])?;
            }
        }
        self.dedupe.write(conn)?;
        for consumer in &self.acked {
            if let Some(progress) = self.progress.get_mut(consumer) {
                progress.write(conn, *consumer)?;
            }
        }
        Ok(())
    }

    fn ended(&mut self, committed: bool) {
        if committed {
            self.before = self.streams;
        } else {
            self.streams = self.before;
        }
        for ids in &mut self.ids {
            ids.clear();
        }
        self.dedupe.ended(committed);
        for consumer in self.acked.drain(..) {
            if let Some(progress) = self.progress.get_mut(&consumer) {
                progress.ended(committed);
            }
        }
    }
}

/// The ledger as jobs and the writer share it.
#[derive(Clone)]
pub(super) struct SharedLedger(Arc<Mutex<Ledger>>);

impl SharedLedger {
    pub(super) fn new(ledger: Ledger) -> Self {
        Self(Arc::new(Mutex::new(ledger)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Consumers that have something new since the last commit; each stands here once.
pub(super) type Woken = Arc<Mutex<Vec<Arc<Core>>>>;

/// Writes the ledger with each commit, and wakes consumers after it.
pub(crate) struct LedgerHook {
    pub(super) ledger: SharedLedger,
    pub(super) woken: Woken,
}

impl BatchHook for LedgerHook {
    fn before_commit(&mut self, conn: &Connection) -> Result<(), DbError> {
        self.ledger.lock().write(conn)
    }

    fn ended(&mut self, committed: bool) {
        self.ledger.lock().ended(committed);
    }

    fn answered(&mut self) {
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        for core in woken.drain(..) {
            core.wake();
        }
    }
}
