//! What holders and the leader of a consumer say to each other. Pure.
//!
//! A request's verb is the last token of its subject. Every answer begins with the epoch of
//! the leader that gave it; epoch 0 is no leader's and means: ask again.

use bytes::Bytes;
use uuid::Uuid;

use crate::clock::UnixMs;
use crate::ids::TenantId;
use crate::queue::{Cause, Headers, Stored};
use crate::subject::Subject;

use super::wire::{Malformed, Reader, Writer};

/// Requests of the leader's clients.
pub(super) mod verb {
    /// [`super::Pull`]
    pub(crate) const PULL: &str = "pull";
    /// [`super::Settle`]
    pub(crate) const SETTLE: &str = "settle";
    /// [`super::Beat`]
    pub(crate) const BEAT: &str = "beat";
    /// [`super::Names`]
    pub(crate) const NAMES: &str = "names";
    /// What waits, see [`super::encode_backlog_ask`]
    pub(crate) const BACKLOG: &str = "backlog";
    /// A client's id: it goes.
    pub(crate) const BYE: &str = "bye";
}

/// The epoch of an answer that no leader gave.
pub(super) const NO_EPOCH: u64 = 0;

/// Which deliveries may be out, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) ack_wait_ms: u64,
    pub(super) max_out: u64,
}

impl Terms {
    /// Of one who only looks.
    pub(super) const NONE: Self = Self { ack_wait_ms: 0, max_out: 0 };

    fn write(self, writer: &mut Writer) {
        writer.num(self.ack_wait_ms);
        writer.num(self.max_out);
    }

    fn read(reader: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self { ack_wait_ms: reader.num()?, max_out: reader.num()? })
    }
}

/// A delivery that a client holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) tenant: TenantId,
    pub(super) seq: u64,
    pub(super) token: u64,
    /// How long its lease lasts yet, by the holder's own clock.
    pub(super) left_ms: u64,
}

fn tenant(reader: &mut Reader) -> Result<TenantId, Malformed> {
    TenantId::new(reader.text()?).map_err(|_| Malformed)
}

fn write_claims(writer: &mut Writer, claims: &[Claim]) {
    writer.count(claims.len());
    for claim in claims {
        writer.text(claim.tenant.as_str());
        for value in [claim.seq, claim.token, claim.left_ms] {
            writer.num(value);
        }
    }
}

fn read_claims(reader: &mut Reader) -> Result<Vec<Claim>, Malformed> {
    reader.list(|reader| {
        Ok(Claim {
            tenant: tenant(reader)?,
            seq: reader.num()?,
            token: reader.num()?,
            left_ms: reader.num()?,
        })
    })
}

/// A sign of life: who holds what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Beat {
    pub(super) client: Uuid,
    pub(super) terms: Terms,
    /// Pulls that got no answer: what was given to them is free.
    pub(super) lost: Vec<u64>,
    /// Everything it holds, when the leader is to learn it.
    pub(super) held: Option<Vec<Claim>>,
    /// Answer only when everything published by now can be pulled.
    pub(super) settled_view: bool,
}

impl Beat {
    pub(super) fn encode(&self) -> Bytes {
        let mut writer = Writer::default();
        writer.raw(self.client.as_bytes());
        self.terms.write(&mut writer);
        writer.count(self.lost.len());
        self.lost.iter().for_each(|pull| writer.num(*pull));
        writer.num(u64::from(self.settled_view));
        writer.num(u64::from(self.held.is_some()));
        if let Some(held) = &self.held {
            write_claims(&mut writer, held);
        }
        writer.done()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let client = reader.uuid()?;
        let terms = Terms::read(&mut reader)?;
        let lost = reader.list(Reader::num)?;
        let settled_view = reader.num()? > 0;
        let held = if reader.num()? > 0 { Some(read_claims(&mut reader)?) } else { None };
        Ok(Self { client, terms, lost, held, settled_view })
    }
}

/// Asks for deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pull {
    pub(super) client: Uuid,
    /// Names this request among the client's.
    pub(super) pull: u64,
    pub(super) tenant: Option<TenantId>,
    pub(super) max: u64,
    pub(super) wait_ms: u64,
}

impl Pull {
    pub(super) fn encode(&self) -> Bytes {
        let mut writer = Writer::default();
        writer.raw(self.client.as_bytes());
        for value in [self.pull, self.max, self.wait_ms] {
            writer.num(value);
        }
        writer.text(self.tenant.as_ref().map_or("", TenantId::as_str));
        writer.done()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let client = reader.uuid()?;
        let (pull, max, wait_ms) = (reader.num()?, reader.num()?, reader.num()?);
        let text = reader.text()?;
        let tenant =
            if text.is_empty() { None } else { Some(TenantId::new(text).map_err(|_| Malformed)?) };
        Ok(Self { client, pull, tenant, max, wait_ms })
    }
}

/// A delivery on its way to its holder.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) seq: u64,
    pub(super) token: u64,
    pub(super) failures: u32,
    /// `None`: too large for an answer, to be read from the stream.
    pub(super) message: Option<Stored>,
}

/// Bytes of a delivery beside its texts, at most.
pub(super) const SENT_BYTES: usize = 128;

/// What a message takes in an answer, at most.
pub(super) fn sent_bytes(message: &Stored) -> usize {
    let headers = message.headers.iter().map(|(name, value)| name.len() + value.len() + 8);
    let subject = message.subject.tenant().as_str().len() + message.subject.rest().len();
    SENT_BYTES + subject + headers.sum::<usize>() + message.payload.len()
}

/// The answer to a [`Pull`].
#[derive(Debug)]
pub(super) struct Pulled {
    pub(super) epoch: u64,
    /// How long the leases last.
    pub(super) lease_ms: u64,
    /// There is more that did not fit this answer.
    pub(super) more: bool,
    pub(super) sent: Vec<Sent>,
}

impl Pulled {
    pub(super) fn encode(&self) -> Bytes {
        let mut writer = Writer::default();
        writer.num(self.epoch);
        writer.num(self.lease_ms);
        writer.num(u64::from(self.more));
        writer.count(self.sent.len());
        for sent in &self.sent {
            for value in [sent.seq, sent.token, sent.failures.into()] {
                writer.num(value);
            }
            match &sent.message {
                None => writer.num(0),
                Some(message) => {
                    writer.num(1);
                    write_message(&mut writer, message);
                }
            }
        }
        writer.done()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let (epoch, lease_ms, more) = (reader.num()?, reader.num()?, reader.num()? > 0);
        let sent = reader.list(|reader| {
            let (seq, token, failures) = (reader.num()?, reader.num()?, reader.small()?);
            let near = reader.num()? > 0;
            let message = if near { Some(read_message(reader, seq)?) } else { None };
            Ok(Sent { seq, token, failures, message })
        })?;
        Ok(Self { epoch, lease_ms, more, sent })
    }
}

fn write_message(writer: &mut Writer, message: &Stored) {
    writer.text(&message.subject.to_string());
    writer.raw(message.id.as_bytes());
    writer.num(message.published_at_ms);
    writer.count(message.headers.len());
    for (name, value) in &message.headers {
        writer.text(name);
        writer.text(value);
    }
    writer.bytes(&message.payload);
}

fn read_message(reader: &mut Reader, seq: u64) -> Result<Stored, Malformed> {
    let subject = Subject::parse(&reader.text()?).ok_or(Malformed)?;
    let id = reader.uuid()?;
    let published_at_ms: UnixMs = reader.num()?;
    let headers: Headers =
        reader.list(|reader| Ok((reader.text()?, reader.text()?)))?.into_iter().collect();
    Ok(Stored { seq, subject, id, headers, payload: reader.bytes()?, published_at_ms })
}

/// How a delivery ends, or goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Ack,
    Nak {
        delay_ms: u64,
        cause: Cause,
    },
    Extend,
    /// It was dropped: back at once, uncounted.
    Release,
}

/// One delivery's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) seq: u64,
    pub(super) token: u64,
    pub(super) op: Op,
}

/// Ends of deliveries, answered when all of them are on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settle {
    pub(super) client: Uuid,
    pub(super) endings: Vec<Ending>,
}

impl Settle {
    pub(super) fn encode(&self) -> Bytes {
        let mut writer = Writer::default();
        writer.raw(self.client.as_bytes());
        writer.count(self.endings.len());
        for ending in &self.endings {
            writer.num(ending.seq);
            writer.num(ending.token);
            let (code, delay_ms) = match ending.op {
                Op::Ack => (0, 0),
                Op::Extend => (1, 0),
                Op::Release => (2, 0),
                Op::Nak { delay_ms, cause: Cause::Failed } => (3, delay_ms),
                Op::Nak { delay_ms, cause: Cause::Deferred } => (4, delay_ms),
                Op::Nak { delay_ms, cause: Cause::Drained } => (5, delay_ms),
            };
            writer.num(code);
            writer.num(delay_ms);
        }
        writer.done()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let client = reader.uuid()?;
        let endings = reader.list(|reader| {
            let (seq, token, code) = (reader.num()?, reader.num()?, reader.num()?);
            let delay_ms = reader.num()?;
            let op = match code {
                0 => Op::Ack,
                1 => Op::Extend,
                2 => Op::Release,
                3 => Op::Nak { delay_ms, cause: Cause::Failed },
                4 => Op::Nak { delay_ms, cause: Cause::Deferred },
                5 => Op::Nak { delay_ms, cause: Cause::Drained },
                _ => return Err(Malformed),
            };
            Ok(Ending { seq, token, op })
        })?;
        Ok(Self { client, endings })
    }
}

/// Asks for tenants with something to deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) client: Uuid,
    /// Leader and number of the last list that arrived; it need not be sent again.
    pub(super) seen: (u64, u64),
    pub(super) wait_ms: u64,
}

impl Names {
    pub(super) fn encode(&self) -> Bytes {
        let mut writer = Writer::default();
        writer.raw(self.client.as_bytes());
        writer.num(self.seen.0);
        writer.num(self.seen.1);
        writer.num(self.wait_ms);
        writer.done()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let client = reader.uuid()?;
        Ok(Self { client, seen: (reader.num()?, reader.num()?), wait_ms: reader.num()? })
    }
}

/// The answer to [`Names`]; an empty list has the number of the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) epoch: u64,
    pub(super) number: u64,
    pub(super) tenants: Vec<TenantId>,
}

impl Named {
    pub(super) fn encode(&self) -> Bytes {
        let mut writer = Writer::default();
        writer.num(self.epoch);
        writer.num(self.number);
        writer.count(self.tenants.len());
        self.tenants.iter().for_each(|tenant| writer.text(tenant.as_str()));
        writer.done()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        Ok(Self { epoch: reader.num()?, number: reader.num()?, tenants: reader.list(tenant)? })
    }
}

/// What became of an [`Ending`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The lease had ended before.
    Ended,
    /// It is on record.
    Done,
    /// The leader does not know the message yet: ask again.
    Again,
}

/// The answer to a [`Settle`], in order; to a [`Beat`], one: is it known what you hold?
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcomes {
    pub(super) epoch: u64,
    pub(super) each: Vec<Outcome>,
}

impl Outcomes {
    pub(super) fn encode(&self) -> Bytes {
        let mut writer = Writer::default();
        writer.num(self.epoch);
        writer.count(self.each.len());
        self.each.iter().for_each(|outcome| writer.num(*outcome as u64));
        writer.done()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let epoch = reader.num()?;
        let each = reader.list(|reader| match reader.num()? {
            0 => Ok(Outcome::Ended),
            1 => Ok(Outcome::Done),
            2 => Ok(Outcome::Again),
            _ => Err(Malformed),
        })?;
        Ok(Self { epoch, each })
    }
}

/// A new leader asks everyone what they hold.
pub(super) fn encode_who(epoch: u64) -> Bytes {
    let mut writer = Writer::default();
    writer.num(epoch);
    writer.done()
}

/// The epoch that an answer or a question of a new leader begins with.
pub(super) fn epoch_of(bytes: &Bytes) -> Result<u64, Malformed> {
    Reader::new(bytes.clone()).num()
}

/// What waits, from the first tenant after `after` on.
pub(super) fn encode_backlog_ask(after: &str) -> Bytes {
    let mut writer = Writer::default();
    writer.text(after);
    writer.done()
}

/// See [`encode_backlog_ask`].
pub(super) fn decode_backlog_ask(bytes: Bytes) -> Result<String, Malformed> {
    Reader::new(bytes).text()
}

/// A part of what waits, tenants in order of their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) epoch: u64,
    /// Tenant, messages not settled, and when the oldest was published.
    pub(super) tenants: Vec<(TenantId, u64, UnixMs)>,
    /// Ask for more after the last one.
    pub(super) more: bool,
}

impl Waiting {
    pub(super) fn encode(&self) -> Bytes {
        let mut writer = Writer::default();
        writer.num(self.epoch);
        writer.count(self.tenants.len());
        for (tenant, pending, oldest) in &self.tenants {
            writer.text(tenant.as_str());
            writer.num(*pending);
            writer.num(*oldest);
        }
        writer.num(u64::from(self.more));
        writer.done()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let epoch = reader.num()?;
        let tenants = reader.list(|reader| Ok((tenant(reader)?, reader.num()?, reader.num()?)))?;
        Ok(Self { epoch, tenants, more: reader.num()? > 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> TenantId {
        TenantId::new(text).expect("a valid name")
    }

    #[test]
    fn requests_read_back_as_they_were_written() {
        let client = Uuid::from_u128(7);
        let claim = Claim { tenant: name("a"), seq: 1, token: u64::MAX, left_ms: 3 };
        for held in [None, Some(vec![]), Some(vec![claim.clone(), claim])] {
            let terms = Terms { ack_wait_ms: 5, max_out: u64::MAX };
            let beat = Beat { client, terms, lost: vec![1, 900], held, settled_view: true };
            assert_eq!(Beat::decode(beat.encode()), Ok(beat));
        }
        for tenant in [None, Some(name("a"))] {
            let pull = Pull { client, pull: 9, tenant, max: 256, wait_ms: 500 };
            assert_eq!(Pull::decode(pull.encode()), Ok(pull));
        }
        let naks = [Cause::Failed, Cause::Deferred, Cause::Drained]
            .map(|cause| Op::Nak { delay_ms: 250, cause });
        let ops = naks.into_iter().chain([Op::Ack, Op::Extend, Op::Release]);
        let endings = ops.map(|op| Ending { seq: 1, token: 2, op }).collect();
        let settle = Settle { client, endings };
        assert_eq!(Settle::decode(settle.encode()), Ok(settle));
        let names = Names { client, seen: (2, 3), wait_ms: 4 };
        assert_eq!(Names::decode(names.encode()), Ok(names));
    }

    #[test]
    fn answers_read_back_as_they_were_written() {
        let subject = Subject::event(&name("a"), "run.started");
        let headers = Headers::from([("traceparent".to_owned(), "00".to_owned())]);
        let message = Stored {
            seq: 4,
            subject,
            id: Uuid::from_u128(9),
            headers,
            payload: Bytes::from_static(b"body"),
            published_at_ms: 77,
        };
        assert!(sent_bytes(&message) > 100);
        let near = Sent { seq: 4, token: 5, failures: 6, message: Some(message) };
        let far = Sent { message: None, ..near.clone() };
        let pulled = Pulled { epoch: 1, lease_ms: 2, more: true, sent: vec![near, far] };
        let read = Pulled::decode(pulled.encode()).expect("our own");
        assert_eq!(format!("{read:?}"), format!("{pulled:?}"));
        let named = Named { epoch: 1, number: 2, tenants: vec![name("a"), name("b")] };
        assert_eq!(Named::decode(named.encode()), Ok(named));
        let outcomes =
            Outcomes { epoch: 1, each: vec![Outcome::Ended, Outcome::Done, Outcome::Again] };
        assert_eq!(Outcomes::decode(outcomes.encode()), Ok(outcomes));
        let waiting = Waiting { epoch: 1, tenants: vec![(name("a"), 2, 3)], more: true };
        assert_eq!(Waiting::decode(waiting.encode()), Ok(waiting));
        assert_eq!(epoch_of(&encode_who(12)), Ok(12));
        assert_eq!(decode_backlog_ask(encode_backlog_ask("a")), Ok("a".to_owned()));
    }
}
