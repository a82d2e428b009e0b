//! One vote: finds what it is about, refuses what does not count, records it, and decides.
//!
//! Handling a vote again changes nothing: its event's id is derived from its delivery,
//! a recorded vote is recognised, and the decision is a compare-and-set.

use aof_shared::action::{
    Approval, ApprovalStatus, Choice, Identity, RecordedVote, Vote, VoteTarget,
};
use aof_shared::clock::UnixMs;
use aof_shared::event::{Event, EventType};
use aof_shared::ids::{ActionId, EventId, TenantId};
use aof_shared::message::Address;
use aof_shared::queue::{Publication, Stored};
use aof_shared::store::ApprovalFilter;
use aof_shared::trace::{Continued, Span, SpanKind, TraceContext, causation};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::chain;
use crate::decide::{self, Origin, Verdict};
use crate::desk::{Desk, HandleError};
use crate::hold::Handled;
use crate::quorum::{Tally, tally};

/// How long a vote waits for its action to be stored or its card to be posted, in ms.
const PATIENCE_MS: u64 = 15_000;
/// Shortest and longest pause between two looks, in ms. The pause grows with the vote's
/// age, so there are at most about eight looks.
const LOOK_AGAIN_MS: (u64, u64) = (250, 4_000);
/// Pending approvals of a tenant looked through for one whose card is being posted.
const UNPOSTED_LOOKED_AT: usize = 100;

/// What a vote is about.
pub(crate) enum Found {
    /// This action, if it is stored.
    Action(ActionId),
    /// An action or card that may come up within moments.
    NotYet {
        /// When to look again.
        delay_ms: u64,
    },
    /// A message that shows no approval: most reactions.
    Unrelated,
}

/// A vote whose action is known.
pub(crate) struct Ballot {
    id: ActionId,
    vote: RecordedVote,
    /// The delivery's dedupe id: one event a vote, however often it is delivered.
    delivery: Uuid,
    published_at_ms: UnixMs,
    /// What the gateway saw; the vote's own span once that is open.
    trace: TraceContext,
    cause: Option<EventId>,
}

impl Ballot {
    pub(crate) fn new(id: ActionId, vote: Vote, source: &Stored) -> Self {
        let Vote { target: _, voter, choice, reason, cast_at_ms } = vote;
        Self {
            id,
            vote: RecordedVote { voter, choice, reason, cast_at_ms },
            delivery: source.id,
            published_at_ms: source.published_at_ms,
            trace: TraceContext::of(&source.headers),
            cause: causation(&source.headers),
        }
    }
}

/// Why a vote is not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Rejection {
    #[error("there is no such action")]
    Unknown,
    #[error("{}", .0.reason())]
    NotCounted(chain::NotCounted),
    #[error("it is {} already", .0.as_str())]
    Decided(ApprovalStatus),
    #[error("its time is over")]
    Expired,
    #[error("the same person voted again since")]
    Superseded,
    #[error("there is no vote of theirs to take back")]
    NothingToWithdraw,
}

/// Finds the action of a vote. Reads only: reactions on other messages cost nothing more.
pub(crate) async fn find(desk: &Desk, source: &Stored, vote: &Vote) -> Result<Found, HandleError> {
    let (at, message) = match &vote.target {
        VoteTarget::Action { id } => return Ok(Found::Action(*id)),
        VoteTarget::Posted { at, message } => (at, message),
    };
    let tenant = source.subject.tenant();
    if &at.tenant != tenant {
        return Err(HandleError::Foreign { named: at.tenant.to_string() });
    }
    let store = &desk.ports.store;
    if let Some(approval) = store.approval_posted_as(at, message).await? {
        return Ok(Found::Action(approval.action.id));
    }
    // A card that was just sent is not known by its platform id yet.
    let filter =
        ApprovalFilter { status: Some(ApprovalStatus::Pending), limit: UNPOSTED_LOOKED_AT };
    let pending = store.approvals(tenant, &filter).await?;
    let mut here = pending.iter().filter(|a| same_channel(&a.action.address(), at));
    if let Some(approval) = here.clone().find(|a| a.posted.as_ref() == Some(message)) {
        return Ok(Found::Action(approval.action.id));
    }
    if here.any(|a| a.posted.is_none())
        && let Some(delay_ms) = look_again(desk.now_ms(), source.published_at_ms)
    {
        return Ok(Found::NotYet { delay_ms });
    }
    Ok(Found::Unrelated)
}

fn same_channel(a: &Address, b: &Address) -> bool {
    (&a.tenant, &a.platform, &a.instance, &a.channel)
        == (&b.tenant, &b.platform, &b.instance, &b.channel)
}

/// The pause before the next look; `None` once the vote has waited long enough.
fn look_again(now_ms: UnixMs, published_at_ms: UnixMs) -> Option<u64> {
    let age_ms = now_ms.saturating_sub(published_at_ms);
    (age_ms < PATIENCE_MS).then(|| age_ms.clamp(LOOK_AGAIN_MS.0, LOOK_AGAIN_MS.1))
}

/// Records a vote if it counts, and makes the decision if it is the last one needed.
pub(crate) async fn cast(
    desk: &Desk,
    tenant: &TenantId,
    mut ballot: Ballot,
) -> Result<Handled, HandleError> {
    // Read before the vote is recorded: a card of a later state has a later version.
    let now_ms = desk.now_ms();
    let Some(approval) = desk.ports.store.approval(tenant, ballot.id).await? else {
        if let Some(delay_ms) = look_again(now_ms, ballot.published_at_ms) {
            return Ok(Handled::Later(delay_ms));
        }
        return reject(desk, tenant, None, &ballot, Rejection::Unknown).await;
    };
    let mut span = open(desk, &approval, &ballot, now_ms);
    ballot.trace = span.context();
    let handled = counted_or_not(desk, approval, &ballot, now_ms).await;
    if handled.is_err() {
        span.fail("not_recorded");
    }
    handled
}

/// The vote's span: in the trace of what it is about, linked to what the gateway saw.
fn open(desk: &Desk, approval: &Approval, ballot: &Ballot, now_ms: UnixMs) -> Span {
    let action = &approval.action;
    let waited_ms = now_ms.saturating_sub(action.held_at_ms);
    let at = Continued::after(action.trace(), waited_ms, Some(ballot.trace));
    let opening = desk.tracer.span("approver.vote", SpanKind::Consumer);
    let mut span = opening.under(at.parent).linked(at.link).start();
    decide::tag(&mut span, action);
    span
}

async fn counted_or_not(
    desk: &Desk,
    approval: Approval,
    ballot: &Ballot,
    now_ms: UnixMs,
) -> Result<Handled, HandleError> {
    let tenant = &approval.action.tenant;
    if let Err(rejection) = admit(&approval, &ballot.vote, now_ms) {
        if rejection == Rejection::Expired {
            desk.held.notify_one();
        }
        return reject(desk, tenant, Some(&approval), ballot, rejection).await;
    }
    if approval.status != ApprovalStatus::Pending {
        // This very vote was recorded by an earlier delivery; the decision has followed.
        let voted = voted(&approval, ballot, now_ms)?;
        desk.publish(vec![voted]).await?;
        return Ok(Handled::Done);
    }
    if repeats(&approval, &ballot.vote) {
        return Ok(Handled::Done); // counted and journaled before
    }
    match desk.ports.store.record_vote(tenant, ballot.id, &ballot.vote).await? {
        Some(approval) => count(desk, approval, ballot, now_ms).await,
        // Decided in between: look again, and say so.
        None => Ok(Handled::Later(0)),
    }
}

/// Whether the voter said just this before. A redelivered vote is not one: it has the time
/// of the recorded one, and its decision may still be missing.
fn repeats(approval: &Approval, vote: &RecordedVote) -> bool {
    let own = approval.votes.iter().filter(|before| is_same_account(before, vote));
    own.max_by_key(|before| before.cast_at_ms).is_some_and(|before| {
        before.choice == vote.choice
            && before.cast_at_ms != vote.cast_at_ms
            && (vote.reason.is_none() || before.reason == vote.reason)
    })
}

/// Whether both are one person's on one platform, by whatever id it calls them.
fn is_same_account(a: &RecordedVote, b: &RecordedVote) -> bool {
    a.voter.platform == b.voter.platform && a.voter.is_same_human(&b.voter)
}

/// Whether a vote counts on an approval as it stands.
fn admit(approval: &Approval, vote: &RecordedVote, now_ms: UnixMs) -> Result<(), Rejection> {
    let action = &approval.action;
    let listed = match vote.choice {
        Choice::Approve => chain::may_approve(&action.quorum, &action.requester, &vote.voter),
        Choice::Deny | Choice::Withdraw if chain::is_listed(&action.quorum, &vote.voter) => Ok(()),
        Choice::Deny | Choice::Withdraw => Err(chain::NotCounted::NotListed),
    };
    listed.map_err(Rejection::NotCounted)?;
    let recorded = approval.votes.contains(vote);
    if approval.status != ApprovalStatus::Pending {
        return if recorded { Ok(()) } else { Err(Rejection::Decided(approval.status)) };
    }
    if now_ms >= action.expires_at_ms {
        return Err(Rejection::Expired);
    }
    let own = |v: &RecordedVote| is_same_account(v, vote);
    if approval.votes.iter().any(|v| own(v) && v.cast_at_ms > vote.cast_at_ms) {
        return Err(Rejection::Superseded);
    }
    let standing = |v: &RecordedVote| own(v) && v.choice != Choice::Withdraw;
    if vote.choice == Choice::Withdraw && !recorded && !approval.votes.iter().any(standing) {
        return Err(Rejection::NothingToWithdraw);
    }
    Ok(())
}

/// Decides if the quorum is reached now; else shows the new state.
async fn count(
    desk: &Desk,
    approval: Approval,
    ballot: &Ballot,
    version: u64,
) -> Result<Handled, HandleError> {
    let action = &approval.action;
    let voted = voted(&approval, ballot, version)?;
    let origin = Origin { cause: vote_event(ballot), ..origin(&approval, ballot) };
    let verdict = match tally(&action.quorum, &action.requester, &approval.votes) {
        Tally::Pending { missing } => {
            let card = decide::card(&approval, missing, version, origin)?;
            desk.publish(vec![voted, card]).await?;
            return Ok(Handled::Done);
        }
        Tally::Denied { by } => Verdict { status: ApprovalStatus::Denied, by, reason: None },
        Tally::Approved { by } => match decide::flaw(action) {
            None => Verdict { status: ApprovalStatus::Approved, by, reason: None },
            reason => Verdict { status: ApprovalStatus::Denied, by: Vec::new(), reason },
        },
    };
    if !decide::settle(desk, &approval, verdict, origin, vec![voted.clone()]).await? {
        desk.publish(vec![voted]).await?; // it was counted, though something else decided
    }
    Ok(Handled::Done)
}

/// Journals a vote that does not count, and nothing else.
async fn reject(
    desk: &Desk,
    tenant: &TenantId,
    approval: Option<&Approval>,
    ballot: &Ballot,
    rejection: Rejection,
) -> Result<Handled, HandleError> {
    let kind = EventType::ApprovalVoteRejected;
    let (id, at_ms) = (vote_event(ballot), desk.now_ms());
    let mut data = vote_data(ballot);
    data["why"] = json!(rejection.to_string());
    let publication = match approval {
        Some(approval) => decide::journal(
            decide::event(&approval.action, id, kind, at_ms).with(data),
            origin(approval, ballot),
        )?,
        None => {
            let mut event = Event::new(id, tenant, kind, at_ms).with(data);
            event.causation_id = ballot.cause;
            event.trace_id = Some(ballot.trace.trace_id());
            event.publication()?
        }
    };
    desk.publish(vec![publication]).await?;
    tracing::info!(
        tenant.id = %tenant,
        action.id = %ballot.id,
        voter = identity_text(&ballot.vote.voter),
        why = %rejection,
        "vote rejected"
    );
    Ok(Handled::Done)
}

fn identity_text(identity: &Identity) -> String {
    format!("{}:{}", identity.platform, identity.user)
}

/// One id for a vote's event, counted or not: a redelivery journals no second one.
fn vote_event(ballot: &Ballot) -> EventId {
    EventId::derive(ballot.delivery, "vote")
}

fn voted(
    approval: &Approval,
    ballot: &Ballot,
    at_ms: UnixMs,
) -> Result<Publication, serde_json::Error> {
    let action = &approval.action;
    let mut data = vote_data(ballot);
    data["digest"] = json!(action.digest);
    data["missing"] = json!(tally(&action.quorum, &action.requester, &approval.votes).missing());
    let kind = EventType::ApprovalVoted;
    let event = decide::event(action, vote_event(ballot), kind, at_ms).with(data);
    decide::journal(event, origin(approval, ballot))
}

fn vote_data(ballot: &Ballot) -> Value {
    let RecordedVote { voter, choice, reason, cast_at_ms } = &ballot.vote;
    json!({
        "action_id": ballot.id,
        "voter": voter,
        "choice": choice,
        "reason": reason,
        "cast_at_ms": cast_at_ms,
    })
}

/// The vote's span, caused by what the gateway saw, else by the holding.
fn origin(approval: &Approval, ballot: &Ballot) -> Origin {
    let action = &approval.action;
    Origin {
        trace: ballot.trace,
        cause: ballot.cause.unwrap_or_else(|| decide::held_event(action)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{NOW_MS, TIMEOUT_MS, action, vote};

    fn check(votes: &[&str], cast: &str, now_ms: u64, expected: Result<(), Rejection>) {
        let votes = votes.iter().map(|v| vote(v)).collect();
        let status = ApprovalStatus::Pending;
        let approval = Approval {
            action: action(),
            votes,
            status,
            decided_at_ms: None,
            outcome: None,
            posted: None,
        };
        assert_eq!(admit(&approval, &vote(cast), now_ms), expected, "{cast} at {now_ms}");
    }

    #[test]
    fn only_what_counts_is_admitted() {
        let stranger = Err(Rejection::NotCounted(chain::NotCounted::NotListed));
        check(&[], "slack/a + 1", NOW_MS, Ok(()));
        check(&[], "slack/x + 1", NOW_MS, stranger);
        check(&[], "slack/x - 1", NOW_MS, stranger);
        check(&[], "slack/me + 1", NOW_MS, stranger);
        check(&[], "slack/a + 1", NOW_MS + TIMEOUT_MS - 1, Ok(()));
        check(&[], "slack/a + 1", NOW_MS + TIMEOUT_MS, Err(Rejection::Expired));
        check(&["slack/a 0 5"], "slack/a + 4", NOW_MS, Err(Rejection::Superseded));
        check(&["slack/a + 5"], "slack/a 0 6", NOW_MS, Ok(()));
        check(&["slack/b + 5"], "slack/a 0 6", NOW_MS, Err(Rejection::NothingToWithdraw));
        check(&["slack/a 0 5"], "slack/a 0 6", NOW_MS, Err(Rejection::NothingToWithdraw));
        check(&["slack/a 0 5"], "slack/a 0 5", NOW_MS, Ok(()));
        // Recorded in time, but the crash before its decision outlasted the expiry.
        check(&["slack/a + 5"], "slack/a + 5", NOW_MS + TIMEOUT_MS, Err(Rejection::Expired));
    }

    #[test]
    fn a_vote_waits_for_its_card_a_bounded_number_of_times() {
        let (mut now_ms, mut looks) = (NOW_MS, 0);
        while let Some(delay_ms) = look_again(now_ms, NOW_MS) {
            (now_ms, looks) = (now_ms + delay_ms, looks + 1);
            assert!(looks < 12, "must end");
        }
        assert!(now_ms - NOW_MS >= PATIENCE_MS && looks <= 9, "{looks} looks");
    }
}
