//! API keys and channel names.

use sqlx::postgres::PgRow;
use sqlx::query;

use super::db::{Db, Statement, column, document, int, json, key_part, ms, text};
use crate::clock::UnixMs;
use crate::ids::{InstanceName, PlatformName, TenantId};
use crate::store::{ApiKey, ChannelName, StoreError};

/// Whose channels.
type Account<'a> = (&'a TenantId, &'a PlatformName, &'a InstanceName);

pub(super) async fn put_key(db: &Db, key: &ApiKey) -> Result<(), StoreError> {
    if db.write(insert(key)?).await?.is_empty() {
        return Err(taken());
    }
    Ok(())
}

/// Nodes that start at once wait for each other here: the table is locked against writers.
pub(super) async fn put_first_key(db: &Db, key: &ApiKey) -> Result<bool, StoreError> {
    let mut open = db.begin().await?;
    open.rows(query("LOCK TABLE api_keys IN SHARE ROW EXCLUSIVE MODE")).await?;
    let sql = "SELECT 1 FROM api_keys WHERE tenant IS NULL AND revoked_at_ms IS NULL \
               AND coalesce((record::json ->> 'expires_at_ms')::bigint > $1, true) LIMIT 1";
    if !open.rows(query(sql).bind(int(key.created_at_ms))).await?.is_empty() {
        return Ok(false);
    }
    if open.rows(insert(key)?).await?.is_empty() {
        return Err(taken());
    }
    open.commit().await?;
    Ok(true)
}

fn insert(key: &ApiKey) -> Result<Statement<'_>, StoreError> {
    // The same key again is a caller that got no answer.
    let sql = "WITH put AS (INSERT INTO api_keys (id, hash, tenant, record, revoked_at_ms) \
               VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING 1) \
               SELECT 1 FROM put UNION ALL \
               SELECT 1 FROM api_keys WHERE id = $1 AND hash = $2 AND record = $4";
    Ok(query(sql)
        .bind(key_part(&key.id))
        .bind(key_part(&key.hash))
        .bind(key.tenant.as_ref().map(TenantId::as_str))
        .bind(json("API key", key)?)
        .bind(key.revoked_at_ms.map(int)))
}

fn taken() -> StoreError {
    StoreError::Unavailable { reason: "another key has this id or hash".to_owned(), source: None }
}

fn key(row: &PgRow) -> Result<ApiKey, StoreError> {
    let mut key: ApiKey = document("API key", row, 0)?;
    let revoked: Option<i64> = column(row, 1)?;
    key.revoked_at_ms = revoked.map(ms);
    Ok(key)
}

pub(super) async fn key_by_hash(db: &Db, hash: &str) -> Result<Option<ApiKey>, StoreError> {
    let sql = "SELECT record, revoked_at_ms FROM api_keys WHERE hash = $1";
    let rows = db.read(|| query(sql).bind(key_part(hash))).await?;
    rows.first().map(key).transpose()
}

pub(super) async fn keys(db: &Db, tenant: Option<&TenantId>) -> Result<Vec<ApiKey>, StoreError> {
    let rows = match tenant {
        Some(tenant) => {
            let sql = "SELECT record, revoked_at_ms FROM api_keys WHERE tenant = $1 ORDER BY id";
            db.read(|| query(sql).bind(tenant.as_str())).await?
        }
        None => db.read(|| query("SELECT record, revoked_at_ms FROM api_keys ORDER BY id")).await?,
    };
    rows.iter().map(key).collect()
}

pub(super) async fn revoke_key(
    db: &Db,
    tenant: Option<&TenantId>,
    id: &str,
    at_ms: UnixMs,
) -> Result<bool, StoreError> {
    let sql = "UPDATE api_keys SET revoked_at_ms = coalesce(revoked_at_ms, $1) \
               WHERE id = $2 AND ($3::text IS NULL OR tenant = $3) RETURNING 1";
    let revoke = query(sql).bind(int(at_ms)).bind(key_part(id)).bind(tenant.map(TenantId::as_str));
    Ok(!db.write(revoke).await?.is_empty())
}

pub(super) async fn put_channels(
    db: &Db,
    (tenant, platform, instance): Account<'_>,
    channels: &[ChannelName],
) -> Result<(), StoreError> {
    // One statement takes each row once: of one channel twice, the later counts. Sorted, so
    // that two nodes that ask at once lock the rows in one order.
    let mut latest: Vec<(Vec<u8>, &ChannelName)> =
        channels.iter().rev().map(|channel| (key_part(&channel.id), channel)).collect();
    latest.sort_by(|(a, _), (b, _)| a.cmp(b));
    latest.dedup_by(|(a, _), (b, _)| a == b);
    let sql = "INSERT INTO channels (tenant, platform, instance, id, name, asked_at_ms) \
               SELECT $1, $2, $3, i.* FROM unnest($4::bytea[], $5::bytea[], $6::int8[]) AS i \
               ON CONFLICT (tenant, platform, instance, id) \
               DO UPDATE SET name = excluded.name, asked_at_ms = excluded.asked_at_ms";
    let name = |channel: &ChannelName| channel.name.as_ref().map(|n| n.as_bytes().to_vec());
    let put = query(sql)
        .bind(tenant.as_str())
        .bind(platform.as_str())
        .bind(instance.as_str())
        .bind(latest.iter().map(|(id, _)| id.as_slice()).collect::<Vec<_>>())
        .bind(latest.iter().map(|(_, channel)| name(channel)).collect::<Vec<_>>())
        .bind(latest.iter().map(|(_, channel)| int(channel.asked_at_ms)).collect::<Vec<_>>());
    db.write(put).await.map(drop)
}

pub(super) async fn channel(
    db: &Db,
    (tenant, platform, instance): Account<'_>,
    id: &str,
) -> Result<Option<ChannelName>, StoreError> {
    let sql = "SELECT name, asked_at_ms FROM channels \
               WHERE tenant = $1 AND platform = $2 AND instance = $3 AND id = $4";
    let select = || {
        let of = query(sql).bind(tenant.as_str()).bind(platform.as_str());
        of.bind(instance.as_str()).bind(key_part(id))
    };
    let rows = db.read(select).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(ChannelName {
        id: id.to_owned(),
        name: text(row, 0)?,
        asked_at_ms: ms(column(row, 1)?),
    }))
}
