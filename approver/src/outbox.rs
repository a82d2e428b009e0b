//! Publishes what was decided, at least once; publication ids make it once.
//!
//! Wakes right after a settlement, at start for what a crash left, and now and then for
//! what another approver left.

use std::time::Duration;

use aof_shared::queue::{Publication, QueueError, Stored};
use aof_shared::store::OutboxEntry;
use tokio_util::sync::CancellationToken;

use crate::dead::{Burial, bury};
use crate::desk::{Desk, HandleError, RETRY_MS, chain_of};

/// Entries read at once.
const BATCH: usize = 256;
/// Longest time that an entry of a crashed approver waits for this one, in ms.
const POLL_MS: u64 = 5_000;

/// Runs until `done`, and then empties the outbox once more.
pub(crate) async fn run(desk: &Desk, done: &CancellationToken) {
    loop {
        let last = done.is_cancelled();
        let wait_ms = match drain(desk).await {
            Ok(()) => POLL_MS,
            Err(error) => {
                desk.waits("outbox", &error);
                RETRY_MS
            }
        };
        if last {
            return;
        }
        tokio::select! {
            () = desk.settled.notified() => {}
            () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
            () = done.cancelled() => {}
        }
    }
}

/// Publishes until nothing is left.
///
/// # Errors
/// The first refusal, after everything else of its batch was tried.
async fn drain(desk: &Desk) -> Result<(), HandleError> {
    loop {
        let entries = desk.ports.store.outbox(BATCH).await?;
        if entries.is_empty() {
            return Ok(());
        }
        let whole = entries.iter().map(|e| e.publication.clone()).collect();
        let refused = match desk.publish(whole).await {
            Ok(()) => {
                let seqs: Vec<u64> = entries.iter().map(|e| e.seq).collect();
                desk.ports.store.outbox_done(&seqs).await?;
                None
            }
            // One full stream must not hold up the others.
            Err(_) => publish_singly(desk, entries).await?,
        };
        if let Some(error) = refused {
            return Err(error.into());
        }
    }
}

/// Publishes entry by entry. Returns the first refusal that another try may mend.
async fn publish_singly(
    desk: &Desk,
    entries: Vec<OutboxEntry>,
) -> Result<Option<QueueError>, HandleError> {
    let mut published = Vec::with_capacity(entries.len());
    let mut refused = None;
    for entry in entries {
        match desk.publish(vec![entry.publication.clone()]).await {
            Ok(()) => published.push(entry.seq),
            Err(error @ QueueError::TooLarge { .. }) => {
                give_up(desk, &entry.publication, &error).await?;
                published.push(entry.seq);
            }
            Err(error) => {
                refused.get_or_insert(error);
            }
        }
    }
    desk.ports.store.outbox_done(&published).await?;
    Ok(refused)
}

/// Makes a dead letter of what no stream will ever take, without its payload.
async fn give_up(
    desk: &Desk,
    publication: &Publication,
    error: &QueueError,
) -> Result<(), HandleError> {
    let source = Stored {
        seq: 0,
        subject: publication.subject.clone(),
        id: publication.id,
        headers: publication.headers.clone(),
        payload: Default::default(),
        published_at_ms: desk.now_ms(),
    };
    let detail = chain_of(error);
    bury(desk, &source, Burial { reason: "too_large", detail, ..Burial::default() }).await
}
