//! What the queue port promises, one test a promise. Every adapter runs them unchanged:
//! `queue_contract!(fixture)` in its own tests.

mod concluding;
mod consuming;
mod history;
mod publishing;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use crate::ids::{FlowName, TenantId};
use crate::queue::{Consumer, ConsumerSpec, Delivery, Live, Publication, Queue, QueueError};
use crate::subject::{Stream, Subject};

pub use concluding::*;
pub use consuming::*;
pub use history::*;
pub use publishing::*;

/// Tries of something that may fail for a while.
const MAX_TRIES: usize = 200;
/// Pulls after a lost ack, until the message counts as settled.
const LOOKS: usize = 10;
/// How long something that must happen may take, in milliseconds.
const PATIENCE_MS: u64 = 5_000;
/// How long the tests' deliveries may stay silent, in milliseconds.
pub const ACK_WAIT_MS: u64 = 1_000;

/// A backend with nothing in it, and the power over its time.
#[async_trait]
pub trait QueueFixture: Send + Sync {
    /// The queue under test.
    fn queue(&self) -> Arc<dyn Queue>;
    /// Its signals.
    fn live(&self) -> Arc<dyn Live>;
    /// Lets that much of the backend's time pass.
    async fn pass_ms(&self, ms: u64);
    /// Closes the backend and opens it again; everything in memory is gone.
    async fn restart(&mut self);
}

/// Runs every promise against `$fixture`, an expression that makes a [`QueueFixture`].
#[macro_export]
macro_rules! queue_contract {
    ($fixture:expr) => {
        $crate::queue_contract!(@tests $fixture,
            receipts_survive_a_restart,
            an_id_is_stored_once,
            an_id_in_two_streams_is_two_messages,
            duplicates_within_a_batch_are_stored_once,
            a_batch_over_the_size_limit_is_refused_whole,
            concurrent_publishers_get_distinct_positions,
            what_was_published_is_delivered_as_it_was,
            an_acked_message_does_not_come_back,
            an_unsettled_delivery_comes_back_after_its_ack_wait,
            extending_keeps_a_delivery,
            a_settled_lease_cannot_be_settled_again_by_a_late_holder,
            a_dropped_delivery_comes_back_uncounted,
            only_failures_count,
            failures_survive_a_restart,
            a_nak_waits_for_its_delay,
            one_key_is_delivered_one_at_a_time_in_order,
            a_nak_keeps_its_place_in_its_key,
            what_is_concluded_is_stored_and_acked,
            a_refused_conclusion_keeps_its_deliveries,
            a_late_conclusion_stores_its_batch_only,
            critical_overtakes_but_never_within_its_key,
            no_more_than_max_ack_pending_are_out,
            filters_split_a_stream,
            tenants_are_pulled_apart,
            many_tenants_are_served_in_turn,
            active_tenants_names_each_once,
            a_tenant_is_named_again_after_a_short_pull,
            pull_waits_for_the_first,
            unacked_messages_survive_a_restart,
            a_history_stream_keeps_what_is_acked,
            a_consumer_goes_on_where_it_was,
            read_sees_one_tenant_only,
            read_selects_by_rest_and_time,
            read_waits_for_the_first,
            removed_messages_are_gone_for_their_tenant_only,
            backlog_counts_what_is_not_settled,
            sequence_numbers_are_never_used_again,
            signals_reach_who_listens_now,
        );
    };
    (@tests $fixture:expr, $($name:ident),+ $(,)?) => {
        $(
            #[tokio::test]
            async fn $name() {
                $crate::queue::contract::$name(&mut $fixture.await).await;
            }
        )+
    };
}

/// Runs the promises that hold for callers that try again, against a queue whose
/// answers get lost.
#[macro_export]
macro_rules! queue_contract_under_faults {
    ($fixture:expr) => {
        $crate::queue_contract!(@tests $fixture,
            receipts_survive_a_restart,
            an_id_is_stored_once,
            concurrent_publishers_get_distinct_positions,
            one_key_is_delivered_one_at_a_time_in_order,
            an_acked_message_does_not_come_back,
            unacked_messages_survive_a_restart,
            a_consumer_goes_on_where_it_was,
            read_sees_one_tenant_only,
            tenants_are_pulled_apart,
        );
    };
}

pub(crate) fn tenant(name: &str) -> TenantId {
    TenantId::new(name).expect("a test's tenant name is valid")
}

/// A task of `tenant` with `body`, under a new id.
pub(crate) fn task(tenant: &TenantId, body: &str) -> Publication {
    let flow = FlowName::new("flow").expect("a valid name");
    Publication::new(Subject::task(tenant, &flow), Uuid::now_v7(), body.to_owned())
}

pub(crate) fn event(tenant: &TenantId, kind: &str, body: &str) -> Publication {
    Publication::new(Subject::event(tenant, kind), Uuid::now_v7(), body.to_owned())
}

pub(crate) fn spec(stream: Stream, name: &str) -> ConsumerSpec {
    ConsumerSpec {
        stream,
        name: name.to_owned(),
        rest: None,
        ack_wait_ms: ACK_WAIT_MS,
        max_ack_pending: 1_000,
    }
}

/// Publishes, again with the same ids when there was no clear answer.
pub(crate) async fn publish(
    fixture: &impl QueueFixture,
    batch: Vec<Publication>,
) -> Vec<crate::queue::Receipt> {
    for _ in 0..MAX_TRIES {
        match fixture.queue().publish(batch.clone()).await {
            Ok(receipts) => return receipts,
            Err(QueueError::TooLarge { .. }) => panic!("too large"),
            Err(_) => {}
        }
    }
    panic!("could not publish in {MAX_TRIES} tries")
}

pub(crate) async fn open(fixture: &impl QueueFixture, spec: ConsumerSpec) -> Arc<dyn Consumer> {
    for _ in 0..MAX_TRIES {
        if let Ok(consumer) = fixture.queue().consumer(spec.clone()).await {
            return consumer;
        }
    }
    panic!("could not open the consumer in {MAX_TRIES} tries")
}

/// Pulls until there are `count`, or panics when that takes too long.
pub(crate) async fn take(consumer: &Arc<dyn Consumer>, count: usize) -> Vec<Delivery> {
    take_of(consumer, None, count).await
}

pub(crate) async fn take_of(
    consumer: &Arc<dyn Consumer>,
    tenant: Option<&TenantId>,
    count: usize,
) -> Vec<Delivery> {
    let mut taken = Vec::new();
    let end = tokio::time::Instant::now() + Duration::from_millis(PATIENCE_MS);
    while taken.len() < count {
        assert!(tokio::time::Instant::now() < end, "only {} of {count} came", taken.len());
        if let Ok(more) = consumer.pull(tenant, count - taken.len(), 100).await {
            taken.extend(more);
        }
    }
    taken
}

/// Nothing may be there now.
pub(crate) async fn nothing(consumer: &Arc<dyn Consumer>) {
    let found = loop {
        if let Ok(found) = consumer.pull(None, 10, 50).await {
            break found;
        }
    };
    assert!(found.is_empty(), "unexpected: {found:?}");
}

/// Acks; when the answer is lost, looks whether it comes back, and acks it again.
pub(crate) async fn settle(consumer: &Arc<dyn Consumer>, delivery: Delivery) {
    let seq = delivery.message.seq;
    let mut next = Some(delivery);
    while let Some(delivery) = next {
        next = None;
        if delivery.ack().await.is_ok() {
            return;
        }
        for _ in 0..LOOKS {
            // The others are handed back by dropping them.
            let Ok(found) = consumer.pull(None, 1_000, 10).await else { continue };
            next = found.into_iter().find(|delivery| delivery.message.seq == seq);
            if next.is_some() {
                break;
            }
        }
    }
}

pub(crate) fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.message.payload).into_owned()
}

pub(crate) fn texts(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(text).collect()
}
