//! Which tenants have something to deliver, asked of the leader all the time, so that a
//! caller who gives up loses no name.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::ids::TenantId;
use crate::queue::QueueError;

use super::connect::unavailable;
use super::desk::NO_ROOM;
use super::holder::{AGAIN, ANSWER, Holder, no_leader};
use super::protocol::{Named, Names, verb};

/// How long the leader keeps a question.
const WAIT_MS: u64 = 500;
/// How long there may be no leader before the caller is told.
const PATIENCE: Duration = Duration::from_secs(4);
/// Pause after there was no room for one more who asks.
const NO_ROOM_PAUSE: Duration = Duration::from_secs(5);

#[derive(Default)]
struct State {
    names: Vec<TenantId>,
    known: HashSet<TenantId>,
    error: Option<QueueError>,
}

/// Names that arrived and were not asked for yet.
#[derive(Default)]
pub(super) struct Namer {
    state: Mutex<State>,
    changed: Notify,
}

impl Namer {
    /// Begins to ask.
    pub(super) fn start(holder: &Arc<Holder>) -> Arc<Self> {
        let namer = Arc::new(Self::default());
        let (asking, holder) = (Arc::clone(&namer), Arc::clone(holder));
        let lifecycle = holder.member().link().lifecycle.clone();
        lifecycle.spawn(async move {
            tokio::select! {
                () = asking.run(&holder) => {}
                () = holder.gone() => {}
            }
        });
        namer
    }

    /// Waits for names.
    pub(super) async fn next(&self) -> Result<Vec<TenantId>, QueueError> {
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                if !state.names.is_empty() {
                    state.known.clear();
                    return Ok(std::mem::take(&mut state.names));
                }
                if let Some(error) = state.error.take() {
                    return Err(error);
                }
            }
            changed.await;
        }
    }

    fn tell(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    async fn run(&self, holder: &Holder) {
        let (mut seen, mut heard) = ((0, 0), Instant::now());
        loop {
            let body = Names { client: holder.id, seen, wait_ms: WAIT_MS }.encode();
            let answer = holder.ask(verb::NAMES, body, ANSWER).await;
            let Some(named) = answer.ok().and_then(|bytes| Named::decode(bytes).ok()) else {
                if heard.elapsed() >= PATIENCE {
                    self.tell(|state| state.error = Some(no_leader(PATIENCE)));
                    heard = Instant::now();
                }
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            heard = Instant::now();
            if named.number == NO_ROOM {
                let reason = "too many processes ask which tenants are active; run fewer workers";
                self.tell(|state| state.error = Some(unavailable(reason, None)));
                tokio::time::sleep(NO_ROOM_PAUSE).await;
                continue;
            }
            let fresh = seen != (named.epoch, named.number) && !named.tenants.is_empty();
            seen = (named.epoch, named.number);
            if fresh {
                self.tell(|state| {
                    for tenant in named.tenants {
                        if state.known.insert(tenant.clone()) {
                            state.names.push(tenant);
                        }
                    }
                });
            }
        }
    }
}
