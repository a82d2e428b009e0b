//! The lease on an account's connection: a place of the limits port, one a cluster.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use aof_shared::config::Instance;
use aof_shared::lifecycle::Lifecycle;
use aof_shared::limit::{Admission, Demand, LimitError, Limits, Places};

use super::pause;

/// A holder that is silent for so long has lost it: the longest time without a connection
/// after a node died, beside the moment to connect.
pub(super) const LEASE_MS: u64 = 10_000;
/// Time between renewals.
const RENEW_MS: u64 = 2_500;
/// Time between attempts to get it.
const ASK_MS: u64 = 1_500;

/// A lease that is held.
pub(super) struct Lease {
    limits: Arc<dyn Limits>,
    demand: Demand,
    confirmed: Confirmed,
}

/// When the lease was confirmed last.
#[derive(Clone)]
pub(super) struct Confirmed(Arc<Mutex<Instant>>);

impl Confirmed {
    /// Whether nobody else can have the lease now.
    pub(super) fn is_now(&self) -> bool {
        let at = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        at.elapsed() < Duration::from_millis(LEASE_MS)
    }

    fn set(&self, at: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }
}

impl Lease {
    /// Waits for the account's lease; `None` when told to stop. While the limits are away
    /// nobody gets it.
    pub(super) async fn take(
        limits: Arc<dyn Limits>,
        instance: &Instance,
        lifecycle: &Lifecycle,
    ) -> Option<Self> {
        let Instance { tenant, platform, name, .. } = instance;
        let scope = format!("connection/{tenant}/{platform}/{name}");
        let demand = Demand {
            places: vec![Places { scope, limit: 1 }],
            holder: Uuid::now_v7().to_string(),
            ttl_ms: LEASE_MS,
            ..Demand::default()
        };
        while !lifecycle.stopping() {
            let asked_at = Instant::now();
            match limits.admit(&demand).await {
                Ok(Admission::Granted) => {
                    let confirmed = Confirmed(Arc::new(Mutex::new(asked_at)));
                    return Some(Self { limits, demand, confirmed });
                }
                Ok(Admission::Deferred { .. }) => {}
                Err(error) => tracing::debug!(%error, "a lease is waited for"),
            }
            if !pause(lifecycle, ASK_MS).await {
                break;
            }
        }
        None
    }

    /// Says later whether it still is this gateway's.
    pub(super) fn confirmed(&self) -> Confirmed {
        self.confirmed.clone()
    }

    /// Renews it when it is time, and returns once it is lost. Limits that are away take it
    /// from nobody: the holder goes on, since messages can be taken in without them.
    pub(super) async fn lost(&mut self) {
        loop {
            tokio::time::sleep(Duration::from_millis(RENEW_MS)).await;
            let asked_at = Instant::now();
            match self.renewed().await {
                Ok(true) => self.confirmed.set(asked_at),
                Ok(false) => return,
                Err(error) => tracing::debug!(%error, "a lease is kept without being renewed"),
            }
        }
    }

    /// A lease that was forgotten (the limits' server lost its memory) is taken anew.
    async fn renewed(&self) -> Result<bool, LimitError> {
        if self.limits.renew(&self.demand).await? {
            return Ok(true);
        }
        Ok(self.limits.admit(&self.demand).await? == Admission::Granted)
    }

    /// Gives it back, so that another gateway need not wait for its end.
    pub(super) async fn release(self) {
        if let Err(error) = self.limits.release(&self.demand).await {
            tracing::debug!(%error, "a lease runs out by itself");
        }
    }
}
