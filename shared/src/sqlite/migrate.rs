//! Forward-only schema versions, counted in `user_version`.

use std::path::Path;

use rusqlite::Connection;

use super::OpenError;

/// Version n is what the first n of these make.
const MIGRATIONS: [&str; 3] = [
    include_str!("../../migrations/001_initial.sql"),
    include_str!("../../migrations/002_appended_records.sql"),
    include_str!("../../migrations/003_notes.sql"),
];

/// Brings the schema up to date, each version in a transaction of its own.
pub(super) fn run(conn: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let database = |source| OpenError::Database { path: path.to_owned(), source };
    let known = MIGRATIONS.len();
    let found: i64 =
        conn.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(database)?;
    let done = usize::try_from(found).unwrap_or(usize::MAX);
    if done > known {
        let known = i64::try_from(known).unwrap_or(i64::MAX);
        return Err(OpenError::Newer { path: path.to_owned(), found, known });
    }
    for (at, sql) in MIGRATIONS.iter().enumerate().skip(done) {
        let tx = conn.transaction().map_err(database)?;
        tx.execute_batch(sql).map_err(database)?;
        tx.pragma_update(None, "user_version", i64::try_from(at + 1).unwrap_or(i64::MAX))
            .map_err(database)?;
        tx.commit().map_err(database)?;
    }
    Ok(())
}
