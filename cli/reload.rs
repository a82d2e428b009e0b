//! Edits of manifests while a node runs: applied or rejected, logged and journaled.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use aof_shared::config::Snapshot;
use aof_shared::event::{Event, EventType};
use aof_shared::ids::{EventId, TenantId};
use aof_shared::manifest::{self, Finding, Loader, Reload, Severity};
use aof_shared::node::Node;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use uuid::Uuid;

/// Edits not journaled yet; a node that falls behind by more logs the rest only.
const MAX_WAITING: usize = 64;
/// Findings that one journal entry names.
const MAX_FINDINGS: usize = 20;
/// Kinds of edits counted by a node of a cluster; beyond, it forgets all and counts anew.
const MAX_COUNTED: usize = 10_000;
/// What the node's warning about an edit concerns.
const PART: &str = "configuration";

/// Watches the manifests until the node stops. `loader` loaded what the node starts with.
pub(crate) fn start(node: &Node, loader: Loader) {
    let (tell, told) = mpsc::channel(MAX_WAITING);
    node.lifecycle.spawn(journal(node.clone(), told));
    let watched = node.clone();
    node.lifecycle.spawn(async move {
        let Node { config, lifecycle, .. } = watched.clone();
        let report = move |reload: Reload| {
            log(&reload);
            watched.health.warn(PART, warning(&reload));
            if tell.try_send(entries(&watched.config.current(), &reload)).is_err() {
                tracing::warn!("edits come faster than they can be journaled");
            }
        };
        manifest::watch_from(loader, config, lifecycle, report).await;
    });
}

fn log(reload: &Reload) {
    match reload {
        Reload::Applied { revision, previous, changed, findings } => {
            tracing::info!(%revision, %previous, flows_changed = changed.len(), "configuration applied");
            findings.iter().for_each(|f| tracing::warn!("{}", f.line()));
        }
        Reload::Rejected { findings } => {
            tracing::error!("configuration rejected; the last good one serves on");
            findings.iter().for_each(|f| match f.severity {
                Severity::Error => tracing::error!("{}", f.line()),
                Severity::Warning => tracing::warn!("{}", f.line()),
            });
        }
    }
}

/// What operators see until the next good edit.
fn warning(reload: &Reload) -> Option<String> {
    let Reload::Rejected { findings } = reload else { return None };
    let mut errors = findings.iter().filter(|f| f.severity == Severity::Error);
    let first = errors.next().map(Finding::line).unwrap_or_default();
    let more = match errors.count() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    Some(format!("an edit was rejected, the last good one serves on: {first}{more}"))
}

/// A journal entry for one tenant.
type Entry = (TenantId, EventType, Value);

/// What each tenant may know of it: their own flows, and findings in their own files.
fn entries(current: &Snapshot, reload: &Reload) -> Vec<Entry> {
    match reload {
        Reload::Applied { revision, previous, changed, .. } => {
            let mut flows: BTreeMap<&TenantId, Vec<&str>> = BTreeMap::new();
            for (tenant, flow) in changed {
                flows.entry(tenant).or_default().push(flow.as_str());
            }
            let entry = |(tenant, flows): (&TenantId, Vec<&str>)| {
                let data = json!({"revision": revision, "previous": previous, "flows": flows});
                (tenant.clone(), EventType::ConfigApplied, data)
            };
            flows.into_iter().map(entry).collect()
        }
        Reload::Rejected { findings } => {
            let mut lines: BTreeMap<TenantId, Vec<String>> = BTreeMap::new();
            for finding in findings.iter().filter(|f| f.severity == Severity::Error) {
                for tenant in concerned(current, finding) {
                    lines.entry(tenant).or_default().push(finding.line());
                }
            }
            let entry = |(tenant, mut lines): (TenantId, Vec<String>)| {
                let total = lines.len();
                lines.truncate(MAX_FINDINGS);
                let data = json!({"serving": current.revision, "errors": total, "findings": lines});
                (tenant, EventType::ConfigRejected, data)
            };
            lines.into_iter().map(entry).collect()
        }
    }
}

/// Whose file it is: the tenants with flows in it, or the default one when nobody has.
fn concerned(current: &Snapshot, finding: &Finding) -> BTreeSet<TenantId> {
    let inside = |path: &Path| path == finding.file;
    let owners: BTreeSet<TenantId> = current
        .flows
        .iter()
        .filter(|flow| inside(&flow.source.file))
        .map(|flow| flow.tenant.clone())
        .collect();
    if owners.is_empty() { BTreeSet::from([TenantId::default_tenant()]) } else { owners }
}

/// How often each edit was seen: the nodes of a cluster, which all see it, arrive at the same
/// id and journal it once.
#[derive(Default)]
struct Edits(HashMap<EventId, u32>);

impl Edits {
    fn id(&mut self, (tenant, kind, data): &Entry) -> EventId {
        let what = format!("{tenant} {} {data}", kind.name());
        let edit = EventId::derive(Uuid::nil(), &what);
        if self.0.len() >= MAX_COUNTED {
            self.0.clear();
        }
        let times = self.0.entry(edit).or_default();
        *times += 1;
        EventId::derive(edit.0, &times.to_string())
    }
}

async fn journal(node: Node, mut told: mpsc::Receiver<Vec<Entry>>) {
    let mut edits = Edits::default();
    loop {
        let entries = tokio::select! {
            () = node.lifecycle.stopped() => return,
            entries = told.recv() => entries,
        };
        let Some(entries) = entries else { return };
        let now_ms = node.ports.clock.now_ms();
        let revision = node.config.current().revision.clone();
        let alone = node.members.list().is_empty();
        let events = entries.into_iter().filter_map(|entry| {
            // One process sees each edit once, and its count would start again with it.
            let id = if alone { EventId(Uuid::now_v7()) } else { edits.id(&entry) };
            let (tenant, kind, data) = entry;
            Event::new(id, &tenant, kind, now_ms).under(&revision).with(data).publication().ok()
        });
        if let Err(error) = node.ports.queue.publish(events.collect()).await {
            tracing::warn!(%error, "an edit could not be journaled");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_see_the_same_edits_give_them_the_same_ids() {
        let entry = |tenant: &str, revision: &str| -> Entry {
            let tenant = TenantId::new(tenant).expect("a name");
            (tenant, EventType::ConfigApplied, json!({ "revision": revision }))
        };
        let edits = [entry("a", "1"), entry("a", "2"), entry("a", "1"), entry("b", "1")];
        let [one, other] = [(); 2].map(|()| {
            let mut seen = Edits::default();
            edits.each_ref().map(|edit| seen.id(edit))
        });
        assert_eq!(one, other);
        let different: BTreeSet<_> = one.iter().map(|id| id.0).collect();
        assert_eq!(different.len(), edits.len(), "an edit that comes back is another one");
    }
}
