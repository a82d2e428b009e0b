//! Reads `kind: AgentFlow`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Flow, FlowAgent, FlowContext, RateLimits, SourceRef};
use crate::ids::{FlowName, TenantId};
use crate::message::Priority;
use crate::pattern::Case;
use crate::secret::Secret;

use super::agent;
use super::approval::{self, ChainDoc, FromContext};
use super::finding::At;
use super::instance::{Account, NAME_RULE};
use super::pattern;
use super::read::{Fields, Scope, Text};
use super::tool;
use super::trigger;
use super::yaml::{Node, Value};

/// A name in a flow, and where it stands.
#[derive(Debug)]
pub(super) struct Reference {
    pub(super) at: At,
    /// As written, when it came from a variable.
    pub(super) written: Option<Box<str>>,
}

/// A flow as its document has it: instance, groups and revision are filled in by linking.
#[derive(Debug)]
pub(super) struct FlowDoc {
    pub(super) flow: Arc<Flow>,
    pub(super) name: Reference,
    pub(super) tenant: Reference,
    pub(super) trigger_at: At,
    pub(super) channels_at: At,
    /// `agents[].name`, in order.
    pub(super) agents: Vec<Reference>,
    /// The account that its trigger's credentials define, or that it names.
    pub(super) account: Option<Box<Account>>,
    /// Whether it filters by names of channels, which must be resolved.
    pub(super) names_channels: bool,
    pub(super) chains: Vec<ChainDoc>,
    /// Texts of its context that may tell an environment, as written.
    pub(super) hints: Vec<(At, Box<str>)>,
}

impl FlowDoc {
    /// What other flows may depend on: whose account it defines, and whether that must
    /// know names of channels.
    pub(super) fn exports(&self) -> Vec<u8> {
        let mut content = Vec::new();
        let platform = self.flow.trigger.platform.as_ref().map_or("", |p| p.as_str());
        for part in [self.flow.tenant.as_str(), platform] {
            content.extend_from_slice(part.as_bytes());
            content.push(0);
        }
        content.push(u8::from(self.names_channels));
        if let Some(account) = &self.account {
            account.write_to(&mut content);
        }
        content
    }
}

/// What a document has above its `spec`.
pub(super) struct Head {
    pub(super) name: Text,
    pub(super) labels: BTreeMap<String, String>,
    /// `labels.organization`.
    pub(super) organization: Option<Text>,
    pub(super) line: u32,
}

/// Reads a flow's fields below `spec`. `None`, with a finding that says why, when it
/// cannot stand in a snapshot.
pub(super) fn read(mut spec: Fields<'_, '_>, head: Head) -> Option<FlowDoc> {
    let scope = spec.scope;
    let connections = spec.entry("connections");
    if let Some((key, _)) = spec.entry("nodes").or(connections) {
        let message = format!(
            "flow `{}` is a graph of nodes, a form that is not read: it is left out",
            head.name.shown()
        );
        let help = "name the agents that work on it in `spec.agents` instead".to_owned();
        scope.warn_with("not-supported", key.at, (message, help));
        return None;
    }
    let trigger = trigger::read(&mut spec, &head.name);
    let context = read_context(&mut spec);
    let tenant = tenant(scope, context.organization, head.organization);
    let (approval, chains) = approval::read(&mut spec, &context.approval);
    let (agents, references) = read_agents(&mut spec, &head.name);
    let limits = limits(&mut spec, "limits", "spec.limits");
    spec.known(&["description"]);
    spec.finish();
    let name = flow_name(scope, &head.name);
    let (tenant, tenant_name) = tenant?;
    let mut flow = Flow::new(tenant, name?);
    flow.source = SourceRef { file: PathBuf::from(&**scope.file), line: head.line as usize };
    flow.labels = head.labels;
    flow.context = context.context;
    flow.agents = agents;
    flow.approval = approval;
    flow.limits = limits;
    let trigger = trigger?;
    flow.trigger = trigger.trigger;
    Some(FlowDoc {
        flow: Arc::new(flow),
        name: Reference { at: head.name.at, written: head.name.written },
        tenant: tenant_name,
        trigger_at: trigger.at,
        channels_at: trigger.channels_at,
        agents: references,
        account: trigger.account,
        names_channels: trigger.names_channels,
        chains,
        hints: context.hints,
    })
}

fn flow_name(scope: &Scope<'_>, name: &Text) -> Option<FlowName> {
    let flow = FlowName::new(&name.value).ok().filter(|n| *n != FlowName::default_route());
    if flow.is_none() {
        let message = format!("`{}` is not a usable flow name", name.shown());
        scope.error_with("bad-name", name.at, (message, NAME_RULE.to_owned()));
    }
    flow
}

/// `context.organization`, else the label, else `default`.
fn tenant(
    scope: &Scope<'_>,
    context: Option<Text>,
    label: Option<Text>,
) -> Option<(TenantId, Reference)> {
    if let (Some(context), Some(label)) = (&context, &label)
        && context.value != label.value
    {
        let message = "the label names another organization than the context".to_owned();
        scope.error_with("two-tenants", label.at, (message, "keep one of them".to_owned()));
    }
    let Some(text) = context.or(label) else {
        return Some((TenantId::default(), Reference { at: At::default(), written: None }));
    };
    let tenant = TenantId::new(&text.value).ok();
    if tenant.is_none() {
        let message = format!("`{}` is not a usable organization", text.shown());
        scope.error_with("bad-name", text.at, (message, NAME_RULE.to_owned()));
    }
    Some((tenant?, Reference { at: text.at, written: text.written }))
}

/// `spec.context` taken apart.
#[derive(Default)]
struct ContextDoc {
    context: FlowContext,
    organization: Option<Text>,
    approval: FromContext,
    hints: Vec<(At, Box<str>)>,
}

fn read_context(spec: &mut Fields<'_, '_>) -> ContextDoc {
    let mut doc = ContextDoc::default();
    let Some(mut fields) = spec.fields("context", "spec.context") else { return doc };
    let scope = fields.scope;
    doc.organization = fields.text("organization");
    doc.context.kubeconfig = hinting(&mut fields, &["kubeconfig"], &mut doc.hints);
    doc.context.cluster_name = hinting(&mut fields, &["cluster_name", "cluster"], &mut doc.hints);
    doc.context.namespace = fields.text("namespace").map(|text| text.value);
    if let Some((_, node)) = fields.any(&["working_dir", "working_directory"]) {
        doc.context.working_dir = scope.text(node, "working_dir").map(|t| PathBuf::from(t.value));
    }
    if let Some(mut env) = fields.fields("env", "spec.context.env") {
        for (key, node) in env.rest() {
            read_variable(scope, &key.text, node, &mut doc);
        }
    }
    fields.known(&["description"]);
    fields.finish();
    doc
}

/// The text under one of `names`, kept as written too: it may tell an environment.
fn hinting(
    fields: &mut Fields<'_, '_>,
    names: &[&'static str],
    hints: &mut Vec<(At, Box<str>)>,
) -> Option<String> {
    let (_, node) = fields.any(names)?;
    if let Value::Scalar { text, .. } = &node.value {
        hints.push((node.at, Box::from(text.as_ref())));
    }
    fields.scope.text(node, names[0]).map(|text| text.value)
}

fn read_variable(scope: &Scope<'_>, key: &str, node: &Node<'_>, doc: &mut ContextDoc) {
    let Some(text) = scope.text(node, key) else { return };
    if !super::env::is_variable_name(key) {
        let message = format!("`{key}` cannot name an environment variable");
        let help = "use letters, digits and `_`, not starting with a digit".to_owned();
        scope.error_with("bad-name", node.at, (message, help));
    }
    doc.context.env.insert(key.to_owned(), Secret::new(&text.value));
    match key {
        "REQUIRE_APPROVAL" => doc.approval.require = Some(text),
        "APPROVAL_TIMEOUT" => doc.approval.timeout = Some(text),
        _ => {}
    }
}

fn read_agents(spec: &mut Fields<'_, '_>, flow: &Text) -> (Vec<FlowAgent>, Vec<Reference>) {
    let (mut agents, mut references) = (Vec::new(), Vec::new());
    let scope = spec.scope;
    let items = match spec.entry("agents").map(|(_, node)| (&node.value, node.at)) {
        Some((Value::List(items), _)) => items.as_slice(),
        Some((_, at)) => {
            scope.error("wrong-type", at, "`agents` must be a list");
            return (agents, references);
        }
        None => &[],
    };
    for item in items {
        if let Some((agent, reference)) = read_agent(scope, item) {
            agents.push(agent);
            references.push(reference);
        }
    }
    if items.is_empty() {
        let help = "add `agents: [{ name: <agent> }]`".to_owned();
        let says = (format!("flow `{}` names no agent", flow.shown()), help);
        scope.error_with("missing-key", flow.at, says);
    }
    (agents, references)
}

fn read_agent(scope: &Scope<'_>, item: &Node<'_>) -> Option<(FlowAgent, Reference)> {
    let mut fields = Fields::of(scope, item, "spec.agents[]")?;
    let name = fields.text("name");
    let patterns = fields.texts("patterns");
    patterns.iter().for_each(|text| pattern::check(scope, text, Case::Ignored));
    let priority = fields.text("priority").map(|text| priority(scope, &text));
    let tools = tool::tools(&mut fields);
    let tool_config = tool::tool_config(&mut fields, tools.as_deref());
    fields.known(&["description"]);
    let Some(name) = name else {
        scope.error("missing-key", item.at, "an agent of a flow needs a `name`");
        return None;
    };
    let agent = FlowAgent {
        name: agent::agent_name(&fields, &name)?,
        patterns: patterns.into_iter().map(|text| text.value).collect(),
        priority: priority.unwrap_or_default(),
        tools,
        tool_config,
    };
    fields.finish();
    Some((agent, Reference { at: name.at, written: name.written }))
}

fn priority(scope: &Scope<'_>, text: &Text) -> Priority {
    match text.value.to_ascii_lowercase().as_str() {
        "critical" => Priority::Critical,
        "normal" => Priority::Normal,
        _ => {
            let message = format!("`{}` is not a priority", text.shown());
            let help = "use `critical` or `normal`".to_owned();
            scope.error_with("wrong-value", text.at, (message, help));
            Priority::Normal
        }
    }
}

/// The rate limits below `name`.
pub(super) fn limits(
    fields: &mut Fields<'_, '_>,
    name: &'static str,
    path: &'static str,
) -> RateLimits {
    let Some(mut limits) = fields.fields(name, path) else { return RateLimits::default() };
    let read = RateLimits {
        max_requests_per_minute: limits.positive("max_requests_per_minute"),
        max_requests_per_hour: limits.positive("max_requests_per_hour"),
        max_tokens_per_request: limits.positive("max_tokens_per_request"),
        max_tokens_per_day: limits.positive("max_tokens_per_day"),
    };
    limits.finish();
    read
}
