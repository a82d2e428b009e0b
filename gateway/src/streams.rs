//! Counts the streams that each account has open, and refuses more than its share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aof_shared::ids::TenantId;

use crate::problem::Problem;

/// Streams and waiting chats that one account may have open on one gateway.
pub(crate) const MAX_STREAMS_PER_TENANT: usize = 256;

/// The streams open now, by tenant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Streams(Arc<Mutex<HashMap<TenantId, usize>>>);

impl Streams {
    /// Takes a place for one stream, until the permit is dropped.
    ///
    /// # Errors
    /// 429 when the account has [`MAX_STREAMS_PER_TENANT`] open.
    pub(crate) fn open(&self, tenant: &TenantId) -> Result<StreamPermit, Problem> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(tenant.clone()).or_default();
        if *count >= MAX_STREAMS_PER_TENANT {
            return Err(Problem::too_many_streams(MAX_STREAMS_PER_TENANT));
        }
        *count += 1;
        Ok(StreamPermit { streams: self.clone(), tenant: tenant.clone() })
    }
}

/// One open stream.
#[derive(Debug)]
pub(crate) struct StreamPermit {
    streams: Streams,
    tenant: TenantId,
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut open = self.streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tenants_streams_are_capped_and_cost_another_nothing() {
        let streams = Streams::default();
        let [a, b] = ["a", "b"].map(|n| TenantId::new(n).expect("a plain name"));
        let held: Vec<_> =
            (0..MAX_STREAMS_PER_TENANT).map(|_| streams.open(&a).expect("below the cap")).collect();
        assert!(streams.open(&a).is_err());
        assert!(streams.open(&b).is_ok());
        drop(held);
        assert!(streams.open(&a).is_ok());
        assert!(streams.0.lock().expect("no test thread panicked").is_empty());
    }
}
