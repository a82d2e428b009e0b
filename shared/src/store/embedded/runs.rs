//! Runs, their checkpoints, and conversation memory.

use rusqlite::{Connection, OptionalExtension, params};

use crate::ids::{RunId, TenantId};
use crate::sqlite::DbError;
use crate::store::{MemoryKey, RunEnd, RunStart, RunState, Turn};

use super::{from_json, to_json};

type Row = (String, Option<String>, Option<String>);

fn row(conn: &Connection, tenant: &TenantId, run: RunId) -> Result<Option<Row>, DbError> {
    let sql = "SELECT start, checkpoint, ended FROM runs WHERE tenant = ? AND run = ?";
    let mut statement = conn.prepare_cached(sql)?;
    let key = params![tenant.as_str(), run.0.as_bytes().as_slice()];
    let found = statement.query_row(key, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    Ok(found.optional()?)
}

fn state(checkpoint: Option<String>, ended: Option<String>) -> Result<RunState, DbError> {
    if let Some(ended) = ended {
        return Ok(RunState::Finished(from_json("run", &ended)?));
    }
    let checkpoint = checkpoint.map(|text| from_json("checkpoint", &text)).transpose()?;
    Ok(RunState::Resumed { checkpoint })
}

pub(super) fn begin(conn: &Connection, start: &RunStart) -> Result<RunState, DbError> {
    if let Some((_, checkpoint, ended)) = row(conn, &start.tenant, start.run)? {
        return state(checkpoint, ended);
    }
    let sql = "INSERT INTO runs (tenant, run, start, at_ms) VALUES (?, ?, ?, ?)";
    conn.prepare_cached(sql)?.execute(params![
        start.tenant.as_str(),
        start.run.0.as_bytes().as_slice(),
        to_json("run", start)?,
        i64::try_from(start.at_ms).unwrap_or(i64::MAX),
    ])?;
    Ok(RunState::Begun)
}

pub(super) fn save_checkpoint(
    conn: &Connection,
    tenant: &TenantId,
    run: RunId,
    checkpoint: &str,
) -> Result<(), DbError> {
    let sql = "UPDATE runs SET checkpoint = ? WHERE tenant = ? AND run = ? AND ended IS NULL";
    let key = run.0.as_bytes().as_slice();
    conn.prepare_cached(sql)?.execute(params![checkpoint, tenant.as_str(), key])?;
    Ok(())
}

pub(super) fn get(
    conn: &Connection,
    tenant: &TenantId,
    run: RunId,
) -> Result<Option<(RunStart, RunState)>, DbError> {
    let Some((start, checkpoint, ended)) = row(conn, tenant, run)? else { return Ok(None) };
    Ok(Some((from_json("run", &start)?, state(checkpoint, ended)?)))
}

pub(super) fn finish(
    conn: &Connection,
    tenant: &TenantId,
    run: RunId,
    (end, memory): (&RunEnd, Option<&(MemoryKey, Vec<Turn>)>),
) -> Result<bool, DbError> {
    // The checkpoint has done its work; keeping it would double what a run takes.
    let sql = "UPDATE runs SET ended = ?, checkpoint = NULL \
               WHERE tenant = ? AND run = ? AND ended IS NULL";
    let key = run.0.as_bytes().as_slice();
    let ended =
        conn.prepare_cached(sql)?.execute(params![to_json("run", end)?, tenant.as_str(), key])?;
    if ended == 0 {
        return Ok(false);
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
