//! What a node or a capsule records, as typed lines.

use aof_router::channel::{Known, Naming};
use aof_router::explain::Ranked;
use aof_shared::event::EventType;
use aof_shared::ids::{AgentName, FlowName, MessageId, Revision};
use aof_shared::message::Message;
use aof_worker::guard::Judged;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The events that deciding again reads: decisions, and commands that were judged.
pub(super) const DECIDING: [&str; 6] = [
    "message.routed",
    "message.unrouted",
    "message.ignored",
    "action.refused",
    "action.held",
    "run.step",
];

/// One line of the journal; its data is read by type.
#[derive(Debug, Deserialize)]
pub(super) struct EventLine<'l> {
    #[serde(rename = "type")]
    pub(super) kind: EventType,
    #[serde(default)]
    pub(super) message_id: Option<MessageId>,
    pub(super) time: String,
    #[serde(borrow)]
    pub(super) data: &'l RawValue,
}

/// The events that say where a message went, one a message.
pub(super) const DECIDED: [&str; 3] = ["message.routed", "message.unrouted", "message.ignored"];

/// What a message was accepted as.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Input {
    /// Position in INBOUND.
    pub(crate) seq: u64,
    /// The agent that the sender asked for by name.
    #[serde(default)]
    pub(crate) agent: Option<AgentName>,
    /// The message.
    pub(crate) message: Message,
}

/// What was decided, and from what beside the message.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Decision {
    #[serde(default)]
    pub(crate) candidates: Vec<Ranked>,
    #[serde(default)]
    pub(crate) channel_name: Option<String>,
    #[serde(default)]
    pub(crate) naming: Option<Known>,
    #[serde(default)]
    pub(crate) config: Option<Revision>,
    #[serde(default)]
    pub(crate) inbound_seq: Option<u64>,
    #[serde(default)]
    pub(crate) flow: Option<FlowName>,
    #[serde(default)]
    pub(crate) agent: Option<AgentName>,
    #[serde(default)]
    pub(crate) score: u32,
    #[serde(default)]
    pub(crate) reason: Option<String>,
}

impl Decision {
    /// What is known of the channel's name, and whether nobody had asked for it.
    pub(super) fn naming(&self, message: &Message) -> Option<(Naming<'_>, bool)> {
        Some(match (self.naming?, &self.channel_name) {
            (Known::Named, Some(name)) => (Naming::Named(name), false),
            (Known::Unresolved, _) => (Naming::Unresolved, false),
            (Known::Unasked, _) if !aof_router::channel::is_nameless(message) => {
                (Naming::Unresolved, true)
            }
            _ => (Naming::Nameless, false),
        })
    }
}

/// `data` of an event that says what became of a command.
#[derive(Debug, Deserialize)]
pub(super) struct Command {
    #[serde(default)]
    pub(super) judged: Option<Judged>,
}

/// `data` of `config.recorded`.
#[derive(Debug, Deserialize)]
pub(super) struct Recorded {
    pub(super) config: Revision,
    #[serde(default)]
    pub(super) document: Option<aof_shared::config::RecordedConfig>,
}
