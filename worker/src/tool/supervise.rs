//! What the launcher does while its tool runs: stays beside it, and ends everything that
//! came of it when it ends, when the run lets go, or when the node is gone.
//!
//! The node holds the other end of the launcher's standard input. That end closes however
//! the node ends, also by `kill -9`. The launcher is the reaper of the tool's orphans, so
//! that a process that left its group and session (`setsid`, a double fork) is still its
//! descendant. It stays outside of the fence, where the tool cannot signal it (Linux 6.12).

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, getpid, pidfd_open, pidfd_send_signal,
    set_child_subreaper, wait,
};

use super::fence::{self, Bounds};

/// The tool's end when nobody knows it.
const EXIT_UNKNOWN: u8 = 125;
/// As shells count: killed by a signal is this and the signal's number.
const KILLED_BY: i32 = 128;
/// Looks for what is left, each followed by a pause.
const MAX_SWEEPS: u32 = 1_000;
/// Pause between two looks; the kernel takes a killed process away meanwhile.
const SWEEP_PAUSE: Duration = Duration::from_millis(5);
/// Bytes of standard input read at once; nothing is ever written there.
const LEASH_BYTES: usize = 16;

/// Runs `program` behind the fence to its end, then ends whatever it left. Gives its exit
/// code. For a process of its own: it ends all children, whoever started them.
///
/// # Errors
/// When it did not start.
pub fn run_tool(bounds: Bounds, program: &Path, args: Vec<String>) -> std::io::Result<u8> {
    fence::seal();
    set_child_subreaper(Some(getpid()))?;
    let tool = start(bounds, program, args)?;
    // Ends with this process.
    let leash = std::thread::Builder::new().spawn(end_all_once_let_go);
    let code = leash.map(|_| wait_for(tool));
    end_all();
    code
}

/// Starts the tool from a thread that fenced itself in: its child inherits the fence, and
/// this thread stays outside.
fn start(bounds: Bounds, program: &Path, args: Vec<String>) -> std::io::Result<Pid> {
    use std::os::unix::process::CommandExt;
    let program = program.to_owned();
    let fenced = std::thread::Builder::new().spawn(move || {
        fence::close_in(&bounds)?;
        Command::new(program).args(args).stdin(Stdio::null()).process_group(0).spawn()
    })?;
    let child = fenced.join().map_err(|_| std::io::Error::other("its fence failed"))??;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| std::io::Error::other("it has no process id"))
}

/// Waits for the tool, taking away orphans that end meanwhile.
fn wait_for(tool: Pid) -> u8 {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == tool => return code_of(status),
            Ok(_) | Err(Errno::INTR) => {}
            // No children at all: somebody else took the tool's end.
            Err(_) => return EXIT_UNKNOWN,
        }
    }
}

fn code_of(status: WaitStatus) -> u8 {
    let killed = status.terminating_signal().map(|signal| KILLED_BY + signal);
    let code = status.exit_status().or(killed);
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(EXIT_UNKNOWN)
}

/// Reads until the node closes its end.
fn end_all_once_let_go() {
    let mut buffer = [0; LEASH_BYTES];
    let mut node = std::io::stdin().lock();
    while let Ok(1..) = node.read(&mut buffer) {}
    end_all();
}

/// Kills every descendant, again until none is left: what forks meanwhile is found by the
/// next look. All are stopped before the first is killed, so that few of them can fork.
fn end_all() {
    for _ in 0..MAX_SWEEPS {
        let left = descendants();
        for signal in [Signal::STOP, Signal::KILL] {
            left.iter().for_each(|process| process.send(signal));
        }
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => break,
                Err(_) => return, // no children are left
            }
        }
        std::thread::sleep(SWEEP_PAUSE);
    }
}

/// A process as `/proc` shows it. The time of its start tells it from a later one with
/// the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: Pid,
    parent: i32,
    started: u64,
}

impl Process {
    fn read(pid: Pid) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before it may hold anything, brackets and spaces too.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let parent = fields.nth(1)?.parse().ok()?; // field 4 of proc(5)
        let started = fields.nth(17)?.parse().ok()?; // field 22
        Some(Self { pid, parent, started })
    }

    fn send(&self, signal: Signal) {
        let Ok(handle) = pidfd_open(self.pid, PidfdFlags::empty()) else { return };
        // The handle names one process for good; this makes sure that it is the right one.
        if Self::read(self.pid).is_some_and(|now| now.started == self.started) {
            // It may be gone already, which is the aim.
            let _ = pidfd_send_signal(handle, signal);
        }
    }
}

/// All processes below this one.
fn descendants() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
    let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
    for process in pids.filter_map(Process::read) {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = Vec::new();
    let mut parents = vec![getpid().as_raw_nonzero().get()];
    while let Some(parent) = parents.pop() {
        let below = children.remove(&parent).unwrap_or_default();
        parents.extend(below.iter().map(|process| process.pid.as_raw_nonzero().get()));
        found.extend(below);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_below_this_process_and_nothing_else() {
        let mut child = Command::new("/bin/sh")
            .args(["-c", "sleep 300 & wait"])
            .spawn()
            .expect("a shell starts");
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a pid");
        let below = |pid: i32| descendants().iter().filter(|p| p.parent == pid).count();
        while below(pid.as_raw_nonzero().get()) == 0 {
            std::thread::yield_now();
        }
        let found = descendants();
        let shell = found.iter().find(|process| process.pid == pid).expect("the shell");
        assert_eq!(shell.parent, getpid().as_raw_nonzero().get());
        assert!(found.iter().all(|process| process.pid != getpid()));
        for process in
            found.iter().filter(|p| p.pid == pid || p.parent == pid.as_raw_nonzero().get())
        {
            process.send(Signal::KILL);
        }
        child.wait().expect("it ends");
    }
}
