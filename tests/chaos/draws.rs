//! Draws that repeat with their seed.

/// The seed unless `AOF_SEED` gives one.
const SEED: u64 = 7;

/// The seed of this run.
pub(crate) fn seed() -> u64 {
    std::env::var("AOF_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED)
}

/// A linear congruential generator (Knuth's MMIX multiplier).
pub(crate) struct Draws(u64);

impl Draws {
    pub(crate) fn of(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    /// One of `low..high`.
    pub(crate) fn between(&mut self, (low, high): (u64, u64)) -> u64 {
        low + self.below(high - low)
    }

    /// Mixes `items` (Fisher and Yates).
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last as u64 + 1);
            items.swap(last, usize::try_from(other).expect("an index"));
        }
    }
}
