//! Keeps a tool away from what the node itself lives on: its data, keys and manifests, the
//! other organisations' kubeconfigs, and the memory of its process.
//!
//! A tool runs as the same user as the node, so file modes do not help. The node starts
//! itself again as a launcher (`aofctl run-tool`), which takes resource limits, starts the
//! tool behind a fence of Landlock, and stays beside it ([`super::supervise`]).
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
    /// What of the network is within reach.
    pub network: Network,
}

/// What a tool may reach over TCP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Network {
    /// Everything.
    #[default]
    Open,
    /// Connections to these ports, and no listening.
    Ports(Vec<u16>),
}

impl Network {
    /// As `tool_config.<tool>.network` has it: `none`, or a list of ports; not set: open.
    /// What is neither closes it, as the manifest was refused for it anyway.
    #[must_use]
    pub fn of_setting(setting: Option<&serde_json::Value>) -> Self {
        let Some(setting) = setting else { return Self::Open };
        let ports = setting.as_array().map(Vec::as_slice).unwrap_or_default();
        let port = |value: &serde_json::Value| match value {
            serde_json::Value::String(text) => text.parse().ok(),
            value => value.as_u64().and_then(|port| u16::try_from(port).ok()),
        };
        Self::Ports(ports.iter().filter_map(port).collect())
    }

    /// As the launcher's argument, which [`Network::from_argument`] reads.
    fn to_argument(&self) -> Option<String> {
        let Self::Ports(ports) = self else { return None };
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        Some(ports.join(","))
    }

    /// What [`Network::to_argument`] wrote.
    #[must_use]
    pub fn from_argument(text: &str) -> Self {
        Self::Ports(text.split(',').filter_map(|port| port.parse().ok()).collect())
    }
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
        if let Some(ports) = self.bounds.network.to_argument() {
            args.extend(["--network".into(), ports.into()]);
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

/// Fences this thread in, with the processes that it starts, and limits what they take.
///
/// # Errors
/// When the system refuses.
#[cfg(target_os = "linux")]
pub(super) fn close_in(bounds: &Bounds) -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let limits =
        [(Resource::Core, 0), (Resource::Data, MAX_DATA_BYTES), (Resource::Fsize, MAX_FILE_BYTES)];
    for (resource, most) in limits {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    drop_sight();
    restrict(bounds).map_err(std::io::Error::other)
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

/// The newest Landlock whose rights are asked for; older kernels give what they have.
#[cfg(target_os = "linux")]
const ABI: landlock::ABI = landlock::ABI::V6;

#[cfg(target_os = "linux")]
fn restrict(bounds: &Bounds) -> Result<(), landlock::RulesetError> {
    use landlock::{
        Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, Ruleset, RulesetAttr,
        RulesetCreatedAttr, Scope, path_beneath_rules,
    };
    let mut rules =
        Ruleset::default().handle_access(AccessFs::from_all(ABI))?.scope(Scope::from_all(ABI))?;
    let ports = match &bounds.network {
        Network::Open => [].as_slice(),
        Network::Ports(ports) => {
            // Whoever closes the network must not get it open from an older kernel.
            rules = rules
                .set_compatibility(CompatLevel::HardRequirement)
                .handle_access(AccessNet::from_all(ABI))?
                .set_compatibility(CompatLevel::BestEffort);
            ports.as_slice()
        }
    };
    let ports = ports.iter().map(|port| Ok(NetPort::new(*port, AccessNet::ConnectTcp)));
    rules
        .create()?
        .add_rules(path_beneath_rules(reachable(bounds), AccessFs::from_all(ABI)))?
        .add_rules(ports.collect::<Vec<Result<NetPort, landlock::RulesetError>>>())?
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
    use serde_json::json;

    #[test]
    fn a_network_is_open_unless_it_is_set_and_what_is_odd_closes_it() {
        let check = |setting: serde_json::Value, ports: &[u16]| {
            let network = Network::of_setting(Some(&setting));
            assert_eq!(network, Network::Ports(ports.to_vec()), "{setting}");
            let argument = network.to_argument().expect("it is set");
            assert_eq!(Network::from_argument(&argument), network, "{setting}");
        };
        assert_eq!(Network::of_setting(None), Network::Open);
        check(json!("none"), &[]);
        check(json!([]), &[]);
        check(json!([443, "6443"]), &[443, 6443]);
        check(json!("all"), &[]);
        check(json!([70_000]), &[]);
    }

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
            ..Bounds::default()
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
