//! Naming tenants to those who ask: a list is kept until its reader says it arrived.

use crate::ids::TenantId;

use super::super::protocol::{Named, Names};
use super::{Desk, ReplyTo};

/// Tenants in one list: at most 130 bytes each, below half of a server's usual limit.
const MAX_NAMED: usize = 2_048;
/// The number of a list that says that too many ask already.
pub(crate) const NO_ROOM: u64 = u64::MAX;

/// What one asker was sent.
#[derive(Default)]
pub(super) struct Sent {
    number: u64,
    /// It may not have arrived.
    unseen: Vec<TenantId>,
    waiting: Option<(ReplyTo, u64)>,
}

impl Sent {
    pub(super) fn until_ms(&self) -> Option<u64> {
        self.waiting.as_ref().map(|(_, until_ms)| *until_ms)
    }
}

impl Desk {
    /// Asks for names; answered when there are some, or after the wait.
    pub(crate) fn names(&mut self, ask: &Names, to: ReplyTo, now_ms: u64) {
        if self.client(ask.client).namer.is_none() {
            let Some(namer) = self.dispatch.add_namer() else {
                let refused = Named { epoch: self.epoch, number: NO_ROOM, tenants: Vec::new() };
                return self.answer(to, refused.encode());
            };
            self.client(ask.client).namer = Some(namer);
        }
        let epoch = self.epoch;
        let sent = &mut self.client(ask.client).names;
        if ask.seen == (epoch, sent.number) {
            sent.unseen.clear();
        }
        sent.waiting = Some((to, now_ms.saturating_add(ask.wait_ms)));
    }

    /// Answers those who wait for names.
    pub(super) fn tell_names(&mut self, now_ms: u64) {
        let Self { clients, dispatch, effects, epoch, .. } = self;
        for client in clients.values_mut() {
            let sent = &mut client.names;
            let (Some(namer), Some(until_ms)) = (client.namer, sent.until_ms()) else {
                continue;
            };
            if sent.unseen.is_empty() {
                sent.unseen = dispatch.take_active(namer, MAX_NAMED);
                sent.number += u64::from(!sent.unseen.is_empty());
            }
            if sent.unseen.is_empty() && until_ms > now_ms {
                continue;
            }
            let (number, tenants) = (sent.number, sent.unseen.clone());
            let body = Named { epoch: *epoch, number, tenants }.encode();
            if let Some((to, _)) = sent.waiting.take() {
                effects.push(super::Effect::Answer { to, body });
            }
        }
    }
}
