//! Deletes what is too old, a bounded piece at a time, between the writer's other work.

use std::sync::{Arc, Weak};
use std::time::Duration;

use rusqlite::{Connection, params};

use crate::clock::UnixMs;
use crate::lifecycle::Lifecycle;
use crate::sqlite::DbError;
use crate::subject::Stream;

use super::ledger::WINDOW_MS;
use super::tables::{of_stream, signed, unsigned};
use super::{ROUTER, Shared};

/// Time between two rounds, in milliseconds.
const EVERY_MS: u64 = 30_000;
/// Rows deleted in one commit.
const PIECE_ROWS: i64 = 500;
/// Pieces in one round; what is left waits for the next.
const MAX_PIECES: usize = 2_000;

/// Streams that keep history.
const HISTORY: [Stream; 2] = [Stream::Inbound, Stream::Events];

/// Runs rounds until the node stops or the queue is dropped.
pub(super) fn start(shared: &Arc<Shared>, lifecycle: &Lifecycle) {
    let (weak, stop) = (Arc::downgrade(shared), lifecycle.clone());
    lifecycle.spawn(async move {
        loop {
            tokio::select! {
                () = stop.stopped() => return,
                () = tokio::time::sleep(Duration::from_millis(EVERY_MS)) => {}
            }
            match round(&weak).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => tracing::warn!(%error, "old history was not deleted"),
            }
        }
    });
}

/// One round. `false`: the queue is gone.
pub(super) async fn round(shared: &Weak<Shared>) -> Result<bool, DbError> {
    for _ in 0..MAX_PIECES {
        let Some(shared) = shared.upgrade() else { return Ok(false) };
        let now_ms = shared.clock.now_ms();
        let within = Arc::clone(&shared);
        if shared.db.write(move |conn| piece(conn, &within, now_ms)).await? == 0 {
            break;
        }
    }
    Ok(true)
}

/// Deletes one piece everywhere and says how much it was.
fn piece(conn: &Connection, shared: &Shared, now_ms: UnixMs) -> Result<usize, DbError> {
    let mut deleted = 0;
    for stream in HISTORY {
        deleted += prune(conn, shared, stream, now_ms)?;
    }
    deleted += usize::from(shared.ledger.lock().expire_ids(conn, now_ms)?);
    let sql = "DELETE FROM seen WHERE n IN (SELECT n FROM (SELECT n, at_ms FROM seen \
               ORDER BY n LIMIT ?) WHERE at_ms < ?)";
    let cutoff = signed(now_ms.saturating_sub(WINDOW_MS));
    deleted += conn.prepare_cached(sql)?.execute(params![PIECE_ROWS, cutoff])?;
    Ok(deleted)
}

fn prune(
    conn: &Connection,
    shared: &Shared,
    stream: Stream,
    now_ms: UnixMs,
) -> Result<usize, DbError> {
    let over = shared.ledger.lock().meta(stream).bytes > shared.caps.history_bytes;
    // Nothing younger than the dedupe window goes, so that a duplicate can be shown.
    let age_ms = if over { WINDOW_MS } else { shared.caps.max_age_ms };
    let cutoff = signed(now_ms.saturating_sub(age_ms));
    let last =
        of_stream!(stream, "SELECT seq, at_ms, length(payload) FROM ", " ORDER BY seq LIMIT ?");
    let mut statement = conn.prepare_cached(last)?;
    let mut rows = statement.query([PIECE_ROWS])?;
    let floor = keep_from(conn, stream)?;
    let (mut upto, mut messages, mut bytes) = (0_i64, 0, 0);
    while let Some(row) = rows.next()? {
        let (seq, at_ms): (i64, i64) = (row.get(0)?, row.get(1)?);
        if at_ms >= cutoff || seq > floor {
            break;
        }
        upto = seq;
        messages += 1;
        bytes += unsigned(row.get(2)?);
    }
    drop(rows);
    if messages == 0 {
        return Ok(0);
    }
    let delete = of_stream!(stream, "DELETE FROM ", " WHERE seq <= ?");
    let deleted = conn.prepare_cached(delete)?.execute([upto])?;
    shared.ledger.lock().gone(stream, messages, bytes);
    Ok(deleted)
}

/// The last message that may go: what the router has not acked stays, however old.
fn keep_from(conn: &Connection, stream: Stream) -> Result<i64, DbError> {
    if stream != Stream::Inbound {
        return Ok(i64::MAX);
    }
    let sql = "SELECT coalesce(max(floor), 0) FROM consumers WHERE stream = 0 AND name = ?";
    Ok(conn.prepare_cached(sql)?.query_row([ROUTER], |row| row.get(0))?)
}
