//! Channel names of Discord's servers.
//!
//! Names are unique neither in a server nor among servers, and whoever invites a bot into a
//! server of their own chooses names there. So names count in the servers that the instance
//! names, or in the one that the bot is in; and a name that two channels have is no name.

use std::collections::HashMap;

use aof_shared::config::Instance;
use aof_shared::store::ChannelName;
use serde_json::Value;

use super::{Directory, name_of};
use crate::platform::discord::{guilds, is_snowflake};
use crate::reply::discord::Route;
use crate::reply::port::SendError;

/// Servers read for one account.
const MAX_SERVERS: usize = 25;
/// The type of what only groups channels. Source: Discord, "Channel Types".
const CATEGORY: u64 = 4;

impl Directory {
    /// Reads all names, since another channel may have the same.
    pub(super) async fn look_up_in_servers(
        &self,
        instance: &Instance,
        channel: &str,
    ) -> Result<(), SendError> {
        let found = self.read_servers(instance).await?;
        if found.iter().any(|known| known.id == channel) {
            return Ok(());
        }
        let asked_at_ms = self.ports.clock.now_ms();
        self.put(instance, &[ChannelName { id: channel.to_owned(), name: None, asked_at_ms }]).await
    }

    /// Reads the names of all channels that count.
    pub(super) async fn read_servers(
        &self,
        instance: &Instance,
    ) -> Result<Vec<ChannelName>, SendError> {
        let mut channels = Vec::new();
        for server in self.servers(instance).await? {
            let route = Route::GuildChannels { guild: &server };
            let answer = self.discord.call(instance, route, None).await?;
            channels.extend(answer.as_array().into_iter().flatten().filter_map(named));
        }
        let found = told_apart(channels, self.ports.clock.now_ms());
        for channel in found.iter().filter(|c| c.name.is_none()) {
            tracing::debug!(instance.name = %instance.name, channel.id = %channel.id,
                "a channel shares its name with another: flows match it by its id only");
        }
        self.warn_of_all_moved(instance, &found).await?;
        self.put(instance, &found).await?;
        Ok(found)
    }

    /// The servers whose names count.
    async fn servers(&self, instance: &Instance) -> Result<Vec<String>, SendError> {
        let few = |servers: Vec<String>| servers.into_iter().take(MAX_SERVERS).collect();
        if let Some(named) = guilds::named(instance) {
            let plain = named.into_iter().filter(|id| is_snowflake(id));
            return Ok(few(plain.map(str::to_owned).collect()));
        }
        let answer = self.discord.call(instance, Route::Guilds, None).await?;
        let id = |server: &Value| server["id"].as_str().map(str::to_owned);
        let servers: Vec<String> = answer.as_array().into_iter().flatten().filter_map(id).collect();
        if servers.len() > 1 {
            return Err(SendError::Refused {
                reason: "several_servers",
                detail: format!(
                    "the bot is in {} servers: say with `guild_ids` which of them have the \
                     channels that flows name, or name channels by their ids",
                    servers.len()
                ),
            });
        }
        Ok(servers)
    }
}

/// A channel's id and name.
fn named(channel: &Value) -> Option<(String, String)> {
    let id = channel["id"].as_str().filter(|id| is_snowflake(id))?;
    (channel["type"].as_u64() != Some(CATEGORY)).then_some(())?;
    Some((id.to_owned(), name_of(channel)?))
}

/// The names that one channel alone has; the others are none.
fn told_apart(channels: Vec<(String, String)>, asked_at_ms: u64) -> Vec<ChannelName> {
    let mut owners: HashMap<String, usize> = HashMap::new();
    for (_, name) in &channels {
        *owners.entry(name.clone()).or_default() += 1;
    }
    let alone = |name: &String| owners.get(name) == Some(&1);
    let known = |(id, name): (String, String)| {
        let name = Some(name).filter(|name| alone(name));
        ChannelName { id, name, asked_at_ms }
    };
    channels.into_iter().map(known).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_that_two_channels_have_is_none() {
        let channels = json!([
            {"id": "1", "type": 0, "name": "production"},
            {"id": "2", "type": 0, "name": "general"},
            {"id": "3", "type": 5, "name": "general"},
            {"id": "4", "type": CATEGORY, "name": "production"},
            {"id": "x", "type": 0, "name": "odd"},
        ]);
        let channels = channels.as_array().expect("a list").iter().filter_map(named).collect();
        let names: Vec<_> = told_apart(channels, 1).into_iter().map(|c| (c.id, c.name)).collect();
        let known = |id: &str, name: Option<&str>| (id.to_owned(), name.map(str::to_owned));
        assert_eq!(names, [known("1", Some("production")), known("2", None), known("3", None)]);
    }
}
