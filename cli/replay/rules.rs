//! A configuration to decide under: the router's table and the guard's policies. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use aof_router::channel::Naming;
use aof_router::explain::{FlowReport, Ranked, explain};
use aof_router::score::Request;
use aof_router::table::Table;
use aof_shared::config::{Approval, Flow, Runtime, Snapshot};
use aof_shared::ids::{AgentName, FlowName, Revision, TenantId};
use aof_worker::guard::{self, Verdict};
use serde::Serialize;

use super::record::{Decision, Input};

/// Where a message goes, or why nowhere, with the score table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Side {
    /// The flow; missing when nothing takes the message.
    pub(crate) flow: Option<FlowName>,
    /// Its agent.
    pub(crate) agent: Option<AgentName>,
    /// The flow's score.
    pub(crate) score: u32,
    /// Why nothing takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// Every flow that matched, the best first.
    pub(crate) candidates: Vec<Ranked>,
}

impl Side {
    /// What was decided then.
    pub(crate) fn recorded(decision: &Decision) -> Self {
        Self {
            flow: decision.flow.clone(),
            agent: decision.agent.clone(),
            score: decision.score,
            reason: decision.reason.clone(),
            candidates: decision.candidates.clone(),
        }
    }
}

/// What becomes of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Judgement {
    /// What.
    #[serde(flatten)]
    pub(crate) verdict: Verdict,
    /// How many people must agree, when it is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) require: Option<u32>,
}

/// A configuration to decide under.
pub(crate) struct Rules {
    snapshot: Arc<Snapshot>,
    table: Table,
    flows: HashMap<(TenantId, FlowName), Arc<Flow>>,
}

impl Rules {
    /// Compiles `snapshot`.
    pub(crate) fn new(snapshot: Snapshot) -> Self {
        let snapshot = Arc::new(snapshot);
        let mut flows = HashMap::with_capacity(snapshot.flows.len());
        for flow in &snapshot.flows {
            let key = (flow.tenant.clone(), flow.name.clone());
            flows.entry(key).or_insert_with(|| Arc::clone(flow));
        }
        Self { table: Table::build(Arc::clone(&snapshot), None), snapshot, flows }
    }

    /// The configuration's revision.
    pub(crate) fn revision(&self) -> &Revision {
        self.table.revision()
    }

    /// Decides where the message goes.
    pub(crate) fn decide(&self, input: &Input, naming: Naming<'_>) -> Side {
        let request = request(input, naming);
        let decision = self.table.decide(&request);
        let candidates = Ranked::all(&decision.candidates, &request);
        match decision.verdict {
            Ok(route) => Side {
                flow: Some(route.flow),
                agent: Some(route.agent),
                score: route.score,
                reason: None,
                candidates,
            },
            Err(miss) => {
                let hangs = naming == Naming::Unresolved && self.table.hangs_on_name(&request);
                let reason = if hangs { "unresolved_channel" } else { miss.reason() };
                let reason = Some(reason.to_owned());
                Side { flow: None, agent: None, score: 0, reason, candidates }
            }
        }
    }

    /// True when the decision would be another if the channel's name were known.
    pub(crate) fn hangs_on_name(&self, input: &Input, naming: Naming<'_>) -> bool {
        self.table.hangs_on_name(&request(input, naming))
    }

    /// Every flow's score, filter by filter.
    pub(crate) fn table(&self, input: &Input, naming: Naming<'_>) -> Vec<FlowReport> {
        explain(&self.table, &request(input, naming)).flows
    }

    /// What becomes of `argv` when `agent` wants it in `flow`.
    pub(crate) fn judge(
        &self,
        tenant: &TenantId,
        (flow, agent): (&FlowName, &AgentName),
        argv: &[String],
    ) -> Judgement {
        let none = Approval::default();
        let flow = self.flows.get(&(tenant.clone(), flow.clone()));
        let approval = flow.map_or(&none, |flow| &flow.approval);
        let flow_agent = flow.and_then(|f| f.agents.iter().find(|a| a.name == *agent));
        let verdict = match self.snapshot.agents.get(agent) {
            Some(agent) => guard::review(argv, agent, flow_agent, approval),
            None => Verdict::Refuse { reason: format!("there is no agent `{agent}`") },
        };
        let require = guard::people(&verdict, approval);
        Judgement { verdict, require }
    }

    /// The command that the message itself is, where `agent` takes it for one.
    pub(crate) fn command_of(&self, agent: &AgentName, text: &str) -> Option<Vec<String>> {
        let agent = self.snapshot.agents.get(agent)?;
        let is_command = agent.runtime == Runtime::Command;
        let words = is_command.then(|| guard::parse_command(text.trim()).ok())?;
        words.filter(|words| !words.is_empty())
    }

    /// Content hash of what a run in `flow` is bound to.
    pub(crate) fn flow_revision(
        &self,
        tenant: &TenantId,
        (flow, agent): (&FlowName, &AgentName),
    ) -> Option<&Revision> {
        match self.flows.get(&(tenant.clone(), flow.clone())) {
            Some(flow) => Some(&flow.revision),
            None => self.snapshot.agents.get(agent).map(|agent| &agent.revision),
        }
    }
}

fn request<'i>(input: &'i Input, naming: Naming<'i>) -> Request<'i> {
    Request::new(&input.message, naming).pinned_to(input.agent.as_ref())
}
