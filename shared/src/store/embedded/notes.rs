//! What platforms' adapters keep for later.

use rusqlite::{Connection, OptionalExtension, params};

use crate::clock::UnixMs;
use crate::secret::Secret;
use crate::sqlite::{DbError, signed, unsigned};
use crate::store::{Note, NoteKey};

/// Expired notes deleted beside each new one: more than are written, so that they never pile up.
const EXPIRED_A_NOTE: i64 = 4;

pub(super) fn put(
    conn: &Connection,
    key: &NoteKey,
    note: &Note,
    now_ms: UnixMs,
) -> Result<(), DbError> {
    let sql = "DELETE FROM notes WHERE (tenant, platform, instance, name) IN \
               (SELECT tenant, platform, instance, name FROM notes WHERE expires_at_ms <= ? \
               ORDER BY expires_at_ms LIMIT ?)";
    conn.prepare_cached(sql)?.execute(params![signed(now_ms), EXPIRED_A_NOTE])?;
    let sql = "INSERT OR REPLACE INTO notes VALUES (?, ?, ?, ?, ?, ?)";
    conn.prepare_cached(sql)?.execute(params![
        key.tenant.as_str(),
        key.platform.as_str(),
        key.instance.as_str(),
        key.name,
        note.value.expose(),
        signed(note.expires_at_ms),
    ])?;
    Ok(())
}

pub(super) fn get(
    conn: &Connection,
    key: &NoteKey,
    now_ms: UnixMs,
) -> Result<Option<Note>, DbError> {
    let sql = "SELECT value, expires_at_ms FROM notes WHERE tenant = ? AND platform = ? \
               AND instance = ? AND name = ? AND expires_at_ms > ?";
    let of = params![
        key.tenant.as_str(),
        key.platform.as_str(),
        key.instance.as_str(),
        key.name,
        signed(now_ms),
    ];
    let found = conn.prepare_cached(sql)?.query_row(of, |row| {
        let value: String = row.get(0)?;
        Ok(Note { value: Secret::new(value), expires_at_ms: unsigned(row.get(1)?) })
    });
    Ok(found.optional()?)
}
