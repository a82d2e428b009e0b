//! What a node keeps its data on: its own folder, or servers of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use aof_servers::{Nats, NatsOptions, Postgres, Redis};

/// Chooses the backend of all nodes that do not name one.
const VARIABLE: &str = "AOF_BACKEND";

/// Chooses how NATS keeps what it acknowledged: `interval` for its default, which says
/// `memory` in a 2xx; else every message is on the disk first.
const SYNC_VARIABLE: &str = "AOF_NATS_SYNC";

/// How the nodes' NATS server is set up.
pub fn nats_options() -> NatsOptions {
    let interval = std::env::var(SYNC_VARIABLE).is_ok_and(|sync| sync == "interval");
    NatsOptions { sync_always: !interval, ..NatsOptions::default() }
}

/// A backend, and how a node's roles stand on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// One process on its own folder.
    Embedded,
    /// One process on NATS, Redis and PostgreSQL.
    Cluster,
    /// The same, with a process for each role.
    Roles,
}

impl Backend {
    /// The one that `AOF_BACKEND` names; the embedded one without it.
    ///
    /// # Panics
    /// When it names none.
    pub fn chosen() -> Self {
        match std::env::var(VARIABLE).as_deref() {
            Err(_) | Ok("" | "embedded") => Self::Embedded,
            Ok("cluster") => Self::Cluster,
            Ok("roles") => Self::Roles,
            Ok(other) => panic!("{VARIABLE}={other}: write embedded, cluster or roles"),
        }
    }

    /// What each process of the node is told to run, as arguments. The last one takes
    /// requests.
    pub(crate) fn processes(self) -> &'static [&'static str] {
        match self {
            Self::Embedded | Self::Cluster => &[""],
            Self::Roles => &["--role worker", "--role router", "--role approver", "--role gateway"],
        }
    }

    /// The variables that lead a node with this data folder to its servers: always the same
    /// ones, so that a node started again finds what it stored.
    pub fn variables(self, data_dir: &Path) -> Vec<(&'static str, String)> {
        if self == Self::Embedded {
            return Vec::new();
        }
        with_servers(data_dir, |servers| {
            vec![
                ("NATS_URL", servers.nats.url()),
                ("NATS_MONITOR_URL", servers.nats.monitor_url()),
                ("REDIS_URL", servers.redis.url()),
                ("DATABASE_URL", servers.database_url.clone()),
            ]
        })
    }

    /// Where the messages of a node with this data folder are kept, and its own folder.
    pub fn folders(self, data_dir: &Path) -> Vec<PathBuf> {
        let mut folders = vec![data_dir.to_owned()];
        if self != Self::Embedded {
            folders.push(with_servers(data_dir, |servers| servers.nats.dir().to_owned()));
        }
        folders
    }
}

/// Starts the servers of a data folder if it has none yet.
fn with_servers<T>(data_dir: &Path, read: impl FnOnce(&Servers) -> T) -> T {
    static STARTED: Mutex<BTreeMap<PathBuf, Servers>> = Mutex::new(BTreeMap::new());
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    // A test that has ended took its folder with it.
    started.retain(|dir, _| dir.exists());
    read(started.entry(data_dir.to_owned()).or_insert_with(Servers::start))
}

/// The servers of one data folder, all of which keep what they acknowledged (NATS unless
/// [`nats_options`] says otherwise).
struct Servers {
    nats: Nats,
    redis: Redis,
    database_url: String,
}

impl Servers {
    fn start() -> Self {
        static POSTGRES: OnceLock<Postgres> = OnceLock::new();
        static DATABASES: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        Self {
            nats: Nats::start(&nats_options()),
            redis: Redis::start(),
            database_url: POSTGRES.get_or_init(Postgres::start).database(&name),
        }
    }
}
