//! The worker: consumes TASKS; emits REPLIES, ACTIONS and EVENTS. Never runs a held
//! action without its decision, and never anything through a shell.

mod action;
mod admit;
mod agent;
mod checkpoint;
mod consume;
mod finish;
pub mod guard;
mod job;
mod lease;
mod model;
mod recording;
mod schedule;
mod tool;

use std::path::PathBuf;
use std::sync::Arc;

use aof_shared::node::{Node, StartError};
use aof_shared::queue::ConsumerSpec;
use aof_shared::subject::Stream;
use aof_shared::throttle::Throttle;
use tokio_util::sync::CancellationToken;

use crate::consume::{Dispatcher, Told};
use crate::job::Flows;
use crate::model::Models;
use crate::tool::Tools;
use crate::tool::fence::Kubeconfigs;

pub use crate::recording::Recording;
pub use crate::tool::fence::{self, Bounds, Fence};
#[cfg(target_os = "linux")]
pub use crate::tool::supervise::run_tool;

/// The role, as errors, health and dead letters name it.
const ROLE: &str = "worker";

/// Longest silence of a worker before its task is offered to another. Beats come three
/// times as often, so that one lost beat does no harm. Source: field.md, *Targets*,
/// "worker dies → its task runs elsewhere: 5 s".
const ACK_WAIT_MS: u64 = 5_000;

/// Deliveries out at once, all workers together; far above any sum of their places.
const MAX_ACK_PENDING: usize = 20_000;

/// One log line in this time about each backend that is away.
const SAY_AWAY_EVERY_MS: u64 = 30_000;

/// How long runs may go on after the node was told to stop.
const DEFAULT_DRAIN_MS: u64 = 20_000;

/// How a worker is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Runs at once on this node; `None`: the daemon's `max_concurrent_tasks`.
    pub concurrency: Option<usize>,
    /// Where runs have their scratch directories: `<data>/runs`.
    pub runs_dir: PathBuf,
    /// How long runs may go on after a stop, in milliseconds; then they are handed back.
    pub drain_ms: u64,
    /// Longest silence before a task is offered to another worker, in milliseconds.
    pub ack_wait_ms: u64,
    /// What keeps tools away from the node's own files; `None` runs them unfenced.
    pub fence: Option<Fence>,
    /// Answers instead of tools and models: nothing is started and nobody is asked.
    pub recording: Option<Arc<Recording>>,
}

impl Options {
    /// The defaults, with scratch directories below `runs_dir`.
    #[must_use]
    pub fn new(runs_dir: impl Into<PathBuf>) -> Self {
        Self {
            concurrency: None,
            runs_dir: runs_dir.into(),
            drain_ms: DEFAULT_DRAIN_MS,
            ack_wait_ms: ACK_WAIT_MS,
            fence: None,
            recording: None,
        }
    }
}

/// What all runs of a node share.
struct Worker {
    node: Node,
    options: Options,
    models: Models,
    tools: Tools,
    flows: Flows,
    kubeconfigs: Kubeconfigs,
    told: Told,
    /// Tasks that a limit admitted and a backend then stopped: they pay no second time.
    paid: Told,
    /// What was logged of backends that are away.
    said: Throttle,
    /// Cancelled when the drain deadline is over: runs hand their deliveries back.
    abort: CancellationToken,
}

impl Worker {
    fn now_ms(&self) -> u64 {
        self.node.ports.clock.now_ms()
    }

    /// True when it is time to log again that `what` is away.
    fn may_say(&self, what: &str) -> bool {
        self.said.allows(what, self.now_ms())
    }
}

/// Starts the worker on `node`. Returns once it consumes; it ends with the lifecycle.
///
/// # Errors
/// [`StartError`] when the scratch directory cannot be made or the queue is away.
pub async fn start(node: &Node, options: Options) -> Result<(), StartError> {
    start_worker(node, options, Models::new()).await
}

async fn start_worker(node: &Node, options: Options, models: Models) -> Result<(), StartError> {
    let tools = Tools::open(&options.runs_dir).map_err(|e| StartError {
        role: ROLE,
        reason: format!(
            "cannot make `{}`; name a data directory it may write to",
            options.runs_dir.display()
        ),
        source: Some(e.into()),
    })?;
    let spec = ConsumerSpec {
        stream: Stream::Tasks,
        name: ROLE.to_owned(),
        rest: None,
        ack_wait_ms: options.ack_wait_ms,
        max_ack_pending: MAX_ACK_PENDING,
    };
    let consumer = node.consumer(ROLE, spec).await?;
    let worker = Arc::new(Worker {
        node: node.clone(),
        options,
        models,
        tools,
        flows: Flows::default(),
        kubeconfigs: Kubeconfigs::default(),
        told: Told::default(),
        paid: Told::default(),
        said: Throttle::new(SAY_AWAY_EVERY_MS),
        abort: CancellationToken::new(),
    });
    consume::start(Dispatcher::new(worker, consumer));
    node.health.up(ROLE);
    Ok(())
}

#[cfg(test)]
mod tests;
