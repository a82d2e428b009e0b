//! Forward-only schema versions, one schema a cluster; several nodes may start at once.

use sqlx::{Connection, PgConnection, Row};

use super::open::{At, Denied, OpenError};

/// Version n is what the first n of these make.
const MIGRATIONS: [&str; 3] = [
    include_str!("../../../migrations/postgres/001_initial.sql"),
    include_str!("../../../migrations/postgres/002_holders.sql"),
    include_str!("../../../migrations/postgres/003_notes.sql"),
];
/// How long one node waits for another that migrates. An index on millions of rows takes
/// seconds, not minutes.
const MIGRATION_WAIT_SECS: u32 = 120;

/// Brings the schema `name` up to date, in one transaction.
pub(super) async fn run(conn: &mut PgConnection, at: &At) -> Result<(), OpenError> {
    if version(conn, at).await? == Found::Version(MIGRATIONS.len()) {
        return Ok(()); // needs no right to create anything
    }
    let failed = |error| at.failed("migrating", error);
    let mut tx = conn.begin().await.map_err(failed)?;
    let wait = sqlx::AssertSqlSafe(format!(
        "SET LOCAL lock_timeout = '{MIGRATION_WAIT_SECS}s'; \
         SET LOCAL statement_timeout = '{MIGRATION_WAIT_SECS}s'"
    ));
    sqlx::raw_sql(wait).execute(&mut *tx).await.map_err(failed)?;
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('aof:' || $1, 0))")
        .bind(&at.name)
        .fetch_all(&mut *tx)
        .await
        .map_err(failed)?;
    // Another node may have done it meanwhile.
    let done = match version(&mut tx, at).await? {
        Found::Nothing => {
            create(&mut tx, at).await?;
            0
        }
        Found::Version(done) => done,
    };
    for sql in MIGRATIONS.iter().skip(done) {
        sqlx::raw_sql(*sql).execute(&mut *tx).await.map_err(failed)?;
    }
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    sqlx::query("UPDATE schema_version SET version = $1")
        .bind(known)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    tx.commit().await.map_err(failed)
}

#[derive(PartialEq)]
enum Found {
    /// No schema, or an empty one that a person prepared.
    Nothing,
    Version(usize),
}

async fn version(conn: &mut PgConnection, at: &At) -> Result<Found, OpenError> {
    let failed = |error| at.failed("reading the schema's version", error);
    let sql = "SELECT count(*) FILTER (WHERE c.relkind IN ('r', 'v', 'm', 'p')), \
               count(*) FILTER (WHERE c.relname = 'schema_version') \
               FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace \
               WHERE s.nspname = $1";
    let row = sqlx::query(sql).bind(&at.name).fetch_one(&mut *conn).await.map_err(failed)?;
    let (tables, ours): (i64, i64) =
        (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
    if ours == 0 {
        return if tables == 0 { Ok(Found::Nothing) } else { Err(at.denied(Denied::Foreign)) };
    }
    let sql = "SELECT version FROM schema_version";
    let row = sqlx::query(sql).fetch_one(conn).await.map_err(failed)?;
    let found: i64 = row.try_get(0).map_err(failed)?;
    let done = usize::try_from(found).unwrap_or(usize::MAX);
    if done > MIGRATIONS.len() {
        let known = MIGRATIONS.len();
        return Err(at.denied(Denied::Newer { found, known }));
    }
    Ok(Found::Version(done))
}

async fn create(conn: &mut PgConnection, at: &At) -> Result<(), OpenError> {
    let failed = |error| at.failed("creating the schema", error);
    // A user who may not create schemas can be given one.
    let sql = "SELECT 1 FROM pg_namespace WHERE nspname = $1";
    let there = sqlx::query(sql).bind(&at.name).fetch_optional(&mut *conn).await.map_err(failed)?;
    if there.is_none() {
        // The name holds a-z, 0-9 and `-` only; see `is_cluster_name`.
        let sql = sqlx::AssertSqlSafe(format!("CREATE SCHEMA \"{}\"", at.name));
        sqlx::raw_sql(sql).execute(&mut *conn).await.map_err(failed)?;
    }
    let sql = "CREATE TABLE schema_version (version bigint NOT NULL); \
               INSERT INTO schema_version VALUES (0)";
    sqlx::raw_sql(sql).execute(conn).await.map(drop).map_err(failed)
}
