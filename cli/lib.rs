//! The command line: one file a command, and the only crate that knows every other.

mod about;
pub mod apply;
pub mod approvals;
pub mod chat;
pub mod client;
pub mod completions;
pub mod dead_letters;
pub mod doctor;
pub mod events;
pub mod explain;
mod findings;
pub mod generate;
pub mod journal;
pub mod keys;
mod lines;
mod log;
mod lost;
pub mod output;
mod reload;
pub mod replay;
pub mod replays;
mod room;
mod run_tool;
pub mod serve;
pub mod status;
pub mod trace;
pub mod validate;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Done.
pub const EXIT_DONE: u8 = 0;
/// The answer is no: invalid, refused, differences found.
pub const EXIT_NO: u8 = 1;
/// Wrong usage, as clap has it.
pub const EXIT_USAGE: u8 = 2;
/// How long threads that block may go on once the command is done.
const LINGER: std::time::Duration = std::time::Duration::from_secs(2);
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
                  aofctl chat --channel ops 'uptime'"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the roles: by default all of them, embedded, with nothing installed
    Serve(serve::Args),
    /// Talk to a node from the terminal, through the whole pipeline
    Chat(chat::Args),
    /// List held actions, decide them, see who is still needed
    Approvals(approvals::Args),
    /// The journal: live, from a cursor, or one message as a tree
    Events(events::Args),
    /// Show a slice of the past, decide it again under another configuration, save it
    Replay(Box<replay::Args>),
    /// List, pause, take up and give up replays that let messages come in again
    Replays(replays::Args),
    /// Put manifests in place, after telling what the newest traffic would have become
    Apply(apply::Args),
    /// What could not be done: list, show, retry, abandon
    DeadLetters(dead_letters::Args),
    /// Make, list and revoke API keys
    Keys(keys::Args),
    /// Show which flow would take a message, and why
    Explain(explain::Args),
    /// Check manifests: what is wrong, where, and what to do
    Validate(validate::Args),
    /// Write a first flow for an agent
    Generate(generate::Args),
    /// The node and its cluster now: health, nodes, queues, durability
    Status(status::Args),
    /// Find what is set up unsafely, and how to mend it
    Doctor(doctor::Args),
    /// Write shell completions
    Completions(completions::Args),
}

/// Parses the command line and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    if let Some(code) = run_tool::asked() {
        return code;
    }
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return could_not(&error.into()),
    };
    let code = match runtime.block_on(run(cli.command)) {
        Ok(code) => code,
        Err(error) => could_not(&error),
    };
    // A thread that hangs in the file system must not keep a node that is done.
    runtime.shutdown_timeout(LINGER);
    code
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(args) => serve::run(args).await,
        Command::Chat(args) => chat::run(args).await,
        Command::Approvals(args) => approvals::run(args).await,
        Command::Events(args) => events::run(args).await,
        Command::Replay(args) => replay::run(*args).await,
        Command::Replays(args) => replays::run(args).await,
        Command::Apply(args) => apply::run(args).await,
        Command::DeadLetters(args) => dead_letters::run(args).await,
        Command::Keys(args) => keys::run(args).await,
        Command::Explain(args) => explain::run(args).await,
        Command::Validate(args) => validate::run(args).await,
        Command::Generate(args) => generate::run(args).await,
        Command::Status(args) => status::run(args).await,
        Command::Doctor(args) => doctor::run(args).await,
        Command::Completions(args) => completions::run(args).await,
    }
}

/// Prints the error with its causes and returns the exit code for "could not".
fn could_not(error: &anyhow::Error) -> ExitCode {
    anstream::eprintln!("error: {error:#}");
    ExitCode::from(EXIT_COULD_NOT)
}
