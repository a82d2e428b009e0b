//! Scores how well a flow fits a message. Pure: no I/O, no clock.
//!
//! Source of the weights: 001, *Routing Priority*. The weights of all filters that
//! match add up; a filter that is set and does not match excludes the flow. `events`,
//! the account and an agent that was asked for only exclude.

use std::sync::Arc;

use aof_shared::config::{Flow, FlowAgent};
use aof_shared::ids::AgentName;
use aof_shared::message::Message;
use aof_shared::pattern::Case;
use serde::{Deserialize, Serialize};

use crate::channel::{Entry, Naming};
use crate::pattern::{Pattern, Patterns};

/// What a flow without any scoring filter gets when it takes the message.
pub const CATCH_ALL: u32 = 10;

/// How much of a text patterns see, in bytes. What a person asks for stands at the
/// start, and the cap bounds what a costly pattern can take of everyone's time.
pub const MAX_MATCHED_BYTES: usize = 8 * 1_024;

/// A filter of a flow's trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// `trigger.type`.
    Platform,
    /// The agent that the sender asked for by name: the message's filter on flows.
    Agent,
    /// The account behind the trigger's own credentials.
    Instance,
    /// `config.events`.
    Events,
    /// `config.users`.
    User,
    /// `config.channels`.
    Channel,
    /// `config.patterns`.
    Pattern,
}

impl Filter {
    /// All of them, the cheapest to check first.
    pub const ALL: [Self; 7] = [
        Self::Platform,
        Self::Agent,
        Self::Instance,
        Self::Events,
        Self::User,
        Self::Channel,
        Self::Pattern,
    ];

    /// What a match adds to the score.
    #[must_use]
    pub fn weight(self) -> u32 {
        match self {
            Self::Channel => 100,
            Self::User => 80,
            Self::Pattern => 60,
            Self::Platform => 40,
            Self::Agent | Self::Instance | Self::Events => 0,
        }
    }

    /// As listings and the journal write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Agent => "agent",
            Self::Instance => "instance",
            Self::Events => "events",
            Self::User => "user",
            Self::Channel => "channel",
            Self::Pattern => "pattern",
        }
    }
}

/// What a filter says of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The flow does not have this filter.
    Unset,
    /// It is set and matches.
    Matched,
    /// It is set and does not match.
    Failed,
    /// It is set, and cannot be told because the channel's name is not known. Excludes.
    Unresolved,
}

impl Outcome {
    /// What an empty list means where something is asked of it.
    fn or_failed(self) -> Self {
        if self == Self::Unset { Self::Failed } else { self }
    }
}

/// A flow, ready to be scored.
#[derive(Debug)]
pub struct CompiledFlow {
    pub(crate) flow: Arc<Flow>,
    pub(crate) channels: Box<[Entry]>,
    pub(crate) patterns: Box<[Arc<Pattern>]>,
    pub(crate) agent_patterns: Box<[Box<[Arc<Pattern>]>]>,
}

impl CompiledFlow {
    pub(crate) fn new(flow: Arc<Flow>, patterns: &mut Patterns) -> Self {
        let trigger = &flow.trigger;
        let mut all = |sources: &[String], case| -> Box<[Arc<Pattern>]> {
            sources.iter().map(|source| patterns.get(source, case)).collect()
        };
        Self {
            channels: trigger.channels.iter().map(|c| Entry::parse(c)).collect(),
            patterns: all(&trigger.patterns, Case::Exact),
            agent_patterns: flow.agents.iter().map(|a| all(&a.patterns, Case::Ignored)).collect(),
            flow,
        }
    }

    /// The flow as configured.
    #[must_use]
    pub fn flow(&self) -> &Arc<Flow> {
        &self.flow
    }

    /// Its agents with their patterns, in order.
    pub(crate) fn agents(&self) -> impl Iterator<Item = (&FlowAgent, &[Arc<Pattern>])> {
        self.flow.agents.iter().zip(self.agent_patterns.iter().map(|list| &**list))
    }
}

/// A message with what is known of its channel's name: all that a decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub(crate) message: &'a Message,
    pub(crate) pinned: Option<&'a AgentName>,
    pub(crate) naming: Naming<'a>,
    pub(crate) text: &'a str,
}

impl<'a> Request<'a> {
    /// Patterns see the text without surrounding white space, and its first
    /// [`MAX_MATCHED_BYTES`] bytes at most.
    #[must_use]
    pub fn new(message: &'a Message, naming: Naming<'a>) -> Self {
        let text = message.text.trim();
        let text = &text[..text.floor_char_boundary(MAX_MATCHED_BYTES)];
        Self { message, pinned: None, naming, text }
    }

    /// The same, asking for one agent by name.
    #[must_use]
    pub fn pinned_to(self, agent: Option<&'a AgentName>) -> Self {
        Self { pinned: agent, ..self }
    }
}

/// What `filter` of `flow` says of the message.
#[must_use]
pub fn outcome(filter: Filter, flow: &CompiledFlow, request: &Request<'_>) -> Outcome {
    let trigger = &flow.flow.trigger;
    let message = request.message;
    match filter {
        Filter::Platform => optional(trigger.platform.as_ref(), &message.platform),
        Filter::Agent => match request.pinned {
            None => Outcome::Unset,
            Some(name) => any(&flow.flow.agents, |agent| agent.name == *name).or_failed(),
        },
        Filter::Instance => optional(trigger.instance.as_ref(), &message.instance),
        Filter::Events => any(&trigger.events, |kind| *kind == message.kind),
        Filter::User => any(&trigger.users, |user| message.user.is(user)),
        Filter::Channel => channel(flow, request),
        Filter::Pattern => any(&flow.patterns, |pattern| pattern.matches(request.text)),
    }
}

/// Adds the weights of the filters that match; `None` if one that is set does not, or if
/// the flow is another tenant's.
#[must_use]
pub fn score(flow: &CompiledFlow, request: &Request<'_>) -> Option<u32> {
    if flow.flow.tenant != request.message.tenant {
        return None;
    }
    let mut sum = 0;
    for filter in Filter::ALL {
        match outcome(filter, flow, request) {
            Outcome::Unset => {}
            Outcome::Matched => sum += filter.weight(),
            Outcome::Failed | Outcome::Unresolved => return None,
        }
    }
    Some(if sum == 0 { CATCH_ALL } else { sum })
}

/// True when only the unknown name of the channel keeps the flow from matching.
#[must_use]
pub(crate) fn hangs_on_name(flow: &CompiledFlow, request: &Request<'_>) -> bool {
    flow.flow.tenant == request.message.tenant
        && channel(flow, request) == Outcome::Unresolved
        && Filter::ALL.into_iter().filter(|f| *f != Filter::Channel).all(|filter| {
            matches!(outcome(filter, flow, request), Outcome::Unset | Outcome::Matched)
        })
}

fn optional<T: PartialEq>(set: Option<&T>, value: &T) -> Outcome {
    match set {
        None => Outcome::Unset,
        Some(set) if set == value => Outcome::Matched,
        Some(_) => Outcome::Failed,
    }
}

fn any<T>(list: &[T], matches: impl FnMut(&T) -> bool) -> Outcome {
    if list.is_empty() {
        Outcome::Unset
    } else if list.iter().any(matches) {
        Outcome::Matched
    } else {
        Outcome::Failed
    }
}

fn channel(flow: &CompiledFlow, request: &Request<'_>) -> Outcome {
    let found = any(&flow.channels, |e| e.matches(&request.message.channel, request.naming));
    let in_doubt = found == Outcome::Failed
        && request.naming == Naming::Unresolved
        && flow.channels.iter().any(|e| e.is_name);
    if in_doubt { Outcome::Unresolved } else { found }
}

#[cfg(test)]
mod tests;
