//! The lock file: one server a data directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::OpenError;

/// How often a lock is asked for: a server that was just stopped still writes its log.
const MAX_TRIES: u32 = 100;
/// Time between two tries; with the above, two seconds.
const BETWEEN_TRIES_MS: u64 = 20;

/// Held while the database is open. The kernel frees it when the process dies.
pub(super) struct DirLock(Arc<File>);

impl DirLock {
    /// Takes `<dir>/aof.lock`.
    pub(super) fn take(dir: &Path) -> Result<Self, OpenError> {
        let directory = |source| OpenError::Directory { dir: dir.to_owned(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join("aof.lock"))
            .map_err(directory)?;
        let mut tries = 0;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if tries < MAX_TRIES => tries += 1,
                Err(TryLockError::WouldBlock) => {
                    return Err(OpenError::InUse {
                        dir: dir.to_owned(),
                        holder: holder(&mut file),
                    });
                }
                Err(TryLockError::Error(source)) => return Err(directory(source)),
            }
            std::thread::sleep(Duration::from_millis(BETWEEN_TRIES_MS));
        }
        // Only for the message above: what stands in the file decides nothing.
        let written = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        written.map_err(directory)?;
        Ok(Self(Arc::new(file)))
    }

    /// A share of the lock, for those who read after the writer has ended.
    pub(super) fn shared(&self) -> Arc<File> {
        Arc::clone(&self.0)
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!("process {pid}"),
        _ => "another process".to_owned(),
    }
}
