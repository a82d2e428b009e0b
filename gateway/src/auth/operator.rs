//! The operator's first key: made once, written where only its owner can read it.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aof_shared::clock::Clock;
use aof_shared::secret::Secret;
use aof_shared::store::{ApiKey, Store, StoreError};

use super::{Scope, draw, hash, is_shaped, record};

/// Where the first operator key is written, below the data directory.
pub const ADMIN_KEY_FILE: &str = "admin.key";
/// Who the first operator key speaks as.
const ADMIN_USER: &str = "admin";

/// Why there is no operator key.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The file cannot be read or written.
    #[error("cannot use {}: check its owner and mode", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The store does not answer.
    #[error("cannot store the operator's key")]
    Store(#[from] StoreError),
    /// What was given is no key. It is not repeated.
    #[error(
        "AOF_ADMIN_KEY is not a key: write `aof_`, 12 hex digits, `_` and 64 hex digits, such as \
         \"aof_$(openssl rand -hex 6)_$(openssl rand -hex 32)\""
    )]
    Shape,
    /// What was given counted once.
    #[error("AOF_ADMIN_KEY was revoked: give another one, or leave it out")]
    Revoked,
}

/// Where the operator's key of a cluster is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperatorKey {
    /// In this file of this node's.
    File(PathBuf),
    /// In `AOF_ADMIN_KEY`.
    Given,
    /// Wherever the node that made it wrote it.
    Elsewhere,
}

/// Makes sure that a cluster has an operator's key. `given` (`AOF_ADMIN_KEY`) counts on every
/// node that has it. Without it the first node that finds none makes one, however many start
/// at once, and writes it to its own `<data_dir>/admin.key` (mode 0600).
///
/// # Errors
/// [`BootstrapError`]; with [`StoreError::Unavailable`] as the cause it may be tried again.
pub async fn ensure_cluster_key(
    store: &dyn Store,
    data_dir: &Path,
    given: Option<&Secret>,
    clock: &dyn Clock,
) -> Result<OperatorKey, BootstrapError> {
    if let Some(given) = given {
        return take_given(store, given.expose().trim(), clock).await;
    }
    let path = data_dir.join(ADMIN_KEY_FILE);
    let failed = |source| BootstrapError::File { path: path.clone(), source };
    make_private_dir(data_dir).map_err(failed)?;
    if counts(store, &path).await? {
        return Ok(OperatorKey::File(path));
    }
    // Nodes of one machine may share the directory, so each writes under a name of its own
    // first; a crash before the rename leaves the key where the next start finds it.
    for left in leftovers(data_dir).map_err(failed)? {
        if counts(store, &left).await? {
            publish(store, &left, &path).await?;
            return Ok(OperatorKey::File(path));
        }
    }
    let (id, text) = draw();
    let own = data_dir.join(format!("{ADMIN_KEY_FILE}.{id}"));
    write_private(&own, &text).map_err(failed)?;
    match store.put_first_key(&operators(&text, clock)).await {
        Ok(true) => {
            publish(store, &own, &path).await?;
            Ok(OperatorKey::File(path))
        }
        Ok(false) => {
            std::fs::remove_file(&own).map_err(failed)?;
            Ok(OperatorKey::Elsewhere)
        }
        // It may be stored: the file stays for the next try, which looks at what is left.
        Err(error) => Err(error.into()),
    }
}

/// Gives the file its name, unless a node with the same directory was quicker.
async fn publish(store: &dyn Store, own: &Path, path: &Path) -> Result<(), BootstrapError> {
    match std::fs::rename(own, path) {
        Ok(()) => Ok(()),
        Err(error)
            if error.kind() == std::io::ErrorKind::NotFound && counts(store, path).await? =>
        {
            Ok(())
        }
        Err(source) => Err(BootstrapError::File { path: path.to_owned(), source }),
    }
}

async fn take_given(
    store: &dyn Store,
    given: &str,
    clock: &dyn Clock,
) -> Result<OperatorKey, BootstrapError> {
    if !is_shaped(given) {
        return Err(BootstrapError::Shape);
    }
    if let Some(known) = store.key_by_hash(&hash(given)).await? {
        let lives = known.revoked_at_ms.is_none();
        return if lives { Ok(OperatorKey::Given) } else { Err(BootstrapError::Revoked) };
    }
    match store.put_key(&operators(given, clock)).await {
        Ok(()) => Ok(OperatorKey::Given),
        // Another node was given the same key and was quicker.
        Err(error) => match store.key_by_hash(&hash(given)).await? {
            Some(_) => Ok(OperatorKey::Given),
            None => Err(error.into()),
        },
    }
}

/// Whether the file holds a key that the store knows and nobody revoked.
async fn counts(store: &dyn Store, path: &Path) -> Result<bool, BootstrapError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(BootstrapError::File { path: path.to_owned(), source }),
    };
    let text = text.trim();
    let known = if is_shaped(text) { store.key_by_hash(&hash(text)).await? } else { None };
    Ok(known.is_some_and(|key| key.revoked_at_ms.is_none()))
}

/// Keys that a start wrote and did not come to name.
fn leftovers(data_dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let prefix = format!("{ADMIN_KEY_FILE}.");
    let entries = std::fs::read_dir(data_dir)?.flatten();
    let ours = |name: &str| {
        name.strip_prefix(&prefix).is_some_and(|id| id.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    let left = entries.filter(|entry| entry.file_name().to_str().is_some_and(ours));
    Ok(left.map(|entry| entry.path()).collect())
}

fn make_private_dir(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// The operator's key as stored.
fn operators(text: &str, clock: &dyn Clock) -> ApiKey {
    let id = text.split('_').nth(1).unwrap_or_default().to_owned();
    let mut key = record(text, id, None, ADMIN_USER);
    key.scopes = Scope::ALL.map(|s| s.as_str().to_owned()).to_vec();
    key.created_at_ms = clock.now_ms();
    key
}

/// Makes sure that an operator key is in `<data_dir>/admin.key` (mode 0600) and counts.
/// Keeps the one that is there unless it was revoked.
///
/// # Errors
/// [`BootstrapError`] when the file or the store cannot be used.
pub async fn ensure_admin_key(
    store: &dyn Store,
    data_dir: &Path,
    clock: &dyn Clock,
) -> Result<PathBuf, BootstrapError> {
    let path = data_dir.join(ADMIN_KEY_FILE);
    let failed = |source| BootstrapError::File { path: path.clone(), source };
    let held = match std::fs::read_to_string(&path) {
        Ok(text) => Some(text.trim().to_owned()).filter(|text| is_shaped(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    let mut text = held;
    if let Some(held) = &text {
        match store.key_by_hash(&hash(held)).await? {
            Some(known) if known.revoked_at_ms.is_none() => return Ok(path),
            Some(_) => text = None,
            // A crash came between the file and the store.
            None => {}
        }
    }
    let text = match text {
        Some(text) => text,
        None => {
            let (_, text) = draw();
            write_private(&path, &text).map_err(failed)?;
            text
        }
    };
    store.put_key(&operators(&text, clock)).await?;
    Ok(path)
}

/// Replaces the file in one step; nobody else ever can read it.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    let _ = std::fs::remove_file(&fresh);
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aof_shared::backend::open_embedded;
    use aof_shared::clock::SystemClock;
    use aof_shared::lifecycle::Lifecycle;

    use super::*;

    struct Place {
        store: Arc<dyn Store>,
        dir: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a folder");
            let ports =
                open_embedded(&dir.path().join("db"), Arc::new(SystemClock), &Lifecycle::new())
                    .expect("it opens");
            Self { store: ports.store, dir }
        }

        async fn ensure(&self, node: &str, given: Option<&str>) -> Result<OperatorKey, String> {
            let given = given.map(Secret::new);
            let dir = self.dir.path().join(node);
            ensure_cluster_key(self.store.as_ref(), &dir, given.as_ref(), &SystemClock)
                .await
                .map_err(|error| error.to_string())
        }

        async fn stored(&self) -> usize {
            self.store.keys(None).await.expect("keys").len()
        }
    }

    #[tokio::test]
    async fn of_nodes_that_start_at_once_one_makes_the_key() {
        let place = Place::new();
        let starts = (0..8).map(|n| {
            let place = &place;
            // Half of them share a data directory.
            async move { place.ensure(&format!("node{}", n.min(4)), None).await.expect("a key") }
        });
        let ended = futures_util::future::join_all(starts).await;
        assert_eq!(place.stored().await, 1);
        let Some(OperatorKey::File(path)) =
            ended.iter().find(|key| matches!(key, OperatorKey::File(_)))
        else {
            panic!("nobody shows it: {ended:?}")
        };
        assert!(counts(place.store.as_ref(), path).await.expect("a file"), "the file's key counts");
        let again = place.ensure("node9", None).await;
        assert_eq!(again, Ok(OperatorKey::Elsewhere), "a later node makes none");
        let files = std::fs::read_dir(place.dir.path().join("node9")).expect("a folder").count();
        assert_eq!(files, 0, "and leaves nothing");
        assert_eq!(place.stored().await, 1);
    }

    #[tokio::test]
    async fn a_crash_between_store_and_file_loses_no_key() {
        let place = Place::new();
        let Ok(OperatorKey::File(path)) = place.ensure("a", None).await else { panic!("no file") };
        let key = std::fs::read_to_string(&path).expect("a key");
        let id = key.split('_').nth(1).expect("an id").to_owned();
        std::fs::rename(&path, path.with_file_name(format!("admin.key.{id}"))).expect("renamed");
        assert_eq!(place.ensure("a", None).await, Ok(OperatorKey::File(path.clone())));
        assert_eq!(std::fs::read_to_string(&path).expect("a key"), key);
        assert_eq!(place.stored().await, 1);
    }

    #[tokio::test]
    async fn a_given_key_counts_unless_it_was_revoked_or_is_none() {
        let place = Place::new();
        let (id, text) = draw();
        for node in ["a", "b"] {
            assert_eq!(place.ensure(node, Some(&text)).await, Ok(OperatorKey::Given));
        }
        assert_eq!(place.stored().await, 1);
        assert!(place.store.revoke_key(None, &id, 1).await.expect("revoked"));
        let refused = place.ensure("a", Some(&text)).await.expect_err("revoked");
        assert!(refused.contains("revoked"), "{refused}");
        let refused = place.ensure("a", Some("hunter2")).await.expect_err("no key");
        assert!(refused.contains("openssl") && !refused.contains("hunter2"), "{refused}");
    }
}
