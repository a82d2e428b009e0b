//! The router: consumes INBOUND, scores flows, emits TASKS. Never does I/O but the
//! ports, never chooses a flow of another tenant, never lets a message end unsaid.
//!
//! Pure core: [`score`], [`select`], [`table`] (an index that finds what a full scan
//! would) and [`explain`]; the loop around it is `dispatch`.

pub mod channel;
mod dispatch;
mod emit;
pub mod explain;
#[cfg(test)]
mod fixture;
mod index;
mod literal;
mod names;
pub mod pattern;
mod record;
pub mod score;
pub mod select;
pub mod table;

use std::sync::Arc;

use aof_shared::config::Snapshot;
use aof_shared::node::{Node, StartError};
use aof_shared::queue::ConsumerSpec;
use aof_shared::subject::Stream;
use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::dispatch::{ACK_WAIT_MS, Dispatcher, MAX_ACK_PENDING};
use crate::table::Table;

/// The role's name in health, metrics and dead letters.
const ROLE: &str = "router";

/// Compiles the flows in force, opens the consumer and starts routing. Returns once it
/// can work; it works until the node's lifecycle stops.
///
/// # Errors
/// [`StartError`] when the consumer cannot be opened.
pub async fn start(node: &Node) -> Result<(), StartError> {
    let changes = node.config.watch();
    let table = Arc::new(ArcSwap::from_pointee(Table::build(node.config.current(), None)));
    let spec = ConsumerSpec {
        stream: Stream::Inbound,
        name: ROLE.to_owned(),
        rest: None,
        ack_wait_ms: ACK_WAIT_MS,
        max_ack_pending: MAX_ACK_PENDING,
    };
    let consumer = node.consumer(ROLE, spec).await?;
    node.keep(ROLE, reload(node.clone(), changes, table.clone()));
    node.keep(ROLE, Arc::new(Dispatcher::new(node, table)).run(consumer));
    node.health.up(ROLE);
    Ok(())
}

/// Compiles every later snapshot and swaps it in.
async fn reload(
    node: Node,
    mut changes: watch::Receiver<Arc<Snapshot>>,
    table: Arc<ArcSwap<Table>>,
) {
    loop {
        tokio::select! {
            biased;
            () = node.lifecycle.stopped() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
        let snapshot = changes.borrow_and_update().clone();
        let earlier = table.load_full();
        // A hundred thousand flows take a moment, which messages should not wait for.
        let built = tokio::task::spawn_blocking(move || Table::build(snapshot, Some(&earlier)));
        match built.await {
            Ok(built) => {
                tracing::debug!(revision = %built.revision(), "flows in force");
                table.store(Arc::new(built));
            }
            Err(error) => tracing::error!(%error, "flows could not be compiled; the last stay"),
        }
    }
}
