//! Ends of deliveries: collected, sent to the leader together, sent again until it answers.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::queue::{Cause, QueueError, Settle};

use super::connect::unavailable;
use super::holder::{AGAIN, ANSWER, Holder};
use super::protocol::{self, Ending, Op, Outcome, Outcomes, verb};

/// Endings in one request.
const MAX_ENDINGS: usize = 1_024;
/// Requests on their way at once.
const MAX_IN_FLIGHT: usize = 4;
/// How long an ending is sent again before its holder is told that nobody knows.
const PATIENCE: Duration = Duration::from_secs(10);

/// An ending, and who waits for it.
pub(super) struct Ended {
    ending: Ending,
    answer: Option<oneshot::Sender<Result<(), QueueError>>>,
}

/// The way to the settling task; it ends when the last of these is dropped.
pub(super) type Endings = mpsc::UnboundedSender<Ended>;

/// Starts the task. Its queue holds at most what is out, so it is bounded by that.
pub(super) fn start(holder: &Arc<Holder>) -> Endings {
    let (endings, ended) = mpsc::unbounded_channel();
    let lifecycle = &holder.member().link().lifecycle;
    lifecycle.spawn(run(Arc::clone(holder), ended));
    endings
}

async fn run(holder: Arc<Holder>, mut ended: mpsc::UnboundedReceiver<Ended>) {
    let places = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
        let mut batch = Vec::new();
        if ended.recv_many(&mut batch, MAX_ENDINGS).await == 0 {
            break;
        }
        let sender = Arc::clone(&holder);
        holder.member().link().lifecycle.spawn(async move {
            send(&sender, batch).await;
            drop(place);
        });
    }
    // All places are free once everything was sent.
    let all = u32::try_from(MAX_IN_FLIGHT).unwrap_or(u32::MAX);
    let _ = places.acquire_many(all).await;
    holder.leave().await;
}

/// Sends endings until each is answered.
async fn send(holder: &Holder, mut batch: Vec<Ended>) {
    let end = Instant::now() + PATIENCE;
    while !batch.is_empty() {
        let endings = batch.iter().map(|ended| ended.ending).collect();
        let asked = Instant::now();
        let body = protocol::Settle { client: holder.id, endings }.encode();
        let answer = holder.ask(verb::SETTLE, body, ANSWER).await.ok();
        let outcomes = answer.and_then(|bytes| Outcomes::decode(bytes).ok());
        let each = outcomes.map(|outcomes| outcomes.each).unwrap_or_default();
        let mut open = Vec::new();
        let all = each.into_iter().chain(std::iter::repeat(Outcome::Again));
        for (ended, outcome) in batch.into_iter().zip(all) {
            match outcome {
                Outcome::Done => finish(holder, ended, asked, Ok(())),
                Outcome::Ended => finish(holder, ended, asked, Err(lease_ended())),
                Outcome::Again => open.push(ended),
            }
        }
        batch = open;
        if batch.is_empty() {
            return;
        }
        if Instant::now() >= end {
            break;
        }
        tokio::time::sleep(AGAIN).await;
    }
    let waited_ms = u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX);
    for ended in batch {
        finish(holder, ended, end, Err(QueueError::Unconfirmed { waited_ms }));
    }
}

fn finish(holder: &Holder, ended: Ended, asked: Instant, outcome: Result<(), QueueError>) {
    let token = ended.ending.token;
    match (ended.ending.op, &outcome) {
        (Op::Extend, Ok(())) => holder.extended(token, asked),
        (Op::Extend, Err(QueueError::Unconfirmed { .. })) => {}
        _ => holder.put_down(token),
    }
    if let Some(answer) = ended.answer {
        // Whoever asked may have gone; it is settled all the same.
        let _ = answer.send(outcome);
    }
}

fn lease_ended() -> QueueError {
    unavailable("the lease has ended and the message was given to another", None)
}

/// A delivery's hold on its message. Dropping it unsettled hands the message back at once
/// and counts nothing.
pub(super) struct Lease {
    endings: Endings,
    seq: u64,
    token: u64,
    settled: bool,
}

impl Lease {
    pub(super) fn new(endings: &Endings, seq: u64, token: u64) -> Self {
        Self { endings: endings.clone(), seq, token, settled: false }
    }

    async fn end(&self, op: Op) -> Result<(), QueueError> {
        let (answer, answered) = oneshot::channel();
        let ending = Ending { seq: self.seq, token: self.token, op };
        let sent = self.endings.send(Ended { ending, answer: Some(answer) });
        let closed = || unavailable("the queue is closed", None);
        sent.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.settled {
            let ending = Ending { seq: self.seq, token: self.token, op: Op::Release };
            // Fails only when the node's tasks are gone; the lease then runs out.
            let _ = self.endings.send(Ended { ending, answer: None });
        }
    }
}

#[async_trait]
impl Settle for Lease {
    async fn ack(mut self: Box<Self>) -> Result<(), QueueError> {
        // From here on the task settles it, even if the caller gives up.
        self.settled = true;
        self.end(Op::Ack).await
    }

    async fn nak(mut self: Box<Self>, delay_ms: u64, cause: Cause) -> Result<(), QueueError> {
        self.settled = true;
        self.end(Op::Nak { delay_ms, cause }).await
    }

    async fn extend(&self) -> Result<(), QueueError> {
        self.end(Op::Extend).await
    }
}
