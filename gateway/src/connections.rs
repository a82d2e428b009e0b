//! Connections that a gateway keeps to a platform: consumes what it dispatches, emits INBOUND
//! and votes. Of one account exactly one gateway holds the connection.
//!
//! Discord sends messages and reactions over a WebSocket alone (its *Gateway*). Whoever takes
//! the account's lease connects; the others ask for it again until it is free. What was
//! dispatched counts as taken in once the queue has it: only then the position in the session
//! is moved on, and stored. So whoever takes over resumes where the queue stands, Discord
//! sends the rest again, and what the queue has already is a duplicate by its id.

mod envelope;
mod feed;
mod hold;
mod identify;
mod lease;
pub(crate) mod plan;
mod session;
mod threads;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Duration;

use aof_shared::lifecycle::Lifecycle;
use tokio::task::JoinSet;

use self::hold::Holder;
use self::plan::{Account, Wanted};
use crate::app::Shared;
use crate::reply::discord::Discord;

/// The part's name.
const PART: &str = "connections";
/// Pause before a connection whose task broke is started again.
const RESTART_PAUSE_MS: u64 = 5_000;

/// Starts keeping the connections that the configuration wants. Returns at once.
pub(crate) fn start(app: &Shared, discord: Discord) {
    use_one_tls();
    let app = app.clone();
    app.node.clone().keep(PART, supervise(app, discord));
}

/// The library builds its TLS from the process' default, which is chosen here because two
/// are compiled in: the one that all other HTTPS of this process uses already.
fn use_one_tls() {
    // An error says that somebody chose before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Starts and stops holders as the configuration changes, until the node stops.
async fn supervise(app: Shared, discord: Discord) {
    let lifecycle = app.node.lifecycle.clone();
    let mut snapshots = app.node.config.watch();
    let mut running: HashMap<Account, Lifecycle> = HashMap::new();
    let mut tasks: JoinSet<Account> = JoinSet::new();
    loop {
        let snapshot = snapshots.borrow_and_update().clone();
        let wanted: HashMap<Account, Wanted> =
            plan::wanted(&snapshot).into_iter().map(|w| (w.account(), w)).collect();
        running.retain(|account, held| {
            let keep = wanted.contains_key(account);
            if !keep {
                held.stop();
            }
            keep
        });
        for (account, wanted) in wanted {
            if running.contains_key(&account) {
                continue;
            }
            let own = lifecycle.child();
            let holder = Holder::new(app.clone(), discord.clone(), wanted, own.clone());
            let named = account.clone();
            tasks.spawn(async move {
                holder.run().await;
                named
            });
            running.insert(account, own);
        }
        tokio::select! {
            biased;
            () = lifecycle.stopped() => break,
            changed = snapshots.changed() => if changed.is_err() { break },
            Some(ended) = tasks.join_next() => {
                let broken = ended.is_err();
                running.retain(|_, held| !held.stopping());
                if broken {
                    tracing::error!("a connection to Discord broke down; all are started again");
                    running.drain().for_each(|(_, held)| held.stop());
                    pause(&lifecycle, RESTART_PAUSE_MS).await;
                }
            }
        }
    }
    running.into_values().for_each(|held| held.stop());
    while tasks.join_next().await.is_some() {}
}

/// Waits; `false` when told to stop meanwhile.
async fn pause(lifecycle: &Lifecycle, ms: u64) -> bool {
    tokio::select! {
        biased;
        () = lifecycle.stopped() => false,
        () = tokio::time::sleep(Duration::from_millis(ms)) => true,
    }
}
