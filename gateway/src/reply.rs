//! Egress: consumes REPLIES, emits platform calls and `reply.sent` or `reply.failed`.
//! Never sends a reply twice, never lets one channel hold up another.
//!
//! A delivery that has to wait (a channel's second within a second, a 429, a platform that
//! is down) goes back to the queue with its delay, so what waits costs neither memory nor
//! a place. The queue keeps a channel's replies in order by their ordering key.

pub mod accounts;
pub mod call;
pub mod card;
mod cards;
pub mod chat;
mod claim;
#[cfg(test)]
pub(crate) mod contract;
mod deliver;
pub mod discord;
pub mod evolution;
pub mod forward;
mod journal;
pub mod pace;
pub mod paced;
pub mod port;
mod room;
pub mod shell;
pub mod slack;
pub mod split;
pub mod telegram;
pub mod whatsapp;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use aof_shared::ids::PlatformName;
use aof_shared::node::{Node, StartError};
use aof_shared::queue::{Consumer, ConsumerSpec};
use aof_shared::subject::Stream;
use aof_shared::throttle::Throttle;

use self::accounts::Accounts;
use self::call::Caller;
use self::cards::Cards;
use self::chat::ChatOutlet;
use self::deliver::Desk;
use self::discord::DiscordOutlet;
use self::evolution::EvolutionOutlet;
use self::forward::Forward;
use self::pace::Pacer;
use self::paced::Paced;
use self::port::Outlet;
use self::room::Room;
use self::slack::SlackOutlet;
use self::telegram::TelegramOutlet;
use self::whatsapp::WhatsAppOutlet;

/// The part's name in health, and the consumer's.
const PART: &str = "reply";
/// Deliveries at work on one node: 5,000/s at 0.5 s a call, with room to spare.
const MAX_IN_FLIGHT: usize = 4_096;
/// Deliveries out at all nodes together.
const MAX_ACK_PENDING: usize = 16_384;
/// A delivery makes at most two calls of 10 s (an update, then a post in its place) and
/// waits for no limit: it goes back instead. Silent for longer than this, its holder is gone.
const ACK_WAIT_MS: u64 = 60_000;
/// Deliveries of one pull.
const PULL_BATCH: usize = 512;
/// Longest wait of one pull.
const PULL_WAIT_MS: u64 = 1_000;
/// Pause after a pull that failed.
const PULL_PAUSE_MS: u64 = 1_000;
/// One log line in this time about pulls that fail.
const SAY_AWAY_EVERY_MS: u64 = 30_000;

/// Starts the egress. Returns once it can work.
///
/// # Errors
/// [`StartError`] when the consumer cannot be opened or TLS cannot be set up.
pub async fn start(node: &Node) -> Result<(), StartError> {
    let mut outlets = outlets(&paced(node)?);
    outlets.insert(PlatformName::chat(), Arc::new(ChatOutlet::new(Arc::clone(&node.ports.live))));
    start_with(node, outlets).await
}

/// Where replies go out, by platform: one line each.
pub(crate) type Outlets = HashMap<PlatformName, Arc<dyn Outlet>>;

/// The outlets of all platforms that are called over HTTP.
pub(crate) fn outlets(paced: &Paced) -> Outlets {
    let paced = || paced.clone();
    let outlets: [(&str, Arc<dyn Outlet>); 5] = [
        ("discord", Arc::new(DiscordOutlet::new(paced()))),
        ("evolution", Arc::new(EvolutionOutlet::new(paced()))),
        ("slack", Arc::new(SlackOutlet::new(paced()))),
        ("telegram", Arc::new(TelegramOutlet::new(paced()))),
        ("whatsapp", Arc::new(WhatsAppOutlet::new(paced()))),
    ];
    let named = |name: &str| PlatformName::new(name).expect("a plain constant");
    let mut outlets: Outlets =
        outlets.into_iter().map(|(name, outlet)| (named(name), outlet)).collect();
    let forward = Forward::new(paced().accounts, outlets.clone());
    for source in crate::platform::sources() {
        outlets.insert(named(source), Arc::new(forward.clone()));
    }
    outlets
}

/// Calls to platforms, paced by the node's limits.
pub(crate) fn paced(node: &Node) -> Result<Paced, StartError> {
    let caller = Caller::new().map_err(|error| StartError {
        role: "gateway",
        reason: "TLS cannot be set up; check the machine's certificates".to_owned(),
        source: Some(Box::new(error)),
    })?;
    Ok(paced_by(node, caller))
}

/// The same through another caller.
pub(crate) fn paced_by(node: &Node, caller: Caller) -> Paced {
    let ports = &node.ports;
    let pacer = Pacer::new(Arc::clone(&ports.limits), Arc::clone(&ports.clock));
    let accounts = Accounts::new(node.config.clone());
    Paced { caller, pacer, accounts, store: Arc::clone(&ports.store) }
}

/// Starts the egress with the given outlets.
pub(crate) async fn start_with(node: &Node, outlets: Outlets) -> Result<(), StartError> {
    let spec = ConsumerSpec {
        stream: Stream::Replies,
        name: PART.to_owned(),
        rest: None,
        ack_wait_ms: ACK_WAIT_MS,
        max_ack_pending: MAX_ACK_PENDING,
    };
    let consumer = node.consumer(PART, spec).await?;
    let desk = Desk {
        ports: node.ports.clone(),
        metrics: Arc::clone(&node.metrics),
        tracer: node.tracer.clone(),
        outlets,
        cards: Cards::new(Arc::clone(&node.ports.store)),
        room: Room::new(MAX_IN_FLIGHT),
    };
    node.health.up(PART);
    node.keep(PART, run(node.clone(), consumer, Arc::new(desk)));
    Ok(())
}

/// Pulls until told to stop; what was pulled is finished.
async fn run(node: Node, consumer: Arc<dyn Consumer>, desk: Arc<Desk>) {
    let places = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    let said = Throttle::new(SAY_AWAY_EVERY_MS);
    loop {
        let room = tokio::select! {
            biased;
            () = node.lifecycle.stopped() => return,
            permit = places.acquire() => {
                drop(permit);
                places.available_permits().clamp(1, PULL_BATCH)
            }
        };
        let pulled = tokio::select! {
            biased;
            () = node.lifecycle.stopped() => return,
            pulled = consumer.pull(None, room, PULL_WAIT_MS) => pulled,
        };
        let deliveries = match pulled {
            Ok(deliveries) => {
                node.health.up(PART);
                deliveries
            }
            Err(error) => {
                if said.allows(PART, node.ports.clock.now_ms()) {
                    tracing::error!(%error, "replies cannot be pulled");
                }
                node.health.down(PART, format!("replies cannot be pulled: {error}"));
                let pause = Duration::from_millis(PULL_PAUSE_MS);
                let _ = tokio::time::timeout(pause, node.lifecycle.stopped()).await;
                continue;
            }
        };
        for delivery in deliveries {
            let desk = Arc::clone(&desk);
            let Ok(permit) = Arc::clone(&places).acquire_owned().await else { return };
            node.lifecycle.spawn(async move {
                desk.handle(delivery).await;
                drop(permit);
            });
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
