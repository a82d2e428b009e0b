//! Starts a node: the listener first, then the backend, then the roles, the gateway last.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use aof_gateway::{BootstrapError, Front, OperatorKey};
use aof_shared::backend::{self, ClusterOptions, watch};
use aof_shared::clock::{Clock, SystemClock};
use aof_shared::config::{Config, Snapshot};
use aof_shared::lifecycle::Lifecycle;
use aof_shared::manifest::{Env, Loader};
use aof_shared::node::members::{self, Member};
use aof_shared::node::{Health, Node};
use aof_shared::secret::Secret;
use aof_shared::store::{Ports, StoreError};
use aof_shared::telemetry::Metrics;
use aof_shared::trace::{Tracer, export, settings::Settings};
use uuid::Uuid;

use super::plan::Plan;
use super::{Args, Role};
use crate::room::{self, Probe};
use crate::{lost, reload};

/// Holds the operator's key of a cluster; better than a file where nodes come and go.
const ADMIN_KEY: &str = "AOF_ADMIN_KEY";
/// Pause before a store that is away is asked for the operator's key again.
const KEY_PAUSE: Duration = Duration::from_secs(1);

/// What there is before there is a backend.
pub(super) struct Base {
    pub(super) health: Health,
    pub(super) metrics: Arc<Metrics>,
    pub(super) lifecycle: Lifecycle,
    /// Stops last: draining roles still write.
    pub(super) backend: Lifecycle,
}

impl Base {
    pub(super) fn new() -> Self {
        Self {
            health: Health::default(),
            metrics: Arc::default(),
            lifecycle: Lifecycle::new(),
            backend: Lifecycle::new(),
        }
    }
}

/// A node whose roles work.
pub(super) struct Started {
    pub(super) node: Node,
    pub(super) front: Front,
}

/// Starts everything; the gateway comes last, so that what it accepts finds the others at
/// work. Waits for servers that are down.
///
/// # Errors
/// When something cannot be used that waiting does not mend.
pub(super) async fn start(
    args: &Args,
    plan: &Plan,
    (snapshot, loader): (Snapshot, Loader),
    base: &Base,
) -> anyhow::Result<Started> {
    let daemon = Arc::clone(&snapshot.daemon);
    // What the environment gets wrong is said before anything is waited for.
    let tracer = tracer(base)?;
    let listen = args.listen.clone().unwrap_or_else(|| daemon.listen.clone());
    let options = aof_gateway::Options::new(listen);
    let front = aof_gateway::listen(&options, &base.health, &base.metrics, &base.lifecycle).await?;
    let mut node = Node {
        ports: open(args, plan, base).await?,
        config: Config::new(snapshot),
        tracer,
        metrics: Arc::clone(&base.metrics),
        health: base.health.clone(),
        members: members::Members::default(),
        lifecycle: base.lifecycle.clone(),
    };
    if plan.cluster.is_some() {
        room::watch(&mut node, Probe::Journal { node: plan.node_id.clone() });
        join(&node, plan, &front);
    } else {
        room::watch(&mut node, Probe::disk(&args.data_dir));
    }
    if plan.has(Role::Gateway) {
        operator_key(args, plan, &node).await?;
    }
    if plan.has(Role::Approver) {
        aof_approver::start(&node).await?;
    }
    if plan.has(Role::Router) {
        aof_router::start(&node).await?;
    }
    if plan.has(Role::Worker) {
        aof_worker::start(&node, worker_options(args, &node)).await?;
    }
    if plan.has(Role::Gateway) {
        aof_gateway::start_behind(&front, &node, &options).await?;
    } else {
        front.without_gateway(&node);
    }
    if daemon.watch {
        reload::start(&node, loader);
    }
    Ok(Started { node, front })
}

/// Traces as the OTEL variables say; without an endpoint nothing is made or sent. What is
/// left of them is sent when the backend stops, after every role.
fn tracer(base: &Base) -> anyhow::Result<Tracer> {
    match Settings::read(&Env::process())? {
        Some(settings) => Ok(export::start(settings, &base.metrics, &base.backend)?),
        None => Ok(Tracer::default()),
    }
}

async fn open(args: &Args, plan: &Plan, base: &Base) -> anyhow::Result<Ports> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let Some(servers) = plan.cluster.clone() else {
        if plan.alone_unasked {
            let alone = "the manifests say `cluster_mode` or `distributed`, but name no servers: \
                         this node works alone, in its data directory";
            tracing::warn!("{alone}; set `spec.cluster`");
            base.health.warn("cluster", Some(alone.to_owned()));
        }
        lost::check(&args.data_dir)?;
        return backend::open_embedded(&args.data_dir, clock, &base.backend).with_context(|| {
            format!("cannot open the data directory {}", args.data_dir.display())
        });
    };
    let options = ClusterOptions { servers, node: plan.node_id.clone() };
    let waiting = backend::Waiting { health: &base.health, lifecycle: &base.lifecycle };
    Ok(backend::open_cluster(options, clock, &base.backend, waiting).await?)
}

/// Makes the node one of the cluster: it says that it is there, and watches the servers.
fn join(node: &Node, plan: &Plan, front: &Front) {
    let gateway = plan.has(Role::Gateway);
    // Whoever takes requests is ready as long as it can take them.
    let needs = watch::Needs {
        redis: !gateway && plan.has(Role::Worker),
        postgres: !gateway && (plan.has(Role::Worker) || plan.has(Role::Approver)),
    };
    node.lifecycle.spawn(watch::run(node.clone(), needs));
    let now_ms = node.ports.clock.now_ms();
    let own = Member {
        id: plan.node_id.clone(),
        boot: Uuid::now_v7(),
        roles: plan.role_names(),
        revision: node.config.current().revision.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        address: front.local_addr.to_string(),
        started_at_ms: now_ms,
        now_ms,
        leaving: false,
    };
    node.lifecycle.spawn(members::run(node.clone(), own));
}

/// Sees to it that an operator can get in.
async fn operator_key(args: &Args, plan: &Plan, node: &Node) -> anyhow::Result<()> {
    const PART: &str = "operator key";
    let (store, clock) = (node.ports.store.as_ref(), node.ports.clock.as_ref());
    if plan.cluster.is_none() {
        aof_gateway::ensure_admin_key(store, &args.data_dir, clock).await?;
        return Ok(());
    }
    let given = std::env::var(ADMIN_KEY).ok().filter(|key| !key.trim().is_empty());
    let given = given.map(Secret::new);
    loop {
        let made =
            aof_gateway::ensure_cluster_key(store, &args.data_dir, given.as_ref(), clock).await;
        match made {
            Ok(OperatorKey::File(path)) => {
                tracing::info!(path = %path.display(), "the operator's key is here");
            }
            Ok(OperatorKey::Given | OperatorKey::Elsewhere) => {}
            Err(BootstrapError::Store(error)) if !matches!(error, StoreError::Corrupt { .. }) => {
                node.health.down(PART, format!("waits for the store: {error}"));
                tokio::time::sleep(KEY_PAUSE).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        }
        node.health.up(PART);
        return Ok(());
    }
}

/// Tools must not see what the node lives on: its data, with everybody's messages and the
/// operator's key, and the manifests, which may hold secrets.
fn worker_options(args: &Args, node: &Node) -> aof_worker::Options {
    let mut options = aof_worker::Options::new(args.data_dir.join("runs"));
    options.concurrency = args.concurrency.map(|runs| usize::from(runs.get()));
    if !aof_worker::fence::works() {
        tracing::warn!(
            "this system has no Landlock (Linux 5.13): tools can read what the node can, its \
             data and keys too; list no tool that reads files"
        );
    }
    if !cfg!(target_os = "linux") {
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
