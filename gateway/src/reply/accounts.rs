//! Finds the account that a reply goes out through, in the configuration in force.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aof_shared::config::{Config, Instance, Snapshot};
use aof_shared::ids::{InstanceName, PlatformName, TenantId};

/// What names an account. The tenant is part of it: nobody speaks as another's.
type Key = (TenantId, PlatformName, InstanceName);

/// Platform accounts by name, built once a revision. Cheap to clone.
#[derive(Clone)]
pub struct Accounts {
    config: Config,
    index: Arc<Mutex<Option<Index>>>,
}

struct Index {
    of: Arc<Snapshot>,
    by_name: HashMap<Key, Arc<Instance>>,
}

impl Accounts {
    /// Looks accounts up in `config`.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config, index: Arc::default() }
    }

    /// The configuration in force.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.config.current()
    }

    /// The account of `tenant` with this name; `None` when it has none.
    #[must_use]
    pub fn get(
        &self,
        tenant: &TenantId,
        platform: &PlatformName,
        instance: &InstanceName,
    ) -> Option<Arc<Instance>> {
        let current = self.config.current();
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if index.as_ref().is_none_or(|built| !Arc::ptr_eq(&built.of, &current)) {
            *index = Some(Index::of(current));
        }
        let key = (tenant.clone(), platform.clone(), instance.clone());
        index.as_ref().and_then(|built| built.by_name.get(&key).cloned())
    }
}

impl Index {
    fn of(snapshot: Arc<Snapshot>) -> Self {
        let key = |i: &Instance| (i.tenant.clone(), i.platform.clone(), i.name.clone());
        let by_name = snapshot.instances.iter().map(|i| (key(i), Arc::clone(i))).collect();
        Self { of: snapshot, by_name }
    }
}
