//! What a failed call of a provider means: may another try help, and what people are told.

use std::error::Error as StdError;
use std::time::Duration;

use genai::webc::StreamTimeout;

use crate::model::ModelError;

/// Longest part of a provider's error that people see.
const SHOWN_CHARS: usize = 300;
/// Stands where a key stood.
const MASKED: &str = "***";
/// Longest chain of causes that is followed.
const MAX_CAUSES: usize = 8;

/// Whether trying again may help. The provider's own status decides; without one the
/// connection failed or its bytes made no sense, and both pass. `secret` is shown to
/// nobody: some providers name the key that they do not take.
pub(super) fn classify(error: &genai::Error, secret: Option<&str>) -> ModelError {
    let inner = inner(error);
    let shown = |text: &str| shown(&hide(text, secret));
    if let Some(status) = inner.status() {
        let said = shown(&body_of(inner));
        let said = if said.is_empty() { String::new() } else { format!(": {said}") };
        let again = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
        if !again {
            return ModelError::Rejected { reason: format!("{status}{said}") };
        }
        let header = inner.headers().and_then(|h| h.get("retry-after"));
        let seconds = header.and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
        let reason = format!("it failed with {status}{said}");
        return ModelError::Transient { reason, retry_after: seconds.map(Duration::from_secs) };
    }
    match inner {
        genai::Error::Resolver { .. }
        | genai::Error::RequiresApiKey { .. }
        | genai::Error::NoAuthData { .. }
        | genai::Error::NoAuthResolver { .. } => ModelError::Rejected {
            reason: "it needs a key; set `spec.models.<provider>.api_key_env`, or the \
                     provider's own variable, where the node runs"
                .to_owned(),
        },
        genai::Error::AdapterNotSupported { .. }
        | genai::Error::MessageContentTypeNotSupported { .. } => {
            ModelError::Rejected { reason: shown(&inner.to_string()) }
        }
        genai::Error::ChatResponse { body, .. } => {
            let said = message_in(&body.to_string());
            ModelError::transient(format!("it broke off: {}", shown(&said)))
        }
        genai::Error::WebStream { error, .. } => ModelError::transient(connection(&**error)),
        _ => ModelError::transient(NONSENSE),
    }
}

/// Said of bytes that are no answer of the provider's API.
pub(super) const NONSENSE: &str =
    "its answer makes no sense; is `base_url` the address of the API that `api` names?";

/// A failed stream wraps the failed call.
fn inner(error: &genai::Error) -> &genai::Error {
    match error {
        genai::Error::WebStream { error: source, .. } => {
            source.downcast_ref::<genai::Error>().unwrap_or(error)
        }
        other => other,
    }
}

/// What happened to the connection, in words.
fn connection(error: &(dyn StdError + Send + Sync + 'static)) -> String {
    match error.downcast_ref::<StreamTimeout>() {
        Some(StreamTimeout::Headers) => return "it did not begin to answer in time".to_owned(),
        Some(StreamTimeout::Read) => return "it fell silent within its answer".to_owned(),
        None => {}
    }
    let Some(error) = error.downcast_ref::<reqwest::Error>() else {
        return "its answer broke off".to_owned();
    };
    if error.is_connect() || error.is_timeout() {
        let host = error.url().and_then(|url| {
            let port = url.port_or_known_default()?;
            Some(format!(" at {}:{port}", url.host_str()?))
        });
        let cause = shown(&root_cause(error));
        return format!("it could not be reached{} ({cause})", host.unwrap_or_default());
    }
    "its answer broke off".to_owned()
}

fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn StdError = error;
    for _ in 0..MAX_CAUSES {
        let Some(source) = cause.source() else { break };
        cause = source;
    }
    cause.to_string()
}

fn body_of(error: &genai::Error) -> String {
    match error {
        genai::Error::HttpError { body, .. } => message_in(body),
        genai::Error::WebModelCall {
            webc_error: genai::webc::Error::ResponseFailedStatus { body, .. },
            ..
        } => message_in(body),
        other => other.to_string(),
    }
}

/// The message within a provider's JSON error, or the body itself.
fn message_in(body: &str) -> String {
    let json: Option<serde_json::Value> = serde_json::from_str(body).ok();
    // Gemini streams its errors in a list.
    let json = json.as_ref().map(|json| json.get(0).unwrap_or(json));
    let message = json.and_then(|json| {
        let error = json.get("error").unwrap_or(json);
        error.get("message").unwrap_or(error).as_str()
    });
    message.unwrap_or(body).to_owned()
}

/// `text` without `secret`.
fn hide(text: &str, secret: Option<&str>) -> String {
    match secret {
        Some(secret) if !secret.is_empty() => text.replace(secret, MASKED),
        _ => text.to_owned(),
    }
}

/// One line, cut to what people read.
pub(super) fn shown(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_hidden_before_the_text_is_cut() {
        let long = format!("{} sk-secret", "x".repeat(SHOWN_CHARS - 4));
        assert!(!shown(&hide(&long, Some("sk-secret"))).contains("sk-"), "half a key");
        assert_eq!(hide("as it is", Some("")), "as it is");
    }

    #[test]
    fn the_message_is_found_in_every_providers_error() {
        for (body, message) in [
            (r#"{"error": {"message": "bad key", "type": "x"}}"#, "bad key"),
            (
                r#"{"type": "error", "error": {"type": "overloaded_error", "message": "full"}}"#,
                "full",
            ),
            (
                r#"[{"error": {"code": 400, "message": "no such model", "status": "X"}}]"#,
                "no such model",
            ),
            (r#"{"error": "model 'x' not found"}"#, "model 'x' not found"),
            (r#"{"message": "full", "type": "overloaded_error"}"#, "full"),
            ("<html>Bad gateway</html>", "<html>Bad gateway</html>"),
        ] {
            assert_eq!(message_in(body), message);
        }
    }
}
