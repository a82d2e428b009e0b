//! `aofctl serve`: the roles of a node, from start to drain.

use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `aofctl serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    aofctl serve --config examples/quickstart/daemon-config.yaml\n  \
    aofctl serve --config daemon-config.yaml --flows-dir ./flows\n  \
    aofctl serve --flows-dir ./flows --agents-dir ./agents --listen 127.0.0.1:9000")]
pub struct Args {
    /// The DaemonConfig to serve
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where flows are, instead of the config's `flows.directory`
    #[arg(long, value_name = "DIR")]
    flows_dir: Option<PathBuf>,
    /// Where agents are, instead of the config's `agents.directory`
    #[arg(long, value_name = "DIR")]
    agents_dir: Option<PathBuf>,
    /// Which roles to run
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    role: Vec<Role>,
    /// Where the embedded backend keeps its data
    #[arg(long, value_name = "DIR", env = "AOF_DATA_DIR", default_value = ".aof")]
    data_dir: PathBuf,
    /// Where to listen, instead of the config's `server.host` and `server.port`
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
}

/// A role of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Takes messages in, sends answers out
    Gateway,
    /// Chooses flows
    Router,
    /// Runs agents
    Worker,
    /// Holds destructive actions
    Approver,
}

/// Runs the node until it is told to stop.
///
/// # Errors
/// When a part cannot start.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let _ = args;
    anyhow::bail!("serve is not wired yet")
}
