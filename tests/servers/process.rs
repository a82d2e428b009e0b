//! One server process in a folder of its own, and the keeper that outlives the test process.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Longest wait for a server to take requests.
const READY: Duration = Duration::from_secs(60);
/// Time between two looks at whether it does.
const LOOK: Duration = Duration::from_millis(5);
/// Lines of a server's log that a failure shows.
const LOG_LINES: usize = 30;

/// Reads the pid of each start, a line each; once the test process has closed the pipe, by
/// dropping the server or by dying, kills the last one (if it is still the one in our folder)
/// and removes the folder. A second try, as PostgreSQL's children may still be writing.
const KEEPER: &str = r#"
trap '' INT TERM HUP
while read -r line; do pid=$line; done
case "$(readlink "/proc/$pid/cwd")" in "$1"*) kill -9 "$pid" ;; esac
rm -rf -- "$1" || { sleep 1; rm -rf -- "$1"; }
"#;

/// Whom a server runs as when root may not run it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// How to start the program.
#[derive(Default)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) args: Vec<OsString>,
    /// More variables than the test process has.
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) account: Option<Account>,
}

/// A server: its folder, its program, and its process while it runs.
pub(crate) struct Server {
    dir: PathBuf,
    program: Program,
    running: Mutex<Option<Child>>,
    keeper: Mutex<Keeper>,
}

struct Keeper {
    child: Child,
    pids: Option<ChildStdin>,
}

/// Makes the folder of a server, owned by `account`.
pub(crate) fn folder(name: &str, account: Option<Account>) -> PathBuf {
    let dir = TempDir::with_prefix(format!("aof-{name}-")).expect("a folder").keep();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).expect("our folder");
    if let Some(Account { uid, gid }) = account {
        chown(&dir, Some(uid), Some(gid)).expect("root may give a folder away");
    }
    dir.canonicalize().expect("a folder that was made")
}

impl Server {
    /// Takes over `dir`, which goes when the server does. Nothing runs yet.
    pub(crate) fn new(dir: PathBuf, program: Program) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("a shell");
        let pids = child.stdin.take();
        let keeper = Mutex::new(Keeper { child, pids });
        Self { dir, program, running: Mutex::default(), keeper }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A command that runs `path` as the server does: account, folder, no terminal.
    pub(crate) fn command(&self, path: &Path) -> Command {
        let log = File::options().create(true).append(true).open(self.dir.join("log"));
        let log = log.expect("a log file in our folder");
        let mut command = Command::new(path);
        command
            .current_dir(&self.dir)
            .envs(self.program.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .process_group(0);
        if let Some(Account { uid, gid }) = self.program.account {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Starts the process; it may not take requests yet.
    pub(crate) fn spawn(&self) {
        let mut running = lock(&self.running);
        assert!(running.is_none(), "{} runs already", self.program.path.display());
        let mut command = self.command(&self.program.path);
        let child = command.args(&self.program.args).spawn();
        let child = child.unwrap_or_else(|e| panic!("{}: {e}", self.program.path.display()));
        let mut keeper = lock(&self.keeper);
        let pids = keeper.pids.as_mut().expect("closed on drop only");
        writeln!(pids, "{}", child.id()).expect("the keeper reads");
        *running = Some(child);
    }

    /// Waits until `ready` says so.
    pub(crate) fn wait_ready(&self, ready: impl Fn() -> bool) {
        let end = Instant::now() + READY;
        while !ready() {
            let mut running = lock(&self.running);
            let child = running.as_mut().expect("a server that was started");
            if let Some(status) = child.try_wait().expect("our child") {
                *running = None;
                panic!("{} ended ({status}):\n{}", self.program.path.display(), self.log_end());
            }
            drop(running);
            let what = self.program.path.display();
            assert!(Instant::now() < end, "{what} is not ready:\n{}", self.log_end());
            std::thread::sleep(LOOK);
        }
    }

    /// The pid while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        lock(&self.running).as_ref().map(Child::id)
    }

    /// SIGKILL to the process and its children, and waits for the end of all of them: one
    /// that lives on keeps the memory that the next start wants.
    pub(crate) fn kill(&self) {
        let Some(mut child) = lock(&self.running).take() else { return };
        // Its children are listed once it can start no more of them.
        signal(&[child.id()], Signal::STOP);
        let children = children(child.id());
        child.kill().expect("our child");
        child.wait().expect("our child");
        signal(&children, Signal::KILL);
        let end = Instant::now() + READY;
        while children.iter().any(|pid| lives(*pid)) {
            assert!(Instant::now() < end, "a process lives on after SIGKILL: {children:?}");
            std::thread::sleep(LOOK);
        }
    }

    /// SIGKILL to the process and nothing that it started, and waits for its end.
    pub(crate) fn kill_alone(&self) {
        let Some(mut child) = lock(&self.running).take() else { return };
        child.kill().expect("our child");
        child.wait().expect("our child");
    }

    /// Sends `which` to the process, then to all that came of it.
    pub(crate) fn signal(&self, which: Signal) {
        let pid = self.pid().expect("a server that runs");
        let mut tree = vec![pid];
        let mut next = 0;
        while let Some(pid) = tree.get(next).copied() {
            // Its children are listed once it can start no more of them.
            signal(&[pid], which);
            tree.extend(children(pid));
            next += 1;
        }
    }

    /// Asks the process to end, and waits until it has; `None` when it did not run.
    pub(crate) fn terminate(&self, how: Signal) -> Option<ExitStatus> {
        let mut child = lock(&self.running).take()?;
        signal(&[child.id()], how);
        Some(child.wait().expect("our child"))
    }

    /// What the server wrote, all of its starts.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let mut keeper = lock(&self.keeper);
        keeper.pids = None;
        let _ = keeper.child.wait();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The processes that `pid`, whichever thread of it, started and that have not ended.
fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| pids(&list)).collect()
}

/// False for what is gone, or only waits to be collected.
fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

fn pids(list: &str) -> Vec<u32> {
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn signal(pids: &[u32], which: Signal) {
    let pids = pids.iter().filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?));
    for pid in pids {
        // It may have ended since it was listed.
        let _ = kill_process(pid, which);
    }
}
