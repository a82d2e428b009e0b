//! Claims of replies: at most one attempt to send each.

use std::collections::{HashMap, HashSet};

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Row, query};
use uuid::Uuid;

use super::db::{Db, Failure, text};
use super::lane::Kind;
use crate::ids::{ReplyId, TenantId};
use crate::store::{SendState, StoreError};

/// About what a row holds, in bytes.
const ROW_BYTES: usize = 96;

/// Claims replies.
pub(super) struct Claim;

/// A claim as it is about to be stored.
pub(super) struct Claiming {
    pub(super) tenant: TenantId,
    pub(super) reply: ReplyId,
    pub(super) at_ms: i64,
}

impl Kind for Claim {
    type Item = Claiming;
    type Answer = Result<SendState, StoreError>;
    type Key = (TenantId, Uuid);
    const NAME: &'static str = "begin_send";

    fn key(item: &Claiming) -> Self::Key {
        (item.tenant.clone(), item.reply.0)
    }

    fn bytes(_: &Claiming) -> usize {
        ROW_BYTES
    }

    async fn write(
        conn: &mut PgConnection,
        items: &[&Claiming],
    ) -> Result<Vec<Self::Answer>, Failure> {
        let sql = "INSERT INTO sends (tenant, reply, at_ms, sent) \
                   SELECT *, false FROM unnest($1::text[], $2::uuid[], $3::int8[]) \
                   ON CONFLICT DO NOTHING RETURNING tenant, reply";
        let insert = query(sql)
            .bind(items.iter().map(|i| i.tenant.as_str()).collect::<Vec<_>>())
            .bind(items.iter().map(|i| i.reply.0).collect::<Vec<_>>())
            .bind(items.iter().map(|i| i.at_ms).collect::<Vec<_>>());
        let new = insert.fetch_all(&mut *conn).await.map_err(Failure::sent)?;
        if new.len() == items.len() {
            return Ok(items.iter().map(|_| Ok(SendState::Fresh)).collect());
        }
        let new = new.iter().map(key).collect::<Result<HashSet<_>, _>>().map_err(Failure::sent)?;
        let is_new = |item: &Claiming| new.contains(&(item.tenant.as_str(), item.reply.0));
        // A statement of its own: the one before cannot see what another node committed
        // while it ran.
        let old: Vec<&Claiming> = items.iter().copied().filter(|i| !is_new(i)).collect();
        let mut states = states(conn, &old).await?;
        let answer = |item: &&Claiming| {
            if is_new(item) {
                return Ok(SendState::Fresh);
            }
            let state = states.remove(&(item.tenant.as_str().to_owned(), item.reply.0));
            // It was taken back a moment ago; nobody knows more.
            state.unwrap_or(Ok(SendState::Unknown))
        };
        Ok(items.iter().map(answer).collect())
    }
}

fn key(row: &PgRow) -> Result<(&str, Uuid), sqlx::Error> {
    Ok((row.try_get(0)?, row.try_get(1)?))
}

type States = HashMap<(String, Uuid), Result<SendState, StoreError>>;

async fn states(conn: &mut PgConnection, items: &[&Claiming]) -> Result<States, Failure> {
    let sql = "SELECT s.tenant, s.reply, s.sent, s.platform_id \
               FROM unnest($1::text[], $2::uuid[]) AS i(tenant, reply) \
               JOIN sends s ON s.tenant = i.tenant AND s.reply = i.reply";
    let select = query(sql)
        .bind(items.iter().map(|i| i.tenant.as_str()).collect::<Vec<_>>())
        .bind(items.iter().map(|i| i.reply.0).collect::<Vec<_>>());
    let rows = select.fetch_all(conn).await.map_err(Failure::sent)?;
    let read = |row: &PgRow| {
        let (tenant, reply) = key(row).map_err(Failure::sent)?;
        let sent: bool = row.try_get(2).map_err(Failure::sent)?;
        let state = if sent { text(row, 3).map(SendState::Sent) } else { Ok(SendState::Unknown) };
        Ok(((tenant.to_owned(), reply), state))
    };
    rows.iter().map(read).collect()
}

/// Records what was sent.
pub(super) struct Sent;

/// What was sent, as it is about to be stored.
pub(super) struct Sending {
    pub(super) tenant: TenantId,
    pub(super) reply: ReplyId,
    pub(super) platform_id: Option<Vec<u8>>,
}

impl Kind for Sent {
    type Item = Sending;
    type Answer = ();
    type Key = (TenantId, Uuid);
    const NAME: &'static str = "finish_send";

    fn key(item: &Sending) -> Self::Key {
        (item.tenant.clone(), item.reply.0)
    }

    fn bytes(item: &Sending) -> usize {
        item.platform_id.as_ref().map_or(0, Vec::len) + ROW_BYTES
    }

    async fn write(conn: &mut PgConnection, items: &[&Sending]) -> Result<Vec<()>, Failure> {
        let sql = "UPDATE sends s SET sent = true, platform_id = i.platform_id \
                   FROM unnest($1::text[], $2::uuid[], $3::bytea[]) \
                   AS i(tenant, reply, platform_id) \
                   WHERE s.tenant = i.tenant AND s.reply = i.reply";
        let update = query(sql)
            .bind(items.iter().map(|i| i.tenant.as_str()).collect::<Vec<_>>())
            .bind(items.iter().map(|i| i.reply.0).collect::<Vec<_>>())
            .bind(items.iter().map(|i| i.platform_id.as_deref()).collect::<Vec<_>>());
        update.fetch_all(conn).await.map_err(Failure::sent)?;
        Ok(items.iter().map(|_| ()).collect())
    }
}

pub(super) async fn abort(db: &Db, tenant: &TenantId, reply: ReplyId) -> Result<(), StoreError> {
    let sql = "DELETE FROM sends WHERE tenant = $1 AND reply = $2 AND NOT sent";
    db.write(query(sql).bind(tenant.as_str()).bind(reply.0)).await.map(drop)
}
