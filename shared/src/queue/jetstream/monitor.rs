//! Asks the server's monitoring endpoint whether it syncs before it answers.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::queue::BoxError;

/// Longest wait for the answer.
const WAIT_MS: u64 = 3_000;
/// Longest answer that is read, in bytes; the real one has about 2 KB.
const MAX_ANSWER_BYTES: u64 = 1 << 20;

#[derive(serde::Deserialize)]
struct JetStreamInfo {
    config: JetStreamConfig,
}

#[derive(serde::Deserialize)]
struct JetStreamConfig {
    /// Absent when false.
    #[serde(default)]
    sync_always: bool,
}

/// True when the server at `url` syncs every message to its disk before it answers.
pub(super) async fn sync_always(url: &str) -> Result<bool, BoxError> {
    let wait = Duration::from_millis(WAIT_MS);
    let answer = tokio::time::timeout(wait, get(url))
        .await
        .map_err(|_| format!("its monitoring endpoint gave no answer in {WAIT_MS} ms"))??;
    let info: JetStreamInfo = serde_json::from_slice(&answer)
        .map_err(|_| "its monitoring endpoint does not tell of JetStream; is it NATS?")?;
    Ok(info.config.sync_always)
}

/// The endpoint speaks plain HTTP, and HTTP/1.0 ends the body with the connection.
async fn get(url: &str) -> Result<Vec<u8>, BoxError> {
    let host = url
        .trim_end_matches('/')
        .strip_prefix("http://")
        .filter(|host| !host.contains(['/', '@']))
        .ok_or("its monitoring URL must be `http://host:port`")?;
    let mut connection = TcpStream::connect(host)
        .await
        .map_err(|error| format!("its monitoring endpoint {host}: {error}"))?;
    let request = format!("GET /jsz HTTP/1.0\r\nHost: {host}\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    connection.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await?;
    let end = b"\r\n\r\n";
    let at = answer.windows(end.len()).position(|window| window == end).ok_or("no HTTP answer")?;
    Ok(answer.split_off(at + end.len()))
}
