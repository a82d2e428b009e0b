//! Which accounts want a connection, and what it has to bring. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use aof_shared::config::{ApprovalMode, Flow, Instance, Snapshot};
use aof_shared::ids::{InstanceName, TenantId};
use aof_shared::message::MessageKind;
use twilight_gateway::Intents;

use crate::platform::discord::guilds;
use crate::reply::discord::bot_of;

/// An account whose connection is wanted.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// The account.
    pub(crate) instance: Arc<Instance>,
    /// What the connection has to bring.
    pub(crate) intents: Intents,
}

/// What makes a connection another one: whose, which bot, what it brings, and which servers
/// count.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Account {
    tenant: TenantId,
    instance: InstanceName,
    bot: String,
    base_url: Option<String>,
    intents: u64,
    guilds: Option<Vec<String>>,
}

impl Wanted {
    /// What names the connection.
    pub(crate) fn account(&self) -> Account {
        let guilds = guilds::named(&self.instance);
        Account {
            tenant: self.instance.tenant.clone(),
            instance: self.instance.name.clone(),
            bot: bot_of(&self.instance),
            base_url: self.instance.api_base_url.clone(),
            intents: self.intents.bits(),
            guilds: guilds.map(|ids| ids.into_iter().map(str::to_owned).collect()),
        }
    }
}

/// The connections that `snapshot` wants. A bot that several tenants use brings each of them
/// everything, so each must name its servers; where one does not, none is connected.
pub(crate) fn wanted(snapshot: &Snapshot) -> Vec<Wanted> {
    let mut by_bot: HashMap<String, Vec<Wanted>> = HashMap::new();
    for instance in &snapshot.instances {
        if let Some(intents) = intents(snapshot, instance) {
            let wanted = Wanted { instance: Arc::clone(instance), intents };
            by_bot.entry(bot_of(instance)).or_default().push(wanted);
        }
    }
    by_bot.retain(|_, sharing| {
        let alone = sharing.iter().all(|w| w.instance.tenant == sharing[0].instance.tenant);
        let apart = sharing.iter().all(|w| guilds::named(&w.instance).is_some());
        if !alone && !apart {
            tracing::error!(
                instances = ?sharing.iter().map(|w| w.instance.name.as_str()).collect::<Vec<_>>(),
                "several tenants share a Discord bot: set `guild_ids` on each instance; until \
                 then it is not connected"
            );
        }
        alone || apart
    });
    by_bot.into_values().flatten().collect()
}

/// What the account's connection has to bring; `None` when nothing that only a connection
/// brings is wanted, or the account has no bot token.
pub(crate) fn intents(snapshot: &Snapshot, instance: &Instance) -> Option<Intents> {
    if instance.platform.as_str() != "discord" || instance.bot_token.is_none() {
        return None;
    }
    let of = |flow: &&Arc<Flow>| {
        let trigger = &flow.trigger;
        flow.tenant == instance.tenant
            && trigger.platform.as_ref().is_none_or(|p| p == &instance.platform)
            && trigger.instance.as_ref().is_none_or(|i| i == &instance.name)
    };
    let takes = |flow: &Flow, kind: MessageKind| {
        flow.trigger.events.is_empty() || flow.trigger.events.contains(&kind)
    };
    let flows: Vec<_> = snapshot.flows.iter().filter(of).collect();
    let chatter = flows.iter().any(|flow| takes(flow, MessageKind::Message));
    let default = snapshot.daemon.default_agent.is_some() && !snapshot.daemon.strict_mode;
    let mentions = default || flows.iter().any(|flow| takes(flow, MessageKind::Mention));
    let votes = flows.iter().any(|flow| flow.approval.mode == ApprovalMode::Required);
    let mut intents = Intents::empty();
    if chatter || mentions {
        intents |= Intents::GUILD_MESSAGES | Intents::DIRECT_MESSAGES;
    }
    // Mentions, replies and direct messages come with their text anyway.
    if chatter {
        intents |= Intents::MESSAGE_CONTENT;
    }
    if votes {
        intents |= Intents::GUILD_MESSAGE_REACTIONS | Intents::DIRECT_MESSAGE_REACTIONS;
    }
    // For threads, and for names of channels that change.
    (!intents.is_empty()).then_some(intents | Intents::GUILDS)
}

#[cfg(test)]
mod tests;
