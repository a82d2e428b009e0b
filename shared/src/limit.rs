//! The limits port: rate windows, concurrency leases, day budgets; exact across workers.
//!
//! An adapter MUST pass `contract` unchanged. What it promises:
//!
//! - **exact**: no sliding window of `window_ms` ever holds more than `limit` admissions.
//! - **all or nothing**: a decision over several scopes takes from all of them or none.
//! - **nothing leaks**: a lease that is not renewed for its ttl is free again.
//! - **days last**: day budgets survive a restart.

#[cfg(any(test, feature = "testing"))]
pub mod contract;
pub(crate) mod embedded;
#[cfg(any(test, feature = "testing"))]
pub mod faults;
pub mod redis;

use async_trait::async_trait;

use crate::queue::BoxError;

/// Why no decision was made. Work waits then; nothing runs unlimited.
#[derive(Debug, thiserror::Error)]
#[error("limits are unavailable: {reason}")]
pub struct LimitError {
    /// What was wrong, in lower case.
    pub reason: String,
    /// The cause.
    #[source]
    pub source: Option<BoxError>,
}

/// A rate window: at most `limit` admissions in any `window_ms`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Who shares it, for example `org/acme/hour`.
    pub scope: String,
    /// At most so many.
    pub limit: u32,
    /// In any stretch of so many milliseconds.
    pub window_ms: u64,
}

/// A lease on one of `limit` places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Who shares them, for example `user/acme/slack/U1`.
    pub scope: String,
    /// How many there are.
    pub limit: u32,
}

/// What is asked for at once.
#[derive(Debug, Clone, Default)]
pub struct Demand {
    /// Rate windows to take one admission from each.
    pub windows: Vec<Window>,
    /// Places to take one of each.
    pub places: Vec<Places>,
    /// Who holds the places, unique a delivery; asking again with the same holder
    /// renews and takes nothing twice.
    pub holder: String,
    /// The places are free again after this long without [`Limits::renew`]; 0 when there are
    /// none, and asking again is a new demand.
    pub ttl_ms: u64,
}

/// The answer to a [`Demand`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// All taken.
    Granted,
    /// Nothing taken. Ask again in `retry_after_ms`.
    Deferred {
        /// The scope that said no.
        scope: String,
        /// When it may say yes, as a delay; at least 1.
        retry_after_ms: u64,
    },
}

/// Rate windows, places and budgets.
#[async_trait]
pub trait Limits: Send + Sync {
    /// Decides a demand.
    ///
    /// # Errors
    /// [`LimitError`]; what was taken if only the answer got lost is the holder's: asking
    /// again takes nothing twice. Without a ttl a window admission may stay spent.
    async fn admit(&self, demand: &Demand) -> Result<Admission, LimitError>;

    /// Keeps a holder's places for another `ttl_ms`. `false`: some were lost.
    ///
    /// # Errors
    /// [`LimitError`].
    async fn renew(&self, demand: &Demand) -> Result<bool, LimitError>;

    /// Gives a holder's places back. Window admissions stay spent.
    ///
    /// # Errors
    /// [`LimitError`]; they are free after their ttl.
    async fn release(&self, demand: &Demand) -> Result<(), LimitError>;

    /// Adds `amount` to the counter `scope` of the UTC day `day` (days since the Unix
    /// epoch) and returns the new total. `charge_id` makes it happen once.
    ///
    /// # Errors
    /// [`LimitError`].
    async fn charge(
        &self,
        scope: &str,
        day: u32,
        amount: u64,
        charge_id: &str,
    ) -> Result<u64, LimitError>;

    /// The counter's total for that day.
    ///
    /// # Errors
    /// [`LimitError`].
    async fn spent(&self, scope: &str, day: u32) -> Result<u64, LimitError>;
}
