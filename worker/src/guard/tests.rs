//! The guard against written cases, rule by rule, and against made-up ones.

mod cases;
mod property;
mod verdicts;

use std::collections::BTreeMap;

use aof_shared::config::{
    Agent, Approval, ApprovalChain, ApprovalMode, ApprovalRule, FlowAgent, ToolConfig,
};

use super::{Policy, Verdict, judge, parse_command};

/// What the agent of these tests lists.
const TOOLS: &str = "kubectl helm terraform tofu aws gcloud az gsutil git docker podman systemctl journalctl psql mysql \
    redis-cli sh bash zsh fish env sudo doas xargs timeout nice ionice nohup time stdbuf setsid busybox toybox command watch ssh \
    chroot su script flock unshare nsenter systemd-run parallel strace find python3 perl ruby node make vim ansible eval exec trap \
    alias cat ls curl wget jq yq rm sed awk grep sort uniq cut tr head tail wc tee diff echo printf date hostname dig \
    nslookup ping traceroute ip ss netstat lsof ps top uptime whoami id uname df du free vmstat iostat dmesg sysctl stat base64 \
    sha256sum tar basename mkdir printenv openssl rev xxd gunzip dd mkfs.ext4 truncate shred mv cp kill pkill shutdown chmod \
    crontab iptables kustomize mytool prometheus_query loki_query pagerduty rg ag ack fuser gzip xz zip rsync less man tar";

fn agent(tools: &str) -> Agent {
    let mut agent = Agent::new("ops".parse().expect("a name"));
    agent.tools = tools.split_whitespace().map(str::to_owned).collect();
    agent
}

fn chain(name: &str, require: u32) -> ApprovalChain {
    let approvers = vec!["U1".to_owned(), "U2".to_owned()];
    ApprovalChain { name: name.to_owned(), approvers, require }
}

/// 001's approvals, both of its forms at once.
fn approval() -> Approval {
    let rule = |pattern: &str, chain: &str| ApprovalRule {
        pattern: pattern.to_owned(),
        chain: chain.to_owned(),
    };
    Approval {
        mode: ApprovalMode::Required,
        require_for: ["kubectl delete", "kubectl scale --replicas=0", "helm uninstall"]
            .map(str::to_owned)
            .to_vec(),
        rules: vec![
            rule("kubectl delete namespace", "critical"),
            rule("kubectl delete", "standard"),
        ],
        chains: vec![chain("default", 1), chain("standard", 1), chain("critical", 2)],
        ..Approval::default()
    }
}

fn policy() -> Policy {
    Policy::new(&agent(TOOLS), None, &approval())
}

/// With `require_for` alone.
fn requiring(patterns: &[&str]) -> Policy {
    let approval = Approval {
        mode: ApprovalMode::Required,
        require_for: patterns.iter().map(|&p| p.to_owned()).collect(),
        chains: vec![chain("default", 1)],
        ..Approval::default()
    };
    Policy::new(&agent(TOOLS), None, &approval)
}

/// An agent that may run only these commands of these tools.
fn allowing(tool: &str, commands: &[&str]) -> Policy {
    let commands = commands.iter().map(|&c| c.to_owned()).collect();
    let config = ToolConfig { allowed_commands: Some(commands), ..ToolConfig::default() };
    let flow = FlowAgent {
        name: "ops".parse().expect("a name"),
        patterns: Vec::new(),
        priority: Default::default(),
        tools: None,
        tool_config: BTreeMap::from([(tool.to_owned(), config)]),
    };
    Policy::new(&agent(TOOLS), Some(&flow), &approval())
}

fn decide(text: &str, policy: &Policy) -> Verdict {
    match parse_command(text) {
        Ok(argv) => judge(&argv, policy),
        Err(error) => Verdict::Refuse { reason: error.to_string() },
    }
}

/// `allow`, `refuse`, or the chain that it is held for.
fn outcome(text: &str, policy: &Policy) -> String {
    match decide(text, policy) {
        Verdict::Allow => "allow".to_owned(),
        Verdict::Refuse { .. } => "refuse".to_owned(),
        Verdict::Hold { chain, .. } => chain,
    }
}
