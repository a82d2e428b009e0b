//! Rows of the stream tables: their SQL, and how headers and keys are written.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use crate::clock::UnixMs;
use crate::ids::TenantId;
use crate::message::Priority;
use crate::queue::{Headers, Publication, Stored};
use crate::sqlite::DbError;
pub(super) use crate::sqlite::{signed, unsigned};
use crate::subject::{Stream, Subject};

/// One statement with the stream's table in it, as a constant string.
macro_rules! of_stream {
    ($stream:expr, $before:literal, $after:literal) => {
        match $stream {
            Stream::Inbound => concat!($before, "inbound", $after),
            Stream::Tasks => concat!($before, "tasks", $after),
            Stream::Actions => concat!($before, "actions", $after),
            Stream::Replies => concat!($before, "replies", $after),
            Stream::Events => concat!($before, "events", $after),
            Stream::Dead => concat!($before, "dead", $after),
        }
    };
}
pub(super) use of_stream;

/// A stream's position in arrays and in the `stream` columns.
pub(super) fn index(stream: Stream) -> usize {
    stream as usize
}

/// The `stream` column's value.
pub(super) fn column(stream: Stream) -> i64 {
    stream as i64
}

/// Hash of tenant and ordering key, the same in every version: it is stored. FNV-1a with
/// a final mix. Two keys that collide only wait for each other. Never 0.
pub(in crate::queue) fn key_hash(tenant: &TenantId, key: Option<&str>) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let Some(key) = key else { return 0 };
    let bytes = tenant.as_str().bytes().chain([0]).chain(key.bytes());
    let hash = bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    (hash ^ (hash >> 32)).wrapping_mul(PRIME).max(1)
}

fn priority_column(priority: Priority) -> i64 {
    i64::from(priority == Priority::Critical)
}

fn priority_of(column: i64) -> Priority {
    if column == 1 { Priority::Critical } else { Priority::Normal }
}

/// Headers as length-prefixed text: two bytes of length, then UTF-8, name and value in turn.
pub(crate) fn encode_headers(headers: &Headers, into: &mut Vec<u8>) {
    into.clear();
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        into.extend_from_slice(&length.to_le_bytes());
        into.extend_from_slice(&text.as_bytes()[..usize::from(length)]);
    }
}

/// Back from [`encode_headers`]; `None` when it is not that.
pub(crate) fn decode_headers(mut bytes: &[u8]) -> Option<Headers> {
    let mut text = || -> Option<Option<String>> {
        let Some((length, rest)) = bytes.split_first_chunk::<2>() else { return Some(None) };
        let (text, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        bytes = rest;
        Some(Some(String::from_utf8(text.to_vec()).ok()?))
    };
    let mut headers = Headers::new();
    while let Some(name) = text()? {
        headers.insert(name, text()??);
    }
    Some(headers)
}

/// Longest header name or value in bytes; what encodes its length.
pub(super) const MAX_HEADER_BYTES: usize = u16::MAX as usize;

/// Appends a message.
pub(super) fn insert(
    conn: &Connection,
    publication: &Publication,
    (seq, at_ms, key): (u64, UnixMs, u64),
    scratch: &mut Vec<u8>,
) -> rusqlite::Result<()> {
    let subject = &publication.subject;
    let sql = of_stream!(subject.stream(), "INSERT INTO ", " VALUES (?,?,?,?,?,?,?,?,?)");
    encode_headers(&publication.headers, scratch);
    conn.prepare_cached(sql)?.execute(params![
        signed(seq),
        subject.tenant().as_str(),
        subject.rest(),
        signed(at_ms),
        priority_column(publication.priority),
        key.cast_signed(),
        publication.id.as_bytes().as_slice(),
        scratch.as_slice(),
        publication.payload.as_ref(),
    ])?;
    Ok(())
}

/// Reads a message from `seq, tenant, rest, at_ms, id, headers, payload`.
pub(super) fn read_row(stream: Stream, row: &Row<'_>) -> Result<Stored, DbError> {
    let corrupt = |reason: &str| DbError::Corrupt { what: "message", reason: reason.to_owned() };
    let text = |at| row.get_ref(at)?.as_str().map_err(rusqlite::Error::from);
    let blob = |at| row.get_ref(at)?.as_blob().map_err(rusqlite::Error::from);
    let tenant = TenantId::new(text(1)?).map_err(|_| corrupt("tenant"))?;
    Ok(Stored {
        seq: unsigned(row.get(0)?),
        subject: Subject::of(stream, &tenant, text(2)?),
        id: Uuid::from_slice(blob(4)?).map_err(|_| corrupt("id"))?,
        headers: decode_headers(blob(5)?).ok_or_else(|| corrupt("headers"))?,
        payload: Bytes::copy_from_slice(blob(6)?),
        published_at_ms: unsigned(row.get(3)?),
    })
}

/// One message.
pub(super) fn get(conn: &Connection, stream: Stream, seq: u64) -> Result<Option<Stored>, DbError> {
    let sql = of_stream!(
        stream,
        "SELECT seq, tenant, rest, at_ms, id, headers, payload FROM ",
        " WHERE seq = ?"
    );
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query([signed(seq)])?;
    rows.next()?.map(|row| read_row(stream, row)).transpose()
}

/// Deletes a message and says how long its payload was; `None`: it was not there.
pub(super) fn delete(conn: &Connection, stream: Stream, seq: u64) -> rusqlite::Result<Option<u64>> {
    let sql = of_stream!(stream, "DELETE FROM ", " WHERE seq = ? RETURNING length(payload)");
    let mut statement = conn.prepare_cached(sql)?;
    let bytes = statement.query_row([signed(seq)], |row| row.get(0)).optional()?;
    Ok(bytes.map(unsigned))
}

/// What dispatch needs to know of a waiting message.
pub(super) struct Head {
    pub(super) seq: u64,
    pub(super) tenant: TenantId,
    pub(super) rest: String,
    pub(super) priority: Priority,
    pub(super) key: u64,
}

/// Up to `limit` heads after `after` up to `to`, in order.
pub(super) fn heads(
    conn: &Connection,
    stream: Stream,
    (after, to): (u64, u64),
    limit: usize,
) -> Result<Vec<Head>, DbError> {
    let sql = of_stream!(
        stream,
        "SELECT seq, tenant, rest, priority, key FROM ",
        " WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
    );
    let mut statement = conn.prepare_cached(sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![signed(after), signed(to), limit])?;
    let mut heads = Vec::new();
    while let Some(row) = rows.next()? {
        let tenant = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
        let reason = || "tenant".to_owned();
        heads.push(Head {
            seq: unsigned(row.get(0)?),
            tenant: TenantId::new(tenant)
                .map_err(|_| DbError::Corrupt { what: "message", reason: reason() })?,
            rest: row.get(2)?,
            priority: priority_of(row.get(3)?),
            key: row.get::<_, i64>(4)?.cast_unsigned(),
        });
    }
    Ok(heads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_read_back_what_they_write() {
        let mut headers = Headers::new();
        headers.insert("traceparent".into(), "00-1-2-01".into());
        headers.insert("empty".into(), String::new());
        let mut bytes = Vec::new();
        encode_headers(&headers, &mut bytes);
        assert_eq!(decode_headers(&bytes), Some(headers));
        assert_eq!(decode_headers(&bytes[..bytes.len() - 1]), None);
    }

    #[test]
    fn the_hash_of_a_key_is_stored_and_must_not_change() {
        let tenant = TenantId::default_tenant();
        assert_eq!(key_hash(&tenant, None), 0);
        assert_ne!(key_hash(&tenant, Some("")), 0);
        assert_ne!(key_hash(&tenant, Some("a")), key_hash(&tenant, Some("b")));
    }
}
