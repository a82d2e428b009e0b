//! The built-in queries `prometheus_query` and `loki_query`: read-only, bounded, and only
//! to the `url` in the tool's settings; redirects are not followed.

use std::time::Duration;

use aof_shared::config::ToolConfig;
use futures_util::StreamExt;

use crate::tool::process::cut;
use crate::tool::{MAX_OUTPUT_BYTES, timeout};

/// Names of the built-in queries.
pub(crate) const NAMES: [&str; 2] = ["prometheus_query", "loki_query"];
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Lines of a Loki answer unless the query says otherwise.
const LOKI_LINES: &str = "100";

/// The queries of a node; connections are shared.
pub(crate) struct Queries {
    http: Option<reqwest::Client>,
}

/// Why a query gave nothing. For the person or model that asked.
pub(crate) type QueryError = String;

impl Queries {
    pub(crate) fn new() -> Self {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build();
        Self { http: http.ok() }
    }

    /// Sends `query` with `options` (`time`, `limit`, `start`, `end`) to the tool's server.
    ///
    /// # Errors
    /// What went wrong, and what to do.
    pub(crate) async fn ask(
        &self,
        tool: &str,
        config: Option<&ToolConfig>,
        query: &str,
        options: &[(String, String)],
    ) -> Result<String, QueryError> {
        let url = config.and_then(|c| c.settings.get("url")).and_then(|u| u.as_str());
        let url = url.ok_or_else(|| format!("set `tool_config.{tool}.url` to use `{tool}`"))?;
        let http = self.http.as_ref().ok_or("this node cannot set up TLS")?;
        let path = match tool {
            "prometheus_query" => "api/v1/query",
            _ => "loki/api/v1/query_range",
        };
        let mut pairs = vec![("query", query)];
        pairs.extend(options.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        if tool == "loki_query" && !options.iter().any(|(name, _)| name == "limit") {
            pairs.push(("limit", LOKI_LINES));
        }
        let url = format!("{}/{path}", url.trim_end_matches('/'));
        let url = reqwest::Url::parse_with_params(&url, pairs)
            .map_err(|e| format!("`tool_config.{tool}.url` is not a URL: {e}"))?;
        let request = http.get(url);
        let answer = tokio::time::timeout(timeout(config), read(request)).await;
        answer.map_err(|_| format!("`{tool}` gave no answer in time"))?
    }
}

/// Reads at most the cap of an answer's body.
async fn read(request: reqwest::RequestBuilder) -> Result<String, QueryError> {
    let response = request.send().await.map_err(|e| chain(&e))?;
    let status = response.status();
    let mut body = Vec::new();
    let mut total = 0;
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|e| chain(&e))?;
        total += chunk.len();
        let room = MAX_OUTPUT_BYTES.saturating_sub(body.len());
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if total > MAX_OUTPUT_BYTES {
            break;
        }
    }
    let text = String::from_utf8_lossy(&body).into_owned();
    let text = if total > MAX_OUTPUT_BYTES { cut(text, total) } else { text };
    if status.is_success() { Ok(text) } else { Err(format!("{status}: {text}")) }
}

/// The error with its causes, without the URL: its query may be long.
fn chain(error: &reqwest::Error) -> String {
    let mut text = "the query failed".to_owned();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
