//! This process's part in a consumer: stands for election while somebody here holds it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::clock::UnixMs;
use crate::queue::{BoxError, ConsumerSpec};
use crate::subject::Stream;

use super::connect::Link;
use super::desk::Desk;
use super::lead::{Seat, connects};
use super::leader::{End, Leader};
use super::message::Incoming;
use super::protocol::Terms;

/// Time between two looks whether the leader's key is free.
const LOOK: Duration = Duration::from_millis(200);
/// Pause after taking over failed, before another may.
const PAUSE: Duration = Duration::from_millis(100);
/// The connection was lost "lately" for this long.
const LATELY: Duration = Duration::from_secs(5);

/// One consumer in one process.
pub(super) struct Member {
    link: Arc<Link>,
    stream: Stream,
    name: String,
    rest: Option<String>,
    terms: Mutex<Terms>,
    /// When the connection was made anew, and how often by then.
    reconnected: Mutex<(u64, Option<Instant>)>,
    unwanted: CancellationToken,
}

/// Keeps a member standing for election.
pub(super) struct Wanted {
    member: Arc<Member>,
    _guard: DropGuard,
}

impl Wanted {
    /// Starts standing.
    pub(super) fn start(link: &Arc<Link>, spec: &ConsumerSpec, terms: Terms) -> Arc<Self> {
        let unwanted = CancellationToken::new();
        let member = Arc::new(Member {
            link: Arc::clone(link),
            stream: spec.stream,
            name: spec.name.clone(),
            rest: spec.rest.clone(),
            terms: Mutex::new(terms),
            reconnected: Mutex::new((connects(link), None)),
            unwanted: unwanted.clone(),
        });
        let standing = Arc::clone(&member);
        link.lifecycle.spawn(async move { standing.stand().await });
        Arc::new(Self { member, _guard: unwanted.drop_guard() })
    }

    pub(super) fn member(&self) -> &Arc<Member> {
        &self.member
    }
}

impl Member {
    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    pub(super) fn stream(&self) -> Stream {
        self.stream
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn id(&self) -> (Stream, &str) {
        (self.stream, &self.name)
    }

    pub(super) fn rest(&self) -> Option<String> {
        self.rest.clone()
    }

    pub(super) fn rest_text(&self) -> String {
        self.rest.clone().unwrap_or_default()
    }

    /// `verb` of this consumer.
    pub(super) fn subject(&self, verb: &str) -> String {
        self.link.space.dispatch(self.stream, &self.name, verb)
    }

    pub(super) fn terms(&self) -> Terms {
        *self.terms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A later opener's terms hold.
    pub(super) fn set_terms(&self, terms: Terms) {
        *self.terms.lock().unwrap_or_else(PoisonError::into_inner) = terms;
    }

    /// Waits until nobody here holds the consumer.
    pub(super) async fn unwanted(&self) {
        self.unwanted.cancelled().await;
    }

    /// Shows a message to a leader's desk, unless it is another consumer's.
    pub(super) fn take_in(&self, desk: &mut Desk, message: Incoming, at_ms: (u64, UnixMs)) {
        let rest = message.stored.subject.rest();
        if self.rest.as_deref().is_none_or(|wanted| wanted == rest) {
            desk.add(message, at_ms.0, at_ms.1);
        } else {
            desk.skip(message.stored.seq);
        }
    }

    /// True for a while after the connection was made anew.
    pub(super) fn reconnected_lately(&self) -> bool {
        let connects = connects(&self.link);
        let mut seen = self.reconnected.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.0 != connects {
            *seen = (connects, Some(Instant::now()));
        }
        seen.1.is_some_and(|at| at.elapsed() < LATELY)
    }

    /// Leads whenever nobody else does, until nobody here holds the consumer.
    async fn stand(&self) {
        while !self.unwanted.is_cancelled() {
            match self.try_lead().await {
                Ok(Some(End::Unwanted)) => return,
                Ok(Some(End::Deposed)) => {}
                Ok(None) => self.wait_for_turn().await,
                Err(error) => {
                    tracing::debug!(consumer = %self.name, %error, "could not take the lead");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// `None`: another leads.
    async fn try_lead(&self) -> Result<Option<End>, BoxError> {
        self.reconnected_lately();
        self.link.ready()?;
        let Some(seat) = Seat::take(&self.link, self.id()).await? else { return Ok(None) };
        let stop = CancellationToken::new();
        let _guard = stop.clone().drop_guard();
        let mut standing = seat.keep(stop);
        standing.mark_unchanged();
        let leader = tokio::select! {
            leader = Leader::begin(self, standing) => leader?,
            () = self.unwanted() => return Ok(Some(End::Unwanted)),
        };
        let end = leader.serve().await;
        tracing::info!(stream = %self.stream, consumer = %self.name, ?end, "leads no more");
        // Only a hint: whoever misses it looks again soon.
        let _ = self.link.client.publish(self.subject("free"), bytes::Bytes::new()).await;
        Ok(Some(end))
    }

    /// Until it is time to look again.
    async fn wait_for_turn(&self) {
        let free = self.link.client.subscribe(self.subject("free")).await;
        let hint = async {
            match free {
                Ok(mut free) => drop(free.next().await),
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            () = hint => tokio::time::sleep(PAUSE / 4).await,
            () = tokio::time::sleep(LOOK) => {}
            () = self.unwanted() => {}
        }
    }
}
