//! Who leads: a key that lives for two seconds and is renewed by whoever has it.
//!
//! A leader counts from before it asked for a renewal, so it stops before its key can be
//! free; it also stops when its connection was lost, until it renewed on the new one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::queue::BoxError;
use crate::subject::Stream;

use super::connect::Link;
use super::log::expect;
use super::streams::LEADER_TTL_MS;

/// Time between two renewals.
const RENEW_MS: u64 = LEADER_TTL_MS / 4;
/// A leader serves for this long after it asked for the last renewal that it got.
const SERVE_MS: u64 = LEADER_TTL_MS * 3 / 4;

/// How a leader's key stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    /// When the last renewal that succeeded was asked for.
    since: Instant,
    /// The connection that it was asked on.
    connects: u64,
    /// Renewals so far.
    pub(super) renewals: u64,
    /// The key is another's, or nobody's.
    pub(super) lost: bool,
}

impl Standing {
    /// True while nobody else can lead.
    pub(super) fn may_serve(&self, link: &Link) -> bool {
        let served = self.since.elapsed() < Duration::from_millis(SERVE_MS);
        !self.lost && served && self.connects == connects(link)
    }
}

/// How often the connection was made.
pub(super) fn connects(link: &Link) -> u64 {
    link.client.statistics().connects.load(Ordering::Relaxed)
}

/// The key of one consumer's leader.
pub(super) struct Seat {
    link: Arc<Link>,
    subject: String,
    seq: u64,
    begun: Standing,
}

impl Seat {
    /// Takes the key if it is free.
    pub(super) async fn take(
        link: &Arc<Link>,
        (stream, name): (Stream, &str),
    ) -> Result<Option<Self>, BoxError> {
        let subject = format!("$KV.{}.{}.{name}", link.names.leaders, stream.name());
        let begun =
            Standing { since: Instant::now(), connects: connects(link), renewals: 0, lost: false };
        let taken = expect(link, &subject, 0, Bytes::new()).await?;
        Ok(taken.map(|seq| Self { link: Arc::clone(link), subject, seq, begun }))
    }

    /// Keeps the key until `stop`, then gives it up, so that another can lead at once.
    pub(super) fn keep(self, stop: CancellationToken) -> watch::Receiver<Standing> {
        let (standing, watched) = watch::channel(self.begun);
        let lifecycle = self.link.lifecycle.clone();
        lifecycle.spawn(self.renew(standing, stop));
        watched
    }

    async fn renew(mut self, standing: watch::Sender<Standing>, stop: CancellationToken) {
        let renew_every = Duration::from_millis(RENEW_MS);
        let mut next = Instant::now() + renew_every;
        loop {
            tokio::select! {
                () = stop.cancelled() => return self.release().await,
                () = tokio::time::sleep_until(next) => {}
            }
            let (since, connects) = (Instant::now(), connects(&self.link));
            next = since + renew_every;
            match expect(&self.link, &self.subject, self.seq, Bytes::new()).await {
                Ok(Some(seq)) => {
                    self.seq = seq;
                    standing.send_modify(|now| {
                        let renewals = now.renewals + 1;
                        *now = Standing { since, connects, renewals, lost: false };
                    });
                }
                Ok(None) => {
                    // An earlier renewal whose answer was lost counts as lost too: the next
                    // leader is elected when it runs out.
                    standing.send_modify(|now| now.lost = true);
                    return;
                }
                Err(error) => {
                    tracing::debug!(%error, "a leader's key was not renewed");
                    let ttl = Duration::from_millis(LEADER_TTL_MS);
                    if standing.borrow().since.elapsed() >= ttl {
                        standing.send_modify(|now| now.lost = true);
                        return;
                    }
                }
            }
        }
    }

    /// Only what is still ours goes: a key that another has taken came later.
    async fn release(self) {
        let bucket = format!("KV_{}", self.link.names.leaders);
        let Ok(stream) = self.link.context.get_stream_no_info(bucket).await else { return };
        let purge = stream.purge().filter(&self.subject).sequence(self.seq + 1);
        let wait = Duration::from_millis(RENEW_MS);
        if let Ok(Err(error)) = tokio::time::timeout(wait, purge.into_future()).await {
            tracing::debug!(%error, "a leader's key was not given up; it runs out by itself");
        }
    }
}
