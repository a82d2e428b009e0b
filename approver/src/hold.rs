//! The loop on ACTIONS: takes in held actions and votes, several actions at a time.
//!
//! Deliveries of one batch that are about one action are handled one after the other,
//! those about different actions together, so that they share the store's commits.

use std::collections::BTreeMap;

use aof_shared::action::{ActionMessage, ApprovalStatus, HeldAction};
use aof_shared::ids::{ActionId, TenantId};
use aof_shared::queue::{Cause, Consumer, Delivery};
use aof_shared::trace::Span;
use futures_util::future::join_all;

use crate::ROLE;
use crate::dead::{Burial, bury};
use crate::decide::{self, Origin, Verdict};
use crate::desk::{Desk, HandleError, RETRY_MS, chain_of};
use crate::quorum::tally;
use crate::vote::{self, Ballot, Found};

/// Deliveries handled together.
const BATCH: usize = 64;
/// How long a pull waits for the first delivery, in ms.
const PULL_WAIT_MS: u64 = 1_000;
/// Deliveries that ended without an answer (a crash, a stall) before one is given up.
const MAX_FAILURES: u32 = 10;

/// What becomes of a delivery.
pub(crate) enum Handled {
    /// It leaves the queue.
    Done,
    /// It comes back after so many ms and costs no attempt.
    Later(u64),
}

/// Runs until the lifecycle stops, and finishes what it has taken.
pub(crate) async fn run(desk: &Desk, consumer: &dyn Consumer) {
    while !desk.lifecycle.stopping() {
        let pulled = tokio::select! {
            biased;
            () = desk.lifecycle.stopped() => return,
            pulled = consumer.pull(None, BATCH, PULL_WAIT_MS) => pulled,
        };
        match pulled {
            Ok(batch) => {
                desk.health.up(ROLE);
                handle_batch(desk, batch).await;
            }
            Err(error) => {
                desk.health.down(ROLE, format!("cannot pull from ACTIONS: {error}"));
                desk.waits("approver", &error);
                desk.pause().await;
            }
        }
    }
}

/// A delivery that was read, and what it is about.
struct Item {
    delivery: Delivery,
    work: Work,
}

enum Work {
    Hold(Box<HeldAction>),
    Vote(Ballot),
}

async fn handle_batch(desk: &Desk, batch: Vec<Delivery>) {
    let mut by_action: BTreeMap<ActionId, Vec<Item>> = BTreeMap::new();
    for (id, item) in join_all(batch.into_iter().map(|d| read(desk, d))).await.into_iter().flatten()
    {
        by_action.entry(id).or_default().push(item);
    }
    let one_action = |items: Vec<Item>| async {
        for Item { delivery, work } in items {
            let tenant = delivery.message.subject.tenant();
            let handled = match work {
                Work::Hold(action) => {
                    let mut span = desk.tracer.process("approver.hold", &delivery.message);
                    let handled = hold(desk, tenant, *action, &mut span).await;
                    if handled.is_err() {
                        span.fail("not_held");
                    }
                    handled
                }
                Work::Vote(ballot) => vote::cast(desk, tenant, ballot).await,
            };
            conclude(desk, delivery, handled).await;
        }
    };
    join_all(by_action.into_values().map(one_action)).await;
}

/// Reads a delivery and finds its action; concludes those that need no more.
async fn read(desk: &Desk, delivery: Delivery) -> Option<(ActionId, Item)> {
    let ended = match serde_json::from_slice::<ActionMessage>(&delivery.message.payload) {
        Ok(ActionMessage::Held(action)) => {
            return Some((action.id, Item { delivery, work: Work::Hold(action) }));
        }
        Ok(ActionMessage::Vote(vote)) => match vote::find(desk, &delivery.message, &vote).await {
            Ok(Found::Action(id)) => {
                let work = Work::Vote(Ballot::new(id, *vote, &delivery.message));
                return Some((id, Item { delivery, work }));
            }
            Ok(Found::NotYet { delay_ms }) => Ok(Handled::Later(delay_ms)),
            Ok(Found::Unrelated) => Ok(Handled::Done),
            Err(error) => Err(error),
        },
        Err(error) => Err(error.into()),
    };
    conclude(desk, delivery, ended).await;
    None
}

/// Settles a delivery by what became of it.
async fn conclude(desk: &Desk, delivery: Delivery, handled: Result<Handled, HandleError>) {
    let settled = match handled {
        Ok(Handled::Done) => delivery.ack().await,
        Ok(Handled::Later(delay_ms)) => delivery.nak(delay_ms, Cause::Deferred).await,
        Err(error) => {
            let worn_out = (delivery.failures >= MAX_FAILURES).then_some("attempts_exhausted");
            match error.hopeless().or(worn_out) {
                Some(reason) => give_up(desk, delivery, reason, &error).await,
                None => {
                    desk.waits("a held action or vote", &error);
                    // The backend is away, which is not the delivery's fault.
                    delivery.nak(RETRY_MS, Cause::Deferred).await
                }
            }
        }
    };
    if let Err(error) = settled {
        tracing::warn!(error = chain_of(&error), "delivery not settled; it comes back");
    }
}

async fn give_up(
    desk: &Desk,
    delivery: Delivery,
    reason: &'static str,
    error: &HandleError,
) -> Result<(), aof_shared::queue::QueueError> {
    let failures = delivery.failures.saturating_add(1);
    let mut burial = Burial { reason, detail: chain_of(error), failures, ..Burial::default() };
    if let Ok(ActionMessage::Held(held)) = serde_json::from_slice(&delivery.message.payload) {
        (burial.message_id, burial.run_id) = (Some(held.message().id), Some(held.run));
    }
    match bury(desk, &delivery.message, burial).await {
        Ok(()) => delivery.ack().await,
        Err(_) => delivery.nak(RETRY_MS, Cause::Deferred).await,
    }
}

/// Stores a held action and shows it; refuses at once what nobody could ever approve.
async fn hold(
    desk: &Desk,
    tenant: &TenantId,
    action: HeldAction,
    span: &mut Span,
) -> Result<Handled, HandleError> {
    for named in [&action.tenant, &action.message().tenant] {
        if named != tenant {
            return Err(HandleError::Foreign { named: named.to_string() });
        }
    }
    decide::tag(span, &action);
    let trace = span.context();
    let store = &desk.ports.store;
    if store.hold(&action).await? {
        tracing::info!(
            tenant.id = %action.tenant, flow.name = %action.flow, action.id = %action.id,
            message.id = %action.message().id, rule = %action.rule,
            chain = %action.quorum.chain, require = action.quorum.require,
            trace_id = %trace.trace_id(), "action held"
        );
        desk.count_approval(action.flow.as_str(), ApprovalStatus::Pending.as_str());
    }
    desk.held.notify_one();
    // What was stored first stands, and may have votes already.
    let Some(approval) = store.approval(tenant, action.id).await? else {
        return Ok(Handled::Later(RETRY_MS));
    };
    if approval.status != ApprovalStatus::Pending {
        return Ok(Handled::Done);
    }
    let action = &approval.action;
    let origin = Origin { trace, cause: decide::held_event(action) };
    if let Some(reason) = decide::flaw(action) {
        let by = Vec::new();
        let verdict = Verdict { status: ApprovalStatus::Denied, by, reason: Some(reason) };
        decide::settle(desk, &approval, verdict, origin, Vec::new()).await?;
        return Ok(Handled::Done);
    }
    let missing = tally(&action.quorum, &action.requester, &approval.votes).missing();
    // The first card's version is known, so that a redelivery does not post another.
    desk.publish(vec![decide::card(&approval, missing, action.held_at_ms, origin)?]).await?;
    Ok(Handled::Done)
}
