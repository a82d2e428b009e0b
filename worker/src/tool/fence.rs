//! Keeps a tool away from what the node itself lives on: its data, keys and manifests, the
//! other organisations' kubeconfigs, and the memory of its process.
//!
//! A tool runs as the same user as the node, so file modes do not help. The node starts
//! itself again as a launcher (`aofctl run-tool`), which fences itself in with Landlock,
//! takes resource limits, asks to die with the node, and only then becomes the tool.
//! Landlock knows only what is allowed, so everything is, except the way down to what is
//! hidden: there each sibling is allowed by name. What is made beside that way later is
//! out of reach too, which errs on the safe side.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aof_shared::config::Snapshot;
use aof_shared::ids::{Revision, TenantId};

/// The hidden command of the launcher.
pub const LAUNCH_COMMAND: &str = "run-tool";
/// Most memory that a tool may write to, in bytes; mappings it only reserves do not count.
#[cfg(target_os = "linux")]
const MAX_DATA_BYTES: u64 = 2 << 30;
/// Largest file that a tool may write, in bytes.
#[cfg(target_os = "linux")]
const MAX_FILE_BYTES: u64 = 4 << 30;

/// How tools are fenced in.
#[derive(Debug, Clone)]
pub struct Fence {
    /// The program to start as the launcher: `aofctl` itself.
    pub launcher: PathBuf,
    /// Files and folders that no tool may see.
    pub hidden: Vec<PathBuf>,
}

/// What the launcher is told.
#[derive(Debug, Clone, Default)]
pub struct Bounds {
    /// Files and folders out of reach.
    pub hidden: Vec<PathBuf>,
    /// Files and folders within reach although they lie in hidden ones.
    pub open: Vec<PathBuf>,
}

/// A launcher with its bounds, for one tool.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) launcher: PathBuf,
    pub(crate) bounds: Bounds,
}

impl Launch {
    /// The launcher's arguments up to the tool's path.
    pub(crate) fn args(&self) -> Vec<std::ffi::OsString> {
        let mut args = vec![LAUNCH_COMMAND.into()];
        let named = [("--hide", &self.bounds.hidden), ("--open", &self.bounds.open)];
        for (flag, paths) in named {
            for path in paths {
                args.push(flag.into());
                args.push(path.into());
            }
        }
        args.push("--".into());
        args
    }
}

/// Which kubeconfigs belong to whom, found once a revision.
#[derive(Debug, Default)]
pub(crate) struct Kubeconfigs(Mutex<Option<(Revision, Arc<Owners>)>>);

type Owners = BTreeMap<PathBuf, BTreeSet<TenantId>>;

impl Kubeconfigs {
    /// Those that `tenant` has no flow for.
    pub(crate) fn of_others(&self, snapshot: &Snapshot, tenant: &TenantId) -> Vec<PathBuf> {
        let owners = {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match known.as_ref().filter(|(revision, _)| *revision == snapshot.revision) {
                Some((_, owners)) => Arc::clone(owners),
                None => {
                    let owners = Arc::new(owners(snapshot));
                    *known = Some((snapshot.revision.clone(), Arc::clone(&owners)));
                    owners
                }
            }
        };
        let others = owners.iter().filter(|(_, tenants)| !tenants.contains(tenant));
        others.map(|(path, _)| path.clone()).collect()
    }
}

fn owners(snapshot: &Snapshot) -> Owners {
    let mut owners = Owners::new();
    for flow in &snapshot.flows {
        for path in flow.context.kubeconfig.iter().flat_map(|list| split(list)) {
            owners.entry(path).or_default().insert(flow.tenant.clone());
        }
    }
    owners
}

/// The files of a `KUBECONFIG`, which may list several.
pub(crate) fn split(kubeconfig: &str) -> impl Iterator<Item = PathBuf> {
    kubeconfig.split(':').filter(|part| part.starts_with('/')).map(PathBuf::from)
}

/// What may be reached: everything but `hidden` and what leads to it, then `open`.
#[cfg(target_os = "linux")]
fn reachable(bounds: &Bounds) -> Vec<PathBuf> {
    let exact = |paths: &[PathBuf]| -> BTreeSet<PathBuf> {
        paths.iter().filter_map(|path| path.canonicalize().ok()).collect()
    };
    let (hidden, open) = (exact(&bounds.hidden), exact(&bounds.open));
    let mut reachable = Vec::new();
    let mut ways = vec![PathBuf::from("/")];
    while let Some(folder) = ways.pop() {
        if !leads_to(&folder, &hidden) {
            reachable.push(folder);
            continue;
        }
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let Ok(path) = entry.path().canonicalize() else { continue };
            let stays = path.parent() == Some(folder.as_path());
            if hidden.contains(&path) || within(&path, &hidden) {
                continue;
            } else if stays {
                ways.push(path);
            } else if !leads_to(&path, &hidden) {
                reachable.push(path); // a link to somewhere harmless
            }
        }
    }
    reachable.extend(open);
    reachable
}

#[cfg(target_os = "linux")]
fn leads_to(folder: &Path, hidden: &BTreeSet<PathBuf>) -> bool {
    hidden.iter().any(|path| path.starts_with(folder))
}

#[cfg(target_os = "linux")]
fn within(path: &Path, hidden: &BTreeSet<PathBuf>) -> bool {
    hidden.iter().any(|outer| path.starts_with(outer))
}

/// Fences this process in and becomes `program`. Returns only when that failed.
///
/// # Errors
/// Always: the reason why `program` did not start.
#[cfg(target_os = "linux")]
pub fn become_tool(bounds: &Bounds, program: &Path, args: &[String]) -> std::io::Error {
    use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};
    use std::os::unix::process::CommandExt;
    let limits =
        [(Resource::Core, 0), (Resource::Data, MAX_DATA_BYTES), (Resource::Fsize, MAX_FILE_BYTES)];
    for (resource, most) in limits {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        if let Err(error) = setrlimit(resource, limit) {
            return error.into();
        }
    }
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    drop_sight();
    if let Err(error) = restrict(bounds) {
        return std::io::Error::other(error);
    }
    std::process::Command::new(program).args(args).exec()
}

/// Takes from root what lets it look into other processes past Landlock: on newer kernels
/// `CAP_PERFMON` alone reads any process's environment (seen on 6.18). Others have none of it.
#[cfg(target_os = "linux")]
fn drop_sight() {
    use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
    for sight in [CapabilitySet::PERFMON, CapabilitySet::SYS_ADMIN, CapabilitySet::SYS_PTRACE] {
        // Refused to those who have no capabilities to drop.
        let _ = remove_capability_from_bounding_set(sight);
    }
}

/// Becomes `program` without a fence: this system has none.
///
/// # Errors
/// Always: the reason why `program` did not start.
#[cfg(not(target_os = "linux"))]
pub fn become_tool(_bounds: &Bounds, program: &Path, args: &[String]) -> std::io::Error {
    use std::os::unix::process::CommandExt;
    std::process::Command::new(program).args(args).exec()
}

/// The newest Landlock whose rights are asked for; older kernels give what they have.
#[cfg(target_os = "linux")]
const ABI: landlock::ABI = landlock::ABI::V6;

#[cfg(target_os = "linux")]
fn restrict(bounds: &Bounds) -> Result<(), landlock::RulesetError> {
    use landlock::{
        Access, AccessFs, Ruleset, RulesetAttr, RulesetCreatedAttr, Scope, path_beneath_rules,
    };
    Ruleset::default()
        .handle_access(AccessFs::from_all(ABI))?
        .scope(Scope::from_all(ABI))?
        .create()?
        .add_rules(path_beneath_rules(reachable(bounds), AccessFs::from_all(ABI)))?
        .restrict_self()?;
    Ok(())
}

/// Closes this process's memory and environment to others of the same user (`/proc`).
pub fn seal() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            tracing::warn!(%error, "other processes of this user may read the node's environment");
        }
    }
}

/// Whether this system can fence tools in at all.
#[must_use]
pub fn works() -> bool {
    #[cfg(target_os = "linux")]
    {
        use landlock::{Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr};
        Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(landlock::ABI::V1))
            .and_then(Ruleset::create)
            .is_ok()
    }
    #[cfg(not(target_os = "linux"))]
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn everything_but_the_hidden_is_reachable() {
        let root = tempfile::tempdir().expect("a folder");
        let root = root.path().canonicalize().expect("it exists");
        for folder in ["data/runs/one", "data/runs/two", "other/deep"] {
            std::fs::create_dir_all(root.join(folder)).expect("a folder");
        }
        std::fs::write(root.join("kube-b"), "").expect("a file");
        std::os::unix::fs::symlink(root.join("data"), root.join("link")).expect("a link");
        std::os::unix::fs::symlink("/", root.join("all")).expect("a link");
        let bounds = Bounds {
            hidden: vec![root.join("data"), root.join("kube-b"), root.join("missing")],
            open: vec![root.join("data/runs/one")],
        };
        let reachable = reachable(&bounds);
        let reaches = |path: &str| reachable.iter().any(|r| root.join(path).starts_with(r));
        for path in ["other/deep", "data/runs/one"] {
            assert!(reaches(path), "{path} must be reachable: {reachable:?}");
        }
        for path in ["data", "data/admin.key", "data/runs/two", "kube-b"] {
            assert!(!reaches(path), "{path} must be out of reach: {reachable:?}");
        }
        assert!(reachable.iter().any(|path| Path::new("/usr").starts_with(path)));
        assert!(reachable.iter().any(|path| Path::new("/proc").starts_with(path)));
    }
}
