//! A holder of deliveries, as its consumer's leader knows it: says that it lives and what it
//! holds, and asks the leader, whoever leads.
//!
//! What an earlier leader answered is dropped once a later one asked what is held here, so
//! nothing is held that the later one does not know of.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{Request, RequestErrorKind};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::ids::TenantId;
use crate::queue::QueueError;

use super::connect::unavailable;
use super::member::{Member, Wanted};
use super::protocol::{Beat, Claim, NO_EPOCH, Outcome, Outcomes, Terms, epoch_of, verb};
use super::wire::Writer;

/// Time between two signs of life.
const BEAT: Duration = Duration::from_millis(500);
/// Longest wait for the answer to a request that the leader does not hold back.
pub(super) const ANSWER: Duration = Duration::from_millis(1_000);
/// Pause before a request is sent again.
pub(super) const AGAIN: Duration = Duration::from_millis(25);
/// Pulls without an answer that are remembered until the leader knows.
const MAX_LOST: usize = 1_024;

/// A delivery in hand.
struct Held {
    tenant: TenantId,
    seq: u64,
    /// By this process's own clock, from before it was asked for.
    until: Instant,
}

#[derive(Default)]
struct State {
    /// The latest leader that was heard of.
    epoch: u64,
    /// By token.
    held: HashMap<u64, Held>,
    lost: Vec<u64>,
    pulls: u64,
}

/// Why the leader gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silent {
    /// Nobody got the request.
    Nobody,
    /// Somebody may have got it.
    Late,
}

/// One handle's identity.
pub(super) struct Holder {
    pub(super) id: Uuid,
    wanted: Arc<Wanted>,
    terms: Terms,
    state: Mutex<State>,
    /// Set when everything it held was settled and nobody uses it.
    gone: CancellationToken,
}

impl Holder {
    /// Begins to show signs of life.
    pub(super) fn start(wanted: Arc<Wanted>, terms: Terms) -> Arc<Self> {
        let (state, gone) = (Mutex::default(), CancellationToken::new());
        let holder = Arc::new(Self { id: Uuid::now_v7(), wanted, terms, state, gone });
        let lifecycle = &holder.member().link().lifecycle;
        lifecycle.spawn(Arc::clone(&holder).live());
        lifecycle.spawn(Arc::clone(&holder).answer_leaders());
        holder
    }

    pub(super) fn member(&self) -> &Arc<Member> {
        self.wanted.member()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is over.
    pub(super) async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// Everything is settled: the leader need not wait for it.
    pub(super) async fn leave(&self) {
        self.gone.cancel();
        let mut bye = Writer::default();
        bye.raw(self.id.as_bytes());
        let subject = self.member().subject(&format!("to.{}", verb::BYE));
        // Without it the leader finds out by its silence.
        let _ = self.member().link().client.publish(subject, bye.done()).await;
    }

    /// Asks the leader.
    pub(super) async fn ask(
        &self,
        verb: &str,
        body: Bytes,
        wait: Duration,
    ) -> Result<Bytes, Silent> {
        let subject = self.member().subject(&format!("to.{verb}"));
        let request = Request::new().payload(body).timeout(Some(wait));
        match self.member().link().client.send_request(subject, request).await {
            Ok(answer) if epoch_of(&answer.payload) == Ok(NO_EPOCH) => Err(Silent::Nobody),
            Ok(answer) => Ok(answer.payload),
            Err(error) if error.kind() == RequestErrorKind::NoResponders => Err(Silent::Nobody),
            Err(_) => Err(Silent::Late),
        }
    }

    /// Names the next pull.
    pub(super) fn next_pull(&self) -> u64 {
        let mut state = self.state();
        state.pulls += 1;
        state.pulls
    }

    /// Nobody reads the answer to this pull any more.
    pub(super) fn lost(&self, pull: u64) {
        let mut state = self.state();
        if state.lost.len() < MAX_LOST {
            state.lost.push(pull);
        }
    }

    /// Takes what the leader of `epoch` gave. `false`: a later leader asked since.
    pub(super) fn accept(
        &self,
        epoch: u64,
        given: Vec<(TenantId, u64, u64)>,
        until: Instant,
    ) -> bool {
        let mut state = self.state();
        if epoch < state.epoch {
            return false;
        }
        state.epoch = epoch;
        for (tenant, seq, token) in given {
            state.held.insert(token, Held { tenant, seq, until });
        }
        true
    }

    /// It is not held any more.
    pub(super) fn put_down(&self, token: u64) {
        self.state().held.remove(&token);
    }

    /// The lease began anew.
    pub(super) fn extended(&self, token: u64, asked: Instant) {
        let wait = Duration::from_millis(self.terms.ack_wait_ms);
        if let Some(held) = self.state().held.get_mut(&token) {
            held.until = asked + wait;
        }
    }

    fn claims(state: &State) -> Vec<Claim> {
        let now = Instant::now();
        let left = |held: &Held| held.until.saturating_duration_since(now).as_millis();
        let claim = |(token, held): (&u64, &Held)| Claim {
            tenant: held.tenant.clone(),
            seq: held.seq,
            token: *token,
            left_ms: u64::try_from(left(held)).unwrap_or(u64::MAX),
        };
        state.held.iter().filter(|(_, held)| held.until > now).map(claim).collect()
    }

    fn beat_body(&self, held: Option<Vec<Claim>>, lost: Vec<u64>, settled_view: bool) -> Bytes {
        Beat { client: self.id, terms: self.terms, lost, held, settled_view }.encode()
    }

    /// Waits until a leader serves, and until everything published before can be pulled.
    pub(super) async fn ready(&self, wait: Duration) -> Result<(), QueueError> {
        let end = Instant::now() + wait;
        loop {
            let body = self.beat_body(Some(Vec::new()), Vec::new(), true);
            if self.ask(verb::BEAT, body, 2 * ANSWER).await.is_ok() {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(no_leader(wait));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn live(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.gone() => return,
                () = tokio::time::sleep(BEAT) => {}
            }
            let lost = self.state().lost.clone();
            let body = self.beat_body(None, lost.clone(), false);
            let Ok(answer) = self.ask(verb::BEAT, body, ANSWER).await else { continue };
            self.state().lost.retain(|pull| !lost.contains(pull));
            let Ok(Outcomes { epoch, each }) = Outcomes::decode(answer) else { continue };
            if each.first() == Some(&Outcome::Again) {
                self.tell(epoch).await;
            }
        }
    }

    /// A leader does not know what is held here.
    async fn tell(&self, epoch: u64) {
        let held = {
            let mut state = self.state();
            state.epoch = state.epoch.max(epoch);
            Self::claims(&state)
        };
        let body = self.beat_body(Some(held), Vec::new(), false);
        // Without an answer the next sign of life finds out.
        let _ = self.ask(verb::BEAT, body, ANSWER).await;
    }

    /// Tells new leaders what is held here.
    async fn answer_leaders(self: Arc<Self>) {
        let link = Arc::clone(self.member().link());
        let Ok(mut who) = link.client.subscribe(self.member().subject("who")).await else {
            // Only an invalid subject or a closed client fails; the signs of life remain.
            return;
        };
        loop {
            let question = tokio::select! {
                () = self.gone() => return,
                question = who.next() => question,
            };
            let Some(question) = question else { return };
            let (Ok(epoch), Some(to)) = (epoch_of(&question.payload), question.reply) else {
                continue;
            };
            let held = {
                let mut state = self.state();
                if epoch < state.epoch {
                    continue;
                }
                state.epoch = epoch;
                Self::claims(&state)
            };
            let body = self.beat_body(Some(held), Vec::new(), false);
            let _ = link.client.publish(to, body).await;
        }
    }
}

/// Nobody leads.
pub(super) fn no_leader(waited: Duration) -> QueueError {
    unavailable(format!("the consumer has had no leader for {} ms", waited.as_millis()), None)
}
