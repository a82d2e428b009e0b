//! Who on this machine may read the data: only the user that the node runs as. Message
//! texts, answers and key hashes are in there.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Mode of a data directory that we make.
const DIR_MODE: u32 = 0o700;
/// Mode of the database's files. SQLite gives its log and index the database's own.
const FILE_MODE: u32 = 0o600;
/// What group and others may do.
const OTHERS: u32 = 0o077;

/// Makes `dir` for this user alone. One that exists stays as it is, since others may have
/// been let in on purpose; it is warned of.
///
/// # Errors
/// The system's.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)?;
    let mode = std::fs::metadata(dir)?.permissions().mode() & 0o777;
    if mode & OTHERS != 0 {
        tracing::warn!(
            dir = %dir.display(), mode = format!("{mode:o}"),
            "the data directory is open to others; chmod 700 it"
        );
    }
    Ok(())
}

/// Makes the database at `path` for this user alone, and tightens what is there already.
///
/// # Errors
/// The system's.
pub(super) fn close_files(path: &Path) -> io::Result<()> {
    // Made here, since SQLite would make it as the umask says.
    OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE).open(path)?;
    for file in [path.to_owned(), beside(path, "-wal"), beside(path, "-shm")] {
        match std::fs::metadata(&file) {
            Ok(found) if found.permissions().mode() & OTHERS != 0 => {
                std::fs::set_permissions(&file, Permissions::from_mode(FILE_MODE))?;
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    }

    #[test]
    fn only_this_user_reads_what_is_made() {
        let outer = tempfile::tempdir().expect("a directory");
        let dir = outer.path().join("deep/data");
        let opened = super::super::Opened::open(&dir).expect("opened");
        opened.conn().execute_batch("PRAGMA user_version").expect("it answers");
        assert_eq!(mode(&dir), 0o700);
        for entry in std::fs::read_dir(&dir).expect("readable") {
            let path = entry.expect("an entry").path();
            if path.file_name().is_some_and(|name| name != "aof.lock") {
                assert_eq!(mode(&path), 0o600, "{}", path.display());
            }
        }
    }

    #[test]
    fn files_of_an_older_node_are_tightened_and_its_directory_is_left() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = |path: &Path, mode| {
            std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
        };
        open(dir.path(), 0o755);
        let path = dir.path().join("aof.db");
        for file in [path.clone(), beside(&path, "-wal"), beside(&path, "-shm")] {
            std::fs::write(&file, "").expect("written");
            open(&file, 0o644);
        }
        make_dir(dir.path()).expect("it is there");
        close_files(&path).expect("tightened");
        assert_eq!(mode(dir.path()), 0o755);
        for file in [path.clone(), beside(&path, "-wal"), beside(&path, "-shm")] {
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
    }
}
