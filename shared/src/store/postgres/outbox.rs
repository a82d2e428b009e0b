//! Decisions on their way to the queue.

use bytes::Bytes;
use sqlx::postgres::PgRow;
use sqlx::query;
use uuid::Uuid;

use super::db::{Db, Failure, column, document, text};
use crate::message::Priority;
use crate::queue::Publication;
use crate::store::{OutboxEntry, StoreError};
use crate::subject::Subject;

/// Most entries in one answer, whatever was asked for.
const MAX_ENTRIES: usize = 1_000;
/// How long an entry is left to the node that read it; then any node publishes it, too.
/// Longer than a batch takes to publish, shorter than anyone waits for a decision.
const CLAIM_MS: i64 = 3_000;

/// The oldest entries that no other node is publishing. One that read them before gets them
/// again, in order.
pub(super) async fn oldest(
    db: &Db,
    node: Uuid,
    limit: usize,
) -> Result<Vec<OutboxEntry>, StoreError> {
    let sql = "WITH free AS (SELECT seq FROM outbox \
               WHERE claimed_until < now() OR claimed_by = $1 \
               ORDER BY seq LIMIT $2 FOR UPDATE SKIP LOCKED), \
               mine AS (UPDATE outbox o SET claimed_by = $1, \
               claimed_until = now() + $3 * interval '1 millisecond' \
               FROM free WHERE o.seq = free.seq \
               RETURNING o.seq, subject, id, headers, ordering_key, priority, payload) \
               SELECT * FROM mine ORDER BY seq";
    let limit = i64::try_from(limit.min(MAX_ENTRIES)).unwrap_or(i64::MAX);
    let rows = db.write(query(sql).bind(node).bind(limit).bind(CLAIM_MS)).await?;
    rows.iter().map(entry).collect()
}

fn entry(row: &PgRow) -> Result<OutboxEntry, StoreError> {
    let seq: i64 = column(row, 0)?;
    let subject: &str = column(row, 1)?;
    let payload: &[u8] = column(row, 6)?;
    let critical = column::<i16>(row, 5)? == 1;
    let corrupt = || Failure::corrupt("outbox", "subject").of_read();
    Ok(OutboxEntry {
        seq: u64::try_from(seq).unwrap_or_default(),
        publication: Publication {
            subject: Subject::parse(subject).ok_or_else(corrupt)?,
            id: column(row, 2)?,
            headers: document("outbox", row, 3)?,
            payload: Bytes::copy_from_slice(payload),
            ordering_key: text(row, 4)?,
            priority: if critical { Priority::Critical } else { Priority::Normal },
        },
    })
}

pub(super) async fn done(db: &Db, seqs: &[u64]) -> Result<(), StoreError> {
    let seqs: Vec<i64> = seqs.iter().filter_map(|seq| i64::try_from(*seq).ok()).collect();
    db.write(query("DELETE FROM outbox WHERE seq = ANY($1)").bind(seqs)).await.map(drop)
}
