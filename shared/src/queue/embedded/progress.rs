//! How far a consumer of a history stream has come: a floor, and what is acked above it.
//!
//! Acks come in any order, so the acked ones above the floor are bits in chunks. A commit
//! writes the chunks it touched and the floor, whatever the number of acks in it.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, params};

use crate::sqlite::DbError;

use super::tables::{signed, unsigned};

/// Sequence numbers in one chunk.
const CHUNK: u64 = 4_096;
const WORDS: usize = 64;

type Bits = Box<[u64; WORDS]>;

/// The progress of one consumer.
#[derive(Default)]
pub(super) struct Progress {
    floor: u64,
    chunks: BTreeMap<u64, Bits>,
    touched: BTreeSet<u64>,
    /// Acked by the batch that is not committed yet.
    uncommitted: Vec<u64>,
    floor_before: u64,
}

impl Progress {
    /// Reads what is stored of `consumer`.
    pub(super) fn load(conn: &Connection, consumer: i64) -> Result<Self, DbError> {
        let floor: i64 =
            conn.query_row("SELECT floor FROM consumers WHERE id = ?", [consumer], |r| r.get(0))?;
        let mut progress = Self { floor: unsigned(floor), ..Self::default() };
        progress.floor_before = progress.floor;
        let mut statement = conn.prepare("SELECT chunk, bits FROM acked WHERE consumer = ?")?;
        let mut rows = statement.query([consumer])?;
        while let Some(row) = rows.next()? {
            let blob = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
            let mut bits = Bits::new([0; WORDS]);
            for (word, bytes) in bits.iter_mut().zip(blob.as_chunks::<8>().0) {
                *word = u64::from_le_bytes(*bytes);
            }
            progress.chunks.insert(unsigned(row.get(0)?), bits);
        }
        Ok(progress)
    }

    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// True when `seq` is done.
    pub(super) fn is_acked(&self, seq: u64) -> bool {
        seq <= self.floor
            || self.chunks.get(&(seq / CHUNK)).is_some_and(|bits| {
                let (word, bit) = place(seq);
                bits[word] & bit != 0
            })
    }

    /// Marks `seq` done in this batch.
    pub(super) fn ack(&mut self, seq: u64) {
        if self.is_acked(seq) {
            return;
        }
        let chunk = seq / CHUNK;
        let (word, bit) = place(seq);
        self.chunks.entry(chunk).or_insert_with(|| Bits::new([0; WORDS]))[word] |= bit;
        self.touched.insert(chunk);
        self.uncommitted.push(seq);
    }

    /// Marks everything up to `seq` done that retention took away.
    pub(super) fn raise_floor(&mut self, seq: u64) {
        self.floor = self.floor.max(seq);
    }

    /// Writes what this batch changed.
    pub(super) fn write(&mut self, conn: &Connection, consumer: i64) -> Result<(), DbError> {
        while self.chunks.contains_key(&((self.floor + 1) / CHUNK)) && self.is_acked(self.floor + 1)
        {
            self.floor += 1;
        }
        if self.floor != self.floor_before {
            conn.prepare_cached("UPDATE consumers SET floor = ? WHERE id = ?")?
                .execute(params![signed(self.floor), consumer])?;
            let below = signed((self.floor + 1) / CHUNK);
            if below > signed((self.floor_before + 1) / CHUNK) {
                conn.prepare_cached("DELETE FROM acked WHERE consumer = ? AND chunk < ?")?
                    .execute(params![consumer, below])?;
            }
        }
        let low = (self.floor + 1) / CHUNK;
        let mut blob = [0_u8; WORDS * 8];
        for (chunk, bits) in self.touched.range(low..).filter_map(|c| self.chunks.get_key_value(c))
        {
            for (bytes, word) in blob.as_chunks_mut::<8>().0.iter_mut().zip(bits.iter()) {
                *bytes = word.to_le_bytes();
            }
            conn.prepare_cached("INSERT OR REPLACE INTO acked VALUES (?, ?, ?)")?
                .execute(params![consumer, signed(*chunk), blob.as_slice()])?;
        }
        Ok(())
    }

    /// Keeps or forgets what this batch changed.
    pub(super) fn ended(&mut self, committed: bool) {
        if committed {
            self.floor_before = self.floor;
            self.chunks = self.chunks.split_off(&((self.floor + 1) / CHUNK));
        } else {
            self.floor = self.floor_before;
            for seq in &self.uncommitted {
                let (word, bit) = place(*seq);
                if let Some(bits) = self.chunks.get_mut(&(seq / CHUNK)) {
                    bits[word] &= !bit;
                }
            }
        }
        self.uncommitted.clear();
        self.touched.clear();
    }
}

fn place(seq: u64) -> (usize, u64) {
    let within = seq % CHUNK;
    // `CHUNK` is 64 words, so the word fits.
    (usize::try_from(within / 64).unwrap_or_default(), 1 << (within % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> Connection {
        let conn = Connection::open_in_memory().expect("memory");
        conn.execute_batch(include_str!("../../../migrations/001_initial.sql")).expect("schema");
        conn.execute_batch("INSERT INTO consumers VALUES (1, 0, 'c', 0)").expect("row");
        conn
    }

    #[test]
    fn acks_out_of_order_read_back_as_floor_and_rest() {
        let conn = database();
        let mut progress = Progress::default();
        for seq in (1..=9_000).rev().filter(|seq| *seq != 5_000) {
            progress.ack(seq);
        }
        progress.write(&conn, 1).expect("write");
        progress.ended(true);
        assert_eq!(progress.floor(), 4_999);
        let read = Progress::load(&conn, 1).expect("load");
        for seq in 1..=9_100 {
            assert_eq!(read.is_acked(seq), seq <= 9_000 && seq != 5_000, "{seq}");
        }
    }

    #[test]
    fn a_rollback_forgets_its_acks() {
        let conn = database();
        let mut progress = Progress::default();
        progress.ack(1);
        progress.write(&conn, 1).expect("write");
        progress.ended(true);
        progress.ack(2);
        progress.ack(3);
        progress.write(&conn, 1).expect("write");
        progress.ended(false);
        assert_eq!(
            (progress.floor(), progress.is_acked(2), progress.is_acked(3)),
            (1, false, false)
        );
    }
}
