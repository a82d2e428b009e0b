//! Sliding windows, exact to the millisecond. Pure.

use std::collections::{HashMap, VecDeque};

use crate::clock::UnixMs;
use crate::limit::Window;

/// Scopes below which idle ones are not looked for.
const MIN_SWEEP: usize = 1_024;

/// Admissions of one scope, those of one millisecond together, oldest first.
#[derive(Default)]
struct Admitted {
    runs: VecDeque<(UnixMs, u32)>,
    total: u64,
    /// Longest window that was asked for.
    window_ms: u64,
}

impl Admitted {
    /// Forgets what no window holds any more.
    fn expire(&mut self, window_ms: u64, now_ms: UnixMs) {
        self.window_ms = self.window_ms.max(window_ms);
        while let Some((at_ms, count)) = self.runs.front() {
            if at_ms.saturating_add(self.window_ms) > now_ms {
                break;
            }
            self.total -= u64::from(*count);
            self.runs.pop_front();
        }
    }

    /// How long until one more fits, or `None` when it fits now.
    fn wait_ms(&self, window: &Window, now_ms: UnixMs) -> Option<u64> {
        let held = self.runs.iter().filter(|(at_ms, _)| at_ms + window.window_ms > now_ms);
        let total: u64 = held.clone().map(|(_, count)| u64::from(*count)).sum();
        let limit = u64::from(window.limit);
        if total < limit {
            return None;
        }
        if limit == 0 {
            return Some(window.window_ms);
        }
        let mut must_go = total - limit + 1;
        for (at_ms, count) in held {
            must_go = must_go.saturating_sub(u64::from(*count));
            if must_go == 0 {
                return Some(at_ms + window.window_ms - now_ms);
            }
        }
        Some(window.window_ms)
    }
}

/// All scopes that admitted something not long ago.
#[derive(Default)]
pub(super) struct Windows {
    scopes: HashMap<String, Admitted>,
    sweep_at: usize,
}

impl Windows {
    /// How long until `window` admits one more; `None`: now.
    pub(super) fn refuses(&mut self, window: &Window, now_ms: UnixMs) -> Option<u64> {
        let Some(admitted) = self.scopes.get_mut(&window.scope) else {
            return (window.limit == 0).then_some(window.window_ms);
        };
        admitted.expire(window.window_ms, now_ms);
        if admitted.window_ms == window.window_ms && admitted.total < u64::from(window.limit) {
            return None;
        }
        admitted.wait_ms(window, now_ms)
    }

    /// Takes one admission.
    pub(super) fn take(&mut self, window: &Window, now_ms: UnixMs) {
        self.sweep(now_ms);
        if !self.scopes.contains_key(&window.scope) {
            self.scopes.insert(window.scope.clone(), Admitted::default());
        }
        let Some(admitted) = self.scopes.get_mut(&window.scope) else { return };
        admitted.window_ms = admitted.window_ms.max(window.window_ms);
        admitted.total += 1;
        match admitted.runs.back_mut() {
            // A clock that goes back must not make admissions older than they are.
            Some((at_ms, count)) if *at_ms >= now_ms => *count += 1,
            _ => admitted.runs.push_back((now_ms, 1)),
        }
    }

    /// Drops idle scopes whenever their number has doubled.
    fn sweep(&mut self, now_ms: UnixMs) {
        if self.scopes.len() < self.sweep_at.max(MIN_SWEEP) {
            return;
        }
        self.scopes.retain(|_, admitted| {
            admitted.expire(0, now_ms);
            admitted.total > 0
        });
        self.scopes.shrink_to(self.scopes.len() * 2);
        self.sweep_at = self.scopes.len() * 2;
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.scopes.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(limit: u32, window_ms: u64) -> Window {
        Window { scope: "s".to_owned(), limit, window_ms }
    }

    proptest! {
        #[test]
        fn no_window_ever_holds_more_than_its_limit(
            limit in 1_u32..20,
            window_ms in 1_u64..500,
            steps in prop::collection::vec(0_u64..60, 1..400),
        ) {
            let (mut windows, asked) = (Windows::default(), window(limit, window_ms));
            let (mut now_ms, mut admitted) = (10_000, Vec::new());
            for step in steps {
                now_ms += step;
                match windows.refuses(&asked, now_ms) {
                    None => {
                        windows.take(&asked, now_ms);
                        admitted.push(now_ms);
                    }
                    Some(wait_ms) => {
                        // The delay is exact: one millisecond earlier is still refused.
                        prop_assert!(wait_ms >= 1);
                        prop_assert!(windows.refuses(&asked, now_ms + wait_ms - 1).is_some());
                    }
                }
            }
            for (at, start) in admitted.iter().enumerate() {
                let inside = admitted[at..].iter().filter(|t| **t < start + window_ms).count();
                prop_assert!(inside <= limit as usize);
            }
        }
    }

    #[test]
    fn idle_scopes_are_forgotten() {
        let mut windows = Windows::default();
        for n in 0..100_000_u64 {
            let asked = Window { scope: format!("t{n}"), limit: 1, window_ms: 10 };
            windows.take(&asked, n);
        }
        assert!(windows.len() <= 2 * MIN_SWEEP, "{} scopes are kept", windows.len());
    }
}
