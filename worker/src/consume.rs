//! The loop: consumes TASKS tenant by tenant in fair turn, as far as places allow, and
//! starts one run a delivery. Emits nothing itself. Never waits for a run.
//!
//! A turn: the schedule names a tenant and how many runs it may start; as many places of
//! the cluster are taken; one pull; what was not delivered gives its place back. What a
//! limit says no to waits alone: everybody for a global limit, the tenant for its own,
//! the delivery for its user's or flow's.

mod defer;
mod delivery;
mod settle;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aof_shared::ids::{TaskId, TenantId};
use aof_shared::limit::{Admission, Demand};
use aof_shared::queue::Consumer;
use aof_shared::telemetry::{ScopeLabels, TenantLabels};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use uuid::Uuid;

use crate::admit::{self, Scope};
use crate::schedule::{Schedule, Turn};
use crate::{ROLE, Worker};

/// Deliveries that may be in hand for each run at work: those beyond are being published
/// and acked.
const TAIL: usize = 4;
/// Most deliveries of one pull.
const MAX_PULL: usize = 16;
/// Wait before the backend is asked again after it failed.
const BACKEND_RETRY: Duration = Duration::from_millis(500);
/// How often the lag behind the fair share is exported.
const EXPORT_EVERY: Duration = Duration::from_secs(1);
/// Lists of active tenants waiting to be read.
const NAMED_QUEUE: usize = 4;

/// Places in hand for one delivery.
pub(crate) struct Slot {
    /// Bounds what is in hand on this node.
    pub(crate) permit: OwnedSemaphorePermit,
    /// A place of the cluster.
    pub(crate) place: Demand,
}

/// What a delivery's task says to the loop.
pub(crate) enum Report {
    /// Its places are free again.
    Freed,
    /// It is settled and cost so much.
    Ended { tenant: TenantId, cost: i64 },
    /// A backend is away: what starts now would come back.
    Away,
    /// A limit sent it back.
    Deferred { tenant: TenantId, scope: Scope, until: Instant },
}

/// Tasks that something was done for once. Forgets when it grows too large: then it may be
/// done once more, which derived ids keep out of the journal.
#[derive(Default)]
pub(crate) struct Told(Mutex<std::collections::HashSet<TaskId>>);

/// Tasks that [`Told`] remembers.
const MAX_TOLD: usize = 10_000;

impl Told {
    /// True the first time.
    pub(crate) fn first(&self, task: TaskId) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= MAX_TOLD {
            told.clear();
        }
        told.insert(task)
    }

    /// True after [`Told::first`].
    pub(crate) fn has(&self, task: TaskId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&task)
    }

    /// It ran: nothing more to remember.
    pub(crate) fn forget(&self, task: TaskId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&task);
    }
}

/// Tenants that wait for a limit of their own.
#[derive(Default)]
struct Aside {
    until: HashMap<TenantId, Instant>,
    order: BTreeSet<(Instant, TenantId)>,
}

impl Aside {
    fn put(&mut self, tenant: TenantId, until: Instant) {
        let later = self.until.get(&tenant).map_or(until, |before| until.max(*before));
        if let Some(before) = self.until.insert(tenant.clone(), later) {
            self.order.remove(&(before, tenant.clone()));
        }
        self.order.insert((later, tenant));
    }

    fn holds(&self, tenant: &TenantId) -> bool {
        self.until.contains_key(tenant)
    }

    fn next(&self) -> Option<Instant> {
        self.order.first().map(|(until, _)| *until)
    }

    fn due(&mut self, now: Instant) -> Option<TenantId> {
        if self.next()? > now {
            return None;
        }
        let (_, tenant) = self.order.pop_first()?;
        self.until.remove(&tenant);
        Some(tenant)
    }
}

/// Why nothing may start, and until when.
#[derive(Clone, Copy)]
struct Block {
    until: Instant,
    why: Why,
}

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// A place: one of this node's own may be free earlier.
    Places,
    /// A rate window, or a backend.
    Time,
}

/// The loop's state.
pub(crate) struct Dispatcher {
    worker: Arc<Worker>,
    consumer: Arc<dyn Consumer>,
    schedule: Schedule,
    aside: Aside,
    /// Nothing starts until then.
    blocked: Option<Block>,
    permits: Arc<Semaphore>,
    capacity: usize,
    exported: Vec<TenantId>,
    reports: mpsc::Receiver<Report>,
    report: mpsc::Sender<Report>,
}

/// Starts the loop on the node, which it must not end before.
pub(crate) fn start(dispatcher: Dispatcher) {
    let node = dispatcher.worker.node.clone();
    let (name, named) = mpsc::channel(NAMED_QUEUE);
    let feeder = feed(dispatcher.worker.clone(), dispatcher.consumer.clone(), name);
    node.keep(ROLE, feeder);
    node.keep(ROLE, dispatcher.run(named));
}

/// Passes on which tenants have work; the only caller of `active_tenants`.
async fn feed(worker: Arc<Worker>, consumer: Arc<dyn Consumer>, name: mpsc::Sender<Vec<TenantId>>) {
    let lifecycle = &worker.node.lifecycle;
    loop {
        let active = tokio::select! {
            active = consumer.active_tenants() => active,
            () = lifecycle.stopped() => return,
        };
        match active {
            Ok(tenants) => {
                worker.node.health.up(ROLE);
                if name.send(tenants).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                worker.node.health.down(ROLE, format!("the queue does not answer: {error}"));
                let _ = tokio::time::timeout(BACKEND_RETRY, lifecycle.stopped()).await;
            }
        }
    }
}

impl Dispatcher {
    pub(crate) fn new(worker: Arc<Worker>, consumer: Arc<dyn Consumer>) -> Self {
        let daemon = &worker.node.config.current().daemon;
        let runs = worker.options.concurrency.unwrap_or(daemon.max_concurrent_tasks as usize);
        // A node that is told its own limit keeps to it, tail included.
        let tail = if worker.options.concurrency.is_some() { 1 } else { TAIL };
        let capacity = runs.max(1) * tail;
        let (report, reports) = mpsc::channel(capacity);
        Self {
            worker,
            consumer,
            schedule: Schedule::default(),
            aside: Aside::default(),
            blocked: None,
            permits: Arc::new(Semaphore::new(capacity)),
            capacity,
            exported: Vec::new(),
            reports,
            report,
        }
    }

    async fn run(mut self, mut named: mpsc::Receiver<Vec<TenantId>>) {
        let worker = Arc::clone(&self.worker);
        let mut config = worker.node.config.watch();
        let mut export = tokio::time::interval(EXPORT_EVERY);
        loop {
            self.wake_due();
            let ready = self.blocked.is_none() && !self.schedule.is_empty();
            let wake = self.next_wake();
            tokio::select! {
                biased;
                () = worker.node.lifecycle.stopped() => break,
                Some(report) = self.reports.recv() => self.apply(report),
                Some(tenants) = named.recv() => self.activate(tenants),
                Ok(()) = config.changed() => self.reweigh(),
                _ = export.tick() => self.export_lags(),
                () = sleep_until(wake), if wake.is_some() => {}
                permit = Arc::clone(&self.permits).acquire_owned(), if ready => {
                    let permit = permit.expect("the semaphore is never closed");
                    self.take_turn(permit).await;
                }
            }
        }
        self.drain().await;
    }

    fn next_wake(&self) -> Option<Instant> {
        let blocked = self.blocked.map(|block| block.until);
        [blocked, self.aside.next()].into_iter().flatten().min()
    }

    fn wake_due(&mut self) {
        let now = Instant::now();
        if self.blocked.is_some_and(|block| block.until <= now) {
            self.blocked = None;
        }
        while let Some(tenant) = self.aside.due(now) {
            self.activate(vec![tenant]);
        }
    }

    fn activate(&mut self, tenants: Vec<TenantId>) {
        let snapshot = self.worker.node.config.current();
        let weights = self.worker.flows.weights(&snapshot);
        for tenant in tenants.into_iter().filter(|t| !self.aside.holds(t)).collect::<Vec<_>>() {
            self.schedule.activate(&tenant, weights.get(&tenant).copied().unwrap_or(1));
        }
    }

    /// A new configuration: weights act on what waits now.
    fn reweigh(&mut self) {
        let snapshot = self.worker.node.config.current();
        let weights = self.worker.flows.weights(&snapshot);
        let waiting: Vec<_> = self.schedule.lags().map(|(tenant, _)| tenant.clone()).collect();
        for tenant in waiting {
            self.schedule.set_weight(&tenant, weights.get(&tenant).copied().unwrap_or(1));
        }
    }

    fn export_lags(&mut self) {
        let lag = &self.worker.node.metrics.fairness_lag;
        for tenant in self.exported.drain(..) {
            lag.remove(&TenantLabels { tenant: tenant.to_string() });
        }
        for (tenant, behind) in self.schedule.lags() {
            lag.get_or_create(&TenantLabels { tenant: tenant.to_string() }).set(behind);
            self.exported.push(tenant.clone());
        }
    }

    fn apply(&mut self, report: Report) {
        match report {
            Report::Freed => self.blocked = self.blocked.filter(|block| block.why == Why::Time),
            Report::Ended { tenant, cost } => self.schedule.ended(&tenant, cost),
            Report::Away => self.block(Instant::now() + BACKEND_RETRY, Why::Time),
            Report::Deferred { tenant, scope, until } => {
                self.schedule.ended(&tenant, 0);
                match scope {
                    Scope::Global => self.block(until, Why::Time),
                    Scope::Organization => {
                        self.schedule.leave(&tenant);
                        self.aside.put(tenant, until);
                    }
                    Scope::Narrow => {}
                }
            }
        }
    }

    fn block(&mut self, until: Instant, why: Why) {
        if self.blocked.is_none_or(|before| before.until < until) {
            self.blocked = Some(Block { until, why });
        }
    }

    /// One tenant's turn.
    async fn take_turn(&mut self, permit: OwnedSemaphorePermit) {
        let Some(Turn { tenant, allowance }) = self.schedule.turn() else { return };
        let mut slots = self.slots(permit, allowance.min(MAX_PULL)).await;
        if slots.is_empty() {
            return;
        }
        let pulled = self.consumer.pull(Some(&tenant), slots.len(), 0).await;
        let deliveries = match pulled {
            Ok(deliveries) => deliveries,
            Err(error) => {
                if self.worker.may_say("pull") {
                    tracing::warn!(error = %error, "pull failed; work waits for the queue");
                }
                self.block(Instant::now() + BACKEND_RETRY, Why::Time);
                Vec::new()
            }
        };
        let short = deliveries.len() < slots.len();
        self.schedule.started(&tenant, deliveries.len());
        for delivery in deliveries {
            let Some(slot) = slots.pop() else { break };
            let work =
                delivery::handle(Arc::clone(&self.worker), delivery, slot, self.report.clone());
            self.worker.node.lifecycle.spawn(work);
        }
        if short && self.blocked.is_none() {
            self.schedule.leave(&tenant);
        }
        for slot in slots {
            release(&self.worker, &slot.place).await;
        }
    }

    /// Up to `most` places, each with the permit to use it.
    async fn slots(&mut self, first: OwnedSemaphorePermit, most: usize) -> Vec<Slot> {
        let daemon = Arc::clone(&self.worker.node.config.current().daemon);
        let mut slots = Vec::with_capacity(most);
        let mut next = Some(first);
        while let Some(permit) = next.take() {
            let holder = Uuid::now_v7().to_string();
            let place = admit::place(&daemon, &holder, self.worker.options.ack_wait_ms);
            match self.worker.node.ports.limits.admit(&place).await {
                Ok(Admission::Granted) => slots.push(Slot { permit, place }),
                Ok(Admission::Deferred { scope, retry_after_ms }) => {
                    if slots.is_empty() {
                        self.count_deferral(&scope);
                        let until = Instant::now() + Duration::from_millis(retry_after_ms);
                        self.block(until, Why::Places);
                    }
                    break;
                }
                Err(error) => {
                    if self.worker.may_say("limits") {
                        tracing::warn!(error = %error, "no place was given; work waits");
                    }
                    self.block(Instant::now() + BACKEND_RETRY, Why::Time);
                    break;
                }
            }
            if slots.len() < most {
                next = Arc::clone(&self.permits).try_acquire_owned().ok();
            }
        }
        slots
    }

    fn count_deferral(&self, scope: &str) {
        let labels = ScopeLabels { scope: admit::kind(scope).to_owned() };
        self.worker.node.metrics.deferrals.get_or_create(&labels).inc();
    }

    /// Takes in nothing more; runs may end until the deadline, then hand themselves back.
    async fn drain(mut self) {
        let deadline = tokio::time::sleep(Duration::from_millis(self.worker.options.drain_ms));
        tokio::pin!(deadline);
        let all = u32::try_from(self.capacity).unwrap_or(u32::MAX);
        let permits = Arc::clone(&self.permits);
        let mut idle = std::pin::pin!(permits.acquire_many(all));
        loop {
            tokio::select! {
                _ = &mut idle => return,
                Some(_) = self.reports.recv() => {}
                () = &mut deadline, if !self.worker.abort.is_cancelled() => {
                    self.worker.abort.cancel();
                }
            }
        }
    }
}

async fn sleep_until(wake: Option<Instant>) {
    if let Some(wake) = wake {
        tokio::time::sleep_until(wake).await;
    }
}

/// Gives places back; they free themselves after their ttl when that fails.
pub(crate) async fn release(worker: &Worker, demand: &Demand) {
    if let Err(error) = worker.node.ports.limits.release(demand).await {
        tracing::debug!(error = %error, "places were not given back");
    }
}
