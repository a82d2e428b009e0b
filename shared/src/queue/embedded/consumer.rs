//! A durable consumer: pulls, names tenants, and loads what waited at the start.
//!
//! Deadlines and due times are the [`Clock`](crate::clock::Clock)'s; how long a caller
//! waits is real time. A caller that waits looks at the clock again every `RECHECK_MS`
//! while something is out or delayed, so no timer runs beside the callers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock::UnixMs;
use crate::ids::TenantId;
use crate::queue::dispatch::{Dispatch, Expired, Item, Namer, Taken};
use crate::queue::{Consumer, ConsumerSpec, Delivery, QueueError, Stored};
use crate::subject::Stream;

use super::settle::{Lease, RetryJob};
use super::{Shared, queue_error, tables};

/// How often a waiting caller looks at the clock, in milliseconds.
const RECHECK_MS: u64 = 20;
/// Messages read ahead when a pull has to read at all.
const READ_AHEAD: usize = 256;

struct State {
    dispatch: Dispatch,
    /// New messages, kept apart until all older ones are loaded.
    stash: Option<Vec<Item>>,
}

/// What all handles of one consumer share.
pub(super) struct Core {
    /// The row in `consumers`.
    pub(super) id: i64,
    pub(super) stream: Stream,
    pub(super) name: String,
    pub(super) rest: Option<String>,
    ack_wait_ms: AtomicU64,
    state: Mutex<State>,
    changed: Notify,
    /// Will be woken when the writer has answered its batch.
    woken: AtomicBool,
    shared: std::sync::Weak<Shared>,
}

impl Core {
    pub(super) fn new(id: i64, spec: &ConsumerSpec, shared: &Arc<Shared>) -> Self {
        Self {
            id,
            stream: spec.stream,
            name: spec.name.clone(),
            rest: spec.rest.clone(),
            ack_wait_ms: AtomicU64::new(spec.ack_wait_ms.max(1)),
            state: Mutex::new(State {
                dispatch: Dispatch::new(spec.max_ack_pending),
                stash: Some(Vec::new()),
            }),
            changed: Notify::new(),
            woken: AtomicBool::new(false),
            shared: Arc::downgrade(shared),
        }
    }

    /// Takes over what a later opener asks for.
    pub(super) fn update(&self, spec: &ConsumerSpec) {
        self.ack_wait_ms.store(spec.ack_wait_ms.max(1), Ordering::Relaxed);
        self.dispatch().dispatch.set_max_out(spec.max_ack_pending);
    }

    pub(super) fn wants(&self, rest: &str) -> bool {
        self.rest.as_deref().is_none_or(|wanted| wanted == rest)
    }

    pub(super) fn shared(&self) -> Result<Arc<Shared>, QueueError> {
        self.shared.upgrade().ok_or_else(|| QueueError::Unavailable {
            reason: "the queue is closed".to_owned(),
            source: None,
        })
    }

    fn dispatch(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> UnixMs {
        self.shared.upgrade().map_or(0, |shared| shared.clock.now_ms())
    }

    /// `true`: it was not going to be woken.
    pub(super) fn mark_woken(&self) -> bool {
        !self.woken.swap(true, Ordering::AcqRel)
    }

    /// Wakes everyone who waits. A pull for one tenant cannot take another's turn, so
    /// all look.
    pub(super) fn wake(&self) {
        self.woken.store(false, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// A new message, just committed; the caller wakes.
    pub(super) fn add(&self, item: Item, fresh: Option<Stored>) {
        let mut state = self.dispatch();
        if let Some(stash) = &mut state.stash {
            stash.push(item);
            return;
        }
        state.dispatch.add(item, fresh, 0);
    }

    /// Messages that waited at the start, in order.
    pub(super) fn load(&self, items: Vec<Item>) {
        let now_ms = self.now_ms();
        let mut state = self.dispatch();
        for item in items {
            state.dispatch.add(item, None, now_ms);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// All older messages are loaded: the new ones follow.
    pub(super) fn loaded(&self) {
        let mut state = self.dispatch();
        for item in state.stash.take().unwrap_or_default() {
            state.dispatch.add(item, None, 0);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    pub(super) fn extend(&self, seq: u64, token: u64) -> bool {
        let deadline_ms = self.now_ms() + self.ack_wait_ms.load(Ordering::Relaxed);
        self.dispatch().dispatch.extend(seq, token, deadline_ms)
    }

    pub(super) fn begin_settle(&self, seq: u64, token: u64) -> Option<u32> {
        self.dispatch().dispatch.begin_settle(seq, token)
    }

    /// A settlement did not happen: the delivery's wait starts again.
    pub(super) fn hold_on(&self, seq: u64, token: u64) {
        let deadline_ms = self.now_ms() + self.ack_wait_ms.load(Ordering::Relaxed);
        self.dispatch().dispatch.hold_on(seq, token, deadline_ms);
    }

    /// `true`: something can be taken that could not before; the caller wakes.
    pub(super) fn settled(&self, seq: u64, token: u64) -> bool {
        self.dispatch().dispatch.settled(seq, token)
    }

    pub(super) fn give_back(&self, lease: (u64, u64), failures: u32, due_at_ms: UnixMs) {
        let now_ms = self.now_ms();
        self.dispatch().dispatch.give_back(lease, failures, due_at_ms, now_ms);
        self.changed.notify_waiters();
    }

    pub(super) fn forget_payload(&self, seq: u64) {
        self.dispatch().dispatch.drop_fresh(seq);
    }

    pub(super) fn backlog(&self) -> Vec<(TenantId, u64, u64)> {
        self.dispatch().dispatch.backlog()
    }

    /// Brings due and timed-out messages back; says when there will be more to do.
    fn advance(&self, state: &mut State, now_ms: UnixMs) -> Vec<Expired> {
        let mut expired = Vec::new();
        state.dispatch.advance(now_ms, &mut expired);
        expired
    }

    /// Writes timeouts down. They count in memory already, so nobody waits for it.
    fn persist(self: &Arc<Self>, shared: &Shared, expired: Vec<Expired>) {
        for Expired { seq, failures } in expired {
            tracing::debug!(consumer = %self.name, stream = %self.stream, seq, "ack wait is over");
            let job = RetryJob::timeout(self, seq, failures);
            if let Err(error) = shared.db.try_submit(Box::new(job)) {
                tracing::warn!(%error, "a timeout was not written down");
            }
        }
    }
}

/// How long to sleep before looking again.
fn pause(next_at_ms: Option<UnixMs>, now_ms: UnixMs, end: Instant) -> Instant {
    match next_at_ms {
        None => end,
        Some(at_ms) => {
            let ms = at_ms.saturating_sub(now_ms).clamp(1, RECHECK_MS);
            end.min(Instant::now() + Duration::from_millis(ms))
        }
    }
}

/// One opener's handle.
pub(super) struct Handle {
    core: Arc<Core>,
    /// Set once `active_tenants` was called.
    namer: OnceLock<Namer>,
}

impl Handle {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self { core, namer: OnceLock::new() }
    }

    fn take(
        &self,
        shared: &Shared,
        tenant: Option<&TenantId>,
        max: usize,
    ) -> (Vec<Taken>, Option<UnixMs>) {
        let now_ms = shared.clock.now_ms();
        let deadline_ms = now_ms + self.core.ack_wait_ms.load(Ordering::Relaxed);
        let mut state = self.core.dispatch();
        let expired = self.core.advance(&mut state, now_ms);
        let taken = match tenant {
            Some(tenant) => {
                state.dispatch.take_of(tenant, max, deadline_ms, self.namer.get().copied())
            }
            None => {
                state.dispatch.keep_ring();
                state.dispatch.take_any(max, deadline_ms)
            }
        };
        let next_at_ms = state.dispatch.next_at_ms();
        drop(state);
        self.core.persist(shared, expired);
        (taken, next_at_ms)
    }

    fn name(
        &self,
        shared: &Shared,
        now_ms: UnixMs,
    ) -> Result<(Vec<TenantId>, Option<UnixMs>), QueueError> {
        let mut state = self.core.dispatch();
        let expired = self.core.advance(&mut state, now_ms);
        let namer = match self.namer.get() {
            Some(namer) => *namer,
            None => {
                let namer = state.dispatch.add_namer().ok_or_else(too_many_namers)?;
                *self.namer.get_or_init(|| namer)
            }
        };
        let named = state.dispatch.take_active(namer, usize::MAX);
        let next_at_ms = state.dispatch.next_at_ms();
        drop(state);
        self.core.persist(shared, expired);
        Ok((named, next_at_ms))
    }

    /// Makes deliveries of what was taken; reads the payloads that are not in memory.
    async fn deliver(
        &self,
        shared: &Arc<Shared>,
        tenant: Option<&TenantId>,
        taken: Vec<Taken>,
    ) -> Result<Vec<Delivery>, QueueError> {
        // The leases come first: when this future is dropped, they hand everything back.
        let mut leases: Vec<(Lease, Taken)> =
            taken.into_iter().map(|taken| (Lease::new(&self.core, &taken), taken)).collect();
        let missing: Vec<u64> =
            leases.iter().filter(|(_, t)| t.fresh.is_none()).map(|(_, t)| t.seq).collect();
        let mut read = HashMap::new();
        if !missing.is_empty() {
            read = self.read(shared, tenant, missing).await?;
        }
        let mut deliveries = Vec::with_capacity(leases.len());
        for (lease, taken) in leases.drain(..) {
            match taken.fresh.or_else(|| read.remove(&taken.seq)) {
                Some(message) => deliveries.push(Delivery {
                    message,
                    failures: taken.failures,
                    settle: Box::new(lease),
                }),
                // It was removed by hand or by retention.
                None => lease.vanish(shared).await,
            }
        }
        let mut state = self.core.dispatch();
        for stored in read.into_values() {
            state.dispatch.keep_ahead(stored);
        }
        drop(state);
        Ok(deliveries)
    }

    /// Reads `missing`, and some of what will be pulled next.
    async fn read(
        &self,
        shared: &Shared,
        tenant: Option<&TenantId>,
        mut missing: Vec<u64>,
    ) -> Result<HashMap<u64, Stored>, QueueError> {
        missing.extend(self.core.dispatch().dispatch.upcoming(tenant, READ_AHEAD));
        missing.sort_unstable();
        let stream = self.core.stream;
        let read = shared.db.read(move |conn| {
            let mut found = HashMap::with_capacity(missing.len());
            for seq in missing {
                if let Some(stored) = tables::get(conn, stream, seq)? {
                    found.insert(seq, stored);
                }
            }
            Ok(found)
        });
        read.await.map_err(|error| queue_error(error, stream))
    }
}

fn too_many_namers() -> QueueError {
    QueueError::Unavailable {
        reason: "too many handles ask which tenants are active; run fewer workers".to_owned(),
        source: None,
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(namer) = self.namer.take() {
            self.core.dispatch().dispatch.remove_namer(namer);
        }
    }
}

#[async_trait]
impl Consumer for Handle {
    async fn pull(
        &self,
        tenant: Option<&TenantId>,
        max: usize,
        wait_ms: u64,
    ) -> Result<Vec<Delivery>, QueueError> {
        let end = Instant::now() + Duration::from_millis(wait_ms);
        let shared = self.core.shared()?;
        loop {
            let changed = self.core.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let (taken, next_at_ms) = self.take(&shared, tenant, max);
            let any = !taken.is_empty();
            let deliveries = self.deliver(&shared, tenant, taken).await?;
            if !deliveries.is_empty() || max == 0 || Instant::now() >= end {
                return Ok(deliveries);
            }
            if any {
                continue;
            }
            let until = pause(next_at_ms, shared.clock.now_ms(), end);
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    async fn active_tenants(&self) -> Result<Vec<TenantId>, QueueError> {
        let shared = self.core.shared()?;
        loop {
            let changed = self.core.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let now_ms = shared.clock.now_ms();
            let (named, next_at_ms) = self.name(&shared, now_ms)?;
            if !named.is_empty() {
                return Ok(named);
            }
            let far = Instant::now() + Duration::from_secs(3_600);
            let until = pause(next_at_ms, now_ms, far);
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }
}
