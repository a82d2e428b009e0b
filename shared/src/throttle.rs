//! At most one log line in a while about the same thing, so that a flood cannot hide the rest.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::clock::UnixMs;

/// Things remembered; beyond, everything is forgotten and may be said once more.
const MAX_KEYS: usize = 10_000;

/// Remembers what was said when.
#[derive(Debug)]
pub struct Throttle {
    every_ms: u64,
    said: Mutex<HashMap<String, UnixMs>>,
}

impl Throttle {
    /// Lets the same thing be said once in `every_ms` milliseconds.
    #[must_use]
    pub fn new(every_ms: u64) -> Self {
        Self { every_ms, said: Mutex::default() }
    }

    /// True when `key` may be said at `now_ms`, which counts as saying it.
    pub fn allows(&self, key: &str, now_ms: UnixMs) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let due = |at: &UnixMs| now_ms.saturating_sub(*at) >= self.every_ms;
        if !said.get(key).is_none_or(due) {
            return false;
        }
        if said.len() >= MAX_KEYS {
            said.clear();
        }
        said.insert(key.to_owned(), now_ms);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_thing_is_said_once_in_a_while_and_others_are_not_held_back() {
        let throttle = Throttle::new(60_000);
        for (key, now_ms, expected) in [
            ("slack", 0, true),
            ("slack", 59_999, false),
            ("teams", 59_999, true),
            ("slack", 60_000, true),
            ("slack", 60_001, false),
        ] {
            assert_eq!(throttle.allows(key, now_ms), expected, "{key} at {now_ms}");
        }
    }
}
