//! The end of an action: its journal entries and its card, also when its run ends without it.

use std::sync::PoisonError;

use aof_shared::action::{Approval, ApprovalStatus, HeldAction};
use aof_shared::event::{Event, EventType};
use aof_shared::ids::EventId;
use aof_shared::store::ActionEnd;
use serde_json::json;

use crate::action::card;
use crate::job::{Interrupted, Job};
use crate::tool;

/// How the outcome begins of an action whose command never started.
const REFUSED: &str = "refused: ";
/// What is known of a command whose worker stopped.
const STOPPED: &str = "started; its worker stopped before the end was recorded";
/// What is known of a command that ran into its run's time limit.
const OUT_OF_TIME: &str = "stopped when the run's time was over; what it did until then is unknown";

/// The end of an action that never ran, and why.
pub(super) fn refused(reason: &str) -> ActionEnd {
    ActionEnd { status: ApprovalStatus::Failed, outcome: format!("{REFUSED}{reason}") }
}

/// The end of an action whose worker stopped while it ran.
pub(super) fn stopped() -> ActionEnd {
    ActionEnd { status: ApprovalStatus::Uncertain, outcome: STOPPED.to_owned() }
}

/// The event that tells of the start.
pub(super) fn started_event(job: &Job, action: &HeldAction) -> Event {
    let shown = job.mask.apply(tool::shown(&action.command.argv));
    let data = json!({ "action_id": action.id, "command": shown, "digest": action.digest });
    job.event(EventId::derive(action.id.0, "started"), EventType::ActionStarted, data)
}

/// Journals the end and updates the card. What had started says so once more: a worker may
/// die between a start and its entry, and the derived id makes two of them one.
///
/// # Errors
/// [`Interrupted`].
pub(super) async fn journal(
    job: &Job,
    action: &HeldAction,
    ended: &ActionEnd,
) -> Result<(), Interrupted> {
    let kind = match ended.status {
        ApprovalStatus::Executed => EventType::ActionExecuted,
        ApprovalStatus::Uncertain => EventType::ActionUncertain,
        _ => EventType::ActionFailed,
    };
    let data = json!({ "action_id": action.id, "outcome": ended.outcome });
    let event = job.event(EventId::derive(action.id.0, "ended"), kind, data);
    let mut batch = Vec::with_capacity(3);
    if !ended.outcome.starts_with(REFUSED) {
        batch.push(started_event(job, action).publication()?);
    }
    batch.push(event.publication()?);
    batch.push(card(job, action, ended.status, &ended.outcome).await?);
    job.publish(batch).await
}

/// The run is cut off while its action's command runs: nobody can say how it ended.
///
/// # Errors
/// [`Interrupted`].
pub(crate) async fn cut_off(job: &Job) -> Result<(), Interrupted> {
    let acting = job.acting.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(id) = acting else { return Ok(()) };
    let ended = ActionEnd { status: ApprovalStatus::Uncertain, outcome: OUT_OF_TIME.to_owned() };
    let store = &job.worker.node.ports.store;
    store.finish_action(job.tenant(), id, &ended).await?;
    if let Some(approval) = store.approval(job.tenant(), id).await? {
        journal(job, &approval.action, &ended).await?;
    }
    Ok(())
}

/// Ends the action that this delivery's decision approved, where its run ends without it:
/// its flow is gone, say. Nobody would look at it again. Gives what the requester is told.
///
/// # Errors
/// [`Interrupted`]; the decision then comes again.
pub(crate) async fn close(job: &Job, reason: &str) -> Result<Option<String>, Interrupted> {
    let decision = job.task.decision.as_ref();
    let Some(decision) = decision.filter(|d| d.outcome == ApprovalStatus::Approved) else {
        return Ok(None);
    };
    let store = &job.worker.node.ports.store;
    let Some(approval) = store.approval(job.tenant(), decision.action).await? else {
        return Ok(None);
    };
    let Approval { action, status, outcome, .. } = &approval;
    let shown = job.mask.apply(tool::shown(&action.command.argv));
    let (ended, told) = match status {
        ApprovalStatus::Approved => {
            (refused(reason), format!("`{shown}` was approved and did not run."))
        }
        ApprovalStatus::Started => {
            let told = format!(
                "`{shown}` was started, and how it ended is unknown: check what it did \
                 (action {}).",
                action.id
            );
            (stopped(), told)
        }
        // It ended, and perhaps its worker stopped before the journal knew.
        ApprovalStatus::Executed | ApprovalStatus::Failed | ApprovalStatus::Uncertain
            if job.setup.problem.is_some() =>
        {
            let outcome = outcome.clone().unwrap_or_else(|| STOPPED.to_owned());
            let told = format!("`{shown}`: {outcome}");
            (ActionEnd { status: *status, outcome }, told)
        }
        _ => return Ok(None),
    };
    // Journaled first: what is not stored as ended yet is closed again.
    journal(job, action, &ended).await?;
    store.finish_action(job.tenant(), action.id, &ended).await?;
    Ok(Some(told))
}
