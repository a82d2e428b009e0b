//! Time, passed in so that tests and the simulation own it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch, UTC.
pub type UnixMs = u64;

/// Tells the time. Roles and adapters ask it and never the operating system.
pub trait Clock: Send + Sync {
    /// Now.
    fn now_ms(&self) -> UnixMs;
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
    fn now_ms(&self) -> UnixMs {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// A clock that stands still until told to move.
#[derive(Debug, Clone, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// Starts at `now_ms`.
    #[must_use]
    pub fn at(now_ms: UnixMs) -> Self {
        Self(Arc::new(AtomicU64::new(now_ms)))
    }

    /// Moves forward by `ms` milliseconds.
    pub fn advance_ms(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> UnixMs {
        self.0.load(Ordering::SeqCst)
    }
}

/// `ms` as RFC 3339 in UTC with milliseconds, as the journal and logs write it.
#[must_use]
pub fn rfc3339(ms: UnixMs) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms}ms"), |t| format!("{t:.3}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn rfc3339_has_three_decimals_and_z() {
        assert_eq!(super::rfc3339(1_705_314_600_000), "2024-01-15T10:30:00.000Z");
    }
}
