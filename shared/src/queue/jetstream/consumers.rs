//! The consumers of this process: one candidate for leader each, any number of handles.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures_util::TryStreamExt;

use crate::ids::TenantId;
use crate::queue::{Backlog, ConsumerSpec, QueueError};
use crate::subject::Stream;

use super::connect::{Link, unavailable};
use super::consumer::{Handle, check_name};
use super::inventory;
use super::log;
use super::member::Wanted;
use super::protocol::Terms;

/// The consumer whose progress is INBOUND's backlog. Source: `Queue::backlog`.
pub(super) const ROUTER: &str = "router";

type Wants = HashMap<(Stream, String), Weak<Wanted>>;

/// All of them.
pub(super) struct Consumers {
    link: Arc<Link>,
    wanted: Mutex<Wants>,
}

impl Consumers {
    pub(super) fn new(link: &Arc<Link>) -> Self {
        Self { link: Arc::clone(link), wanted: Mutex::default() }
    }

    /// See [`crate::queue::Queue::consumer`].
    pub(super) async fn open(&self, spec: &ConsumerSpec) -> Result<Handle, QueueError> {
        check_name(spec)?;
        self.link.ready()?;
        let terms =
            Terms { ack_wait_ms: spec.ack_wait_ms.max(1), max_out: spec.max_ack_pending as u64 };
        let wanted = self.wanted(spec, terms);
        if wanted.member().rest() != spec.rest {
            return Err(other_rest(spec));
        }
        wanted.member().set_terms(terms);
        Handle::open(wanted, terms).await
    }

    fn wanted(&self, spec: &ConsumerSpec, terms: Terms) -> Arc<Wanted> {
        let mut all = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, wanted| wanted.strong_count() > 0);
        let key = (spec.stream, spec.name.clone());
        if let Some(wanted) = all.get(&key).and_then(Weak::upgrade) {
            return wanted;
        }
        let wanted = Wanted::start(&self.link, spec, terms);
        all.insert(key, Arc::downgrade(&wanted));
        wanted
    }

    /// See [`crate::queue::Queue::backlog`].
    pub(super) async fn backlog(&self, stream: Stream) -> Result<Vec<Backlog>, QueueError> {
        let mut names = Vec::new();
        if stream == Stream::Inbound {
            names.push(ROUTER.to_owned());
        } else if stream.is_work_queue() {
            names = self.known(stream).await?;
        }
        if names.is_empty() {
            return inventory::backlog(&self.link, stream).await;
        }
        let mut sum: HashMap<TenantId, Backlog> = HashMap::new();
        for name in names {
            for backlog in self.look(stream, &name).await? {
                let entry = sum.entry(backlog.tenant.clone());
                entry
                    .and_modify(|before| {
                        before.pending += backlog.pending;
                        before.oldest_at_ms = before.oldest_at_ms.min(backlog.oldest_at_ms);
                    })
                    .or_insert(backlog);
            }
        }
        Ok(sum.into_values().collect())
    }

    /// Consumers that ever had a leader.
    async fn known(&self, stream: Stream) -> Result<Vec<String>, QueueError> {
        let failed = |error| unavailable("NATS did not tell of consumers", Some(error));
        self.link.ready()?;
        let progress = self.link.context.get_stream_no_info(&self.link.names.progress).await;
        let progress = progress.map_err(|error| failed(error.into()))?;
        let subjects = progress.info_builder().subjects(self.link.space.progress(stream, "*"));
        let found = subjects.fetch().await.map_err(|error| failed(error.into()))?;
        let found: Vec<_> = found.try_collect().await.map_err(|error| failed(error.into()))?;
        let name = |(subject, _): (String, usize)| subject.rsplit('.').next().map(str::to_owned);
        Ok(found.into_iter().filter_map(name).collect())
    }

    /// Asks a consumer's leader, and leads meanwhile when nobody else does.
    async fn look(&self, stream: Stream, name: &str) -> Result<Vec<Backlog>, QueueError> {
        let subject = self.link.space.progress(stream, name);
        let written = log::read(&self.link, &subject)
            .await
            .map_err(|error| unavailable("NATS did not tell of a consumer", Some(error.into())))?;
        let rest = Some(written.progress.rest).filter(|rest| !rest.is_empty());
        let spec = ConsumerSpec {
            stream,
            name: name.to_owned(),
            rest,
            ack_wait_ms: LOOK_ACK_WAIT_MS,
            max_ack_pending: usize::MAX,
        };
        let terms = Terms { ack_wait_ms: LOOK_ACK_WAIT_MS, max_out: u64::MAX };
        let wanted = self.wanted(&spec, terms);
        Handle::open(wanted, Terms::NONE).await?.backlog().await
    }
}

/// Until somebody opens the consumer to work.
const LOOK_ACK_WAIT_MS: u64 = 30_000;

fn other_rest(spec: &ConsumerSpec) -> QueueError {
    let reason = format!(
        "consumer `{}` of {} is open with another filter; give it another name",
        spec.name, spec.stream
    );
    unavailable(reason, None)
}
