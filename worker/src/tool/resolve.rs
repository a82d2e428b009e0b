//! Finds a tool's program: listed by the agent, on the flow's `PATH`, as an absolute path.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::guard::{base_name, in_trusted_directory};

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
    /// A listed program's name, in a directory that anybody may have written to.
    #[error("`{0}` is not in a trusted directory; name the program alone: `{name}`", name = base_name(.0))]
    Untrusted(String),
    /// It may look like a listed one and be another.
    #[error("`{0}` is no program's name: it has characters that are not plain ASCII")]
    NotAscii(String),
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

/// Whether the agent lists it: as it was typed, or its name when it was typed as a path in
/// the system's directories. The guard reads it likewise. What is no program (a query) has
/// no path.
///
/// # Errors
/// [`ResolveError::NotListed`], [`ResolveError::Untrusted`] or [`ResolveError::NotAscii`].
pub(crate) fn check_listed(program: &str, tools: &[String]) -> Result<(), ResolveError> {
    if tools.iter().any(|tool| tool == program) {
        return Ok(());
    }
    if !program.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(ResolveError::NotAscii(program.to_owned()));
    }
    let name = base_name(program);
    let is_program = name != program && !super::http::NAMES.contains(&name);
    if is_program && tools.iter().any(|tool| tool == name) {
        if in_trusted_directory(program) {
            return Ok(());
        }
        return Err(ResolveError::Untrusted(program.to_owned()));
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
        let tools = ["kubectl".to_owned(), super::super::http::NAMES[0].to_owned()];
        let check = |program: &str, expected: &str| {
            let told = check_listed(program, &tools).err().map(|e| e.to_string());
            let told = told.unwrap_or_else(|| "runs".to_owned());
            assert!(told.contains(expected), "{program}: {told}");
        };
        check("kubectl", "runs");
        check("/usr/bin/kubectl", "runs");
        check("/tmp/kubectl", "not in a trusted directory; name the program alone: `kubectl`");
        check("/usr/bin/../../tmp/kubectl", "not in a trusted directory");
        check("./kubectl", "not in a trusted directory");
        check("kub\u{435}ctl", "not plain ASCII");
        check(&format!("/usr/bin/{}", tools[1]), "not one of this agent's tools");
        for other in ["helm", "/usr/bin/helm", "kubect", "/usr/bin/"] {
            check(other, "not one of this agent's tools");
        }
    }
}
