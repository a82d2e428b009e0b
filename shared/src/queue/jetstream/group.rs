//! Group commit: calls that wait go out as one atomic batch, which is one sync.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use uuid::Uuid;

use crate::queue::{QueueError, Receipt};
use crate::subject::Stream;

use super::ack::{Refusal, unconfirmed};
use super::batch::{self, MAX_MESSAGES, publish_batch};
use super::connect::{ANSWER_WAIT_MS, Link, unavailable};
use super::message::Outgoing;

/// Bytes in one batch, unless a single call has more.
const MAX_BYTES: usize = 8 << 20;
/// Messages that may wait for a batch; then callers are refused.
const MAX_WAITING: usize = 50_000;
/// Longest wait of a caller: for the batch before, its own, and one more try of its own.
const CALLER_WAIT_MS: u64 = 3 * ANSWER_WAIT_MS;

type Answer = Result<Vec<Receipt>, QueueError>;

/// One publish call of one stream; its ids differ.
struct Call {
    messages: Vec<Outgoing>,
    answer: oneshot::Sender<Answer>,
}

#[derive(Default)]
struct Waiting {
    calls: VecDeque<Call>,
    messages: usize,
    /// Somebody sends what waits.
    sending: bool,
}

/// What waits for one stream.
#[derive(Clone)]
pub(super) struct Group {
    link: Arc<Link>,
    stream: Stream,
    waiting: Arc<Mutex<Waiting>>,
}

impl Group {
    pub(super) fn new(link: &Arc<Link>, stream: Stream) -> Self {
        Self { link: Arc::clone(link), stream, waiting: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores one call's messages with whatever else waits.
    pub(super) async fn publish(&self, messages: Vec<Outgoing>) -> Answer {
        let (answer, answered) = oneshot::channel();
        let start = {
            let mut waiting = self.lock();
            if waiting.messages + messages.len() > MAX_WAITING {
                return Err(unavailable("too many messages wait to be stored", None));
            }
            waiting.messages += messages.len();
            waiting.calls.push_back(Call { messages, answer });
            !std::mem::replace(&mut waiting.sending, true)
        };
        if start {
            let group = self.clone();
            // Its own task: the call that happens to start it may be given up.
            self.link.lifecycle.spawn(async move { group.send_all().await });
        }
        let wait = Duration::from_millis(CALLER_WAIT_MS);
        match tokio::time::timeout(wait, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(unconfirmed()),
        }
    }

    /// Sends batch after batch until nothing waits.
    async fn send_all(&self) {
        while let Some(calls) = self.take() {
            self.send(calls).await;
        }
    }

    /// The calls of the next batch, without an id twice; `None`: nothing waits.
    fn take(&self) -> Option<Vec<Call>> {
        let mut waiting = self.lock();
        let (mut taken, mut count, mut bytes) = (Vec::new(), 0, 0);
        let mut ids: HashSet<Uuid> = HashSet::new();
        while let Some(call) = waiting.calls.front() {
            count += call.messages.len();
            bytes += call.messages.iter().map(|message| message.bytes).sum::<usize>();
            let fits = taken.is_empty() || (count <= MAX_MESSAGES && bytes <= MAX_BYTES);
            if !fits || call.messages.iter().any(|message| ids.contains(&message.id)) {
                break;
            }
            ids.extend(call.messages.iter().map(|message| message.id));
            taken.extend(waiting.calls.pop_front());
        }
        waiting.messages -= ids.len();
        waiting.sending = !taken.is_empty();
        waiting.sending.then_some(taken)
    }

    async fn send(&self, calls: Vec<Call>) {
        let messages: Vec<&Outgoing> = calls.iter().flat_map(|call| &call.messages).collect();
        let sent = match self.link.ready() {
            Ok(()) => batch::send(&self.link, &messages).await,
            Err(error) => Err(Refusal::Queue(error)),
        };
        let mut receipts = match sent {
            Ok(receipts) => receipts.into_iter(),
            Err(refusal) if refusal.nothing_stored() => return self.send_singly(calls).await,
            Err(refusal) => return refuse(calls, &refusal.into_error(self.stream)),
        };
        for call in calls {
            let own = receipts.by_ref().take(call.messages.len()).collect();
            // A caller that gave up finds it stored when it asks again.
            let _ = call.answer.send(Ok(own));
        }
    }

    /// One call's trouble (an id that is stored already, no room) is not the others'.
    async fn send_singly(&self, calls: Vec<Call>) {
        let sent = calls.into_iter().map(|call| async move {
            let stored = publish_batch(&self.link, self.stream, &call.messages).await;
            let _ = call.answer.send(stored);
        });
        futures_util::future::join_all(sent).await;
    }
}

/// Gives the same answer to all.
fn refuse(calls: Vec<Call>, error: &QueueError) {
    for call in calls {
        let same = match error {
            QueueError::Unavailable { reason, .. } => unavailable(reason.clone(), None),
            QueueError::Full { stream } => QueueError::Full { stream: *stream },
            _ => unconfirmed(),
        };
        let _ = call.answer.send(Err(same));
    }
}
