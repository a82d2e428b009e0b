//! The loop: takes messages, decides, publishes, acks. Nothing is acked before what it
//! led to is stored, and nothing that could not be stored is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aof_shared::ids::{AgentName, InvalidName, Revision};
use aof_shared::message::{Message, PINNED_AGENT};
use aof_shared::node::Node;
use aof_shared::queue::{Cause, Consumer, Delivery, Publication, QueueError, Unconcluded};
use aof_shared::telemetry::DeadLetterLabels;
use aof_shared::throttle::Throttle;
use aof_shared::trace::Span;
use arc_swap::ArcSwap;
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use tokio::sync::Semaphore;

use crate::channel::{Known, Naming, is_nameless};
use crate::emit::{Basis, Origin, data};
use crate::names::{Name, Names};
use crate::record::Records;
use crate::score::Request;
use crate::table::{Miss, Route, Table};

/// Deliveries out at once, for all routers together.
pub(crate) const MAX_ACK_PENDING: usize = 2_048;

/// A router silent for this long loses its deliveries to another; a batch takes
/// milliseconds.
pub(crate) const ACK_WAIT_MS: u64 = 30_000;

/// Messages taken, decided and published together.
const BATCH: usize = 256;

/// Batches under way in one router: one is being published while the next is decided.
const MAX_BATCHES: usize = 4;

/// Messages of a batch that may wait for the store at once.
const MAX_LOOKUPS: usize = 32;

/// How long one pull waits for the first message.
const PULL_WAIT_MS: u64 = 1_000;

/// A message that waits for its channel's name comes back after this long.
const NAME_DELAY_MS: u64 = 200;

/// First and longest delay after the queue or store could not do it; doubles in between.
const FIRST_BACKOFF_MS: u64 = 250;
const MAX_BACKOFF_MS: u64 = 10_000;
/// Longest pause between pulls, so that routing goes on soon after an outage.
const MAX_PULL_PAUSE_MS: u64 = 2_000;

/// Deliveries that failed this often, by time-out, are given up.
const MAX_FAILURES: u32 = 5;

/// One log line about names that nobody could look up, for each account.
const SAY_UNRESOLVED_EVERY_MS: u64 = 60_000;

/// What becomes of one delivery.
enum Step {
    /// Store these, then ack; the span ends after that.
    Publish(Vec<Publication>, Span),
    /// Try again later.
    Later { delay_ms: u64 },
}

/// A delivery that was decided.
struct Ready {
    publications: Vec<Publication>,
    delivery: Delivery,
    span: Span,
}

/// What the loop stands on.
pub(crate) struct Dispatcher {
    node: Node,
    table: Arc<ArcSwap<Table>>,
    names: Names,
    records: Records,
    /// Publications and look-ups that failed in a row.
    troubles: AtomicU32,
    /// What was logged of names that nobody could look up.
    unresolved: Throttle,
}

impl Dispatcher {
    pub(crate) fn new(node: &Node, table: Arc<ArcSwap<Table>>) -> Self {
        let names = Names::new(&node.ports);
        let unresolved = Throttle::new(SAY_UNRESOLVED_EVERY_MS);
        Self {
            node: node.clone(),
            table,
            names,
            records: Records::default(),
            troubles: AtomicU32::new(0),
            unresolved,
        }
    }

    /// Runs until the node stops; what is out then is finished by the tasks it was given to.
    pub(crate) async fn run(self: Arc<Self>, consumer: Arc<dyn Consumer>) {
        let places = Arc::new(Semaphore::new(MAX_BATCHES));
        let lifecycle = self.node.lifecycle.clone();
        loop {
            let next = async {
                self.pause().await;
                let place = places.clone().acquire_owned().await;
                (place, consumer.pull(None, BATCH, PULL_WAIT_MS).await)
            };
            let (place, pulled) = tokio::select! {
                biased;
                () = lifecycle.stopped() => return,
                next = next => next,
            };
            match pulled {
                Ok(deliveries) if deliveries.is_empty() => {
                    self.node.health.up(crate::ROLE);
                    self.fine();
                }
                Ok(deliveries) => {
                    self.node.health.up(crate::ROLE);
                    let dispatcher = self.clone();
                    lifecycle.spawn(async move {
                        dispatcher.handle(deliveries).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    self.trouble(&error);
                    self.node.health.down(crate::ROLE, error.to_string());
                }
            }
        }
    }

    /// Decides a batch under one revision, stores what it led to at once, settles it.
    async fn handle(&self, deliveries: Vec<Delivery>) {
        let table = self.table.load_full();
        let steps = stream::iter(deliveries).map(|delivery| {
            let table = &table;
            async move { (self.step(table, &delivery).await, delivery) }
        });
        let steps: Vec<(Step, Delivery)> = steps.buffered(MAX_LOOKUPS).collect().await;
        let mut ready = Vec::with_capacity(steps.len());
        let mut later = Vec::new();
        for (step, delivery) in steps {
            match step {
                Step::Publish(publications, span) => {
                    ready.push(Ready { publications, delivery, span });
                }
                Step::Later { delay_ms } => later.push((delivery, delay_ms)),
            }
        }
        tokio::join!(
            self.store(ready, table.revision()),
            join_all(
                later.into_iter().map(|(delivery, delay_ms)| self.give_back(delivery, delay_ms))
            ),
        );
    }

    /// Publishes a batch in one call and acks; if one message is too large for it, each
    /// in its own.
    async fn store(&self, ready: Vec<Ready>, revision: &Revision) {
        if ready.is_empty() {
            return;
        }
        let whole = ready.iter().flat_map(|ready| ready.publications.iter().cloned());
        let whole: Vec<_> = whole.collect();
        let split = |ready: Ready| ((ready.publications, ready.span), ready.delivery);
        let (mut parts, deliveries): (Vec<_>, Vec<_>) = ready.into_iter().map(split).unzip();
        match self.node.ports.queue.conclude(whole, deliveries).await {
            Ok(()) => self.fine(),
            // Nothing was taken, so every delivery is still held.
            Err(Unconcluded { error: QueueError::TooLarge { .. }, deliveries }) => {
                let ready = parts
                    .into_iter()
                    .zip(deliveries)
                    .map(|((publications, span), delivery)| Ready { publications, delivery, span });
                join_all(ready.map(|ready| self.store_one(ready, revision))).await;
            }
            Err(Unconcluded { error, deliveries }) => {
                self.trouble(&error);
                for (_, span) in &mut parts {
                    span.fail("queue_unavailable");
                }
                let delay_ms = self.backoff_ms();
                join_all(deliveries.into_iter().map(|d| self.give_back(d, delay_ms))).await;
            }
        }
    }

    async fn store_one(&self, ready: Ready, rev: &Revision) {
        let Ready { publications, delivery, mut span } = ready;
        let queue = &self.node.ports.queue;
        let mut stored = queue.publish(publications).await;
        if let Err(error @ QueueError::TooLarge { .. }) = stored {
            let Step::Publish(dead, _) = self.dead(&delivery, rev, "too_large", error.to_string())
            else {
                return self.give_back(delivery, MAX_BACKOFF_MS).await;
            };
            stored = queue.publish(dead).await;
        }
        match stored {
            Ok(_) => self.ack(delivery, span).await,
            Err(error) => {
                span.fail("queue_unavailable");
                self.trouble(&error);
                self.give_back(delivery, self.backoff_ms()).await;
            }
        }
    }

    /// Decides one delivery.
    async fn step(&self, table: &Table, delivery: &Delivery) -> Step {
        let stored = &delivery.message;
        let revision = table.revision();
        let message: Message = match serde_json::from_slice(&stored.payload) {
            Ok(message) => message,
            Err(error) => return self.dead(delivery, revision, "unreadable", error.to_string()),
        };
        if message.tenant != *stored.subject.tenant() {
            let detail = format!("subject {} holds another tenant's message", stored.subject);
            return self.dead(delivery, revision, "wrong_tenant", detail);
        }
        if delivery.failures >= MAX_FAILURES {
            let detail = format!("gave no result in {} deliveries", delivery.failures);
            return self.dead(delivery, revision, "attempts", detail);
        }
        let name = if table.uses_names(&message) {
            match self.names.of(&message).await {
                Ok(name) => name,
                Err(error) => {
                    self.trouble(&error);
                    return Step::Later { delay_ms: self.backoff_ms() };
                }
            }
        } else {
            Name::Nameless
        };
        self.decide(table, delivery, message, name).await
    }

    async fn decide(&self, table: &Table, from: &Delivery, message: Message, name: Name) -> Step {
        let naming = match &name {
            Name::Named(name) => Naming::Named(name),
            Name::Nameless => Naming::Nameless,
            Name::Unknown => Naming::Unresolved,
        };
        let pinned = match pinned(from) {
            Ok(pinned) => pinned,
            Err(error) => {
                return self.dead(from, table.revision(), "unreadable", error.to_string());
            }
        };
        let request = Request::new(&message, naming).pinned_to(pinned.as_ref());
        let hangs = naming == Naming::Unresolved && table.hangs_on_name(&request);
        if hangs && table.is_resolved(&message) && self.names.awaited(&message).await {
            return Step::Later { delay_ms: NAME_DELAY_MS };
        }
        if hangs {
            self.say_unresolved(&message);
        }
        let mut span = self.node.tracer.process("router.dispatch", &from.message);
        let decision = table.decide(&request);
        let verdict = decision.verdict;
        tag(&mut span, &message, verdict.as_ref());
        span.tag("revision", table.revision());
        let now_ms = self.node.ports.clock.now_ms();
        let (config, recorded) = self.records.of(table, &message.tenant, now_ms);
        let basis = Basis {
            config,
            known: known(table, &message, naming),
            hangs_on_name: hangs,
            inbound_seq: from.message.seq,
        };
        let data = data(verdict.as_ref().ok(), &decision.candidates, &request, &basis);
        let origin = Origin::new(&from.message, span.context(), table.revision(), now_ms);
        let written = match verdict {
            Ok(route) => {
                tracing::debug!(
                    tenant.id = %message.tenant, flow.name = %route.flow, score = route.score,
                    "task routed"
                );
                origin.routed(route, message, data)
            }
            Err(miss) => {
                if miss != Miss::Chatter {
                    tracing::warn!(
                        tenant.id = %message.tenant, message.id = %message.id,
                        platform = %message.platform, channel = %message.channel.id,
                        reason = miss.reason(), unresolved_channel = hangs, "message unrouted"
                    );
                }
                origin.missed(miss, &message, data)
            }
        };
        match written {
            Ok(mut publications) => {
                publications.extend(recorded);
                Step::Publish(publications, span)
            }
            Err(error) => {
                self.records.forget();
                self.dead(from, table.revision(), "unwritable", error.to_string())
            }
        }
    }

    fn say_unresolved(&self, message: &Message) {
        let Message { tenant, platform, instance, channel, .. } = message;
        let now_ms = self.node.ports.clock.now_ms();
        if self.unresolved.allows(&format!("{tenant}/{platform}/{instance}"), now_ms) {
            tracing::warn!(
                tenant.id = %tenant, %platform, instance.name = %instance, channel = %channel.id,
                "a channel's name is not known, so flows that name channels do not match; \
                 `aofctl status` shows whether names can be looked up"
            );
        }
    }

    fn dead(&self, from: &Delivery, revision: &Revision, reason: &str, detail: String) -> Step {
        let stored = &from.message;
        tracing::error!(
            tenant.id = %stored.subject.tenant(), seq = stored.seq, reason, detail, "dead letter"
        );
        let labels = DeadLetterLabels { role: crate::ROLE.to_owned(), reason: reason.to_owned() };
        let mut span = self.node.tracer.process("router.dispatch", stored);
        span.fail(reason);
        let now_ms = self.node.ports.clock.now_ms();
        let origin = Origin::new(stored, span.context(), revision, now_ms);
        match origin.dead(reason, detail, from.failures) {
            Ok(publications) => {
                self.node.metrics.dead_letters.get_or_create(&labels).inc();
                Step::Publish(publications, span)
            }
            Err(_) => Step::Later { delay_ms: MAX_BACKOFF_MS },
        }
    }

    /// An ack that failed brings the message back, and its ids make that harmless.
    async fn ack(&self, delivery: Delivery, _until_then: Span) {
        if let Err(error) = delivery.ack().await {
            tracing::warn!(%error, "ack failed; the message will be routed again");
        }
    }

    async fn give_back(&self, delivery: Delivery, delay_ms: u64) {
        let stopping = self.node.lifecycle.stopping();
        let cause = if stopping { Cause::Drained } else { Cause::Deferred };
        if let Err(error) = delivery.nak(delay_ms, cause).await {
            tracing::warn!(%error, "nak failed; the message comes back after the ack wait");
        }
    }

    fn trouble(&self, error: &(dyn std::error::Error + 'static)) {
        self.records.forget();
        let count = self.troubles.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        // Ever fewer lines about one outage.
        if count.is_power_of_two() {
            tracing::warn!(error, count, "routing waits for the backend");
        }
    }

    fn fine(&self) {
        self.troubles.store(0, Ordering::Relaxed);
    }

    fn backoff_ms(&self) -> u64 {
        backoff_ms(self.troubles.load(Ordering::Relaxed))
    }

    /// Waits before the next pull while the backend has trouble.
    async fn pause(&self) {
        if self.troubles.load(Ordering::Relaxed) > 0 {
            let pause_ms = self.backoff_ms().min(MAX_PULL_PAUSE_MS);
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
    }
}

/// What the decision knew of the channel's name.
fn known(table: &Table, message: &Message, naming: Naming<'_>) -> Known {
    match naming {
        Naming::Named(_) => Known::Named,
        Naming::Unresolved => Known::Unresolved,
        Naming::Nameless if table.uses_names(message) || is_nameless(message) => Known::Nameless,
        Naming::Nameless => Known::Unasked,
    }
}

/// Says what a message is and where it goes.
fn tag(span: &mut Span, message: &Message, verdict: Result<&Route, &Miss>) {
    span.tag("message.id", &message.id).tag("platform", &message.platform);
    match verdict {
        Ok(route) => span
            .tag("flow.name", &route.flow)
            .tag("gen_ai.agent.name", &route.agent)
            .count("flow.score", route.score),
        Err(miss) => span.tag("route.miss", &miss.reason()),
    };
}

/// The agent that the sender asked for by name.
fn pinned(delivery: &Delivery) -> Result<Option<AgentName>, InvalidName> {
    delivery.message.headers.get(PINNED_AGENT).map(AgentName::new).transpose()
}

/// How long to wait after `troubles` in a row.
fn backoff_ms(troubles: u32) -> u64 {
    let doublings = troubles.saturating_sub(1).min(16);
    (FIRST_BACKOFF_MS << doublings).min(MAX_BACKOFF_MS)
}

#[cfg(test)]
mod tests;
