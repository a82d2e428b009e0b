//! What one agent may do in one flow, compiled for [`super::judge`].

use std::collections::BTreeMap;

use aof_shared::config::{Agent, Approval, ApprovalChain, ApprovalMode, FlowAgent, ToolConfig};

use super::command::base_name;
use super::pattern::Pattern;

/// The chain that `require_for` and the catalogue hold for.
pub(crate) const DEFAULT_CHAIN: &str = "default";

/// What one agent may do in one flow.
#[derive(Debug, Clone)]
pub struct Policy {
    pub(crate) tools: Vec<String>,
    /// Per tool, what may follow it.
    pub(crate) allowed: BTreeMap<String, Vec<Pattern>>,
    /// Patterns in the order in which they are tried, each with its chain.
    pub(crate) holds: Vec<(Pattern, String)>,
    pub(crate) chains: Vec<ApprovalChain>,
    pub(crate) mode: ApprovalMode,
}

impl Policy {
    /// Compiles the policy of `agent` as `flow_agent` narrows it, under `approval`.
    #[must_use]
    pub fn new(agent: &Agent, flow_agent: Option<&FlowAgent>, approval: &Approval) -> Self {
        let tools = flow_agent.and_then(|f| f.tools.as_ref()).unwrap_or(&agent.tools).clone();
        let mut configs: BTreeMap<&String, &ToolConfig> = agent.tool_config.iter().collect();
        configs.extend(flow_agent.iter().flat_map(|f| &f.tool_config));
        let allowed = configs
            .into_iter()
            .filter_map(|(tool, config)| Some((tool, config.allowed_commands.as_ref()?)))
            .map(|(tool, entries)| (base_name(tool), entries))
            .map(|(tool, entries)| {
                (tool.to_owned(), entries.iter().map(|e| entry(tool, e)).collect())
            })
            .collect();
        let mut policy = Self {
            tools,
            allowed,
            holds: Vec::new(),
            chains: approval.chains.clone(),
            mode: approval.mode,
        };
        let default = policy.default_chain().map_or(DEFAULT_CHAIN, |c| c.name.as_str()).to_owned();
        let rules = approval.rules.iter().map(|r| (&r.pattern, r.chain.clone()));
        let required = approval.require_for.iter().map(|pattern| (pattern, default.clone()));
        policy.holds = rules
            .chain(required)
            .map(|(text, chain)| (Pattern::compile(text, &policy.tools), chain))
            .collect();
        policy
    }

    /// `default`, else the first chain.
    pub(crate) fn default_chain(&self) -> Option<&ApprovalChain> {
        self.chains.iter().find(|c| c.name == DEFAULT_CHAIN).or(self.chains.first())
    }

    /// The chain that asks the most people: what is not understood may be the worst there is.
    pub(crate) fn strictest_chain(&self) -> Option<&ApprovalChain> {
        let most = self.chains.iter().map(|c| c.require).max()?;
        self.default_chain()
            .filter(|c| c.require == most)
            .or_else(|| self.chains.iter().find(|c| c.require == most))
    }

    /// Whether a program of this base name is listed.
    pub(crate) fn lists(&self, program: &str) -> bool {
        self.tools.iter().any(|t| t == program || base_name(t) == program)
    }
}

/// An entry of `allowed_commands`, with or without the program in front.
fn entry(tool: &str, entry: &str) -> Pattern {
    let behind = entry.strip_prefix(tool).filter(|rest| rest.starts_with(' ')).unwrap_or(entry);
    Pattern::compile(&format!("{tool} {behind}"), &[tool.to_owned()])
}
