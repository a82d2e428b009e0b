//! One opener's handle of a consumer: pulls from whoever leads.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::ids::TenantId;
use crate::queue::{Backlog, Consumer, ConsumerSpec, Delivery, QueueError};

use super::connect::{Link, unavailable};
use super::fetch::fetch;
use super::holder::{AGAIN, ANSWER, Holder, no_leader};
use super::member::Wanted;
use super::namer::Namer;
use super::protocol::{Pull, Pulled, Sent, Terms, Waiting, encode_backlog_ask, verb};
use super::settle::{self, Endings, Lease};

/// How long an opener waits for a leader.
const OPEN_WAIT: Duration = Duration::from_secs(8);
/// How long the leader keeps one question of a pull that waits. With the time its answer
/// may take it is less than a leader's key lives.
const POLL_MS: u64 = 500;
/// How long the answer may take.
const LATE: Duration = Duration::from_millis(500);
/// How long a pull tries to find a leader, however short it would wait for messages.
const NO_LEADER_WAIT: Duration = Duration::from_millis(500);

/// The handle.
pub(super) struct Handle {
    holder: Arc<Holder>,
    endings: Endings,
    namer: OnceLock<Arc<Namer>>,
}

/// A consumer's name is a token of subjects.
pub(super) fn check_name(spec: &ConsumerSpec) -> Result<(), QueueError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if !spec.name.is_empty() && spec.name.bytes().all(plain) {
        return Ok(());
    }
    let name = &spec.name;
    Err(unavailable(format!("consumer name `{name}` is not letters, digits, `-` and `_`"), None))
}

impl Handle {
    /// Opens a handle; waits until it can be used.
    pub(super) async fn open(wanted: Arc<Wanted>, terms: Terms) -> Result<Self, QueueError> {
        let holder = Holder::start(wanted, terms);
        let endings = settle::start(&holder);
        let handle = Self { holder, endings, namer: OnceLock::new() };
        handle.holder.ready(OPEN_WAIT).await?;
        Ok(handle)
    }

    /// What waits for whom.
    pub(super) async fn backlog(&self) -> Result<Vec<Backlog>, QueueError> {
        let (mut all, mut after) = (Vec::new(), String::new());
        let end = Instant::now() + OPEN_WAIT;
        loop {
            let asked = self.holder.ask(verb::BACKLOG, encode_backlog_ask(&after), ANSWER).await;
            let Some(page) = asked.ok().and_then(|bytes| Waiting::decode(bytes).ok()) else {
                if Instant::now() >= end {
                    return Err(no_leader(OPEN_WAIT));
                }
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            all.extend(page.tenants.into_iter().map(|(tenant, pending, oldest_at_ms)| Backlog {
                tenant,
                pending,
                oldest_at_ms,
            }));
            match all.last() {
                Some(last) if page.more => after = last.tenant.to_string(),
                _ => return Ok(all),
            }
        }
    }

    fn puller(&self) -> Puller {
        Puller { holder: Arc::clone(&self.holder), endings: self.endings.clone() }
    }

    fn link(&self) -> &Arc<Link> {
        self.holder.member().link()
    }
}

#[async_trait]
impl Consumer for Handle {
    async fn pull(
        &self,
        tenant: Option<&TenantId>,
        max: usize,
        wait_ms: u64,
    ) -> Result<Vec<Delivery>, QueueError> {
        if max == 0 {
            return Ok(Vec::new());
        }
        // In a task of its own: a caller who gives up leaves nothing in between, what was
        // pulled is handed back.
        let (answer, answered) = oneshot::channel();
        let (puller, tenant) = (self.puller(), tenant.cloned());
        self.link().lifecycle.spawn(async move {
            let pulled = puller.pull(tenant, max, Duration::from_millis(wait_ms)).await;
            let _ = answer.send(pulled);
        });
        answered.await.map_err(|_| unavailable("the queue is closed", None))?
    }

    async fn active_tenants(&self) -> Result<Vec<TenantId>, QueueError> {
        let namer = self.namer.get_or_init(|| Namer::start(&self.holder));
        namer.next().await
    }
}

/// What one pull needs.
struct Puller {
    holder: Arc<Holder>,
    endings: Endings,
}

impl Puller {
    async fn pull(
        &self,
        tenant: Option<TenantId>,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<Delivery>, QueueError> {
        let begun = Instant::now();
        let (end, give_up) = (begun + wait, begun + wait.max(NO_LEADER_WAIT));
        let mut pulled = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let left_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            let wait_ms = if pulled.is_empty() { left_ms.min(POLL_MS) } else { 0 };
            match self.ask(tenant.as_ref(), max - pulled.len(), wait_ms).await {
                Some((more, full)) => {
                    pulled.extend(more);
                    let enough = pulled.len() >= max || !full && !pulled.is_empty();
                    if enough || !full && Instant::now() >= end {
                        return Ok(pulled);
                    }
                }
                None if !pulled.is_empty() => return Ok(pulled),
                None if Instant::now() >= give_up => return Err(no_leader(begun.elapsed())),
                None => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    /// One question. `None`: no answer; `true`: there is more at once.
    async fn ask(
        &self,
        tenant: Option<&TenantId>,
        max: usize,
        wait_ms: u64,
    ) -> Option<(Vec<Delivery>, bool)> {
        let (pull, asked) = (self.holder.next_pull(), Instant::now());
        let question = Pull {
            client: self.holder.id,
            pull,
            tenant: tenant.cloned(),
            max: max as u64,
            wait_ms,
        };
        let wait = Duration::from_millis(wait_ms) + LATE;
        let answer = self.holder.ask(verb::PULL, question.encode(), wait).await;
        let Some(pulled) = answer.ok().and_then(|bytes| Pulled::decode(bytes).ok()) else {
            self.holder.lost(pull);
            return None;
        };
        let until = asked + Duration::from_millis(pulled.lease_ms);
        let more = pulled.more;
        let sent = self.read_far(pulled.sent).await;
        let given = sent
            .iter()
            .map(|(sent, message)| (message.subject.tenant().clone(), sent.seq, sent.token));
        if !self.holder.accept(pulled.epoch, given.collect(), until) {
            return None;
        }
        let deliver = |(sent, message): (Sent, crate::queue::Stored)| Delivery {
            message,
            failures: sent.failures,
            settle: Box::new(Lease::new(&self.endings, sent.seq, sent.token)),
        };
        Some((sent.into_iter().map(deliver).collect(), more))
    }

    /// Reads what was too large for the answer; what cannot be read goes back.
    async fn read_far(&self, sent: Vec<Sent>) -> Vec<(Sent, crate::queue::Stored)> {
        let far: Vec<u64> =
            sent.iter().filter(|sent| sent.message.is_none()).map(|sent| sent.seq).collect();
        let mut read = std::collections::HashMap::new();
        if !far.is_empty() {
            let member = self.holder.member();
            read = fetch(member.link(), member.stream(), far).await;
        }
        let mut all = Vec::with_capacity(sent.len());
        for mut one in sent {
            let found = one.message.take().or_else(|| read.remove(&one.seq).flatten());
            match found {
                Some(message) => all.push((one, message)),
                None => drop(Lease::new(&self.endings, one.seq, one.token)),
            }
        }
        all
    }
}
