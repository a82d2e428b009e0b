//! The desk alone: what it hands out, writes down and answers, over any number of leaders.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::progress::{Change, Record};
use super::super::protocol::{Pulled, Sent};
use super::*;
use crate::message::Priority;
use crate::subject::{Stream, Subject};

const TERMS: Terms = Terms { ack_wait_ms: 1_000, max_out: 100 };
const ONE: Uuid = Uuid::from_u128(1);
const TWO: Uuid = Uuid::from_u128(2);

fn incoming(seq: u64, key: Option<&str>) -> Incoming {
    let tenant = TenantId::new("a").expect("a valid name");
    let stored = Stored {
        seq,
        subject: Subject::of(Stream::Tasks, &tenant, "flow"),
        id: Uuid::from_u128(seq.into()),
        headers: crate::queue::Headers::new(),
        payload: Bytes::from_static(b"x"),
        published_at_ms: 1,
    };
    Incoming { stored, ordering_key: key.map(str::to_owned), priority: Priority::Normal }
}

/// A leader, the log that it writes, and what it answered.
struct Rig {
    desk: Desk,
    log: Vec<Record>,
    flying: Option<Change>,
    answers: Vec<(ReplyTo, Bytes)>,
    pulls: u64,
    now_ms: u64,
}

impl Rig {
    /// A new leader, who knows what is in `log`.
    fn lead(mut log: Vec<Record>, now_ms: u64) -> Self {
        let mut progress = Progress::default();
        log.iter().for_each(|record| progress.apply(record));
        let change = Change::Lead { rest: String::new() };
        let record = Record { epoch: progress.epoch + 1, number: 0, change };
        progress.apply(&record);
        log.push(record);
        let desk = Desk::new(progress, TERMS, 1 << 20);
        Self { desk, log, flying: None, answers: Vec::new(), pulls: 0, now_ms }
    }

    fn add(&mut self, count: u64) {
        for seq in 1..=count {
            self.desk.add(incoming(seq, None), self.now_ms, 0);
        }
    }

    fn flush(&mut self) {
        self.desk.tick(self.now_ms, 0);
        for effect in self.desk.take_effects() {
            match effect {
                Effect::Answer { to, body } => self.answers.push((to, body)),
                Effect::Read(handing) => {
                    let read = handing.missing.clone().into_iter();
                    let read = read.map(|seq| (seq, Some(incoming(seq, None).stored))).collect();
                    self.desk.handed(handing, read, self.now_ms);
                    self.flush();
                }
            }
        }
        self.flying = self.flying.take().or_else(|| self.desk.next_change());
    }

    /// What is on its way to the log arrives there.
    fn store(&mut self) {
        self.flush();
        while let Some(change) = self.flying.take() {
            let (epoch, number) = (self.desk.epoch(), self.log.len() as u64);
            self.log.push(Record { epoch, number, change });
            self.desk.stored(self.now_ms);
            self.flush();
        }
    }

    fn answer(&mut self, to: &str) -> Option<Bytes> {
        let place = self.answers.iter().position(|(reply, _)| reply.as_str() == to)?;
        Some(self.answers.remove(place).1)
    }

    fn pull(&mut self, client: Uuid, max: u64) -> Vec<Sent> {
        self.pulls += 1;
        let pull = Pull { client, pull: self.pulls, tenant: None, max, wait_ms: 0 };
        self.desk.pull(pull, "pull".into(), self.now_ms);
        self.flush();
        let body = self.answer("pull").expect("an answer at once");
        Pulled::decode(body).expect("our own").sent
    }

    fn ask(&mut self, sent: &Sent, op: Op, to: &'static str) {
        let endings = vec![Ending { seq: sent.seq, token: sent.token, op }];
        let settle = Settle { client: ONE, endings };
        self.desk.settle(settle, to.into(), self.now_ms, 0);
        self.flush();
    }

    fn outcome(&mut self, to: &str) -> Option<Outcome> {
        let body = self.answer(to)?;
        Outcomes::decode(body).expect("our own").each.first().copied()
    }
}

fn claim(sent: &Sent) -> Claim {
    let tenant = TenantId::new("a").expect("a valid name");
    Claim { tenant, seq: sent.seq, token: sent.token, left_ms: 500 }
}

const FAILED: Op = Op::Nak { delay_ms: 0, cause: Cause::Failed };

#[test]
fn an_ack_is_answered_when_it_is_on_record() {
    let mut rig = Rig::lead(Vec::new(), 0);
    rig.add(1);
    let sent = rig.pull(ONE, 5).remove(0);
    rig.ask(&sent, Op::Ack, "first");
    assert_eq!(rig.outcome("first"), None);
    // Its answer is late, so it is asked again.
    rig.ask(&sent, Op::Ack, "again");
    rig.store();
    for to in ["first", "again"] {
        assert_eq!(rig.outcome(to), Some(Outcome::Done), "{to}");
    }
    rig.ask(&sent, Op::Ack, "later");
    assert_eq!(rig.outcome("later"), Some(Outcome::Done));
}

#[test]
fn an_ack_whose_answer_was_lost_with_the_leader_is_done_at_the_next() {
    for stored in [true, false] {
        let mut rig = Rig::lead(Vec::new(), 0);
        rig.add(1);
        let sent = rig.pull(ONE, 5).remove(0);
        rig.ask(&sent, Op::Ack, "lost");
        if stored {
            rig.store();
        }
        let mut next = Rig::lead(rig.log, 0);
        next.desk.claims(ONE, vec![claim(&sent)], 0);
        next.ask(&sent, Op::Ack, "early");
        // What is not on record is not loaded yet either.
        let expected = if stored { Outcome::Done } else { Outcome::Again };
        assert_eq!(next.outcome("early"), Some(expected), "stored: {stored}");
        next.add(1);
        assert!(next.pull(TWO, 5).is_empty(), "it is held, or done");
        next.ask(&sent, Op::Ack, "ack");
        next.store();
        assert_eq!(next.outcome("ack"), Some(Outcome::Done));
        assert!(Rig::lead(next.log, 0).desk.progress().is_done(1));
    }
}

#[test]
fn a_failure_that_is_reported_to_two_leaders_counts_once() {
    let mut rig = Rig::lead(Vec::new(), 0);
    rig.add(1);
    let sent = rig.pull(ONE, 5).remove(0);
    rig.ask(&sent, FAILED, "lost");
    rig.store();
    let mut next = Rig::lead(rig.log, 0);
    next.desk.claims(ONE, vec![claim(&sent)], 0);
    next.add(1);
    next.ask(&sent, FAILED, "again");
    assert_eq!(next.outcome("again"), Some(Outcome::Done));
    assert_eq!(next.pull(TWO, 5)[0].failures, 1);
}

#[test]
fn what_nobody_claims_is_free_and_a_late_holder_is_told() {
    let mut rig = Rig::lead(Vec::new(), 0);
    rig.add(2);
    let sent = rig.pull(ONE, 5);
    let mut next = Rig::lead(rig.log, 0);
    next.add(2);
    let again = next.pull(TWO, 1).remove(0);
    next.desk.claims(ONE, sent.iter().map(claim).collect(), 0);
    next.ask(&sent[0], Op::Extend, "late");
    assert_eq!(next.outcome("late"), Some(Outcome::Ended));
    next.ask(&sent[1], Op::Extend, "in time");
    assert_eq!(next.outcome("in time"), Some(Outcome::Done));
    assert_ne!(again.token, sent[0].token);
}

#[test]
fn a_pull_that_got_no_answer_holds_nothing() {
    let mut rig = Rig::lead(Vec::new(), 0);
    rig.add(3);
    assert_eq!(rig.pull(ONE, 5).len(), 3);
    let lost = vec![rig.pulls];
    let beat = Beat { client: ONE, terms: TERMS, lost, held: None, settled_view: false };
    rig.desk.beat(beat, 0);
    let again = rig.pull(ONE, 5);
    assert_eq!(again.iter().map(|sent| sent.failures).collect::<Vec<_>>(), [0, 0, 0]);
}

#[test]
fn a_silent_holder_times_out_only_while_the_leader_itself_is_heard() {
    let mut rig = Rig::lead(Vec::new(), 0);
    rig.add(1);
    rig.pull(ONE, 5);
    rig.now_ms = 900;
    rig.flush();
    assert!(rig.pull(TWO, 5).is_empty(), "the leader was cut off too");
    for _ in 0..=MAX_SILENCE {
        rig.desk.sign_of_life(rig.now_ms);
    }
    assert_eq!(rig.pull(TWO, 5)[0].failures, 1);
}

#[test]
fn a_claim_of_what_left_the_stream_is_done() {
    let mut rig = Rig::lead(Vec::new(), 0);
    rig.add(4);
    let sent = rig.pull(ONE, 5);
    let mut next = Rig::lead(rig.log, 0);
    next.desk.claims(ONE, vec![claim(&sent[2])], 0);
    for seq in [1, 2, 4] {
        next.desk.add(incoming(seq, None), 0, 0);
    }
    next.ask(&sent[2], Op::Ack, "ack");
    assert_eq!(next.outcome("ack"), Some(Outcome::Done));
}

#[test]
fn a_client_that_goes_gives_back_uncounted() {
    let mut rig = Rig::lead(Vec::new(), 0);
    rig.add(1);
    rig.pull(ONE, 5);
    rig.desk.bye(ONE, 0);
    assert_eq!(rig.pull(TWO, 5)[0].failures, 0);
}

#[derive(Debug, Clone)]
enum Step {
    Pull(u128, u64),
    Ack(usize),
    Fail(usize),
    Store,
    /// The leader dies; what was on its way is stored or not; client 1 answers or not.
    Depose {
        stored: bool,
        claims: bool,
    },
    Silence,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..3_u128, 1..6_u64).prop_map(|(client, max)| Step::Pull(client, max)),
        6 => any::<usize>().prop_map(Step::Ack),
        1 => any::<usize>().prop_map(Step::Fail),
        3 => Just(Step::Store),
        1 => (any::<bool>(), any::<bool>())
            .prop_map(|(stored, claims)| Step::Depose { stored, claims }),
        1 => Just(Step::Silence),
    ]
}

const MESSAGES: u64 = 24;

fn key(seq: u64) -> String {
    format!("k{}", seq % 5)
}

fn load(rig: &mut Rig) {
    for seq in 1..=MESSAGES {
        rig.desk.add(incoming(seq, Some(&key(seq))), rig.now_ms, 0);
    }
}

proptest! {
    /// Whatever happens in whatever order: nothing is given to two, no key runs ahead, and
    /// what was confirmed never comes again.
    #[test]
    fn promises_hold_over_any_number_of_leaders(steps in proptest::collection::vec(step(), 0..80)) {
        let mut rig = Rig::lead(Vec::new(), 0);
        load(&mut rig);
        // Message → holder and delivery; asked to be acked; confirmed.
        let mut held: BTreeMap<u64, (u128, Sent)> = BTreeMap::new();
        let (mut asked, mut confirmed) = (BTreeSet::new(), BTreeSet::new());
        let mut all_steps = steps;
        // At the end everything is taken by one and acked.
        for _ in 0..2 * MESSAGES {
            all_steps.extend([Step::Pull(1, 30), Step::Ack(0), Step::Store]);
        }
        for step in all_steps {
            match step {
                Step::Pull(client, max) => {
                    for sent in rig.pull(Uuid::from_u128(client), max) {
                        let seq = sent.seq;
                        prop_assert!(!confirmed.contains(&seq), "{} came again", seq);
                        let before = (1..seq).filter(|s| key(*s) == key(seq));
                        prop_assert!(before.into_iter().all(|s| asked.contains(&s)), "{} ran ahead", seq);
                        let other = held.insert(seq, (client, sent));
                        prop_assert!(other.is_none(), "{} is held twice", seq);
                    }
                }
                Step::Ack(nth) if !held.is_empty() => {
                    let seq = *held.keys().nth(nth % held.len()).expect("one of them");
                    let sent = held[&seq].1.clone();
                    asked.insert(seq);
                    rig.ask(&sent, Op::Ack, "ack");
                    if rig.outcome("ack") == Some(Outcome::Ended) {
                        held.remove(&seq);
                    }
                }
                Step::Fail(nth) if !held.is_empty() => {
                    let seq = *held.keys().nth(nth % held.len()).expect("one of them");
                    if asked.contains(&seq) {
                        continue;
                    }
                    let (_, sent) = held.remove(&seq).expect("held");
                    rig.ask(&sent, FAILED, "fail");
                    rig.store();
                }
                Step::Store => {
                    rig.store();
                    let done = |seq: &u64| rig.desk.progress().is_done(*seq);
                    confirmed.extend(asked.iter().copied().filter(done));
                    held.retain(|seq, _| !confirmed.contains(seq));
                }
                Step::Depose { stored, claims } => {
                    if stored {
                        rig.store();
                    }
                    let mut next = Rig::lead(rig.log, rig.now_ms);
                    let done = |seq: &u64| next.desk.progress().is_done(*seq);
                    confirmed.extend(asked.iter().copied().filter(done));
                    held.retain(|seq, (client, _)| {
                        !confirmed.contains(seq) && (claims || *client == 2)
                    });
                    for client in [1, 2_u128] {
                        let theirs = held.values().filter(|(holder, _)| *holder == client);
                        let theirs = theirs.map(|(_, sent)| claim(sent)).collect();
                        next.desk.claims(Uuid::from_u128(client), theirs, next.now_ms);
                    }
                    rig = next;
                    load(&mut rig);
                }
                Step::Silence => {
                    rig.store();
                    let done = |seq: &u64| rig.desk.progress().is_done(*seq);
                    confirmed.extend(asked.iter().copied().filter(done));
                    for _ in 0..=MAX_SILENCE {
                        rig.desk.sign_of_life(rig.now_ms);
                    }
                    held.clear();
                    rig.store();
                }
                _ => {}
            }
        }
        prop_assert_eq!(confirmed.len() as u64, MESSAGES);
    }
}
