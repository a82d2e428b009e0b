//! Requests of clients, as they come.

use futures_util::FutureExt;
use futures_util::StreamExt;
use tokio::time::Instant;

use super::super::inventory;
use super::super::protocol::{
    Beat, NO_EPOCH, Names, Outcomes, Pull, Settle, decode_backlog_ask, verb,
};
use super::super::wire::{Malformed, Reader};
use super::{Leader, MAX_ROUND, VIEW_WAIT, View};

impl Leader<'_> {
    /// Takes `first` and what else is here.
    pub(super) fn take_requests(&mut self, first: async_nats::Message) {
        let mut next = Some(first);
        for _ in 0..MAX_ROUND {
            let Some(request) = next else { return };
            self.take_request(request);
            next = self.requests.next().now_or_never().flatten();
        }
        if let Some(request) = next {
            self.take_request(request);
        }
    }

    fn take_request(&mut self, request: async_nats::Message) {
        let async_nats::Message { subject, reply, payload, .. } = request;
        let verb = subject.rsplit('.').next().unwrap_or_default().to_owned();
        let to = reply.unwrap_or_else(|| self.member.link().space.nobody().into());
        if !self.may_serve() {
            let body = Outcomes { epoch: NO_EPOCH, each: Vec::new() }.encode();
            self.refuse(to, body);
            return;
        }
        if let Err(error) = self.understand(&verb, to, payload) {
            tracing::warn!(verb, %error, "a request was not understood; another version?");
        }
    }

    fn understand(
        &mut self,
        verb: &str,
        to: async_nats::Subject,
        payload: bytes::Bytes,
    ) -> Result<(), Malformed> {
        let (now_ms, wall_ms) = (self.now_ms(), self.member.link().clock.now_ms());
        match verb {
            verb::PULL => self.desk.pull(Pull::decode(payload)?, to, now_ms),
            verb::SETTLE => self.desk.settle(Settle::decode(payload)?, to, now_ms, wall_ms),
            verb::NAMES => self.desk.names(&Names::decode(payload)?, to, now_ms),
            verb::BEAT => {
                let beat = Beat::decode(payload)?;
                let view = beat.settled_view;
                let body = self.desk.beat(beat, now_ms).encode();
                if view { self.look(to, body) } else { self.desk.answer_now(to, body) }
            }
            verb::BACKLOG => {
                let page = self.desk.page(&decode_backlog_ask(payload)?).encode();
                self.desk.answer_now(to, page);
            }
            verb::BYE => self.desk.bye(Reader::new(payload).uuid()?, now_ms),
            _ => return Err(Malformed),
        }
        Ok(())
    }

    /// Answers once everything that is published by now is here.
    fn look(&mut self, to: async_nats::Subject, body: bytes::Bytes) {
        let (link, stream) = (self.member.link().clone(), self.member.stream());
        let until = Instant::now() + VIEW_WAIT;
        self.bounds.push(
            async move {
                // Without an answer the opener waits as long as it may.
                let upto =
                    inventory::bounds(&link, stream).await.map_or(u64::MAX, |(_, last)| last);
                View { to, body, upto, until }
            }
            .boxed(),
        );
    }

    /// Tells a client to ask again; it is lost like any answer may be.
    fn refuse(&mut self, to: async_nats::Subject, body: bytes::Bytes) {
        let client = self.member.link().client.clone();
        // The channel to the connection is seldom full; then the client's wait runs out.
        let _ = client.publish(to, body).now_or_never();
    }
}
