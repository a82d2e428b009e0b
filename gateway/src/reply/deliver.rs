//! One delivery of REPLIES: claimed, sent, journaled, settled.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::json;
use uuid::Uuid;

use aof_shared::event::EventType;
use aof_shared::ids::{PlatformName, ReplyId};
use aof_shared::message::{Reply, ReplyContent};
use aof_shared::queue::{Cause, Delivery, Publication, QueueError, Stored, Unconcluded};
use aof_shared::store::{Ports, Record, Recorded, Unrecorded};
use aof_shared::telemetry::{DeadLetterLabels, Metrics, ScopeLabels};
use aof_shared::trace::{Span, Tracer};

use super::cards::Cards;
use super::claim::{self, Sent, Stop};
use super::journal::{self, ROLE};
use super::port::{Body, Outlet, Piece, SendError};
use super::room::Room;

/// Attempts before a reply becomes a dead letter; with the backoff about two minutes.
const MAX_ATTEMPTS: u32 = 8;
/// First pause after a failed attempt; doubles each time.
const FIRST_PAUSE_MS: u64 = 500;
/// Longest pause between attempts.
const MAX_PAUSE_MS: u64 = 60_000;
/// Longest pause of a limit that is kept to without spreading it.
const EXACT_PAUSE_MS: u64 = 1_000;
/// Pause when the store or the queue is away.
const BACKEND_PAUSE_MS: u64 = 1_000;
/// Pause of a delivery whose account holds its share of places.
const BUSY_PAUSE_MS: u64 = 1_000;

/// Takes deliveries and settles them.
pub(crate) struct Desk {
    pub(crate) ports: Ports,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tracer: Tracer,
    pub(crate) outlets: HashMap<PlatformName, Arc<dyn Outlet>>,
    pub(crate) cards: Cards,
    pub(crate) room: Arc<Room>,
}

/// How a delivery is settled.
enum Verdict {
    /// It is over, once this is stored, with the record of what was sent last.
    Done { batch: Vec<Publication>, sent: Option<Record> },
    /// It comes again.
    Later { delay_ms: u64, cause: Cause },
}

impl Verdict {
    fn done(batch: Vec<Publication>) -> Self {
        Self::Done { batch, sent: None }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Done { .. } => "done",
            Self::Later { cause: Cause::Failed, .. } => "again",
            Self::Later { .. } => "later",
        }
    }
}

/// What sending all pieces of a reply came to.
#[derive(Default)]
struct Report {
    ids: Vec<String>,
    pieces: usize,
    chars: usize,
    unknown: Vec<String>,
    /// A card that people see already, or something newer.
    superseded: bool,
    /// A card that was posted just now and still waits for votes.
    decorate: Option<String>,
    /// The last piece was sent, which is to be recorded.
    unrecorded: Option<(ReplyId, Option<String>)>,
}

impl Desk {
    /// Sends what the delivery holds and settles it. Logs what goes wrong, once.
    pub(crate) async fn handle(&self, delivery: Delivery) {
        let mut span = self.tracer.process("gateway.reply.deliver", &delivery.message);
        let (verdict, decorate) = self.decide(&delivery, &mut span).await;
        span.tag("reply.outcome", &verdict.name());
        match verdict {
            Verdict::Done { batch, sent } => self.conclude(batch, sent, delivery).await,
            Verdict::Later { delay_ms, cause } => settled(delivery.nak(delay_ms, cause).await),
        }
        drop(span);
        if let Some((outlet, reply, id)) = decorate {
            outlet.decorate(&reply, &id).await;
        }
    }

    async fn decide(
        &self,
        delivery: &Delivery,
        span: &mut Span,
    ) -> (Verdict, Option<(Arc<dyn Outlet>, Reply, String)>) {
        let source = &delivery.message;
        let reply = match read(source) {
            Ok(reply) => reply,
            Err(detail) => {
                let why = ("unreadable", detail);
                return (self.give_up(source, None, why, delivery.failures).await, None);
            }
        };
        tag(span, &reply);
        let Some(outlet) = self.outlets.get(&reply.to.platform).map(Arc::clone) else {
            let detail = format!(
                "nothing here sends to {}; answer on a platform that is supported",
                reply.to.platform
            );
            let why = ("no_outlet", detail);
            return (self.give_up(source, Some(&reply), why, delivery.failures).await, None);
        };
        let Some(_seat) = self.room.enter(&reply.to) else {
            self.deferred("gateway/account");
            let delay_ms = spread(BUSY_PAUSE_MS, reply.id.0);
            return (Verdict::Later { delay_ms, cause: Cause::Deferred }, None);
        };
        match self.send_all(outlet.as_ref(), &reply).await {
            Ok(report) => {
                let decorate = report.decorate.clone().map(|id| (outlet, reply.clone(), id));
                (self.journal(source, &reply, report), decorate)
            }
            Err(stop) => {
                if let Some(reason) = stop.failure() {
                    span.fail(reason);
                }
                (Box::pin(self.stopped(source, &reply, stop, delivery.failures)).await, None)
            }
        }
    }

    async fn send_all(&self, outlet: &dyn Outlet, reply: &Reply) -> Result<Report, Stop> {
        let mut report = Report::default();
        for piece in self.pieces(outlet, reply).await? {
            let Some(piece) = piece else {
                report.superseded = true;
                continue;
            };
            self.record_earlier(reply, &mut report).await;
            report.pieces += 1;
            report.chars += piece.body.chars();
            match self.send_one(outlet, reply, &piece).await? {
                Sent::Unknown(reason) => report.unknown.push(reason),
                Sent::Before(id) => report.ids.extend(id),
                Sent::Now(posted) => {
                    if !outlet.repeatable(&piece.body) {
                        report.unrecorded = Some((piece.id, posted.id.clone()));
                    }
                    if let Body::Card { view, replaces: None } = &piece.body
                        && view.status == aof_shared::action::ApprovalStatus::Pending
                    {
                        report.decorate.clone_from(&posted.id);
                    }
                    report.ids.extend(posted.id);
                }
            }
        }
        Ok(report)
    }

    /// Records what was sent before the piece that was sent last: a crash while the next
    /// one is on its way must not leave two in doubt.
    async fn record_earlier(&self, reply: &Reply, report: &mut Report) {
        if let Some((piece, id)) = report.unrecorded.take() {
            let store = self.ports.store.as_ref();
            claim::finish(store, &reply.to.tenant, piece, id.as_deref()).await;
        }
    }

    /// The pieces of `reply`; `None` stands for a card that needs no drawing.
    async fn pieces(&self, outlet: &dyn Outlet, reply: &Reply) -> Result<Vec<Option<Piece>>, Stop> {
        let pieces = outlet.pieces(reply);
        let ReplyContent::Approval { view } = &reply.content else {
            return Ok(pieces.into_iter().map(Some).collect());
        };
        let body = self.cards.plan(&reply.to.tenant, view).await.map_err(Stop::Store)?;
        Ok(vec![body.map(|body| Piece { id: reply.id, body })])
    }

    async fn send_one(
        &self,
        outlet: &dyn Outlet,
        reply: &Reply,
        piece: &Piece,
    ) -> Result<Sent, Stop> {
        let wait_ms = outlet.wait_ms(reply, &piece.body);
        if wait_ms > 0 {
            let scope = format!("{}/pacing", reply.to.platform);
            return Err(Stop::Platform(SendError::Limited { retry_after_ms: wait_ms, scope }));
        }
        let sent = if outlet.repeatable(&piece.body) {
            match outlet.send(reply, piece).await {
                Ok(posted) => Sent::Now(posted),
                Err(SendError::Unknown { reason }) => {
                    return Err(Stop::Platform(SendError::Unavailable { reason }));
                }
                Err(SendError::Gone) => return self.repost(outlet, reply, piece).await,
                Err(error) => return Err(Stop::Platform(error)),
            }
        } else {
            let now_ms = self.ports.clock.now_ms();
            claim::send(self.ports.store.as_ref(), outlet, reply, piece, now_ms).await?
        };
        if let Sent::Now(posted) = &sent
            && let Err(error) = self.cards.shown(reply, &piece.body, posted).await
        {
            tracing::error!(tenant.id = %reply.to.tenant, %error,
                "a posted card could not be remembered: votes by reaction will not find it");
        }
        Ok(sent)
    }

    /// Posts a card anew whose message is gone.
    async fn repost(
        &self,
        outlet: &dyn Outlet,
        reply: &Reply,
        piece: &Piece,
    ) -> Result<Sent, Stop> {
        let Body::Card { view, replaces: Some(_) } = &piece.body else {
            return Err(Stop::Platform(SendError::Gone));
        };
        let body = Body::Card { view: view.clone(), replaces: None };
        Box::pin(self.send_one(outlet, reply, &Piece { id: piece.id, body })).await
    }

    fn journal(&self, source: &Stored, reply: &Reply, report: Report) -> Verdict {
        let now_ms = self.ports.clock.now_ms();
        let event = if report.unknown.is_empty() {
            let outcome = if report.superseded { "superseded" } else { "sent" };
            let more = json!({
                "outcome": outcome,
                "platform_id": report.ids.first(),
                "platform_ids": report.ids,
                "parts": report.pieces,
                "chars": report.chars,
            });
            journal::event(EventType::ReplySent, reply, source, now_ms, more)
        } else {
            tracing::warn!(tenant.id = %reply.to.tenant, reply.id = %reply.id,
                reason = %report.unknown.join("; "),
                "nobody knows whether a reply arrived; it is not sent again");
            let more = json!({
                "outcome": "unknown",
                "reason": "unknown",
                "detail": report.unknown.join("; "),
                "platform_ids": report.ids,
                "parts": report.pieces,
                "unknown_parts": report.unknown.len(),
            });
            journal::event(EventType::ReplyFailed, reply, source, now_ms, more)
        };
        let batch = written(event.publication().map(|publication| vec![publication]));
        let tenant = reply.to.tenant.clone();
        let sent = report.unrecorded.map(|(reply, platform_id)| Record::Sent {
            tenant,
            reply,
            platform_id,
        });
        Verdict::Done { batch, sent }
    }

    /// Decides what follows from a piece that was not sent.
    async fn stopped(&self, source: &Stored, reply: &Reply, stop: Stop, failures: u32) -> Verdict {
        let error = match stop {
            Stop::Store(error) => {
                tracing::warn!(%error, "replies wait for the store");
                return later(BACKEND_PAUSE_MS, reply.id.0, Cause::Deferred);
            }
            Stop::Platform(error) => error,
        };
        match error {
            SendError::Limited { retry_after_ms, scope } => {
                self.deferred(&scope);
                // A channel's own second is kept to; what many wait for together is spread.
                if retry_after_ms <= EXACT_PAUSE_MS {
                    let delay_ms = retry_after_ms.max(1);
                    return Verdict::Later { delay_ms, cause: Cause::Deferred };
                }
                later(retry_after_ms, reply.id.0, Cause::Deferred)
            }
            SendError::Refused { reason, detail } => {
                self.give_up(source, Some(reply), (reason, detail), failures).await
            }
            SendError::Unavailable { reason } if failures + 1 < MAX_ATTEMPTS => {
                tracing::info!(tenant.id = %reply.to.tenant, reply.id = %reply.id, reason,
                    failures, "reply is tried again later");
                let pause = FIRST_PAUSE_MS << failures.min(16);
                later(pause.min(MAX_PAUSE_MS), reply.id.0, Cause::Failed)
            }
            error @ (SendError::Unavailable { .. }
            | SendError::Gone
            | SendError::Unknown { .. }) => {
                let detail = format!("{error}; gave up after {} attempts", failures + 1);
                self.give_up(source, Some(reply), ("unavailable", detail), failures + 1).await
            }
        }
    }

    /// Makes a dead letter of it, with the reason and what to do.
    async fn give_up(
        &self,
        source: &Stored,
        reply: Option<&Reply>,
        why: (&'static str, String),
        failures: u32,
    ) -> Verdict {
        let now_ms = self.ports.clock.now_ms();
        let (reason, detail) = (why.0, why.1.clone());
        tracing::error!(tenant.id = %source.subject.tenant(), reason, detail,
            "reply cannot be sent; see `aofctl dead-letters list`");
        let event = reply.map(|reply| {
            let more = json!({"outcome": "not_sent", "reason": reason, "detail": detail,
                "attempts": failures});
            journal::event(EventType::ReplyFailed, reply, source, now_ms, more)
        });
        let batch = journal::dead_letter(source, reply, why, failures, now_ms).and_then(|dead| {
            let event = event.map(|event| event.publication()).transpose()?;
            Ok(std::iter::once(dead).chain(event).collect())
        });
        let verdict = self.publish(written(batch)).await;
        if matches!(verdict, Verdict::Done { .. }) {
            let labels = DeadLetterLabels { role: ROLE.to_owned(), reason: reason.to_owned() };
            self.metrics.dead_letters.get_or_create(&labels).inc();
        }
        verdict
    }

    /// Records what was `sent`, publishes `batch`, and acks.
    async fn conclude(&self, batch: Vec<Publication>, sent: Option<Record>, delivery: Delivery) {
        let (batch, deliveries) = match sent {
            Some(sent) => match self.record(&sent, batch, delivery).await {
                Some(next) => next,
                None => return,
            },
            None => (batch, vec![delivery]),
        };
        let concluded = self.ports.queue.conclude(batch, deliveries).await;
        let Err(Unconcluded { error, deliveries }) = concluded else { return };
        for held in deliveries {
            settled(match &error {
                QueueError::TooLarge { bytes, .. } => {
                    tracing::error!(bytes, "an event is too large; the reply is settled without");
                    held.ack().await
                }
                error => {
                    tracing::warn!(%error, "replies wait for the queue");
                    held.nak(BACKEND_PAUSE_MS, Cause::Deferred).await
                }
            });
        }
    }

    /// Records what was sent, and concludes where that is one commit. Gives back what is
    /// to be concluded still.
    async fn record(
        &self,
        sent: &Record,
        batch: Vec<Publication>,
        delivery: Delivery,
    ) -> Option<(Vec<Publication>, Vec<Delivery>)> {
        match self.ports.record(sent, batch, vec![delivery]).await {
            Ok(Recorded::Concluded | Recorded::EndedBefore(_)) => None,
            Ok(Recorded::Written(batch, deliveries)) => Some((batch, deliveries)),
            Err(Unrecorded { batch, deliveries, .. }) => {
                if let Record::Sent { tenant, reply, platform_id } = sent {
                    let store = self.ports.store.as_ref();
                    claim::finish(store, tenant, *reply, platform_id.as_deref()).await;
                }
                Some((batch, deliveries))
            }
        }
    }

    /// Publishes what was decided; the delivery is over only when that is stored.
    async fn publish(&self, batch: Vec<Publication>) -> Verdict {
        match self.ports.queue.publish(batch).await {
            Ok(_) => Verdict::done(Vec::new()),
            Err(QueueError::TooLarge { bytes, .. }) => {
                tracing::error!(bytes, "an event is too large; the reply is settled without");
                Verdict::done(Vec::new())
            }
            Err(error) => {
                tracing::warn!(%error, "replies wait for the queue");
                Verdict::Later { delay_ms: BACKEND_PAUSE_MS, cause: Cause::Deferred }
            }
        }
    }

    fn deferred(&self, scope: &str) {
        let labels = ScopeLabels { scope: scope.to_owned() };
        self.metrics.deferrals.get_or_create(&labels).inc();
    }
}

/// Says what a reply is about.
fn tag(span: &mut Span, reply: &Reply) {
    span.tag("message.id", &reply.message)
        .tag("reply.id", &reply.id)
        .tag("reply.kind", &journal::status(&reply.content))
        .tag("platform", &reply.to.platform);
    if let Some(run) = &reply.run {
        span.tag("run.id", run);
    }
    if let ReplyContent::Approval { view } = &reply.content {
        span.tag("action.id", &view.id);
    }
}

/// What could be written of a batch.
fn written(batch: Result<Vec<Publication>, serde_json::Error>) -> Vec<Publication> {
    batch.unwrap_or_else(|error| {
        tracing::error!(%error, "an event could not be written; the reply is settled");
        Vec::new()
    })
}

/// A delivery that could not be settled comes again, and its claims say what was sent.
fn settled(outcome: Result<(), QueueError>) {
    if let Err(error) = outcome {
        tracing::warn!(%error, "reply could not be settled");
    }
}

/// Reads a reply and checks that it stays within its subject's tenant and platform.
fn read(source: &Stored) -> Result<Reply, String> {
    let reply: Reply =
        serde_json::from_slice(&source.payload).map_err(|e| format!("not a reply: {e}"))?;
    let subject = &source.subject;
    if &reply.to.tenant != subject.tenant() || reply.to.platform.as_str() != subject.rest() {
        return Err(format!("a reply to {} of {}", reply.to.platform, reply.to.tenant));
    }
    Ok(reply)
}

fn later(pause_ms: u64, id: Uuid, cause: Cause) -> Verdict {
    Verdict::Later { delay_ms: spread(pause_ms, id), cause }
}

/// `pause_ms` and up to half of it more, so that replies that failed together do not come
/// back together. Drawn from the id: the same reply always keeps its place.
fn spread(pause_ms: u64, id: Uuid) -> u64 {
    let (_, low) = id.as_u64_pair();
    pause_ms + low % (pause_ms / 2).max(1)
}
