//! Held actions, votes, decisions, and the one start of each.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::action::{Approval, ApprovalStatus, HeldAction, RecordedVote};
use crate::clock::UnixMs;
use crate::ids::{ActionId, TenantId};
use crate::message::Address;
use crate::sqlite::DbError;
use crate::store::{ActionEnd, ActionStart, ApprovalFilter, Settlement};

use super::{from_json, outbox, to_json};

/// Most approvals in one answer, whatever was asked for.
const MAX_LISTED: usize = 1_000;

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT action, votes, status, settled_at_ms, outcome, posted FROM approvals ",
            $rest
        )
    };
}

fn ms(value: UnixMs) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn status_of(text: &str) -> Result<ApprovalStatus, DbError> {
    use ApprovalStatus::{
        Approved, Denied, Executed, Expired, Failed, Pending, Started, Uncertain,
    };
    let all = [Pending, Approved, Denied, Expired, Started, Executed, Failed, Uncertain];
    let found = all.into_iter().find(|status| status.as_str() == text);
    found.ok_or_else(|| DbError::Corrupt { what: "approval", reason: "status".to_owned() })
}

fn read(row: &Row<'_>) -> Result<Approval, DbError> {
    let text = |at| row.get_ref(at)?.as_str().map_err(rusqlite::Error::from);
    let decided: Option<i64> = row.get(3)?;
    Ok(Approval {
        action: from_json("held action", text(0)?)?,
        votes: from_json("votes", text(1)?)?,
        status: status_of(text(2)?)?,
        decided_at_ms: decided.map(|at| u64::try_from(at).unwrap_or_default()),
        outcome: row.get(4)?,
        posted: row.get(5)?,
    })
}

fn many(
    conn: &Connection,
    sql: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<Approval>, DbError> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(values)?;
    let mut approvals = Vec::new();
    while let Some(row) = rows.next()? {
        approvals.push(read(row)?);
    }
    Ok(approvals)
}

fn bounded(limit: usize) -> i64 {
    i64::try_from(limit.min(MAX_LISTED)).unwrap_or(i64::MAX)
}

pub(super) fn hold(conn: &Connection, action: &HeldAction) -> Result<bool, DbError> {
    let sql = "INSERT OR IGNORE INTO approvals \
               (tenant, id, status, digest, expires_at_ms, action, votes) \
               VALUES (?, ?, 'pending', ?, ?, ?, '[]')";
    let new = conn.prepare_cached(sql)?.execute(params![
        action.tenant.as_str(),
        action.id.0.as_bytes().as_slice(),
        action.digest,
        ms(action.expires_at_ms),
        to_json("held action", action)?,
    ])?;
    Ok(new > 0)
}

pub(super) fn get(
    conn: &Connection,
    tenant: &TenantId,
    id: ActionId,
) -> Result<Option<Approval>, DbError> {
    let sql = select!("WHERE tenant = ? AND id = ?");
    let key = params![tenant.as_str(), id.0.as_bytes().as_slice()];
    Ok(many(conn, sql, key)?.pop())
}

pub(super) fn list(
    conn: &Connection,
    tenant: &TenantId,
    filter: &ApprovalFilter,
) -> Result<Vec<Approval>, DbError> {
    let (tenant, limit) = (tenant.as_str(), bounded(filter.limit));
    match filter.status {
        Some(status) => {
            let sql = select!("WHERE tenant = ? AND status = ? ORDER BY n DESC LIMIT ?");
            many(conn, sql, params![tenant, status.as_str(), limit])
        }
        None => {
            many(conn, select!("WHERE tenant = ? ORDER BY n DESC LIMIT ?"), params![tenant, limit])
        }
    }
}

pub(super) fn posted_as(
    conn: &Connection,
    at: &Address,
    message: &str,
) -> Result<Option<Approval>, DbError> {
    let sql = select!(
        "WHERE tenant = ?1 AND id = (SELECT id FROM posted WHERE tenant = ?1 \
         AND platform = ?2 AND instance = ?3 AND channel = ?4 AND message = ?5)"
    );
    let (platform, instance) = (at.platform.as_str(), at.instance.as_str());
    let key = params![at.tenant.as_str(), platform, instance, at.channel, message];
    Ok(many(conn, sql, key)?.pop())
}

pub(super) fn set_posted(
    conn: &Connection,
    tenant: &TenantId,
    id: ActionId,
    (at, message): (&Address, &str),
) -> Result<(), DbError> {
    let key = id.0.as_bytes().as_slice();
    let known = conn
        .prepare_cached("UPDATE approvals SET posted = ? WHERE tenant = ? AND id = ?")?
        .execute(params![message, tenant.as_str(), key])?;
    if known > 0 {
        let sql = "INSERT OR REPLACE INTO posted VALUES (?, ?, ?, ?, ?, ?)";
        conn.prepare_cached(sql)?.execute(params![
            tenant.as_str(),
            at.platform.as_str(),
            at.instance.as_str(),
            at.channel,
            message,
            key
        ])?;
    }
    Ok(())
}

pub(super) fn record_vote(
    conn: &Connection,
    tenant: &TenantId,
    id: ActionId,
    vote: &RecordedVote,
) -> Result<Option<Approval>, DbError> {
    let Some(mut approval) = get(conn, tenant, id)? else { return Ok(None) };
    if approval.status != ApprovalStatus::Pending {
        return Ok(None);
    }
    let earlier = approval.votes.iter().position(|known| known.voter == vote.voter);
    match earlier {
        // A redelivered older vote must not undo a newer one.
        Some(at) if approval.votes[at].cast_at_ms > vote.cast_at_ms => {}
        Some(at) => approval.votes[at] = vote.clone(),
        None => approval.votes.push(vote.clone()),
    }
    let sql = "UPDATE approvals SET votes = ? WHERE tenant = ? AND id = ?";
    let key = id.0.as_bytes().as_slice();
    let votes = to_json("votes", &approval.votes)?;
    conn.prepare_cached(sql)?.execute(params![votes, tenant.as_str(), key])?;
    Ok(Some(approval))
}

pub(super) fn settle(
    conn: &Connection,
    tenant: &TenantId,
    id: ActionId,
    settlement: &Settlement,
) -> Result<bool, DbError> {
    let sql = "UPDATE approvals SET status = ?, settled_at_ms = ? \
               WHERE tenant = ? AND id = ? AND status = 'pending'";
    let key = id.0.as_bytes().as_slice();
    let (status, at_ms) = (settlement.status.as_str(), ms(settlement.at_ms));
    let first = conn.prepare_cached(sql)?.execute(params![status, at_ms, tenant.as_str(), key])?;
    if first == 0 {
        return Ok(false);
    }
    for publication in &settlement.outbox {
        outbox::add(conn, publication)?;
    }
    Ok(true)
}

pub(super) fn overdue(
    conn: &Connection,
    now_ms: UnixMs,
    limit: usize,
) -> Result<Vec<Approval>, DbError> {
    let sql =
        select!("WHERE status = 'pending' AND expires_at_ms <= ? ORDER BY expires_at_ms LIMIT ?");
    many(conn, sql, params![ms(now_ms), bounded(limit)])
}

pub(super) fn next_expiry(conn: &Connection) -> Result<Option<UnixMs>, DbError> {
    let sql = "SELECT expires_at_ms FROM approvals WHERE status = 'pending' \
               ORDER BY expires_at_ms LIMIT 1";
    let first: Option<i64> =
        conn.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
    Ok(first.map(|at| u64::try_from(at).unwrap_or_default()))
}

pub(super) fn start(
    conn: &Connection,
    tenant: &TenantId,
    id: ActionId,
    digest: &str,
) -> Result<ActionStart, DbError> {
    let key = id.0.as_bytes().as_slice();
    let sql = "SELECT status, digest, outcome FROM approvals WHERE tenant = ? AND id = ?";
    let found = conn.prepare_cached(sql)?.query_row(params![tenant.as_str(), key], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, Option<String>>(2)?))
    });
    let Some((status, stored, outcome)) = found.optional()? else {
        return Ok(ActionStart::NotApproved);
    };
    let mark = |status: ApprovalStatus| {
        let sql = "UPDATE approvals SET status = ? WHERE tenant = ? AND id = ?";
        conn.prepare_cached(sql)?.execute(params![status.as_str(), tenant.as_str(), key])
    };
    let status = status_of(&status)?;
    match status {
        _ if stored != digest => Ok(ActionStart::NotApproved),
        ApprovalStatus::Approved => {
            mark(ApprovalStatus::Started)?;
            Ok(ActionStart::Fresh)
        }
        ApprovalStatus::Started => {
            mark(ApprovalStatus::Uncertain)?;
            Ok(ActionStart::Uncertain)
        }
        ApprovalStatus::Uncertain if outcome.is_none() => Ok(ActionStart::Uncertain),
        ApprovalStatus::Executed | ApprovalStatus::Failed | ApprovalStatus::Uncertain => {
            Ok(ActionStart::Ended(ActionEnd { status, outcome: outcome.unwrap_or_default() }))
        }
        ApprovalStatus::Pending | ApprovalStatus::Denied | ApprovalStatus::Expired => {
            Ok(ActionStart::NotApproved)
        }
    }
}

pub(super) fn finish(
    conn: &Connection,
    tenant: &TenantId,
    id: ActionId,
    end: &ActionEnd,
) -> Result<(), DbError> {
    // `approved` too: a worker refuses just before it starts when the digest differs.
    let sql = "UPDATE approvals SET status = ?, outcome = ? WHERE tenant = ? AND id = ? \
               AND status IN ('approved', 'started', 'uncertain')";
    let key = id.0.as_bytes().as_slice();
    let (status, outcome) = (end.status.as_str(), &end.outcome);
    conn.prepare_cached(sql)?.execute(params![status, outcome, tenant.as_str(), key])?;
    Ok(())
}
