//! The leader's side of a consumer: who holds what, who waits, and what is to be written
//! down. Pure: requests, messages and times go in, answers and records come out.
//!
//! Times are milliseconds of this process's monotonic clock; only delays that outlive a
//! leader are kept with the wall clock's time.

mod batch;
mod hand;
mod names;

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;
use uuid::Uuid;

use crate::clock::UnixMs;
use crate::ids::TenantId;
use crate::queue::dispatch::{Dispatch, Item, Namer};
use crate::queue::embedded::tables::key_hash;
use crate::queue::{Cause, Stored};

use super::message::Incoming;
use super::progress::{Failed, Progress};
use super::protocol::{
    Beat, Claim, Ending, Op, Outcome, Outcomes, Pull, Settle, Terms, Waiting as Page,
};

use batch::Batch;
pub(super) use hand::Handing;
pub(super) use names::NO_ROOM;

/// Where an answer goes.
pub(super) type ReplyTo = async_nats::Subject;

/// Deliveries of one leader: its tokens are its epoch's.
const TOKEN_BITS: u32 = 40;
/// Pulls that wait at once; beyond, they are answered with nothing.
const MAX_WAITING: usize = 4_096;
/// Signs of the leader's own life during which a client may be silent: ~2 s.
const MAX_SILENCE: u64 = 4;
/// Tenants in one page of what waits.
const PAGE: usize = 4_096;
/// How exactly it is known when a message was published, for what waits, in milliseconds.
const SAMPLE_MS: u64 = 100;
/// Publish times kept; then the oldest go.
const MAX_SAMPLES: usize = 100_000;

/// What is to be done outside.
pub(super) enum Effect {
    /// Send it.
    Answer { to: ReplyTo, body: Bytes },
    /// Read the payloads that are not near, then call [`Desk::handed`].
    Read(Handing),
}

/// A client of the leader.
#[derive(Default)]
struct Client {
    /// The sign of the leader's own life at which it was heard last.
    heard: u64,
    /// What it holds is known.
    synced: bool,
    /// Token and pull, by message.
    held: HashMap<u64, (u64, u64)>,
    namer: Option<Namer>,
    names: names::Sent,
}

/// A pull that waits.
struct Waiting {
    to: ReplyTo,
    pull: Pull,
    until_ms: u64,
}

/// The state of a leader.
pub(super) struct Desk {
    epoch: u64,
    dispatch: Dispatch,
    progress: Progress,
    ack_wait_ms: u64,
    clients: HashMap<Uuid, Client>,
    holders: HashMap<u64, Uuid>,
    waiting: VecDeque<Waiting>,
    batch: Batch,
    /// Claims of messages that are not loaded yet.
    claims: HashMap<u64, (Uuid, Claim)>,
    effects: Vec<Effect>,
    /// The last message that was looked at.
    tail: u64,
    samples: VecDeque<(u64, UnixMs)>,
    signs: u64,
    /// Something may be taken that could not before.
    stirred: bool,
    /// Largest answer in bytes.
    max_answer: usize,
}

impl Desk {
    /// Begins `progress.epoch`, which was announced.
    pub(super) fn new(progress: Progress, terms: Terms, max_answer: usize) -> Self {
        let mut dispatch = Dispatch::new(out_cap(terms));
        dispatch.tokens_from(progress.epoch << TOKEN_BITS);
        Self {
            epoch: progress.epoch,
            tail: progress.floor(),
            dispatch,
            progress,
            ack_wait_ms: terms.ack_wait_ms.max(1),
            clients: HashMap::new(),
            holders: HashMap::new(),
            waiting: VecDeque::new(),
            batch: Batch::default(),
            claims: HashMap::new(),
            effects: Vec::new(),
            samples: VecDeque::new(),
            signs: 0,
            stirred: false,
            max_answer,
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The last message that was looked at.
    pub(super) fn tail(&self) -> u64 {
        self.tail
    }

    pub(super) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Sends `body` with what else is to be sent.
    pub(super) fn answer_now(&mut self, to: ReplyTo, body: Bytes) {
        self.answer(to, body);
    }

    fn answer(&mut self, to: ReplyTo, body: Bytes) {
        self.effects.push(Effect::Answer { to, body });
    }

    /// The next message of the stream, in order. What lies between it and the one before
    /// is not this consumer's or is gone.
    pub(super) fn add(&mut self, incoming: Incoming, now_ms: u64, wall_ms: UnixMs) {
        let Incoming { stored, ordering_key, priority } = incoming;
        let seq = stored.seq;
        if !self.pass(seq) {
            return;
        }
        self.sample(seq, stored.published_at_ms);
        let tenant = stored.subject.tenant().clone();
        let failed = self.progress.failed(seq);
        let left_ms = failed.map_or(0, |failed| failed.left_ms(wall_ms));
        let item = Item {
            seq,
            priority,
            key: key_hash(&tenant, ordering_key.as_deref()),
            tenant,
            failures: failed.map_or(0, |failed| failed.count),
            due_at_ms: if left_ms == 0 { 0 } else { now_ms + left_ms },
        };
        self.dispatch.add(item, Some(stored), now_ms);
        self.stirred = true;
        if let Some((client, claim)) = self.claims.remove(&seq) {
            self.claim(client, &claim, now_ms);
        }
    }

    /// Another consumer's message.
    pub(super) fn skip(&mut self, seq: u64) {
        if self.pass(seq) {
            self.progress.finish(seq, seq);
        }
    }

    /// `false`: it was seen, or is done.
    fn pass(&mut self, seq: u64) -> bool {
        if seq <= self.tail {
            return false;
        }
        if seq > self.tail + 1 {
            self.progress.finish(self.tail + 1, seq - 1);
            // What was taken out of the stream was done.
            self.claims.retain(|claimed, _| *claimed >= seq);
        }
        self.tail = seq;
        if self.progress.is_done(seq) {
            self.claims.remove(&seq);
            return false;
        }
        true
    }

    fn sample(&mut self, seq: u64, at_ms: UnixMs) {
        if self.samples.back().is_none_or(|(_, last)| last + SAMPLE_MS <= at_ms) {
            self.samples.push_back((seq, at_ms));
        }
        while self.samples.len() > MAX_SAMPLES
            || self.samples.get(1).is_some_and(|(seq, _)| *seq <= self.progress.floor())
        {
            self.samples.pop_front();
        }
    }

    fn published_at_ms(&self, seq: u64) -> UnixMs {
        let next = self.samples.partition_point(|(sample, _)| *sample <= seq);
        self.samples.get(next.saturating_sub(1)).map_or(0, |(_, at_ms)| *at_ms)
    }

    /// What a client says it holds: the deliveries of earlier leaders go on.
    pub(super) fn claims(&mut self, client: Uuid, claims: Vec<Claim>, now_ms: u64) {
        self.client(client).synced = true;
        for claim in claims {
            if self.progress.is_done(claim.seq) {
                continue;
            }
            if claim.seq > self.tail {
                self.claims.insert(claim.seq, (client, claim));
            } else {
                self.claim(client, &claim, now_ms);
            }
        }
    }

    fn claim(&mut self, client: Uuid, claim: &Claim, now_ms: u64) {
        let Claim { tenant, seq, token, left_ms } = claim;
        if self.progress.failed(*seq).is_some_and(|failed| failed.token == *token) {
            return;
        }
        let deadline_ms = now_ms + left_ms.min(&self.ack_wait_ms);
        if self.dispatch.claim(tenant, (*seq, *token), deadline_ms) {
            self.holders.insert(*seq, client);
            self.client(client).held.insert(*seq, (*token, 0));
        }
    }

    fn client(&mut self, id: Uuid) -> &mut Client {
        let signs = self.signs;
        let client = self.clients.entry(id).or_default();
        client.heard = signs;
        client
    }

    /// A client's sign of life. `true`: it wants to be answered at once.
    pub(super) fn beat(&mut self, beat: Beat, now_ms: u64) -> Outcomes {
        let Beat { client, terms, lost, held, .. } = beat;
        if terms != Terms::NONE {
            self.ack_wait_ms = terms.ack_wait_ms.max(1);
            self.dispatch.set_max_out(out_cap(terms));
        }
        self.client(client);
        if !lost.is_empty() {
            self.forget_pulls(client, &lost.into_iter().collect(), now_ms);
        }
        if let Some(held) = held {
            self.claims(client, held, now_ms);
        }
        let synced = self.client(client).synced;
        let known = if synced { Outcome::Done } else { Outcome::Again };
        Outcomes { epoch: self.epoch, each: vec![known] }
    }

    /// Nobody will read what was given to these pulls.
    fn forget_pulls(&mut self, client: Uuid, lost: &HashSet<u64>, now_ms: u64) {
        self.waiting.retain(|w| w.pull.client != client || !lost.contains(&w.pull.pull));
        let held = self.client(client).held.iter();
        let given = held.filter(|(_, (_, pull))| lost.contains(pull));
        let given: Vec<(u64, u64)> = given.map(|(seq, (token, _))| (*seq, *token)).collect();
        for (seq, token) in given {
            self.release((seq, token), 0, now_ms);
        }
    }

    /// A client goes: what it holds is free, uncounted.
    pub(super) fn bye(&mut self, id: Uuid, now_ms: u64) {
        let Some(client) = self.forget(id) else { return };
        for (seq, (token, _)) in client.held {
            self.release((seq, token), 0, now_ms);
        }
    }

    fn forget(&mut self, id: Uuid) -> Option<Client> {
        self.waiting.retain(|waiting| waiting.pull.client != id);
        let client = self.clients.remove(&id)?;
        if let Some(namer) = client.namer {
            self.dispatch.remove_namer(namer);
        }
        Some(client)
    }

    /// The leader itself was alive: it reached the server. Whoever was not heard during
    /// several such signs is dead or cut off; what it holds timed out.
    pub(super) fn sign_of_life(&mut self, now_ms: u64) {
        self.signs += 1;
        let line = self.signs.saturating_sub(MAX_SILENCE);
        let silent = self.clients.iter().filter(|(_, client)| client.heard < line);
        let silent: Vec<Uuid> = silent.map(|(id, _)| *id).collect();
        for id in silent {
            let Some(client) = self.forget(id) else { continue };
            tracing::info!(client = %id, held = client.held.len(), "a holder fell silent");
            for (seq, (token, _)) in client.held {
                self.dispatch.extend(seq, token, now_ms);
            }
        }
    }

    /// Gives a delivery back, uncounted. `false`: its lease had ended.
    fn release(&mut self, (seq, token): (u64, u64), due_at_ms: u64, now_ms: u64) -> bool {
        let Some(failures) = self.dispatch.begin_settle(seq, token) else { return false };
        self.dispatch.give_back((seq, token), failures, due_at_ms, now_ms);
        self.unhold(seq);
        self.stirred = true;
        true
    }

    fn unhold(&mut self, seq: u64) {
        let Some(id) = self.holders.remove(&seq) else { return };
        if let Some(client) = self.clients.get_mut(&id) {
            client.held.remove(&seq);
        }
    }

    /// Ends of deliveries; answered when all of them are on record.
    pub(super) fn settle(&mut self, request: Settle, to: ReplyTo, now_ms: u64, wall_ms: UnixMs) {
        self.client(request.client);
        let ticket = self.batch.open(to, request.endings.len());
        for (place, ending) in request.endings.into_iter().enumerate() {
            let outcome = self.end(ending, (ticket, place), now_ms, wall_ms);
            if let Some(outcome) = outcome {
                self.batch.resolve((ticket, place), outcome);
            }
        }
        self.answer_settled(ticket);
    }

    fn answer_settled(&mut self, ticket: u64) {
        if let Some((to, each)) = self.batch.close(ticket) {
            let body = Outcomes { epoch: self.epoch, each }.encode();
            self.answer(to, body);
        }
    }

    /// `None`: answered when it is on record.
    fn end(
        &mut self,
        ending: Ending,
        place: (u64, usize),
        now_ms: u64,
        wall_ms: UnixMs,
    ) -> Option<Outcome> {
        let Ending { seq, token, op } = ending;
        let done = |done: bool| Some(if done { Outcome::Done } else { Outcome::Ended });
        if self.claims.contains_key(&seq) {
            return Some(Outcome::Again);
        }
        match op {
            Op::Extend => done(self.dispatch.extend(seq, token, now_ms + self.ack_wait_ms)),
            Op::Release => done(self.release((seq, token), 0, now_ms)),
            Op::Nak { delay_ms, cause: Cause::Deferred | Cause::Drained } => {
                let due_at_ms = if delay_ms == 0 { 0 } else { now_ms.saturating_add(delay_ms) };
                done(self.release((seq, token), due_at_ms, now_ms))
            }
            Op::Ack if self.progress.is_done(seq) => done(true),
            Op::Nak { .. } if self.progress.failed(seq).is_some_and(|f| f.token == token) => {
                done(true)
            }
            // It is on its way to the record already, and its answer was late.
            _ if self.batch.join((seq, token), place) => None,
            Op::Ack => {
                if self.dispatch.begin_settle(seq, token).is_none() {
                    return done(false);
                }
                self.batch.ack((seq, token), Some(place));
                None
            }
            Op::Nak { delay_ms, .. } => {
                let Some(failures) = self.dispatch.begin_settle(seq, token) else {
                    return done(false);
                };
                let count = failures.saturating_add(1);
                let failed = Failed { count, token, at_ms: wall_ms, delay_ms };
                self.batch.fail((seq, failed), place);
                None
            }
        }
    }

    /// What time brings: due and timed-out deliveries, and pulls that waited long enough.
    pub(super) fn tick(&mut self, now_ms: u64, wall_ms: UnixMs) {
        let mut expired = Vec::new();
        let due = self.dispatch.next_at_ms().is_some_and(|at_ms| at_ms <= now_ms);
        self.dispatch.advance(now_ms, &mut expired);
        self.stirred |= due;
        for expired in expired {
            let token = self.token_of(expired.seq);
            self.unhold(expired.seq);
            let count = expired.failures;
            let failed = Failed { count, token, at_ms: wall_ms, delay_ms: 0 };
            self.batch.time_out(expired.seq, failed);
        }
        self.serve(now_ms);
    }

    fn token_of(&self, seq: u64) -> u64 {
        let client = self.holders.get(&seq).and_then(|id| self.clients.get(id));
        client.and_then(|client| client.held.get(&seq)).map_or(0, |(token, _)| *token)
    }

    /// When [`Desk::tick`] has something to do next.
    pub(super) fn next_at_ms(&self) -> Option<u64> {
        let pulls = self.waiting.iter().map(|waiting| waiting.until_ms).min();
        let names = self.clients.values().filter_map(|client| client.names.until_ms()).min();
        [self.dispatch.next_at_ms(), pulls, names].into_iter().flatten().min()
    }

    /// A part of what waits.
    pub(super) fn page(&self, after: &str) -> Page {
        let mut all = self.dispatch.backlog();
        all.retain(|(tenant, ..)| tenant.as_str() > after);
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let more = all.len() > PAGE;
        all.truncate(PAGE);
        let dated = |(tenant, pending, seq): (TenantId, u64, u64)| {
            (tenant, pending, self.published_at_ms(seq))
        };
        Page { epoch: self.epoch, tenants: all.into_iter().map(dated).collect(), more }
    }

    /// Payloads that were read beside those that were asked for.
    fn keep_ahead(&mut self, stored: Stored) {
        self.dispatch.keep_ahead(stored);
    }
}

fn out_cap(terms: Terms) -> usize {
    usize::try_from(terms.max_out).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
