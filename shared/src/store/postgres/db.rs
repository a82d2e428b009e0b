//! Statements and their truth: what certainly did not happen, what may have, and how long
//! anyone waits to know.

use std::time::Duration;

use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPool, PgPoolOptions, PgRow, Postgres};
use sqlx::query::Query;
use sqlx::{Connection, Row};

use super::open::CONNECT_WAIT_MS;
use crate::clock::UnixMs;
use crate::queue::BoxError;
use crate::store::StoreError;

/// Connections for reads and for writes that are rare.
const POOL_CONNECTIONS: u32 = 6; // with the lanes' at most 5: nine processes stay under 100
/// Longest wait for one of them to be free, or made, in ms.
const POOL_WAIT_MS: u64 = 8_000;
/// A connection that nobody used for so long is closed, in ms.
const IDLE_CLOSE_MS: u64 = 60_000;
/// A connection that was idle for so long is tried before it is used, in ms.
pub(super) const IDLE_CHECK_MS: u64 = 1_000;
/// Longest wait for an answer, in ms: the server ends a statement before that.
pub(super) const ANSWER_WAIT_MS: u64 = 10_000;
/// Attempts of a read whose connection breaks, as all do when the server was restarted.
const READ_ATTEMPTS: usize = 2;

/// A statement with its values.
pub(super) type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// Why there is no result.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing was sent, or what was sent was taken back.
    Undone(BoxError),
    /// The server refused the statement as a whole; it is undone.
    Refused {
        /// The five characters of its code.
        code: String,
        /// The server's words.
        error: sqlx::Error,
    },
    /// It was sent, and how it ended is not known.
    Lost(BoxError),
    /// It was read and makes no sense.
    Corrupt {
        /// Which kind of record.
        what: &'static str,
        /// Why.
        error: BoxError,
    },
}

impl Failure {
    /// From an error of a statement that was sent.
    pub(super) fn sent(error: sqlx::Error) -> Self {
        let code = match &error {
            sqlx::Error::Database(said) => said.code().unwrap_or_default().into_owned(),
            sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnIndexOutOfBounds { .. } => {
                return Self::Corrupt { what: "row", error: error.into() };
            }
            sqlx::Error::Encode(_) => return Self::Undone(error.into()),
            _ => return Self::Lost(error.into()),
        };
        // The server shuts down: it may have done so right after the commit.
        if code.starts_with("57P") {
            return Self::Lost(error.into());
        }
        Self::Refused { code, error }
    }

    /// From an error after which nothing can have happened.
    pub(super) fn unsent(error: impl Into<BoxError>) -> Self {
        Self::Undone(error.into())
    }

    pub(super) fn corrupt(what: &'static str, error: impl Into<BoxError>) -> Self {
        Self::Corrupt { what, error: error.into() }
    }

    /// True when the connection must not be used again.
    pub(super) fn breaks(&self) -> bool {
        match self {
            Self::Lost(_) => true,
            // A standby: the next connection may find the primary.
            Self::Refused { code, .. } => code == "25006",
            Self::Undone(_) | Self::Corrupt { .. } => false,
        }
    }

    /// What the caller of a write may know.
    pub(super) fn of_write(self) -> StoreError {
        match self {
            Self::Lost(error) => StoreError::Unconfirmed {
                reason: format!("PostgreSQL did not confirm the write: {error}"),
            },
            other => other.of_read(),
        }
    }

    /// What the caller of a read may know: there is no effect to be in doubt about.
    pub(super) fn of_read(self) -> StoreError {
        match self {
            Self::Undone(error) | Self::Lost(error) => StoreError::Unavailable {
                reason: "PostgreSQL does not answer".to_owned(),
                source: Some(error),
            },
            Self::Refused { code, error } => StoreError::Unavailable {
                reason: format!("PostgreSQL refused it ({code})"),
                source: Some(error.into()),
            },
            Self::Corrupt { what, error } => StoreError::Corrupt { what, source: error },
        }
    }
}

/// Waits for `work` as long as anyone waits for an answer.
pub(super) async fn answered<T>(
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(Duration::from_millis(ANSWER_WAIT_MS), work).await {
        Ok(done) => done.map_err(Failure::sent),
        Err(_) => Err(Failure::Lost(format!("no answer in {ANSWER_WAIT_MS} ms").into())),
    }
}

/// Connections for everything that is not written in groups.
pub(super) struct Db {
    pool: PgPool,
}

impl Db {
    /// Connects when it is first used.
    pub(super) fn new(options: PgConnectOptions) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(POOL_CONNECTIONS)
            .acquire_timeout(Duration::from_millis(POOL_WAIT_MS))
            .idle_timeout(Duration::from_millis(IDLE_CLOSE_MS))
            .test_before_acquire(false)
            .before_acquire(|conn, meta| {
                Box::pin(async move {
                    if meta.idle_for < Duration::from_millis(IDLE_CHECK_MS) {
                        return Ok(true);
                    }
                    Ok(conn.ping().await.is_ok())
                })
            })
            .connect_lazy_with(options);
        Self { pool }
    }

    async fn lease(&self) -> Result<PoolConnection<Postgres>, Failure> {
        self.pool.acquire().await.map_err(Failure::unsent)
    }

    /// Reads; again on another connection when one breaks.
    pub(super) async fn read<'q>(
        &self,
        build: impl Fn() -> Statement<'q>,
    ) -> Result<Vec<PgRow>, StoreError> {
        let mut attempt = 1;
        loop {
            match self.once(build()).await {
                Ok(rows) => return Ok(rows),
                Err(failure) if attempt == READ_ATTEMPTS || !failure.breaks() => {
                    return Err(failure.of_read());
                }
                Err(_) => attempt += 1,
            }
        }
    }

    /// Writes with one statement, which is a transaction of its own.
    pub(super) async fn write(&self, statement: Statement<'_>) -> Result<Vec<PgRow>, StoreError> {
        self.once(statement).await.map_err(Failure::of_write)
    }

    /// To the server's last word: it commits after the rows, so a caller that stopped at
    /// the first row would not know.
    async fn once(&self, statement: Statement<'_>) -> Result<Vec<PgRow>, Failure> {
        let mut conn = self.lease().await?;
        let done = answered(statement.fetch_all(&mut *conn)).await;
        if done.as_ref().is_err_and(Failure::breaks) {
            discard(conn);
        }
        done
    }

    /// Opens a transaction of several statements.
    pub(super) async fn begin(&self) -> Result<Open, StoreError> {
        let conn = self.lease().await.map_err(Failure::of_write)?;
        let mut open = Open { conn: Some(conn) };
        open.rows(sqlx::query("BEGIN")).await?;
        Ok(open)
    }

    /// Lets go of every connection.
    pub(super) async fn close(&self) {
        let wait = Duration::from_millis(CONNECT_WAIT_MS);
        if tokio::time::timeout(wait, self.pool.close()).await.is_err() {
            tracing::debug!("connections to PostgreSQL did not close in time");
        }
    }
}

/// An open transaction. Dropped without a commit it closes its connection, which takes it
/// back.
pub(super) struct Open {
    /// `None` once it is given back.
    conn: Option<PoolConnection<Postgres>>,
}

impl Open {
    /// Runs a statement; an error of any kind undoes the whole transaction.
    pub(super) async fn rows(
        &mut self,
        statement: Statement<'_>,
    ) -> Result<Vec<PgRow>, StoreError> {
        let done = self.answer(statement).await;
        done.map_err(|failure| match failure {
            Failure::Lost(error) => Failure::Undone(error).of_write(),
            other => other.of_write(),
        })
    }

    /// Makes it last.
    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        self.answer(sqlx::query("COMMIT")).await.map_err(Failure::of_write)?;
        drop(self.conn.take());
        Ok(())
    }

    async fn answer(&mut self, statement: Statement<'_>) -> Result<Vec<PgRow>, Failure> {
        let Some(conn) = self.conn.as_mut() else {
            return Err(Failure::unsent("the transaction is over"));
        };
        answered(statement.fetch_all(&mut **conn)).await
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            discard(conn);
        }
    }
}

/// The connection is not given back: an answer may still be on its way to it.
fn discard(conn: PoolConnection<Postgres>) {
    drop(conn.detach());
}

/// Reads a column.
pub(super) fn column<'r, T>(row: &'r PgRow, at: usize) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>,
{
    row.try_get(at).map_err(|error| Failure::corrupt("row", error).of_read())
}

/// Reads a JSON column.
pub(super) fn document<T: DeserializeOwned>(
    what: &'static str,
    row: &PgRow,
    at: usize,
) -> Result<T, StoreError> {
    parse(what, column(row, at)?)
}

/// Reads a JSON text.
pub(super) fn parse<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| Failure::corrupt(what, error).of_read())
}

/// Writes a JSON column.
pub(super) fn json<T: serde::Serialize>(
    what: &'static str,
    value: &T,
) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| Failure::corrupt(what, error).of_write())
}

/// Reads what was written by people or platforms.
pub(super) fn text(row: &PgRow, at: usize) -> Result<Option<String>, StoreError> {
    let bytes: Option<Vec<u8>> = column(row, at)?;
    let text = bytes.map(String::from_utf8).transpose();
    text.map_err(|error| Failure::corrupt("text", error).of_read())
}

/// Longest part of a key that is kept as it is, in bytes; an index takes 2,700 in all.
const MAX_KEY_BYTES: usize = 400;

/// A part of a key that people or platforms chose. A longer one stands as its SHA-256,
/// which no shorter one is.
pub(super) fn key_part(text: &str) -> Vec<u8> {
    if text.len() <= MAX_KEY_BYTES {
        return text.as_bytes().to_vec();
    }
    let mut part = b"sha256:".to_vec();
    part.extend_from_slice(&Sha256::digest(text.as_bytes()));
    part
}

/// A time or count as the database holds it.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Back from [`int`].
pub(super) fn ms(value: i64) -> UnixMs {
    u64::try_from(value).unwrap_or_default()
}
