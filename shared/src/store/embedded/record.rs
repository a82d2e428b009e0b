//! Records inside of a commit that concludes.

use rusqlite::Connection;

use crate::sqlite::DbError;
use crate::store::Record;

use super::rows::Rows;
use super::{outbox, runs};

/// Writes `record`. `false`: the run had ended before.
pub(crate) fn write(conn: &Connection, rows: &Rows, record: &Record) -> Result<bool, DbError> {
    match record {
        Record::RunEnd { tenant, run, end, memory } => {
            runs::finish(conn, rows, (tenant, *run), (end, memory.as_ref()))
        }
        Record::Sent { tenant, reply, platform_id } => {
            outbox::finish_send(conn, rows, (tenant, *reply), platform_id.as_deref())?;
            Ok(true)
        }
    }
}
