//! Reading history and backlogs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::types::Value;
use tokio::time::Instant;

use crate::clock::UnixMs;
use crate::ids::TenantId;
use crate::queue::{Backlog, QueueError, ReadRange, Stored};
use crate::sqlite::DbError;
use crate::subject::Stream;

use super::tables::{index, of_stream, read_row, signed, unsigned};
use super::{Shared, queue_error};

/// Most messages in one read, whatever was asked for.
const MAX_READ: usize = 10_000;
/// Payload bytes after which a read returns what it has.
const MAX_READ_BYTES: usize = 64 << 20;

/// See [`crate::queue::Queue::read`].
pub(super) async fn read(
    shared: &Arc<Shared>,
    stream: Stream,
    range: ReadRange,
    limit: usize,
    wait_ms: u64,
) -> Result<Vec<Stored>, QueueError> {
    let end = Instant::now() + Duration::from_millis(wait_ms);
    let limit = limit.min(MAX_READ);
    let range = Arc::new(range);
    let mut tail = shared.tails[index(stream)].subscribe();
    loop {
        let last = *tail.borrow_and_update();
        if last > range.after_seq {
            let wanted = Arc::clone(&range);
            let read = shared.db.read(move |conn| select(conn, stream, &wanted, limit));
            let found = read.await.map_err(|error| queue_error(error, stream))?;
            if !found.is_empty() || limit == 0 {
                return Ok(found);
            }
        }
        match tokio::time::timeout_at(end, tail.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(queue_error(DbError::closed(), stream)),
            Err(_) => return Ok(Vec::new()),
        }
    }
}

fn select(
    conn: &Connection,
    stream: Stream,
    range: &ReadRange,
    limit: usize,
) -> Result<Vec<Stored>, DbError> {
    let mut after = range.after_seq;
    if let Some(from_ms) = range.from_ms {
        after = after.max(first_at(conn, stream, from_ms)?.saturating_sub(1));
    }
    let before = range.to_ms.map(|to_ms| first_at(conn, stream, to_ms)).transpose()?;
    let mut sql = of_stream!(
        stream,
        "SELECT seq, tenant, rest, at_ms, id, headers, payload FROM ",
        " WHERE seq > ? AND seq < ?"
    )
    .to_owned();
    let mut values = vec![Value::from(signed(after)), Value::from(before.map_or(i64::MAX, signed))];
    if let Some(tenant) = &range.tenant {
        sql.push_str(" AND tenant = ?");
        values.push(tenant.as_str().to_owned().into());
    }
    if !range.rests.is_empty() {
        let marks = vec!["?"; range.rests.len()].join(",");
        sql.push_str(&format!(" AND rest IN ({marks})"));
        values.extend(range.rests.iter().map(|rest| Value::from(rest.clone())));
    }
    sql.push_str(" ORDER BY seq LIMIT ?");
    values.push(Value::from(i64::try_from(limit).unwrap_or(i64::MAX)));
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query(rusqlite::params_from_iter(values))?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let stored = read_row(stream, row)?;
        bytes += stored.payload.len();
        found.push(stored);
        if bytes > MAX_READ_BYTES {
            break;
        }
    }
    Ok(found)
}

/// The first sequence number that was published at or after `at_ms`. Times never go back
/// within a stream, so this halves its way there.
fn first_at(conn: &Connection, stream: Stream, at_ms: UnixMs) -> Result<u64, DbError> {
    let bounds = of_stream!(stream, "SELECT min(seq), max(seq) FROM ", "");
    let ends = conn
        .prepare_cached(bounds)?
        .query_row([], |row| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?)))?;
    let (Some(low), Some(high)) = ends else { return Ok(1) };
    let (mut low, mut high) = (unsigned(low), unsigned(high) + 1);
    let sql = of_stream!(stream, "SELECT seq, at_ms FROM ", " WHERE seq >= ? ORDER BY seq LIMIT 1");
    let mut statement = conn.prepare_cached(sql)?;
    while low < high {
        let middle = low + (high - low) / 2;
        let (seq, at) = statement.query_row([signed(middle)], |row| {
            Ok((unsigned(row.get(0)?), unsigned(row.get(1)?)))
        })?;
        if at >= at_ms {
            high = middle;
        } else {
            low = seq + 1;
        }
    }
    Ok(low)
}

/// See [`crate::queue::Queue::backlog`]. A stream that nobody consumes is counted as stored.
pub(super) async fn backlog(
    shared: &Arc<Shared>,
    stream: Stream,
) -> Result<Vec<Backlog>, QueueError> {
    let cores = shared.consumers(stream);
    let mut counted: HashMap<TenantId, (u64, u64)> = HashMap::new();
    let counts = |name: &str| stream.is_work_queue() || name == super::ROUTER;
    for core in cores.iter().filter(|core| counts(&core.name)) {
        for (tenant, pending, oldest) in core.backlog() {
            let entry = counted.entry(tenant).or_insert((0, u64::MAX));
            entry.0 += pending;
            entry.1 = entry.1.min(oldest);
        }
    }
    let stored = match stream {
        Stream::Dead => true,
        Stream::Tasks | Stream::Actions | Stream::Replies => cores.is_empty(),
        Stream::Inbound | Stream::Events => false,
    };
    let read = shared.db.read(move |conn| {
        if stored { count_stored(conn, stream) } else { with_age(conn, stream, counted) }
    });
    read.await.map_err(|error| queue_error(error, stream))
}

fn with_age(
    conn: &Connection,
    stream: Stream,
    counted: HashMap<TenantId, (u64, u64)>,
) -> Result<Vec<Backlog>, DbError> {
    let mut statement = conn.prepare_cached(of_stream!(
        stream,
        "SELECT at_ms FROM ",
        " WHERE seq >= ? ORDER BY seq LIMIT 1"
    ))?;
    let mut backlog = Vec::with_capacity(counted.len());
    for (tenant, (pending, oldest)) in counted {
        let mut rows = statement.query([signed(oldest)])?;
        // It may have been acked since it was counted; then the next one is the oldest.
        let Some(row) = rows.next()? else { continue };
        backlog.push(Backlog { tenant, pending, oldest_at_ms: unsigned(row.get(0)?) });
    }
    Ok(backlog)
}

fn count_stored(conn: &Connection, stream: Stream) -> Result<Vec<Backlog>, DbError> {
    let sql = of_stream!(stream, "SELECT tenant, count(*), min(at_ms) FROM ", " GROUP BY tenant");
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut backlog = Vec::new();
    while let Some(row) = rows.next()? {
        let corrupt = |_| DbError::Corrupt { what: "message", reason: "tenant".to_owned() };
        let tenant = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        backlog.push(Backlog {
            tenant: TenantId::new(tenant).map_err(corrupt)?,
            pending: unsigned(row.get(1)?),
            oldest_at_ms: unsigned(row.get(2)?),
        });
    }
    Ok(backlog)
}
