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

/// The client of models logs what providers sent, at every level; what it means is told
/// in the answer and the journal. Whoever names it in `AOF_LOG` sees it.
const NOISY: &str = "genai";

fn quiet(filter: EnvFilter) -> EnvFilter {
    if filter.to_string().contains(NOISY) {
        return filter;
    }
    let off = tracing_subscriber::filter::LevelFilter::OFF;
    match format!("{NOISY}={off}").parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
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
    let filter = quiet(filter);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_client_is_silent_unless_named() {
        for (written, silent) in [("info", true), ("debug", true), ("info,genai=debug", false)] {
            let filter = quiet(EnvFilter::new(written)).to_string();
            assert_eq!(filter.contains("genai=off"), silent, "{filter}");
        }
    }
}
