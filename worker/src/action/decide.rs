//! Acts on a decision: compares digests, starts the command once, records its end.

use std::sync::PoisonError;
use std::time::Duration;

use aof_shared::action::{ApprovalStatus, Decision, HeldAction};
use aof_shared::message::RunStatus;
use aof_shared::store::{ActionEnd, ActionStart};
use aof_shared::trace::{Span, SpanKind};

use crate::action::{end, hold, program};
use crate::agent::call::{execute, record, tag_outcome};
use crate::agent::{Next, Run};
use crate::checkpoint::{Call, Outcome, Pending, ToolResult};
use crate::job::{Interrupted, Job};
use crate::tool;

/// Longest outcome that approvals keep, in characters.
const OUTCOME_CHARS: usize = 4_000;
/// How often the end of a command is offered to a store that does not take it.
const RECORD_ATTEMPTS: u32 = 5;
/// Wait between two offers.
const RECORD_BACKOFF: Duration = Duration::from_millis(500);
/// How late after its expiry an approved action may still start: a queue may have been
/// away between the last vote and the worker. Later than this, people decide anew.
const START_GRACE_MS: u64 = 60_000;

/// Acts on `decision` about `action`.
///
/// # Errors
/// [`Interrupted`]; the decision then comes again and nothing runs twice.
pub(crate) async fn decide(
    run: &mut Run<'_>,
    call: Call,
    action: HeldAction,
    decision: &Decision,
) -> Result<Next, Interrupted> {
    let mut span = run.job.span("worker.action.decide", SpanKind::Internal).start();
    span.tag("action.id", &action.id)
        .tag("run.id", &action.run)
        .tag("approval.status", &decision.outcome.as_str());
    let acted = act(run, (call, action), decision, &mut span).await;
    match &acted {
        Ok(Next::End { status: RunStatus::Refused | RunStatus::Failed, reason, .. }) => {
            span.fail(reason);
        }
        Ok(_) => {}
        Err(_) => {
            span.fail("interrupted");
        }
    }
    acted
}

async fn act(
    run: &mut Run<'_>,
    (call, action): (Call, HeldAction),
    decision: &Decision,
    span: &mut Span,
) -> Result<Next, Interrupted> {
    let job = run.job;
    let shown = job.mask.apply(tool::shown(&action.command.argv));
    job.note_command(&shown);
    match decision.outcome {
        ApprovalStatus::Approved => {}
        ApprovalStatus::Expired => {
            let text = match said(job, decision).as_str() {
                "" => format!("Nobody decided about `{shown}` in time. It did not run."),
                said => format!("`{shown}` was not decided in time: {said}. It did not run."),
            };
            return Ok(finish(RunStatus::Expired, "expired", text));
        }
        _ => {
            let said = said(job, decision);
            let said = if said.is_empty() { said } else { format!(": {said}") };
            let text = format!("`{shown}` was denied{}{said}. It did not run.", by(decision));
            return Ok(finish(RunStatus::Denied, "denied", text));
        }
    }
    // Until its end is recorded, a redelivery must arrive here again.
    run.checkpoint.pending =
        Some(Pending::Held { call: call.clone(), action: Box::new(action.clone()) });
    if let Some(reason) = mismatch(job, &action, &call, decision) {
        return refused(job, &action, &shown, reason).await;
    }
    let store = &job.worker.node.ports.store;
    match store.start_action(job.tenant(), action.id, &action.digest).await? {
        ActionStart::Fresh => {
            let (ended, result) = execute_once(run, &action, &call, &shown).await?;
            tag_outcome(span, &result.outcome);
            finished(run, &action, &ended, result).await
        }
        ActionStart::Ended(ended) if ended.status == ApprovalStatus::Uncertain => {
            uncertain(job, &action, &shown).await
        }
        ActionStart::Ended(ended) => {
            let result = result_of(&call, &shown, &ended);
            finished(run, &action, &ended, result).await
        }
        ActionStart::Uncertain => uncertain(job, &action, &shown).await,
        ActionStart::NotApproved => {
            let text = format!("No approval of `{shown}` is stored. It did not run.");
            Ok(finish(RunStatus::Refused, "not_approved", text))
        }
    }
}

fn finish(status: RunStatus, reason: &'static str, answer: String) -> Next {
    Next::End { status, reason, answer }
}

fn by(decision: &Decision) -> String {
    let names: Vec<_> = decision.by.iter().map(|who| who.user.as_str()).collect();
    if names.is_empty() { String::new() } else { format!(" by {}", names.join(", ")) }
}

/// What those who decided said, without a full stop at its end.
fn said(job: &Job, decision: &Decision) -> String {
    let said = job.mask.apply(decision.reasons.join("; "));
    said.trim_end_matches('.').to_owned()
}

/// What differs between what was approved and what would run now; `None`: nothing.
fn mismatch(
    job: &Job,
    action: &HeldAction,
    call: &Call,
    decision: &Decision,
) -> Option<&'static str> {
    if action.compute_digest() != action.digest {
        return Some("the stored action was changed after it was held");
    }
    if decision.digest != action.digest {
        return Some("the decision is about another digest");
    }
    let task = &job.task;
    let mut now = action.clone();
    now.tenant = job.tenant().clone();
    now.flow = task.flow.clone();
    now.agent = task.agent.clone();
    now.run = task.run;
    now.revision = job.setup.revision().clone();
    now.command = hold::command(job, resolved(job, call));
    if now.compute_digest() != action.digest {
        return Some("the flow, its agent, the program or its environment changed meanwhile");
    }
    let too_late = action.expires_at_ms.saturating_add(START_GRACE_MS);
    if decision.decided_at_ms > action.expires_at_ms || job.now_ms() > too_late {
        return Some("its time is over");
    }
    None
}

/// The argv that the call means now; empty when it would not run at all.
fn resolved(job: &Job, call: &Call) -> Vec<String> {
    let search = tool::context::path(&job.setup.flow.context);
    let listed = tool::resolve::check_listed(&call.tool, job.setup.tools());
    let found = listed.and_then(|()| tool::resolve::resolve(&call.tool, search));
    match (tool::argv_of(call), found) {
        (Ok(mut argv), Ok(path)) => {
            argv[0] = path.to_string_lossy().into_owned();
            argv
        }
        _ => Vec::new(),
    }
}

async fn execute_once(
    run: &mut Run<'_>,
    action: &HeldAction,
    call: &Call,
    shown: &str,
) -> Result<(ActionEnd, ToolResult), Interrupted> {
    let job = run.job;
    *job.acting.lock().unwrap_or_else(PoisonError::into_inner) = Some(action.id);
    let event = end::started_event(job, action);
    // From here on the command runs whether or not the journal takes this at once.
    if let Err(error) = job.publish(vec![event.publication()?]).await {
        tracing::warn!(action.id = %action.id, error = %error, "start was not journaled");
    }
    run.stream.step(format!("approved; running `{shown}`")).await;
    let args = action.command.argv.get(1..).unwrap_or_default().to_vec();
    let (outcome, text) = execute(job, program(action), args, &call.tool).await;
    let status = match outcome {
        Outcome::Exited { code: 0 } => ApprovalStatus::Executed,
        _ => ApprovalStatus::Failed,
    };
    let said: String = match outcome {
        Outcome::Exited { code } => format!("exit code {code}\n{text}"),
        _ => text.clone(),
    };
    let said = said.trim_end().chars().take(OUTCOME_CHARS).collect();
    let ended = ActionEnd { status, outcome: said };
    record_end(job, action, &ended).await?;
    *job.acting.lock().unwrap_or_else(PoisonError::into_inner) = None;
    let result = ToolResult {
        call: call.id.clone(),
        tool: call.tool.clone(),
        command: shown.to_owned(),
        text,
        outcome,
    };
    Ok((ended, result))
}

/// Records the end of a command that ran, trying more than once: without the record it is
/// uncertain, though this worker knows.
async fn record_end(job: &Job, action: &HeldAction, ended: &ActionEnd) -> Result<(), Interrupted> {
    let store = &job.worker.node.ports.store;
    for _ in 1..RECORD_ATTEMPTS {
        match store.finish_action(job.tenant(), action.id, ended).await {
            Ok(()) => return Ok(()),
            Err(error) => tracing::warn!(action.id = %action.id, error = %error, "end not stored"),
        }
        tokio::time::sleep(RECORD_BACKOFF).await;
    }
    Ok(store.finish_action(job.tenant(), action.id, ended).await?)
}

/// The result of an action that ended in an earlier delivery, from what was kept of it.
fn result_of(call: &Call, shown: &str, ended: &ActionEnd) -> ToolResult {
    let (head, rest) = ended.outcome.split_once('\n').unwrap_or((&ended.outcome, ""));
    let code = head.strip_prefix("exit code ").and_then(|code| code.parse().ok());
    let (outcome, text) = match code {
        Some(code) => (Outcome::Exited { code }, rest),
        None => (Outcome::Failed, ended.outcome.as_str()),
    };
    ToolResult {
        call: call.id.clone(),
        tool: call.tool.clone(),
        command: shown.to_owned(),
        text: text.to_owned(),
        outcome,
    }
}

/// Journals the end, updates the card, and lets the turn go on with the result.
async fn finished(
    run: &mut Run<'_>,
    action: &HeldAction,
    ended: &ActionEnd,
    result: ToolResult,
) -> Result<Next, Interrupted> {
    end::journal(run.job, action, ended).await?;
    record(run, result, None).await?;
    Ok(Next::Go)
}

/// Never runs: what was approved is not what would run.
async fn refused(
    job: &Job,
    action: &HeldAction,
    shown: &str,
    reason: &str,
) -> Result<Next, Interrupted> {
    let ended = end::refused(reason);
    job.worker.node.ports.store.finish_action(job.tenant(), action.id, &ended).await?;
    end::journal(job, action, &ended).await?;
    let text = format!("`{shown}` was approved and still refused: {reason}. It did not run.");
    Ok(finish(RunStatus::Refused, "digest_mismatch", text))
}

/// Started once, end unknown: a person settles it.
async fn uncertain(job: &Job, action: &HeldAction, shown: &str) -> Result<Next, Interrupted> {
    end::journal(job, action, &end::stopped()).await?;
    let text = format!(
        "Uncertain: `{shown}` was started, and its worker stopped before its end was recorded. \
         It is not run again by itself: check what it did and settle it by hand (action {}).",
        action.id
    );
    Ok(Next::failed("uncertain", text))
}
