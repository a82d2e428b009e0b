//! Where the row of a record is. Rows are appended, and found by tenant and id through an
//! index that is written in pieces: a B-tree of random ids would write a page for each.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::clock::UnixMs;
use crate::ids::TenantId;
use crate::sqlite::ids::{self, Ids, Key};
use crate::sqlite::{BatchHook, DbError, signed, unsigned};

/// Fewest ids in a piece of the index; memory holds about twice as many, 60 bytes each.
const MIN_SEAL_IDS: usize = 32_768;
/// Where the index is.
const LOCATED: ids::Sql = ids::sql!("located", "located_segments", "located_ids");

/// What kind of record. Stored: numbers MUST NOT change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `runs`.
    Run = 0,
    /// `sends`.
    Send = 1,
}

/// The kinds, in the order of their numbers.
const KINDS: [Kind; 2] = [Kind::Run, Kind::Send];

impl Kind {
    /// Every row, in order: number, tenant, id.
    fn all(self) -> &'static str {
        match self {
            Self::Run => "SELECT n, tenant, run FROM runs ORDER BY n",
            Self::Send => "SELECT n, tenant, reply FROM sends ORDER BY n",
        }
    }

    fn last(self) -> &'static str {
        match self {
            Self::Run => "SELECT coalesce(max(n), 0) FROM runs",
            Self::Send => "SELECT coalesce(max(n), 0) FROM sends",
        }
    }
}

/// Tenant and id in one: the same id in two tenants is two keys.
fn key(kind: Kind, tenant: &TenantId, id: Uuid) -> Key {
    let digest = Sha256::new().chain_update(tenant.as_str()).chain_update(id).finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    (kind as u8, Uuid::from_bytes(bytes))
}

struct State {
    ids: Ids,
    last: [u64; KINDS.len()],
    /// The same at the last commit.
    before: [u64; KINDS.len()],
    /// Keys that the batch added, 16 bytes each, for the log.
    added: [Vec<u8>; KINDS.len()],
    at_ms: UnixMs,
}

impl State {
    fn add(&mut self, key: Key, at_ms: UnixMs) -> u64 {
        let at = usize::from(key.0);
        self.last[at] += 1;
        self.added[at].extend_from_slice(key.1.as_bytes());
        self.at_ms = self.at_ms.max(at_ms);
        self.ids.insert(key, self.last[at], at_ms);
        self.last[at]
    }

    /// Indexes every row of a database that had no index.
    fn index_all(&mut self, conn: &Connection, kind: Kind) -> Result<(), DbError> {
        let mut statement = conn.prepare(kind.all())?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let corrupt = |_| DbError::Corrupt { what: "record", reason: "tenant".to_owned() };
            let tenant = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
            let tenant = TenantId::new(tenant).map_err(corrupt)?;
            let id = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
            let id = Uuid::from_slice(id)
                .map_err(|_| DbError::Corrupt { what: "record", reason: "id".to_owned() })?;
            let n = unsigned(row.get(0)?);
            while self.last[kind as usize] + 1 < n {
                // A row that is gone keeps its number.
                self.add((kind as u8, Uuid::nil()), 0);
            }
            self.add(key(kind, &tenant, id), 0);
        }
        Ok(())
    }

    fn write(&mut self, conn: &Connection) -> Result<(), DbError> {
        for kind in KINDS {
            let at = kind as usize;
            if !self.added[at].is_empty() {
                let first = (self.before[at] + 1, self.at_ms);
                self.ids.log(conn, kind as u8, first, &self.added[at])?;
            }
        }
        self.ids.write(conn)
    }

    fn ended(&mut self, committed: bool) {
        if committed {
            self.before = self.last;
        } else {
            self.last = self.before;
        }
        self.added.iter_mut().for_each(Vec::clear);
        self.ids.ended(committed);
    }
}

/// The rows' places. Only the writer adds to them.
#[derive(Clone)]
pub(crate) struct Rows(Arc<Mutex<State>>);

impl Rows {
    /// Reads the index; makes it for a database of a version that had none.
    pub(crate) fn load(conn: &Connection) -> Result<Self, DbError> {
        let ids = Ids::load(conn, &LOCATED, MIN_SEAL_IDS)?;
        let unindexed = ids.is_empty();
        let zero = [0; KINDS.len()];
        let mut state =
            State { ids, last: zero, before: zero, added: Default::default(), at_ms: 0 };
        for kind in KINDS {
            if unindexed {
                state.index_all(conn, kind)?;
            } else {
                state.last[kind as usize] =
                    unsigned(conn.query_row(kind.last(), [], |row| row.get(0))?);
            }
        }
        if unindexed {
            let tx = conn.unchecked_transaction()?;
            state.write(&tx)?;
            tx.commit()?;
            state.ended(true);
        }
        state.before = state.last;
        Ok(Self(Arc::new(Mutex::new(state))))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number under which the row may be. It may be gone, so that the number is
    /// another's: the caller MUST look for tenant and id as well.
    pub(super) fn find(
        &self,
        conn: &Connection,
        kind: Kind,
        (tenant, id): (&TenantId, Uuid),
    ) -> Result<Option<i64>, DbError> {
        Ok(self.lock().ids.get(conn, key(kind, tenant, id))?.map(signed))
    }

    /// The number of a new row, for this batch to insert.
    pub(super) fn add(&self, kind: Kind, (tenant, id): (&TenantId, Uuid), at_ms: UnixMs) -> i64 {
        signed(self.lock().add(key(kind, tenant, id), at_ms))
    }
}

impl BatchHook for Rows {
    fn before_commit(&mut self, conn: &Connection) -> Result<(), DbError> {
        self.lock().write(conn)
    }

    fn ended(&mut self, committed: bool) {
        self.lock().ended(committed);
    }

    fn answered(&mut self) {}
}

#[cfg(test)]
mod tests;
