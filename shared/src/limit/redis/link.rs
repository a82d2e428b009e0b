//! One multiplexed connection that is made when it is needed and again when it broke.
//!
//! The client's own `ConnectionManager` keeps a connection that answers nothing, and gives up
//! for good on a login that failed once; so this is ours.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, IntoConnectionInfo, RedisError, RedisResult,
    ServerErrorKind, Value,
};

use crate::limit::LimitError;

/// Longest wait for one answer, connecting included. A decision takes under a millisecond;
/// Redis is away, or a disk is stuck, when it takes this long.
const ANSWER_MS: u64 = 1_000;
/// Longest wait for a new connection; shorter than the above, so that callers hear why.
const CONNECT_MS: u64 = 800;

/// A connection that is being made or was made; everybody waits for the same one.
type Connecting = Shared<BoxFuture<'static, RedisResult<MultiplexedConnection>>>;

/// The way to the server. Holds no password that `Debug` or an error could show.
pub(super) struct Link {
    client: Client,
    address: String,
    current: Mutex<Connecting>,
}

impl Link {
    /// Prepares the way to `url`; nothing is sent yet.
    pub(super) fn new(url: &str) -> RedisResult<Self> {
        // `rediss://` asks rustls for the process's provider, which two libraries of ours bring
        // one of each; whoever installed one before keeps it.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let info = url.into_connection_info()?;
        // Without it, the second of two short requests waits for the first one's answer.
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let address = info.addr().to_string();
        let client = Client::open(info)?;
        let current = Mutex::new(connect(&client));
        Ok(Self { client, address, current })
    }

    /// `host:port`, for people.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Sends one command and waits for its answer, at most `ANSWER_MS`.
    pub(super) async fn call(&self, command: &Cmd) -> RedisResult<Value> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let answer = async {
            let mut connection = current.clone().await?;
            connection.send_packed_command(command).await
        };
        let answer = tokio::time::timeout(Duration::from_millis(ANSWER_MS), answer).await;
        let answer = answer.unwrap_or_else(|_| Err(silent()));
        // An answer may be an error too.
        let answer = answer.and_then(Value::extract_error);
        if answer.as_ref().is_err_and(|error| !is_answer(error)) {
            self.replace(&current);
        }
        answer
    }

    /// Makes another connection, unless somebody has replaced `broken` already.
    fn replace(&self, broken: &Connecting) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.ptr_eq(broken) {
            *current = connect(&self.client);
        }
    }

    /// `error` as the port's callers see it.
    pub(super) fn error(&self, error: RedisError) -> LimitError {
        let reason = format!("redis at {} gave no decision", self.address);
        LimitError { reason, source: Some(Box::new(error)) }
    }
}

fn connect(client: &Client) -> Connecting {
    let client = client.clone();
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_millis(CONNECT_MS)))
        .set_response_timeout(None);
    async move { client.get_multiplexed_async_connection_with_config(&config).await }
        .boxed()
        .shared()
}

fn silent() -> RedisError {
    let text = format!("no answer in {ANSWER_MS} ms");
    std::io::Error::new(std::io::ErrorKind::TimedOut, text).into()
}

/// True if this server is the one to ask again: it answered, and takes writes.
fn is_answer(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => false,
        kind => matches!(kind, ErrorKind::Server(_)),
    }
}
