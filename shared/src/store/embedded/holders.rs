//! Who works on which run. In memory: every holder is in this process, and ends with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::ids::{RunId, TenantId};

/// The runs that somebody works on.
#[derive(Clone, Default)]
pub(super) struct Holders(Arc<Mutex<HashMap<(TenantId, RunId), Uuid>>>);

impl Holders {
    fn lock(&self) -> MutexGuard<'_, HashMap<(TenantId, RunId), Uuid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `holder` has the run from now on.
    pub(super) fn set(&self, tenant: &TenantId, run: RunId, holder: Uuid) {
        self.lock().insert((tenant.clone(), run), holder);
    }

    /// True when nobody else has taken it since.
    pub(super) fn is(&self, tenant: &TenantId, run: RunId, holder: Uuid) -> bool {
        self.lock().get(&(tenant.clone(), run)).is_none_or(|holds| *holds == holder)
    }

    /// The run is over.
    pub(super) fn forget(&self, tenant: &TenantId, run: RunId) {
        self.lock().remove(&(tenant.clone(), run));
    }
}
