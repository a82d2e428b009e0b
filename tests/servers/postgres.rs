//! PostgreSQL, which refuses to run as root: then it runs as `postgres`, or as `nobody`.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::port::Port;
use crate::process::{Account, Program, Server, folder};
use crate::programs;

const USER: &str = "aof";
const PASSWORD: &str = "aof-test";

/// How to start PostgreSQL.
#[derive(Debug, Clone, Default)]
pub struct PostgresOptions {
    /// Settings as `name=value`, for example `fsync=off`.
    pub settings: Vec<String>,
}

/// One PostgreSQL server.
pub struct Postgres {
    server: Server,
    port: Port,
}

impl Postgres {
    /// Starts one with its own defaults, whose commits reach the disk.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&PostgresOptions::default())
    }

    /// Makes a database folder, starts the server and waits until it takes requests.
    #[must_use]
    pub fn start_with(options: &PostgresOptions) -> Self {
        let account = account();
        let dir = folder("postgres", account);
        let port = Port::free();
        let settings = [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={}", port.number()),
            format!("unix_socket_directories={}", dir.display()),
            "max_connections=200".to_owned(),
        ];
        let settings = settings.iter().chain(&options.settings);
        let mut args = vec!["-D".into(), "data".into()];
        args.extend(settings.flat_map(|setting| ["-c".into(), setting.into()]));
        let program =
            Program { path: programs::postgres("postgres"), args, account, ..Program::default() };
        let postgres = Self { server: Server::new(dir, program), port };
        postgres.make_database();
        postgres.start_again();
        postgres
    }

    fn make_database(&self) {
        let password = self.server.dir().join("password");
        fs::write(&password, PASSWORD).expect("our folder");
        let mut initdb = self.server.command(&programs::postgres("initdb"));
        initdb.args(["-D", "data", "-U", USER, "--pwfile=password", "--auth=scram-sha-256"]);
        initdb.args(["--encoding=UTF8", "--locale=C", "--no-sync"]);
        let made = initdb.status().expect("initdb runs");
        assert!(made.success(), "initdb failed ({made}):\n{}", self.server.log());
    }

    /// The URL for clients: a superuser on the database `postgres`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://{USER}:{PASSWORD}@{}/postgres", self.port.addr())
    }

    /// Makes another database; its URL for clients.
    #[must_use]
    pub fn database(&self, name: &str) -> String {
        let mut psql = Command::new(programs::postgres("psql"));
        psql.args([&self.url(), "-qc", &format!("CREATE DATABASE \"{name}\"")]);
        let output = psql.output().expect("psql runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.url().replace("/postgres", &format!("/{name}"))
    }

    /// Where clients connect.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// Starts it where it was killed or stopped, and waits until it takes requests.
    pub fn start_again(&self) {
        self.server.spawn();
        let number = self.port.number().to_string();
        let asks = programs::postgres("pg_isready");
        self.server.wait_ready(|| {
            let mut ready = Command::new(&asks);
            ready.args(["-q", "-h", "127.0.0.1", "-p", &number]);
            ready.status().expect("pg_isready runs").success()
        });
    }

    /// SIGKILL to the server and its children. What it committed stays.
    pub fn kill(&self) {
        self.server.kill();
    }

    /// Ends it in order, closing its connections.
    pub fn stop(&self) {
        let _ = self.server.terminate(Signal::INT);
    }

    /// Freezes it: connections stay, nothing answers.
    pub fn pause(&self) {
        self.server.signal(Signal::STOP);
    }

    /// Ends a [`Postgres::pause`].
    pub fn resume(&self) {
        self.server.signal(Signal::CONT);
    }

    /// The folder that it keeps everything in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.server.dir()
    }

    /// The process while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// What it wrote into its log.
    #[must_use]
    pub fn log(&self) -> String {
        self.server.log()
    }
}

/// The account to run as; `None` when we are not root.
fn account() -> Option<Account> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let accounts = fs::read_to_string("/etc/passwd").expect("accounts");
    let of = |name: &str| {
        let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line.split(':').skip(2).map(str::parse);
        Some(Account { uid: ids.next()?.ok()?, gid: ids.next()?.ok()? })
    };
    let account = of("postgres").or_else(|| of("nobody"));
    Some(account.expect("an account named postgres or nobody: PostgreSQL does not run as root"))
}
