//! Joins all documents into a snapshot: who is whose, and what revision that makes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::config::{Agent, Daemon, Flow, Snapshot};
use crate::ids::{AgentName, InstanceName, Revision};

use super::accounts::{Accounts, By, Origin};
use super::check;
use super::daemon::DaemonDoc;
use super::document::{Body, FileDocs};
use super::finding::{At, Finding, Severity};
use super::flow::{FlowDoc, Reference};

/// Agents by name.
pub(super) type Agents = HashMap<AgentName, Arc<Agent>>;

/// Groups of approvers by name.
pub(super) type Groups = HashMap<String, Vec<String>>;

/// The snapshot that `files` make, and in `findings` everything that is wrong between
/// documents. With an error among them the snapshot is not fit for use.
pub(super) fn link(files: &mut [&mut FileDocs], findings: &mut Vec<Finding>) -> Snapshot {
    let (daemon, groups) = daemon(files, findings);
    let agents = agents(files, findings);
    let mut accounts = Accounts::default();
    let numbers = collect_accounts(files, &mut accounts, findings);
    accounts.name_all(findings);
    let mut flows = Vec::with_capacity(numbers.len());
    let mut numbers = numbers.into_iter();
    for file in files.iter_mut() {
        let path = Arc::clone(&file.path);
        for document in &mut file.documents {
            let Body::Flow(doc) = &mut document.body else { continue };
            let number = numbers.next().flatten();
            let instance = find_instance(doc, number, &mut accounts, (&path, findings));
            let revision = revision(&document.hash, doc, &agents, &groups);
            resolve(doc, instance, revision, &groups);
            flows.push(Arc::clone(&doc.flow));
        }
    }
    let world = check::World { files, agents: &agents, groups: &groups, accounts: &accounts };
    check::all(&world, findings);
    Snapshot {
        revision: whole_revision(files),
        flows,
        agents,
        instances: accounts.into_instances(),
        groups,
        daemon: Arc::new(daemon),
    }
}

/// The one `DaemonConfig`.
fn daemon(files: &[&mut FileDocs], findings: &mut Vec<Finding>) -> (Daemon, Groups) {
    let mut found: Option<(&Arc<Path>, &DaemonDoc)> = None;
    for file in files {
        for document in &file.documents {
            let Body::Daemon(doc) = &document.body else { continue };
            if let Some((first, first_doc)) = found {
                let message = format!(
                    "a second DaemonConfig; the first is at {}:{}",
                    first.display(),
                    first_doc.at.line
                );
                findings.push(error("duplicate-name", &file.path, doc.at, message));
            } else {
                found = Some((&file.path, doc));
            }
        }
    }
    found.map(|(_, doc)| (doc.daemon.clone(), doc.groups.clone())).unwrap_or_default()
}

fn agents(files: &[&mut FileDocs], findings: &mut Vec<Finding>) -> Agents {
    let mut agents = Agents::new();
    for file in files {
        for document in &file.documents {
            let Body::Agent(doc) = &document.body else { continue };
            match agents.entry(doc.agent.name.clone()) {
                Entry::Vacant(entry) => {
                    entry.insert(Arc::clone(&doc.agent));
                }
                Entry::Occupied(first) => {
                    let shown = doc.written.as_deref().unwrap_or(doc.agent.name.as_str());
                    let first = &first.get().source;
                    let message = format!(
                        "a second agent is called `{shown}`; the first is at {}:{}",
                        first.file.display(),
                        first.line
                    );
                    findings.push(error("duplicate-name", &file.path, doc.at, message));
                }
            }
        }
    }
    agents
}

/// Adds the accounts of the daemon and of all flows; one number a flow, in order.
fn collect_accounts(
    files: &[&mut FileDocs],
    accounts: &mut Accounts,
    findings: &mut Vec<Finding>,
) -> Vec<Option<usize>> {
    for file in files {
        for document in &file.documents {
            let Body::Daemon(doc) = &document.body else { continue };
            for account in &doc.accounts {
                let tenant = account.tenant.clone().unwrap_or_default();
                let origin =
                    Origin { file: Arc::clone(&file.path), at: account.at, by: By::Daemon };
                accounts.add(account, &tenant, origin, findings);
            }
        }
    }
    let mut numbers = Vec::new();
    for file in files {
        for document in &file.documents {
            let Body::Flow(doc) = &document.body else { continue };
            numbers.push(doc.account.as_ref().and_then(|account| {
                let origin =
                    Origin { file: Arc::clone(&file.path), at: doc.trigger_at, by: By::Flow };
                accounts.add(account, &doc.flow.tenant, origin, findings)
            }));
        }
    }
    numbers
}

/// The account that a flow listens through, when it says which.
fn find_instance(
    doc: &FlowDoc,
    number: Option<usize>,
    accounts: &mut Accounts,
    (path, findings): (&Arc<Path>, &mut Vec<Finding>),
) -> Option<InstanceName> {
    let flow = &doc.flow;
    let platform = flow.trigger.platform.as_ref();
    let account = doc.account.as_ref().filter(|account| !account.attempted);
    let named = account.and_then(|account| account.name.as_ref());
    let number = match (number, platform, named) {
        (None, Some(platform), Some(name)) => {
            let number = accounts.named(&flow.tenant, platform, name);
            if number.is_none() {
                let message = format!("this organization has no {platform} account of that name");
                let help = "give the account's credentials here or in `DaemonConfig`";
                let finding = error("unknown-instance", path, doc.trigger_at, message);
                findings.push(finding.help(help));
            }
            number
        }
        (number, ..) => number,
    };
    if doc.names_channels {
        let all: Vec<usize> = match number {
            Some(number) => vec![number],
            None => accounts.of(&flow.tenant, platform).collect(),
        };
        all.into_iter().for_each(|number| accounts.resolve_channels(number));
    }
    number.map(|number| accounts.instance(number).name.clone())
}

/// Hash of the flow's document, its agents' documents, and the groups its chains name.
fn revision(hash: &[u8; 32], doc: &FlowDoc, agents: &Agents, groups: &Groups) -> Revision {
    let mut content = Vec::with_capacity(hash.len() + 24 * doc.flow.agents.len());
    content.extend_from_slice(hash);
    for agent in &doc.flow.agents {
        let revision = agents.get(&agent.name).map_or("", |agent| agent.revision.as_str());
        content.extend_from_slice(revision.as_bytes());
        content.push(0);
    }
    for approver in doc.chains.iter().flat_map(|chain| &chain.approvers) {
        for member in groups.get(&approver.value).into_iter().flatten() {
            content.extend_from_slice(member.as_bytes());
            content.push(0);
        }
    }
    Revision::of(&content)
}

/// Fills in what other documents decide; a flow that stays as it is stays the same `Arc`.
fn resolve(doc: &mut FlowDoc, instance: Option<InstanceName>, revision: Revision, groups: &Groups) {
    let chains = resolved_chains(doc, groups);
    let same = doc.flow.revision == revision
        && doc.flow.trigger.instance == instance
        && chains.as_ref().is_none_or(|chains| chains == &doc.flow.approval.chains);
    if same {
        return;
    }
    let flow: &mut Flow = Arc::make_mut(&mut doc.flow);
    flow.revision = revision;
    flow.trigger.instance = instance;
    if let Some(chains) = chains {
        flow.approval.chains = chains;
    }
}

/// The chains with groups replaced by their members; `None` when no group is named, and
/// none was.
fn resolved_chains(doc: &FlowDoc, groups: &Groups) -> Option<Vec<crate::config::ApprovalChain>> {
    if doc.chains.is_empty() {
        return None;
    }
    let mut chains = doc.flow.approval.chains.clone();
    for (chain, written) in chains.iter_mut().zip(&doc.chains) {
        chain.approvers = check::members(written, groups);
    }
    Some(chains)
}

fn whole_revision(files: &[&mut FileDocs]) -> Revision {
    let mut hasher = Sha256::new();
    for file in files {
        file.documents.iter().for_each(|document| hasher.update(document.hash));
    }
    Revision::of(&hasher.finalize())
}

pub(super) fn error(
    code: &'static str,
    file: &Path,
    at: At,
    message: impl Into<String>,
) -> Finding {
    Finding::new(Severity::Error, code, file, at, message)
}

/// What may be shown of the name `value` that `reference` stands for.
pub(super) fn shown<'r>(reference: &'r Reference, value: &'r str) -> &'r str {
    reference.written.as_deref().unwrap_or(value)
}
