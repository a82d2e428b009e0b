//! Finds a data directory that has lost its database, before a new one takes its place.

use std::path::Path;

use aof_gateway::ADMIN_KEY_FILE;

/// The embedded backend's file.
const DATABASE_FILE: &str = "aof.db";

/// Refuses to start as a fresh node where an old one was: its journal, approvals and keys
/// would be gone without a word, and its retries would run again as new messages.
///
/// # Errors
/// When the operator's key is there and the database is not.
pub(crate) fn check(data_dir: &Path) -> anyhow::Result<()> {
    let (key, database) = (data_dir.join(ADMIN_KEY_FILE), data_dir.join(DATABASE_FILE));
    let lost = std::fs::metadata(&database).map_or(true, |file| file.len() == 0);
    anyhow::ensure!(
        !lost || !key.exists(),
        "`{}` is missing or empty, but `{}` says that a node has worked here: is the volume \
         mounted? Restore the database, or start afresh by moving {ADMIN_KEY_FILE} away",
        database.display(),
        key.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_key_without_its_database_is_refused_with_the_way_out() {
        let dir = tempfile::tempdir().expect("a folder");
        let (key, database) = (dir.path().join("admin.key"), dir.path().join("aof.db"));
        assert!(check(dir.path()).is_ok(), "a fresh folder");
        assert!(check(&dir.path().join("nowhere")).is_ok(), "a folder to be made");
        std::fs::write(&key, "aof_x").expect("a file");
        for empty in [false, true] {
            if empty {
                std::fs::write(&database, "").expect("a file");
            }
            let error = check(dir.path()).expect_err("it is lost").to_string();
            assert!(error.contains("moving admin.key away"), "{error}");
        }
        std::fs::write(&database, "SQLite format 3").expect("a file");
        assert!(check(dir.path()).is_ok(), "a node's folder");
        std::fs::remove_file(&key).expect("it is there");
        std::fs::write(&database, "").expect("a file");
        assert!(check(dir.path()).is_ok(), "the key was moved away");
    }
}
