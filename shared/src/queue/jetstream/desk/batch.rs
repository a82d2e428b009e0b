//! What is to be written down next: one record at a time is on its way, the next collects.
//! Whoever waits is answered when the record with its ending is stored.

use std::collections::HashMap;

use crate::queue::dispatch::Dispatch;

use super::super::progress::{Change, Failed};
use super::super::protocol::Outcome;
use super::{Desk, ReplyTo};

/// Endings in one record; the rest goes into the next.
const MAX_RECORD: usize = 8_192;

/// A request that waits for its endings to be on record.
struct Ticket {
    to: ReplyTo,
    each: Vec<Outcome>,
    open: usize,
}

/// Endings that go into one record.
#[derive(Default)]
struct Endings {
    /// Message and token.
    acked: Vec<(u64, u64)>,
    failed: Vec<(u64, Failed)>,
    /// Counted already; to be remembered.
    timed_out: Vec<(u64, Failed)>,
}

impl Endings {
    fn len(&self) -> usize {
        self.acked.len() + self.failed.len() + self.timed_out.len()
    }
}

/// All of it.
#[derive(Default)]
pub(super) struct Batch {
    next: Endings,
    /// On its way.
    flying: Option<Endings>,
    tickets: HashMap<u64, Ticket>,
    last_ticket: u64,
    /// Who is told when a delivery's ending is stored.
    told: HashMap<(u64, u64), Vec<(u64, usize)>>,
}

impl Batch {
    /// A request of `count` endings.
    pub(super) fn open(&mut self, to: ReplyTo, count: usize) -> u64 {
        self.last_ticket += 1;
        let each = vec![Outcome::Ended; count];
        self.tickets.insert(self.last_ticket, Ticket { to, each, open: count });
        self.last_ticket
    }

    pub(super) fn resolve(&mut self, (ticket, place): (u64, usize), outcome: Outcome) {
        let Some(ticket) = self.tickets.get_mut(&ticket) else { return };
        if let Some(slot) = ticket.each.get_mut(place) {
            *slot = outcome;
            ticket.open = ticket.open.saturating_sub(1);
        }
    }

    /// The answer, once nothing of the request is open.
    pub(super) fn close(&mut self, ticket: u64) -> Option<(ReplyTo, Vec<Outcome>)> {
        if self.tickets.get(&ticket)?.open > 0 {
            return None;
        }
        self.tickets.remove(&ticket).map(|ticket| (ticket.to, ticket.each))
    }

    /// Waits for the same ending too. `false`: it is not on its way.
    pub(super) fn join(&mut self, delivery: (u64, u64), place: (u64, usize)) -> bool {
        let Some(told) = self.told.get_mut(&delivery) else { return false };
        told.push(place);
        true
    }

    pub(super) fn ack(&mut self, delivery: (u64, u64), place: Option<(u64, usize)>) {
        self.told.insert(delivery, place.into_iter().collect());
        self.next.acked.push(delivery);
    }

    pub(super) fn fail(&mut self, (seq, failed): (u64, Failed), place: (u64, usize)) {
        self.told.insert((seq, failed.token), vec![place]);
        self.next.failed.push((seq, failed));
    }

    pub(super) fn time_out(&mut self, seq: u64, failed: Failed) {
        self.next.timed_out.push((seq, failed));
    }
}

/// Neighbours as ranges.
fn ranges(mut seqs: Vec<u64>) -> Vec<(u64, u64)> {
    seqs.sort_unstable();
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for seq in seqs {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 >= seq => *last = seq,
            _ => ranges.push((seq, seq)),
        }
    }
    ranges
}

impl Desk {
    /// What is to be appended now; `None` while one is on its way or there is nothing.
    pub(crate) fn next_change(&mut self) -> Option<Change> {
        let batch = &mut self.batch;
        if batch.flying.is_some() || batch.next.len() == 0 {
            return None;
        }
        let mut next = std::mem::take(&mut batch.next);
        if next.acked.len() > MAX_RECORD {
            batch.next.acked = next.acked.split_off(MAX_RECORD);
        }
        if next.failed.len() > MAX_RECORD {
            batch.next.failed = next.failed.split_off(MAX_RECORD);
        }
        let acked = next.acked.iter().map(|(seq, _)| *seq);
        let change = Change::Settled {
            acked: ranges(acked.collect()),
            failed: next.failed.iter().chain(&next.timed_out).copied().collect(),
        };
        batch.flying = Some(next);
        Some(change)
    }

    /// The record is stored: what is in it counts, and whoever waits is told.
    pub(crate) fn stored(&mut self, now_ms: u64) {
        let Some(flying) = self.batch.flying.take() else { return };
        let Endings { acked, failed, timed_out } = flying;
        for (seq, failed) in timed_out {
            self.progress.fail(seq, failed);
        }
        for delivery in acked {
            self.progress.done_one(delivery.0);
            self.stirred |= self.dispatch.settled(delivery.0, delivery.1);
            self.ended(delivery);
        }
        for (seq, failed) in failed {
            self.progress.fail(seq, failed);
            let delivery = (seq, failed.token);
            let due_at_ms = if failed.delay_ms == 0 { 0 } else { now_ms + failed.delay_ms };
            give_back(&mut self.dispatch, delivery, failed.count, (due_at_ms, now_ms));
            self.stirred = true;
            self.ended(delivery);
        }
    }

    fn ended(&mut self, delivery: (u64, u64)) {
        self.unhold(delivery.0);
        for place in self.batch.told.remove(&delivery).unwrap_or_default() {
            self.batch.resolve(place, Outcome::Done);
            self.answer_settled(place.0);
        }
    }
}

fn give_back(dispatch: &mut Dispatch, delivery: (u64, u64), count: u32, at_ms: (u64, u64)) {
    dispatch.give_back(delivery, count, at_ms.0, at_ms.1);
}
