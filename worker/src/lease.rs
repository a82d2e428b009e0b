//! How long nobody else can have been given a run, as far as this worker knows.
//!
//! A process that is frozen, or cut off from everything, learns nothing of its run's new
//! holder. Its own clock tells it that there may be one.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A lease that is renewed while a run lives.
pub(crate) struct Lease {
    length: Duration,
    until: Mutex<Instant>,
}

impl Lease {
    /// One that begins now and lasts for the ack wait.
    pub(crate) fn of(ack_wait_ms: u64) -> Self {
        let length = Duration::from_millis(ack_wait_ms);
        Self { length, until: Mutex::new(Instant::now() + length) }
    }

    /// The queue or the limits kept it, as they were asked to at `asked`.
    pub(crate) fn renew(&self, asked: Instant) {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        *until = (asked + self.length).max(*until);
    }

    /// True when another worker may have the run: nothing of it may start here.
    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lease_lasts_from_when_it_was_asked_for_and_no_longer() {
        let lease = Lease::of(5_000);
        tokio::time::advance(Duration::from_millis(4_000)).await;
        let asked = Instant::now();
        // The answer took its time.
        tokio::time::advance(Duration::from_millis(900)).await;
        lease.renew(asked);
        tokio::time::advance(Duration::from_millis(4_099)).await;
        assert!(!lease.is_over());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(lease.is_over(), "frozen, or cut off");
        lease.renew(Instant::now());
        assert!(!lease.is_over());
    }
}
