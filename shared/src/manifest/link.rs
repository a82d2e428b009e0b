//! Joins all documents into a snapshot: who is whose, and what revision that makes.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::config::{Agent, ApprovalChain, Daemon, Flow, Instance, Snapshot};
use crate::ids::{AgentName, InstanceName, Revision, TenantId};

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

/// Joins documents again and again, and joins only what an edit can have changed.
///
/// A flow depends on its own document and on the *context*: agents, groups, accounts. While
/// the context stays, only the flows of changed files are joined anew, and only their
/// tenants' flows compared with each other.
#[derive(Debug, Default)]
pub(super) struct Linker {
    context: Context,
    /// Tenants that lost a file, or a version of one, since the last time.
    touched: HashSet<TenantId>,
    /// What comparing the flows of a tenant showed.
    compared: HashMap<TenantId, Vec<Finding>>,
}

/// What any flow may depend on.
#[derive(Debug, Default)]
struct Context {
    /// Digest of the documents that it was made of; zeros before the first time.
    digest: [u8; 32],
    agents: Agents,
    groups: Groups,
    daemon: Arc<Daemon>,
    accounts: Accounts,
    instances: Vec<Arc<Instance>>,
    findings: Vec<Finding>,
}

impl Linker {
    /// `file` is gone, or another version of it has come.
    pub(super) fn forget(&mut self, file: &FileDocs) {
        self.touched.extend(file.flows().map(|(_, doc)| doc.flow.tenant.clone()));
    }

    /// The snapshot that `files` make, and in `findings` everything that is wrong between
    /// documents. With an error among them the snapshot is not fit for use.
    pub(super) fn link(
        &mut self,
        files: &mut [&mut FileDocs],
        findings: &mut Vec<Finding>,
    ) -> Snapshot {
        let digest = context_digest(files);
        let all = self.context.digest != digest || !self.context.findings.is_empty();
        if all {
            self.context = Context::of(files, digest);
        }
        let context = &self.context;
        for place in 0..files.len() {
            if all || files[place].joined.is_none() {
                join(files, place, context);
                self.touched.extend(files[place].flows().map(|(_, d)| d.flow.tenant.clone()));
            }
        }
        let touched = std::mem::take(&mut self.touched);
        self.compared.retain(|tenant, _| !all && !touched.contains(tenant));
        if !touched.is_empty() {
            check::compare(files, &touched, &mut self.compared);
        }
        findings.extend(context.findings.iter().cloned());
        findings.extend(files.iter().filter_map(|f| f.joined.as_ref()).flatten().cloned());
        findings.extend(self.compared.values().flatten().cloned());
        Snapshot {
            revision: whole_revision(files),
            flows: files.iter().flat_map(|f| f.flows()).map(|(_, d)| Arc::clone(&d.flow)).collect(),
            agents: context.agents.clone(),
            instances: context.instances.clone(),
            groups: context.groups.clone(),
            daemon: Arc::clone(&context.daemon),
        }
    }
}

/// Joins the flows of one file with the context, and checks each.
fn join(files: &mut [&mut FileDocs], place: usize, context: &Context) {
    let path = Arc::clone(&files[place].path);
    let mut findings = Vec::new();
    for document in &mut files[place].documents {
        let Body::Flow(doc) = &mut document.body else { continue };
        let instance = find_instance(doc, &context.accounts, &path, &mut findings);
        let revision = revision(&document.hash, doc, &context.agents, &context.groups);
        resolve(doc, instance, revision, &context.groups);
    }
    let world = check::World {
        files,
        agents: &context.agents,
        groups: &context.groups,
        accounts: &context.accounts,
    };
    check::each(&world, place, &mut findings);
    files[place].joined = Some(findings);
}

fn context_digest(files: &[&mut FileDocs]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for exports in files.iter().filter_map(|file| file.exports) {
        hasher.update(exports);
    }
    hasher.finalize().into()
}

impl Context {
    fn of(files: &[&mut FileDocs], digest: [u8; 32]) -> Self {
        let mut findings = Vec::new();
        let (daemon, groups) = daemon(files, &mut findings);
        let agents = agents(files, &mut findings);
        let mut accounts = collect_accounts(files, &mut findings);
        accounts.name_all(&mut findings);
        for (_, doc) in files.iter().flat_map(|file| file.flows()).filter(|(_, d)| d.names_channels)
        {
            resolve_channels(doc, &mut accounts);
        }
        check::default_agent(files, &agents, &mut findings);
        check::models(files, &daemon.models, &mut findings);
        let instances = accounts.instances();
        let daemon = Arc::new(daemon);
        Self { digest, agents, groups, daemon, accounts, instances, findings }
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

/// The accounts of the daemon and of all flows.
fn collect_accounts(files: &[&mut FileDocs], findings: &mut Vec<Finding>) -> Accounts {
    let mut accounts = Accounts::default();
    for file in files {
        for document in &file.documents {
            let Body::Daemon(doc) = &document.body else { continue };
            for account in &doc.accounts {
                let tenant = account.tenant.clone().unwrap_or_default();
                let origin = Origin { file: &file.path, at: account.at, by: By::Daemon };
                accounts.add(account, &tenant, origin, findings);
            }
        }
    }
    for file in files {
        for (_, doc) in file.flows() {
            let Some(account) = &doc.account else { continue };
            let origin = Origin { file: &file.path, at: doc.trigger_at, by: By::Flow };
            accounts.add(account, &doc.flow.tenant, origin, findings);
        }
    }
    accounts
}

/// The number of the account that a flow defines or names.
fn account_of(doc: &FlowDoc, accounts: &Accounts) -> Option<usize> {
    let account = doc.account.as_ref()?;
    if account.attempted {
        return accounts.number(account);
    }
    let platform = doc.flow.trigger.platform.as_ref()?;
    accounts.named(&doc.flow.tenant, platform, account.name.as_ref()?)
}

/// The account that a flow listens through, when it says which.
fn find_instance(
    doc: &FlowDoc,
    accounts: &Accounts,
    path: &Path,
    findings: &mut Vec<Finding>,
) -> Option<InstanceName> {
    let number = account_of(doc, accounts);
    let named = doc.account.as_ref().is_some_and(|account| !account.attempted);
    if named && number.is_none() {
        let platform = doc.flow.trigger.platform.as_ref().map_or("", |p| p.as_str());
        let message = format!("this organization has no {platform} account of that name");
        let help = "give the account's credentials here or in `DaemonConfig`";
        findings.push(error("unknown-instance", path, doc.trigger_at, message).help(help));
    }
    number.map(|number| accounts.instance(number).name.clone())
}

/// Notes which accounts must know their channels by name for this flow.
fn resolve_channels(doc: &FlowDoc, accounts: &mut Accounts) {
    let flow = &doc.flow;
    let numbers: Vec<usize> = match account_of(doc, accounts) {
        Some(number) => vec![number],
        None => accounts.of(&flow.tenant, flow.trigger.platform.as_ref()).collect(),
    };
    numbers.into_iter().for_each(|number| accounts.resolve_channels(number));
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
fn resolved_chains(doc: &FlowDoc, groups: &Groups) -> Option<Vec<ApprovalChain>> {
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
