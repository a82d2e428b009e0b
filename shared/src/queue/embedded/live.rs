//! Signals inside the process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::queue::{Listener, Live, QueueError};
use crate::subject::LiveSubject;

/// Signals kept for a listener that lags; it loses the oldest beyond.
const MAX_LAG: usize = 256;

type Subjects = Arc<Mutex<HashMap<LiveSubject, broadcast::Sender<Bytes>>>>;

/// The adapter. A subject costs memory only while somebody listens.
#[derive(Default)]
pub(crate) struct EmbeddedLive {
    subjects: Subjects,
}

fn lock(subjects: &Subjects) -> MutexGuard<'_, HashMap<LiveSubject, broadcast::Sender<Bytes>>> {
    subjects.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Ear {
    subject: LiveSubject,
    subjects: Subjects,
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

impl Drop for Ear {
    fn drop(&mut self) {
        let mut subjects = lock(&self.subjects);
        // This listener's own receiver still counts.
        if subjects.get(&self.subject).is_some_and(|sender| sender.receiver_count() <= 1) {
            subjects.remove(&self.subject);
        }
    }
}

#[async_trait]
impl Live for EmbeddedLive {
    async fn send(&self, subject: &LiveSubject, payload: Bytes) {
        if let Some(sender) = lock(&self.subjects).get(subject) {
            // Fails only when the last listener is just leaving.
            let _ = sender.send(payload);
        }
    }

    async fn listen(&self, subject: &LiveSubject) -> Result<Box<dyn Listener>, QueueError> {
        let mut subjects = lock(&self.subjects);
        let sender =
            subjects.entry(subject.clone()).or_insert_with(|| broadcast::channel(MAX_LAG).0);
        let signals = sender.subscribe();
        let (subject, subjects) = (subject.clone(), Arc::clone(&self.subjects));
        Ok(Box::new(Ear { subject, subjects, signals }))
    }
}
