//! Approvers nobody is, quorums nobody can reach, chains nothing leads to.

use std::collections::HashSet;

use super::{Finding, Located, World, error, members, warning};
use crate::action::SelfApproval;
use crate::manifest::approval::{ChainDoc, DEFAULT_CHAIN};
use crate::manifest::platform::Platform;
use crate::manifest::read::Text;
use crate::manifest::suggest::nearest;

/// Checks every chain of a flow.
pub(super) fn check(world: &World<'_, '_>, flow: Located<'_>, findings: &mut Vec<Finding>) {
    for chain in &flow.doc.chains {
        for approver in &chain.approvers {
            findings.extend(nobody(world, flow, approver));
        }
        findings.extend(unreachable(world, flow, chain));
    }
    findings.extend(flow.doc.chains.iter().enumerate().filter_map(|(n, c)| unused(flow, n, c)));
}

/// An entry that is neither a person nor a group.
fn nobody(world: &World<'_, '_>, flow: Located<'_>, approver: &Text) -> Option<Finding> {
    let text = approver.value.as_str();
    if world.groups.contains_key(text) {
        return None;
    }
    let bound = text.split_once(':').and_then(|(p, id)| Some((Platform::of_type(p)?, id)));
    let own = flow.doc.flow.trigger.platform.as_ref();
    let own = own.and_then(|name| Platform::of_type(name.as_str()));
    let (platform, id) = bound.map_or((own, text), |(platform, id)| (Some(platform), id));
    let plain = !id.is_empty() && !id.contains(char::is_whitespace) && !id.starts_with(['@', '#']);
    let known = || world.groups.keys().map(String::as_str);
    let near = nearest(text, known()).filter(|_| approver.written.is_none());
    let shape = platform.and_then(|p| p.is_user_id(id));
    if plain && (shape == Some(true) || (shape.is_none() && near.is_none())) {
        return None;
    }
    let shown = approver.shown();
    let help = match (near, platform) {
        (Some(near), _) => format!("did you mean the group `{near}`?"),
        (None, Some(platform)) => format!(
            "give the id of a person on {} ({}), or a group of `DaemonConfig`",
            platform.name,
            platform.user_id_shape()
        ),
        (None, None) => "give a person's id, or a group of `DaemonConfig`".to_owned(),
    };
    // A word may still be the name of an API key, whose owner may vote from elsewhere.
    let may_be_key = plain && bound.is_none() && is_lower_word(id);
    let finding = if may_be_key {
        let message = format!("`{shown}` can approve through an API key of that name only");
        warning("unknown-approver", flow.path, approver.at, message)
    } else {
        let message = format!("nobody is `{shown}`: it is neither a person's id nor a group");
        error("unknown-approver", flow.path, approver.at, message)
    };
    Some(finding.help(help))
}

fn is_lower_word(text: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(word)
}

/// A chain that not even all of its approvers together can satisfy.
fn unreachable(world: &World<'_, '_>, flow: Located<'_>, chain: &ChainDoc) -> Option<Finding> {
    let people = members(chain, world.groups);
    let people: HashSet<&str> = people.iter().map(|person| human(person)).collect();
    if people.is_empty() {
        return None;
    }
    let require = chain.require as usize;
    let count = people.len();
    let persons = if count == 1 { "person" } else { "people" };
    if require > count {
        let message = format!("this chain needs {require} people and has {count} {persons}");
        let help = format!("add approvers, or write `require: {count}`");
        return Some(error("unreachable-quorum", flow.path, chain.at, message).help(help));
    }
    let own_counts = require == 1 && flow.doc.flow.approval.self_approval == SelfApproval::Allowed;
    let users = &flow.doc.flow.trigger.users;
    let stuck =
        |user: &String| !own_counts && people.contains(user.as_str()) && require > count - 1;
    if !users.is_empty() && users.iter().all(stuck) {
        let message = format!(
            "this chain needs {require} of {count} {persons}, and whoever may ask is one of them"
        );
        let help = "requesters do not count here: add an approver who is not in `users`";
        return Some(error("unreachable-quorum", flow.path, chain.at, message).help(help));
    }
    None
}

/// The person behind `platform:id` or `id`: one human counts once across platforms.
fn human(entry: &str) -> &str {
    match entry.split_once(':') {
        Some((platform, id)) if Platform::of_type(platform).is_some() => id,
        _ => entry,
    }
}

/// A chain that neither a rule nor the fallback leads to. The fallback is `default`, or
/// the first chain when none has that name.
fn unused(flow: Located<'_>, place: usize, chain: &ChainDoc) -> Option<Finding> {
    let doc = flow.doc;
    let has_default = doc.chains.iter().any(|c| c.name == DEFAULT_CHAIN);
    let fallback = chain.name == DEFAULT_CHAIN || (place == 0 && !has_default);
    if fallback || doc.flow.approval.rules.iter().any(|rule| rule.chain == chain.name) {
        return None;
    }
    let shown = chain.written.as_deref().unwrap_or(&chain.name);
    let message = format!("no rule leads to chain `{shown}`: its approvers are never asked");
    let help = format!("add `rules: [{{ pattern: …, chain: {shown} }}]`, or remove the chain");
    Some(warning("unused-chain", flow.path, chain.at, message).help(help))
}
