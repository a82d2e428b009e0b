//! A set of sequence numbers as ranges: what lies close together costs one entry. Pure.

use std::collections::BTreeMap;

/// The set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    pub(super) fn contains(&self, seq: u64) -> bool {
        self.0.range(..=seq).next_back().is_some_and(|(_, last)| *last >= seq)
    }

    /// Adds `first..=last`.
    pub(super) fn insert(&mut self, mut first: u64, mut last: u64) {
        if first > last {
            return;
        }
        if let Some((&low, &high)) = self.0.range(..=first).next_back() {
            if high >= last {
                return;
            }
            if high.saturating_add(1) >= first {
                first = low;
            }
        }
        while let Some((&low, &high)) = self.0.range(first..=last.saturating_add(1)).next() {
            last = last.max(high);
            self.0.remove(&low);
        }
        self.0.insert(first, last);
    }

    /// Takes the range out that begins at `first`, and says where it ends.
    pub(super) fn take_from(&mut self, first: u64) -> Option<u64> {
        let (&low, &high) = self.0.range(..=first).next_back()?;
        if high < first {
            return None;
        }
        self.0.remove(&low);
        if low < first {
            self.0.insert(low, first - 1);
        }
        Some(high)
    }

    /// Forgets everything up to `seq`.
    pub(super) fn forget_to(&mut self, seq: u64) {
        while let Some(entry) = self.0.first_entry() {
            if *entry.key() > seq {
                return;
            }
            let last = entry.remove();
            if last > seq {
                self.0.insert(seq + 1, last);
                return;
            }
        }
    }

    /// Forgets everything above `seq`.
    pub(super) fn forget_above(&mut self, seq: u64) {
        self.0.split_off(&seq.saturating_add(1));
        if let Some(mut entry) = self.0.last_entry() {
            let last = entry.get_mut();
            *last = seq.min(*last);
        }
    }

    pub(super) fn last(&self) -> Option<u64> {
        self.0.last_key_value().map(|(_, last)| *last)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().map(|(first, last)| (*first, *last))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_set_would(
            added in proptest::collection::vec((1..60_u64, 0..9_u64), 0..40),
            low in 0..70_u64,
            high in 0..70_u64,
        ) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for (first, more) in added {
                ranges.insert(first, first + more);
                set.extend(first..=first + more);
            }
            ranges.forget_to(low);
            ranges.forget_above(high);
            set.retain(|seq| *seq > low && *seq <= high);
            for seq in 0..80 {
                prop_assert_eq!(ranges.contains(seq), set.contains(&seq), "{}", seq);
            }
            let pairs: Vec<_> = ranges.iter().collect();
            prop_assert!(pairs.windows(2).all(|two| two[0].1 + 1 < two[1].0), "{:?}", pairs);
        }
    }
}
