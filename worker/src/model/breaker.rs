//! A circuit breaker: after enough failures in a row a provider is left alone for a
//! while, then one call at a time probes it, until one succeeds.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row that open the circuit.
const OPENS_AFTER: u32 = 8;
/// How long it stays open before a probe.
const OPEN_FOR: Duration = Duration::from_secs(15);

#[derive(Debug, Default)]
enum State {
    #[default]
    Closed,
    Open {
        until: Instant,
    },
    /// One probe is out.
    HalfOpen,
}

#[derive(Debug, Default)]
struct Inner {
    state: State,
    failures: u32,
}

/// The breaker of one provider.
#[derive(Debug, Default)]
pub(crate) struct Breaker(Mutex<Inner>);

impl Breaker {
    /// May a call go out now? `Err` says how long to wait.
    pub(crate) fn admit(&self) -> Result<(), Duration> {
        let mut inner = self.lock();
        match inner.state {
            State::Closed => Ok(()),
            State::HalfOpen => Err(OPEN_FOR),
            State::Open { until } => {
                let now = Instant::now();
                if now < until {
                    return Err(until - now);
                }
                inner.state = State::HalfOpen;
                Ok(())
            }
        }
    }

    /// A call that was admitted; one that is dropped without an end counts for nothing.
    pub(crate) fn attempt(&self) -> Attempt<'_> {
        Attempt { breaker: self, settled: false }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call on its way.
pub(crate) struct Attempt<'a> {
    breaker: &'a Breaker,
    settled: bool,
}

impl Attempt<'_> {
    /// The provider answered, if only to say that the request is wrong.
    pub(crate) fn succeeded(mut self) {
        self.settled = true;
        *self.breaker.lock() = Inner::default();
    }

    /// The provider did not answer.
    pub(crate) fn failed(mut self) {
        self.settled = true;
        let mut inner = self.breaker.lock();
        inner.failures += 1;
        if matches!(inner.state, State::HalfOpen) || inner.failures >= OPENS_AFTER {
            inner.state = State::Open { until: Instant::now() + OPEN_FOR };
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        // A cancelled probe must not keep everyone out: the next call probes.
        let mut inner = self.breaker.lock();
        if matches!(inner.state, State::HalfOpen) {
            inner.state = State::Open { until: Instant::now() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn opened() -> Breaker {
        let breaker = Breaker::default();
        for _ in 0..OPENS_AFTER {
            assert_eq!(breaker.admit(), Ok(()));
            breaker.attempt().failed();
        }
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn opens_then_lets_one_probe_through_and_closes_on_success() {
        let breaker = opened().await;
        assert!(breaker.admit().is_err(), "open");
        tokio::time::advance(OPEN_FOR).await;
        assert_eq!(breaker.admit(), Ok(()), "the probe");
        assert!(breaker.admit().is_err(), "only one probe");
        breaker.attempt().succeeded();
        assert_eq!(breaker.admit(), Ok(()), "closed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_probe_opens_again_and_a_cancelled_one_does_not_block() {
        let breaker = opened().await;
        tokio::time::advance(OPEN_FOR).await;
        assert_eq!(breaker.admit(), Ok(()));
        drop(breaker.attempt());
        assert_eq!(breaker.admit(), Ok(()), "the next call probes");
        breaker.attempt().failed();
        assert!(breaker.admit().is_err(), "open again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_between_failures_keeps_it_closed() {
        let breaker = Breaker::default();
        for _ in 0..5 {
            for _ in 1..OPENS_AFTER {
                breaker.attempt().failed();
            }
            breaker.attempt().succeeded();
        }
        assert_eq!(breaker.admit(), Ok(()));
    }
}
