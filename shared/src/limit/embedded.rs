//! Limits in process: windows and places in memory, day budgets in the database.
//!
//! A restart frees all places and forgets what windows admitted: nothing that ran before
//! it still runs.

mod places;
mod windows;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use crate::clock::{Clock, UnixMs};
use crate::limit::{Admission, Demand, LimitError, Limits};
use crate::sqlite::{Db, DbError};

use places::HeldPlaces;
use windows::Windows;

/// Charges of earlier days deleted beside each new one.
const OLD_CHARGES_A_CHARGE: i64 = 2;

#[derive(Default)]
struct State {
    windows: Windows,
    places: HeldPlaces,
}

impl State {
    fn admit(&mut self, demand: &Demand, now_ms: UnixMs) -> Admission {
        let expires_ms = now_ms.saturating_add(demand.ttl_ms);
        if self.places.granted(demand, now_ms) {
            self.places.renew(demand, now_ms, expires_ms);
            return Admission::Granted;
        }
        let windows = demand
            .windows
            .iter()
            .filter_map(|window| Some((&window.scope, self.windows.refuses(window, now_ms)?)));
        let refused = windows.max_by_key(|(_, wait_ms)| *wait_ms);
        let refused = refused
            .map(|(scope, wait_ms)| (scope.clone(), wait_ms))
            .or_else(|| self.places.refuses(demand, now_ms));
        if let Some((scope, wait_ms)) = refused {
            return Admission::Deferred { scope, retry_after_ms: wait_ms.max(1) };
        }
        for window in &demand.windows {
            self.windows.take(window, now_ms);
        }
        self.places.take(demand, now_ms, expires_ms);
        Admission::Granted
    }
}

/// The adapter.
pub(crate) struct EmbeddedLimits {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    db: Db,
}

impl EmbeddedLimits {
    pub(crate) fn new(db: Db, clock: Arc<dyn Clock>) -> Self {
        Self { state: Mutex::default(), clock, db }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn limit_error(error: DbError) -> LimitError {
    LimitError { reason: error.to_string(), source: Some(Box::new(error)) }
}

fn total(conn: &Connection, scope: &str, day: u32) -> Result<u64, DbError> {
    let sql = "SELECT total FROM spent WHERE day = ? AND scope = ?";
    let total: Option<i64> =
        conn.prepare_cached(sql)?.query_row(params![day, scope], |row| row.get(0)).optional()?;
    Ok(u64::try_from(total.unwrap_or_default()).unwrap_or_default())
}

fn charge(
    conn: &Connection,
    (scope, day): (&str, u32),
    amount: u64,
    charge_id: &str,
) -> Result<u64, DbError> {
    let new = conn
        .prepare_cached("INSERT OR IGNORE INTO charges VALUES (?, ?, ?)")?
        .execute(params![day, scope, charge_id])?;
    if new > 0 {
        let amount = i64::try_from(amount).unwrap_or(i64::MAX);
        let sql = "INSERT INTO spent VALUES (?1, ?2, ?3) ON CONFLICT (day, scope) \
                   DO UPDATE SET total = min(total, 9223372036854775807 - ?3) + ?3";
        conn.prepare_cached(sql)?.execute(params![day, scope, amount])?;
        let old = "DELETE FROM charges WHERE (day, scope, charge_id) IN \
                   (SELECT day, scope, charge_id FROM charges WHERE day < ? LIMIT ?)";
        let yesterday = day.saturating_sub(1);
        conn.prepare_cached(old)?.execute(params![yesterday, OLD_CHARGES_A_CHARGE])?;
    }
    total(conn, scope, day)
}

#[async_trait]
impl Limits for EmbeddedLimits {
    async fn admit(&self, demand: &Demand) -> Result<Admission, LimitError> {
        let now_ms = self.clock.now_ms();
        Ok(self.state().admit(demand, now_ms))
    }

    async fn renew(&self, demand: &Demand) -> Result<bool, LimitError> {
        let now_ms = self.clock.now_ms();
        Ok(self.state().places.renew(demand, now_ms, now_ms.saturating_add(demand.ttl_ms)))
    }

    async fn release(&self, demand: &Demand) -> Result<(), LimitError> {
        self.state().places.release(demand);
        Ok(())
    }

    async fn charge(
        &self,
        scope: &str,
        day: u32,
        amount: u64,
        charge_id: &str,
    ) -> Result<u64, LimitError> {
        let (scope, charge_id) = (scope.to_owned(), charge_id.to_owned());
        let write = self.db.write(move |conn| charge(conn, (&scope, day), amount, &charge_id));
        write.await.map_err(limit_error)
    }

    async fn spent(&self, scope: &str, day: u32) -> Result<u64, LimitError> {
        let scope = scope.to_owned();
        self.db.read(move |conn| total(conn, &scope, day)).await.map_err(limit_error)
    }
}
