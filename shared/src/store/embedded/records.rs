//! API keys and channel names.

use rusqlite::{Connection, OptionalExtension, params};

use crate::clock::UnixMs;
use crate::ids::{InstanceName, PlatformName, TenantId};
use crate::sqlite::DbError;
use crate::store::{ApiKey, ChannelName};

use super::{from_json, to_json};

/// Whose channels.
type Account = (TenantId, PlatformName, InstanceName);

fn ms(value: UnixMs) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn put_key(conn: &Connection, key: &ApiKey) -> Result<(), DbError> {
    let record = to_json("API key", key)?;
    // The same key again is a caller that got no answer.
    let sql = "SELECT 1 FROM api_keys WHERE id = ? AND hash = ? AND record = ?";
    if conn.prepare_cached(sql)?.exists(params![key.id, key.hash, record])? {
        return Ok(());
    }
    let sql = "INSERT INTO api_keys VALUES (?, ?, ?, ?, ?)";
    conn.prepare_cached(sql)?.execute(params![
        key.id,
        key.hash,
        key.tenant.as_ref().map(TenantId::as_str),
        record,
        key.revoked_at_ms.map(ms),
    ])?;
    Ok(())
}

/// Writes come one after the other, so nobody comes between the look and the insert.
pub(super) fn put_first_key(conn: &Connection, key: &ApiKey) -> Result<bool, DbError> {
    let sql = "SELECT record, revoked_at_ms FROM api_keys WHERE tenant IS NULL";
    let counts = |other: &ApiKey| {
        let lives = other.expires_at_ms.is_none_or(|at| at > key.created_at_ms);
        other.revoked_at_ms.is_none() && lives
    };
    if many(conn, sql, [])?.iter().any(counts) {
        return Ok(false);
    }
    put_key(conn, key)?;
    Ok(true)
}

fn many(
    conn: &Connection,
    sql: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<ApiKey>, DbError> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(values)?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        let text = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        let mut key: ApiKey = from_json("API key", text)?;
        let revoked: Option<i64> = row.get(1)?;
        key.revoked_at_ms = revoked.map(|at| u64::try_from(at).unwrap_or_default());
        keys.push(key);
    }
    Ok(keys)
}

pub(super) fn key_by_hash(conn: &Connection, hash: &str) -> Result<Option<ApiKey>, DbError> {
    let sql = "SELECT record, revoked_at_ms FROM api_keys WHERE hash = ?";
    Ok(many(conn, sql, [hash])?.pop())
}

pub(super) fn keys(conn: &Connection, tenant: Option<&TenantId>) -> Result<Vec<ApiKey>, DbError> {
    match tenant {
        Some(tenant) => {
            let sql = "SELECT record, revoked_at_ms FROM api_keys WHERE tenant = ? ORDER BY id";
            many(conn, sql, [tenant.as_str()])
        }
        None => many(conn, "SELECT record, revoked_at_ms FROM api_keys ORDER BY id", []),
    }
}

pub(super) fn revoke_key(
    conn: &Connection,
    tenant: Option<&TenantId>,
    id: &str,
    at_ms: UnixMs,
) -> Result<bool, DbError> {
    let sql = "UPDATE api_keys SET revoked_at_ms = coalesce(revoked_at_ms, ?1) \
               WHERE id = ?2 AND (?3 IS NULL OR tenant = ?3)";
    let found =
        conn.prepare_cached(sql)?.execute(params![ms(at_ms), id, tenant.map(TenantId::as_str)])?;
    Ok(found > 0)
}

pub(super) fn put_channels(
    conn: &Connection,
    (tenant, platform, instance): &Account,
    channels: &[ChannelName],
) -> Result<(), DbError> {
    let sql = "INSERT OR REPLACE INTO channels VALUES (?, ?, ?, ?, ?, ?)";
    for channel in channels {
        conn.prepare_cached(sql)?.execute(params![
            tenant.as_str(),
            platform.as_str(),
            instance.as_str(),
            channel.id,
            channel.name,
            ms(channel.asked_at_ms),
        ])?;
    }
    Ok(())
}

pub(super) fn channel(
    conn: &Connection,
    (tenant, platform, instance): &Account,
    id: &str,
) -> Result<Option<ChannelName>, DbError> {
    let sql = "SELECT name, asked_at_ms FROM channels \
               WHERE tenant = ? AND platform = ? AND instance = ? AND id = ?";
    let key = params![tenant.as_str(), platform.as_str(), instance.as_str(), id];
    let found = conn.prepare_cached(sql)?.query_row(key, |row| {
        let asked: i64 = row.get(1)?;
        Ok(ChannelName {
            id: id.to_owned(),
            name: row.get(0)?,
            asked_at_ms: u64::try_from(asked).unwrap_or_default(),
        })
    });
    Ok(found.optional()?)
}
