//! What a consumer holds in memory: who may be delivered next. Pure: no I/O, no clock.
//!
//! Every message that waits costs a few dozen bytes here; payloads stay in the backend,
//! but for a bounded window of recent ones. A message with an ordering key is either the
//! head of its key (ready, out or delayed) or waits behind that head.

mod naming;

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::clock::UnixMs;
use crate::ids::TenantId;
use crate::message::Priority;
use crate::queue::Stored;

pub(in crate::queue) use naming::Namer;
use naming::Names;

/// Bytes of recent payloads kept, so that a fresh message is not read back.
const MAX_FRESH_BYTES: usize = 32 << 20;
/// Payloads kept, whatever their size.
const MAX_FRESH_MESSAGES: usize = 16_384;

/// Set in the code of a normal message, so that critical ones sort first.
const NORMAL: u64 = 1 << 63;

/// Position in a tenant's line: critical before normal, then by sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Code(u64);

impl Code {
    fn new(seq: u64, priority: Priority) -> Self {
        Self(if priority == Priority::Critical { seq } else { seq | NORMAL })
    }

    fn seq(self) -> u64 {
        self.0 & !NORMAL
    }
}

/// A message that is to be delivered.
#[derive(Debug, Clone)]
pub(in crate::queue) struct Item {
    pub(in crate::queue) seq: u64,
    pub(in crate::queue) tenant: TenantId,
    pub(in crate::queue) priority: Priority,
    /// Hash of tenant and ordering key; 0: none.
    pub(in crate::queue) key: u64,
    /// Attempts that failed before.
    pub(in crate::queue) failures: u32,
    /// Not before.
    pub(in crate::queue) due_at_ms: UnixMs,
}

/// A message on its way out.
#[derive(Debug)]
pub(in crate::queue) struct Taken {
    pub(in crate::queue) seq: u64,
    /// Names this delivery among all of the same message.
    pub(in crate::queue) token: u64,
    pub(in crate::queue) failures: u32,
    pub(in crate::queue) fresh: Option<Stored>,
}

struct Place {
    tenant: TenantId,
    code: Code,
    key: u64,
}

struct Out {
    place: Place,
    token: u64,
    deadline_ms: UnixMs,
    /// Its ack is on the way to disk: it cannot time out.
    settling: bool,
}

#[derive(Default)]
struct Line {
    ready: BTreeMap<Code, u64>,
    pending: u64,
    in_ring: bool,
    /// Who was named this tenant, and did not pull it short since.
    named: naming::Set,
}

/// A timed-out delivery, to be written down.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::queue) struct Expired {
    pub(in crate::queue) seq: u64,
    pub(in crate::queue) failures: u32,
}

/// The state of one consumer.
pub(in crate::queue) struct Dispatch {
    max_out: usize,
    lines: HashMap<TenantId, Line>,
    /// Tenants with something ready, in turn.
    ring: VecDeque<TenantId>,
    /// Someone pulls of anyone, so the ring is kept.
    ringing: bool,
    names: Names,
    gates: HashMap<u64, VecDeque<Code>>,
    out: HashMap<u64, Out>,
    deadlines: BTreeMap<(UnixMs, u64), ()>,
    delayed: BTreeMap<(UnixMs, u64), Place>,
    failures: HashMap<u64, u32>,
    fresh: HashMap<u64, Stored>,
    fresh_bytes: usize,
    tokens: u64,
}

impl Dispatch {
    pub(in crate::queue) fn new(max_out: usize) -> Self {
        Self {
            max_out: max_out.max(1),
            lines: HashMap::new(),
            ring: VecDeque::new(),
            ringing: false,
            names: Names::default(),
            gates: HashMap::new(),
            out: HashMap::new(),
            deadlines: BTreeMap::new(),
            delayed: BTreeMap::new(),
            failures: HashMap::new(),
            fresh: HashMap::new(),
            fresh_bytes: 0,
            tokens: 0,
        }
    }

    /// Names deliveries from `base` on, so that no earlier dispatcher's is meant.
    pub(in crate::queue) fn tokens_from(&mut self, base: u64) {
        self.tokens = base;
    }

    /// A delivery that an earlier dispatcher made goes on. `false`: it is not free.
    pub(in crate::queue) fn claim(
        &mut self,
        tenant: &TenantId,
        (seq, token): (u64, u64),
        deadline_ms: UnixMs,
    ) -> bool {
        let Some(line) = self.lines.get_mut(tenant) else { return false };
        let codes = [Priority::Normal, Priority::Critical].map(|p| Code::new(seq, p));
        let found = codes.iter().find_map(|code| Some((*code, line.ready.remove(code)?)));
        let Some((code, key)) = found else { return false };
        let place = Place { tenant: tenant.clone(), code, key };
        self.out.insert(seq, Out { place, token, deadline_ms, settling: false });
        self.deadlines.insert((deadline_ms, seq), ());
        self.drop_fresh(seq);
        true
    }

    pub(in crate::queue) fn set_max_out(&mut self, max_out: usize) {
        self.max_out = max_out.max(1);
    }

    /// Takes a message in, in publish order.
    pub(in crate::queue) fn add(&mut self, item: Item, fresh: Option<Stored>, now_ms: UnixMs) {
        self.line(&item.tenant).pending += 1;
        if item.failures > 0 {
            self.failures.insert(item.seq, item.failures);
        }
        if let Some(stored) = fresh {
            self.keep_fresh(stored);
        }
        let code = Code::new(item.seq, item.priority);
        if item.key != 0 {
            if let Some(behind) = self.gates.get_mut(&item.key) {
                behind.push_back(code);
                return;
            }
            self.gates.insert(item.key, VecDeque::new());
        }
        let place = Place { tenant: item.tenant, code, key: item.key };
        self.put(place, item.due_at_ms, now_ms);
    }

    /// Keeps a payload near, while there is room.
    pub(in crate::queue) fn keep_fresh(&mut self, stored: Stored) {
        let bytes = stored.payload.len();
        let fits = self.fresh_bytes + bytes <= MAX_FRESH_BYTES;
        if fits && self.fresh.len() < MAX_FRESH_MESSAGES {
            self.fresh_bytes += bytes;
            self.fresh.insert(stored.seq, stored);
        }
    }

    /// Keeps a payload that was read ahead, if its message still waits.
    pub(in crate::queue) fn keep_ahead(&mut self, stored: Stored) {
        let waits = self.lines.get(stored.subject.tenant()).is_some_and(|line| {
            let codes = [Priority::Normal, Priority::Critical].map(|p| Code::new(stored.seq, p));
            codes.iter().any(|code| line.ready.contains_key(code))
        });
        if waits {
            self.keep_fresh(stored);
        }
    }

    pub(in crate::queue) fn drop_fresh(&mut self, seq: u64) -> Option<Stored> {
        let stored = self.fresh.remove(&seq)?;
        self.fresh_bytes -= stored.payload.len();
        Some(stored)
    }

    fn line(&mut self, tenant: &TenantId) -> &mut Line {
        if !self.lines.contains_key(tenant) {
            self.lines.insert(tenant.clone(), Line::default());
        }
        self.lines.get_mut(tenant).expect("it was inserted above")
    }

    fn put(&mut self, place: Place, due_at_ms: UnixMs, now_ms: UnixMs) {
        if due_at_ms > now_ms {
            self.delayed.insert((due_at_ms, place.code.seq()), place);
        } else {
            self.make_ready(place);
        }
    }

    fn make_ready(&mut self, place: Place) {
        let (ringing, naming) = (self.ringing, self.names.all());
        let line = self.line(&place.tenant);
        line.ready.insert(place.code, place.key);
        let ring = ringing && !std::mem::replace(&mut line.in_ring, ringing);
        let unaware = naming & !std::mem::replace(&mut line.named, naming);
        if ring {
            self.ring.push_back(place.tenant.clone());
        }
        self.names.tell(unaware, &place.tenant);
    }

    /// Brings back what is due and what timed out.
    pub(in crate::queue) fn advance(&mut self, now_ms: UnixMs, expired: &mut Vec<Expired>) {
        while let Some(first) = self.delayed.first_entry() {
            if first.key().0 > now_ms {
                break;
            }
            let place = first.remove();
            self.make_ready(place);
        }
        while let Some((&(deadline_ms, seq), ())) = self.deadlines.first_key_value() {
            if deadline_ms > now_ms {
                break;
            }
            self.deadlines.pop_first();
            let Some(out) = self.out.remove(&seq) else { continue };
            let failures = self.failures.entry(seq).or_default();
            *failures = failures.saturating_add(1);
            expired.push(Expired { seq, failures: *failures });
            self.make_ready(out.place);
        }
        self.feed_starved();
    }

    /// When `advance` has something to do next.
    pub(in crate::queue) fn next_at_ms(&self) -> Option<UnixMs> {
        let due = self.delayed.first_key_value().map(|((at, _), _)| *at);
        let deadline = self.deadlines.first_key_value().map(|((at, _), ())| *at);
        due.into_iter().chain(deadline).min()
    }

    /// Takes up to `max` of one tenant; when it comes back short, `namer` is named the
    /// tenant again once there is more.
    pub(in crate::queue) fn take_of(
        &mut self,
        tenant: &TenantId,
        max: usize,
        deadline_ms: UnixMs,
        namer: Option<Namer>,
    ) -> Vec<Taken> {
        let mut taken = Vec::new();
        while taken.len() < max && self.out.len() < self.max_out {
            let Some(next) = self.take_one(tenant, deadline_ms) else { break };
            taken.push(next);
        }
        if taken.len() < max {
            self.came_short(tenant, namer);
        }
        taken
    }

    fn came_short(&mut self, tenant: &TenantId, namer: Option<Namer>) {
        let Some(line) = self.lines.get_mut(tenant) else { return };
        let Some(namer) = namer else { return self.forget_idle(tenant) };
        if line.ready.is_empty() {
            line.named &= !namer.bit();
            self.forget_idle(tenant);
        } else {
            line.named |= namer.bit();
            self.names.starve(namer, tenant);
        }
    }

    /// A tenant with nothing costs nothing.
    fn forget_idle(&mut self, tenant: &TenantId) {
        let idle = |line: &Line| line.pending == 0 && line.named == 0 && !line.in_ring;
        if self.lines.get(tenant).is_some_and(idle) {
            self.lines.remove(tenant);
        }
    }

    /// Keeps the tenants in turn from now on, for `take_any`.
    pub(in crate::queue) fn keep_ring(&mut self) {
        if std::mem::replace(&mut self.ringing, true) {
            return;
        }
        for (tenant, line) in &mut self.lines {
            line.in_ring = !line.ready.is_empty();
            if line.in_ring {
                self.ring.push_back(tenant.clone());
            }
        }
    }

    /// Takes up to `max` of all tenants in turn, one each; see `keep_ring`.
    pub(in crate::queue) fn take_any(&mut self, max: usize, deadline_ms: UnixMs) -> Vec<Taken> {
        let mut taken = Vec::new();
        while taken.len() < max && self.out.len() < self.max_out {
            let Some(tenant) = self.ring.pop_front() else { break };
            let next = self.take_one(&tenant, deadline_ms);
            let more = self.lines.get_mut(&tenant).is_some_and(|line| {
                line.in_ring = !line.ready.is_empty();
                line.in_ring
            });
            taken.extend(next);
            if more {
                self.ring.push_back(tenant);
            }
        }
        taken
    }

    fn take_one(&mut self, tenant: &TenantId, deadline_ms: UnixMs) -> Option<Taken> {
        let (code, key) = self.lines.get_mut(tenant)?.ready.pop_first()?;
        let seq = code.seq();
        self.tokens += 1;
        let token = self.tokens;
        let place = Place { tenant: tenant.clone(), code, key };
        self.out.insert(seq, Out { place, token, deadline_ms, settling: false });
        self.deadlines.insert((deadline_ms, seq), ());
        let failures = self.failures.get(&seq).copied().unwrap_or_default();
        Some(Taken { seq, token, failures, fresh: self.drop_fresh(seq) })
    }

    fn holds(&mut self, seq: u64, token: u64) -> Option<&mut Out> {
        self.out.get_mut(&seq).filter(|out| out.token == token)
    }

    /// Starts the wait of a delivery again. `false`: the lease has ended.
    pub(in crate::queue) fn extend(&mut self, seq: u64, token: u64, deadline_ms: UnixMs) -> bool {
        let Some(out) = self.holds(seq, token).filter(|out| !out.settling) else { return false };
        let before = std::mem::replace(&mut out.deadline_ms, deadline_ms);
        self.deadlines.remove(&(before, seq));
        self.deadlines.insert((deadline_ms, seq), ());
        true
    }

    /// A delivery is being settled: it cannot time out until `settled` or `give_back`.
    /// `None`: the lease has ended. Returns the failures so far.
    pub(in crate::queue) fn begin_settle(&mut self, seq: u64, token: u64) -> Option<u32> {
        let out = self.holds(seq, token).filter(|out| !out.settling)?;
        out.settling = true;
        let deadline_ms = out.deadline_ms;
        self.deadlines.remove(&(deadline_ms, seq));
        Some(self.failures.get(&seq).copied().unwrap_or_default())
    }

    /// What `begin_settle` began did not happen: the delivery is out as before.
    pub(super) fn hold_on(&mut self, seq: u64, token: u64, deadline_ms: UnixMs) {
        let Some(out) = self.holds(seq, token).filter(|out| out.settling) else { return };
        out.settling = false;
        out.deadline_ms = deadline_ms;
        self.deadlines.insert((deadline_ms, seq), ());
    }

    /// The message is done; the next of its key follows. `true`: something can be taken
    /// that could not before.
    pub(in crate::queue) fn settled(&mut self, seq: u64, token: u64) -> bool {
        let was_full = self.out.len() >= self.max_out;
        let Some(out) = self.take_out(seq, token) else { return false };
        let mut next = false;
        self.failures.remove(&seq);
        let Place { tenant, key, .. } = out.place;
        if key != 0 {
            match self.gates.get_mut(&key).and_then(VecDeque::pop_front) {
                Some(code) => {
                    next = true;
                    self.make_ready(Place { tenant: tenant.clone(), code, key });
                }
                None => drop(self.gates.remove(&key)),
            }
        }
        if let Some(line) = self.lines.get_mut(&tenant) {
            line.pending = line.pending.saturating_sub(1);
            self.forget_idle(&tenant);
        }
        self.feed_starved();
        was_full || next
    }

    /// A delivery comes back, `failures` as they are to count from now on.
    pub(in crate::queue) fn give_back(
        &mut self,
        (seq, token): (u64, u64),
        failures: u32,
        due_at_ms: UnixMs,
        now_ms: UnixMs,
    ) {
        let Some(out) = self.take_out(seq, token) else { return };
        if failures > 0 {
            self.failures.insert(seq, failures);
        }
        self.put(out.place, due_at_ms, now_ms);
        self.feed_starved();
    }

    fn take_out(&mut self, seq: u64, token: u64) -> Option<Out> {
        self.holds(seq, token)?;
        let out = self.out.remove(&seq)?;
        self.deadlines.remove(&(out.deadline_ms, seq));
        Some(out)
    }

    fn feed_starved(&mut self) {
        if self.out.len() < self.max_out {
            self.names.feed_starved();
        }
    }

    /// Someone asks for names from now on, and is named everyone with something ready.
    /// `None`: too many ask already.
    pub(in crate::queue) fn add_namer(&mut self) -> Option<Namer> {
        let namer = self.names.add()?;
        for (tenant, line) in &mut self.lines {
            if line.ready.is_empty() {
                line.named &= !namer.bit();
            } else {
                line.named |= namer.bit();
                self.names.tell(namer.bit(), tenant);
            }
        }
        Some(namer)
    }

    /// They ask no more.
    pub(in crate::queue) fn remove_namer(&mut self, namer: Namer) {
        self.names.remove(namer);
        self.lines.retain(|_, line| {
            line.named &= !namer.bit();
            line.pending > 0 || line.named != 0 || line.in_ring
        });
    }

    /// Up to `max` tenants to be named to `namer` now.
    pub(in crate::queue) fn take_active(&mut self, namer: Namer, max: usize) -> Vec<TenantId> {
        self.names.take(namer, max)
    }

    /// Messages that will be taken next and whose payload is not near.
    pub(in crate::queue) fn upcoming(&self, tenant: Option<&TenantId>, max: usize) -> Vec<u64> {
        let room = MAX_FRESH_MESSAGES.saturating_sub(self.fresh.len()).min(max);
        let far = |code: &Code| !self.fresh.contains_key(&code.seq());
        let of = |tenant: &TenantId, room: usize| {
            let ready = self.lines.get(tenant).into_iter().flat_map(|line| line.ready.keys());
            ready.take(room).filter(|code| far(code)).map(|code| code.seq()).collect::<Vec<_>>()
        };
        match tenant {
            Some(tenant) => of(tenant, room),
            None => {
                let turns = self.ring.len().clamp(1, room.max(1));
                let each = (room / turns).max(1);
                self.ring.iter().take(turns).flat_map(|tenant| of(tenant, each)).collect()
            }
        }
    }

    /// Messages not settled, and the oldest of them, by tenant.
    pub(in crate::queue) fn backlog(&self) -> Vec<(TenantId, u64, u64)> {
        let mut oldest: HashMap<&TenantId, u64> = HashMap::new();
        let mut see = |tenant, seq: u64| {
            oldest.entry(tenant).and_modify(|low| *low = seq.min(*low)).or_insert(seq);
        };
        for (tenant, line) in &self.lines {
            let critical = line.ready.keys().next();
            let normal = line.ready.range(Code(NORMAL)..).next().map(|(code, _)| code);
            for code in critical.into_iter().chain(normal) {
                see(tenant, code.seq());
            }
        }
        let away = self.out.values().map(|out| &out.place).chain(self.delayed.values());
        for place in away {
            see(&place.tenant, place.code.seq());
        }
        let counted = self.lines.iter().filter(|(_, line)| line.pending > 0);
        counted
            .map(|(tenant, line)| {
                (tenant.clone(), line.pending, oldest.get(tenant).copied().unwrap_or_default())
            })
            .collect()
    }
}
