//! The compiled flows of one revision: immutable, built whole, swapped at once.
//!
//! Cost of a reload follows what changed: a tenant whose flows route as before keeps its
//! compiled part, and a pattern that was known is not looked at again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use aof_shared::config::{Flow, RecordedConfig, Snapshot};
use aof_shared::ids::{AgentName, FlowName, InstanceName, PlatformName, Revision, TenantId};
use aof_shared::message::{Message, MessageKind, Priority};

use crate::channel::is_nameless;
use crate::index::TenantFlows;
use crate::pattern::Patterns;
use crate::score::{CompiledFlow, Request};
use crate::select::{Candidate, agent};

/// Everything that a decision is made from.
#[derive(Debug)]
pub struct Table {
    snapshot: Arc<Snapshot>,
    tenants: HashMap<TenantId, Arc<TenantFlows>>,
    /// The flows as configured now; a compiled one may be of an earlier, equal revision.
    configured: HashMap<TenantId, Box<[Arc<Flow>]>>,
    /// Accounts of which channel names are looked up.
    resolved: HashSet<(TenantId, PlatformName, InstanceName)>,
    patterns: Patterns,
}

/// Why nothing works on a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// Nobody spoke to the bot and no flow listens: `message.ignored`.
    Chatter,
    /// No flow matches and `strict_mode` is on: `message.unrouted`.
    Strict,
    /// No flow matches and there is no `default_agent`: `message.unrouted`.
    NoDefault,
    /// No flow that matches has the agent that was asked for, nor is it the default agent.
    UnknownAgent,
    /// The flow that won has no agent, and there is no `default_agent`.
    NoAgent,
}

impl Miss {
    /// As the journal writes it in `data.reason`.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Chatter => "no_flow",
            Self::Strict => "strict_mode",
            Self::NoDefault => "no_default_agent",
            Self::UnknownAgent => "unknown_agent",
            Self::NoAgent => "no_agent",
        }
    }
}

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The flow, or [`FlowName::default_route`].
    pub flow: FlowName,
    /// The agent.
    pub agent: AgentName,
    /// The flow's score; 0 on the default route.
    pub score: u32,
    /// The chosen agent's.
    pub priority: Priority,
}

/// What was decided, and what stood to choose from.
#[derive(Debug)]
pub struct Decision<'t> {
    /// Where it goes, or why nowhere.
    pub verdict: Result<Route, Miss>,
    /// The flows that match, the best first, at most [`crate::select::MAX_CANDIDATES`].
    pub candidates: Vec<Candidate<'t>>,
}

impl Table {
    /// Compiles `snapshot`, reusing what `earlier` has of it.
    #[must_use]
    pub fn build(snapshot: Arc<Snapshot>, earlier: Option<&Self>) -> Self {
        let mut by_tenant: HashMap<&TenantId, Vec<&Arc<Flow>>> = HashMap::new();
        for flow in &snapshot.flows {
            by_tenant.entry(&flow.tenant).or_default().push(flow);
        }
        let mut patterns = earlier.map_or_else(Patterns::new, |e| e.patterns.clone());
        let mut tenants = HashMap::with_capacity(by_tenant.len());
        let mut configured = HashMap::with_capacity(by_tenant.len());
        for (tenant, flows) in by_tenant {
            let known = earlier.and_then(|e| e.tenants.get(tenant));
            let compiled = match known.filter(|known| routes_alike(known.flows(), &flows)) {
                Some(known) => known.clone(),
                None => {
                    let compile = |f: &&Arc<Flow>| CompiledFlow::new((*f).clone(), &mut patterns);
                    Arc::new(TenantFlows::build(flows.iter().map(compile).collect()))
                }
            };
            tenants.insert(tenant.clone(), compiled);
            configured.insert(tenant.clone(), flows.into_iter().cloned().collect());
        }
        patterns.sweep(if earlier.is_some() { 2 } else { 1 });
        let named = snapshot.instances.iter().filter(|i| i.needs_channel_names);
        let resolved =
            named.map(|i| (i.tenant.clone(), i.platform.clone(), i.name.clone())).collect();
        Self { snapshot, tenants, configured, resolved, patterns }
    }

    /// The revision that it was built from.
    #[must_use]
    pub fn revision(&self) -> &Revision {
        &self.snapshot.revision
    }

    /// The flows of `tenant` in load order. No function here gives another tenant's.
    #[must_use]
    pub fn flows(&self, tenant: &TenantId) -> &[CompiledFlow] {
        self.tenants.get(tenant).map_or(&[], |t| t.flows())
    }

    /// Tenants that have flows.
    pub fn tenants(&self) -> impl Iterator<Item = &TenantId> {
        self.tenants.keys()
    }

    /// The flows that match, the best first.
    #[must_use]
    pub fn candidates(&self, request: &Request<'_>) -> Vec<Candidate<'_>> {
        self.tenants.get(&request.message.tenant).map(|t| t.find(request)).unwrap_or_default()
    }

    /// What decides for `tenant`, as the journal keeps it.
    #[must_use]
    pub fn recorded(&self, tenant: &TenantId) -> RecordedConfig {
        let flows = self.configured.get(tenant).map_or(&[][..], |flows| flows);
        RecordedConfig::of(&self.snapshot, flows)
    }

    /// Decides where the message goes.
    #[must_use]
    pub fn decide(&self, request: &Request<'_>) -> Decision<'_> {
        let candidates = self.candidates(request);
        let verdict = match candidates.first() {
            Some(best) => self.within(best, request),
            None => self.without_flow(request),
        };
        Decision { verdict, candidates }
    }

    fn within(&self, best: &Candidate<'_>, request: &Request<'_>) -> Result<Route, Miss> {
        let chosen = agent(best.flow, request);
        let name = chosen.map(|a| &a.name).or(self.snapshot.daemon.default_agent.as_ref());
        Ok(Route {
            flow: best.flow.flow.name.clone(),
            agent: name.ok_or(Miss::NoAgent)?.clone(),
            score: best.score,
            priority: chosen.map(|a| a.priority).unwrap_or_default(),
        })
    }

    /// Chatter that nobody listens to is left alone, or a bot in a busy channel would
    /// answer everything; whoever speaks to the bot gets the default agent.
    fn without_flow(&self, request: &Request<'_>) -> Result<Route, Miss> {
        if !is_addressed(request.message) {
            return Err(Miss::Chatter);
        }
        let default = self.snapshot.daemon.default_agent.as_ref();
        if request.pinned.is_some() && request.pinned != default {
            return Err(Miss::UnknownAgent);
        }
        if self.snapshot.daemon.strict_mode {
            return Err(Miss::Strict);
        }
        let agent = default.ok_or(Miss::NoDefault)?.clone();
        let flow = FlowName::default_route();
        Ok(Route { flow, agent, score: 0, priority: Priority::Normal })
    }

    /// True when the name of the message's channel can make a difference.
    #[must_use]
    pub(crate) fn uses_names(&self, message: &Message) -> bool {
        !is_nameless(message) && self.tenants.get(&message.tenant).is_some_and(|t| t.uses_names())
    }

    /// True when the decision waits for nothing but the name of the channel.
    #[must_use]
    pub fn hangs_on_name(&self, request: &Request<'_>) -> bool {
        self.tenants.get(&request.message.tenant).is_some_and(|t| t.hangs_on_name(request))
    }

    /// True when some gateway looks up channel names of the message's account.
    #[must_use]
    pub(crate) fn is_resolved(&self, message: &Message) -> bool {
        let Message { tenant, platform, instance, .. } = message;
        self.resolved.contains(&(tenant.clone(), platform.clone(), instance.clone()))
    }
}

/// True when somebody spoke to the bot, so that silence would be no answer.
#[must_use]
pub(crate) fn is_addressed(message: &Message) -> bool {
    message.kind != MessageKind::Message
        || message.channel.direct
        || message.platform == PlatformName::chat()
}

/// True when the compiled flows decide exactly as `flows` would.
fn routes_alike(compiled: &[CompiledFlow], flows: &[&Arc<Flow>]) -> bool {
    compiled.len() == flows.len()
        && compiled.iter().zip(flows).all(|(old, new)| {
            Arc::ptr_eq(&old.flow, new)
                || (old.flow.name == new.name
                    && old.flow.trigger == new.trigger
                    && agents_alike(&old.flow, new))
        })
}

fn agents_alike(old: &Flow, new: &Flow) -> bool {
    old.agents.len() == new.agents.len()
        && old
            .agents
            .iter()
            .zip(&new.agents)
            .all(|(a, b)| a.name == b.name && a.patterns == b.patterns && a.priority == b.priority)
}

#[cfg(test)]
mod tests;
