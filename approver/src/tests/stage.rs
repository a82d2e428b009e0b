//! An embedded backend with an approver on it, and what a test does and sees from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aof_shared::action::{
    ActionMessage, Approval, ApprovalView, Choice, HeldAction, Vote, VoteTarget,
};
use aof_shared::backend::open_embedded;
use aof_shared::clock::{Clock, ManualClock};
use aof_shared::config::{Config, Snapshot};
use aof_shared::event::{Event, EventType};
use aof_shared::ids::{EventId, TenantId};
use aof_shared::lifecycle::Lifecycle;
use aof_shared::message::{Reply, Task};
use aof_shared::node::{Health, Node};
use aof_shared::queue::{Publication, ReadRange, Stored};
use aof_shared::store::Ports;
use aof_shared::subject::{Stream, Subject};
use aof_shared::telemetry::Metrics;
use aof_shared::trace::{TRACEPARENT, TraceContext, Tracer};

use crate::fixtures::{NOW_MS, who};

/// Longest wait for anything.
const DEADLINE: Duration = Duration::from_secs(20);

pub(super) struct Stage {
    dir: tempfile::TempDir,
    clock: ManualClock,
    lifecycle: Lifecycle,
    ports: Option<Ports>,
    metrics: Arc<Metrics>,
    trace: TraceContext,
    votes: AtomicU64,
}

/// Asks again and again until there is something, or panics with what was awaited.
pub(super) async fn until<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

impl Stage {
    pub(super) async fn open() -> Self {
        let mut stage = Self {
            dir: tempfile::tempdir().expect("a directory"),
            clock: ManualClock::at(NOW_MS),
            lifecycle: Lifecycle::new(),
            ports: None,
            metrics: Arc::default(),
            trace: TraceContext::start(),
            votes: AtomicU64::new(0),
        };
        stage.open_ports();
        stage
    }

    fn open_ports(&mut self) {
        let clock = Arc::new(self.clock.clone());
        let ports = open_embedded(self.dir.path(), clock, &self.lifecycle);
        self.ports = Some(ports.expect("the backend opens"));
    }

    /// Closes the database and opens it again, as a new process would.
    pub(super) async fn reopen(&mut self) {
        self.lifecycle.stop();
        self.ports = None;
        self.lifecycle.drained().await;
        self.lifecycle = Lifecycle::new();
        self.open_ports();
    }

    pub(super) fn ports(&self) -> Ports {
        self.ports.clone().expect("the backend is open")
    }

    pub(super) async fn start(&self) -> Lifecycle {
        self.start_on(self.ports()).await
    }

    pub(super) async fn start_on(&self, ports: Ports) -> Lifecycle {
        let lifecycle = self.lifecycle.child();
        let node = Node {
            ports,
            config: Config::new(Snapshot::default()),
            metrics: self.metrics.clone(),
            tracer: Tracer::default(),
            health: Health::default(),
            members: Default::default(),
            lifecycle: lifecycle.clone(),
        };
        crate::start(&node).await.expect("the approver starts");
        assert!(node.health.ready());
        lifecycle
    }

    pub(super) async fn stop(&self, approver: Lifecycle) {
        approver.stop();
        let drained = tokio::time::timeout(DEADLINE, approver.drained()).await;
        drained.expect("the approver drains");
    }

    pub(super) fn advance_ms(&self, ms: u64) {
        self.clock.advance_ms(ms);
    }

    pub(super) fn metrics(&self) -> String {
        self.metrics.encode()
    }

    pub(super) fn trace_id(&self) -> String {
        self.trace.trace_id()
    }

    pub(super) async fn hold(&self, action: &HeldAction) {
        self.hold_as(&action.tenant, action).await;
    }

    pub(super) async fn hold_as(&self, tenant: &TenantId, action: &HeldAction) {
        let id = EventId::derive(action.id.0, "holding").0;
        self.publish(tenant, id, &ActionMessage::Held(Box::new(self.traced(action)))).await;
    }

    /// As after a lost ack that outlived the dedupe window.
    pub(super) async fn hold_again(&self, action: &HeldAction) {
        let id = uuid::Uuid::now_v7();
        self.publish(&action.tenant, id, &ActionMessage::Held(Box::new(self.traced(action)))).await;
    }

    /// As the worker holds it, in the stage's trace.
    fn traced(&self, action: &HeldAction) -> HeldAction {
        HeldAction { traceparent: Some(self.trace.traceparent()), ..action.clone() }
    }

    /// A vote that names the action; a millisecond passes first, as between people.
    pub(super) async fn vote(&self, action: &HeldAction, voter: &str, choice: Choice) {
        self.vote_on(&action.tenant, VoteTarget::Action { id: action.id }, voter, choice).await;
    }

    pub(super) async fn vote_on(
        &self,
        tenant: &TenantId,
        target: VoteTarget,
        voter: &str,
        choice: Choice,
    ) {
        self.advance_ms(1);
        let cast_at_ms = self.clock.now_ms();
        let vote = Vote { target, voter: who(voter), choice, reason: None, cast_at_ms };
        let n = self.votes.fetch_add(1, Ordering::SeqCst);
        let id = EventId::derive(uuid::Uuid::nil(), &format!("vote {n}")).0;
        self.publish(tenant, id, &ActionMessage::Vote(Box::new(vote))).await;
    }

    async fn publish(&self, tenant: &TenantId, id: uuid::Uuid, message: &ActionMessage) {
        let subject = Subject::action(tenant);
        let publication = Publication::json(subject, id, message).expect("JSON");
        let trace = match message {
            ActionMessage::Held(_) => self.trace,
            ActionMessage::Vote(_) => TraceContext::start(), // a request of its own
        };
        let publication = publication.with_header(TRACEPARENT, trace.traceparent());
        self.ports().queue.publish(vec![publication]).await.expect("published");
    }

    pub(super) async fn publish_raw(&self, payload: &'static [u8]) {
        let subject = Subject::action(&TenantId::default_tenant());
        let publication = Publication::new(subject, uuid::Uuid::now_v7(), payload);
        self.ports().queue.publish(vec![publication]).await.expect("published");
    }

    async fn read(&self, stream: Stream) -> Vec<Stored> {
        let range = ReadRange::default();
        self.ports().queue.read(stream, range, 1_000, 0).await.expect("readable")
    }

    pub(super) async fn tasks(&self) -> Vec<(Stored, Task)> {
        let stored = self.read(Stream::Tasks).await;
        stored
            .into_iter()
            .map(|s| {
                let task = serde_json::from_slice(&s.payload).expect("a task");
                (s, task)
            })
            .collect()
    }

    pub(super) async fn events(&self, kind: EventType) -> Vec<Event> {
        let stored = self.read(Stream::Events).await;
        let events = stored.iter().map(|s| Event::from_stored(s).expect("an event"));
        events.filter(|event| event.kind == kind).collect()
    }

    pub(super) async fn cards(&self, action: &HeldAction) -> Vec<ApprovalView> {
        let replies = self.read(Stream::Replies).await;
        let replies = replies
            .iter()
            .map(|s| serde_json::from_slice::<Reply>(&s.payload).expect("a reply"))
            .inspect(|reply| assert_eq!(reply.to.thread.as_deref(), Some("1.1")));
        replies.filter_map(|r| super::view(r.content)).filter(|v| v.id == action.id).collect()
    }

    pub(super) async fn approval(&self, action: &HeldAction) -> Option<Approval> {
        let store = self.ports().store;
        store.approval(&action.tenant, action.id).await.expect("readable")
    }

    pub(super) async fn until_cards(&self, action: &HeldAction, count: usize) {
        let enough = async || (self.cards(action).await.len() >= count).then_some(());
        until(&format!("{count} cards"), enough).await;
    }

    pub(super) async fn until_events(&self, kind: EventType, count: usize) -> Vec<Event> {
        let enough = async || Some(self.events(kind).await).filter(|found| found.len() >= count);
        let found = until(&format!("{count} {}", kind.name()), enough).await;
        assert_eq!(found.len(), count, "{found:?}");
        found
    }

    /// The one decision task of `action`.
    pub(super) async fn until_decided(&self, action: &HeldAction) -> (Stored, Task) {
        let of_action = async || {
            let tasks = self.tasks().await.into_iter();
            let mut found: Vec<_> = tasks.filter(|(_, task)| task.run == action.run).collect();
            assert!(found.len() <= 1, "decided more than once");
            found.pop()
        };
        until("a decision", of_action).await
    }

    /// As [`Stage::settled`], while time goes by: what was put off comes back.
    pub(super) async fn settled_in_time(&self) {
        let idle = async || {
            self.advance_ms(100);
            let waiting = self.ports().queue.backlog(Stream::Actions).await.expect("readable");
            waiting.is_empty().then_some(())
        };
        until("idleness in time", idle).await;
        self.settled().await;
    }

    /// Waits until nothing is left to do.
    pub(super) async fn settled(&self) {
        let idle = async || {
            let waiting = self.ports().queue.backlog(Stream::Actions).await.expect("readable");
            let outbox = self.ports().store.outbox(1).await.expect("readable");
            (waiting.is_empty() && outbox.is_empty()).then_some(())
        };
        until("idleness", idle).await;
    }
}
