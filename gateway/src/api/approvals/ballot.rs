//! Casts a vote and waits for what the approver says about it.

use std::time::Duration;

use aof_shared::action::{Choice, Identity, Vote, VoteTarget};
use aof_shared::event::{Event, EventType};
use aof_shared::ids::{ActionId, EventId, TenantId};
use aof_shared::queue::{QueueError, ReadRange};
use aof_shared::subject::Stream;
use aof_shared::trace::TraceContext;
use tokio::time::Instant;
use uuid::Uuid;

use crate::app::App;
use crate::ingress::{VotePublication, publish_vote};

/// How long the approver gets to answer before the vote is reported as cast.
const ANSWER_WAIT_MS: u64 = 5_000;
/// How long one read of the journal waits.
const READ_WAIT_MS: u64 = 500;
/// Events read at once.
const PAGE: usize = 128;

/// A vote to cast.
pub(super) struct Ballot {
    pub(super) tenant: TenantId,
    pub(super) action: ActionId,
    pub(super) voter: Identity,
    pub(super) choice: Choice,
    pub(super) reason: Option<String>,
    pub(super) trace: TraceContext,
}

/// What became of a vote.
pub(super) enum Verdict {
    /// It counts.
    Counted,
    /// It does not, and why.
    Rejected(String),
    /// The approver has not answered; the vote is durable.
    Open,
}

impl Ballot {
    /// Publishes the vote, then reads the journal for the event that names it as cause.
    ///
    /// # Errors
    /// [`QueueError`] when it was not cast.
    pub(super) async fn cast(self, app: &App) -> Result<Verdict, QueueError> {
        let queue = &app.node.ports.queue;
        let (_, mut after_seq) = queue.bounds(Stream::Events).await?;
        let id = Uuid::now_v7();
        let tenant = self.tenant.clone();
        let vote = Vote {
            target: VoteTarget::Action { id: self.action },
            voter: self.voter,
            choice: self.choice,
            reason: self.reason,
            cast_at_ms: app.now_ms(),
        };
        publish_vote(app, VotePublication { tenant, id, vote, trace: self.trace }).await?;
        let deadline = Instant::now() + Duration::from_millis(ANSWER_WAIT_MS);
        while Instant::now() < deadline && !app.node.lifecycle.stopping() {
            let kinds = [EventType::ApprovalVoted, EventType::ApprovalVoteRejected];
            let range = ReadRange {
                tenant: Some(self.tenant.clone()),
                rests: kinds.map(|k| k.name().to_owned()).to_vec(),
                after_seq,
                ..ReadRange::default()
            };
            // The vote is durable by now: what goes wrong from here on only delays the answer.
            let Ok(page) = queue.read(Stream::Events, range, PAGE, READ_WAIT_MS).await else {
                return Ok(Verdict::Open);
            };
            after_seq = page.last().map_or(after_seq, |s| s.seq);
            let events = page.iter().filter_map(|s| Event::from_stored(s).ok());
            if let Some(verdict) = events.filter_map(|e| verdict_of(&e, EventId(id))).next() {
                return Ok(verdict);
            }
        }
        Ok(Verdict::Open)
    }
}

fn verdict_of(event: &Event, cause: EventId) -> Option<Verdict> {
    if event.causation_id != Some(cause) && event.id != EventId::derive(cause.0, "vote") {
        return None;
    }
    if event.kind == EventType::ApprovalVoted {
        return Some(Verdict::Counted);
    }
    let why = event.data.get("why").and_then(|v| v.as_str()).unwrap_or("not counted");
    Some(Verdict::Rejected(why.to_owned()))
}
