//! Third-party programs that referee what we do.

use std::path::PathBuf;

/// Where they are installed; `None`, and a line that says so, when this run goes without.
pub fn tools(left_out: &str) -> Option<PathBuf> {
    match std::env::var_os("AOF_TOOLS").filter(|folder| !folder.is_empty()) {
        Some(folder) => Some(PathBuf::from(folder)),
        None => {
            println!("left out: {left_out}; `tests/run` installs what it needs");
            None
        }
    }
}

/// A file below the tools' folder, which must be there once the folder is named.
pub fn tool(folder: &std::path::Path, path: &str) -> PathBuf {
    let file = folder.join(path);
    assert!(file.exists(), "{} is missing: run `tests/run`", file.display());
    file
}
