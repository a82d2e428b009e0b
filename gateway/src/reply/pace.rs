//! Keeps calls within a platform's limits: windows that all nodes share, and pauses
//! that the platform asked for.
//!
//! A window is decided by the `Limits` port, so it holds across gateways. Beside it each
//! node remembers when a scope is free again, so that work which must wait goes back to
//! the queue without asking anyone. A pause that a platform asked for is known to the
//! gateway that was told; another learns of it by its own first refused call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aof_shared::clock::{Clock, UnixMs};
use aof_shared::limit::{Admission, Demand, Limits, Window};
use aof_shared::throttle::Throttle;

use super::port::SendError;

/// Scopes remembered; beyond it those that are free again are forgotten.
const MAX_PAUSES: usize = 65_536;
/// Longest pause that a platform is believed.
const MAX_PAUSE_MS: u64 = 3_600_000;
/// One log line in this time about a limiter that is away.
const SAY_AWAY_EVERY_MS: u64 = 30_000;
/// Wait when the limiter itself cannot decide.
const LIMITER_AWAY_MS: u64 = 1_000;

/// A limit of a platform: so many calls in a window, shared under `scope`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    /// Who shares it, such as `slack/<tenant>/<instance>/chat.postMessage/<channel>`.
    pub scope: String,
    /// Whose limit, for metrics: no tenant, no channel.
    pub label: &'static str,
    /// At most so many calls.
    pub limit: u32,
    /// In any stretch of so many milliseconds.
    pub window_ms: u64,
}

impl Pace {
    fn window(&self) -> Window {
        Window { scope: self.scope.clone(), limit: self.limit, window_ms: self.window_ms }
    }
}

/// Admits calls. Cheap to clone.
#[derive(Clone)]
pub struct Pacer {
    limits: Arc<dyn Limits>,
    clock: Arc<dyn Clock>,
    free_at: Arc<Mutex<HashMap<String, UnixMs>>>,
    said: Arc<Throttle>,
}

impl Pacer {
    /// A pacer with nothing paused.
    #[must_use]
    pub fn new(limits: Arc<dyn Limits>, clock: Arc<dyn Clock>) -> Self {
        let said = Arc::new(Throttle::new(SAY_AWAY_EVERY_MS));
        Self { limits, clock, free_at: Arc::default(), said }
    }

    /// Now, by the clock that it paces with.
    #[must_use]
    pub fn now_ms(&self) -> UnixMs {
        self.clock.now_ms()
    }

    /// How long `scope` is closed as far as this node knows, in milliseconds.
    #[must_use]
    pub fn wait_ms(&self, scope: &str) -> u64 {
        let now = self.clock.now_ms();
        let free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        free_at.get(scope).map_or(0, |at| at.saturating_sub(now))
    }

    /// Takes one admission of `pace`.
    ///
    /// # Errors
    /// [`SendError::Limited`] when it has to wait; nothing was taken.
    pub async fn admit(&self, pace: &Pace) -> Result<(), SendError> {
        self.admit_all(std::slice::from_ref(pace)).await
    }

    /// Takes one admission of each of `paces`, or none.
    ///
    /// # Errors
    /// [`SendError::Limited`] when one of them has to wait; nothing was taken.
    pub async fn admit_all(&self, paces: &[Pace]) -> Result<(), SendError> {
        let limited = |pace: &Pace, retry_after_ms| SendError::Limited {
            retry_after_ms,
            scope: pace.label.to_owned(),
        };
        for pace in paces {
            let wait = self.wait_ms(&pace.scope);
            if wait > 0 {
                return Err(limited(pace, wait));
            }
        }
        let Some(first) = paces.first() else { return Ok(()) };
        let windows = paces.iter().map(Pace::window).collect();
        match self.limits.admit(&Demand { windows, ..Demand::default() }).await {
            Ok(Admission::Granted) => {
                for pace in paces.iter().filter(|pace| pace.limit == 1) {
                    self.pause(&pace.scope, pace.window_ms);
                }
                Ok(())
            }
            Ok(Admission::Deferred { retry_after_ms, scope, .. }) => {
                let full = paces.iter().find(|pace| pace.scope == scope).unwrap_or(first);
                self.pause(&full.scope, retry_after_ms);
                Err(limited(full, retry_after_ms.max(1)))
            }
            Err(error) => {
                if self.said.allows("limits", self.clock.now_ms()) {
                    tracing::warn!(%error, "pacing waits for the limiter");
                }
                Err(limited(first, LIMITER_AWAY_MS))
            }
        }
    }

    /// Closes `scope` for `ms`, unless it is closed for longer already.
    pub fn pause(&self, scope: &str, ms: u64) {
        let now = self.clock.now_ms();
        let until = now.saturating_add(ms.min(MAX_PAUSE_MS));
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        if free_at.len() >= MAX_PAUSES {
            free_at.retain(|_, at| *at > now);
        }
        if free_at.len() < MAX_PAUSES || free_at.contains_key(scope) {
            let at = free_at.entry(scope.to_owned()).or_insert(until);
            *at = (*at).max(until);
        }
    }
}

#[cfg(test)]
mod tests {
    use aof_shared::backend::open_embedded;
    use aof_shared::clock::ManualClock;
    use aof_shared::lifecycle::Lifecycle;

    use super::*;

    fn pace(scope: &str, limit: u32, window_ms: u64) -> Pace {
        Pace { scope: scope.to_owned(), label: "test", limit, window_ms }
    }

    /// The wait that an admission asks for; 0 when it is granted.
    async fn wait(pacer: &Pacer, pace: &Pace) -> u64 {
        match pacer.admit(pace).await {
            Ok(()) => 0,
            Err(SendError::Limited { retry_after_ms, .. }) => retry_after_ms,
            Err(error) => panic!("{error}"),
        }
    }

    #[tokio::test]
    async fn windows_and_pauses_close_their_own_scope_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let clock = ManualClock::at(1_000_000);
        let ports = open_embedded(dir.path(), Arc::new(clock.clone()), &Lifecycle::new())
            .expect("it opens");
        let pacer = Pacer::new(ports.limits, Arc::new(clock.clone()));
        let (a, b) = (pace("post/C1", 1, 1_000), pace("post/C2", 1, 1_000));
        assert_eq!(wait(&pacer, &a).await, 0);
        assert_eq!(pacer.wait_ms(&a.scope), 1_000, "known without asking");
        assert_eq!(wait(&pacer, &a).await, 1_000);
        assert_eq!(wait(&pacer, &b).await, 0, "another channel is free");
        clock.advance_ms(1_001);
        assert_eq!(wait(&pacer, &a).await, 0);

        pacer.pause(&b.scope, 30_000);
        pacer.pause(&b.scope, 1);
        assert_eq!(wait(&pacer, &b).await, 30_000, "the longer pause counts");
        pacer.pause("post/C3", u64::MAX);
        assert_eq!(pacer.wait_ms("post/C3"), MAX_PAUSE_MS, "no platform closes it for ever");

        let tier = pace("update", 2, 60_000);
        assert_eq!((wait(&pacer, &tier).await, wait(&pacer, &tier).await), (0, 0));
        assert!(wait(&pacer, &tier).await > 50_000);
    }

    #[tokio::test]
    async fn all_gateways_share_a_window() {
        let dir = tempfile::tempdir().expect("a directory");
        let clock = ManualClock::at(1_000_000);
        let ports = open_embedded(dir.path(), Arc::new(clock.clone()), &Lifecycle::new())
            .expect("it opens");
        let one = Pacer::new(Arc::clone(&ports.limits), Arc::new(clock.clone()));
        let two = Pacer::new(ports.limits, Arc::new(clock.clone()));
        let channel = pace("post/C1", 1, 1_000);
        assert_eq!(wait(&one, &channel).await, 0);
        assert!(wait(&two, &channel).await > 0, "the other node must wait too");
    }
}
