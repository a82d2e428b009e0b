//! Finds the account that a webhook belongs to: by its path, then by the credential that verifies.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aof_shared::config::{Config, Instance, Snapshot};
use aof_shared::secret::Secret;

use crate::platform::{Claim, Facts, Platform, Sharing, Signed, Verified, setting};

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

/// Whether the instance is the one that an address without a name means.
pub(crate) fn is_default(instance: &Instance) -> bool {
    let set = instance.settings.get("is_default");
    set.is_some_and(|value| value.as_bool() == Some(true) || value.as_str() == Some("true"))
}

/// Who a request is from.
#[derive(Debug)]
pub(crate) enum Authenticated {
    /// A credential verified, and these instances of it are meant; at least one.
    As(Vec<Arc<Instance>>, Verified),
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
    let facts = platform.facts();
    let needs_claim = candidates.len() > 1 || candidates.iter().any(|i| is_pinned(facts, i));
    let claim = if needs_claim { platform.claim(signed) } else { Claim::default() };
    let each = platform.sharing() == Sharing::Each;
    let (fits, others): (Vec<_>, Vec<_>) =
        candidates.iter().partition(|instance| claim.fits(facts, instance));
    let others = if each { others } else { Vec::new() };
    let mut tried: Vec<&Secret> = Vec::new();
    for instance in fits.iter().chain(&others) {
        let Some(secret) = platform.secret(instance) else { continue };
        if tried.contains(&secret) {
            continue;
        }
        if tried.len() >= MAX_SECRETS_TRIED {
            break;
        }
        tried.push(secret);
        if let Some(verified) = platform.verify(signed, secret, instance) {
            let owners = fits.iter().filter(|i| platform.secret(i) == Some(secret)).copied();
            let owners = if each { every(facts, owners, instance) } else { one(facts, owners) };
            return owners.map_or(Authenticated::Ambiguous, |o| Authenticated::As(o, verified));
        }
    }
    Authenticated::Nobody
}

/// The one that names its workspace before those that do not; `None` when instances of
/// several tenants are left.
fn one<'a>(
    facts: &Facts,
    owners: impl Iterator<Item = &'a Arc<Instance>>,
) -> Option<Vec<Arc<Instance>>> {
    let mut owners: Vec<_> = owners.collect();
    if owners.iter().any(|i| is_pinned(facts, i)) {
        owners.retain(|i| is_pinned(facts, i));
    }
    let first = *owners.first()?;
    owners.iter().all(|i| i.tenant == first.tenant).then(|| vec![first.clone()])
}

/// One for each pin, else `verified`, to which nothing in the request is addressed; `None` when
/// several tenants claim one pin.
fn every<'a>(
    facts: &Facts,
    owners: impl Iterator<Item = &'a Arc<Instance>>,
    verified: &Arc<Instance>,
) -> Option<Vec<Arc<Instance>>> {
    let mut kept: Vec<Arc<Instance>> = Vec::new();
    for owner in owners {
        match kept.iter().find(|other| same_pins(facts, other, owner)) {
            None => kept.push(owner.clone()),
            Some(other) if other.tenant == owner.tenant => {}
            Some(_) => return None,
        }
    }
    if kept.is_empty() {
        kept.push(verified.clone());
    }
    Some(kept)
}

fn same_pins(facts: &Facts, a: &Instance, b: &Instance) -> bool {
    facts.pins.iter().all(|name| setting(a, name) == setting(b, name))
}

fn is_pinned(facts: &Facts, instance: &Instance) -> bool {
    facts.pins.iter().any(|name| setting(instance, name).is_some())
}

impl Claim {
    /// True unless `instance` names another workspace or app than the request does.
    fn fits(&self, facts: &Facts, instance: &Instance) -> bool {
        facts.pins.iter().all(|name| match setting(instance, name) {
            Some(wanted) => self.0.iter().any(|(pin, value)| pin == name && value == wanted),
            None => true,
        })
    }
}

#[cfg(test)]
mod tests;
