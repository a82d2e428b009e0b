//! The ceiling of a cluster: a bare chain of three JetStream hops with dedupe ids, every
//! publish confirmed, single acks; on a server like the nodes' own.

use std::time::{Duration, Instant};

use aof_harness as harness;
use aof_servers::Nats;
use async_nats::jetstream::consumer::{PullConsumer, pull};
use async_nats::jetstream::context::Context;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, RetentionPolicy};
use futures_util::{StreamExt, stream};

/// The hops' streams.
const HOPS: [&str; 3] = ["INBOUND", "TASKS", "REPLIES"];
/// Messages of one measurement, without and with a sync for each.
const MESSAGES: [usize; 2] = [60_000, 10_000];
/// Publications under way in one hop.
const IN_FLIGHT: usize = 256;
/// Messages of one pull.
const BATCH: usize = 500;
/// A message as the gateway stores it is about this long.
const PAYLOAD_BYTES: usize = 1_000;

pub(crate) async fn print() {
    let options = harness::nats_options();
    let messages = MESSAGES[usize::from(options.sync_always)];
    let server = Nats::start(&options);
    let client = async_nats::connect(server.url()).await.expect("a connection");
    let context = async_nats::jetstream::new(client);
    let mut consumers = Vec::new();
    for hop in HOPS {
        consumers.push(consumer(&context, hop).await);
    }
    let began = Instant::now();
    let publish = stream::iter(0..messages)
        .for_each_concurrent(IN_FLIGHT, |n| send(&context, HOPS[0], n.to_string()));
    let next = [Some(HOPS[1]), Some(HOPS[2]), None];
    let hops = consumers.iter().zip(next).map(|(from, to)| pass_on(&context, from, to, messages));
    tokio::join!(publish, futures_util::future::join_all(hops));
    println!(
        "ceiling: bare chain of three JetStream hops {:.0}/s ({})",
        messages as f64 / began.elapsed().as_secs_f64(),
        if options.sync_always { "a sync for each message" } else { "default sync" },
    );
}

/// The consumer of a hop's stream, which is made.
async fn consumer(context: &Context, hop: &str) -> PullConsumer {
    let config = Config {
        name: hop.to_owned(),
        subjects: vec![format!("bare.{hop}")],
        retention: RetentionPolicy::WorkQueue,
        duplicate_window: Duration::from_secs(7_200),
        ..Config::default()
    };
    let stream = context.create_stream(config).await.expect("a stream");
    let config = pull::Config {
        durable_name: Some("hop".to_owned()),
        max_ack_pending: 10_000,
        ..pull::Config::default()
    };
    stream.create_consumer(config).await.expect("a consumer")
}

async fn send(context: &Context, hop: &str, id: String) {
    let message = PublishMessage::build().payload(vec![b'x'; PAYLOAD_BYTES].into()).message_id(id);
    let sent = context.send_publish(format!("bare.{hop}"), message).await;
    sent.expect("sent").await.expect("an ack");
}

/// Consumes one hop's messages, publishes each to the next, then acks it.
async fn pass_on(context: &Context, from: &PullConsumer, to: Option<&str>, messages: usize) {
    let deliveries = from.stream().max_messages_per_batch(BATCH).messages();
    let deliveries = deliveries.await.expect("a subscription").take(messages);
    let work = deliveries.for_each_concurrent(IN_FLIGHT, |message| async {
        let message = message.expect("a message");
        let id = message.headers.as_ref().and_then(|headers| headers.get("Nats-Msg-Id"));
        let id = id.expect("a dedupe id").to_string();
        if let Some(to) = to {
            send(context, to, id).await;
        }
        message.ack().await.expect("acked");
    });
    work.await;
}
