//! Which servers an instance is for: `guild_ids`. Pure.

use aof_shared::config::Instance;
use serde_json::Value;

/// The servers that the instance names; `None`: any that the bot is in.
pub(crate) fn named(instance: &Instance) -> Option<Vec<&str>> {
    let ids: Vec<&str> = match instance.settings.get("guild_ids")? {
        Value::String(text) => text.split([',', ' ']).filter(|id| !id.is_empty()).collect(),
        Value::Array(ids) => ids.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    Some(ids)
}

/// Whether what happens in `guild` concerns the instance. Direct messages have no server.
pub(crate) fn admits(instance: &Instance, guild: Option<&str>) -> bool {
    match (guild, named(instance)) {
        (Some(guild), Some(named)) => named.contains(&guild),
        _ => true,
    }
}
