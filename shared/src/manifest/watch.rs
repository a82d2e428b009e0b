//! Puts edits in force while the node runs.
//!
//! The file system's notices say *when* to look, never *what* changed: the loader compares
//! stamps itself, so a notice that is lost, doubled or late changes nothing but the delay.
//! A slow poll looks even without any notice (network file systems, replaced folders,
//! exhausted inotify watches). A revision with an error in it is reported and dropped;
//! the one in force stays.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::config::{Config, Flow, Snapshot};
use crate::ids::{FlowName, Revision, TenantId};
use crate::lifecycle::Lifecycle;

use super::finding::Finding;
use super::load::{Loaded, Loader, Sources};

/// How long the files must be quiet before they are read: an editor's save or the swap of
/// a ConfigMap is many small steps.
const QUIET: Duration = Duration::from_millis(200);

/// Longest wait for quiet; half of the two seconds in which an edit must be in force.
const LONGEST_NOISE: Duration = Duration::from_millis(1_000);

/// Shortest time between two looks without a notice.
const POLL: Duration = Duration::from_millis(1_000);

/// A look may take this share of one processor: one part in 20.
const POLL_SHARE: u32 = 20;

/// What came of an edit.
#[derive(Debug, Clone)]
pub enum Reload {
    /// It is in force.
    Applied {
        /// The revision in force now.
        revision: Revision,
        /// The one before; the same when a rejected edit was taken back.
        previous: Revision,
        /// Flows that are new, gone or different, by tenant and name.
        changed: Vec<(TenantId, FlowName)>,
        /// Warnings.
        findings: Vec<Finding>,
    },
    /// It has errors: what was in force still is.
    Rejected {
        /// Everything that is wrong.
        findings: Vec<Finding>,
    },
}

/// Watches what `sources` name until `lifecycle` stops, and applies every good edit to
/// `config`. Every outcome goes to `report`, each once however often it is looked at.
///
/// Does nothing when `DaemonConfig` says `watch: false`.
pub async fn watch(
    sources: Sources,
    config: Config,
    lifecycle: Lifecycle,
    report: impl Fn(Reload) + Send + 'static,
) {
    watch_from(Loader::new(sources), config, lifecycle, report).await;
}

/// As [`watch`], with the loader that loaded `config`, so that nothing is read twice.
pub async fn watch_from(
    loader: Loader,
    config: Config,
    lifecycle: Lifecycle,
    report: impl Fn(Reload) + Send + 'static,
) {
    if !config.current().daemon.watch {
        lifecycle.stopped().await;
        return;
    }
    let sources = loader.sources().clone();
    let mut notices = Notices::new();
    let mut reporter = Reporter { config, report, rejected: None };
    let mut loader = Some(loader);
    let mut pause = Duration::ZERO;
    while !lifecycle.stopping() {
        let at_hand = loader.take().unwrap_or_else(|| Loader::new(sources.clone()));
        notices.follow(&at_hand.roots());
        tokio::select! {
            biased;
            () = lifecycle.stopped() => return,
            () = notices.wait(pause) => {}
        }
        let start = Instant::now();
        // A panic costs the cache; the next round reads everything anew.
        let looked = blocking(at_hand, |loader| loader.is_stale()).await;
        pause = POLL.max(start.elapsed() * POLL_SHARE);
        let Some((at_hand, stale)) = looked else { continue };
        if !stale {
            loader = Some(at_hand);
            continue;
        }
        notices.quiet().await;
        let Some((at_hand, loaded)) = blocking(at_hand, Loader::load).await else { continue };
        reporter.settle(loaded);
        loader = Some(at_hand);
    }
}

/// Runs `work` where it may block; `None` when it panicked.
async fn blocking<T: Send + 'static>(
    mut loader: Loader,
    work: impl FnOnce(&mut Loader) -> T + Send + 'static,
) -> Option<(Loader, T)> {
    let done = tokio::task::spawn_blocking(move || {
        let result = work(&mut loader);
        (loader, result)
    });
    let done = done.await;
    done.inspect_err(|error| tracing::error!(%error, "reading the manifests failed")).ok()
}

/// Applies and reports what was loaded.
struct Reporter<F> {
    config: Config,
    report: F,
    /// What was reported last, if it was a rejection.
    rejected: Option<Vec<Finding>>,
}

impl<F: Fn(Reload)> Reporter<F> {
    fn settle(&mut self, loaded: Loaded) {
        let Some(snapshot) = loaded.snapshot else {
            let mut findings = loaded.findings;
            findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
            if self.rejected.as_ref() != Some(&findings) {
                self.rejected = Some(findings.clone());
                (self.report)(Reload::Rejected { findings });
            }
            return;
        };
        let before = self.config.current();
        let (revision, previous) = (snapshot.revision.clone(), before.revision.clone());
        let taken_back = self.rejected.take().is_some();
        if revision == previous && !taken_back {
            return;
        }
        let changed = changed(&before, &snapshot);
        if revision != previous {
            self.config.apply(snapshot);
        }
        let findings = loaded.findings;
        (self.report)(Reload::Applied { revision, previous, changed, findings });
    }
}

/// Flows that are in one snapshot only, or differ.
fn changed(before: &Snapshot, after: &Snapshot) -> Vec<(TenantId, FlowName)> {
    let key = |flow: &Flow| (flow.tenant.clone(), flow.name.clone());
    let mut old: HashMap<_, _> = before.flows.iter().map(|flow| (key(flow), flow)).collect();
    let mut changed = BTreeSet::new();
    for flow in &after.flows {
        let key = key(flow);
        if old.remove(&key).is_none_or(|old| old.revision != flow.revision) {
            changed.insert(key);
        }
    }
    changed.extend(old.into_keys());
    changed.into_iter().collect()
}

/// The file system's notices.
struct Notices {
    watcher: Option<RecommendedWatcher>,
    followed: BTreeSet<PathBuf>,
    arrived: mpsc::Receiver<()>,
}

impl Notices {
    fn new() -> Self {
        let (send, arrived) = mpsc::channel(1);
        let handler = move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| is_change(&event)) {
                // A full channel already says that something changed.
                let _ = send.try_send(());
            }
        };
        let watcher = notify::recommended_watcher(handler).inspect_err(|error| {
            tracing::warn!(%error, "no notices of changed manifests: only looking every second");
        });
        Self { watcher: watcher.ok(), followed: BTreeSet::new(), arrived }
    }

    /// Watches `roots`, folders with all below them; of a file, its folder, since editors
    /// replace files.
    fn follow(&mut self, roots: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else { return };
        for root in roots.iter().filter(|root| !root.as_os_str().is_empty()) {
            if self.followed.contains(root) {
                continue;
            }
            let (path, mode) = match root.is_dir() {
                true => (root.as_path(), RecursiveMode::Recursive),
                false => (folder_of(root), RecursiveMode::NonRecursive),
            };
            match watcher.watch(path, mode) {
                Ok(()) => {
                    self.followed.insert(root.clone());
                }
                Err(error) => {
                    tracing::debug!(path = %path.display(), %error, "no notices of this path");
                }
            }
        }
    }

    /// Waits for a notice, at most for `pause`.
    async fn wait(&mut self, pause: Duration) {
        let _ = timeout(pause, self.next()).await;
    }

    /// Waits until notices stop. Files that never come to rest are read as they are; the
    /// next round looks again.
    async fn quiet(&mut self) {
        let noise = async { while timeout(QUIET, self.next()).await.is_ok() {} };
        let _ = timeout(LONGEST_NOISE, noise).await;
    }

    /// The next notice; never when there will be none.
    async fn next(&mut self) {
        if self.arrived.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Reading is no change: our own reads would wake us for ever.
fn is_change(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

#[cfg(test)]
mod tests;
