//! Ends what nobody decided in time: sleeps until the earliest expiry, whoever holds it.
//!
//! Nothing is kept in memory but the next time to look, so what expired while no approver
//! ran is settled at the next start. The compare-and-set makes it once.

use std::time::Duration;

use aof_shared::action::{Approval, ApprovalStatus};
use aof_shared::clock::UnixMs;
use aof_shared::trace::{Continued, SpanKind};
use tokio::time::Instant;

use crate::decide::{self, Origin, Verdict};
use crate::desk::{Desk, HandleError, RETRY_MS};

/// Overdue approvals settled between two looks at the lifecycle.
const BATCH: usize = 128;
/// How often the clock is compared with the next expiry, in ms: bounds how late an expiry
/// is when the clock was set forward. Costs no I/O.
const CLOCK_CHECK_MS: u64 = 250;
/// How often the store is asked for an expiry that another approver took in, in ms: bounds
/// how late one is whose approver died.
const REFRESH_MS: u64 = 5_000;

/// Runs until the lifecycle stops.
pub(crate) async fn run(desk: &Desk) {
    while !desk.lifecycle.stopping() {
        match sweep(desk).await {
            Ok(next) => wait(desk, next).await,
            Err(error) => {
                desk.waits("expiry", &error);
                desk.pause().await;
            }
        }
    }
}

/// Settles what is overdue. Returns when to look again, if anything is pending.
async fn sweep(desk: &Desk) -> Result<Option<UnixMs>, HandleError> {
    while !desk.lifecycle.stopping() {
        let overdue = desk.ports.store.overdue(desk.now_ms(), BATCH).await?;
        for approval in &overdue {
            expire(desk, approval).await?;
        }
        if overdue.len() < BATCH {
            break;
        }
    }
    Ok(desk.ports.store.next_expiry().await?)
}

async fn expire(desk: &Desk, approval: &Approval) -> Result<bool, HandleError> {
    let action = &approval.action;
    let waited_ms = desk.now_ms().saturating_sub(action.held_at_ms);
    let at = Continued::after(action.trace(), waited_ms, None);
    let opening = desk.tracer.span("approver.expiry", SpanKind::Internal);
    let mut span = opening.under(at.parent).linked(at.link).start();
    decide::tag(&mut span, action);
    let origin = Origin { trace: span.context(), cause: decide::held_event(action) };
    let verdict = Verdict { status: ApprovalStatus::Expired, by: Vec::new(), reason: None };
    decide::settle(desk, approval, verdict, origin, Vec::new()).await
}

/// Waits for `next`, for a newly held action, for the refresh, or for the stop.
async fn wait(desk: &Desk, next: Option<UnixMs>) {
    let refresh = Instant::now() + Duration::from_millis(REFRESH_MS);
    let due_in = || next.map(|at| at.saturating_sub(desk.now_ms()));
    if due_in() == Some(0) {
        // Overdue again right after a sweep: the sweep did not see it yet.
        tokio::time::sleep(Duration::from_millis(RETRY_MS.min(CLOCK_CHECK_MS))).await;
        return;
    }
    loop {
        let step = match due_in() {
            Some(0) => return,
            Some(ms) => Instant::now() + Duration::from_millis(ms.min(CLOCK_CHECK_MS)),
            None => refresh,
        };
        tokio::select! {
            () = desk.lifecycle.stopped() => return,
            () = desk.held.notified() => return,
            () = tokio::time::sleep_until(step.min(refresh)) => {}
        }
        if Instant::now() >= refresh {
            return;
        }
    }
}
