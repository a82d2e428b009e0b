//! Logs on standard error: text on a terminal, one JSON object a line elsewhere.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::FormatTime;

/// What is logged when `AOF_LOG` says nothing.
const DEFAULT_FILTER: &str = "info";

/// RFC 3339 in UTC with milliseconds, as 001's log line has it.
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        use aof_shared::clock::{Clock, SystemClock, rfc3339};
        w.write_str(&rfc3339(SystemClock.now_ms()))
    }
}

/// Starts logging as `AOF_LOG` (a filter) and `AOF_LOG_FORMAT` (`text`, `json`) say.
///
/// # Errors
/// When either has a value that is not understood.
pub(crate) fn start() -> anyhow::Result<()> {
    let filter = match std::env::var("AOF_LOG") {
        Ok(text) => EnvFilter::try_new(&text).map_err(|e| {
            anyhow::anyhow!("AOF_LOG is not a filter such as `info,aof_worker=debug`: {e}")
        })?,
        Err(_) => EnvFilter::new(DEFAULT_FILTER),
    };
    let json = match std::env::var("AOF_LOG_FORMAT").as_deref() {
        Ok("json") => true,
        Ok("text") => false,
        Ok(other) => anyhow::bail!("AOF_LOG_FORMAT is `{other}`: use `text` or `json`"),
        Err(_) => !std::io::stderr().is_terminal(),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(Utc)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    if json {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
    } else {
        builder.init();
    }
    Ok(())
}
