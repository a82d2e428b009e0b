//! `aofctl serve`: the roles of a node, from start to drain.

mod plan;
mod signals;
mod start;

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use aof_shared::manifest::{Env, Loader, Sources};

use self::plan::Plan;
use self::signals::{DRAIN_DEADLINE, Signals};
use self::start::{Base, Started};
use crate::{EXIT_COULD_NOT, EXIT_NO, findings};

/// Arguments of `aofctl serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    aofctl serve --config examples/quickstart/daemon-config.yaml\n  \
    aofctl serve --config daemon-config.yaml --flows-dir ./flows\n  \
    aofctl serve --flows-dir ./flows --agents-dir ./agents --listen 127.0.0.1:9000\n  \
    NATS_URL=nats://nats:4222 REDIS_URL=redis://redis DATABASE_URL=postgres://aof@db/aof \\\n    \
    aofctl serve --config daemon-config.yaml --role router,worker --listen 0.0.0.0:8080\n\n\
    With NATS_URL, REDIS_URL and DATABASE_URL (or the config's `spec.cluster`) the node is one \
    of a cluster: any roles on any node, started in any order, servers up or not; /readyz says \
    what it waits for. Without them it keeps everything in the data directory and runs all \
    roles. The first gateway of a cluster writes the operator's key to its data directory; \
    AOF_ADMIN_KEY gives one instead.\n\n\
    The first SIGTERM or SIGINT drains: nothing new is taken in, what runs is finished or \
    handed back within 30 seconds, exit code 0. A second one ends at once; nothing that \
    was accepted is lost either way.\n\n\
    Traces go over OTLP to OTEL_EXPORTER_OTLP_ENDPOINT where it is set; the other standard \
    OTEL variables hold too (protocol, headers, sampler, service name).")]
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
    /// Which roles to run, with commas between [default: all]; a part of them needs a cluster
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    role: Vec<Role>,
    /// Runs that this node's worker works on at once [default: the config's
    /// `max_concurrent_tasks`, which holds for all workers together]
    #[arg(long, value_name = "N")]
    concurrency: Option<NonZeroU16>,
    /// Where data is kept; on a cluster only the operator's key and tools' scratch directories
    #[arg(long, value_name = "DIR", env = "AOF_DATA_DIR", default_value = ".aof")]
    data_dir: PathBuf,
    /// Where to listen, instead of the config's `server.host` and `server.port`; without the
    /// gateway's role for /livez, /readyz and /metrics only
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

    fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Router => "router",
            Self::Worker => "worker",
            Self::Approver => "approver",
        }
    }
}

/// Runs the node until it is told to stop.
///
/// # Errors
/// When it cannot be told which node is meant.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    crate::log::start()?;
    let sources = sources(&args);
    let env = sources.env.clone();
    let mut loader = Loader::new(sources);
    let loaded = loader.load();
    findings::print(&loaded.findings);
    let Some(snapshot) = loaded.snapshot else {
        anstream::eprintln!("error: the manifests have errors; nothing was started");
        return Ok(ExitCode::from(EXIT_NO));
    };
    let plan = Plan::of(&args.role, &snapshot.daemon, &env, &plan::host());
    let plan = plan.with_context(|| match &args.config {
        Some(config) => format!("with {} and this environment", config.display()),
        None => "with this command line and environment".to_owned(),
    })?;
    let mut signals = Signals::listen()?;
    let base = Base::new();
    let started = tokio::select! {
        biased;
        started = start::start(&args, &plan, (snapshot, loader), &base) => Some(started),
        () = signals.next() => None,
    };
    let code = match started {
        Some(Ok(started)) => {
            announce(&started, &plan);
            signals.next().await;
            drop(started);
            signals.drain(&base.lifecycle).await
        }
        None => {
            tracing::info!("told to stop before it was ready");
            signals.drain(&base.lifecycle).await
        }
        Some(Err(error)) => {
            anstream::eprintln!("error: {error:#}");
            // What was started ends before its backend does.
            base.lifecycle.stop();
            let _ = tokio::time::timeout(DRAIN_DEADLINE, base.lifecycle.drained()).await;
            ExitCode::from(EXIT_COULD_NOT)
        }
    };
    base.backend.stop();
    let _ = tokio::time::timeout(DRAIN_DEADLINE, base.backend.drained()).await;
    Ok(code)
}

fn sources(args: &Args) -> Sources {
    Sources {
        config: args.config.clone(),
        flows_dir: args.flows_dir.clone(),
        agents_dir: args.agents_dir.clone(),
        ..Sources::new(Env::process())
    }
}

fn announce(started: &Started, plan: &Plan) {
    let snapshot = started.node.config.current();
    let what = if plan.cluster.is_some() {
        format!("node {}, {}; ", plan.node_id, plan.role_names().join(", "))
    } else {
        String::new()
    };
    anstream::println!(
        "ready http://{} ({what}{} flows, {} agents, revision {})",
        started.front.local_addr,
        snapshot.flows.len(),
        snapshot.agents.len(),
        snapshot.revision
    );
}
