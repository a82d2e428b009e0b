//! Reads channel names from the platforms into the store, and says when a name moved.

mod servers;

use serde_json::{Value, json};

use aof_shared::config::{Config, Instance};
use aof_shared::store::{ChannelName, Ports, StoreError};

use crate::reply::discord::Discord;
use crate::reply::paced::Paced;
use crate::reply::port::SendError;
use crate::reply::slack::Slack;
use crate::reply::slack::client::Method;

/// A name younger than this is not asked for again.
const FRESH_MS: u64 = 600_000;
/// The same for "there is no such channel": the bot may have been invited since.
const FRESH_ABSENT_MS: u64 = 60_000;
/// Channels of one page; Slack advises at most 200.
const PAGE_CHANNELS: u32 = 200;
/// Pages read of one account: 10,000 channels. Others are looked up when they speak.
const MAX_PAGES: u32 = 50;

/// Where a reading stands, so that a limit in the middle does not start it anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    next: String,
    pages: u32,
    channels: usize,
    /// The app may not see private channels.
    public_only: bool,
}

/// Knows how names get into the store.
pub(super) struct Directory {
    slack: Slack,
    discord: Discord,
    ports: Ports,
    config: Config,
}

impl Directory {
    pub(super) fn new(paced: &Paced, ports: Ports, config: Config) -> Self {
        let (slack, discord) = (Slack::new(paced.clone()), Discord::new(paced.clone()));
        Self { slack, discord, ports, config }
    }

    /// Asks for one channel, unless its name is fresh and `changed` is not set.
    pub(super) async fn look_up(
        &self,
        instance: &Instance,
        channel: &str,
        changed: bool,
    ) -> Result<(), SendError> {
        let now_ms = self.ports.clock.now_ms();
        let known = self.known(instance, channel).await?;
        let fresh = known.as_ref().is_some_and(|known| {
            let fresh_ms = if known.name.is_some() { FRESH_MS } else { FRESH_ABSENT_MS };
            now_ms.saturating_sub(known.asked_at_ms) < fresh_ms
        });
        if fresh && !changed {
            return Ok(());
        }
        if instance.platform.as_str() == "discord" {
            return self.look_up_in_servers(instance, channel).await;
        }
        let body = json!({"channel": channel});
        let answer = self.slack.call(instance, Method::ChannelInfo, channel, &body).await;
        let name = match answer {
            Ok(answer) => answer.get("channel").and_then(name_of),
            Err(SendError::Refused { reason: "channel_not_found", .. }) => None,
            Err(error) => return Err(error),
        };
        let found = ChannelName { id: channel.to_owned(), name, asked_at_ms: now_ms };
        self.warn_of_moved(instance, &found, known.as_ref());
        self.put(instance, &[found]).await
    }

    /// Reads all names of `instance`, on from `cursor`; how many there were.
    pub(super) async fn read_all(
        &self,
        instance: &Instance,
        cursor: &mut Option<Cursor>,
    ) -> Result<usize, SendError> {
        if instance.platform.as_str() == "discord" {
            return self.read_servers(instance).await.map(|found| found.len());
        }
        let at = cursor.get_or_insert_default();
        while at.pages < MAX_PAGES {
            let answer = match self.page(instance, at).await {
                Err(SendError::Refused { reason: "missing_scope", .. }) if !at.public_only => {
                    tracing::info!(tenant.id = %instance.tenant, instance.name = %instance.name,
                        "the app lacks `groups:read`: private channels' names stay unknown");
                    at.public_only = true;
                    continue;
                }
                answer => answer?,
            };
            let found = self.found(&answer);
            self.warn_of_all_moved(instance, &found).await?;
            self.put(instance, &found).await?;
            at.pages += 1;
            at.channels += found.len();
            let next = answer.pointer("/response_metadata/next_cursor").and_then(Value::as_str);
            match next.filter(|next| !next.is_empty() && *next != at.next) {
                Some(next) => next.clone_into(&mut at.next),
                None => return Ok(at.channels),
            }
        }
        tracing::warn!(tenant.id = %instance.tenant, instance.name = %instance.name,
            channels = at.channels, "more channels than are read at once; \
            the others are looked up when they speak");
        Ok(at.channels)
    }

    async fn page(&self, instance: &Instance, at: &Cursor) -> Result<Value, SendError> {
        let types =
            if at.public_only { "public_channel" } else { "public_channel,private_channel" };
        let mut body = json!({
            "types": types,
            "exclude_archived": true,
            "limit": PAGE_CHANNELS,
        });
        if !at.next.is_empty() {
            body["cursor"] = json!(at.next);
        }
        self.slack.call(instance, Method::ChannelList, "", &body).await
    }

    fn found(&self, answer: &Value) -> Vec<ChannelName> {
        let asked_at_ms = self.ports.clock.now_ms();
        let channels = answer.get("channels").and_then(Value::as_array);
        let named = |channel: &Value| {
            let id = channel.get("id")?.as_str()?.to_owned();
            Some(ChannelName { id, name: Some(name_of(channel)?), asked_at_ms })
        };
        channels.into_iter().flatten().filter_map(named).collect()
    }

    async fn known(
        &self,
        instance: &Instance,
        channel: &str,
    ) -> Result<Option<ChannelName>, SendError> {
        let store = &self.ports.store;
        let found =
            store.channel(&instance.tenant, &instance.platform, &instance.name, channel).await;
        found.map_err(|error| away(&error))
    }

    async fn put(&self, instance: &Instance, found: &[ChannelName]) -> Result<(), SendError> {
        let store = &self.ports.store;
        let put = store.put_channels(&instance.tenant, &instance.platform, &instance.name, found);
        put.await.map_err(|error| away(&error))
    }

    /// [`Self::warn_of_moved`] for those names that some flow filters on.
    async fn warn_of_all_moved(
        &self,
        instance: &Instance,
        found: &[ChannelName],
    ) -> Result<(), SendError> {
        for channel in found {
            let name = channel.name.as_deref().unwrap_or_default();
            if !self.flows_on(instance, name).is_empty() {
                let known = self.known(instance, &channel.id).await?;
                self.warn_of_moved(instance, channel, known.as_ref());
            }
        }
        Ok(())
    }

    /// A channel that takes a name which a flow filters on gains that flow's rights: say so.
    fn warn_of_moved(&self, instance: &Instance, now: &ChannelName, before: Option<&ChannelName>) {
        let (Some(new), Some(old)) = (&now.name, before.and_then(|b| b.name.as_ref())) else {
            return;
        };
        if new == old {
            return;
        }
        for flow in self.flows_on(instance, new) {
            tracing::warn!(tenant.id = %instance.tenant, flow.name = flow, channel.id = %now.id,
                old_name = %old, new_name = %new,
                "a channel was renamed to a name that a flow filters on: the flow now takes \
                 its messages; name the channel's id in the flow to pin it");
        }
    }

    /// Names of the flows that filter on the channel name `name` for this account.
    fn flows_on(&self, instance: &Instance, name: &str) -> Vec<String> {
        let names = |filter: &String| filter.strip_prefix('#').unwrap_or(filter) == name;
        let snapshot = self.config.current();
        let flows = snapshot.flows.iter().filter(|flow| {
            let trigger = &flow.trigger;
            flow.tenant == instance.tenant
                && trigger.platform.as_ref().is_none_or(|p| p == &instance.platform)
                && trigger.instance.as_ref().is_none_or(|i| i == &instance.name)
                && trigger.channels.iter().any(names)
        });
        flows.map(|flow| flow.name.to_string()).collect()
    }
}

/// The channel's name; direct conversations have none.
fn name_of(channel: &Value) -> Option<String> {
    channel.get("name").and_then(Value::as_str).filter(|n| !n.is_empty()).map(str::to_owned)
}

fn away(error: &StoreError) -> SendError {
    SendError::Unavailable { reason: format!("the store does not take channel names: {error}") }
}
