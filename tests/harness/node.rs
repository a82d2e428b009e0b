//! A node as a process of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// A running node; killed with its data kept when dropped.
pub struct Node {
    pub url: String,
    pub data_dir: PathBuf,
    pub ready_ms: u128,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Node {
    /// Starts `aofctl serve` on `manifests/daemon.yaml` and waits for its ready line.
    pub fn start(binary: &str, manifests: &Path, data_dir: &Path) -> Self {
        Self::serve(binary, &manifests.join("daemon.yaml"), data_dir, &[])
    }

    /// Starts `aofctl serve --config config` and waits for its ready line.
    pub fn serve(binary: &str, config: &Path, data_dir: &Path, env: &[(&str, &str)]) -> Self {
        let began = Instant::now();
        let mut child = Command::new(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(config)
            .arg("--data-dir")
            .arg(data_dir)
            .env("AOF_LOG", std::env::var("AOF_LOG").unwrap_or_else(|_| "warn".to_owned()))
            .envs(env.iter().copied())
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
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let ready = lines.by_ref().map_while(Result::ok).find(|line| line.contains("ready"));
        let Some(ready) = ready else {
            let status = child.wait().expect("the child ends");
            logging.join().expect("no panic while logging");
            panic!(
                "the node ended ({status}) before it was ready:\n{}",
                log.lock().expect("ok").join("\n")
            );
        };
        let ready_ms = began.elapsed().as_millis();
        std::thread::spawn(move || lines.for_each(drop));
        let url = ready
            .split_whitespace()
            .find(|word| word.starts_with("http://"))
            .unwrap_or_else(|| panic!("no URL in {ready:?}"))
            .trim_end_matches('/')
            .to_owned();
        Self { url, data_dir: data_dir.to_owned(), ready_ms, child, log }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn addr(&self) -> SocketAddr {
        self.url.trim_start_matches("http://").parse().expect("host and port")
    }

    /// The operator key that the first start wrote.
    pub fn admin_key(&self) -> String {
        let path = self.data_dir.join("admin.key");
        std::fs::read_to_string(&path).expect("an operator key").trim().to_owned()
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("procfs");
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("a resident size");
        line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).expect("a number")
            * 1024
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().expect("a child to kill");
        self.child.wait().expect("the child ends");
    }

    /// SIGTERM; returns the exit code.
    pub fn drain(mut self) -> Option<i32> {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
        self.child.wait().expect("the child ends").code()
    }

    pub fn log(&self) -> String {
        self.log.lock().expect("no panic while logging").join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
