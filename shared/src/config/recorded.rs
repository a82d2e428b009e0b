//! What one tenant's decisions depend on, as the journal keeps it: enough to decide again,
//! and nothing secret. No environment, no credentials, no other tenant's flows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Agent, Approval, Daemon, Flow, FlowAgent, Runtime, Snapshot, ToolConfig, Trigger};
use crate::ids::{AgentName, FlowName, Revision, TenantId};
use crate::message::Priority;

/// The part of a [`Snapshot`] that decides where a tenant's messages go and what becomes
/// of the commands that come of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedConfig {
    /// `routing.default_agent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_agent: Option<AgentName>,
    /// `routing.strict_mode`.
    #[serde(default)]
    pub strict_mode: bool,
    /// The tenant's flows in load order, which breaks ties.
    pub flows: Vec<RecordedFlow>,
    /// The agents that they name, and the default one.
    pub agents: Vec<RecordedAgent>,
}

/// A flow, without what its tools run with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedFlow {
    /// Its name.
    pub name: FlowName,
    /// Content hash of its document and its agents'.
    pub revision: Revision,
    /// What it listens to.
    pub trigger: Trigger,
    /// Who works on it.
    pub agents: Vec<RecordedFlowAgent>,
    /// What needs a decision.
    pub approval: Approval,
}

/// One agent of a flow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedFlowAgent {
    /// Its name.
    pub name: AgentName,
    /// Regular expressions that choose it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<String>,
    /// What it overtakes.
    #[serde(default)]
    pub priority: Priority,
    /// Replaces the agent's own list of tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<String>>,
    /// `allowed_commands` by tool; `null` lifts the agent's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub allowed: BTreeMap<String, Option<Vec<String>>>,
}

/// An agent, as far as the guard asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedAgent {
    /// Its name.
    pub name: AgentName,
    /// Content hash of its document.
    pub revision: Revision,
    /// How it works.
    pub runtime: Runtime,
    /// Its tools.
    pub tools: Vec<String>,
    /// `allowed_commands` by tool.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub allowed: BTreeMap<String, Option<Vec<String>>>,
}

impl RecordedConfig {
    /// What of `snapshot` decides for the tenant that has `flows` in it.
    #[must_use]
    pub fn of(snapshot: &Snapshot, flows: &[Arc<Flow>]) -> Self {
        let named = flows.iter().flat_map(|flow| &flow.agents).map(|agent| &agent.name);
        let named: BTreeSet<_> = named.chain(&snapshot.daemon.default_agent).collect();
        let agents = named.into_iter().filter_map(|name| snapshot.agents.get(name));
        Self {
            default_agent: snapshot.daemon.default_agent.clone(),
            strict_mode: snapshot.daemon.strict_mode,
            flows: flows.iter().map(|flow| RecordedFlow::of(flow)).collect(),
            agents: agents.map(|agent| RecordedAgent::of(agent)).collect(),
        }
    }

    /// Its content hash, which decisions made under it name.
    ///
    /// # Panics
    /// Never: every key is text.
    #[must_use]
    pub fn digest(&self) -> Revision {
        Revision::of(&serde_json::to_vec(self).expect("every key is text"))
    }

    /// A snapshot of `tenant` that decides as the recorded one did.
    #[must_use]
    pub fn snapshot(self, tenant: &TenantId) -> Snapshot {
        let revision = self.digest();
        let agents = self.agents.into_iter().map(|a| (a.name.clone(), Arc::new(a.agent())));
        let daemon = Daemon {
            default_agent: self.default_agent,
            strict_mode: self.strict_mode,
            ..Daemon::default()
        };
        Snapshot {
            revision,
            flows: self.flows.into_iter().map(|flow| Arc::new(flow.flow(tenant))).collect(),
            agents: agents.collect(),
            daemon: Arc::new(daemon),
            ..Snapshot::default()
        }
    }
}

impl RecordedFlow {
    fn of(flow: &Flow) -> Self {
        let agents = flow.agents.iter().map(|agent| RecordedFlowAgent {
            name: agent.name.clone(),
            patterns: agent.patterns.clone(),
            priority: agent.priority,
            tools: agent.tools.clone(),
            allowed: allowed(&agent.tool_config),
        });
        Self {
            name: flow.name.clone(),
            revision: flow.revision.clone(),
            trigger: flow.trigger.clone(),
            agents: agents.collect(),
            approval: flow.approval.clone(),
        }
    }

    fn flow(self, tenant: &TenantId) -> Flow {
        let agents = self.agents.into_iter().map(|agent| FlowAgent {
            name: agent.name,
            patterns: agent.patterns,
            priority: agent.priority,
            tools: agent.tools,
            tool_config: tool_config(agent.allowed),
        });
        Flow {
            revision: self.revision,
            trigger: self.trigger,
            agents: agents.collect(),
            approval: self.approval,
            ..Flow::new(tenant.clone(), self.name)
        }
    }
}

impl RecordedAgent {
    fn of(agent: &Agent) -> Self {
        Self {
            name: agent.name.clone(),
            revision: agent.revision.clone(),
            runtime: agent.runtime,
            tools: agent.tools.clone(),
            allowed: allowed(&agent.tool_config),
        }
    }

    fn agent(self) -> Agent {
        Agent {
            revision: self.revision,
            runtime: self.runtime,
            tools: self.tools,
            tool_config: tool_config(self.allowed),
            ..Agent::new(self.name)
        }
    }
}

/// Tools without `allowed_commands` count too: a flow's entry replaces the agent's whole.
fn allowed(config: &BTreeMap<String, ToolConfig>) -> BTreeMap<String, Option<Vec<String>>> {
    config.iter().map(|(tool, config)| (tool.clone(), config.allowed_commands.clone())).collect()
}

fn tool_config(allowed: BTreeMap<String, Option<Vec<String>>>) -> BTreeMap<String, ToolConfig> {
    let config = |allowed_commands| ToolConfig { allowed_commands, ..ToolConfig::default() };
    allowed.into_iter().map(|(tool, commands)| (tool, config(commands))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ApprovalChain, ApprovalMode, FlowContext};
    use crate::secret::Secret;

    fn snapshot() -> Snapshot {
        let name = |name: &str| AgentName::new(name).expect("a plain name");
        let mut agent = Agent::new(name("ops"));
        agent.tools = vec!["kubectl".to_owned()];
        agent.instructions = "the tenant's own words".to_owned();
        agent.tool_config.insert(
            "kubectl".to_owned(),
            ToolConfig {
                allowed_commands: Some(vec!["get".to_owned()]),
                settings: BTreeMap::from([("token".to_owned(), "hunter2".into())]),
            },
        );
        let tenant = TenantId::new("a").expect("a plain name");
        let mut flow = Flow::new(tenant, FlowName::new("prod").expect("a plain name"));
        flow.trigger.channels = vec!["production".to_owned()];
        flow.context = FlowContext {
            env: BTreeMap::from([("TOKEN".to_owned(), Secret::new("hunter2"))]),
            ..FlowContext::default()
        };
        flow.agents = vec![FlowAgent {
            name: name("ops"),
            patterns: vec!["deploy".to_owned()],
            priority: Priority::Critical,
            tools: None,
            tool_config: BTreeMap::new(),
        }];
        flow.approval.mode = ApprovalMode::Required;
        flow.approval.chains = vec![ApprovalChain {
            name: "default".to_owned(),
            approvers: vec!["U1".to_owned()],
            require: 2,
        }];
        let mut snapshot = Snapshot::default();
        snapshot.agents.insert(name("other"), Arc::new(Agent::new(name("other"))));
        snapshot.agents.insert(name("ops"), Arc::new(agent));
        snapshot.flows.push(Arc::new(flow));
        snapshot
    }

    #[test]
    fn what_decides_comes_back_from_the_journal_as_it_was() {
        let snapshot = snapshot();
        let recorded = RecordedConfig::of(&snapshot, &snapshot.flows);
        let text = serde_json::to_string(&recorded).expect("JSON");
        let read: RecordedConfig = serde_json::from_str(&text).expect("as written");
        assert_eq!((&read, read.digest()), (&recorded, recorded.digest()));
        let tenant = snapshot.flows[0].tenant.clone();
        let again = read.snapshot(&tenant);
        assert_eq!(RecordedConfig::of(&again, &again.flows), recorded);
        assert_eq!(again.revision, recorded.digest());
        assert_eq!(again.flows[0].trigger, snapshot.flows[0].trigger);
        assert_eq!(again.flows[0].approval, snapshot.flows[0].approval);
    }

    #[test]
    fn nothing_secret_and_nobody_elses_is_recorded() {
        let snapshot = snapshot();
        let recorded = RecordedConfig::of(&snapshot, &snapshot.flows);
        let text = serde_json::to_string(&recorded).expect("JSON");
        assert!(!text.contains("hunter2") && !text.contains("own words"), "{text}");
        assert!(!text.contains("other"), "only agents that the flows name: {text}");
    }

    #[test]
    fn an_edit_that_decides_otherwise_has_another_digest() {
        let snapshot = snapshot();
        let digest = |flows: &[Arc<Flow>]| RecordedConfig::of(&snapshot, flows).digest();
        let mut edited = Flow::clone(&snapshot.flows[0]);
        edited.approval.chains[0].require = 1;
        assert_ne!(digest(&snapshot.flows), digest(&[Arc::new(edited)]));
    }
}
