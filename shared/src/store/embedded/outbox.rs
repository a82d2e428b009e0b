//! What goes out exactly once: decisions to the queue, replies to platforms.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use crate::clock::UnixMs;
use crate::ids::{ReplyId, TenantId};
use crate::message::Priority;
use crate::queue::Publication;
use crate::queue::embedded::tables::{decode_headers, encode_headers};
use crate::sqlite::DbError;
use crate::store::{OutboxEntry, SendState};
use crate::subject::Subject;

use super::rows::{Kind, Rows};

/// Most entries in one answer, whatever was asked for.
const MAX_ENTRIES: usize = 1_000;

pub(super) fn add(conn: &Connection, publication: &Publication) -> Result<(), DbError> {
    let mut headers = Vec::new();
    encode_headers(&publication.headers, &mut headers);
    let sql = "INSERT INTO outbox (subject, id, headers, ordering_key, priority, payload) \
               VALUES (?, ?, ?, ?, ?, ?)";
    conn.prepare_cached(sql)?.execute(params![
        publication.subject.to_string(),
        publication.id.as_bytes().as_slice(),
        headers,
        publication.ordering_key,
        i64::from(publication.priority == Priority::Critical),
        publication.payload.as_ref(),
    ])?;
    Ok(())
}

pub(super) fn oldest(conn: &Connection, limit: usize) -> Result<Vec<OutboxEntry>, DbError> {
    let corrupt = |reason: &str| DbError::Corrupt { what: "outbox", reason: reason.to_owned() };
    let sql = "SELECT seq, subject, id, headers, ordering_key, priority, payload FROM outbox \
               ORDER BY seq LIMIT ?";
    let mut statement = conn.prepare_cached(sql)?;
    let limit = i64::try_from(limit.min(MAX_ENTRIES)).unwrap_or(i64::MAX);
    let mut rows = statement.query([limit])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let subject = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
        let blob = |at| row.get_ref(at)?.as_blob().map_err(rusqlite::Error::from);
        let critical = row.get::<_, i64>(5)? == 1;
        let seq: i64 = row.get(0)?;
        entries.push(OutboxEntry {
            seq: u64::try_from(seq).unwrap_or_default(),
            publication: Publication {
                subject: Subject::parse(subject).ok_or_else(|| corrupt("subject"))?,
                id: Uuid::from_slice(blob(2)?).map_err(|_| corrupt("id"))?,
                headers: decode_headers(blob(3)?).ok_or_else(|| corrupt("headers"))?,
                payload: Bytes::copy_from_slice(blob(6)?),
                ordering_key: row.get(4)?,
                priority: if critical { Priority::Critical } else { Priority::Normal },
            },
        });
    }
    Ok(entries)
}

pub(super) fn done(conn: &Connection, seqs: &[u64]) -> Result<(), DbError> {
    for seq in seqs {
        let seq = i64::try_from(*seq).unwrap_or(i64::MAX);
        conn.prepare_cached("DELETE FROM outbox WHERE seq = ?")?.execute([seq])?;
    }
    Ok(())
}

/// The number of a claim's row.
fn claim(
    conn: &Connection,
    rows: &Rows,
    tenant: &TenantId,
    reply: ReplyId,
) -> Result<Option<(i64, SendState)>, DbError> {
    let Some(n) = rows.find(conn, Kind::Send, (tenant, reply.0))? else { return Ok(None) };
    let sql = "SELECT sent, platform_id FROM sends WHERE n = ? AND tenant = ? AND reply = ?";
    let key = params![n, tenant.as_str(), reply.0.as_bytes().as_slice()];
    let found = conn.prepare_cached(sql)?.query_row(key, |row| {
        let sent = row.get::<_, bool>(0)?;
        Ok((n, if sent { SendState::Sent(row.get(1)?) } else { SendState::Unknown }))
    });
    Ok(found.optional()?)
}

pub(super) fn begin_send(
    conn: &Connection,
    rows: &Rows,
    (tenant, reply): (&TenantId, ReplyId),
    at_ms: UnixMs,
) -> Result<SendState, DbError> {
    if let Some((_, state)) = claim(conn, rows, tenant, reply)? {
        return Ok(state);
    }
    let n = rows.add(Kind::Send, (tenant, reply.0), at_ms);
    let at_ms = i64::try_from(at_ms).unwrap_or(i64::MAX);
    let id = reply.0.as_bytes().as_slice();
    conn.prepare_cached("INSERT INTO sends VALUES (?, ?, ?, ?, 0, NULL)")?.execute(params![
        n,
        tenant.as_str(),
        id,
        at_ms
    ])?;
    Ok(SendState::Fresh)
}

pub(super) fn finish_send(
    conn: &Connection,
    rows: &Rows,
    (tenant, reply): (&TenantId, ReplyId),
    platform_id: Option<&str>,
) -> Result<(), DbError> {
    let Some((n, _)) = claim(conn, rows, tenant, reply)? else { return Ok(()) };
    let sql = "UPDATE sends SET sent = 1, platform_id = ? WHERE n = ?";
    conn.prepare_cached(sql)?.execute(params![platform_id, n])?;
    Ok(())
}

pub(super) fn abort_send(
    conn: &Connection,
    rows: &Rows,
    (tenant, reply): (&TenantId, ReplyId),
) -> Result<(), DbError> {
    let Some((n, SendState::Unknown)) = claim(conn, rows, tenant, reply)? else { return Ok(()) };
    conn.prepare_cached("DELETE FROM sends WHERE n = ?")?.execute([n])?;
    Ok(())
}
