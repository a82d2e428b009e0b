//! `aofctl serve`: the roles of a node, from start to drain.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use aof_shared::backend;
use aof_shared::clock::SystemClock;
use aof_shared::config::{Config, Snapshot};
use aof_shared::lifecycle::Lifecycle;
use aof_shared::manifest::{self, Env, Sources};
use aof_shared::node::{Health, Node};
use aof_shared::telemetry::Metrics;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{EXIT_COULD_NOT, EXIT_NO, findings, reload, sample};

/// How long a node may take to finish what it has begun once it is told to stop.
const DRAIN_DEADLINE: Duration = Duration::from_secs(30);

/// Arguments of `aofctl serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    aofctl serve --config examples/quickstart/daemon-config.yaml\n  \
    aofctl serve --config daemon-config.yaml --flows-dir ./flows\n  \
    aofctl serve --flows-dir ./flows --agents-dir ./agents --listen 127.0.0.1:9000\n\n\
    The first SIGTERM or SIGINT drains: nothing new is taken in, what runs is finished or \
    handed back within 30 seconds, exit code 0. A second one ends at once; nothing that \
    was accepted is lost either way.")]
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
    /// Which roles to run; the embedded backend runs all of them
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

impl Role {
    const ALL: [Self; 4] = [Self::Gateway, Self::Router, Self::Worker, Self::Approver];
}

/// Runs the node until it is told to stop.
///
/// # Errors
/// When a part cannot start.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    crate::log::start()?;
    check_roles(&args)?;
    let sources = sources(&args);
    let loaded = manifest::load(&sources);
    findings::print(&loaded.findings);
    let Some(snapshot) = loaded.snapshot else {
        anstream::eprintln!("error: the manifests have errors; nothing was started");
        return Ok(ExitCode::from(EXIT_NO));
    };
    let signals = Signals::listen()?;
    // The backend stops last: draining roles still write.
    let backend = Lifecycle::new();
    let node = open(&args, snapshot, &backend)?;
    let started = start(&args, &node, sources).await;
    let code = match started {
        Ok(url) => {
            announce(&url, &node);
            signals.drain(&node.lifecycle).await
        }
        Err(error) => {
            anstream::eprintln!("error: {error:#}");
            // What was started ends before its backend does.
            node.lifecycle.stop();
            let _ = tokio::time::timeout(DRAIN_DEADLINE, node.lifecycle.drained()).await;
            ExitCode::from(EXIT_COULD_NOT)
        }
    };
    drop(node);
    backend.stop();
    let _ = tokio::time::timeout(DRAIN_DEADLINE, backend.drained()).await;
    Ok(code)
}

fn check_roles(args: &Args) -> anyhow::Result<()> {
    let all = args.role.is_empty() || Role::ALL.iter().all(|role| args.role.contains(role));
    anyhow::ensure!(
        all,
        "the embedded backend is one process, so it runs all roles; leave --role out"
    );
    Ok(())
}

fn sources(args: &Args) -> Sources {
    Sources {
        config: args.config.clone(),
        flows_dir: args.flows_dir.clone(),
        agents_dir: args.agents_dir.clone(),
        ..Sources::new(Env::process())
    }
}

fn open(args: &Args, snapshot: Snapshot, backend: &Lifecycle) -> anyhow::Result<Node> {
    let ports = backend::open_embedded(&args.data_dir, Arc::new(SystemClock), backend)
        .with_context(|| format!("cannot open the data directory {}", args.data_dir.display()))?;
    Ok(Node {
        ports,
        config: Config::new(snapshot),
        metrics: Arc::new(Metrics::default()),
        health: Health::default(),
        lifecycle: Lifecycle::new(),
    })
}

/// Starts everything and returns the URL; the gateway comes last, so that what it accepts
/// finds the others at work.
async fn start(args: &Args, node: &Node, sources: Sources) -> anyhow::Result<String> {
    let ports = &node.ports;
    aof_gateway::ensure_admin_key(ports.store.as_ref(), &args.data_dir, ports.clock.as_ref())
        .await?;
    aof_approver::start(node).await?;
    aof_router::start(node).await?;
    aof_worker::start(node, worker_options(args, node)).await?;
    let daemon = node.config.current().daemon.clone();
    let listen = args.listen.clone().unwrap_or_else(|| daemon.listen.clone());
    let running = aof_gateway::start(node, aof_gateway::Options::new(listen)).await?;
    if daemon.watch {
        reload::start(node, sources);
    }
    node.lifecycle.spawn(sample::run(node.clone()));
    Ok(format!("http://{}", running.local_addr))
}

/// Tools must not see what the node lives on: its data, with everybody's messages and the
/// operator's key, and the manifests, which may hold secrets.
fn worker_options(args: &Args, node: &Node) -> aof_worker::Options {
    let mut options = aof_worker::Options::new(args.data_dir.join("runs"));
    if !aof_worker::fence::works() {
        tracing::warn!(
            "this system has no Landlock (Linux 5.13): tools can read what the node can, its \
             data and keys too; list no tool that reads files"
        );
        return options;
    }
    aof_worker::fence::seal();
    let daemon = node.config.current().daemon.clone();
    let named =
        [&args.config, &args.flows_dir, &args.agents_dir, &daemon.flows_dir, &daemon.agents_dir];
    let mut hidden = vec![args.data_dir.clone()];
    hidden.extend(named.into_iter().flatten().cloned());
    // A tool runs elsewhere, where a relative path means something else.
    let hidden = hidden.iter().filter_map(|path| std::path::absolute(path).ok()).collect();
    // Also right when the file was replaced by an upgrade while this node runs.
    options.fence = Some(aof_worker::Fence { launcher: PathBuf::from("/proc/self/exe"), hidden });
    options
}

fn announce(url: &str, node: &Node) {
    let snapshot = node.config.current();
    anstream::println!(
        "ready {url} ({} flows, {} agents, revision {})",
        snapshot.flows.len(),
        snapshot.agents.len(),
        snapshot.revision
    );
}

/// The signals that stop a node.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
        Ok(Self { terminate, interrupt })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Waits for the first signal, then drains until done, the second signal, or the deadline.
    async fn drain(mut self, lifecycle: &Lifecycle) -> ExitCode {
        self.next().await;
        tracing::info!(deadline_s = DRAIN_DEADLINE.as_secs(), "node draining");
        lifecycle.stop();
        tokio::select! {
            () = lifecycle.drained() => {
                tracing::info!("node drained");
                ExitCode::SUCCESS
            }
            () = self.next() => {
                tracing::warn!("second signal: ending at once; what was accepted is kept");
                ExitCode::from(EXIT_COULD_NOT)
            }
            () = tokio::time::sleep(DRAIN_DEADLINE) => {
                tracing::warn!("drain deadline passed; what was accepted is kept");
                ExitCode::from(EXIT_COULD_NOT)
            }
        }
    }
}
