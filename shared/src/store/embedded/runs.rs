//! Runs, their checkpoints, and conversation memory.

use rusqlite::{Connection, OptionalExtension, params};

use crate::ids::{RunId, TenantId};
use crate::sqlite::DbError;
use crate::store::{MemoryKey, RunEnd, RunStart, RunState, Turn};

use super::rows::{Kind, Rows};
use super::{from_json, to_json};

/// Its row's number, how it started, its checkpoint, and how it ended.
type Row = (i64, String, Option<String>, Option<String>);

fn row(
    conn: &Connection,
    rows: &Rows,
    tenant: &TenantId,
    run: RunId,
) -> Result<Option<Row>, DbError> {
    let Some(n) = rows.find(conn, Kind::Run, (tenant, run.0))? else { return Ok(None) };
    let sql = "SELECT start, checkpoint, (SELECT ended FROM run_ends WHERE n = ?1) FROM runs \
               WHERE n = ?1 AND tenant = ?2 AND run = ?3";
    let mut statement = conn.prepare_cached(sql)?;
    let key = params![n, tenant.as_str(), run.0.as_bytes().as_slice()];
    let found = statement.query_row(key, |row| Ok((n, row.get(0)?, row.get(1)?, row.get(2)?)));
    Ok(found.optional()?)
}

fn state(checkpoint: Option<String>, ended: Option<String>) -> Result<RunState, DbError> {
    if let Some(ended) = ended {
        return Ok(RunState::Finished(from_json("run", &ended)?));
    }
    let checkpoint = checkpoint.map(|text| from_json("checkpoint", &text)).transpose()?;
    Ok(RunState::Resumed { checkpoint })
}

pub(super) fn begin(conn: &Connection, rows: &Rows, start: &RunStart) -> Result<RunState, DbError> {
    if let Some((_, _, checkpoint, ended)) = row(conn, rows, &start.tenant, start.run)? {
        return state(checkpoint, ended);
    }
    let n = rows.add(Kind::Run, (&start.tenant, start.run.0), start.at_ms);
    let sql = "INSERT INTO runs (n, tenant, run, start, at_ms) VALUES (?, ?, ?, ?, ?)";
    conn.prepare_cached(sql)?.execute(params![
        n,
        start.tenant.as_str(),
        start.run.0.as_bytes().as_slice(),
        to_json("run", start)?,
        i64::try_from(start.at_ms).unwrap_or(i64::MAX),
    ])?;
    Ok(RunState::Begun)
}

pub(super) fn save_checkpoint(
    conn: &Connection,
    rows: &Rows,
    (tenant, run): (&TenantId, RunId),
    checkpoint: &str,
) -> Result<bool, DbError> {
    let Some((n, _, _, None)) = row(conn, rows, tenant, run)? else { return Ok(false) };
    let sql = "UPDATE runs SET checkpoint = ? WHERE n = ?";
    conn.prepare_cached(sql)?.execute(params![checkpoint, n])?;
    Ok(true)
}

pub(super) fn get(
    conn: &Connection,
    rows: &Rows,
    tenant: &TenantId,
    run: RunId,
) -> Result<Option<(RunStart, RunState)>, DbError> {
    let found = row(conn, rows, tenant, run)?;
    let Some((_, start, checkpoint, ended)) = found else { return Ok(None) };
    Ok(Some((from_json("run", &start)?, state(checkpoint, ended)?)))
}

pub(super) fn finish(
    conn: &Connection,
    rows: &Rows,
    (tenant, run): (&TenantId, RunId),
    (end, memory): (&RunEnd, Option<&(MemoryKey, Vec<Turn>)>),
) -> Result<bool, DbError> {
    let Some((n, _, checkpoint, None)) = row(conn, rows, tenant, run)? else { return Ok(false) };
    conn.prepare_cached("INSERT INTO run_ends VALUES (?, ?)")?
        .execute(params![n, to_json("run", end)?])?;
    if checkpoint.is_some() {
        // It has done its work; keeping it would double what a run takes.
        conn.prepare_cached("UPDATE runs SET checkpoint = NULL WHERE n = ?")?.execute([n])?;
    }
    for (key, turn) in memory.iter().flat_map(|(key, turns)| turns.iter().map(move |t| (key, t))) {
        let sql = "INSERT INTO turns (tenant, flow, session, at_ms, turn) VALUES (?, ?, ?, ?, ?)";
        conn.prepare_cached(sql)?.execute(params![
            tenant.as_str(),
            key.flow.as_str(),
            key.session,
            i64::try_from(turn.at_ms).unwrap_or(i64::MAX),
            to_json("turn", turn)?,
        ])?;
    }
    Ok(true)
}

pub(super) fn history(
    conn: &Connection,
    key: &MemoryKey,
    limit: u32,
) -> Result<Vec<Turn>, DbError> {
    let sql = "SELECT turn FROM turns WHERE tenant = ? AND flow = ? AND session = ? \
               ORDER BY n DESC LIMIT ?";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows =
        statement.query(params![key.tenant.as_str(), key.flow.as_str(), key.session, limit])?;
    let mut turns = Vec::new();
    while let Some(row) = rows.next()? {
        let text = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        turns.push(from_json("turn", text)?);
    }
    turns.reverse();
    Ok(turns)
}
