//! Remembers signatures that were accepted, so that an exact replay is refused.
//!
//! Bounded: two generations of a set. What falls out early under a flood, and what
//! another gateway saw, is caught by the message id.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use aof_shared::clock::UnixMs;

/// What is kept of a signature.
pub(crate) type Fingerprint = [u8; 16];

/// A signature may be accepted from its window before to its window after its timestamp.
const GENERATION_MS: u64 = 2 * 300_000;
/// Fingerprints in one generation; two of them take about 6 MB.
const GENERATION_CAP: usize = 131_072;

/// The signatures accepted lately.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    current: HashSet<Fingerprint>,
    earlier: HashSet<Fingerprint>,
    since_ms: UnixMs,
}

impl Seen {
    /// True when `fingerprint` was remembered within the window.
    pub(crate) fn contains(&self, fingerprint: &Fingerprint) -> bool {
        let sets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sets.current.contains(fingerprint) || sets.earlier.contains(fingerprint)
    }

    /// Remembers `fingerprint`; call it only once the request took effect.
    pub(crate) fn remember(&self, fingerprint: Fingerprint, now_ms: UnixMs) {
        let mut sets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let old = now_ms.saturating_sub(sets.since_ms) >= GENERATION_MS;
        if old || sets.current.len() >= GENERATION_CAP {
            sets.earlier = std::mem::take(&mut sets.current);
            sets.since_ms = now_ms;
        }
        sets.current.insert(fingerprint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_for_the_whole_window_and_forgets_after_two() {
        let seen = Seen::default();
        seen.remember([1; 16], 1_000_000);
        seen.remember([2; 16], 1_000_000 + GENERATION_MS);
        assert!(seen.contains(&[1; 16]) && seen.contains(&[2; 16]));
        seen.remember([3; 16], 1_000_000 + 2 * GENERATION_MS);
        assert!(!seen.contains(&[1; 16]) && seen.contains(&[2; 16]));
    }

    #[test]
    fn stays_bounded_under_a_flood() {
        let seen = Seen::default();
        for n in 0..(3 * GENERATION_CAP as u128) {
            seen.remember(n.to_be_bytes(), 1_000_000);
        }
        let sets = seen.0.lock().expect("no test thread panicked");
        assert!(sets.current.len() + sets.earlier.len() <= 2 * GENERATION_CAP);
    }
}
