//! Runs, their checkpoints, and conversation memory.

use std::collections::{HashMap, HashSet};

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Row, query};
use uuid::Uuid;

use super::db::{Db, Failure, column, document, int, json, key_part, parse};
use super::lane::Kind;
use crate::ids::{RunId, TenantId};
use crate::store::{MemoryKey, RunEnd, RunStart, RunState, StoreError, Turn};

/// About what a row holds beside its documents, in bytes.
const ROW_BYTES: usize = 64;

/// Begins runs.
pub(super) struct Begin;

/// A run as it is about to be stored.
pub(super) struct Beginning {
    tenant: TenantId,
    run: Uuid,
    start: String,
    at_ms: i64,
    holder: Uuid,
}

impl Beginning {
    pub(super) fn of(start: &RunStart, holder: Uuid) -> Result<Self, StoreError> {
        Ok(Self {
            tenant: start.tenant.clone(),
            run: start.run.0,
            start: json("run", start)?,
            at_ms: int(start.at_ms),
            holder,
        })
    }
}

impl Kind for Begin {
    type Item = Beginning;
    type Answer = Result<RunState, StoreError>;
    type Key = (TenantId, Uuid);
    const NAME: &'static str = "begin_run";

    fn key(item: &Beginning) -> Self::Key {
        (item.tenant.clone(), item.run)
    }

    fn bytes(item: &Beginning) -> usize {
        item.start.len() + ROW_BYTES
    }

    async fn write(
        conn: &mut PgConnection,
        items: &[&Beginning],
    ) -> Result<Vec<Self::Answer>, Failure> {
        let sql = "INSERT INTO runs (tenant, run, start, at_ms, holder) SELECT * \
                   FROM unnest($1::text[], $2::uuid[], $3::text[], $4::int8[], $5::uuid[]) \
                   ON CONFLICT DO NOTHING RETURNING tenant, run";
        let insert = query(sql)
            .bind(items.iter().map(|i| i.tenant.as_str()).collect::<Vec<_>>())
            .bind(items.iter().map(|i| i.run).collect::<Vec<_>>())
            .bind(items.iter().map(|i| i.start.as_str()).collect::<Vec<_>>())
            .bind(items.iter().map(|i| i.at_ms).collect::<Vec<_>>())
            .bind(items.iter().map(|i| i.holder).collect::<Vec<_>>());
        let new = insert.fetch_all(&mut *conn).await.map_err(Failure::sent)?;
        if new.len() == items.len() {
            return Ok(items.iter().map(|_| Ok(RunState::Begun)).collect());
        }
        let new = new.iter().map(key).collect::<Result<HashSet<_>, _>>().map_err(Failure::sent)?;
        let is_new = |item: &Beginning| new.contains(&(item.tenant.as_str(), item.run));
        // A statement of its own: the one before cannot see what another node committed
        // while it ran.
        let old: Vec<&Beginning> = items.iter().copied().filter(|i| !is_new(i)).collect();
        // Before they are read: what an earlier holder saves from now on is refused.
        take_over(conn, &old).await?;
        let mut states = states(conn, &old).await?;
        let answer = |item: &&Beginning| {
            if is_new(item) {
                return Ok(RunState::Begun);
            }
            let state = states.remove(&(item.tenant.as_str().to_owned(), item.run));
            state.unwrap_or_else(|| Err(vanished()))
        };
        Ok(items.iter().map(answer).collect())
    }
}

fn key(row: &PgRow) -> Result<(&str, Uuid), sqlx::Error> {
    Ok((row.try_get(0)?, row.try_get(1)?))
}

fn vanished() -> StoreError {
    StoreError::Unavailable {
        reason: "the run was removed while it was read".to_owned(),
        source: None,
    }
}

type States = HashMap<(String, Uuid), Result<RunState, StoreError>>;

/// Makes these the holders of their runs, unless they are over.
async fn take_over(conn: &mut PgConnection, items: &[&Beginning]) -> Result<(), Failure> {
    let sql = "UPDATE runs r SET holder = i.holder \
               FROM unnest($1::text[], $2::uuid[], $3::uuid[]) AS i(tenant, run, holder) \
               WHERE r.tenant = i.tenant AND r.run = i.run AND r.ended IS NULL";
    let update = query(sql)
        .bind(items.iter().map(|i| i.tenant.as_str()).collect::<Vec<_>>())
        .bind(items.iter().map(|i| i.run).collect::<Vec<_>>())
        .bind(items.iter().map(|i| i.holder).collect::<Vec<_>>());
    update.fetch_all(conn).await.map_err(Failure::sent).map(drop)
}

async fn states(conn: &mut PgConnection, items: &[&Beginning]) -> Result<States, Failure> {
    let sql = "SELECT r.tenant, r.run, r.checkpoint, r.ended \
               FROM unnest($1::text[], $2::uuid[]) AS i(tenant, run) \
               JOIN runs r ON r.tenant = i.tenant AND r.run = i.run";
    let select = query(sql)
        .bind(items.iter().map(|i| i.tenant.as_str()).collect::<Vec<_>>())
        .bind(items.iter().map(|i| i.run).collect::<Vec<_>>());
    let rows = select.fetch_all(conn).await.map_err(Failure::sent)?;
    let read = |row: &PgRow| {
        let (tenant, run) = key(row).map_err(Failure::sent)?;
        Ok(((tenant.to_owned(), run), state(row, 2)))
    };
    rows.iter().map(read).collect()
}

/// Reads `checkpoint` and `ended`, which stand at `at` and behind it.
fn state(row: &PgRow, at: usize) -> Result<RunState, StoreError> {
    let ended: Option<&str> = column(row, at + 1)?;
    if let Some(ended) = ended {
        return Ok(RunState::Finished(parse("run", ended)?));
    }
    let checkpoint: Option<&str> = column(row, at)?;
    let checkpoint = checkpoint.map(|text| parse("checkpoint", text)).transpose()?;
    Ok(RunState::Resumed { checkpoint })
}

/// Replaces checkpoints.
pub(super) struct Checkpoint;

/// A checkpoint as it is about to be stored.
pub(super) struct Saved {
    pub(super) tenant: TenantId,
    pub(super) run: RunId,
    pub(super) holder: Uuid,
    pub(super) checkpoint: String,
}

impl Kind for Checkpoint {
    type Item = Saved;
    type Answer = bool;
    type Key = (TenantId, Uuid);
    const NAME: &'static str = "save_checkpoint";

    fn key(item: &Saved) -> Self::Key {
        (item.tenant.clone(), item.run.0)
    }

    fn bytes(item: &Saved) -> usize {
        item.checkpoint.len() + ROW_BYTES
    }

    /// A run that was begun before there were holders is anybody's.
    async fn write(conn: &mut PgConnection, items: &[&Saved]) -> Result<Vec<bool>, Failure> {
        let sql = "UPDATE runs r SET checkpoint = i.checkpoint \
                   FROM unnest($1::text[], $2::uuid[], $3::text[], $4::uuid[]) \
                   AS i(tenant, run, checkpoint, holder) \
                   WHERE r.tenant = i.tenant AND r.run = i.run AND r.ended IS NULL \
                   AND coalesce(r.holder, i.holder) = i.holder RETURNING r.tenant, r.run";
        let update = query(sql)
            .bind(items.iter().map(|i| i.tenant.as_str()).collect::<Vec<_>>())
            .bind(items.iter().map(|i| i.run.0).collect::<Vec<_>>())
            .bind(items.iter().map(|i| i.checkpoint.as_str()).collect::<Vec<_>>())
            .bind(items.iter().map(|i| i.holder).collect::<Vec<_>>());
        let saved = update.fetch_all(conn).await.map_err(Failure::sent)?;
        let saved = saved.iter().map(key).collect::<Result<HashSet<_>, _>>();
        let saved = saved.map_err(Failure::sent)?;
        let is_saved = |item: &&Saved| saved.contains(&(item.tenant.as_str(), item.run.0));
        Ok(items.iter().map(is_saved).collect())
    }
}

/// Ends runs, with what is remembered of them.
pub(super) struct Finish;

/// The end of a run as it is about to be stored.
pub(super) struct Ending {
    tenant: TenantId,
    run: Uuid,
    ended: String,
    at_ms: i64,
    turns: Vec<Said>,
}

struct Said {
    flow: String,
    session: Vec<u8>,
    at_ms: i64,
    turn: String,
}

impl Ending {
    pub(super) fn of(
        tenant: &TenantId,
        run: RunId,
        end: &RunEnd,
        memory: Option<(&MemoryKey, &[Turn])>,
    ) -> Result<Self, StoreError> {
        let (key, turns) = memory.map_or((None, &[][..]), |(key, turns)| (Some(key), turns));
        let said = |turn| said(key, turn).transpose();
        Ok(Self {
            tenant: tenant.clone(),
            run: run.0,
            ended: json("run", end)?,
            at_ms: int(end.at_ms),
            turns: turns.iter().filter_map(said).collect::<Result<_, _>>()?,
        })
    }
}

fn said(key: Option<&MemoryKey>, turn: &Turn) -> Result<Option<Said>, StoreError> {
    let Some(key) = key else { return Ok(None) };
    Ok(Some(Said {
        flow: key.flow.to_string(),
        session: key_part(&key.session),
        at_ms: int(turn.at_ms),
        turn: json("turn", turn)?,
    }))
}

impl Kind for Finish {
    type Item = Ending;
    type Answer = bool;
    type Key = (TenantId, Uuid);
    const NAME: &'static str = "finish_run";

    fn key(item: &Ending) -> Self::Key {
        (item.tenant.clone(), item.run)
    }

    fn bytes(item: &Ending) -> usize {
        let turns = item.turns.iter().map(|t| t.turn.len() + ROW_BYTES).sum::<usize>();
        item.ended.len() + turns + ROW_BYTES
    }

    /// The checkpoint has done its work; keeping it would double what a run takes.
    async fn write(conn: &mut PgConnection, items: &[&Ending]) -> Result<Vec<bool>, Failure> {
        let sql = "WITH done AS (\
                   UPDATE runs r SET ended = i.ended, ended_at_ms = i.at_ms, checkpoint = NULL \
                   FROM unnest($1::text[], $2::uuid[], $3::text[], $4::int8[]) \
                   WITH ORDINALITY AS i(tenant, run, ended, at_ms, n) \
                   WHERE r.tenant = i.tenant AND r.run = i.run AND r.ended IS NULL \
                   RETURNING i.n, r.tenant), \
                   said AS (INSERT INTO turns (tenant, flow, session, at_ms, turn) \
                   SELECT done.tenant, t.flow, t.session, t.at_ms, t.turn \
                   FROM unnest($5::int8[], $6::text[], $7::bytea[], $8::int8[], $9::text[]) \
                   WITH ORDINALITY AS t(n, flow, session, at_ms, turn, place) \
                   JOIN done ON done.n = t.n ORDER BY t.place) \
                   SELECT n FROM done";
        let turns: Vec<(i64, &Said)> = (1..)
            .zip(items)
            .flat_map(|(n, item)| item.turns.iter().map(move |turn| (n, turn)))
            .collect();
        let update = query(sql)
            .bind(items.iter().map(|i| i.tenant.as_str()).collect::<Vec<_>>())
            .bind(items.iter().map(|i| i.run).collect::<Vec<_>>())
            .bind(items.iter().map(|i| i.ended.as_str()).collect::<Vec<_>>())
            .bind(items.iter().map(|i| i.at_ms).collect::<Vec<_>>())
            .bind(turns.iter().map(|(n, _)| *n).collect::<Vec<_>>())
            .bind(turns.iter().map(|(_, t)| t.flow.as_str()).collect::<Vec<_>>())
            .bind(turns.iter().map(|(_, t)| t.session.as_slice()).collect::<Vec<_>>())
            .bind(turns.iter().map(|(_, t)| t.at_ms).collect::<Vec<_>>())
            .bind(turns.iter().map(|(_, t)| t.turn.as_str()).collect::<Vec<_>>());
        let rows = update.fetch_all(conn).await.map_err(Failure::sent)?;
        let mut first = vec![false; items.len()];
        for row in &rows {
            let n: i64 = row.try_get(0).map_err(Failure::sent)?;
            let at = usize::try_from(n - 1).unwrap_or(usize::MAX);
            if let Some(first) = first.get_mut(at) {
                *first = true;
            }
        }
        Ok(first)
    }
}

pub(super) async fn get(
    db: &Db,
    tenant: &TenantId,
    run: RunId,
) -> Result<Option<(RunStart, RunState)>, StoreError> {
    let sql = "SELECT start, checkpoint, ended FROM runs WHERE tenant = $1 AND run = $2";
    let rows = db.read(|| query(sql).bind(tenant.as_str()).bind(run.0)).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some((document("run", row, 0)?, state(row, 1)?)))
}

pub(super) async fn history(db: &Db, key: &MemoryKey, limit: u32) -> Result<Vec<Turn>, StoreError> {
    let sql = "SELECT turn FROM turns WHERE tenant = $1 AND flow = $2 AND session = $3 \
               ORDER BY n DESC LIMIT $4";
    let select = || {
        let key_of = query(sql).bind(key.tenant.as_str()).bind(key.flow.as_str());
        key_of.bind(key_part(&key.session)).bind(i64::from(limit))
    };
    let rows = db.read(select).await?;
    rows.iter().rev().map(|row| document("turn", row, 0)).collect()
}
