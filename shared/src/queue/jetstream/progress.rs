//! How far a consumer has come, as a log of records: every ack and failed attempt is in it
//! before its holder is told. Pure: encoding and replay, no I/O.
//!
//! Records of one leader are numbered, so that one whose answer was lost is recognised.
//! A snapshot replaces what came before it; it may take several records and counts once
//! its last one is there.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::clock::UnixMs;

use super::ranges::Ranges;
use super::wire::{Malformed, Reader, Writer};

/// Version of the records. A leader refuses newer ones.
const VERSION: u8 = 1;
/// Entries of one snapshot record: at most 30 bytes each, far below any server's limit.
const MAX_ENTRIES: usize = 8_192;

/// An attempt that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failed {
    /// How many did.
    pub(super) count: u32,
    /// The delivery that failed last: it counts once, however often it is reported.
    pub(super) token: u64,
    /// When it was written down, by the leader's clock.
    pub(super) at_ms: UnixMs,
    /// How long to wait from then on.
    pub(super) delay_ms: u64,
}

impl Failed {
    /// What is left of the delay: at most all of it, whatever the clocks say.
    pub(super) fn left_ms(&self, now_ms: UnixMs) -> u64 {
        self.at_ms.saturating_add(self.delay_ms).saturating_sub(now_ms).min(self.delay_ms)
    }
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// A leader begins, for messages whose subject's rest is this; empty: for all.
    Lead {
        /// See [`crate::queue::ConsumerSpec::rest`].
        rest: String,
    },
    /// Deliveries ended.
    Settled {
        /// Done.
        acked: Vec<(u64, u64)>,
        /// To be tried again.
        failed: Vec<(u64, Failed)>,
    },
    /// One of `parts` parts of everything; the first is part 0.
    Snapshot {
        /// Which part.
        part: u64,
        /// How many there are.
        parts: u64,
        /// Everything up to here is done.
        floor: u64,
        /// Done above it.
        acked: Vec<(u64, u64)>,
        /// To be tried again.
        failed: Vec<(u64, Failed)>,
    },
}

/// One record of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// The leader's number, from 1.
    pub(super) epoch: u64,
    /// The record's number among this leader's.
    pub(super) number: u64,
    pub(super) change: Change,
}

impl Record {
    pub(super) fn encode(&self) -> Bytes {
        let mut writer = Writer::with_kind(VERSION);
        writer.num(self.epoch);
        writer.num(self.number);
        match &self.change {
            Change::Lead { rest } => {
                writer.num(0);
                writer.text(rest);
            }
            Change::Settled { acked, failed } => {
                writer.num(1);
                entries(&mut writer, acked, failed);
            }
            Change::Snapshot { part, parts, floor, acked, failed } => {
                writer.num(2);
                for value in [*part, *parts, *floor] {
                    writer.num(value);
                }
                entries(&mut writer, acked, failed);
            }
        }
        writer.done()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.kind()? != VERSION {
            return Err(Malformed);
        }
        let (epoch, number) = (reader.num()?, reader.num()?);
        let change = match reader.num()? {
            0 => Change::Lead { rest: reader.text()? },
            1 => {
                let (acked, failed) = read_entries(&mut reader)?;
                Change::Settled { acked, failed }
            }
            2 => {
                let (part, parts, floor) = (reader.num()?, reader.num()?, reader.num()?);
                let (acked, failed) = read_entries(&mut reader)?;
                Change::Snapshot { part, parts, floor, acked, failed }
            }
            _ => return Err(Malformed),
        };
        Ok(Self { epoch, number, change })
    }
}

/// Ranges as distance and length, so that neighbours take two bytes.
fn entries(writer: &mut Writer, acked: &[(u64, u64)], failed: &[(u64, Failed)]) {
    writer.count(acked.len());
    let mut from = 0;
    for (first, last) in acked {
        writer.num(first.wrapping_sub(from));
        writer.num(last.wrapping_sub(*first));
        from = *last;
    }
    writer.count(failed.len());
    for (seq, failed) in failed {
        for value in [*seq, failed.count.into(), failed.token, failed.at_ms, failed.delay_ms] {
            writer.num(value);
        }
    }
}

type Entries = (Vec<(u64, u64)>, Vec<(u64, Failed)>);

fn read_entries(reader: &mut Reader) -> Result<Entries, Malformed> {
    let mut from = 0_u64;
    let acked = reader.list(|reader| {
        let first = from.wrapping_add(reader.num()?);
        from = first.wrapping_add(reader.num()?);
        Ok((first, from))
    })?;
    let failed = reader.list(|reader| {
        let seq = reader.num()?;
        let (count, token) = (reader.small()?, reader.num()?);
        let (at_ms, delay_ms) = (reader.num()?, reader.num()?);
        Ok((seq, Failed { count, token, at_ms, delay_ms }))
    })?;
    Ok((acked, failed))
}

/// What the log adds up to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// The last leader's number; 0: there was none.
    pub(super) epoch: u64,
    /// What the last leader's messages had in common.
    pub(super) rest: String,
    floor: u64,
    done: Ranges,
    failures: BTreeMap<u64, Failed>,
    /// A snapshot of which parts are missing yet.
    building: Option<Box<Progress>>,
}

impl Progress {
    /// Everything up to here is done.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    pub(super) fn is_done(&self, seq: u64) -> bool {
        seq <= self.floor || self.done.contains(seq)
    }

    /// Done above the floor.
    pub(super) fn above(&self) -> &Ranges {
        &self.done
    }

    pub(super) fn failed(&self, seq: u64) -> Option<Failed> {
        self.failures.get(&seq).copied()
    }

    /// Marks `first..=last` done, or nobody's business: another consumer's, or gone.
    pub(super) fn finish(&mut self, first: u64, last: u64) {
        if first <= self.floor.saturating_add(1) {
            self.floor = self.floor.max(last);
        } else {
            self.done.insert(first, last);
        }
        while let Some(last) = self.done.take_from(self.floor.saturating_add(1)) {
            self.floor = last;
        }
        self.done.forget_to(self.floor);
    }

    /// Marks one message done, and forgets its failures.
    pub(super) fn done_one(&mut self, seq: u64) {
        self.failures.remove(&seq);
        self.finish(seq, seq);
    }

    /// Remembers a failed attempt; of what is done there is nothing to remember.
    pub(super) fn fail(&mut self, seq: u64, failed: Failed) {
        if !self.is_done(seq) {
            self.failures.insert(seq, failed);
        }
    }

    /// The stream ends at `last_seq`: what was done beyond was lost with the stream's end,
    /// and the numbers will be given to new messages. `true`: there was such a thing.
    pub(super) fn cut(&mut self, last_seq: u64) -> bool {
        let beyond = self.floor > last_seq || self.done.last().is_some_and(|seq| seq > last_seq);
        self.floor = self.floor.min(last_seq);
        self.done.forget_above(last_seq);
        self.failures.split_off(&last_seq.saturating_add(1));
        beyond
    }

    /// Takes the next record of the log in.
    pub(super) fn apply(&mut self, record: &Record) {
        self.epoch = self.epoch.max(record.epoch);
        match &record.change {
            Change::Lead { rest } => {
                self.building = None;
                self.rest.clone_from(rest);
            }
            Change::Settled { acked, failed } => {
                self.building = None;
                self.take_in(acked, failed);
            }
            Change::Snapshot { part, parts, floor, acked, failed } => {
                let fresh = || Box::new(Self { floor: *floor, ..Self::default() });
                let mut next = match self.building.take() {
                    Some(building) if *part > 0 => building,
                    _ if *part > 0 => return,
                    _ => fresh(),
                };
                next.take_in(acked, failed);
                if part + 1 == *parts {
                    let rest = std::mem::take(&mut self.rest);
                    *self = Self { epoch: self.epoch, rest, ..*next };
                } else {
                    self.building = Some(next);
                }
            }
        }
    }

    fn take_in(&mut self, acked: &[(u64, u64)], failed: &[(u64, Failed)]) {
        for (seq, failed) in failed {
            self.fail(*seq, *failed);
        }
        for (first, last) in acked {
            self.finish(*first, *last);
            let gone: Vec<u64> = self.failures.range(*first..=*last).map(|(seq, _)| *seq).collect();
            for seq in gone {
                self.failures.remove(&seq);
            }
        }
    }

    /// Everything, in as many records as it takes.
    pub(super) fn snapshot(&self) -> Vec<Change> {
        let ranges: Vec<(u64, u64)> = self.done.iter().collect();
        let failures: Vec<(u64, Failed)> = self.failures.iter().map(|(s, f)| (*s, *f)).collect();
        let parts = ranges.len().max(failures.len()).div_ceil(MAX_ENTRIES).max(1);
        let slice = |part: usize| part * MAX_ENTRIES..(part + 1) * MAX_ENTRIES;
        let change = |part: usize| Change::Snapshot {
            part: part as u64,
            parts: parts as u64,
            floor: self.floor,
            acked: part_of(&ranges, slice(part)),
            failed: part_of(&failures, slice(part)),
        };
        (0..parts).map(change).collect()
    }
}

fn part_of<T: Copy>(all: &[T], range: std::ops::Range<usize>) -> Vec<T> {
    all[range.start.min(all.len())..range.end.min(all.len())].to_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn failed(count: u32) -> Failed {
        Failed { count, token: 7, at_ms: 1_000, delay_ms: 500 }
    }

    fn record(change: Change) -> Record {
        Record { epoch: 3, number: 9, change }
    }

    fn settled() -> impl Strategy<Value = Change> {
        let acked = proptest::collection::vec((1..500_u64, 0..3_u64), 0..20);
        let fails = proptest::collection::vec((1..500_u64, 1..9_u32), 0..5);
        (acked, fails).prop_map(|(acked, fails)| Change::Settled {
            acked: acked.into_iter().map(|(first, more)| (first, first + more)).collect(),
            failed: fails.into_iter().map(|(seq, count)| (seq, failed(count))).collect(),
        })
    }

    proptest! {
        #[test]
        fn records_read_back(change in settled()) {
            let written = record(change);
            prop_assert_eq!(Record::decode(written.encode()), Ok(written));
        }

        #[test]
        fn a_snapshot_stands_for_all_before_it(changes in proptest::collection::vec(settled(), 0..20)) {
            let mut progress = Progress::default();
            for change in changes {
                progress.apply(&record(change));
            }
            let mut replayed = Progress::default();
            replayed.apply(&record(Change::Settled { acked: vec![(900, 901)], failed: vec![] }));
            for change in progress.snapshot() {
                let written = record(change);
                let read = Record::decode(written.encode());
                prop_assert_eq!(&read, &Ok(written));
                replayed.apply(&read.expect("it was read"));
            }
            prop_assert_eq!(&replayed.floor, &progress.floor);
            prop_assert_eq!(replayed.done, progress.done);
            prop_assert_eq!(replayed.failures, progress.failures);
        }
    }

    #[test]
    fn a_snapshot_counts_once_it_is_whole() {
        let mut progress = Progress::default();
        for n in 0..20_000 {
            progress.finish(2 * n + 2, 2 * n + 2);
        }
        let parts = progress.snapshot();
        assert_eq!(parts.len(), 3);
        let mut replayed = Progress::default();
        replayed.finish(1, 1);
        for change in &parts[..2] {
            replayed.apply(&record(change.clone()));
        }
        assert!(!replayed.is_done(40_000) && replayed.is_done(1), "a part is missing");
        replayed.apply(&record(parts[2].clone()));
        assert!(replayed.is_done(40_000) && !replayed.is_done(1));
    }

    #[test]
    fn what_is_done_in_any_order_raises_the_floor() {
        let mut progress = Progress::default();
        for seq in [5, 3, 4, 1] {
            progress.finish(seq, seq);
        }
        assert_eq!(progress.floor(), 1);
        progress.finish(2, 2);
        assert_eq!((progress.floor(), progress.above().len()), (5, 0));
    }

    #[test]
    fn a_stream_that_lost_its_end_gives_its_numbers_to_new_messages() {
        let mut progress = Progress::default();
        progress.finish(1, 10);
        progress.finish(20, 30);
        assert!(progress.cut(25));
        assert!(progress.is_done(25) && !progress.is_done(26));
        assert!(progress.cut(4) && !progress.cut(4));
        assert!(progress.is_done(4) && !progress.is_done(5));
    }

    #[test]
    fn delays_are_kept_whatever_the_clocks_say() {
        let failed = failed(1);
        let cases = [(1_100, 400), (0, 500), (9_999, 0)];
        for (now_ms, left) in cases {
            assert_eq!(failed.left_ms(now_ms), left, "at {now_ms}");
        }
    }
}
