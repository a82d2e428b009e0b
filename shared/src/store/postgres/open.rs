//! Opening: connects, checks what the server promises, and says what is wrong in words
//! that never hold the password.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Row};

use super::migrate;
use crate::secret::Secret;

/// Longest wait for a connection, its TLS and its login, in ms.
pub(super) const CONNECT_WAIT_MS: u64 = 5_000;
/// The server ends a statement after this long and undoes it.
const STATEMENT_TIMEOUT_MS: u64 = 8_000;
/// The server ends a statement that waits this long for somebody's lock, and undoes it.
const LOCK_TIMEOUT_MS: u64 = 2_000;
/// The server ends a transaction whose owner is silent for this long, as after a cut.
const IDLE_IN_TRANSACTION_MS: u64 = 10_000;
/// The oldest server that is kept in repair by its makers when this was written is 14.
const MIN_VERSION: i32 = 140_000;
/// Longest cluster name, in bytes.
const MAX_NAME_BYTES: usize = 32;

/// Where the records are.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// `postgres://user:password@host:port/database`, with `sslmode` and the other
    /// parameters of libpq that are about TLS.
    pub url: Secret,
    /// The cluster's name: names the schema. `[a-z0-9-]{1,32}`.
    pub name: String,
}

/// Why the store did not open. Never shows the password.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The server is not there, or does not take connections yet: try again.
    #[error("PostgreSQL at {at} is unreachable: {reason}")]
    Unreachable {
        /// Host and port.
        at: String,
        /// What was wrong.
        reason: String,
    },
    /// Trying again does not help: a person must mend it first.
    #[error("PostgreSQL at {at} cannot be used: {reason}; {way_out}")]
    Refused {
        /// Host and port.
        at: String,
        /// What was wrong.
        reason: String,
        /// What to do.
        way_out: String,
    },
}

/// Names the server and the schema in errors.
pub(super) struct At {
    server: String,
    user: String,
    pub(super) name: String,
}

/// What a person has to mend, beside what the server itself names.
pub(super) enum Denied {
    Url(&'static str),
    Name,
    Foreign,
    Newer { found: i64, known: usize },
    TooOld(String),
    Encoding(String),
}

impl At {
    pub(super) fn denied(&self, what: Denied) -> OpenError {
        let name = &self.name;
        let (reason, way_out) = match what {
            Denied::Url(reason) => (
                format!("the URL cannot be read: {reason}"),
                "write postgres://user:password@host:port/database, with `%40` for `@`, `%2F` \
                 for `/` and so on inside the password"
                    .to_owned(),
            ),
            Denied::Name => (
                format!("`{name}` is not a cluster name"),
                "use 1 to 32 of a-z, 0-9 and `-`".to_owned(),
            ),
            Denied::Foreign => (
                format!("the schema `{name}` holds tables of something else"),
                "give the cluster another name or database".to_owned(),
            ),
            Denied::Newer { found, known } => (
                format!(
                    "the schema `{name}` is of version {found}, newer than this program's {known}"
                ),
                "install the release that wrote it, or restore a backup from before the upgrade"
                    .to_owned(),
            ),
            Denied::TooOld(found) => (
                format!("it is version {found}"),
                format!("use PostgreSQL {} or newer", MIN_VERSION / 10_000),
            ),
            Denied::Encoding(found) => (
                format!("the database's encoding is {found}"),
                "create one with ENCODING 'UTF8' TEMPLATE template0".to_owned(),
            ),
        };
        OpenError::Refused { at: self.server.clone(), reason, way_out }
    }

    /// Tells a server that is away from one that says no.
    pub(super) fn failed(&self, doing: &str, error: sqlx::Error) -> OpenError {
        let at = self.server.clone();
        let refused = |reason: String, way_out: String| OpenError::Refused {
            at: at.clone(),
            reason,
            way_out,
        };
        match &error {
            sqlx::Error::Database(said) => {
                let reason = format!("{doing}: {}", said.message());
                let code = said.code().unwrap_or_default();
                match code.as_ref() {
                    "28P01" | "28000" => {
                        refused(reason, "check user, password and pg_hba.conf".to_owned())
                    }
                    "3D000" => refused(reason, "create the database".to_owned()),
                    "42501" => refused(
                        reason,
                        format!(
                            "have its owner run: CREATE SCHEMA \"{}\" AUTHORIZATION \"{}\"",
                            self.name, self.user
                        ),
                    ),
                    // Starting, stopping, full, or a standby: that passes.
                    code if code.starts_with("57")
                        || code.starts_with("53")
                        || code.starts_with("08")
                        || code.starts_with("40")
                        || ["25006", "55P03"].contains(&code) =>
                    {
                        OpenError::Unreachable { at, reason }
                    }
                    _ => refused(reason, "see the server's log".to_owned()),
                }
            }
            sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => {
                let reason = format!("{doing}: {error}");
                refused(
                    reason,
                    "check sslmode, sslrootcert, sslcert and sslkey in the URL".to_owned(),
                )
            }
            _ => OpenError::Unreachable { at, reason: format!("{doing}: {error}") },
        }
    }

    fn silent(&self, doing: &str) -> OpenError {
        let reason = format!("{doing}: no answer in {CONNECT_WAIT_MS} ms");
        OpenError::Unreachable { at: self.server.clone(), reason }
    }
}

/// Reads the URL. Every session gets the settings that the promises rest on.
pub(super) fn parse(options: &PostgresOptions) -> Result<(PgConnectOptions, At), OpenError> {
    let url = options.url.expose();
    // Nothing of a URL that cannot be read is shown: its password may be anywhere in it.
    let mut at =
        At { server: "the given URL".to_owned(), user: String::new(), name: options.name.clone() };
    if !is_cluster_name(&options.name) {
        return Err(at.denied(Denied::Name));
    }
    let bad = |at: &At, reason| at.denied(Denied::Url(reason));
    let Some(rest) = ["postgres://", "postgresql://"].iter().find_map(|s| url.strip_prefix(s))
    else {
        return Err(bad(&at, "it does not begin with postgres://"));
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if rest[authority.len()..].contains('@') {
        return Err(bad(&at, "there is an `@` after the host, as if the password held a `/`"));
    }
    // The cause may quote a part of the URL.
    let parsed = PgConnectOptions::from_str(url)
        .map_err(|_| bad(&at, "its port, one of its parameters or an escape is not valid"))?;
    at.server = format!("{}:{}", parsed.get_host(), parsed.get_port());
    at.user = parsed.get_username().to_owned();
    Ok((session(parsed, &options.name), at))
}

fn is_cluster_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(plain)
}

fn session(options: PgConnectOptions, name: &str) -> PgConnectOptions {
    options.application_name(&format!("aof-{name}")).disable_statement_logging().options([
        ("search_path", format!("\"{name}\"")),
        ("statement_timeout", STATEMENT_TIMEOUT_MS.to_string()),
        ("lock_timeout", LOCK_TIMEOUT_MS.to_string()),
        ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_MS.to_string()),
        // Durable when it is answered, whatever the database's own default is.
        ("synchronous_commit", "on".to_owned()),
        // Every compare-and-set looks again after it waited for somebody's lock.
        ("default_transaction_isolation", "read committed".to_owned()),
        ("jit", "off".to_owned()),
    ])
}

/// Connects once and checks the server; what it finds that puts records at risk is returned
/// in plain words, each with what to do.
pub(super) async fn check(options: &PgConnectOptions, at: &At) -> Result<Vec<String>, OpenError> {
    let mut conn = within(at, "connecting", options.connect()).await?;
    let findings = within(at, "reading settings", settings(&mut conn)).await?;
    let findings = findings.read(at)?;
    migrate::run(&mut conn, at).await?;
    // What was opened for this is closed before the first write; a failure changes nothing.
    let _ = tokio::time::timeout(Duration::from_millis(CONNECT_WAIT_MS), conn.close()).await;
    Ok(findings)
}

async fn within<T>(
    at: &At,
    doing: &str,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, OpenError> {
    match tokio::time::timeout(Duration::from_millis(CONNECT_WAIT_MS), work).await {
        Ok(done) => done.map_err(|error| at.failed(doing, error)),
        Err(_) => Err(at.silent(doing)),
    }
}

struct Settings {
    version: i32,
    shown_version: String,
    encoding: String,
    standby: bool,
    synchronous_commit: String,
    fsync: String,
    full_page_writes: String,
}

async fn settings(conn: &mut PgConnection) -> Result<Settings, sqlx::Error> {
    let sql = "SELECT current_setting('server_version_num')::int4, \
               current_setting('server_version'), current_setting('server_encoding'), \
               pg_is_in_recovery(), current_setting('synchronous_commit'), \
               current_setting('fsync'), current_setting('full_page_writes')";
    let row = sqlx::query(sql).fetch_one(conn).await?;
    Ok(Settings {
        version: row.try_get(0)?,
        shown_version: row.try_get(1)?,
        encoding: row.try_get(2)?,
        standby: row.try_get(3)?,
        synchronous_commit: row.try_get(4)?,
        fsync: row.try_get(5)?,
        full_page_writes: row.try_get(6)?,
    })
}

impl Settings {
    fn read(self, at: &At) -> Result<Vec<String>, OpenError> {
        if self.version < MIN_VERSION {
            return Err(at.denied(Denied::TooOld(self.shown_version)));
        }
        if self.encoding != "UTF8" {
            return Err(at.denied(Denied::Encoding(self.encoding)));
        }
        if self.standby {
            let reason = "it is a standby, which takes no writes".to_owned();
            return Err(OpenError::Unreachable { at: at.server.clone(), reason });
        }
        let mut findings = Vec::new();
        let mut note = |text: &str| findings.push(format!("PostgreSQL at {}: {text}", at.server));
        if self.fsync != "on" {
            note(
                "`fsync` is off: a crash of its machine loses or destroys records that were \
                 confirmed; set `fsync = on` and restart it",
            );
        }
        if self.full_page_writes != "on" {
            note(
                "`full_page_writes` is off: a crash of its machine can leave torn pages; set \
                 `full_page_writes = on` unless its file system writes pages whole",
            );
        }
        // Every session asks for `on`; a pooler between may drop what sessions ask for.
        if !["on", "remote_apply"].contains(&self.synchronous_commit.as_str()) {
            note(
                "`synchronous_commit` stays off although each session turns it on: confirmed \
                 records can be lost in a crash; connect without the pooler between, or set \
                 it to `on` in postgresql.conf",
            );
        }
        Ok(findings)
    }
}
