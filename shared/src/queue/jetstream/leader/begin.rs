//! How a leader begins.

use std::time::Duration;

use async_nats::Subscriber;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::queue::{BoxError, QueueError};

use super::super::desk::Desk;
use super::super::feed::Feed;
use super::super::inventory;
use super::super::lead::Standing;
use super::super::log::Log;
use super::super::member::Member;
use super::super::message::Incoming;
use super::super::protocol::{Beat, encode_who};
use super::super::sweep::Swept;
use super::Leader;

/// How long holders have to say what they hold.
const GRACE: Duration = Duration::from_millis(300);
/// The same, when the connection was lost just now: theirs may be coming back yet.
const LONG_GRACE: Duration = Duration::from_millis(1_500);
/// Messages known before it serves; the rest follows meanwhile.
const FIRST_MESSAGES: usize = 16_384;
/// How long it reads before it serves, at most.
const FIRST_READ: Duration = Duration::from_secs(1);
/// Messages that are handed on together, and how many such hands may wait.
const CHUNK: usize = 512;
const CHUNKS: usize = 8;
/// Part of the largest message that an answer may fill.
const ANSWER_SHARE: usize = 2;
/// Largest answer in bytes, whatever the server takes.
const MAX_ANSWER: usize = 512 << 10;

impl<'a> Leader<'a> {
    /// Takes over; from the first step on nobody else can write.
    pub(crate) async fn begin(
        member: &'a Member,
        standing: watch::Receiver<Standing>,
    ) -> Result<Self, BoxError> {
        let link = member.link();
        let begun = Instant::now();
        let who = link.client.subscribe(member.subject("who")).await?;
        let (log, progress) = Log::take_over(link, member.id(), &member.rest_text()).await?;
        let (epoch, floor) = (progress.epoch, progress.floor());
        tracing::info!(stream = %member.stream(), consumer = %member.name(), epoch, "leads");
        let max_answer = (link.client.server_info().max_payload / ANSWER_SHARE).min(MAX_ANSWER);
        let desk = Desk::new(progress, member.terms(), max_answer);
        let (send, feed) = mpsc::channel(CHUNKS);
        let messages = Feed::after(link, member.stream(), floor);
        link.lifecycle.spawn(hand_on(messages, send));
        // Asked for now, so that they wait at the server until it serves.
        let mut leader = Self {
            member,
            desk,
            standing,
            log: Some(log),
            append: None,
            appends: 0,
            feed,
            requests: link.client.subscribe(member.subject("to.*")).await?,
            who,
            reads: FuturesUnordered::new(),
            bounds: FuturesUnordered::new(),
            views: Vec::new(),
            swept: Swept::default(),
            sweep: None,
            swept_at: begun,
            begun,
        };
        if epoch > 1 {
            leader.ask_holders(epoch).await?;
        }
        leader.read_first().await?;
        Ok(leader)
    }

    /// Learns which deliveries go on; what nobody claims in time is free.
    async fn ask_holders(&mut self, epoch: u64) -> Result<(), BoxError> {
        let client = &self.member.link().client;
        let inbox = client.new_inbox();
        let mut answers: Subscriber = client.subscribe(inbox.clone()).await?;
        let who = self.member.subject("who");
        client.publish_with_reply(who, inbox, encode_who(epoch)).await?;
        let grace = if self.member.reconnected_lately() { LONG_GRACE } else { GRACE };
        let end = Instant::now() + grace;
        while let Ok(Some(answer)) = tokio::time::timeout_at(end, answers.next()).await {
            match Beat::decode(answer.payload) {
                Ok(beat) => {
                    let now_ms = self.now_ms();
                    self.desk.beat(beat, now_ms);
                }
                Err(error) => tracing::warn!(%error, "a holder was not understood"),
            }
        }
        Ok(())
    }

    async fn read_first(&mut self) -> Result<(), QueueError> {
        let (_, last) = inventory::bounds(self.member.link(), self.member.stream()).await?;
        let (end, mut count) = (Instant::now() + FIRST_READ, 0);
        while self.desk.tail() < last && count < FIRST_MESSAGES {
            let Ok(Some(messages)) = tokio::time::timeout_at(end, self.feed.recv()).await else {
                break;
            };
            count += messages.len();
            self.take_messages(messages);
        }
        Ok(())
    }
}

/// Reads the stream until nobody takes what it reads.
async fn hand_on(mut feed: Feed, send: mpsc::Sender<Vec<Incoming>>) {
    loop {
        let first = tokio::select! {
            () = send.closed() => return,
            first = feed.next() => first,
        };
        let mut chunk = vec![first];
        while chunk.len() < CHUNK {
            let Some(next) = feed.ready() else { break };
            chunk.push(next);
        }
        if send.send(chunk).await.is_err() {
            return;
        }
    }
}
