//! A node as a process of its own, or as one for each role.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::Backend;

/// A running node; killed with its data kept when dropped.
pub struct Node {
    /// Where it takes requests.
    pub url: String,
    /// Where each of its processes tells its health and metrics; `url` is one of them.
    pub urls: Vec<String>,
    pub data_dir: PathBuf,
    pub ready_ms: u128,
    processes: Vec<Process>,
}

/// What a node is started with.
#[derive(Clone, Copy)]
struct Launch<'a> {
    binary: &'a str,
    config: &'a Path,
    data_dir: &'a Path,
    env: &'a [(&'a str, &'a str)],
}

/// One process of a node: all of it, or one role.
struct Process {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    logging: Option<JoinHandle<()>>,
}

impl Node {
    /// Starts `aofctl serve` on `manifests/daemon.yaml` and waits for its ready line.
    pub fn start(binary: &str, manifests: &Path, data_dir: &Path) -> Self {
        Self::serve(binary, &manifests.join("daemon.yaml"), data_dir, &[])
    }

    /// Starts `aofctl serve --config config` and waits for its ready line. On which backend,
    /// and whether as a process for each role, says `AOF_BACKEND`.
    pub fn serve(binary: &str, config: &Path, data_dir: &Path, env: &[(&str, &str)]) -> Self {
        Launch { binary, config, data_dir, env }.on(Backend::chosen())
    }

    /// Starts a process for each role, and `workers` of the worker's with so many runs at
    /// once each.
    pub fn start_workers(
        binary: &str,
        manifests: &Path,
        data_dir: &Path,
        (workers, concurrency): (usize, u64),
    ) -> Self {
        let config = &manifests.join("daemon.yaml");
        let worker = format!("--role worker --concurrency {concurrency}");
        let mut processes = vec![worker.as_str(); workers];
        processes.extend(["--role router", "--role approver", "--role gateway"]);
        Launch { binary, config, data_dir, env: &[] }.spawn_all(Backend::Roles, &processes)
    }

    /// The same as `start` on the embedded backend, for what is about its files.
    pub fn start_embedded(binary: &str, manifests: &Path, data_dir: &Path) -> Self {
        let config = &manifests.join("daemon.yaml");
        Launch { binary, config, data_dir, env: &[] }.on(Backend::Embedded)
    }

    /// The process that runs tools.
    pub fn pid(&self) -> u32 {
        self.processes.first().expect("a node has processes").child.id()
    }

    pub fn addr(&self) -> SocketAddr {
        self.url.trim_start_matches("http://").parse().expect("host and port")
    }

    /// The operator key that the first start wrote.
    pub fn admin_key(&self) -> String {
        let path = self.data_dir.join("admin.key");
        std::fs::read_to_string(&path).expect("an operator key").trim().to_owned()
    }

    /// Resident memory in bytes, of all its processes.
    pub fn resident_bytes(&self) -> u64 {
        self.processes.iter().map(|process| resident_bytes(process.child.id())).sum()
    }

    /// Processor time that all its processes have used, in milliseconds; Linux counts it in
    /// ticks of 10.
    pub fn processor_ms(&self) -> u64 {
        self.processes.iter().map(|process| processor_ms(process.child.id())).sum()
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.end();
    }

    /// SIGTERM; returns the exit code: the first that is not 0, when there are several.
    pub fn drain(mut self) -> Option<i32> {
        for process in &self.processes {
            let pid = process.child.id().to_string();
            let told = Command::new("kill").args(["-TERM", &pid]).status();
            assert!(told.expect("kill runs").success());
        }
        let mut codes = self
            .processes
            .iter_mut()
            .map(|process| process.child.wait().expect("the child ends").code());
        codes.find(|code| *code != Some(0)).unwrap_or(Some(0))
    }

    pub fn log(&self) -> String {
        self.logs().join("\n")
    }

    /// What each of its processes wrote.
    pub fn logs(&self) -> Vec<String> {
        self.processes.iter().map(Process::log).collect()
    }

    fn end(&mut self) {
        for process in &mut self.processes {
            let _ = process.child.kill();
        }
        for process in &mut self.processes {
            let _ = process.child.wait();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
    }
}

impl Launch<'_> {
    fn on(self, backend: Backend) -> Node {
        self.spawn_all(backend, backend.processes())
    }

    /// A process for each list of arguments; the last one takes requests.
    fn spawn_all(self, backend: Backend, processes: &[&str]) -> Node {
        let servers = backend.variables(self.data_dir);
        let began = Instant::now();
        let spawn = |args: &&str| self.spawn(args, &servers);
        // All at once: a role waits for nobody but the servers.
        let mut node = Node {
            url: String::new(),
            urls: Vec::new(),
            data_dir: self.data_dir.to_owned(),
            ready_ms: 0,
            processes: processes.iter().map(spawn).collect(),
        };
        for process in &mut node.processes {
            node.url = process.ready();
            node.urls.push(node.url.clone());
        }
        node.ready_ms = began.elapsed().as_millis();
        node
    }

    fn spawn(self, args: &str, servers: &[(&str, String)]) -> Process {
        let mut command = Command::new(self.binary);
        command.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(self.config);
        let mut child = command
            .args(args.split_whitespace())
            .arg("--data-dir")
            .arg(self.data_dir)
            .env("AOF_LOG", std::env::var("AOF_LOG").unwrap_or_else(|_| "warn".to_owned()))
            .env_remove("NATS_URL")
            .env_remove("REDIS_URL")
            .env_remove("DATABASE_URL")
            .envs(servers.iter().map(|(name, value)| (name, value)))
            .envs(self.env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("aofctl starts");
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let errors = BufReader::new(child.stderr.take().expect("piped"));
        let kept = Arc::clone(&log);
        let logging = std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                if std::env::var_os("AOF_TEST_LOG").is_some() {
                    eprintln!("node: {line}");
                }
                kept.lock().expect("no panic while logging").push(line);
            }
        });
        Process { child, log, logging: Some(logging) }
    }
}

impl Process {
    /// Waits for the ready line; the URL in it.
    fn ready(&mut self) -> String {
        let mut lines = BufReader::new(self.child.stdout.take().expect("piped")).lines();
        let ready = lines.by_ref().map_while(Result::ok).find(|line| line.contains("ready"));
        let Some(ready) = ready else {
            let status = self.child.wait().expect("the child ends");
            let logging = self.logging.take().map(JoinHandle::join);
            logging.transpose().expect("no panic while logging");
            panic!("the node ended ({status}) before it was ready:\n{}", self.log());
        };
        std::thread::spawn(move || lines.for_each(drop));
        let url = ready.split_whitespace().find(|word| word.starts_with("http://"));
        let url = url.unwrap_or_else(|| panic!("no URL in {ready:?}"));
        url.trim_end_matches('/').to_owned()
    }

    fn log(&self) -> String {
        self.log.lock().expect("no panic while logging").join("\n")
    }
}

fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("procfs");
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("a resident size");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).expect("a number") * 1024
}

fn processor_ms(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("procfs");
    // The name before it may hold spaces.
    let fields = stat.rsplit(')').next().expect("a line").split_whitespace();
    let ticks = fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number"));
    ticks.sum::<u64>() * 10
}
