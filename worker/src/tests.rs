//! The worker on the embedded backend: a node of its own in a directory of its own.

mod actions;
mod limits;
mod models;
mod outages;
mod runs;
mod takeover;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aof_shared::backend::open_embedded;
use aof_shared::clock::SystemClock;
use aof_shared::config::{Agent, Config, Daemon, Flow, FlowAgent, Runtime, Snapshot};
use aof_shared::event::{Event, EventType};
use aof_shared::ids::{AgentName, MessageId, Revision, TenantId};
use aof_shared::lifecycle::Lifecycle;
use aof_shared::message::{Message, Priority, Task};
use aof_shared::node::{Health, Node};
use aof_shared::queue::{Publication, ReadRange, Stored};
use aof_shared::secret::Secret;
use aof_shared::subject::{Stream, Subject};
use aof_shared::telemetry::Metrics;
use tempfile::TempDir;

use crate::job::fixture;
use crate::{Options, start};

/// Longest wait for a state, on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(30);
/// Wait between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// Looks in a row that must see nothing left.
const EMPTY_LOOKS: usize = 5;
/// More events than any test makes.
const ALL: usize = 100_000;

/// A node with a worker, on its own disk.
pub(super) struct Rig {
    pub(super) dir: TempDir,
    pub(super) node: Node,
}

impl Rig {
    pub(super) fn new(snapshot: Snapshot) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let node = node(&dir, snapshot);
        Self { dir, node }
    }

    pub(super) fn options(&self) -> Options {
        Options::new(self.dir.path().join("runs"))
    }

    pub(super) async fn start(&self) {
        start(&self.node, self.options()).await.expect("the worker starts");
    }

    /// Ends this process's part and starts again on the same disk.
    pub(super) async fn restart(self, snapshot: Snapshot) -> Self {
        self.stop().await;
        let Self { dir, node: old } = self;
        drop(old);
        let node = node(&dir, snapshot);
        Self { dir, node }
    }

    pub(super) async fn stop(&self) {
        self.node.lifecycle.stop();
        tokio::time::timeout(DEADLINE, self.node.lifecycle.drained()).await.expect("it drains");
    }

    pub(super) async fn send(&self, task: &Task) {
        self.send_as(task, task.id.0).await;
    }

    pub(super) async fn send_as(&self, task: &Task, id: uuid::Uuid) {
        let subject = Subject::task(&task.message.tenant, &task.flow);
        let publication = Publication::json(subject, id, task).expect("plain JSON");
        let publication = publication.ordered_by(task.message.ordering_key());
        self.node.ports.queue.publish(vec![publication]).await.expect("it is stored");
    }

    pub(super) async fn stored(&self, stream: Stream, tenant: &TenantId) -> Vec<Stored> {
        let range = ReadRange { tenant: Some(tenant.clone()), ..ReadRange::default() };
        self.node.ports.queue.read(stream, range, ALL, 0).await.expect("it reads")
    }

    pub(super) async fn events(&self, tenant: &TenantId) -> Vec<Event> {
        let stored = self.stored(Stream::Events, tenant).await;
        stored.iter().map(|s| Event::from_stored(s).expect("an event")).collect()
    }

    /// Waits for an event of `kind` about `message`.
    pub(super) async fn event(&self, message: &Message, kind: EventType) -> Event {
        let what = format!("{} of {}", kind.name(), message.text);
        until(&what, async || {
            let events = self.events(&message.tenant).await;
            events.into_iter().find(|e| e.kind == kind && e.message_id == Some(message.id))
        })
        .await
    }

    /// Waits for the end of the run of `task`: status and answer.
    pub(super) async fn end(&self, task: &Task) -> (String, String) {
        let event = until(&format!("the end of {}", task.message.text), async || {
            let events = self.events(&task.message.tenant).await;
            events.into_iter().find(|e| terminal(e) && e.message_id == Some(task.message.id))
        })
        .await;
        let text = |key: &str| event.data[key].as_str().unwrap_or_default().to_owned();
        (text("status"), text("answer"))
    }

    pub(super) async fn count(
        &self,
        message: MessageId,
        tenant: &TenantId,
        kind: EventType,
    ) -> usize {
        let events = self.events(tenant).await;
        events.iter().filter(|e| e.kind == kind && e.message_id == Some(message)).count()
    }

    /// Waits until no task is left: seen more than once, since a look may fall between an
    /// ack and the next delivery.
    pub(super) async fn settled(&self) {
        let empty = std::sync::atomic::AtomicUsize::new(0);
        until("an empty TASKS", async || {
            let backlog = self.node.ports.queue.backlog(Stream::Tasks).await.expect("it reads");
            let seen = if backlog.is_empty() { empty.load(Ordering::Relaxed) + 1 } else { 0 };
            empty.store(seen, Ordering::Relaxed);
            (seen == EMPTY_LOOKS).then_some(())
        })
        .await;
    }
}

fn node(dir: &TempDir, snapshot: Snapshot) -> Node {
    let lifecycle = Lifecycle::new();
    let ports = open_embedded(dir.path(), Arc::new(SystemClock), &lifecycle).expect("it opens");
    Node {
        ports,
        config: Config::new(snapshot),
        metrics: Arc::new(Metrics::default()),
        tracer: aof_shared::trace::Tracer::default(),
        health: Health::default(),
        members: Default::default(),
        lifecycle,
    }
}

pub(super) fn terminal(event: &Event) -> bool {
    matches!(
        event.kind,
        EventType::RunCompleted | EventType::RunFailed | EventType::DeadLetterAdded
    )
}

/// Looks until there is something, or fails.
pub(super) async fn until<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let began = tokio::time::Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(began.elapsed() < DEADLINE, "no {what} within {DEADLINE:?}");
        tokio::time::sleep(LOOK).await;
    }
}

/// The agent `helper`, which runs the message itself.
pub(super) fn commander(tools: &[&str]) -> Agent {
    let mut agent = Agent::new(AgentName::new("helper").expect("a valid name"));
    agent.runtime = Runtime::Command;
    agent.tools = tools.iter().map(ToString::to_string).collect();
    agent
}

/// The agent `helper` on a model.
pub(super) fn modeller(provider: &str, tools: &[&str]) -> Agent {
    let mut agent = commander(tools);
    agent.runtime = Runtime::Model;
    agent.model.provider = provider.to_owned();
    agent.model.name = "m".to_owned();
    agent
}

/// A flow with `helper`, and with `env`.
pub(super) fn flow(tenant: &str, name: &str, env: &[(&str, &str)]) -> Flow {
    let mut flow = fixture::flow(tenant, name);
    flow.agents.push(FlowAgent {
        name: AgentName::new("helper").expect("a valid name"),
        patterns: Vec::new(),
        priority: Priority::Normal,
        tools: None,
        tool_config: Default::default(),
    });
    for (name, value) in env {
        flow.context.env.insert((*name).to_owned(), Secret::new(value));
    }
    flow
}

pub(super) fn snapshot(agent: Agent, flows: Vec<Flow>, daemon: Daemon) -> Snapshot {
    Snapshot {
        revision: Revision::default(),
        flows: flows.into_iter().map(Arc::new).collect(),
        agents: HashMap::from([(agent.name.clone(), Arc::new(agent))]),
        daemon: Arc::new(daemon),
        ..Snapshot::default()
    }
}

/// One flow `ops` of `acme` with `agent`.
pub(super) fn simple(agent: Agent) -> Snapshot {
    snapshot(agent, vec![flow("acme", "ops", &[])], Daemon::default())
}
