//! Finds a tool's program: listed by the agent, on the flow's `PATH`, as an absolute path.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Why a program does not run. `Display` is for the person or model that asked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResolveError {
    /// The agent does not list it.
    #[error("`{program}` is not one of this agent's tools{}", listed(.tools))]
    NotListed {
        /// What was asked for.
        program: String,
        /// What there is.
        tools: Vec<String>,
    },
    /// The path depends on the directory.
    #[error("`{0}` is a relative path; only names and absolute paths run")]
    Relative(String),
    /// Nothing of that name is there.
    #[error("`{program}` is not installed: it is not in {path}")]
    NotFound {
        /// What was asked for.
        program: String,
        /// Where it was looked for.
        path: String,
    },
}

fn listed(tools: &[String]) -> String {
    if tools.is_empty() {
        return "; it has none".to_owned();
    }
    format!("; it has {}", tools.join(", "))
}

/// Whether the agent lists it: as it was typed.
///
/// # Errors
/// [`ResolveError::NotListed`].
pub(crate) fn check_listed(program: &str, tools: &[String]) -> Result<(), ResolveError> {
    if tools.iter().any(|tool| tool == program) {
        return Ok(());
    }
    Err(ResolveError::NotListed { program: program.to_owned(), tools: tools.to_vec() })
}

/// The absolute path of `program`, looked up in the absolute directories of `path`.
///
/// # Errors
/// [`ResolveError::Relative`] or [`ResolveError::NotFound`].
pub(crate) fn resolve(program: &str, path: &str) -> Result<PathBuf, ResolveError> {
    let not_found =
        || ResolveError::NotFound { program: program.to_owned(), path: path.to_owned() };
    if program.contains('/') {
        let absolute = Path::new(program);
        if !absolute.is_absolute() {
            return Err(ResolveError::Relative(program.to_owned()));
        }
        return if runs(absolute) { Ok(absolute.to_owned()) } else { Err(not_found()) };
    }
    path.split(':')
        .map(Path::new)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(program))
        .find(|candidate| runs(candidate))
        .ok_or_else(not_found)
}

fn runs(path: &Path) -> bool {
    const ANY_EXECUTE_BIT: u32 = 0o111;
    std::fs::metadata(path)
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & ANY_EXECUTE_BIT != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_resolve_on_the_flows_path_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let tool = dir.path().join("mytool");
        std::fs::write(&tool, "#!/bin/sh\n").expect("a file");
        let path = format!("relative:{}", dir.path().display());
        let missing = |program: &str| ResolveError::NotFound {
            program: program.to_owned(),
            path: path.clone(),
        };
        assert_eq!(resolve("mytool", &path), Err(missing("mytool")), "not executable");
        std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).expect("its mode");
        assert_eq!(resolve("mytool", &path), Ok(tool.clone()));
        assert_eq!(resolve(tool.to_str().expect("utf-8"), ""), Ok(tool));
        assert_eq!(resolve("sh", &path), Err(missing("sh")));
        assert_eq!(resolve("./x", &path), Err(ResolveError::Relative("./x".to_owned())));
    }

    #[test]
    fn only_listed_tools_run() {
        let tools = ["kubectl".to_owned()];
        assert_eq!(check_listed("kubectl", &tools), Ok(()));
        for other in ["helm", "/usr/bin/kubectl", "kubect", ""] {
            assert!(check_listed(other, &tools).is_err(), "{other}");
        }
    }
}
