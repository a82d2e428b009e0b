//! What a vote or a decision says: events, cards, the decision task. Builds only; no I/O but `settle`.

use aof_shared::action::{Approval, ApprovalStatus, Choice, Decision, HeldAction, Identity};
use aof_shared::clock::UnixMs;
use aof_shared::event::{Event, EventType};
use aof_shared::ids::{EventId, ReplyId};
use aof_shared::message::{Priority, Reply, ReplyContent};
use aof_shared::queue::Publication;
use aof_shared::store::Settlement;
use aof_shared::subject::{Stream, Subject};
use aof_shared::trace::{CAUSATION, Span, SpanKind, TRACEPARENT, TraceContext};
use serde_json::json;

use crate::chain;
use crate::desk::{Desk, HandleError};
use crate::quorum::tally;

/// Reasons that a requester is told of one decision.
const MAX_REASONS: usize = 10;
/// Longest of them, in characters.
const MAX_REASON_CHARS: usize = 500;

/// A decision about to be made.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// `Approved`, `Denied` or `Expired`.
    pub(crate) status: ApprovalStatus,
    /// Who decided; empty when nobody did.
    pub(crate) by: Vec<Identity>,
    /// Why, where nobody decided.
    pub(crate) reason: Option<String>,
}

/// What a publication came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) trace: TraceContext,
    pub(crate) cause: EventId,
}

/// Says what a span is about.
pub(crate) fn tag(span: &mut Span, action: &HeldAction) {
    span.tag("tenant.id", &action.tenant)
        .tag("flow.name", &action.flow)
        .tag("message.id", &action.message().id)
        .tag("run.id", &action.run)
        .tag("action.id", &action.id)
        .tag("revision", &action.revision);
}

/// The id of the event that told that `action` is held; see ARCHITECTURE.md, *Event ids*.
pub(crate) fn held_event(action: &HeldAction) -> EventId {
    EventId::derive(action.id.0, "held")
}

/// Why `action` must never run, whoever approves; `None` where it may.
pub(crate) fn flaw(action: &HeldAction) -> Option<String> {
    if action.digest != action.compute_digest() {
        return Some("its digest does not match what would run".to_owned());
    }
    if action.task.run != action.run || action.task.flow != action.flow {
        return Some("its task belongs to another run".to_owned());
    }
    chain::check_reachable(&action.quorum, &action.requester).err().map(|e| e.to_string())
}

/// An event about `action`.
pub(crate) fn event(action: &HeldAction, id: EventId, kind: EventType, at_ms: UnixMs) -> Event {
    Event::new(id, &action.tenant, kind, at_ms)
        .about(action.message())
        .of_run(action.run)
        .under(&action.revision)
}

/// `event` as a publication in its trace, after its cause.
pub(crate) fn journal(event: Event, origin: Origin) -> Result<Publication, serde_json::Error> {
    let mut event = event.caused_by(origin.cause);
    event.trace_id = Some(origin.trace.trace_id());
    Ok(with_headers(event.publication()?, origin))
}

fn with_headers(publication: Publication, origin: Origin) -> Publication {
    publication
        .with_header(TRACEPARENT, origin.trace.traceparent())
        .with_header(CAUSATION, origin.cause.to_string())
}

/// The message in the channel as it should look from `version` on.
pub(crate) fn card(
    approval: &Approval,
    missing: u32,
    version: u64,
    origin: Origin,
) -> Result<Publication, serde_json::Error> {
    let action = &approval.action;
    let to = action.address();
    let key = format!("{}/{}/{}", to.platform, to.instance, to.channel);
    let subject = Subject::reply(&action.tenant, &to.platform);
    let reply = Reply {
        id: ReplyId::derive(action.id.0, &format!("card-{version}")),
        to,
        message: action.message().id,
        run: Some(action.run),
        content: ReplyContent::Approval { view: Box::new(approval.view(missing, version)) },
    };
    let publication = Publication::json(subject, reply.id.0, &reply)?.ordered_by(key);
    Ok(with_headers(publication, origin))
}

/// The task that tells a worker to go on; one an action, whatever decides it.
fn decision_task(
    action: &HeldAction,
    decision: Decision,
    origin: Origin,
) -> Result<Publication, serde_json::Error> {
    let mut task = (*action.task).clone();
    task.priority = Priority::Critical;
    task.decision = Some(decision);
    let id = EventId::derive(action.id.0, "decision").0;
    let key = task.message.ordering_key();
    let subject = Subject::task(&action.tenant, &action.flow);
    let mut publication = Publication::json(subject, id, &task)?.ordered_by(key);
    publication.priority = Priority::Critical;
    Ok(with_headers(publication, origin))
}

fn decided_event(approval: &Approval, verdict: &Verdict, at_ms: UnixMs) -> Event {
    let action = &approval.action;
    let reasons = reasons(approval, verdict);
    let kind = match verdict.status {
        ApprovalStatus::Approved => EventType::ActionApproved,
        ApprovalStatus::Expired => EventType::ActionExpired,
        _ => EventType::ActionDenied,
    };
    let id = EventId::derive(action.id.0, "decided");
    event(action, id, kind, at_ms).with(json!({
        "action_id": action.id,
        "flow": action.flow,
        "agent": action.agent,
        "argv": action.command.argv,
        "digest": action.digest,
        "chain": action.quorum.chain,
        "require": action.quorum.require,
        "by": verdict.by,
        "reason": verdict.reason,
        "reasons": reasons,
    }))
}

/// What the requester is told of it: what those who denied it said, or how far it came.
fn reasons(approval: &Approval, verdict: &Verdict) -> Vec<String> {
    let mut reasons: Vec<String> = verdict.reason.iter().cloned().collect();
    let action = &approval.action;
    match verdict.status {
        ApprovalStatus::Denied => {
            let denied = approval
                .votes
                .iter()
                .filter(|v| v.choice == Choice::Deny && verdict.by.contains(&v.voter));
            let said = denied.filter_map(|v| v.reason.as_deref()).map(one_line);
            reasons.extend(said.filter(|said| !said.is_empty()).take(MAX_REASONS));
        }
        ApprovalStatus::Expired => {
            let require = action.quorum.require;
            let tally = tally(&action.quorum, &action.requester, &approval.votes);
            let agreed = require.saturating_sub(tally.missing());
            if agreed > 0 {
                reasons.push(format!("{agreed} of {require} approved before it expired"));
            }
        }
        _ => {}
    }
    reasons
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(MAX_REASON_CHARS).collect()
}

/// Everything that a decision publishes: the task first, people's view last.
fn consequences(
    approval: &Approval,
    verdict: &Verdict,
    at_ms: UnixMs,
    origin: Origin,
) -> Result<[Publication; 3], serde_json::Error> {
    let action = &approval.action;
    let decision = Decision {
        action: action.id,
        outcome: verdict.status,
        digest: action.digest.clone(),
        by: verdict.by.clone(),
        reasons: reasons(approval, verdict),
        decided_at_ms: at_ms,
    };
    let decided = decided_event(approval, verdict, at_ms);
    let after = Origin { cause: decided.id, ..origin };
    let mut shown = approval.clone();
    shown.status = verdict.status;
    shown.decided_at_ms = Some(at_ms);
    shown.outcome.clone_from(&verdict.reason);
    Ok([
        decision_task(action, decision, after)?,
        journal(decided, origin)?,
        // One more than `at_ms`: a vote recorded in this millisecond shows an older state.
        card(&shown, 0, at_ms + 1, after)?,
    ])
}

/// Makes the decision, once: compare-and-set with its consequences in the outbox, after
/// `also`. `false`: somebody was first, and nothing was written.
pub(crate) async fn settle(
    desk: &Desk,
    approval: &Approval,
    verdict: Verdict,
    origin: Origin,
    also: Vec<Publication>,
) -> Result<bool, HandleError> {
    let action = &approval.action;
    let at_ms = desk.now_ms();
    let opening = desk.tracer.span("approver.decide", SpanKind::Producer);
    let mut span = opening.under(Some(origin.trace)).start();
    tag(&mut span, action);
    span.tag_published(Stream::Tasks).tag("approval.status", &verdict.status.as_str());
    let origin = Origin { trace: span.context(), ..origin };
    let mut outbox = also;
    outbox.extend(consequences(approval, &verdict, at_ms, origin)?);
    let settlement = Settlement { status: verdict.status, at_ms, outbox };
    let settled = desk.ports.store.settle(&action.tenant, action.id, &settlement).await;
    desk.settled.notify_one(); // an error may hide a commit
    if settled? {
        desk.count_approval(action.flow.as_str(), verdict.status.as_str());
        tracing::info!(
            tenant.id = %action.tenant,
            flow.name = %action.flow,
            action.id = %action.id,
            status = verdict.status.as_str(),
            waited_ms = at_ms.saturating_sub(action.held_at_ms),
            reason = verdict.reason,
            trace_id = %origin.trace.trace_id(),
            "action decided"
        );
        return Ok(true);
    }
    Ok(false)
}
