//! Tools: programs run from argv with their flow's environment only, and HTTP queries.

pub(crate) mod context;
pub mod fence;
pub(crate) mod http;
pub(crate) mod mask;
pub(crate) mod process;
pub(crate) mod resolve;
#[cfg(target_os = "linux")]
pub(crate) mod supervise;

use std::path::{Path, PathBuf};
use std::time::Duration;

use aof_shared::config::ToolConfig;
use aof_shared::ids::RunId;

use crate::checkpoint::Call;

/// Most bytes of a tool's output that are kept; the rest is cut with a note.
pub(crate) const MAX_OUTPUT_BYTES: usize = 64 * 1024;
/// How long a tool may run unless its settings say otherwise, in seconds.
const DEFAULT_TIMEOUT_SECS: u64 = 60;
/// `timeout_secs` beyond this is taken as this.
const MAX_TIMEOUT_SECS: u64 = 3_600;
/// Owner only: other users of the machine have no business there.
const DIR_MODE: u32 = 0o700;

/// What all tools of a node share.
pub(crate) struct Tools {
    /// `<runs>/<pid>`: a process cleans up after itself and after dead ones only.
    root: PathBuf,
    http: http::Queries,
}

impl Tools {
    /// Makes this process's scratch directory and removes those of dead processes.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub(crate) fn open(runs_dir: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(runs_dir)?;
        let runs_dir = runs_dir.canonicalize()?;
        remove_dead(&runs_dir);
        let root = runs_dir.join(std::process::id().to_string());
        std::fs::create_dir_all(&root)?;
        Ok(Self { root, http: http::Queries::new() })
    }

    /// The HTTP queries.
    pub(crate) fn queries(&self) -> &http::Queries {
        &self.http
    }

    /// Makes a fresh directory for `run`; it goes when the guard does.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn run_dir(&self, run: RunId) -> std::io::Result<RunDir> {
        use std::os::unix::fs::DirBuilderExt;
        let path = self.root.join(format!("{run}-{:08x}", rand::random::<u32>()));
        std::fs::DirBuilder::new().mode(DIR_MODE).create(&path)?;
        Ok(RunDir(path))
    }
}

/// Leftovers of processes that are gone. Never this one's, which may hold other workers.
fn remove_dead(runs_dir: &Path) {
    let Ok(entries) = std::fs::read_dir(runs_dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|n| n.parse::<i32>().ok());
        let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) else { continue };
        let own = u32::try_from(pid.as_raw_nonzero().get()) == Ok(std::process::id());
        if own || rustix::process::test_kill_process(pid).is_ok() {
            continue;
        }
        if let Err(error) = std::fs::remove_dir_all(entry.path()) {
            tracing::warn!(path = %entry.path().display(), %error, "old run directory stays");
        }
    }
}

/// A run's scratch directory, removed on drop.
#[derive(Debug)]
pub(crate) struct RunDir(PathBuf);

impl RunDir {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "run directory stays");
        }
    }
}

/// How long the tool may run: its `timeout_secs`, else a minute.
pub(crate) fn timeout(config: Option<&ToolConfig>) -> Duration {
    let set = config.and_then(|c| c.settings.get("timeout_secs")).and_then(|v| v.as_u64());
    Duration::from_secs(set.unwrap_or(DEFAULT_TIMEOUT_SECS).clamp(1, MAX_TIMEOUT_SECS))
}

/// The argv that a call means: the tool, then `args` (a list), or `command` (one line, as
/// typed). The tool's own name at the start of a line is not doubled.
///
/// # Errors
/// What is wrong with the arguments, for the model.
pub(crate) fn argv_of(call: &Call) -> Result<Vec<String>, String> {
    let mut argv = vec![call.tool.clone()];
    if let Some(args) = call.arguments.get("args").and_then(|a| a.as_array()) {
        for arg in args {
            match arg {
                serde_json::Value::String(text) => argv.push(text.clone()),
                serde_json::Value::Number(number) => argv.push(number.to_string()),
                other => return Err(format!("`args` must be a list of strings, not {other}")),
            }
        }
    } else if let Some(line) = call.arguments.get("command").and_then(|c| c.as_str()) {
        let words = crate::guard::parse_command(line).map_err(|e| e.to_string())?;
        let doubled = words.first().is_some_and(|word| *word == call.tool);
        argv.extend(words.into_iter().skip(usize::from(doubled)));
    } else if !call.arguments.as_object().is_some_and(serde_json::Map::is_empty) {
        return Err("give the arguments as `{\"args\": [\"…\", …]}`".to_owned());
    }
    if argv.iter().any(|arg| arg.contains('\0')) {
        return Err("an argument holds a NUL character".to_owned());
    }
    Ok(argv)
}

/// A command as people write it: arguments quoted where they need it.
pub(crate) fn shown(argv: &[String]) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=@,+%^".contains(c);
    let quoted = argv.iter().map(|arg| {
        if !arg.is_empty() && arg.chars().all(plain) {
            arg.clone()
        } else {
            format!("'{}'", arg.replace('\'', "'\\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
