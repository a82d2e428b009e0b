//! Reads `spec.approval`: who may decide what.

use crate::action::SelfApproval;
use crate::config::{Approval, ApprovalChain, ApprovalMode, ApprovalRule};

use super::finding::At;
use super::read::{Fields, Text};
use super::suggest::nearest;
use super::yaml::Value;

/// How long approvers have, in seconds, unless the flow says otherwise (interface.md).
const DEFAULT_TIMEOUT_SECS: u64 = 300;

/// The chain that `allowed_users` makes.
pub(super) const DEFAULT_CHAIN: &str = "default";

/// The chains as written: groups not yet resolved, with positions.
#[derive(Debug, Default)]
pub(super) struct ChainDoc {
    pub(super) name: String,
    /// Its name as written, when it came from a variable.
    pub(super) written: Option<Box<str>>,
    pub(super) approvers: Vec<Text>,
    pub(super) require: u32,
    pub(super) at: At,
}

/// What `context.env` says of approvals.
#[derive(Debug, Default)]
pub(super) struct FromContext {
    /// `REQUIRE_APPROVAL`.
    pub(super) require: Option<Text>,
    /// `APPROVAL_TIMEOUT`.
    pub(super) timeout: Option<Text>,
}

/// Reads `spec.approval` together with what the context says.
pub(super) fn read(spec: &mut Fields<'_, '_>, context: &FromContext) -> (Approval, Vec<ChainDoc>) {
    let demanded = demanded(spec, context);
    let timeout_secs = context.timeout.as_ref().and_then(|text| seconds(spec, text));
    let mut approval = Approval {
        timeout_secs: timeout_secs.unwrap_or(DEFAULT_TIMEOUT_SECS),
        ..Approval::default()
    };
    let Some((key, node)) = spec.entry("approval") else {
        if demanded == Some(true) {
            let at = context.require.as_ref().map_or(spec.at, |text| text.at);
            nobody(spec, at, "`REQUIRE_APPROVAL` is \"true\", but nobody may approve");
        }
        let waived = demanded == Some(false);
        approval.mode = if waived { ApprovalMode::Waived } else { ApprovalMode::Unset };
        return (approval, Vec::new());
    };
    let Some(mut fields) = Fields::of(spec.scope, node, "spec.approval") else {
        return (approval, Vec::new());
    };
    approval.mode = ApprovalMode::Required;
    let mut chains = Vec::new();
    chains.extend(default_chain(&mut fields));
    read_chains(&mut fields, &mut chains);
    approval.timeout_secs = timeout(&mut fields).unwrap_or(approval.timeout_secs);
    approval.self_approval = self_approval(&mut fields);
    let required: Vec<Text> = fields.texts("require_for");
    approval.rules = rules(&mut fields, &chains);
    fields.finish();
    if chains.is_empty() {
        nobody(spec, key.at, "`approval` names nobody who may approve");
    } else if let Some(first) = required.first()
        && !chains.iter().any(|chain| chain.name == DEFAULT_CHAIN)
    {
        nobody(spec, first.at, "`require_for` goes to `allowed_users`, and there are none");
    }
    approval.require_for = required.into_iter().map(|text| text.value).collect();
    approval.chains = chains.iter().map(ChainDoc::plain).collect();
    (approval, chains)
}

impl ChainDoc {
    /// The chain with approvers as written.
    fn plain(&self) -> ApprovalChain {
        let approvers = self.approvers.iter().map(|text| text.value.clone()).collect();
        ApprovalChain { name: self.name.clone(), approvers, require: self.require }
    }
}

fn nobody(spec: &Fields<'_, '_>, at: At, message: &str) {
    let help = "add `approval: { allowed_users: [<id>] }`".to_owned();
    spec.scope.error_with("no-approvers", at, (message.to_owned(), help));
}

/// What `REQUIRE_APPROVAL` demands, if it says something.
fn demanded(spec: &Fields<'_, '_>, context: &FromContext) -> Option<bool> {
    let text = context.require.as_ref()?;
    match text.value.trim().to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => {
            let message = "`REQUIRE_APPROVAL` must be \"true\" or \"false\"";
            spec.scope.error("wrong-value", text.at, message);
            None
        }
    }
}

fn seconds(fields: &Fields<'_, '_>, text: &Text) -> Option<u64> {
    let number = text.value.trim().parse().ok().filter(|n| *n > 0);
    if number.is_none() {
        let message = "an approval's time must be a whole number of seconds, at least 1";
        fields.scope.error("wrong-number", text.at, message);
    }
    number
}

fn timeout(fields: &mut Fields<'_, '_>) -> Option<u64> {
    let (_, node) = fields.any(&["timeout_secs", "timeout_seconds"])?;
    let text = fields.scope.text(node, "timeout_secs")?;
    seconds(fields, &text)
}

fn self_approval(fields: &mut Fields<'_, '_>) -> SelfApproval {
    let Some(text) = fields.text("self_approval") else { return SelfApproval::default() };
    match text.value.as_str() {
        "allowed" | "true" => SelfApproval::Allowed,
        "never" | "false" => SelfApproval::Never,
        _ => {
            let message = format!("`{}` is not a rule for one's own actions", text.shown());
            let help = "use `allowed` or `never`".to_owned();
            fields.scope.error_with("wrong-value", text.at, (message, help));
            SelfApproval::Never
        }
    }
}

fn default_chain(fields: &mut Fields<'_, '_>) -> Option<ChainDoc> {
    let (key, node) = fields.entry("allowed_users")?;
    let approvers = fields.scope.texts(node, "allowed_users");
    if approvers.is_empty() {
        nobody(fields, key.at, "`allowed_users` is empty");
    }
    let name = DEFAULT_CHAIN.to_owned();
    Some(ChainDoc { name, approvers, require: 1, at: key.at, ..ChainDoc::default() })
}

fn read_chains(fields: &mut Fields<'_, '_>, chains: &mut Vec<ChainDoc>) {
    let Some(node) = fields.take("chains") else { return };
    let Value::List(items) = &node.value else {
        fields.scope.error("wrong-type", node.at, "`chains` must be a list");
        return;
    };
    for item in items {
        let Some(mut chain) = Fields::of(fields.scope, item, "spec.approval.chains[]") else {
            continue;
        };
        let name = chain.text("name");
        let approvers = chain.texts("approvers");
        let require = chain.positive("require").unwrap_or(1);
        let (scope, at) = (chain.scope, name.as_ref().map_or(item.at, |text| text.at));
        chain.finish();
        let (name, written) = name.map(|text| (text.value, text.written)).unwrap_or_default();
        if name.is_empty() {
            scope.error("missing-key", at, "a chain needs a `name`");
        } else if chains.iter().any(|other| other.name == name) {
            let message = "two chains have this name".to_owned();
            let help = "`allowed_users` makes the chain `default`".to_owned();
            scope.error_with("duplicate-name", at, (message, help));
        }
        if approvers.is_empty() {
            scope.error("no-approvers", at, "this chain names nobody who may approve");
        }
        chains.push(ChainDoc { name, written, approvers, require, at });
    }
}

fn rules(fields: &mut Fields<'_, '_>, chains: &[ChainDoc]) -> Vec<ApprovalRule> {
    let Some(node) = fields.take("rules") else {
        return Vec::new();
    };
    let Value::List(items) = &node.value else {
        fields.scope.error("wrong-type", node.at, "`rules` must be a list");
        return Vec::new();
    };
    let mut rules = Vec::new();
    for item in items {
        let Some(mut rule) = Fields::of(fields.scope, item, "spec.approval.rules[]") else {
            continue;
        };
        let (pattern, chain) = (rule.text("pattern"), rule.text("chain"));
        let scope = rule.scope;
        rule.finish();
        let Some(pattern) = pattern.filter(|text| !text.value.trim().is_empty()) else {
            scope.error("missing-key", item.at, "a rule needs a `pattern`");
            continue;
        };
        let name = chain.as_ref().map_or(DEFAULT_CHAIN, |text| &text.value);
        if !chains.iter().any(|c| c.name == name) {
            unknown_chain(fields, &chain, item.at, chains);
        }
        rules.push(ApprovalRule { pattern: pattern.value, chain: name.to_owned() });
    }
    rules
}

fn unknown_chain(fields: &Fields<'_, '_>, chain: &Option<Text>, at: At, chains: &[ChainDoc]) {
    let shown = chain.as_ref().map_or(DEFAULT_CHAIN, Text::shown);
    let known = chains.iter().filter(|c| c.written.is_none()).map(|c| c.name.as_str());
    let help = match nearest(shown, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "define it below `chains`".to_owned(),
    };
    let at = chain.as_ref().map_or(at, |text| text.at);
    let message = format!("no chain is called `{shown}`");
    fields.scope.error_with("unknown-chain", at, (message, help));
}
