//! Held actions, votes, decisions, and the one start of each.

use sqlx::postgres::PgRow;
use sqlx::query;

use super::db::{Db, Failure, column, document, int, json, key_part, ms, text};
use crate::action::{Approval, ApprovalStatus, HeldAction, RecordedVote};
use crate::clock::UnixMs;
use crate::ids::{ActionId, TenantId};
use crate::message::{Address, Priority};
use crate::store::{ActionEnd, ActionStart, ApprovalFilter, Settlement, StoreError};

/// Most approvals in one answer, whatever was asked for.
const MAX_LISTED: usize = 1_000;
/// Looks at an action that is decided at the same moment.
const START_ATTEMPTS: usize = 4;

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT action, votes, status, settled_at_ms, outcome, posted FROM approvals ",
            $rest
        )
    };
}

fn status_of(text: &str) -> Result<ApprovalStatus, StoreError> {
    use ApprovalStatus::{
        Approved, Denied, Executed, Expired, Failed, Pending, Started, Uncertain,
    };
    let all = [Pending, Approved, Denied, Expired, Started, Executed, Failed, Uncertain];
    let found = all.into_iter().find(|status| status.as_str() == text);
    found.ok_or_else(|| Failure::corrupt("approval", "status").of_read())
}

fn approval(row: &PgRow) -> Result<Approval, StoreError> {
    let decided: Option<i64> = column(row, 3)?;
    Ok(Approval {
        action: document("held action", row, 0)?,
        votes: document("votes", row, 1)?,
        status: status_of(column(row, 2)?)?,
        decided_at_ms: decided.map(ms),
        outcome: text(row, 4)?,
        posted: text(row, 5)?,
    })
}

fn one(rows: &[PgRow]) -> Result<Option<Approval>, StoreError> {
    rows.first().map(approval).transpose()
}

fn many(rows: &[PgRow]) -> Result<Vec<Approval>, StoreError> {
    rows.iter().map(approval).collect()
}

fn bounded(limit: usize) -> i64 {
    i64::try_from(limit.min(MAX_LISTED)).unwrap_or(i64::MAX)
}

pub(super) async fn hold(db: &Db, action: &HeldAction) -> Result<bool, StoreError> {
    let sql = "INSERT INTO approvals \
               (tenant, id, status, digest, expires_at_ms, action, votes) \
               VALUES ($1, $2, 'pending', $3, $4, $5, '[]') ON CONFLICT DO NOTHING RETURNING 1";
    let insert = query(sql)
        .bind(action.tenant.as_str())
        .bind(action.id.0)
        .bind(&action.digest)
        .bind(int(action.expires_at_ms))
        .bind(json("held action", action)?);
    Ok(!db.write(insert).await?.is_empty())
}

pub(super) async fn get(
    db: &Db,
    tenant: &TenantId,
    id: ActionId,
) -> Result<Option<Approval>, StoreError> {
    let sql = select!("WHERE tenant = $1 AND id = $2");
    one(&db.read(|| query(sql).bind(tenant.as_str()).bind(id.0)).await?)
}

pub(super) async fn list(
    db: &Db,
    tenant: &TenantId,
    filter: &ApprovalFilter,
) -> Result<Vec<Approval>, StoreError> {
    let (tenant, limit) = (tenant.as_str(), bounded(filter.limit));
    let rows = match filter.status {
        Some(status) => {
            let sql = select!("WHERE tenant = $1 AND status = $3 ORDER BY n DESC LIMIT $2");
            db.read(|| query(sql).bind(tenant).bind(limit).bind(status.as_str())).await?
        }
        None => {
            let sql = select!("WHERE tenant = $1 ORDER BY n DESC LIMIT $2");
            db.read(|| query(sql).bind(tenant).bind(limit)).await?
        }
    };
    many(&rows)
}

pub(super) async fn posted_as(
    db: &Db,
    at: &Address,
    message: &str,
) -> Result<Option<Approval>, StoreError> {
    let sql = select!(
        "WHERE tenant = $1 AND id = (SELECT id FROM posted WHERE tenant = $1 \
         AND platform = $2 AND instance = $3 AND channel = $4 AND message = $5)"
    );
    let select = || {
        let of = query(sql).bind(at.tenant.as_str()).bind(at.platform.as_str());
        of.bind(at.instance.as_str()).bind(key_part(&at.channel)).bind(key_part(message))
    };
    one(&db.read(select).await?)
}

pub(super) async fn set_posted(
    db: &Db,
    tenant: &TenantId,
    id: ActionId,
    (at, message): (&Address, &str),
) -> Result<(), StoreError> {
    let sql = "WITH known AS (UPDATE approvals SET posted = $3 \
               WHERE tenant = $1 AND id = $2 RETURNING id) \
               INSERT INTO posted (tenant, platform, instance, channel, message, id) \
               SELECT $1, $4, $5, $6, $7, id FROM known \
               ON CONFLICT (tenant, platform, instance, channel, message) \
               DO UPDATE SET id = excluded.id";
    let set = query(sql)
        .bind(tenant.as_str())
        .bind(id.0)
        .bind(message.as_bytes())
        .bind(at.platform.as_str())
        .bind(at.instance.as_str())
        .bind(key_part(&at.channel))
        .bind(key_part(message));
    db.write(set).await.map(drop)
}

pub(super) async fn record_vote(
    db: &Db,
    tenant: &TenantId,
    id: ActionId,
    vote: &RecordedVote,
) -> Result<Option<Approval>, StoreError> {
    let mut open = db.begin().await?;
    let sql = select!("WHERE tenant = $1 AND id = $2 FOR UPDATE");
    let found = open.rows(query(sql).bind(tenant.as_str()).bind(id.0)).await?;
    let pending = one(&found)?.filter(|found| found.status == ApprovalStatus::Pending);
    let Some(mut approval) = pending else {
        open.commit().await?;
        return Ok(None);
    };
    let earlier = approval.votes.iter().position(|known| known.voter == vote.voter);
    match earlier {
        // A redelivered older vote must not undo a newer one.
        Some(at) if approval.votes[at].cast_at_ms > vote.cast_at_ms => {}
        Some(at) => approval.votes[at] = vote.clone(),
        None => approval.votes.push(vote.clone()),
    }
    let sql = "UPDATE approvals SET votes = $3 WHERE tenant = $1 AND id = $2";
    let votes = json("votes", &approval.votes)?;
    open.rows(query(sql).bind(tenant.as_str()).bind(id.0).bind(votes)).await?;
    open.commit().await?;
    Ok(Some(approval))
}

pub(super) async fn settle(
    db: &Db,
    tenant: &TenantId,
    id: ActionId,
    settlement: &Settlement,
) -> Result<bool, StoreError> {
    let sql = "WITH first AS (UPDATE approvals SET status = $3, settled_at_ms = $4 \
               WHERE tenant = $1 AND id = $2 AND status = 'pending' RETURNING 1), \
               posted AS (INSERT INTO outbox \
               (subject, id, headers, ordering_key, priority, payload) \
               SELECT o.subject, o.id, o.headers, o.ordering_key, o.priority, o.payload \
               FROM unnest($5::text[], $6::uuid[], $7::text[], $8::bytea[], $9::int2[], \
               $10::bytea[]) WITH ORDINALITY \
               AS o(subject, id, headers, ordering_key, priority, payload, place), first \
               ORDER BY o.place) \
               SELECT 1 FROM first";
    let out = &settlement.outbox;
    let headers: Result<Vec<_>, _> = out.iter().map(|p| json("outbox", &p.headers)).collect();
    let settle = query(sql)
        .bind(tenant.as_str())
        .bind(id.0)
        .bind(settlement.status.as_str())
        .bind(int(settlement.at_ms))
        .bind(out.iter().map(|p| p.subject.to_string()).collect::<Vec<_>>())
        .bind(out.iter().map(|p| p.id).collect::<Vec<_>>())
        .bind(headers?)
        .bind(
            out.iter()
                .map(|p| p.ordering_key.as_ref().map(|k| k.as_bytes().to_vec()))
                .collect::<Vec<_>>(),
        )
        .bind(out.iter().map(|p| i16::from(p.priority == Priority::Critical)).collect::<Vec<_>>())
        .bind(out.iter().map(|p| p.payload.as_ref()).collect::<Vec<_>>());
    Ok(!db.write(settle).await?.is_empty())
}

pub(super) async fn overdue(
    db: &Db,
    now_ms: UnixMs,
    limit: usize,
) -> Result<Vec<Approval>, StoreError> {
    let sql =
        select!("WHERE status = 'pending' AND expires_at_ms <= $1 ORDER BY expires_at_ms LIMIT $2");
    many(&db.read(|| query(sql).bind(int(now_ms)).bind(bounded(limit))).await?)
}

pub(super) async fn next_expiry(db: &Db) -> Result<Option<UnixMs>, StoreError> {
    let sql = "SELECT expires_at_ms FROM approvals WHERE status = 'pending' \
               ORDER BY expires_at_ms LIMIT 1";
    let rows = db.read(|| query(sql)).await?;
    rows.first().map(|row| column(row, 0).map(ms)).transpose()
}

pub(super) async fn start(
    db: &Db,
    tenant: &TenantId,
    id: ActionId,
    digest: &str,
) -> Result<ActionStart, StoreError> {
    // `approved` is started once; who finds it started knows no end.
    let sql = "UPDATE approvals SET status = \
               CASE status WHEN 'approved' THEN 'started' ELSE 'uncertain' END \
               WHERE tenant = $1 AND id = $2 AND digest = $3 \
               AND status IN ('approved', 'started') RETURNING status";
    for _ in 0..START_ATTEMPTS {
        let mark = query(sql).bind(tenant.as_str()).bind(id.0).bind(digest);
        if let Some(row) = db.write(mark).await?.first() {
            return Ok(match status_of(column(row, 0)?)? {
                ApprovalStatus::Started => ActionStart::Fresh,
                _ => ActionStart::Uncertain,
            });
        }
        if let Some(found) = standing(db, tenant, id, digest).await? {
            return Ok(found);
        }
    }
    Err(StoreError::Unavailable { reason: "the action changes".to_owned(), source: None })
}

/// What an action that cannot start is; `None`: now it could.
async fn standing(
    db: &Db,
    tenant: &TenantId,
    id: ActionId,
    digest: &str,
) -> Result<Option<ActionStart>, StoreError> {
    let sql = "SELECT status, digest, outcome FROM approvals WHERE tenant = $1 AND id = $2";
    let rows = db.read(|| query(sql).bind(tenant.as_str()).bind(id.0)).await?;
    let Some(row) = rows.first() else { return Ok(Some(ActionStart::NotApproved)) };
    let (status, stored) = (status_of(column(row, 0)?)?, column::<&str>(row, 1)?);
    let outcome = text(row, 2)?;
    Ok(match status {
        _ if stored != digest => Some(ActionStart::NotApproved),
        ApprovalStatus::Approved | ApprovalStatus::Started => None,
        ApprovalStatus::Uncertain if outcome.is_none() => Some(ActionStart::Uncertain),
        ApprovalStatus::Executed | ApprovalStatus::Failed | ApprovalStatus::Uncertain => {
            let outcome = outcome.unwrap_or_default();
            Some(ActionStart::Ended(ActionEnd { status, outcome }))
        }
        ApprovalStatus::Pending | ApprovalStatus::Denied | ApprovalStatus::Expired => {
            Some(ActionStart::NotApproved)
        }
    })
}

pub(super) async fn finish(
    db: &Db,
    tenant: &TenantId,
    id: ActionId,
    end: &ActionEnd,
) -> Result<(), StoreError> {
    // `approved` too: a worker refuses just before it starts when the digest differs.
    let sql = "UPDATE approvals SET status = $3, outcome = $4 WHERE tenant = $1 AND id = $2 \
               AND status IN ('approved', 'started', 'uncertain')";
    let finish = query(sql)
        .bind(tenant.as_str())
        .bind(id.0)
        .bind(end.status.as_str())
        .bind(end.outcome.as_bytes());
    db.write(finish).await.map(drop)
}
