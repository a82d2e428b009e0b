//! Handing deliveries out: pulls wait in line, payloads that are not near are read back.

use std::collections::HashMap;

use uuid::Uuid;

use crate::queue::Stored;
use crate::queue::dispatch::Taken;

use super::super::protocol::{Pull, Pulled, SENT_BYTES, Sent, sent_bytes};
use super::{Desk, Effect, MAX_WAITING, ReplyTo, Waiting};

/// Messages read ahead when a pull has to read at all.
const READ_AHEAD: usize = 256;
/// Messages beyond this are read from the stream by their holder, in bytes.
const MAX_NEAR_BYTES: usize = 128 << 10;
/// Deliveries in one answer.
const MAX_SENT: usize = 1_024;

/// Deliveries on their way to a client.
pub(crate) struct Handing {
    to: ReplyTo,
    client: Uuid,
    pull: u64,
    /// As many were taken as were asked for.
    full: bool,
    taken: Vec<Taken>,
    /// What to read.
    pub(crate) missing: Vec<u64>,
}

impl Desk {
    /// Asks for deliveries; answered by [`Desk::serve`].
    pub(crate) fn pull(&mut self, pull: Pull, to: ReplyTo, now_ms: u64) {
        self.client(pull.client);
        let wait_ms = if self.waiting.len() < MAX_WAITING { pull.wait_ms } else { 0 };
        if pull.tenant.is_none() {
            self.dispatch.keep_ring();
        }
        let until_ms = now_ms.saturating_add(wait_ms);
        self.waiting.push_back(Waiting { to, pull, until_ms });
        self.stirred = true;
    }

    /// Gives those who wait what there is; those who waited long enough, nothing.
    pub(crate) fn serve(&mut self, now_ms: u64) {
        let stirred = std::mem::take(&mut self.stirred);
        self.tell_names(now_ms);
        let late = self.waiting.iter().any(|waiting| waiting.until_ms <= now_ms);
        if !stirred && !late {
            return;
        }
        let mut nothing_for_anyone = false;
        for _ in 0..self.waiting.len() {
            let Some(waiting) = self.waiting.pop_front() else { break };
            let idle = waiting.pull.tenant.is_none() && nothing_for_anyone;
            let (taken, full) =
                if idle { (Vec::new(), false) } else { self.take(&waiting.pull, now_ms) };
            nothing_for_anyone |= waiting.pull.tenant.is_none() && taken.is_empty();
            if taken.is_empty() && waiting.until_ms > now_ms {
                self.waiting.push_back(waiting);
                continue;
            }
            self.hand(waiting, taken, full, now_ms);
        }
    }

    fn take(&mut self, pull: &Pull, now_ms: u64) -> (Vec<Taken>, bool) {
        let max = usize::try_from(pull.max).unwrap_or(MAX_SENT).min(MAX_SENT);
        let deadline_ms = now_ms + self.ack_wait_ms;
        let namer = self.clients.get(&pull.client).and_then(|client| client.namer);
        let taken = match &pull.tenant {
            Some(tenant) => self.dispatch.take_of(tenant, max, deadline_ms, namer),
            None => self.dispatch.take_any(max, deadline_ms),
        };
        let full = taken.len() == max;
        (taken, full)
    }

    fn hand(&mut self, waiting: Waiting, taken: Vec<Taken>, full: bool, now_ms: u64) {
        let Waiting { to, pull, .. } = waiting;
        let client = self.client(pull.client);
        for one in &taken {
            client.held.insert(one.seq, (one.token, pull.pull));
        }
        for one in &taken {
            self.holders.insert(one.seq, pull.client);
        }
        let far = taken.iter().filter(|taken| taken.fresh.is_none());
        let mut missing: Vec<u64> = far.map(|taken| taken.seq).collect();
        if !missing.is_empty() {
            missing.extend(self.dispatch.upcoming(pull.tenant.as_ref(), READ_AHEAD));
            missing.sort_unstable();
            missing.dedup();
        }
        let read = !missing.is_empty();
        let handing = Handing { to, client: pull.client, pull: pull.pull, full, taken, missing };
        if read {
            self.effects.push(Effect::Read(handing));
        } else {
            self.handed(handing, HashMap::new(), now_ms);
        }
    }

    /// Sends deliveries off with what was read: `None`, the message is gone; absent, it
    /// could not be read and stays.
    pub(crate) fn handed(
        &mut self,
        handing: Handing,
        mut read: HashMap<u64, Option<Stored>>,
        now_ms: u64,
    ) {
        let Handing { to, client, pull, full, taken, .. } = handing;
        let mut sent = Vec::with_capacity(taken.len());
        let (mut bytes, count) = (0, taken.len());
        for one in taken {
            let (seq, token) = (one.seq, one.token);
            let held = self.clients.get(&client).and_then(|client| client.held.get(&seq));
            if held != Some(&(token, pull)) {
                continue;
            }
            let message = match (one.fresh, read.remove(&seq)) {
                (Some(fresh), _) | (None, Some(Some(fresh))) => fresh,
                (None, Some(None)) => {
                    self.vanished((seq, token));
                    continue;
                }
                (None, None) => {
                    self.release((seq, token), 0, now_ms);
                    continue;
                }
            };
            let size = sent_bytes(&message);
            let near = size <= MAX_NEAR_BYTES;
            bytes += if near { size } else { SENT_BYTES };
            if bytes > self.max_answer && !sent.is_empty() {
                self.release((seq, token), 0, now_ms);
                self.dispatch.keep_ahead(message);
                continue;
            }
            let message = near.then_some(message);
            sent.push(Sent { seq, token, failures: one.failures, message });
        }
        for stored in read.into_values().flatten() {
            self.keep_ahead(stored);
        }
        let more = sent.len() < count && (full || bytes > self.max_answer);
        let lease_ms = self.ack_wait_ms;
        let body = Pulled { epoch: self.epoch, lease_ms, more, sent }.encode();
        self.answer(to, body);
    }

    /// The message is no longer stored: there is nothing to deliver.
    fn vanished(&mut self, delivery: (u64, u64)) {
        if self.dispatch.begin_settle(delivery.0, delivery.1).is_some() {
            self.batch.ack(delivery, None);
        }
    }
}
