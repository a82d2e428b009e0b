//! The command line: one file a command, and the only crate that knows every other.

mod findings;
mod log;
mod sample;
pub mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Done.
pub const EXIT_DONE: u8 = 0;
/// The answer is no: invalid, refused, differences found.
pub const EXIT_NO: u8 = 1;
/// Could not: server unreachable, I/O.
pub const EXIT_COULD_NOT: u8 = 3;

/// Runs agents for many organisations from chat and alerts, and lets nothing
/// destructive happen before its quorum has agreed.
#[derive(Debug, Parser)]
#[command(
    name = "aofctl",
    version,
    after_help = "Exit codes: 0 done, 1 the answer is no, 2 wrong usage, 3 could not.\n\n\
                  Start here:\n  aofctl serve --config examples/quickstart/daemon-config.yaml\n  \
                  aofctl chat 'uptime'"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the roles: by default all of them, embedded, with nothing installed
    Serve(serve::Args),
}

/// Parses the command line and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return could_not(&error.into()),
    };
    match runtime.block_on(run(cli.command)) {
        Ok(code) => code,
        Err(error) => could_not(&error),
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(args) => serve::run(args).await,
    }
}

/// Prints the error with its causes and returns the exit code for "could not".
fn could_not(error: &anyhow::Error) -> ExitCode {
    anstream::eprintln!("error: {error:#}");
    ExitCode::from(EXIT_COULD_NOT)
}
