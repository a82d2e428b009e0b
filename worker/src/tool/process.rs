//! Runs one program: own process group, closed input, capped output, capped time. All that
//! it started dies with it, however it ends: by its launcher's hand, or without one its
//! process group.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStdin, Command};

use crate::tool::MAX_OUTPUT_BYTES;
use crate::tool::fence::Launch;
use crate::tool::mask::Mask;

/// How long the pipes may stay open after the program ended and its group was killed:
/// something left the group and holds them.
const PIPE_GRACE: Duration = Duration::from_millis(300);
/// How long a launcher may take to end what its tool left; it gives up by itself after
/// about 5 s.
const LAUNCHER_GRACE: Duration = Duration::from_secs(10);
/// Bytes read at once.
const READ_BYTES: usize = 8 * 1024;

/// A program to run.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// Absolute path.
    pub(crate) path: PathBuf,
    /// Everything after the program.
    pub(crate) args: Vec<String>,
    /// The whole environment.
    pub(crate) environment: BTreeMap<String, String>,
    /// Where it runs.
    pub(crate) directory: PathBuf,
    /// How long it may run.
    pub(crate) timeout: Duration,
    /// What fences it in; `None` runs it as it is.
    pub(crate) launch: Option<Launch>,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By itself, with this code; killed by a signal counts as 128 + signal.
    Exited(i32),
    /// It was killed when its time was over.
    TimedOut,
    /// It never ran.
    NotStarted(String),
}

/// How a program ended and what it printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    /// How it ended.
    pub(crate) ended: Ended,
    /// What it printed, then what it complained about; masked and cut.
    pub(crate) text: String,
}

/// What ends a program with all that it started; also when dropped, so that a cancelled
/// run leaves nothing behind.
enum Leash {
    /// The launcher reads the other end, and ends everything once this one is closed.
    Held(Option<ChildStdin>),
    /// The process group.
    Group(Option<Pid>),
}

impl Leash {
    fn of(child: &mut Child, program: &Program) -> Self {
        if program.launch.is_some() {
            return Self::Held(child.stdin.take());
        }
        Self::Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    fn let_go(&mut self) {
        match self {
            Self::Held(end) => drop(end.take()),
            // The group may be gone already, which is the aim.
            Self::Group(pid) => {
                let _ = pid.take().map(|pid| kill_process_group(pid, Signal::KILL));
            }
        }
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// Runs `program` to its end.
pub(crate) async fn run(program: &Program, mask: &Mask) -> Output {
    let mut child = match spawn(program) {
        Ok(child) => child,
        Err(error) => {
            let reason = not_started(program, &error);
            return Output { ended: Ended::NotStarted(reason), text: String::new() };
        }
    };
    let mut leash = Leash::of(&mut child, program);
    let keep = MAX_OUTPUT_BYTES + mask.longest_bytes();
    let (mut out, mut err) = (Kept::new(keep), Kept::new(keep));
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ended = {
        let reading = async {
            tokio::join!(out.read(stdout), err.read(stderr));
        };
        tokio::pin!(reading);
        let (ended, read) = wait(&mut child, &mut reading, program.timeout).await;
        leash.let_go();
        // Its exit is taken here, so that no zombie stays.
        if tokio::time::timeout(LAUNCHER_GRACE, child.wait()).await.is_err() {
            let _ = child.kill().await;
        }
        if !read {
            let _ = tokio::time::timeout(PIPE_GRACE, reading).await;
        }
        ended
    };
    Output { ended, text: text_of(out, err, mask) }
}

fn spawn(program: &Program) -> std::io::Result<Child> {
    let mut command = match &program.launch {
        Some(launch) => {
            let mut command = Command::new(&launch.launcher);
            command.args(launch.args()).arg(&program.path);
            command
        }
        None => Command::new(&program.path),
    };
    command
        .args(&program.args)
        .env_clear()
        .envs(&program.environment)
        .current_dir(&program.directory)
        .stdin(if program.launch.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        // A launcher must live to end what it started.
        .kill_on_drop(program.launch.is_none())
        .spawn()
}

fn not_started(program: &Program, error: &std::io::Error) -> String {
    let directory: &Path = &program.directory;
    if directory.is_dir() {
        return format!("`{}` did not start: {error}", program.path.display());
    }
    format!("there is no directory `{}` to run in", directory.display())
}

/// Waits for the end, reading what is printed meanwhile; says whether all of it was read.
async fn wait(
    child: &mut Child,
    reading: &mut (impl Future<Output = ()> + Unpin),
    timeout: Duration,
) -> (Ended, bool) {
    let mut read = false;
    let deadline = tokio::time::sleep(timeout);
    tokio::pin!(deadline);
    loop {
        tokio::select! {
            ended = child.wait() => return match ended {
                Ok(status) => (Ended::Exited(code_of(status)), read),
                Err(error) => (Ended::NotStarted(error.to_string()), read),
            },
            () = &mut deadline => return (Ended::TimedOut, read),
            () = &mut *reading, if !read => read = true,
        }
    }
}

/// As shells count: 128 + signal.
fn code_of(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// The beginning of what a pipe gave; the rest is read and dropped, so that the program
/// goes on.
struct Kept {
    bytes: Vec<u8>,
    most: usize,
    total: usize,
}

impl Kept {
    fn new(most: usize) -> Self {
        Self { bytes: Vec::new(), most, total: 0 }
    }

    fn dropped(&self) -> bool {
        self.total > self.bytes.len()
    }

    /// The text, masked; a value that the cap cut in two goes as a whole.
    fn masked(&self, mask: &Mask) -> String {
        let mut text = mask.apply(String::from_utf8_lossy(&self.bytes).into_owned());
        if self.dropped() {
            let end = boundary(&text, text.len().saturating_sub(mask.longest_bytes()));
            text.truncate(end);
        }
        text
    }

    async fn read(&mut self, pipe: Option<impl AsyncRead + Unpin>) {
        let Some(mut pipe) = pipe else { return };
        let mut buffer = vec![0; READ_BYTES];
        while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
            self.total += read;
            let room = self.most - self.bytes.len();
            self.bytes.extend_from_slice(&buffer[..read.min(room)]);
        }
    }
}

fn text_of(out: Kept, err: Kept, mask: &Mask) -> String {
    let total = out.total + err.total;
    let dropped = out.dropped() || err.dropped();
    let mut text = out.masked(mask);
    let complaints = err.masked(mask);
    if !text.is_empty() && !text.ends_with('\n') && !complaints.is_empty() {
        text.push('\n');
    }
    text.push_str(&complaints);
    if dropped || text.len() > MAX_OUTPUT_BYTES { cut(text, total) } else { text }
}

/// Cuts `text` to the cap and says so; `total` is how many bytes there were.
pub(crate) fn cut(mut text: String, total: usize) -> String {
    let end = boundary(&text, MAX_OUTPUT_BYTES);
    text.truncate(end);
    text.push_str(&format!("\n… cut here: {total} bytes in all, the first {end} are shown"));
    text
}

/// The last character boundary at or before `end`.
fn boundary(text: &str, end: usize) -> usize {
    let mut end = end.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    end
}

#[cfg(test)]
mod tests;
