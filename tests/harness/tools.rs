//! Third-party programs that tests work with.

use std::path::{Path, PathBuf};

/// Where `tests/run` puts third-party software. `None`, said aloud, without `AOF_TOOLS`.
///
/// # Panics
/// When `AOF_TOOLS` is set and `file` is not there.
pub fn tool(file: &str) -> Option<PathBuf> {
    let Some(tools) = std::env::var_os("AOF_TOOLS").filter(|tools| !tools.is_empty()) else {
        eprintln!("left out: needs {file}, which tests/run installs (AOF_TOOLS is not set)");
        return None;
    };
    let path = Path::new(&tools).join(file);
    assert!(path.exists(), "{} is missing: run tests/run to install it", path.display());
    Some(path)
}
