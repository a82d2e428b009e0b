//! A stream as it grows: every message once and in order, across lost connections.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::push::{self, Messages};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use futures_util::{FutureExt, StreamExt};

use crate::queue::BoxError;
use crate::subject::Stream;

use super::connect::{ANSWER_WAIT_MS, Link};
use super::message::{Incoming, from_delivery};

/// The server's sign of life on an idle feed; two missed ones open it anew.
const HEARTBEAT_MS: u64 = 500;
/// Pause before a feed that broke is opened anew.
const PAUSE_MS: u64 = 100;
/// The server forgets a feed that nobody has listened to for this long.
const FORGET_MS: u64 = 5_000;

/// Reads a stream from one place on, for ever.
pub(super) struct Feed {
    link: Arc<Link>,
    stream: Stream,
    /// The last message that was given out, or where the feed began.
    last: u64,
    open: Option<Open>,
}

struct Open {
    messages: Messages,
    /// How many messages the server has sent on it.
    sent: u64,
}

impl Feed {
    /// Everything after `last`.
    pub(super) fn after(link: &Arc<Link>, stream: Stream, last: u64) -> Self {
        Self { link: Arc::clone(link), stream, last, open: None }
    }

    /// The next message. Waits for ever, also while the server is away. May be cancelled.
    pub(super) async fn next(&mut self) -> Incoming {
        loop {
            match self.try_next().await {
                Ok(Some(message)) => return message,
                Ok(None) => {}
                Err(error) => {
                    let stream = self.stream;
                    tracing::debug!(%stream, %error, "a feed broke; opening it anew");
                    self.open = None;
                    tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
                }
            }
        }
    }

    /// The next message if it is here already.
    pub(super) fn ready(&mut self) -> Option<Incoming> {
        loop {
            let next = self.open.as_mut()?.messages.next().now_or_never()?;
            // What is broken is found again by `next`.
            let Ok(found) = self.take(next) else {
                self.open = None;
                return None;
            };
            if found.is_some() {
                return found;
            }
        }
    }

    /// `None`: a message that cannot be read was left out.
    async fn try_next(&mut self) -> Result<Option<Incoming>, BoxError> {
        if self.open.is_none() {
            self.open = Some(self.open().await?);
        }
        let Some(open) = self.open.as_mut() else { return Ok(None) };
        let next = open.messages.next().await;
        self.take(next)
    }

    fn take(
        &mut self,
        next: Option<Result<async_nats::jetstream::Message, push::MessagesError>>,
    ) -> Result<Option<Incoming>, BoxError> {
        let message = next.ok_or("the subscription ended")??;
        let (consumer_seq, seq) = {
            let info = message.info()?;
            (info.consumer_sequence, info.stream_sequence)
        };
        let open = self.open.as_mut().ok_or("it was not open")?;
        if consumer_seq != open.sent + 1 {
            return Err("a message was lost on the way".into());
        }
        open.sent = consumer_seq;
        self.last = seq;
        match from_delivery(&self.link.space, message) {
            Ok(message) => Ok(Some(message)),
            Err(error) => {
                tracing::warn!(stream = %self.stream, %error, "left out of a stream");
                Ok(None)
            }
        }
    }

    async fn open(&self) -> Result<Open, BoxError> {
        self.link.ready()?;
        let config = push::Config {
            deliver_subject: self.link.client.new_inbox(),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: self.last + 1 },
            ack_policy: AckPolicy::None,
            idle_heartbeat: Duration::from_millis(HEARTBEAT_MS),
            flow_control: true,
            inactive_threshold: Duration::from_millis(FORGET_MS),
            memory_storage: true,
            num_replicas: 1,
            ..push::Config::default()
        };
        let stream = self.link.stream(self.stream);
        let opened = async {
            let consumer = self.link.context.create_consumer_on_stream(config, stream).await?;
            Ok::<_, BoxError>(consumer.messages().await?)
        };
        let messages =
            tokio::time::timeout(Duration::from_millis(ANSWER_WAIT_MS), opened).await??;
        Ok(Open { messages, sent: 0 })
    }
}
