//! One delivery's work: its task, the configuration that it runs under, and how it journals.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aof_shared::config::{Agent, Flow, FlowAgent, Snapshot, ToolConfig};
use aof_shared::event::{Event, EventType};
use aof_shared::ids::{ActionId, EventId, FlowName, Revision, TenantId};
use aof_shared::limit::LimitError;
use aof_shared::message::Task;
use aof_shared::queue::{Delivery, Publication, QueueError, Stored, Unconcluded};
use aof_shared::store::{Record, Recorded, StoreError, Unrecorded};
use aof_shared::trace::{CAUSATION, Opening, SpanKind, TRACEPARENT, TraceContext, causation};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::Worker;
use crate::lease::Lease;
use crate::tool::RunDir;
use crate::tool::mask::Mask;

/// Why work on a delivery stopped without an end. Nothing is lost: it comes again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Interrupted {
    /// The queue does not work; not the task's fault.
    #[error("queue failed")]
    Queue(#[from] QueueError),
    /// The store does not work; not the task's fault.
    #[error("store failed")]
    Store(#[from] StoreError),
    /// The limits do not work; not the task's fault.
    #[error("limits failed")]
    Limits(#[from] LimitError),
    /// Another worker has the run; whatever this one does must leave no trace.
    #[error("another worker took the run over")]
    Superseded,
    /// What is stored about the run cannot be used.
    #[error("a record cannot be written")]
    Record(#[from] serde_json::Error),
}

impl Interrupted {
    /// Not the task's fault: a backend is away or was, which passes.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            Self::Store(error) => !matches!(error, StoreError::Corrupt { .. }),
            Self::Queue(error) => !matches!(error, QueueError::TooLarge { .. }),
            Self::Limits(_) | Self::Superseded => true,
            Self::Record(_) => false,
        }
    }
}

/// How often a batch is offered to a queue that does not take it.
pub(crate) const PUBLISH_ATTEMPTS: u32 = 5;
/// Wait before the second offer; doubles each time.
const PUBLISH_BACKOFF: Duration = Duration::from_millis(50);

/// The configuration of one run.
pub(crate) struct Setup {
    /// The snapshot that it was taken from.
    pub(crate) snapshot: Arc<Snapshot>,
    /// The flow; an empty one stands in on the default route.
    pub(crate) flow: Arc<Flow>,
    /// The agent.
    pub(crate) agent: Arc<Agent>,
    /// What the flow says about the agent.
    pub(crate) flow_agent: Option<FlowAgent>,
    /// Why nothing can run: a short constant, and the text for people.
    pub(crate) problem: Option<(&'static str, String)>,
}

impl Setup {
    /// Names of the tools that the agent may use here.
    pub(crate) fn tools(&self) -> &[String] {
        let of_flow = self.flow_agent.as_ref().and_then(|a| a.tools.as_deref());
        of_flow.unwrap_or(&self.agent.tools)
    }

    /// A tool's settings: the flow's, else the agent's.
    pub(crate) fn tool_config(&self, tool: &str) -> Option<&ToolConfig> {
        let named = |name: &str| {
            let of_flow = self.flow_agent.as_ref().and_then(|a| a.tool_config.get(name));
            of_flow.or_else(|| self.agent.tool_config.get(name))
        };
        // A tool may be typed as a path: `/bin/ls` is `ls`.
        named(tool).or_else(|| named(crate::guard::base_name(tool)))
    }

    /// What a held action is bound to: the flow with its agents.
    pub(crate) fn revision(&self) -> &Revision {
        &self.flow.revision
    }
}

/// Finds flows by tenant and name without a walk over all of them.
#[derive(Default)]
pub(crate) struct Flows(Mutex<Option<Index>>);

struct Index {
    /// Kept, so that no other snapshot can have its address.
    snapshot: Arc<Snapshot>,
    flows: Arc<HashMap<(TenantId, FlowName), Arc<Flow>>>,
    weights: Arc<HashMap<TenantId, u32>>,
}

/// `metadata.labels.weight`: the tenant's share at dispatch; the largest of its flows'.
const WEIGHT_LABEL: &str = "weight";

impl Flows {
    fn with<T>(&self, snapshot: &Arc<Snapshot>, read: impl FnOnce(&Index) -> T) -> T {
        let mut index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = index.as_ref().filter(|i| Arc::ptr_eq(&i.snapshot, snapshot)) {
            return read(index);
        }
        let mut flows = HashMap::with_capacity(snapshot.flows.len());
        let mut weights = HashMap::new();
        for flow in &snapshot.flows {
            flows
                .entry((flow.tenant.clone(), flow.name.clone()))
                .or_insert_with(|| Arc::clone(flow));
            let weight = flow.labels.get(WEIGHT_LABEL).and_then(|w| w.parse::<u32>().ok());
            if let Some(weight) = weight {
                let heaviest = weights.entry(flow.tenant.clone()).or_insert(weight);
                *heaviest = weight.max(*heaviest);
            }
        }
        let fresh = Index {
            snapshot: Arc::clone(snapshot),
            flows: Arc::new(flows),
            weights: Arc::new(weights),
        };
        read(index.insert(fresh))
    }

    /// The weights that flows name; every other tenant weighs 1.
    pub(crate) fn weights(&self, snapshot: &Arc<Snapshot>) -> Arc<HashMap<TenantId, u32>> {
        self.with(snapshot, |index| Arc::clone(&index.weights))
    }

    /// The configuration of `task` in `snapshot`. What is missing stands in empty, with
    /// the problem named.
    pub(crate) fn setup(&self, snapshot: Arc<Snapshot>, age: Age, task: &Task) -> Setup {
        let tenant = &task.message.tenant;
        let mut problem = None;
        let agent = snapshot.agents.get(&task.agent).cloned().unwrap_or_else(|| {
            problem = Some(("no_agent", format!("There is no agent `{}`.", task.agent)));
            Arc::new(Agent::new(task.agent.clone()))
        });
        let key = (tenant.clone(), task.flow.clone());
        let found = match age {
            Age::Current => self.with(&snapshot, |index| index.flows.get(&key).cloned()),
            Age::Earlier => snapshot.flow(tenant, &task.flow).cloned(),
        };
        let flow = found.unwrap_or_else(|| {
            if task.flow != FlowName::default_route() {
                let text = format!("The flow `{}` is no longer configured.", task.flow);
                problem = Some(("no_flow", text));
            }
            let mut flow = Flow::new(tenant.clone(), task.flow.clone());
            flow.revision = agent.revision.clone();
            Arc::new(flow)
        });
        let flow_agent = flow.agents.iter().find(|a| a.name == task.agent).cloned();
        Setup { snapshot, flow, agent, flow_agent, problem }
    }
}

/// Whether a snapshot is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// It is; its flows are indexed.
    Current,
    /// It was, when the task was routed.
    Earlier,
}

/// One delivery's work.
pub(crate) struct Job {
    pub(crate) worker: Arc<Worker>,
    pub(crate) task: Task,
    pub(crate) source: Stored,
    /// Who works on the run as long as no later delivery of it is begun.
    pub(crate) holder: Uuid,
    /// Whether that may have changed without its knowing.
    pub(crate) lease: Lease,
    pub(crate) setup: Setup,
    pub(crate) mask: Mask,
    /// The span of the work on the delivery; the publisher's until that is open.
    pub(crate) trace: TraceContext,
    /// The scratch directory, once a tool needed one.
    pub(crate) dir: tokio::sync::OnceCell<RunDir>,
    /// The action whose command runs now: uncertain if the run is cut off.
    pub(crate) acting: Mutex<Option<ActionId>>,
    /// The newest command, for the log line.
    pub(crate) last_command: Mutex<Option<String>>,
    cause: Option<EventId>,
    began_at_ms: u64,
    begun: AtomicBool,
    journaled: AtomicBool,
}

impl Job {
    pub(crate) fn new(worker: Arc<Worker>, task: Task, source: Stored, setup: Setup) -> Self {
        Self {
            mask: Mask::of(&setup.flow.context),
            trace: TraceContext::of(&source.headers),
            cause: causation(&source.headers),
            lease: Lease::of(worker.options.ack_wait_ms),
            began_at_ms: worker.now_ms(),
            worker,
            task,
            source,
            holder: Uuid::now_v7(),
            setup,
            dir: tokio::sync::OnceCell::new(),
            acting: Mutex::new(None),
            last_command: Mutex::new(None),
            begun: AtomicBool::new(false),
            journaled: AtomicBool::new(false),
        }
    }

    pub(crate) fn tenant(&self) -> &TenantId {
        &self.task.message.tenant
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.worker.now_ms()
    }

    /// The run has begun: from now on publications carry `run.started` before them.
    pub(crate) fn mark_begun(&self) {
        self.begun.store(true, Ordering::Release);
    }

    /// True once the store knows of the run.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// True while `run.started` waits for a publication to go with.
    pub(crate) fn owes_start(&self) -> bool {
        self.begun.load(Ordering::Acquire) && !self.journaled.load(Ordering::Acquire)
    }

    /// An event of this run.
    pub(crate) fn event(&self, id: EventId, kind: EventType, data: Value) -> Event {
        let cause = match kind {
            EventType::RunStarted | EventType::RunDeferred => self.cause,
            _ => Some(EventId::derive(self.task.run.0, "started")),
        };
        let mut event = Event::new(id, self.tenant(), kind, self.now_ms())
            .about(&self.task.message)
            .of_run(self.task.run)
            .under(&self.task.revision)
            .with(data);
        event.causation_id = cause;
        event.trace_id = Some(self.trace.trace_id());
        event
    }

    /// Sets the headers that every hop carries; a span of its own stays.
    pub(crate) fn carry(&self, mut publication: Publication) -> Publication {
        let cause = EventId::derive(self.task.run.0, "started");
        let trace = || self.trace.traceparent();
        publication.headers.entry(TRACEPARENT.to_owned()).or_insert_with(trace);
        publication.with_header(CAUSATION, cause.to_string())
    }

    /// A span of a part of the work.
    pub(crate) fn span(&self, name: &'static str, kind: SpanKind) -> Opening<'_> {
        self.worker.node.tracer.span(name, kind).under(Some(self.trace))
    }

    /// `batch` as it goes out, after `run.started` if that was not journaled yet.
    ///
    /// # Errors
    /// When an event cannot be written.
    pub(crate) fn prepare(
        &self,
        mut batch: Vec<Publication>,
    ) -> Result<Vec<Publication>, serde_json::Error> {
        if self.owes_start() {
            batch.insert(0, self.started_event().publication()?);
        }
        Ok(batch.into_iter().map(|p| self.carry(p)).collect())
    }

    /// Records how the run ended, and in the same commit, where the backend can, publishes
    /// its last batch (see [`Job::prepare`]) and acks its delivery.
    ///
    /// # Errors
    /// What went wrong, with the delivery if it is still held.
    pub(crate) async fn record(
        &self,
        record: &Record,
        batch: Vec<Publication>,
        delivery: Delivery,
    ) -> Result<Recorded, (Interrupted, Option<Delivery>)> {
        let recorded = self.worker.node.ports.record(record, batch, vec![delivery]).await;
        if matches!(recorded, Ok(Recorded::Concluded)) {
            self.journaled.store(true, Ordering::Release);
        }
        recorded.map_err(|Unrecorded { error, deliveries, .. }| {
            (error.into(), deliveries.into_iter().next())
        })
    }

    /// Publishes a run's last batch (see [`Job::prepare`]) and acks its delivery, offering
    /// both again while the queue is away.
    ///
    /// # Errors
    /// What went wrong, with the delivery if it is still held.
    pub(crate) async fn conclude(
        &self,
        batch: Vec<Publication>,
        delivery: Option<Delivery>,
    ) -> Result<(), (Interrupted, Option<Delivery>)> {
        let queue = &self.worker.node.ports.queue;
        let (mut wait, mut held) = (PUBLISH_BACKOFF, Vec::from_iter(delivery));
        for attempt in 1..=PUBLISH_ATTEMPTS {
            let Err(unconcluded) = queue.conclude(batch.clone(), held).await else { break };
            let Unconcluded { error, deliveries } = unconcluded;
            if deliveries.is_empty() || attempt == PUBLISH_ATTEMPTS || !may_pass(&error) {
                return Err((error.into(), deliveries.into_iter().next()));
            }
            held = deliveries;
            tracing::debug!(error = %error, "publish failed, trying again");
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        self.journaled.store(true, Ordering::Release);
        Ok(())
    }

    /// Publishes a batch, offering it again while the queue is away; `run.started` goes
    /// first if it was not journaled yet.
    ///
    /// # Errors
    /// [`Interrupted::Queue`] when the queue stays away.
    pub(crate) async fn publish(&self, batch: Vec<Publication>) -> Result<(), Interrupted> {
        let batch = self.prepare(batch)?;
        if batch.is_empty() {
            return Ok(());
        }
        publish(&self.worker, batch).await?;
        if self.begun.load(Ordering::Acquire) {
            self.journaled.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn started_event(&self) -> Event {
        let data = json!({
            "flow": self.task.flow, "agent": self.task.agent, "task_id": self.task.id,
        });
        let id = EventId::derive(self.task.run.0, "started");
        let mut event = self.event(id, EventType::RunStarted, data);
        event.time = aof_shared::clock::rfc3339(self.began_at_ms);
        event
    }

    /// Remembers what ran last, for the log line.
    pub(crate) fn note_command(&self, command: &str) {
        *self.last_command.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(command.to_owned());
    }
}

/// Whether the same batch may be taken later.
fn may_pass(error: &QueueError) -> bool {
    !matches!(error, QueueError::TooLarge { .. })
}

/// Publishes a batch, offering it again while the queue is away.
///
/// # Errors
/// The last [`QueueError`].
pub(crate) async fn publish(worker: &Worker, batch: Vec<Publication>) -> Result<(), QueueError> {
    let mut wait = PUBLISH_BACKOFF;
    for _ in 1..PUBLISH_ATTEMPTS {
        match worker.node.ports.queue.publish(batch.clone()).await {
            Ok(_) => return Ok(()),
            Err(e) if !may_pass(&e) => return Err(e),
            Err(e) => tracing::debug!(error = %e, "publish failed, trying again"),
        }
        tokio::time::sleep(wait).await;
        wait *= 2;
    }
    worker.node.ports.queue.publish(batch).await.map(|_| ())
}

#[cfg(test)]
pub(crate) mod fixture;
