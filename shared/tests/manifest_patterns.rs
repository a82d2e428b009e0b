//! Loads every manifest that 001 shows, as it is written there.

use std::path::{Path, PathBuf};

use aof_shared::config::{ApprovalMode, Flow, Runtime, SessionStrategy, Snapshot};
use aof_shared::ids::{AgentName, PlatformName, TenantId};
use aof_shared::manifest::{self, Env, Finding, Loaded, Paint, Severity, Sources};
use aof_shared::message::{MessageKind, Priority};

/// Every variable is its own name in lower case, so that results can be told.
fn env() -> Env {
    Env::new(|name| Some(name.to_lowercase()))
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn load(config: &Path) -> Loaded {
    manifest::load(&Sources { config: Some(config.to_owned()), ..Sources::new(env()) })
}

fn rendered(findings: &[Finding]) -> String {
    findings.iter().map(|finding| finding.render(Paint::Plain)).collect()
}

fn snapshot(loaded: Loaded) -> Snapshot {
    let findings = rendered(&loaded.findings);
    loaded.snapshot.unwrap_or_else(|| panic!("does not load:\n{findings}"))
}

fn flow<'s>(snapshot: &'s Snapshot, name: &str) -> &'s Flow {
    let found = snapshot.flows.iter().find(|flow| flow.name.as_str() == name);
    found.unwrap_or_else(|| panic!("no flow {name}"))
}

#[test]
fn every_pattern_loads_unchanged() {
    let loaded = load(&here("tests/manifests/patterns/daemon-config.yaml"));
    let unexpected: Vec<_> = loaded
        .findings
        .iter()
        .filter(|f| !matches!(f.code, "unguarded-tools" | "never-wins"))
        .cloned()
        .collect();
    assert!(unexpected.is_empty(), "{}", rendered(&unexpected));
    let snapshot = snapshot(loaded);
    let names: Vec<_> = snapshot.flows.iter().map(|flow| flow.name.as_str()).collect();
    let in_load_order = [
        "admin-only-flow",
        "developer-flow",
        "org-a-flow",
        "incident-flow",
        "shared-assistant-slack",
        "shared-assistant-telegram",
        "shared-assistant-discord",
        "prod-k8s-flow",
        "staging-dev-flow",
    ];
    assert_eq!(names, in_load_order);
    assert_eq!(snapshot.agents.len(), 6);
}

#[test]
fn a_flow_keeps_everything_that_its_file_says() {
    let snapshot = snapshot(load(&here("tests/manifests/patterns/daemon-config.yaml")));
    let flow = flow(&snapshot, "prod-k8s-flow");
    assert_eq!(flow.tenant, TenantId::default());
    assert_eq!(flow.source.line, 2);
    assert_eq!(flow.labels["cluster"], "prod-us-east-1");
    let trigger = &flow.trigger;
    assert_eq!(trigger.platform, Some(PlatformName::slack()));
    assert_eq!(trigger.instance.as_ref().map(|i| i.as_str()), Some("default"));
    assert_eq!(trigger.channels, ["production", "prod-alerts", "sre-oncall"]);
    let kinds = [MessageKind::Mention, MessageKind::Command, MessageKind::Message];
    assert_eq!(trigger.events, kinds);
    assert_eq!(flow.context.kubeconfig.as_deref(), Some("kubeconfig_prod"));
    assert_eq!(flow.context.namespace.as_deref(), Some("default"));
    assert_eq!(flow.context.cluster_name.as_deref(), Some("prod-us-east-1"));
    assert_eq!(flow.context.env["APPROVAL_TIMEOUT"].expose(), "300");
    assert_eq!(flow.agents[1].patterns, ["incident", "outage", "alert", "pagerduty"]);
    let approval = &flow.approval;
    assert_eq!(approval.mode, ApprovalMode::Required);
    assert_eq!(approval.timeout_secs, 300);
    assert_eq!(approval.require_for[1], "kubectl scale --replicas=0");
    assert_eq!(approval.chains.len(), 1);
    assert_eq!(approval.chains[0].approvers, ["U015VBH1GTZ", "U012ADMIN"]);
    assert_eq!((approval.chains[0].name.as_str(), approval.chains[0].require), ("default", 1));
}

#[test]
fn other_patterns_mean_what_001_says_of_them() {
    let snapshot = snapshot(load(&here("tests/manifests/patterns/daemon-config.yaml")));
    assert_eq!(flow(&snapshot, "staging-dev-flow").approval.mode, ApprovalMode::Waived);
    assert_eq!(flow(&snapshot, "developer-flow").approval.mode, ApprovalMode::Unset);
    let developer = &flow(&snapshot, "developer-flow").agents[0];
    let allowed = developer.tool_config["kubectl"].allowed_commands.as_deref();
    assert_eq!(allowed, Some(&["get".to_owned(), "describe".to_owned(), "logs".to_owned()][..]));
    assert_eq!(flow(&snapshot, "admin-only-flow").trigger.users.len(), 3);
    assert_eq!(flow(&snapshot, "admin-only-flow").trigger.instance, None);
    let incident = flow(&snapshot, "incident-flow");
    assert_eq!(incident.agents[0].priority, Priority::Critical);
    assert_eq!(incident.trigger.patterns[1], "CRITICAL|HIGH|URGENT");
    let org_a = flow(&snapshot, "org-a-flow");
    assert_eq!(org_a.tenant.as_str(), "org-a");
    assert_eq!(org_a.limits.max_requests_per_hour, Some(1000));
    assert_eq!(org_a.limits.max_tokens_per_request, Some(4096));
    assert_eq!(org_a.trigger.instance.as_ref().map(|i| i.as_str()), Some("org-a"));
}

#[test]
fn credentials_make_one_instance_however_often_they_are_written() {
    let snapshot = snapshot(load(&here("tests/manifests/patterns/daemon-config.yaml")));
    let mut instances: Vec<_> = snapshot
        .instances
        .iter()
        .map(|i| (i.platform.as_str(), i.tenant.as_str(), i.name.as_str(), i.needs_channel_names))
        .collect();
    instances.sort_unstable();
    let expected = [
        ("discord", "default", "default", false),
        ("slack", "default", "default", true),
        ("slack", "org-a", "org-a", false),
        ("telegram", "default", "default", false),
    ];
    assert_eq!(instances, expected);
}

#[test]
fn the_daemon_keeps_everything_that_its_file_says() {
    let snapshot = snapshot(load(&here("tests/manifests/patterns/daemon-config.yaml")));
    let daemon = &snapshot.daemon;
    assert_eq!(daemon.listen, "0.0.0.0:8080");
    assert!(daemon.watch && daemon.recursive && !daemon.strict_mode);
    assert_eq!(daemon.default_agent.as_ref().map(AgentName::as_str), Some("general-assistant"));
    assert_eq!((daemon.max_concurrent_tasks, daemon.task_timeout_secs), (50, 300));
    assert_eq!(daemon.max_tasks_per_user, 5);
}

#[test]
fn agents_load_in_both_forms() {
    let snapshot = snapshot(load(&here("tests/manifests/patterns/daemon-config.yaml")));
    let agent = |name: &str| &snapshot.agents[&AgentName::new(name).expect("a name")];
    assert_eq!(agent("dev-assistant").model.provider, "ollama");
    assert_eq!(agent("dev-assistant").model.name, "llama3:8b");
    assert_eq!(agent("dev-assistant").instructions, "You help.");
    assert_eq!(agent("admin-agent").max_iterations, 3);
    assert_eq!(agent("admin-agent").model.provider, "");
    assert_eq!(agent("general-assistant").runtime, Runtime::Command);
    assert_eq!(agent("org-a-assistant").memory.session, SessionStrategy::PerUser);
}

#[test]
fn the_example_tree_is_001s_and_has_no_errors() {
    let root = here("../examples/aof-deployment");
    for file in [
        "daemon-config.yaml",
        "agents/k8s-ops.yaml",
        "agents/incident-responder.yaml",
        "agents/dev-assistant.yaml",
        "agents/security-scanner.yaml",
        "flows/prod-cluster/k8s-flow.yaml",
        "flows/prod-cluster/incident-flow.yaml",
        "flows/staging-cluster/dev-flow.yaml",
        "flows/enterprise/org-a-flow.yaml",
        "flows/enterprise/org-b-flow.yaml",
    ] {
        assert!(root.join(file).is_file(), "{file}");
    }
    let loaded = load(&root.join("daemon-config.yaml"));
    let codes: Vec<_> = loaded.findings.iter().map(|f| (f.severity, f.code)).collect();
    assert!(codes.iter().all(|c| *c == (Severity::Warning, "unguarded-tools")), "{codes:?}");
    let snapshot = snapshot(loaded);
    assert_eq!(snapshot.flows.len(), 5);
    let whole = manifest::load(&Sources { paths: vec![root], ..Sources::new(env()) });
    assert_eq!(whole.snapshot.map(|s| s.revision), Some(snapshot.revision));
}

/// Loads a fragment of 001 below `head`, with `more` added to its `spec`.
fn fragment(head: &str, text: &str, more: &str) -> Loaded {
    let dir = tempfile::tempdir().expect("a directory");
    let agents =
        "apiVersion: aof.dev/v1\nkind: Agent\nmetadata: {name: a}\nspec: {model: 'ollama:y'}\n";
    let file = format!("apiVersion: aof.dev/v1\n{head}\n{text}{more}\n---\n{agents}");
    std::fs::write(dir.path().join("fragment.yaml"), file).expect("write");
    manifest::load(&Sources { paths: vec![dir.path().to_owned()], ..Sources::new(env()) })
}

const FLOW: &str = "kind: AgentFlow\nmetadata: {name: f, labels: {}}";
const DAEMON: &str = "kind: DaemonConfig\nmetadata: {name: d}";

#[test]
fn approval_chains_load_as_shown() {
    let text = include_str!("manifests/fragments/chains.yaml");
    let more = "  trigger: {type: Chat}\n  agents: [{name: a}]\n";
    let snapshot = snapshot(fragment(FLOW, text, more));
    let approval = &snapshot.flows[0].approval;
    let chains: Vec<_> = approval.chains.iter().map(|c| (c.name.as_str(), c.require)).collect();
    assert_eq!(chains, [("standard", 1), ("critical", 2)]);
    let rules: Vec<_> = approval.rules.iter().map(|r| (&*r.pattern, &*r.chain)).collect();
    let expected = [("kubectl delete namespace", "critical"), ("kubectl delete", "standard")];
    assert_eq!(rules, expected);
}

#[test]
fn limits_and_cluster_settings_load_as_shown() {
    let snapshot_of = |text| snapshot(fragment(DAEMON, text, ""));
    let limits = snapshot_of(include_str!("manifests/fragments/limits.yaml"));
    assert_eq!(limits.daemon.limits_global.max_requests_per_minute, Some(100));
    assert_eq!(limits.daemon.limits_per_organization.max_tokens_per_day, Some(1_000_000));
    assert_eq!(limits.daemon.limits_per_user.max_requests_per_minute, Some(10));
    let loaded = fragment(DAEMON, include_str!("manifests/fragments/cluster.yaml"), "");
    let codes: Vec<_> = loaded.findings.iter().map(|f| (f.code, f.line)).collect();
    assert_eq!(codes, [("no-effect", 13)], "{}", rendered(&loaded.findings));
    let cluster = snapshot(loaded).daemon.cluster.clone();
    assert_eq!(cluster.redis_url.expect("given").expose(), "redis_url");
}
#[test]
fn the_wrong_example_is_wrong_and_the_correct_ones_are_correct() {
    let text = include_str!("manifests/fragments/environments.yaml");
    let parts: Vec<&str> = text.split_inclusive("\n").collect();
    let starts: Vec<usize> = (0..parts.len()).filter(|n| parts[*n].starts_with("spec:")).collect();
    assert_eq!(starts.len(), 3);
    for (n, start) in starts.iter().enumerate() {
        let end = starts.get(n + 1).copied().unwrap_or(parts.len());
        let loaded = fragment(FLOW, &parts[*start..end].concat(), "  agents: [{name: a}]\n");
        let codes: Vec<_> = loaded.findings.iter().map(|f| f.code).collect();
        let expected: &[&str] = if n == 0 { &["mixed-environments"] } else { &[] };
        assert_eq!(codes, expected, "{}", rendered(&loaded.findings));
    }
}
