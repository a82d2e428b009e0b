//! Finds the account that a webhook belongs to: by its path, then by the credential that verifies.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aof_shared::config::{Config, Instance, Snapshot};
use aof_shared::secret::Secret;

use crate::platform::{Claim, Platform, Signed};
use crate::seen::Fingerprint;

/// Secrets tried for one request on a route without an instance: about 1 ms for a full body.
const MAX_SECRETS_TRIED: usize = 16;

/// The instances of one snapshot, by platform and by name.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    index: Mutex<Option<(Arc<Snapshot>, Arc<Index>)>>,
}

#[derive(Debug, Default)]
struct Index {
    by_platform: HashMap<String, Accounts>,
}

/// The instances of one platform. Lists are shared, so that a request copies none.
#[derive(Debug, Default)]
struct Accounts {
    all: Arc<Vec<Arc<Instance>>>,
    by_name: HashMap<String, Arc<Vec<Arc<Instance>>>>,
}

impl Directory {
    /// Instances that a request for `platform` and perhaps `name` may belong to.
    pub(crate) fn candidates(
        &self,
        config: &Config,
        platform: &str,
        name: Option<&str>,
    ) -> Arc<Vec<Arc<Instance>>> {
        let index = self.index(config);
        let accounts = index.by_platform.get(platform);
        let found = accounts.and_then(|accounts| match name {
            Some(name) => accounts.by_name.get(name),
            None => Some(&accounts.all),
        });
        found.cloned().unwrap_or_default()
    }

    fn index(&self, config: &Config) -> Arc<Index> {
        let snapshot = config.current();
        let mut held = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, index)) = held.as_ref()
            && Arc::ptr_eq(of, &snapshot)
        {
            return index.clone();
        }
        let index = Arc::new(Index::of(&snapshot));
        *held = Some((snapshot, index.clone()));
        index
    }
}

impl Index {
    fn of(snapshot: &Snapshot) -> Self {
        let mut index = Self::default();
        for instance in &snapshot.instances {
            let platform = instance.platform.as_str().to_owned();
            let name = instance.name.as_str().to_owned();
            let accounts = index.by_platform.entry(platform).or_default();
            Arc::make_mut(&mut accounts.all).push(instance.clone());
            Arc::make_mut(accounts.by_name.entry(name).or_default()).push(instance.clone());
        }
        index
    }
}

/// Who a request is from.
#[derive(Debug)]
pub(crate) enum Authenticated {
    /// This instance's credential verified.
    As(Arc<Instance>, Fingerprint),
    /// A credential verified that several tenants' instances share, and nothing in the
    /// request says which of them it is.
    Ambiguous,
    /// No credential verified.
    Nobody,
}

/// Verifies `signed` against the candidates' secrets. What the body claims only
/// narrows the choice until a secret has verified it.
pub(crate) fn authenticate(
    platform: &dyn Platform,
    candidates: &[Arc<Instance>],
    signed: &Signed<'_>,
) -> Authenticated {
    let needs_claim = candidates.len() > 1 || candidates.iter().any(|i| is_pinned(i));
    let claim = if needs_claim { platform.claim(signed) } else { Claim::default() };
    let fits: Vec<_> = candidates.iter().filter(|i| claim.fits(i)).collect();
    let mut tried: Vec<&Secret> = Vec::new();
    for instance in &fits {
        let Some(secret) = &instance.signing_secret else { continue };
        if tried.contains(&secret) {
            continue;
        }
        if tried.len() >= MAX_SECRETS_TRIED {
            break;
        }
        tried.push(secret);
        if let Some(fingerprint) = platform.verify(signed, secret) {
            let owners = fits.iter().filter(|i| i.signing_secret.as_ref() == Some(secret));
            return match owner(owners.copied()) {
                Some(instance) => Authenticated::As(instance.clone(), fingerprint),
                None => Authenticated::Ambiguous,
            };
        }
    }
    Authenticated::Nobody
}

/// The one that names its workspace before those that do not; `None` when instances of
/// several tenants are left.
fn owner<'a>(owners: impl Iterator<Item = &'a Arc<Instance>>) -> Option<&'a Arc<Instance>> {
    let mut owners: Vec<_> = owners.collect();
    if owners.iter().any(|i| is_pinned(i)) {
        owners.retain(|i| is_pinned(i));
    }
    let first = *owners.first()?;
    owners.iter().all(|i| i.tenant == first.tenant).then_some(first)
}

/// Settings that tie an instance to one workspace or app.
const PINS: [&str; 3] = ["team_id", "enterprise_id", "app_id"];

fn pin<'a>(instance: &'a Instance, name: &str) -> Option<&'a str> {
    instance.settings.get(name).and_then(|v| v.as_str()).filter(|v| !v.is_empty())
}

fn is_pinned(instance: &Instance) -> bool {
    PINS.iter().any(|name| pin(instance, name).is_some())
}

impl Claim {
    /// True unless `instance` names another workspace or app than the request does.
    fn fits(&self, instance: &Instance) -> bool {
        let claimed = [&self.team, &self.enterprise, &self.app];
        PINS.iter().zip(claimed).all(|(name, claimed)| match pin(instance, name) {
            Some(wanted) => claimed.as_deref() == Some(wanted),
            None => true,
        })
    }
}

#[cfg(test)]
mod tests;
