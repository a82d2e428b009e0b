//! One HTTP call to a platform: what every platform's client shares.
//!
//! The question that every error answers is whether the call may have had its effect.
//! Tokens appear in no error and no log.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{RequestBuilder, Url};

use aof_shared::config::Instance;

use super::port::SendError;

/// Longest wait for a connection.
const CONNECT_TIMEOUT_MS: u64 = 3_000;
/// Longest wait for a whole answer, connection included; platforms answer in under 3 s.
const CALL_TIMEOUT_MS: u64 = 10_000;
/// Idle connections are closed before common proxies do it (60 s).
const POOL_IDLE_MS: u64 = 30_000;
/// Largest answer read: a page of 200 channels is about 300 KB.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// Wait after a 429 that does not say how long.
pub const DEFAULT_RETRY_AFTER_MS: u64 = 30_000;
/// Longest text of a platform's own that is quoted.
const MAX_QUOTED_CHARS: usize = 120;

/// Makes calls. Cheap to clone; connections are pooled per host.
#[derive(Debug, Clone)]
pub struct Caller {
    http: reqwest::Client,
    timeout_ms: u64,
}

impl Caller {
    /// Sets the connections up.
    ///
    /// # Errors
    /// When the TLS set-up of this machine cannot be read.
    pub fn new() -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS))
            .timeout(Duration::from_millis(CALL_TIMEOUT_MS))
            .pool_idle_timeout(Duration::from_millis(POOL_IDLE_MS))
            // A redirect would carry the token to another host.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("aofctl/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, timeout_ms: CALL_TIMEOUT_MS })
    }

    /// The same with another timeout, for tests of what happens when it is over.
    #[cfg(test)]
    pub(crate) fn with_timeout(timeout: Duration) -> Self {
        let http = reqwest::Client::builder().timeout(timeout).no_proxy().build();
        let http = http.expect("a client without special settings can be built");
        Self { http, timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX) }
    }

    /// A request that is not sent yet.
    pub fn request(&self, method: reqwest::Method, url: &str) -> RequestBuilder {
        self.http.request(method, url)
    }

    /// A POST that is not sent yet.
    pub fn post(&self, url: &str) -> RequestBuilder {
        self.request(reqwest::Method::POST, url)
    }

    /// Sends `request` and reads the answer, whatever its status.
    ///
    /// # Errors
    /// `Unavailable` when it was not sent, `Unknown` when it may have been, `Refused` when
    /// the URL is none.
    pub async fn send(&self, request: RequestBuilder) -> Result<Answer, SendError> {
        let mut response = request.send().await.map_err(|error| self.transport(&error))?;
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_ANSWER_BYTES => {
                    body.extend_from_slice(&chunk);
                }
                Ok(None) => break,
                // Too long or torn: the status still says whether it was refused.
                Ok(Some(_)) | Err(_) => {
                    body.clear();
                    break;
                }
            }
        }
        Ok(Answer { status, headers, body })
    }

    /// What an error before or while reading the answer's head means.
    fn transport(&self, error: &reqwest::Error) -> SendError {
        let host = error.url().and_then(host).unwrap_or_else(|| "the platform".to_owned());
        if error.is_builder() {
            return SendError::Refused {
                reason: "bad_url",
                detail: "`api_base_url` is not a usable URL: mend it in the configuration"
                    .to_owned(),
            };
        }
        if error.is_connect() || error.is_dns() {
            let reason = if error.is_timeout() { "no connection in time" } else { "no connection" };
            return SendError::Unavailable { reason: format!("{reason} to {host}") };
        }
        if error.is_timeout() {
            return unknown(&format!("no answer from {host} in {} ms", self.timeout_ms));
        }
        unknown(&format!("the connection to {host} was lost before the answer"))
    }
}

/// Host and port alone: a URL may hold credentials.
fn host(url: &Url) -> Option<String> {
    Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
}

/// What came back.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers, which may name limits.
    pub headers: HeaderMap,
    /// The body; empty when it was torn or too long.
    pub body: Vec<u8>,
}

impl Answer {
    /// How long its `Retry-After` asks to wait, in milliseconds.
    #[must_use]
    pub fn retry_after_ms(&self) -> Option<u64> {
        let seconds: f64 = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
        millis(seconds)
    }

    /// What its status alone says, where `platform` says no more in the body: `None` for 2xx.
    #[must_use]
    pub fn failure(&self, platform: &str, label: &str) -> Option<SendError> {
        Some(match self.status {
            200..=299 => return None,
            429 => SendError::Limited {
                retry_after_ms: self.retry_after_ms().unwrap_or(DEFAULT_RETRY_AFTER_MS),
                scope: label.to_owned(),
            },
            // The one 5xx by which a proxy says that it had passed the request on.
            504 => unknown("a proxy got no answer from the platform (504)"),
            status @ 500.. => SendError::Unavailable { reason: format!("it answered {status}") },
            status @ 300..=499 => SendError::Refused {
                reason: "http_error",
                detail: format!(
                    "it answered {status} and not as {platform} does: check `api_base_url`"
                ),
            },
            status => unknown(&format!("its answer ({status}) could not be read")),
        })
    }
}

/// A platform's seconds, which may have a fraction, as whole milliseconds of at least 1.
#[must_use]
pub fn millis(seconds: f64) -> Option<u64> {
    let wait = Duration::try_from_secs_f64(seconds).ok()?;
    Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1))
}

/// Nobody knows whether it happened.
#[must_use]
pub fn unknown(reason: &str) -> SendError {
    SendError::Unknown { reason: reason.to_owned() }
}

/// A platform's own word, cut and without controls.
#[must_use]
pub fn quoted(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_QUOTED_CHARS).collect()
}

/// The account's token, by which it speaks.
///
/// # Errors
/// `Refused` when it has none.
pub fn token<'a>(instance: &'a Instance, setting: &str) -> Result<&'a str, SendError> {
    let token = instance.bot_token.as_ref().map(aof_shared::secret::Secret::expose);
    token.ok_or_else(|| SendError::Refused {
        reason: "no_token",
        detail: format!(
            "instance `{}` has no `{setting}`: set it in the flow's trigger config",
            instance.name
        ),
    })
}

/// Where the platform's API is, without a trailing slash.
#[must_use]
pub fn base_url<'a>(instance: &'a Instance, default: &'a str) -> &'a str {
    instance.api_base_url.as_deref().unwrap_or(default).trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_whether_it_may_have_happened() {
        let check = |status: u16, expected: &str| {
            let answer = Answer { status, ..Answer::default() };
            let failure = answer.failure("Acme", "acme/send");
            let name = match failure {
                None => "none",
                Some(SendError::Limited { retry_after_ms: DEFAULT_RETRY_AFTER_MS, .. }) => {
                    "limited"
                }
                Some(SendError::Unavailable { .. }) => "unavailable",
                Some(SendError::Refused { .. }) => "refused",
                Some(SendError::Unknown { .. }) => "unknown",
                Some(other) => panic!("{status}: {other:?}"),
            };
            assert_eq!(name, expected, "{status}");
        };
        for (status, expected) in [
            (200, "none"),
            (204, "none"),
            (301, "refused"),
            (404, "refused"),
            (429, "limited"),
            (500, "unavailable"),
            (503, "unavailable"),
            (504, "unknown"),
            (0, "unknown"),
        ] {
            check(status, expected);
        }
    }

    #[test]
    fn waits_are_read_in_seconds_and_their_fractions() {
        let check = |text: &str, expected: Option<u64>| {
            let mut answer = Answer::default();
            answer.headers.insert(RETRY_AFTER, text.parse().expect("a header value"));
            assert_eq!(answer.retry_after_ms(), expected, "{text}");
        };
        check("3", Some(3_000));
        check("0", Some(1));
        check("0.25", Some(250));
        check("-1", None);
        check("Wed, 21 Oct 2015 07:28:00 GMT", None);
        check("1e300", None);
        check("NaN", None);
    }
}
