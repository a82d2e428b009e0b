//! Makes instances out of accounts: one for each set of credentials, each of one tenant.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::config::Instance;
use crate::ids::{InstanceName, PlatformName, TenantId};
use crate::secret::Secret;

use super::finding::{At, Finding};
use super::instance::Account;
use super::link::error;
use super::platform::Platform;

/// Where an account is described.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'f> {
    pub(super) file: &'f Arc<Path>,
    pub(super) at: At,
    pub(super) by: By,
}

/// Who describes an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Daemon,
    Flow,
}

/// The accounts of all documents, joined by their credentials.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    entries: Vec<Entry>,
    by_key: HashMap<Key, usize>,
    by_tenant: HashMap<TenantId, Vec<usize>>,
}

/// What two descriptions of the same account have in common.
type Key = (PlatformName, Secret, Vec<String>);

#[derive(Debug)]
struct Entry {
    instance: Instance,
    named: Option<InstanceName>,
    file: Arc<Path>,
    at: At,
    by: By,
}

impl Accounts {
    /// Adds what one place says, unless it says no credentials.
    pub(super) fn add(
        &mut self,
        account: &Account,
        tenant: &TenantId,
        origin: Origin<'_>,
        findings: &mut Vec<Finding>,
    ) {
        let Some(key) = key(account) else { return };
        if let Some(&number) = self.by_key.get(&key) {
            merge(&mut self.entries[number], account, tenant, (origin, findings));
            return;
        }
        let number = self.entries.len();
        let instance = Instance {
            name: InstanceName::new("default").expect("a plain word"),
            tenant: tenant.clone(),
            platform: account.platform.clone(),
            bot_token: account.bot_token.clone(),
            signing_secret: account.signing_secret.clone(),
            api_base_url: account.api_base_url.clone(),
            needs_channel_names: false,
            settings: account.settings.clone(),
        };
        let (file, at, by) = (Arc::clone(origin.file), origin.at, origin.by);
        self.entries.push(Entry { instance, named: account.name.clone(), file, at, by });
        self.by_key.insert(key, number);
        self.by_tenant.entry(tenant.clone()).or_default().push(number);
    }

    /// The number of the account with these credentials.
    pub(super) fn number(&self, account: &Account) -> Option<usize> {
        self.by_key.get(&key(account)?).copied()
    }

    /// Gives every account its name, unique on its platform.
    ///
    /// The name in the manifest, else `default` for the daemon's, else the tenant's name
    /// when the tenant has one account there, else with part of the token's hash.
    pub(super) fn name_all(&mut self, findings: &mut Vec<Finding>) {
        self.one_default(findings);
        let mut taken: HashSet<(PlatformName, InstanceName)> = HashSet::new();
        let mut count: HashMap<(PlatformName, TenantId), usize> = HashMap::new();
        for entry in &self.entries {
            let owner = (entry.instance.platform.clone(), entry.instance.tenant.clone());
            *count.entry(owner).or_default() += 1;
        }
        for entry in &mut self.entries {
            let Some(name) = entry.named.clone() else { continue };
            if !taken.insert((entry.instance.platform.clone(), name.clone())) {
                let message = "another account of this platform has the same `instance` name";
                findings.push(error("duplicate-name", &entry.file, entry.at, message));
            }
            entry.instance.name = name;
        }
        let rank = |by: By| usize::from(by == By::Flow);
        let mut open: Vec<&mut Entry> =
            self.entries.iter_mut().filter(|e| e.named.is_none()).collect();
        open.sort_by_key(|entry| rank(entry.by));
        for entry in open {
            let instance = &mut entry.instance;
            let owner = (instance.platform.clone(), instance.tenant.clone());
            let single = count.get(&owner) == Some(&1);
            let short = match entry.by {
                By::Daemon => Some("default"),
                By::Flow => single.then_some(instance.tenant.as_str()),
            };
            let short = short.and_then(|name| InstanceName::new(name).ok());
            let free = short.filter(|n| !taken.contains(&(instance.platform.clone(), n.clone())));
            instance.name = free.unwrap_or_else(|| hashed_name(instance));
            taken.insert((instance.platform.clone(), instance.name.clone()));
        }
    }

    /// Two accounts of a platform cannot both be meant by an address without a name.
    fn one_default(&self, findings: &mut Vec<Finding>) {
        let mut first: HashMap<&PlatformName, &Entry> = HashMap::new();
        for entry in self.entries.iter().filter(|e| is_default(&e.instance)) {
            let Some(other) = first.insert(&entry.instance.platform, entry) else { continue };
            let message = format!(
                "two accounts of {} have `is_default`; the other is at {}:{}",
                entry.instance.platform,
                other.file.display(),
                other.at.line
            );
            findings.push(error("two-defaults", &entry.file, entry.at, message));
        }
    }

    /// The account with `number`.
    pub(super) fn instance(&self, number: usize) -> &Instance {
        &self.entries[number].instance
    }

    /// The tenant's accounts on `platform`, or on any.
    pub(super) fn of<'a>(
        &'a self,
        tenant: &TenantId,
        platform: Option<&'a PlatformName>,
    ) -> impl Iterator<Item = usize> + 'a {
        let numbers = self.by_tenant.get(tenant).map(Vec::as_slice).unwrap_or_default();
        let fits = move |n: &usize| platform.is_none_or(|p| p == &self.instance(*n).platform);
        numbers.iter().copied().filter(fits)
    }

    /// The tenant's account called `name` on `platform`.
    pub(super) fn named(
        &self,
        tenant: &TenantId,
        platform: &PlatformName,
        name: &InstanceName,
    ) -> Option<usize> {
        self.of(tenant, Some(platform)).find(|n| &self.instance(*n).name == name)
    }

    /// Some flow filters by names of its channels.
    pub(super) fn resolve_channels(&mut self, number: usize) {
        self.entries[number].instance.needs_channel_names = true;
    }

    /// Every account.
    pub(super) fn instances(&self) -> Vec<Arc<Instance>> {
        self.entries.iter().map(|entry| Arc::new(entry.instance.clone())).collect()
    }
}

fn is_default(instance: &Instance) -> bool {
    let set = instance.settings.get("is_default");
    set.is_some_and(|value| value.as_bool() == Some(true) || value.as_str() == Some("true"))
}

fn key(account: &Account) -> Option<Key> {
    let secret = account.bot_token.as_ref().or(account.signing_secret.as_ref())?;
    let mut told_apart = account.discriminator.clone();
    if account.platform.as_str() == "evolution" {
        told_apart.extend(account.name.iter().map(ToString::to_string));
    }
    Some((account.platform.clone(), secret.clone(), told_apart))
}

/// Joins another description into `entry`: it may add, and must not contradict.
fn merge(
    entry: &mut Entry,
    account: &Account,
    tenant: &TenantId,
    (origin, findings): (Origin<'_>, &mut Vec<Finding>),
) {
    let first = |entry: &Entry| format!("{}:{}", entry.file.display(), entry.at.line);
    if &entry.instance.tenant != tenant {
        let message =
            format!("these credentials belong to another organization, by {}", first(entry));
        let help = "an account has one organization: use other credentials, or give the \
                    account's `organization` in `DaemonConfig`";
        findings.push(error("two-tenants", origin.file, origin.at, message).help(help));
    }
    let clash = join(&mut entry.instance.signing_secret, &account.signing_secret)
        | join(&mut entry.instance.api_base_url, &account.api_base_url)
        | join(&mut entry.named, &account.name);
    if clash {
        let message = format!("the same account is described differently at {}", first(entry));
        let help = "make secret, `api_base_url` and `instance` agree, or leave them out here";
        findings.push(error("account-conflict", origin.file, origin.at, message).help(help));
    }
    add_settings(&mut entry.instance.settings, &account.settings);
}

fn add_settings(
    into: &mut BTreeMap<String, serde_json::Value>,
    from: &BTreeMap<String, serde_json::Value>,
) {
    for (key, value) in from {
        if !into.contains_key(key) {
            into.insert(key.clone(), value.clone());
        }
    }
}

/// Fills `into` if it is empty; true when both say something different.
fn join<T: Clone + PartialEq>(into: &mut Option<T>, from: &Option<T>) -> bool {
    if into.is_none() {
        into.clone_from(from);
    }
    from.is_some() && into != from
}

/// Longest part of a tenant's name in front of the hash, in bytes.
const MAX_TENANT_BYTES: usize = 119;

fn hashed_name(instance: &Instance) -> InstanceName {
    let secret = instance.bot_token.as_ref().or(instance.signing_secret.as_ref());
    let mut content = secret.map_or("", Secret::expose).to_owned();
    // Numbers of one WhatsApp app share their token.
    for key in Platform::of_type(instance.platform.as_str()).map_or(&[][..], |p| p.account) {
        content.extend(instance.settings.get(*key).map(ToString::to_string));
    }
    let digest = Sha256::digest(content.as_bytes());
    let tenant: String = instance.tenant.as_str().chars().take(MAX_TENANT_BYTES).collect();
    InstanceName::new(format!("{tenant}-{}", hex::encode(&digest[..4])))
        .expect("a shortened name and hex digits")
}
