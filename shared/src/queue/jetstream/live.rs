//! Signals between processes, on core NATS.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::queue::{Listener, Live, QueueError};
use crate::subject::LiveSubject;

use super::connect::{Link, unavailable};

/// Signals kept for a listener that lags; it loses the oldest beyond.
const MAX_LAG: usize = 256;
/// Longest wait for the server to know of a listener.
const LISTEN_WAIT_MS: u64 = 2_000;
/// Longest wait for a signal to be taken by the connection; then it is lost.
const SEND_WAIT_MS: u64 = 100;

type Subjects = Arc<Mutex<HashMap<LiveSubject, broadcast::Sender<Bytes>>>>;

/// The adapter. One subscription a subject and process, while somebody listens.
pub(super) struct NatsLive {
    link: Arc<Link>,
    subjects: Subjects,
}

impl NatsLive {
    pub(super) fn new(link: &Arc<Link>) -> Self {
        Self { link: Arc::clone(link), subjects: Subjects::default() }
    }

    /// Returns once the server has read everything that was sent before.
    async fn settled(&self) -> Result<(), QueueError> {
        self.link.ready()?;
        let asked = self.link.client.request(self.link.space.nobody(), Bytes::new());
        let wait = Duration::from_millis(LISTEN_WAIT_MS);
        let answer = tokio::time::timeout(wait, asked).await;
        match answer {
            Ok(Err(error))
                if error.kind() == async_nats::client::RequestErrorKind::NoResponders =>
            {
                Ok(())
            }
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(unavailable("NATS is away", Some(error.into()))),
            Err(_) => Err(unavailable("NATS does not answer", None)),
        }
    }
}

fn lock(subjects: &Subjects) -> MutexGuard<'_, HashMap<LiveSubject, broadcast::Sender<Bytes>>> {
    subjects.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Ear {
    subject: LiveSubject,
    signals: broadcast::Receiver<Bytes>,
}

#[async_trait]
impl Listener for Ear {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.signals.recv().await {
                Ok(payload) => return Some(payload),
                Err(RecvError::Lagged(lost)) => {
                    tracing::debug!(subject = self.subject.as_str(), lost, "a listener lags");
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

#[async_trait]
impl Live for NatsLive {
    async fn send(&self, subject: &LiveSubject, payload: Bytes) {
        // Signals are for now: what waits for a lost connection would come too late.
        if self.link.ready().is_err() {
            return;
        }
        let sent = self.link.client.publish(self.link.space.live(subject), payload);
        match tokio::time::timeout(Duration::from_millis(SEND_WAIT_MS), sent).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a signal was not sent"),
            Err(_) => tracing::debug!("a signal was not sent in {SEND_WAIT_MS} ms"),
        }
    }

    async fn listen(&self, subject: &LiveSubject) -> Result<Box<dyn Listener>, QueueError> {
        let known = lock(&self.subjects).get(subject).map(broadcast::Sender::subscribe);
        let signals = match known {
            Some(signals) => signals,
            None => self.subscribe(subject).await?,
        };
        // Also for a subscription that another listener has only just made.
        self.settled().await?;
        Ok(Box::new(Ear { subject: subject.clone(), signals }))
    }
}

impl NatsLive {
    async fn subscribe(
        &self,
        subject: &LiveSubject,
    ) -> Result<broadcast::Receiver<Bytes>, QueueError> {
        let wait = Duration::from_millis(LISTEN_WAIT_MS);
        let subscribed = self.link.client.subscribe(self.link.space.live(subject));
        let subscription = match tokio::time::timeout(wait, subscribed).await {
            Ok(Ok(subscription)) => subscription,
            Ok(Err(error)) => return Err(unavailable("NATS is away", Some(error.into()))),
            Err(_) => return Err(unavailable("NATS does not answer", None)),
        };
        let (sender, signals) = broadcast::channel(MAX_LAG);
        {
            let mut subjects = lock(&self.subjects);
            if let Some(other) = subjects.get(subject) {
                // Another listener was faster; its subscription serves both.
                return Ok(other.subscribe());
            }
            subjects.insert(subject.clone(), sender.clone());
        }
        let pump = Pump { subject: subject.clone(), subjects: Arc::clone(&self.subjects), sender };
        // Ends with its last listener, which may well outlive the call to stop.
        self.link.lifecycle.spawn(async move { pump.run(subscription).await });
        Ok(signals)
    }
}

/// Takes signals off the connection at once, so that a slow listener loses its oldest and
/// not its newest, and nobody else's.
struct Pump {
    subject: LiveSubject,
    subjects: Subjects,
    sender: broadcast::Sender<Bytes>,
}

impl Pump {
    async fn run(&self, mut subscription: async_nats::Subscriber) {
        loop {
            tokio::select! {
                signal = subscription.next() => {
                    let Some(signal) = signal else { return };
                    // Fails only when the last listener is just leaving.
                    let _ = self.sender.send(signal.payload);
                }
                () = self.sender.closed() => {
                    let mut subjects = lock(&self.subjects);
                    // Somebody may have begun to listen since.
                    if self.sender.receiver_count() == 0 {
                        subjects.remove(&self.subject);
                        return;
                    }
                }
            }
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        let mut subjects = lock(&self.subjects);
        if subjects.get(&self.subject).is_some_and(|other| other.same_channel(&self.sender)) {
            subjects.remove(&self.subject);
        }
    }
}
