//! The embedded database: one writer thread that commits many jobs with one fsync, and a
//! few read-only connections.
//!
//! There is no artificial delay: what queued while the last fsync ran is the next batch.

pub(crate) mod ids;
mod lock;
mod migrate;
mod modes;
mod readers;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::{mpsc, oneshot};

pub(crate) use writer::{BatchHook, Job};

/// Jobs that may wait for the writer; publishers then wait for room.
const MAX_WAITING_JOBS: usize = 8_192;
/// How long a statement waits for a lock that a backup or shell holds.
const BUSY_TIMEOUT_MS: u64 = 5_000;
/// Statements kept prepared, per connection.
const CACHED_STATEMENTS: usize = 160;
/// Page cache of the writer, in KiB (negative: SQLite's notation for KiB).
const WRITER_CACHE_KIB: i64 = -49_152;
/// Page size of a new database: rows of a kilobyte in pages of 4 KiB need nearly twice the
/// system calls. A database that is there keeps its own.
const PAGE_BYTES: i64 = 8_192;
/// Pages of write-ahead log after which a commit moves them into the database.
const CHECKPOINT_PAGES: i64 = 4_000; // 31 MiB; more writes less, and stalls commits longer

/// SQLite's integers are signed; sequence numbers and times stay far below the border.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Back from [`signed`].
pub(crate) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

/// Why the database did not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum DbError {
    /// Did not happen: no room.
    #[error("disk is full")]
    Full,
    /// Did not happen: away or shutting down.
    #[error("database is unavailable: {reason}")]
    Unavailable { reason: String },
    /// The commit failed half-way: it may be there after a restart.
    #[error("commit failed: {reason}")]
    Unconfirmed { reason: String },
    /// What is stored cannot be read.
    #[error("stored {what} cannot be read: {reason}")]
    Corrupt { what: &'static str, reason: String },
}

impl DbError {
    /// For handles that outlive the writer.
    pub(crate) fn closed() -> Self {
        Self::Unavailable { reason: "the database is closed".to_owned() }
    }
}

impl From<rusqlite::Error> for DbError {
    fn from(error: rusqlite::Error) -> Self {
        match &error {
            rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
                ErrorCode::DiskFull => Self::Full,
                ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
                    Self::Corrupt { what: "page", reason: error.to_string() }
                }
                _ => Self::Unavailable { reason: error.to_string() },
            },
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..) => {
                Self::Corrupt { what: "row", reason: error.to_string() }
            }
            _ => Self::Unavailable { reason: error.to_string() },
        }
    }
}

/// Why the database did not open. Says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "data directory `{}` is in use by {holder}; stop that server or choose another --data-dir",
        dir.display()
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// Who has it, as far as known.
        holder: String,
    },
    /// Written by a newer version.
    #[error(
        "`{}` has schema version {found}, this aofctl knows {known}; use the newer aofctl",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The directory or lock file cannot be made.
    #[error("cannot use data directory `{}`; check that it exists and is writable", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// SQLite refused.
    #[error("cannot open database `{}`", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: rusqlite::Error,
    },
}

/// A handle on the database. The writer ends when the last one is dropped.
#[derive(Clone)]
pub(crate) struct Db {
    jobs: mpsc::Sender<Box<dyn Job>>,
    readers: Arc<readers::Readers>,
}

/// An opened database that does not write yet, so that its owners can load their state.
pub(crate) struct Opened {
    conn: Connection,
    path: PathBuf,
    lock: lock::DirLock,
}

impl Opened {
    /// Locks `dir`, opens `<dir>/aof.db` and brings its schema up to date.
    pub(crate) fn open(dir: &Path) -> Result<Self, OpenError> {
        let directory = |source| OpenError::Directory { dir: dir.to_owned(), source };
        modes::make_dir(dir).map_err(directory)?;
        let lock = lock::DirLock::take(dir)?;
        let path = dir.join("aof.db");
        let database = |source| OpenError::Database { path: path.clone(), source };
        modes::close_files(&path).map_err(directory)?;
        let mut conn = Connection::open(&path).map_err(database)?;
        prepare_writer(&conn).map_err(database)?;
        migrate::run(&mut conn, &path)?;
        Ok(Self { conn, path, lock })
    }

    /// The connection, for loading state.
    pub(crate) fn conn(&self) -> &Connection {
        &self.conn
    }

    /// Starts the writer thread. `hooks` are asked in their order.
    pub(crate) fn start(self, hooks: Vec<Box<dyn BatchHook>>) -> Result<Db, OpenError> {
        let (jobs, waiting) = mpsc::channel(MAX_WAITING_JOBS);
        let readers = Arc::new(readers::Readers::new(self.path.clone(), self.lock.shared()));
        let (conn, lock) = (self.conn, self.lock);
        std::thread::Builder::new()
            .name("aof-writer".to_owned())
            .spawn(move || {
                writer::Writer::new(conn, waiting, hooks).run();
                drop(lock);
            })
            .map_err(|source| OpenError::Directory { dir: self.path, source })?;
        Ok(Db { jobs, readers })
    }
}

fn prepare_writer(conn: &Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(std::time::Duration::from_millis(BUSY_TIMEOUT_MS))?;
    conn.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    conn.pragma_update(None, "page_size", PAGE_BYTES)?;
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "foreign_keys", true)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.pragma_update(None, "cache_size", WRITER_CACHE_KIB)?;
    conn.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)
}

fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(std::time::Duration::from_millis(BUSY_TIMEOUT_MS))?;
    conn.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    Ok(conn)
}

impl Db {
    /// Hands `job` to the writer; waits while too many wait.
    pub(crate) async fn submit(&self, job: Box<dyn Job>) -> Result<(), DbError> {
        self.jobs.send(job).await.map_err(|_| DbError::closed())
    }

    /// Hands `job` to the writer unless too many wait.
    pub(crate) fn try_submit(&self, job: Box<dyn Job>) -> Result<(), DbError> {
        self.jobs
            .try_send(job)
            .map_err(|_| DbError::Unavailable { reason: "too many writes wait".to_owned() })
    }

    /// Runs `work` in the next commit and returns once it is on disk. `work` may run more
    /// than once when a neighbour in its batch fails, and only the last run counts.
    pub(crate) async fn write<T, F>(&self, work: F) -> Result<T, DbError>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<T, DbError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        self.submit(Box::new(writer::Call::new(work, answer))).await?;
        answered.await.map_err(|_| DbError::closed())?
    }

    /// Runs `work` on a read-only connection, off the async threads.
    pub(crate) async fn read<T, F>(&self, work: F) -> Result<T, DbError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, DbError> + Send + 'static,
    {
        self.readers.run(work).await
    }
}
