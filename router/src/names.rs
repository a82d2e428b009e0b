//! Names of channels, as the gateway resolved and pinned them in the store.
//!
//! A name that is in the store stays what the store says: a rename on the platform
//! shows up only when the gateway's resolver has seen it. A name that is not there is
//! asked for over the live port, and the message waits; after [`GIVE_UP_AFTER_MS`]
//! without an answer the channel counts as unresolved, which fails closed.

use std::sync::Arc;

use aof_shared::clock::{Clock, UnixMs};
use aof_shared::ids::{InstanceName, PlatformName, TenantId};
use aof_shared::message::Message;
use aof_shared::queue::Live;
use aof_shared::store::{Ports, Store, StoreError};
use aof_shared::subject::LiveSubject;
use moka::sync::Cache;
use serde::Serialize;

/// Channels remembered, for all tenants together; about 200 bytes each.
const MAX_CHANNELS: u64 = 20_000;

/// A known name is taken from memory for this long.
const NAMED_FOR_MS: u64 = 60_000;

/// That a channel has no name is taken from memory for this long.
const NAMELESS_FOR_MS: u64 = 10_000;

/// That nobody resolved a channel yet is taken from memory for this long: less than
/// the time after which a waiting message comes back.
const UNKNOWN_FOR_MS: u64 = 100;

/// An answer "no such channel" is asked for again after this long, since the bot may
/// have been invited meanwhile. Nobody waits for it.
const ASK_AGAIN_AFTER_MS: u64 = 300_000;

/// Requests for one channel are this far apart; they may be lost.
const ASK_EVERY_MS: u64 = 1_000;

/// Messages wait this long for a name, counted from the first request for the channel,
/// not from the message: a backlog found after a restart gets its chance, and a channel
/// that cannot be resolved delays its first messages only.
pub(crate) const GIVE_UP_AFTER_MS: u64 = 10_000;

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
struct Place {
    tenant: TenantId,
    #[serde(skip)]
    platform: PlatformName,
    instance: InstanceName,
    channel: String,
}

/// What is known of a channel's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    /// Pinned in the store.
    Named(Arc<str>),
    /// The platform says there is no such channel.
    Nameless,
    /// Nobody asked the platform yet.
    Unknown,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    first_ms: UnixMs,
    last_ms: UnixMs,
}

/// Names of channels, with a bounded memory before the store.
pub(crate) struct Names {
    store: Arc<dyn Store>,
    live: Arc<dyn Live>,
    clock: Arc<dyn Clock>,
    seen: Cache<Place, (Name, UnixMs)>,
    asked: Cache<Place, Asked>,
}

impl Names {
    pub(crate) fn new(ports: &Ports) -> Self {
        Self {
            store: ports.store.clone(),
            live: ports.live.clone(),
            clock: ports.clock.clone(),
            seen: Cache::new(MAX_CHANNELS),
            asked: Cache::new(MAX_CHANNELS),
        }
    }

    /// What is known of the name of the message's channel.
    ///
    /// # Errors
    /// [`StoreError`]: try again later.
    pub(crate) async fn of(&self, message: &Message) -> Result<Name, StoreError> {
        let place = Place::of(message);
        let now_ms = self.clock.now_ms();
        if let Some((name, until_ms)) = self.seen.get(&place)
            && now_ms < until_ms
        {
            return Ok(name);
        }
        let Place { tenant, platform, instance, channel } = &place;
        let stored = match self.store.channel(tenant, platform, instance, channel).await {
            Err(StoreError::Corrupt { what, source }) => {
                tracing::warn!(tenant.id = %tenant, what, error = %source, "channel name unreadable");
                None
            }
            other => other?,
        };
        let asked_at_ms = stored.as_ref().map_or(now_ms, |s| s.asked_at_ms);
        let (name, keep_ms) = match stored.map(|s| s.name) {
            Some(Some(name)) => (Name::Named(Arc::from(name)), NAMED_FOR_MS),
            Some(None) => (Name::Nameless, NAMELESS_FOR_MS),
            None => (Name::Unknown, UNKNOWN_FOR_MS),
        };
        if name == Name::Nameless && now_ms.saturating_sub(asked_at_ms) > ASK_AGAIN_AFTER_MS {
            self.ask(&place).await;
        }
        self.seen.insert(place, (name.clone(), now_ms + keep_ms));
        Ok(name)
    }

    /// Asks for the name. True while an answer is worth waiting for.
    pub(crate) async fn awaited(&self, message: &Message) -> bool {
        let asked = self.ask(&Place::of(message)).await;
        self.clock.now_ms().saturating_sub(asked.first_ms) < GIVE_UP_AFTER_MS
    }

    async fn ask(&self, place: &Place) -> Asked {
        let now_ms = self.clock.now_ms();
        let earlier = self.asked.get(place);
        if let Some(asked) = earlier
            && now_ms.saturating_sub(asked.last_ms) < ASK_EVERY_MS
        {
            return asked;
        }
        let asked = Asked { first_ms: earlier.map_or(now_ms, |a| a.first_ms), last_ms: now_ms };
        self.asked.insert(place.clone(), asked);
        if let Ok(request) = serde_json::to_vec(place) {
            self.live.send(&LiveSubject::resolve(&place.platform), request.into()).await;
        }
        asked
    }
}

impl Place {
    fn of(message: &Message) -> Self {
        Self {
            tenant: message.tenant.clone(),
            platform: message.platform.clone(),
            instance: message.instance.clone(),
            channel: message.channel.id.clone(),
        }
    }
}
