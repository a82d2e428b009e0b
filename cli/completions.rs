//! `aofctl completions`: shell completions for every command.

use std::process::ExitCode;

use clap::CommandFactory;

use crate::{EXIT_DONE, output};

/// Arguments of `aofctl completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    aofctl completions bash > ~/.local/share/bash-completion/completions/aofctl\n  \
    aofctl completions zsh > ~/.zfunc/_aofctl\n  \
    aofctl completions fish > ~/.config/fish/completions/aofctl.fish")]
pub struct Args {
    /// The shell to complete in
    #[arg(value_name = "SHELL")]
    shell: clap_complete::Shell,
}

/// Writes the completions to stdout.
///
/// # Errors
/// Never; every command returns the same type.
#[expect(clippy::unused_async, reason = "every command is run the same way")]
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut command = crate::Cli::command();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "aofctl", &mut script);
    output::write(String::from_utf8_lossy(&script));
    Ok(ExitCode::from(EXIT_DONE))
}
