//! `aofctl run-tool`, which the worker starts: runs one tool behind a fence, and ends all that
//! came of it when the tool ends or the worker lets go.
//!
//! Not for people, so it is not listed; its arguments are what the worker's fence wrote:
//! `--hide PATH`, `--open PATH`, `--network PORTS`, `--`, the tool's path, the tool's arguments.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use aof_worker::fence::{Bounds, LAUNCH_COMMAND, Network};

/// What a shell answers when it cannot run a program.
const EXIT_CANNOT_RUN: u8 = 126;

/// Runs the tool when the command line asks for it; `None`: it asks for something else.
pub(crate) fn asked() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    (args.next()? == LAUNCH_COMMAND).then(|| run(args))
}

fn run(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let mut bounds = Bounds::default();
    loop {
        let flag = args.next().unwrap_or_default();
        let mut value = || args.next().unwrap_or_default();
        match flag.to_str() {
            Some("--hide") => bounds.hidden.push(PathBuf::from(value())),
            Some("--open") => bounds.open.push(PathBuf::from(value())),
            Some("--network") => {
                bounds.network = Network::from_argument(&value().to_string_lossy());
            }
            _ => break,
        }
    }
    let Some(program) = args.next().map(PathBuf::from) else {
        anstream::eprintln!("error: `aofctl {LAUNCH_COMMAND}` is started by the worker only");
        return ExitCode::from(crate::EXIT_COULD_NOT);
    };
    let rest: Vec<String> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
    match run_tool(bounds, &program, rest) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            anstream::eprintln!("`{}` did not start: {error}", program.display());
            ExitCode::from(EXIT_CANNOT_RUN)
        }
    }
}

#[cfg(target_os = "linux")]
use aof_worker::run_tool;

/// Other systems have no fence, and their worker starts no launcher.
#[cfg(not(target_os = "linux"))]
fn run_tool(_: Bounds, _: &std::path::Path, _: Vec<String>) -> std::io::Result<u8> {
    Err(std::io::ErrorKind::Unsupported.into())
}
