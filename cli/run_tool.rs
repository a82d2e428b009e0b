//! `aofctl run-tool`, which the worker starts: fences itself in, then becomes the tool.
//!
//! Not for people, so it is not listed; its arguments are what the worker's fence wrote:
//! `--hide PATH`, `--open PATH`, `--`, the tool's path, the tool's arguments.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use aof_worker::fence::{Bounds, LAUNCH_COMMAND, become_tool};

/// What a shell answers when it cannot run a program.
const EXIT_CANNOT_RUN: u8 = 126;

/// Becomes the tool when the command line asks for it; `None`: it asks for something else.
pub(crate) fn asked() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    (args.next()? == LAUNCH_COMMAND).then(|| run(args))
}

fn run(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let mut bounds = Bounds::default();
    loop {
        let flag = args.next().unwrap_or_default();
        let paths = match flag.to_str() {
            Some("--hide") => &mut bounds.hidden,
            Some("--open") => &mut bounds.open,
            _ => break,
        };
        paths.push(PathBuf::from(args.next().unwrap_or_default()));
    }
    let Some(program) = args.next().map(PathBuf::from) else {
        anstream::eprintln!("error: `aofctl {LAUNCH_COMMAND}` is started by the worker only");
        return ExitCode::from(crate::EXIT_COULD_NOT);
    };
    let rest: Vec<String> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
    let error = become_tool(&bounds, &program, &rest);
    anstream::eprintln!("`{}` did not start: {error}", program.display());
    ExitCode::from(EXIT_CANNOT_RUN)
}
