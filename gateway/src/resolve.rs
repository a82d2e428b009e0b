//! Channel names: consumes requests to look one up, writes the store. Never decides a
//! route, and no ingress ever waits for it.
//!
//! Flows may name channels, events carry ids. Names are read at the start, every ten
//! minutes, when the configuration changes, and when a message comes from a channel nobody asked about; until
//! then such a flow does not match (platforms.md, *Channel names*).

mod directory;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use aof_shared::config::{Instance, Snapshot};
use aof_shared::ids::{InstanceName, PlatformName, TenantId};
use aof_shared::lifecycle::Lifecycle;
use aof_shared::limit::{Admission, Demand, Limits, Window};
use aof_shared::node::{Health, Node};
use aof_shared::subject::LiveSubject;

use self::directory::Directory;
use crate::reply::accounts::Accounts;
use crate::reply::port::SendError;

/// Platforms where channels have names that flows may say.
const NAMING: [&str; 2] = ["discord", "slack"];
/// Lookups at work or waiting for their admission; more are dropped, and asked for again
/// with the channel's next message.
const MAX_LOOKUPS: usize = 1_024;
/// Attempts to read all names of an account; afterwards only single lookups go on.
const MAX_WARM_ATTEMPTS: u32 = 8;
/// First pause after a failed attempt; doubles each time, up to five minutes.
const WARM_PAUSE_MS: u64 = 2_000;
/// Longest pause between attempts.
const MAX_WARM_PAUSE_MS: u64 = 300_000;
/// All names are read again after this long, so that a rename shows up; longer than all
/// attempts of one reading together (510 s).
const REFRESH_MS: u64 = 600_000;
/// Attempts of one lookup.
const MAX_LOOKUP_ATTEMPTS: u32 = 3;
/// A channel is looked up by one gateway in this time, in ms: requests for it are a second
/// apart.
const CLAIM_MS: u64 = 900;
/// Pause when the backend's signals are away.
const LISTEN_PAUSE_MS: u64 = 1_000;
/// Longest id of a channel that is looked up; Slack's have 9 to 12 characters.
const MAX_CHANNEL_BYTES: usize = 64;

/// A request to look a channel up, on `LiveSubject::resolve(platform)`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Request {
    /// Whose account.
    pub tenant: TenantId,
    /// The account.
    pub instance: InstanceName,
    /// The channel's platform id.
    pub channel: String,
    /// Ask even though the name was asked lately: the platform said that it changed.
    #[serde(default)]
    pub changed: bool,
}

/// Starts looking names up. Returns at once; what fails is logged and tried again.
pub async fn start(node: &Node) {
    let paced = match crate::reply::paced(node) {
        Ok(paced) => paced,
        Err(error) => {
            tracing::error!(%error, "channel names cannot be looked up");
            return;
        }
    };
    let resolver = Arc::new(Resolver {
        directory: Directory::new(&paced, node.ports.clone(), node.config.clone()),
        accounts: Accounts::new(node.config.clone()),
        limits: Arc::clone(&node.ports.limits),
        asking: Mutex::default(),
        lifecycle: node.lifecycle.clone(),
        health: node.health.clone(),
    });
    for platform in NAMING {
        let platform = PlatformName::new(platform).expect("a plain constant");
        node.lifecycle.spawn(listen(node.clone(), Arc::clone(&resolver), platform));
    }
    node.lifecycle.spawn(watch(node.clone(), resolver));
}

struct Resolver {
    directory: Directory,
    accounts: Accounts,
    limits: Arc<dyn Limits>,
    /// Lookups at work: the same channel is asked for once.
    asking: Mutex<HashSet<(PlatformName, Request)>>,
    lifecycle: Lifecycle,
    health: Health,
}

/// Answers requests until told to stop.
async fn listen(node: Node, resolver: Arc<Resolver>, platform: PlatformName) {
    let subject = LiveSubject::resolve(&platform);
    loop {
        let mut listener = match node.ports.live.listen(&subject).await {
            Ok(listener) => listener,
            Err(error) => {
                tracing::warn!(%error, "requests for channel names cannot be heard");
                if resolver.pause(LISTEN_PAUSE_MS).await { continue } else { return }
            }
        };
        loop {
            let signal = tokio::select! {
                biased;
                () = node.lifecycle.stopped() => return,
                signal = listener.next() => signal,
            };
            match signal {
                Some(payload) => resolver.take(&platform, &payload),
                None => break,
            }
        }
        if !resolver.pause(LISTEN_PAUSE_MS).await {
            return;
        }
    }
}

/// Reads all names of every account that needs them: now, when it changes, and again
/// every ten minutes.
async fn watch(node: Node, resolver: Arc<Resolver>) {
    let mut snapshots = node.config.watch();
    let mut known: HashSet<Account> = HashSet::new();
    let mut refresh = tokio::time::Instant::now() + Duration::from_millis(REFRESH_MS);
    loop {
        let snapshot = snapshots.borrow_and_update().clone();
        let needed = needing(&snapshot);
        for (account, instance) in &needed {
            if !known.contains(account) {
                let resolver = Arc::clone(&resolver);
                let instance = Arc::clone(instance);
                node.lifecycle.spawn(async move { resolver.warm(&instance).await });
            }
        }
        known = needed.into_iter().map(|(account, _)| account).collect();
        tokio::select! {
            biased;
            () = node.lifecycle.stopped() => return,
            changed = snapshots.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(refresh) => {
                refresh += Duration::from_millis(REFRESH_MS);
                known.clear();
            }
        }
    }
}

/// What makes an account another one: whose, which, and what it logs in with where.
type Account =
    (TenantId, PlatformName, InstanceName, Option<String>, Option<aof_shared::secret::Secret>);

fn needing(snapshot: &Snapshot) -> Vec<(Account, Arc<Instance>)> {
    let wants = |i: &&Arc<Instance>| NAMING.contains(&i.platform.as_str()) && i.needs_channel_names;
    let account = |i: &Instance| {
        let Instance { tenant, platform, name, .. } = i.clone();
        (tenant, platform, name, i.api_base_url.clone(), i.bot_token.clone())
    };
    snapshot.instances.iter().filter(wants).map(|i| (account(i), Arc::clone(i))).collect()
}

impl Resolver {
    /// Takes a request if it is to be trusted and nobody is at it.
    fn take(self: &Arc<Self>, platform: &PlatformName, payload: &[u8]) {
        let Ok(request) = serde_json::from_slice::<Request>(payload) else {
            tracing::debug!("a request for a channel name could not be read");
            return;
        };
        let plain = request.channel.bytes().all(|b| b.is_ascii_alphanumeric());
        if !plain || request.channel.is_empty() || request.channel.len() > MAX_CHANNEL_BYTES {
            return;
        }
        let Some(instance) = self.accounts.get(&request.tenant, platform, &request.instance) else {
            tracing::debug!(tenant.id = %request.tenant, "no such account to look a channel up");
            return;
        };
        {
            let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
            let new = (platform.clone(), request.clone());
            if asking.len() >= MAX_LOOKUPS || !asking.insert(new) {
                return;
            }
        }
        let (resolver, platform) = (Arc::clone(self), platform.clone());
        self.lifecycle.spawn(async move {
            resolver.look_up(&instance, &request).await;
            let mut asking = resolver.asking.lock().unwrap_or_else(PoisonError::into_inner);
            asking.remove(&(platform, request));
        });
    }

    async fn look_up(&self, instance: &Instance, request: &Request) {
        if !self.is_ours(instance, request).await {
            return;
        }
        for _ in 0..MAX_LOOKUP_ATTEMPTS {
            let result = self.directory.look_up(instance, &request.channel, request.changed).await;
            match result {
                Ok(()) => return self.warn(instance, None),
                Err(error) => {
                    self.warn(instance, Some(&error));
                    let Some(wait_ms) = wait_after(&error, WARM_PAUSE_MS) else {
                        tracing::warn!(tenant.id = %instance.tenant, instance.name = %instance.name,
                            %error, "a channel's name cannot be looked up");
                        return;
                    };
                    if !self.pause(wait_ms).await {
                        return;
                    }
                }
            }
        }
    }

    /// Every gateway hears a request; the first to claim it looks the channel up. Without
    /// a limiter nobody does: it is asked for again with the channel's next message.
    async fn is_ours(&self, instance: &Instance, request: &Request) -> bool {
        let Instance { tenant, platform, name, .. } = instance;
        let scope = format!("resolve/{tenant}/{platform}/{name}/{}", request.channel);
        let window = Window { scope, limit: 1, window_ms: CLAIM_MS };
        let demand = Demand { windows: vec![window], ..Demand::default() };
        matches!(self.limits.admit(&demand).await, Ok(Admission::Granted))
    }

    async fn warm(&self, instance: &Instance) {
        let mut cursor = None;
        let mut failures = 0;
        while failures < MAX_WARM_ATTEMPTS && !self.lifecycle.stopping() {
            let pause = (WARM_PAUSE_MS << failures).min(MAX_WARM_PAUSE_MS);
            let error = match self.directory.read_all(instance, &mut cursor).await {
                Ok(channels) => {
                    tracing::info!(tenant.id = %instance.tenant, instance.name = %instance.name,
                        channels, "channel names are known");
                    return self.warn(instance, None);
                }
                Err(error) => error,
            };
            self.warn(instance, Some(&error));
            let Some(wait_ms) = wait_after(&error, pause) else {
                tracing::error!(tenant.id = %instance.tenant, instance.name = %instance.name,
                    %error, "channel names cannot be read: flows that name channels match only \
                    those that are looked up one by one");
                return;
            };
            if !matches!(error, SendError::Limited { .. }) {
                failures += 1;
            }
            if !self.pause(wait_ms).await {
                return;
            }
        }
    }

    /// Tells operators of a failure, once in the log, and that it is over. Being over a
    /// limit passes by itself.
    fn warn(&self, instance: &Instance, error: Option<&SendError>) {
        if matches!(error, Some(SendError::Limited { .. })) {
            return;
        }
        let Instance { tenant, platform, name, .. } = instance;
        let part = format!("channel names of {tenant}/{platform}/{name}");
        let warning = error.map(|error| format!("{error}; flows that name channels may not match"));
        if warning.is_some() && !self.health.warnings().contains_key(&part) {
            let warning = warning.as_deref().unwrap_or_default();
            tracing::warn!(tenant.id = %instance.tenant, instance.name = %instance.name,
                warning, "channel names cannot be read; it is tried again");
        }
        self.health.warn(part, warning);
    }

    /// Waits; `false` when told to stop meanwhile.
    async fn pause(&self, ms: u64) -> bool {
        tokio::select! {
            biased;
            () = self.lifecycle.stopped() => false,
            () = tokio::time::sleep(Duration::from_millis(ms)) => true,
        }
    }
}

/// How long to wait after `error`; `None`: trying again does not help.
fn wait_after(error: &SendError, pause_ms: u64) -> Option<u64> {
    match error {
        SendError::Limited { retry_after_ms, .. } => Some(*retry_after_ms),
        SendError::Unavailable { .. } | SendError::Unknown { .. } => Some(pause_ms),
        SendError::Refused { .. } | SendError::Gone => None,
    }
}

#[cfg(test)]
mod tests;
