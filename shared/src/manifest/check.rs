//! Checks between documents. What one document shows alone is found while reading it.

mod approvers;
mod environment;
mod models;
mod shadow;
mod tools;

pub(super) use models::check as models;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use crate::ids::{FlowName, TenantId};

use super::accounts::Accounts;
use super::approval::ChainDoc;
use super::document::{Body, FileDocs};
use super::finding::{At, Finding, Severity};
use super::flow::{FlowDoc, Reference};
use super::link::{Agents, Groups, error, shown};
use super::platform::Platform;
use super::suggest::nearest;

/// Everything that was read.
pub(super) struct World<'w, 'f> {
    pub(super) files: &'w [&'f mut FileDocs],
    pub(super) agents: &'w Agents,
    pub(super) groups: &'w Groups,
    pub(super) accounts: &'w Accounts,
}

/// A flow and the file it is in.
#[derive(Clone, Copy)]
pub(super) struct Located<'w> {
    pub(super) path: &'w Arc<Path>,
    pub(super) doc: &'w FlowDoc,
}

/// Checks every flow of one file against the context.
pub(super) fn each(world: &World<'_, '_>, place: usize, findings: &mut Vec<Finding>) {
    let file = &world.files[place];
    for (_, doc) in file.flows() {
        let flow = Located { path: &file.path, doc };
        agents(world, flow, findings);
        credentials(world, flow, findings);
        environment::check(flow, findings);
        approvers::check(world, flow, findings);
        tools::check(world, flow, findings);
    }
}

/// Compares the flows of each of `tenants` with each other.
pub(super) fn compare(
    files: &[&mut FileDocs],
    tenants: &HashSet<TenantId>,
    into: &mut HashMap<TenantId, Vec<Finding>>,
) {
    let mut by_tenant: HashMap<&TenantId, Vec<Located<'_>>> = HashMap::new();
    for file in files {
        for (_, doc) in file.flows().filter(|(_, doc)| tenants.contains(&doc.flow.tenant)) {
            by_tenant.entry(&doc.flow.tenant).or_default().push(Located { path: &file.path, doc });
        }
    }
    for (tenant, flows) in by_tenant {
        let mut findings = Vec::new();
        names(&flows, &mut findings);
        shadow::check(&flows, &mut findings);
        if !findings.is_empty() {
            into.insert(tenant.clone(), findings);
        }
    }
}

/// Two flows of a tenant with one name.
fn names(flows: &[Located<'_>], findings: &mut Vec<Finding>) {
    let mut first: HashMap<&FlowName, Located<'_>> = HashMap::with_capacity(flows.len());
    for &flow in flows {
        let Some(other) = first.insert(&flow.doc.flow.name, flow) else { continue };
        let name = shown(&flow.doc.name, flow.doc.flow.name.as_str());
        let line = other.doc.name.at.line;
        let message = format!(
            "a second flow is called `{name}`; the first is at {}:{line}",
            other.path.display()
        );
        findings.push(error("duplicate-name", flow.path, flow.doc.name.at, message));
        first.insert(&flow.doc.flow.name, other);
    }
}

/// A fallback that nobody defines.
pub(super) fn default_agent(files: &[&mut FileDocs], agents: &Agents, findings: &mut Vec<Finding>) {
    for file in files {
        for document in &file.documents {
            let Body::Daemon(doc) = &document.body else { continue };
            if let (Some(agent), Some(reference)) = (&doc.daemon.default_agent, &doc.default_agent)
                && !agents.contains_key(agent)
            {
                findings.push(missing_agent(files, &file.path, reference, agent.as_str()));
            }
        }
    }
}

fn agents(world: &World<'_, '_>, flow: Located<'_>, findings: &mut Vec<Finding>) {
    for (agent, reference) in flow.doc.flow.agents.iter().zip(&flow.doc.agents) {
        if !world.agents.contains_key(&agent.name) {
            findings.push(missing_agent(world.files, flow.path, reference, agent.name.as_str()));
        }
    }
}

fn missing_agent(files: &[&mut FileDocs], path: &Path, at: &Reference, name: &str) -> Finding {
    let documents = files.iter().flat_map(|file| &file.documents);
    let known = documents.filter_map(|document| match &document.body {
        Body::Agent(doc) if doc.written.is_none() => Some(doc.agent.name.as_str()),
        _ => None,
    });
    let help = match nearest(name, known).filter(|_| at.written.is_none()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "add a document with `kind: Agent` and this name".to_owned(),
    };
    let message = format!("no agent is called `{}`", shown(at, name));
    error("missing-agent", path, at.at, message).help(help)
}

/// A flow that no message can reach, for want of an account.
fn credentials(world: &World<'_, '_>, flow: Located<'_>, findings: &mut Vec<Finding>) {
    let doc = flow.doc;
    let Some(name) = &doc.flow.trigger.platform else { return };
    let needs = Platform::of_type(name.as_str()).is_some_and(Platform::needs_credentials);
    if !needs || doc.account.is_some() {
        return;
    }
    if world.accounts.of(&doc.flow.tenant, Some(name)).next().is_none() {
        let tenant = shown(&doc.tenant, doc.flow.tenant.as_str());
        let message = format!("organization `{tenant}` has no account on {name}");
        let help = "give credentials in `trigger.config`, or in `spec.platforms` of `DaemonConfig`";
        findings.push(warning("no-credentials", flow.path, doc.trigger_at, message).help(help));
    }
}

pub(super) fn warning(
    code: &'static str,
    file: &Path,
    at: At,
    message: impl Into<String>,
) -> Finding {
    Finding::new(Severity::Warning, code, file, at, message)
}

/// The people of a chain, groups replaced by their members, each once.
pub(super) fn members(chain: &ChainDoc, groups: &Groups) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut people = Vec::new();
    for approver in &chain.approvers {
        let one = std::slice::from_ref(&approver.value);
        for person in groups.get(&approver.value).map_or(one, Vec::as_slice) {
            if seen.insert(person.as_str()) {
                people.push(person.clone());
            }
        }
    }
    people
}
