//! The approver: consumes ACTIONS, tallies votes, emits decisions as TASKS. Never executes anything.
//!
//! Three loops share one [`desk::Desk`]: `hold` takes in held actions and votes, `expiry`
//! ends what nobody decided, `outbox` publishes what was decided. A decision is one
//! compare-and-set in the store with everything that follows from it in the outbox of the
//! same transaction, so a crash at any point ends in exactly one decision task.

pub mod chain;
mod dead;
mod decide;
mod desk;
mod expiry;
pub mod explain;
#[cfg(test)]
mod fixtures;
mod hold;
mod outbox;
pub mod quorum;
#[cfg(test)]
mod tests;
mod vote;

use std::sync::Arc;

use aof_shared::node::{Node, StartError};
use aof_shared::queue::{Consumer, ConsumerSpec};
use aof_shared::subject::Stream;
use tokio_util::sync::CancellationToken;

use crate::desk::Desk;

/// The role's name: consumer, health part, dead letters.
const ROLE: &str = "approver";
/// Longest silence before a delivery is offered to another approver; the longest handling
/// is four store commits and one publish, seconds on the slowest disk.
const ACK_WAIT_MS: u64 = 30_000;
/// Deliveries out at once, for all approvers together.
const MAX_ACK_PENDING: usize = 1_024;

/// Starts the role on the node's lifecycle. What a crash left in the outbox is published,
/// and what expired meanwhile is settled, before the first new delivery could matter.
///
/// # Errors
/// [`StartError`] when the queue cannot open the consumer.
pub async fn start(node: &Node) -> Result<(), StartError> {
    let spec = ConsumerSpec {
        stream: Stream::Actions,
        name: ROLE.to_owned(),
        rest: None,
        ack_wait_ms: ACK_WAIT_MS,
        max_ack_pending: MAX_ACK_PENDING,
    };
    let consumer = node.consumer(ROLE, spec).await?;
    let desk = Arc::new(Desk::new(node));
    node.keep(ROLE, run(desk, consumer));
    node.health.up(ROLE);
    Ok(())
}

/// Runs the loops until the lifecycle stops; the outbox last, so that it takes what the
/// others still settle.
async fn run(desk: Arc<Desk>, consumer: Arc<dyn Consumer>) {
    let settled = CancellationToken::new();
    let settling = async {
        tokio::join!(hold::run(&desk, consumer.as_ref()), expiry::run(&desk));
        settled.cancel();
    };
    tokio::join!(settling, outbox::run(&desk, &settled));
}
