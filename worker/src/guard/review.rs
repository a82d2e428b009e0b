//! Reviews a command as a run does: is its tool listed, and what does the guard say? Pure.
//!
//! Runs and counterfactual replay ask the same function, so that they cannot differ.

use aof_shared::config::{Agent, Approval, Flow, FlowAgent};
use aof_shared::ids::Revision;
use serde::{Deserialize, Serialize};

use super::{Policy, Verdict, judge};
use crate::tool::{http, resolve};

/// A command that was judged, as the journal keeps it in `data.judged`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// Program and arguments as the guard saw them, secrets taken out.
    pub argv: Vec<String>,
    /// A secret was taken out, so that it cannot be judged again exactly.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub masked: bool,
    /// What became of it.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// How many people had to agree, when it was held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require: Option<u32>,
    /// Content hash of the flow and its agents that it was judged under.
    pub revision: Revision,
}

impl Judged {
    /// What `flow` says of `argv`.
    #[must_use]
    pub fn new(argv: Vec<String>, verdict: Verdict, flow: &Flow) -> Self {
        let require = people(&verdict, &flow.approval);
        Self { argv, masked: false, verdict, require, revision: flow.revision.clone() }
    }

    /// The same without what `mask` takes out of texts.
    #[must_use]
    pub(crate) fn masked_by(mut self, mask: impl Fn(String) -> String) -> Self {
        for word in &mut self.argv {
            let shown = mask(word.clone());
            self.masked |= shown != *word;
            *word = shown;
        }
        if let Verdict::Refuse { reason } = &mut self.verdict {
            *reason = mask(std::mem::take(reason));
        }
        self
    }
}

/// How many people must agree to what `verdict` holds.
#[must_use]
pub fn people(verdict: &Verdict, approval: &Approval) -> Option<u32> {
    let Verdict::Hold { chain, .. } = verdict else { return None };
    let chain = approval.chains.iter().find(|c| c.name == *chain);
    chain.map(|chain| chain.require.max(1))
}

/// What becomes of `argv` when `agent` wants it, as `flow_agent` narrows the agent and under
/// `approval`. A built-in query is read-only and just runs.
#[must_use]
pub fn review(
    argv: &[String],
    agent: &Agent,
    flow_agent: Option<&FlowAgent>,
    approval: &Approval,
) -> Verdict {
    let policy = Policy::new(agent, flow_agent, approval);
    let program = argv.first().map_or("", String::as_str);
    match resolve::check_listed(program, &policy.tools) {
        Err(error) => Verdict::Refuse { reason: error.to_string() },
        Ok(()) if http::NAMES.contains(&program) => Verdict::Allow,
        Ok(()) => judge(argv, &policy),
    }
}

#[cfg(test)]
mod tests {
    use aof_shared::config::{ApprovalChain, ApprovalMode};
    use aof_shared::ids::{AgentName, FlowName, TenantId};

    use super::*;

    fn flow() -> Flow {
        let name = FlowName::new("ops").expect("a plain name");
        let mut flow = Flow::new(TenantId::default(), name);
        let approvers = vec!["U1".to_owned(), "U2".to_owned()];
        let chain = ApprovalChain { name: "default".to_owned(), approvers, require: 2 };
        flow.approval.mode = ApprovalMode::Required;
        flow.approval.chains = vec![chain];
        flow
    }

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_review_allows_holds_and_refuses_as_a_run_would() {
        let mut agent = Agent::new(AgentName::new("ops").expect("a plain name"));
        agent.tools = vec!["kubectl".to_owned(), http::NAMES[0].to_owned()];
        let flow = flow();
        let check = |text: &str, expected: &str| {
            let verdict = review(&words(text), &agent, None, &flow.approval);
            assert_eq!(verdict.name(), expected, "{text}: {verdict:?}");
        };
        check("kubectl get pods", "allow");
        check("kubectl delete pod x", "hold");
        check("rm -r x", "refuse");
        check("/tmp/kubectl get pods", "refuse");
        check("prometheus_query up", "allow");
    }

    #[test]
    fn what_was_judged_comes_back_as_it_was_and_says_when_a_secret_was_taken_out() {
        let flow = flow();
        let verdict = Verdict::Hold { chain: "default".to_owned(), rule: "kubectl delete".into() };
        let judged = Judged::new(words("kubectl delete pod hunter2"), verdict, &flow);
        assert_eq!(judged.require, Some(2));
        let text = serde_json::to_string(&judged).expect("JSON");
        assert_eq!(serde_json::from_str::<Judged>(&text).expect("as written"), judged, "{text}");
        assert!(text.contains(r#""verdict":"hold""#), "{text}");
        let plain = judged.clone().masked_by(|text| text);
        assert_eq!(plain, judged);
        let shown = judged.masked_by(|text| text.replace("hunter2", "***"));
        assert!(shown.masked && shown.argv[3] == "***", "{shown:?}");
    }
}
