//! Where the servers' programs are.

use std::path::{Path, PathBuf};

/// Where Debian keeps PostgreSQL's programs, one folder a version.
const DEBIAN_POSTGRES: &str = "/usr/lib/postgresql";

/// The folder that `tests/run` installs into: `$AOF_TOOLS`, else `target/tools` beside the
/// workspace's root.
#[must_use]
pub fn tools_dir() -> PathBuf {
    match std::env::var_os("AOF_TOOLS").filter(|tools| !tools.is_empty()) {
        Some(tools) => tools.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools"),
    }
}

pub(crate) fn nats(version: &str) -> PathBuf {
    let path = tools_dir().join(format!("nats-{version}/bin/nats-server"));
    found(&path.display().to_string(), path.is_file().then(|| path.clone()))
}

pub(crate) fn redis() -> PathBuf {
    found("redis-server", on_path("redis-server"))
}

/// Debian puts it where only root's `PATH` leads.
pub(crate) fn haproxy() -> PathBuf {
    let debian = || Some(PathBuf::from("/usr/sbin/haproxy")).filter(|path| path.is_file());
    found("haproxy", on_path("haproxy").or_else(debian))
}

/// One of PostgreSQL's programs: of the newest version that Debian has installed, else of `PATH`.
pub(crate) fn postgres(program: &str) -> PathBuf {
    let versions = std::fs::read_dir(DEBIAN_POSTGRES).into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            let path = entry.path().join("bin").join(program);
            path.is_file().then_some((version, path))
        })
        .max();
    found(program, newest.map(|(_, path)| path).or_else(|| on_path(program)))
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file())
}

fn found(what: &str, path: Option<PathBuf>) -> PathBuf {
    path.unwrap_or_else(|| panic!("{what} is missing: run tests/run, which installs it"))
}
