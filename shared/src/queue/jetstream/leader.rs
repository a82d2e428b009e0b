//! The leader of a consumer at work: the [`Desk`] decides, this moves bytes.
//!
//! Takes over in four steps: fences the log, asks everyone what they hold, reads what waits,
//! serves. Ends when it is deposed, or when nobody in this process wants the consumer.

mod begin;
mod requests;

use std::sync::Arc;
use std::time::Duration;

use async_nats::Subscriber;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::queue::BoxError;
use crate::subject::Stream;

use super::consumers::ROUTER;
use super::desk::{Desk, Effect, Handing, ReplyTo};
use super::fetch::fetch;
use super::lead::Standing;
use super::log::{Log, LogError, SNAPSHOT_EVERY};
use super::member::Member;
use super::message::Incoming;
use super::progress::Change;
use super::protocol::epoch_of;
use super::retention::trim;
use super::sweep::{self, Sweep, Swept};

/// Requests and messages taken in before answers are sent again.
const MAX_ROUND: usize = 512;
/// Time between two sweeps.
const SWEEP: Duration = Duration::from_secs(1);
/// Time between two looks for routed messages that are too old.
const TRIM: Duration = Duration::from_secs(30);
/// Longest sleep of the loop.
const IDLE: Duration = Duration::from_millis(500);
/// How long an opener waits until everything published before is here.
const VIEW_WAIT: Duration = Duration::from_secs(1);

/// Why it ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Another leads, or may.
    Deposed,
    /// Nobody here wants the consumer any more.
    Unwanted,
}

type Appended = (Log, Result<(), LogError>);
type Read = (Handing, std::collections::HashMap<u64, Option<crate::queue::Stored>>);

/// An opener that waits until everything up to `upto` is here.
struct View {
    to: ReplyTo,
    body: bytes::Bytes,
    upto: u64,
    until: Instant,
}

/// The leader.
pub(super) struct Leader<'a> {
    member: &'a Member,
    desk: Desk,
    standing: watch::Receiver<Standing>,
    /// `None` while an append is on its way.
    log: Option<Log>,
    append: Option<BoxFuture<'static, Appended>>,
    appends: u64,
    feed: mpsc::Receiver<Vec<Incoming>>,
    requests: Subscriber,
    who: Subscriber,
    reads: FuturesUnordered<BoxFuture<'static, Read>>,
    bounds: FuturesUnordered<BoxFuture<'static, View>>,
    views: Vec<View>,
    swept: Swept,
    sweep: Option<BoxFuture<'static, Result<Sweep, BoxError>>>,
    swept_at: Instant,
    begun: Instant,
}

impl Leader<'_> {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Serves until it ends.
    pub(super) async fn serve(mut self) -> End {
        loop {
            if let Some(end) = self.round().await {
                self.finish().await;
                return end;
            }
        }
    }

    async fn round(&mut self) -> Option<End> {
        let wake = self.wake();
        tokio::select! {
            () = self.member.unwanted() => return Some(End::Unwanted),
            changed = self.standing.changed() => {
                if changed.is_err() || self.standing.borrow_and_update().lost {
                    return Some(End::Deposed);
                }
                let now_ms = self.now_ms();
                self.desk.sign_of_life(now_ms);
            }
            Some(request) = self.requests.next() => self.take_requests(request),
            Some(question) = self.who.next() => {
                if epoch_of(&question.payload).is_ok_and(|epoch| epoch > self.desk.epoch()) {
                    return Some(End::Deposed);
                }
            }
            Some(messages) = self.feed.recv() => self.take_messages(messages),
            Some((handing, found)) = self.reads.next() => {
                let now_ms = self.now_ms();
                self.desk.handed(handing, found, now_ms);
            }
            Some(view) = self.bounds.next() => self.views.push(view),
            (log, appended) = wait(&mut self.append) => {
                self.append = None;
                if let Err(error) = self.appended(log, appended) {
                    tracing::warn!(consumer = %self.member.name(), %error, "a leader steps down");
                    return Some(End::Deposed);
                }
            }
            swept = wait(&mut self.sweep) => {
                self.sweep = None;
                match swept {
                    Ok(sweep) => self.swept.done(&sweep),
                    Err(error) => tracing::debug!(%error, "a work queue was not swept"),
                }
            }
            () = tokio::time::sleep_until(wake) => {}
        }
        self.after_round().await;
        None
    }

    fn wake(&self) -> Instant {
        let at = self.desk.next_at_ms().map(|at_ms| self.begun + Duration::from_millis(at_ms));
        let view = self.views.iter().map(|view| view.until).min();
        let idle = Instant::now() + IDLE;
        [at, view, Some(idle)].into_iter().flatten().min().unwrap_or(idle)
    }

    fn take_messages(&mut self, messages: Vec<Incoming>) {
        let (now_ms, wall_ms) = (self.now_ms(), self.member.link().clock.now_ms());
        for message in messages {
            self.member.take_in(&mut self.desk, message, (now_ms, wall_ms));
        }
    }

    fn appended(&mut self, log: Log, appended: Result<(), LogError>) -> Result<(), LogError> {
        self.log = Some(log);
        appended?;
        let now_ms = self.now_ms();
        self.desk.stored(now_ms);
        Ok(())
    }

    async fn after_round(&mut self) {
        let wall_ms = self.member.link().clock.now_ms();
        if self.may_serve() {
            let now_ms = self.now_ms();
            self.desk.tick(now_ms, wall_ms);
            self.start_append();
            self.start_sweep();
        }
        self.answer_views();
        self.flush().await;
    }

    fn may_serve(&self) -> bool {
        self.standing.borrow().may_serve(self.member.link())
    }

    fn start_append(&mut self) {
        if self.log.is_none() {
            return;
        }
        let snapshot = self.appends >= SNAPSHOT_EVERY;
        let change = if snapshot { None } else { self.desk.next_change() };
        let parts = if snapshot { self.desk.progress().snapshot() } else { Vec::new() };
        if change.is_none() && parts.is_empty() {
            return;
        }
        let Some(mut log) = self.log.take() else { return };
        self.appends = if snapshot { 0 } else { self.appends + 1 };
        self.append = Some(
            async move {
                let appended = write(&mut log, change, parts).await;
                (log, appended)
            }
            .boxed(),
        );
    }

    fn start_sweep(&mut self) {
        let stream = self.member.stream();
        let every = if stream.is_work_queue() { SWEEP } else { TRIM };
        if self.sweep.is_some() || self.swept_at.elapsed() < every {
            return;
        }
        self.swept_at = Instant::now();
        if !stream.is_work_queue() {
            if self.member.id() == (Stream::Inbound, ROUTER) {
                let (link, floor) = (Arc::clone(self.member.link()), self.desk.progress().floor());
                let trim = async move {
                    trim(&link, stream, floor).await?;
                    Ok(Sweep::default())
                };
                self.sweep = Some(trim.boxed());
            }
            return;
        }
        if let Some(plan) = self.swept.plan(self.desk.progress()) {
            let (link, rest) = (Arc::clone(self.member.link()), self.member.rest());
            self.sweep = Some(sweep::run(link, stream, rest, plan).boxed());
        }
    }

    fn answer_views(&mut self) {
        let (tail, now) = (self.desk.tail(), Instant::now());
        for view in self.views.extract_if(.., |view| view.upto <= tail || view.until <= now) {
            self.desk.answer_now(view.to, view.body);
        }
    }

    /// Sends what is to be sent; what would come too late is not sent.
    async fn flush(&mut self) {
        for effect in self.desk.take_effects() {
            match effect {
                Effect::Answer { to, body } => {
                    if !self.may_serve() {
                        continue;
                    }
                    // An answer that is lost is asked for again.
                    let _ = self.member.link().client.publish(to, body).await;
                }
                Effect::Read(handing) => {
                    let (link, stream) = (Arc::clone(self.member.link()), self.member.stream());
                    let seqs = handing.missing.clone();
                    self.reads.push(
                        async move {
                            let found = fetch(&link, stream, seqs).await;
                            (handing, found)
                        }
                        .boxed(),
                    );
                }
            }
        }
    }

    /// Lets what is on its way arrive, so that the next leader has less to find out.
    async fn finish(&mut self) {
        if let Some(append) = self.append.take() {
            let (log, appended) = append.await;
            if self.appended(log, appended).is_ok() {
                self.flush().await;
            }
        }
        // Fails only with the connection, and then nobody is subscribed either.
        let _ = self.requests.unsubscribe().await;
    }
}

async fn write(log: &mut Log, change: Option<Change>, parts: Vec<Change>) -> Result<(), LogError> {
    match change {
        Some(change) => log.append(change).await,
        None => log.snapshot(parts).await,
    }
}

/// What `future` yields; never, when there is none.
async fn wait<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
