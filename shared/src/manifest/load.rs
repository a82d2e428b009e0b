//! Loads all manifests into one snapshot, and loads them again at the cost of what changed.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

use crate::clock::{Clock, SystemClock, UnixMs};
use crate::config::Snapshot;

use super::document::{self, Body, FileDocs};
use super::env::Env;
use super::files::{self, Depth, Found, Root, Stamp};
use super::finding::{self, At, Finding, Severity};
use super::link::Linker;

/// Largest manifest file, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Most threads that read files at once.
const MAX_READERS: usize = 8;

/// Looks until the daemon's folders stop changing what is looked at.
const MAX_ROUNDS: usize = 3;

/// Where manifests are.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The file with the `DaemonConfig`; its folders are loaded too.
    pub config: Option<PathBuf>,
    /// Replaces the daemon's `flows.directory`.
    pub flows_dir: Option<PathBuf>,
    /// Replaces the daemon's `agents.directory`.
    pub agents_dir: Option<PathBuf>,
    /// Further files and folders.
    pub paths: Vec<PathBuf>,
    /// Where variables come from.
    pub env: Env,
}

impl Sources {
    /// Nothing yet, with the variables of `env`.
    #[must_use]
    pub fn new(env: Env) -> Self {
        Self { config: None, flows_dir: None, agents_dir: None, paths: Vec::new(), env }
    }
}

/// What loading came to.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The configuration; `None` when any finding is an error.
    pub snapshot: Option<Snapshot>,
    /// Everything that is wrong, in the order of files and lines.
    pub findings: Vec<Finding>,
    /// How many files were looked at.
    pub files: usize,
}

impl Loaded {
    /// Whether a finding is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|f| f.severity == Severity::Error)
    }
}

/// Loads everything once.
#[must_use]
pub fn load(sources: &Sources) -> Loaded {
    Loader::new(sources.clone()).load()
}

/// Loads again and again, and reads only the files that changed.
#[derive(Debug)]
pub struct Loader {
    sources: Sources,
    /// Sorted by path.
    files: Vec<Cached>,
    /// The folders that the daemon named last time.
    named: Vec<Root>,
    /// How many places could not be looked at by the last load.
    failures: Option<usize>,
    linker: Linker,
}

#[derive(Debug)]
struct Cached {
    stamp: Stamp,
    /// The stamp may miss a later change: compare the content.
    racy: bool,
    content: [u8; 32],
    docs: FileDocs,
}

impl Loader {
    /// Has read nothing yet.
    #[must_use]
    pub fn new(sources: Sources) -> Self {
        Self {
            sources,
            files: Vec::new(),
            named: Vec::new(),
            failures: None,
            linker: Linker::default(),
        }
    }

    /// Files and folders that this configuration comes from, for watching.
    #[must_use]
    pub fn roots(&self) -> Vec<PathBuf> {
        self.given().into_iter().chain(self.named.clone()).map(|root| root.path).collect()
    }

    /// Where it loads from.
    pub(super) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Whether a file may have changed since the last load.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        let roots: Vec<Root> = self.given().into_iter().chain(self.named.clone()).collect();
        let scan = files::scan(&roots);
        let same = |(cached, found): (&Cached, &Found)| {
            cached.stamp == found.stamp && !cached.racy && cached.docs.path == found.path
        };
        let settled =
            scan.files.len() == self.files.len() && self.files.iter().zip(&scan.files).all(same);
        self.failures != Some(scan.failed.len()) || !settled
    }

    /// Brings the configuration up to date with the files.
    #[must_use]
    pub fn load(&mut self) -> Loaded {
        let mut failed = Vec::new();
        for _ in 0..MAX_ROUNDS {
            let roots: Vec<Root> = self.given().into_iter().chain(self.named.clone()).collect();
            let scan = files::scan(&roots);
            failed = scan.failed;
            self.refresh(scan.files);
            let named = self.named_by_daemon();
            if named == self.named {
                break;
            }
            self.named = named;
        }
        self.failures = Some(failed.len());
        self.assemble(failed)
    }

    /// The roots that the sources themselves name.
    fn given(&self) -> Vec<Root> {
        let sources = &self.sources;
        let all = [&sources.config, &sources.agents_dir, &sources.flows_dir];
        let all = all.into_iter().flatten().chain(&sources.paths);
        all.map(|path| Root { path: path.clone(), depth: Depth::Recursive }).collect()
    }

    /// The roots that the `DaemonConfig` names and the sources do not replace.
    fn named_by_daemon(&self) -> Vec<Root> {
        let documents = self.files.iter().flat_map(|file| &file.docs.documents);
        let daemon = documents.into_iter().find_map(|document| match &document.body {
            Body::Daemon(doc) => Some(&doc.daemon),
            _ => None,
        });
        let Some(daemon) = daemon else { return Vec::new() };
        let mut roots = Vec::new();
        if self.sources.agents_dir.is_none() {
            let path = daemon.agents_dir.clone();
            roots.extend(path.map(|path| Root { path, depth: Depth::Recursive }));
        }
        if self.sources.flows_dir.is_none() {
            let depth = if daemon.recursive { Depth::Recursive } else { Depth::Flat };
            roots.extend(daemon.flows_dir.clone().map(|path| Root { path, depth }));
        }
        roots
    }

    /// Reads what is new or changed among `found`, and forgets what is gone.
    fn refresh(&mut self, found: Vec<Found>) {
        let mut old = std::mem::take(&mut self.files).into_iter().peekable();
        let (mut files, mut due) = (Vec::with_capacity(found.len()), Vec::new());
        for (place, found) in found.into_iter().enumerate() {
            while let Some(gone) = old.next_if(|cached| *cached.docs.path < *found.path) {
                self.linker.forget(&gone.docs);
            }
            match old.next_if(|cached| cached.docs.path == found.path) {
                Some(cached) if cached.stamp == found.stamp && !cached.racy => {
                    files.push((place, cached));
                }
                cached => {
                    // If it is read anew, its flows may go; if not, comparing them does no harm.
                    cached.iter().for_each(|cached| self.linker.forget(&cached.docs));
                    due.push((place, found, cached));
                }
            }
        }
        old.for_each(|gone| self.linker.forget(&gone.docs));
        files.extend(read_all(due, &self.sources.env, SystemClock.now_ms()));
        files.sort_unstable_by_key(|(place, _)| *place);
        self.files = files.into_iter().map(|(_, cached)| cached).collect();
    }

    fn assemble(&mut self, failed: Vec<(PathBuf, io::Error)>) -> Loaded {
        let mut findings: Vec<Finding> =
            failed.iter().map(|(p, e)| self.unreadable(p, e)).collect();
        let mut docs: Vec<&mut FileDocs> = self.files.iter_mut().map(|f| &mut f.docs).collect();
        findings.extend(docs.iter().flat_map(|file| file.findings.iter().cloned()));
        let snapshot = self.linker.link(&mut docs, &mut findings);
        let order: Vec<Arc<Path>> = docs.iter().map(|file| Arc::clone(&file.path)).collect();
        let findings = finding::finish(findings, &order);
        let mut loaded = Loaded { snapshot: None, findings, files: order.len() };
        if !loaded.has_errors() {
            loaded.snapshot = Some(snapshot);
        }
        loaded
    }

    /// A folder that the daemon names is reported where it is named.
    fn unreadable(&self, path: &Path, error: &io::Error) -> Finding {
        let message = format!("cannot read {}: {error}", path.display());
        for file in &self.files {
            for document in &file.docs.documents {
                let Body::Daemon(doc) = &document.body else { continue };
                let at = match (&doc.daemon.agents_dir, &doc.daemon.flows_dir) {
                    (Some(dir), _) if dir == path => doc.agents_dir_at,
                    (_, Some(dir)) if dir == path => doc.flows_dir_at,
                    _ => continue,
                };
                return Finding::new(Severity::Error, "unreadable", &file.docs.path, at, message);
            }
        }
        Finding::new(Severity::Error, "unreadable", path, At::default(), message)
    }
}

/// A file to read, its place in the order, and what it was before.
type Due = (usize, Found, Option<Cached>);

/// Reads `due` on every processor. Files that are gone by now are left out.
fn read_all(due: Vec<Due>, env: &Env, now_ms: UnixMs) -> Vec<(usize, Cached)> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let readers = due.len().min(processors).min(MAX_READERS);
    let queue = Mutex::new(due.into_iter());
    let next = || queue.lock().ok().and_then(|mut due| due.next());
    let work = || {
        let mut done = Vec::new();
        while let Some((place, found, old)) = next() {
            done.extend(read_file(found, old, env, now_ms).map(|cached| (place, cached)));
        }
        done
    };
    if readers <= 1 {
        return work();
    }
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..readers).map(|_| scope.spawn(work)).collect();
        let done = readers.into_iter().map(|reader| reader.join());
        done.flat_map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// Reads one file, unless its content is what it was. `None` when it is gone.
fn read_file(found: Found, old: Option<Cached>, env: &Env, now_ms: UnixMs) -> Option<Cached> {
    let racy = found.stamp.is_racy(now_ms);
    let stamp = found.stamp;
    let text = match read_text(&found) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            let message = format!("cannot be read: {error}");
            let at = At::default();
            let finding = Finding::new(Severity::Error, "unreadable", &found.path, at, message);
            let docs = FileDocs::without_documents(&found.path, vec![finding]);
            return Some(Cached { stamp, racy: true, content: [0; 32], docs });
        }
    };
    let content = Sha256::digest(text.as_bytes()).into();
    if let Some(old) = old
        && old.content == content
    {
        return Some(Cached { stamp, racy, ..old });
    }
    let docs = document::read(&found.path, &text, env);
    Some(Cached { stamp, racy, content, docs })
}

fn read_text(found: &Found) -> io::Result<String> {
    if found.stamp.length > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("it is larger than {MAX_FILE_BYTES} bytes")));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(found.stamp.length).unwrap_or(0));
    std::fs::File::open(&found.path)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8 text"))
}
