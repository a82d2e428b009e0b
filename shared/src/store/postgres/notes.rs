//! What platforms' adapters keep for later.

use sqlx::query;

use super::db::{Db, column, int, key_part, ms, text};
use crate::clock::UnixMs;
use crate::secret::Secret;
use crate::store::{Note, NoteKey, StoreError};

/// Expired notes deleted beside each new one: more than are written, so that they never pile up.
const EXPIRED_A_NOTE: i64 = 4;

pub(super) async fn put(
    db: &Db,
    key: &NoteKey,
    note: &Note,
    now_ms: UnixMs,
) -> Result<(), StoreError> {
    // What another node deletes or writes just now is left to it.
    let sql = "WITH old AS (SELECT tenant, platform, instance, name FROM notes \
               WHERE expires_at_ms <= $6 \
               AND (tenant, platform, instance, name) <> ($1, $2, $3, $4) \
               ORDER BY expires_at_ms LIMIT $8 FOR UPDATE SKIP LOCKED), \
               gone AS (DELETE FROM notes USING old WHERE notes.tenant = old.tenant \
               AND notes.platform = old.platform AND notes.instance = old.instance \
               AND notes.name = old.name) \
               INSERT INTO notes (tenant, platform, instance, name, value, expires_at_ms) \
               VALUES ($1, $2, $3, $4, $5, $7) \
               ON CONFLICT (tenant, platform, instance, name) \
               DO UPDATE SET value = excluded.value, expires_at_ms = excluded.expires_at_ms";
    let put = query(sql)
        .bind(key.tenant.as_str())
        .bind(key.platform.as_str())
        .bind(key.instance.as_str())
        .bind(key_part(&key.name))
        .bind(note.value.expose().as_bytes())
        .bind(int(now_ms))
        .bind(int(note.expires_at_ms))
        .bind(EXPIRED_A_NOTE);
    db.write(put).await.map(drop)
}

pub(super) async fn get(
    db: &Db,
    key: &NoteKey,
    now_ms: UnixMs,
) -> Result<Option<Note>, StoreError> {
    let sql = "SELECT value, expires_at_ms FROM notes WHERE tenant = $1 AND platform = $2 \
               AND instance = $3 AND name = $4 AND expires_at_ms > $5";
    let select = || {
        let of = query(sql).bind(key.tenant.as_str()).bind(key.platform.as_str());
        of.bind(key.instance.as_str()).bind(key_part(&key.name)).bind(int(now_ms))
    };
    let rows = db.read(select).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let value = text(row, 0)?.unwrap_or_default();
    Ok(Some(Note { value: Secret::new(value), expires_at_ms: ms(column(row, 1)?) }))
}
