//! Tools that can destroy something in flows where nobody can approve.

use super::{Finding, Located, World, warning};
use crate::config::{ApprovalMode, FlowAgent, ToolConfig};

/// Programs that can destroy something.
const DESTRUCTIVE: [&str; 25] = [
    "ansible",
    "ansible-playbook",
    "argocd",
    "aws",
    "az",
    "bash",
    "docker",
    "eksctl",
    "flux",
    "gcloud",
    "helm",
    "kubectl",
    "mysql",
    "oc",
    "podman",
    "psql",
    "pulumi",
    "redis-cli",
    "rm",
    "sh",
    "shell",
    "systemctl",
    "terraform",
    "tofu",
    "velero",
];

/// First words that only read.
const READING: [&str; 32] = [
    "api-resources",
    "api-versions",
    "cluster-info",
    "describe",
    "diff",
    "events",
    "explain",
    "fmt",
    "get",
    "graph",
    "help",
    "history",
    "images",
    "info",
    "inspect",
    "list",
    "logs",
    "ls",
    "output",
    "plan",
    "ps",
    "search",
    "show",
    "stats",
    "status",
    "template",
    "top",
    "validate",
    "verify",
    "version",
    "wait",
    "whoami",
];

/// Warns of tools whose destructive commands will all be refused.
pub(super) fn check(world: &World<'_, '_>, flow: Located<'_>, findings: &mut Vec<Finding>) {
    let doc = flow.doc;
    if doc.flow.approval.mode != ApprovalMode::Unset {
        return;
    }
    for (agent, reference) in doc.flow.agents.iter().zip(&doc.agents) {
        let tools = destructive(world, agent);
        if tools.is_empty() {
            continue;
        }
        let message = format!(
            "destructive commands of {} will be refused here: nobody may approve them",
            tools.join(", ")
        );
        let help = "add `approval: { allowed_users: [<id>] }`, restrict the tool with \
                    `allowed_commands`, or waive with `context.env.REQUIRE_APPROVAL: \"false\"`";
        let finding = warning("unguarded-tools", flow.path, reference.at, message);
        findings.push(finding.help(help));
    }
}

/// The tools of `agent` here that can destroy and are not restricted to reading.
fn destructive(world: &World<'_, '_>, agent: &FlowAgent) -> Vec<&'static str> {
    let defined = world.agents.get(&agent.name);
    let own = defined.map(|agent| agent.tools.as_slice()).unwrap_or_default();
    let tools = agent.tools.as_deref().unwrap_or(own);
    let config = |tool: &str| {
        let own = defined.and_then(|agent| agent.tool_config.get(tool));
        agent.tool_config.get(tool).or(own)
    };
    let named = |name: &&&str| tools.iter().any(|tool| tool == **name);
    DESTRUCTIVE.iter().filter(named).filter(|name| !only_reads(config(name))).copied().collect()
}

fn only_reads(config: Option<&ToolConfig>) -> bool {
    let allowed = config.and_then(|config| config.allowed_commands.as_ref());
    allowed.is_some_and(|all| {
        all.iter().all(|command| {
            let first = command.split_whitespace().next().unwrap_or_default();
            READING.contains(&first)
        })
    })
}
