//! Slack's Web API: one call, and what its answer means for the sender.
//!
//! The question that every error answers is whether the call may have had its effect.
//! Tokens appear in no error and no log.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde_json::Value;

use aof_shared::config::Instance;

use crate::reply::port::SendError;

/// Where Slack's Web API is unless the instance says otherwise.
const DEFAULT_BASE_URL: &str = "https://slack.com/api";
/// Longest wait for a connection.
const CONNECT_TIMEOUT_MS: u64 = 3_000;
/// Longest wait for a whole answer, connection included; Slack answers in under 3 s.
const CALL_TIMEOUT_MS: u64 = 10_000;
/// Idle connections are closed before common proxies do it (60 s).
const POOL_IDLE_MS: u64 = 30_000;
/// Largest answer read: a page of 200 channels is about 300 KB.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// Wait after a 429 that does not say how long.
const DEFAULT_RETRY_AFTER_MS: u64 = 30_000;
/// Longest text of a platform's own that is quoted.
const MAX_QUOTED_CHARS: usize = 120;

/// A method of the Web API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// `auth.test`
    AuthTest,
    /// `chat.postMessage`
    PostMessage,
    /// `chat.update`
    Update,
    /// `conversations.info`
    ChannelInfo,
    /// `conversations.list`
    ChannelList,
    /// `reactions.add`
    React,
}

impl Method {
    /// As Slack calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AuthTest => "auth.test",
            Self::PostMessage => "chat.postMessage",
            Self::Update => "chat.update",
            Self::ChannelInfo => "conversations.info",
            Self::ChannelList => "conversations.list",
            Self::React => "reactions.add",
        }
    }

    /// True when calling it twice does nothing twice.
    #[must_use]
    pub fn repeatable(self) -> bool {
        !matches!(self, Self::PostMessage)
    }

    /// Methods that read take a form, not JSON. Source: Slack, "Using the Web API".
    fn takes_form(self) -> bool {
        matches!(self, Self::AuthTest | Self::ChannelInfo | Self::ChannelList)
    }
}

/// Calls the Web API. Cheap to clone; connections are pooled per host.
#[derive(Debug, Clone)]
pub struct SlackClient {
    http: reqwest::Client,
}

impl SlackClient {
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
        Ok(Self { http })
    }

    /// The same with another timeout, for tests of what happens when it is over.
    #[cfg(test)]
    pub(crate) fn with_timeout(timeout: Duration) -> Self {
        let http = reqwest::Client::builder().timeout(timeout).no_proxy().build();
        Self { http: http.expect("a client without special settings can be built") }
    }

    /// Calls `method` as `instance` with `body`, a JSON object.
    ///
    /// # Errors
    /// [`SendError`]; `Unknown` when it may have been done.
    pub async fn call(
        &self,
        instance: &Instance,
        method: Method,
        body: &Value,
    ) -> Result<Value, SendError> {
        let token = instance.bot_token.as_ref().ok_or_else(|| no_token(instance))?;
        let base = instance.api_base_url.as_deref().unwrap_or(DEFAULT_BASE_URL);
        let url = format!("{}/{}", base.trim_end_matches('/'), method.name());
        let request = self.http.post(url).bearer_auth(token.expose());
        let request = if method.takes_form() {
            request.form(&form(body))
        } else {
            // Slack warns about a JSON body without a charset.
            request.header("content-type", "application/json; charset=utf-8").json(body)
        };
        let mut response = request.send().await.map_err(|error| transport(&error))?;
        let status = response.status().as_u16();
        let retry_after_ms = retry_after(response.headers());
        let mut bytes = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if bytes.len() + chunk.len() <= MAX_ANSWER_BYTES => {
                    bytes.extend_from_slice(&chunk);
                }
                Ok(None) => break,
                // Too long or torn: the status still says whether it was refused.
                Ok(Some(_)) | Err(_) => {
                    bytes.clear();
                    break;
                }
            }
        }
        classify(method, &Answer { status, retry_after_ms, body: &bytes })
    }
}

/// The members of an object as form fields; text as it is, everything else as JSON.
fn form(body: &Value) -> Vec<(String, String)> {
    let members = body.as_object().into_iter().flatten();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    members.map(|(name, value)| (name.clone(), text(value))).collect()
}

fn retry_after(headers: &HeaderMap) -> Option<u64> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(seconds.saturating_mul(1_000).max(1))
}

fn no_token(instance: &Instance) -> SendError {
    SendError::Refused {
        reason: "no_token",
        detail: format!(
            "instance `{}` has no bot token: set `bot_token` in the flow's trigger config",
            instance.name
        ),
    }
}

/// What an error before or while reading the answer's head means.
fn transport(error: &reqwest::Error) -> SendError {
    let host = host(error);
    if error.is_builder() {
        return SendError::Refused {
            reason: "bad_url",
            detail: "`api_base_url` is not a usable URL: mend it in the configuration".to_owned(),
        };
    }
    if error.is_connect() || error.is_dns() {
        let reason = if error.is_timeout() { "no connection in time" } else { "no connection" };
        return SendError::Unavailable { reason: format!("{reason} to {host}") };
    }
    let reason = if error.is_timeout() {
        format!("no answer from {host} in {CALL_TIMEOUT_MS} ms")
    } else {
        format!("the connection to {host} was lost before the answer")
    };
    SendError::Unknown { reason }
}

/// Host and port alone: a URL may hold credentials.
fn host(error: &reqwest::Error) -> String {
    let host = error
        .url()
        .and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?)));
    host.unwrap_or_else(|| "the platform".to_owned())
}

/// What came back.
#[derive(Debug, Clone, Copy)]
struct Answer<'a> {
    status: u16,
    retry_after_ms: Option<u64>,
    body: &'a [u8],
}

/// Decides what an answer means. Pure.
fn classify(method: Method, answer: &Answer<'_>) -> Result<Value, SendError> {
    let limited = || SendError::Limited {
        retry_after_ms: answer.retry_after_ms.unwrap_or(DEFAULT_RETRY_AFTER_MS),
        scope: format!("slack/{}", method.name()),
    };
    if answer.status == 429 {
        return Err(limited());
    }
    let body: Option<Value> = serde_json::from_slice(answer.body).ok();
    let ok = body.as_ref().and_then(|b| b.get("ok")).and_then(Value::as_bool);
    match (ok, body, answer.status) {
        (Some(true), Some(body), 200..=299) => Ok(body),
        (Some(false), Some(body), _) => {
            let error = body.get("error").and_then(Value::as_str).unwrap_or("unknown_error");
            Err(if is_limit(error) { limited() } else { named(error, &body) })
        }
        // The one 5xx by which a proxy says that it had passed the request on.
        (_, _, 504) => Err(unknown("a proxy got no answer from the platform (504)")),
        (_, _, status @ 500..) => {
            Err(SendError::Unavailable { reason: format!("it answered {status}") })
        }
        (_, _, status @ 300..=499) => Err(SendError::Refused {
            reason: "http_error",
            detail: format!("it answered {status} and not as Slack does: check `api_base_url`"),
        }),
        (_, _, status) => Err(unknown(&format!("its answer ({status}) could not be read"))),
    }
}

fn unknown(reason: &str) -> SendError {
    SendError::Unknown { reason: reason.to_owned() }
}

/// Errors that name a limit. Sources: platforms.md; Slack, `chat.postMessage`, "Errors".
fn is_limit(error: &str) -> bool {
    matches!(error, "ratelimited" | "rate_limited" | "message_limit_exceeded")
}

/// What an `ok: false` means. Source: Slack, `chat.postMessage` and `chat.update`, "Errors".
fn named(error: &str, body: &Value) -> SendError {
    let (reason, advice) = match error {
        // Slack says of these that a part may have been done.
        "internal_error" | "fatal_error" => {
            return unknown(&format!("it answered `{error}`"));
        }
        "service_unavailable" | "request_timeout" | "team_added_to_org" | "org_login_required" => {
            return SendError::Unavailable { reason: format!("it answered `{error}`") };
        }
        "message_not_found" | "cant_update_message" | "edit_window_closed" => {
            return SendError::Gone;
        }
        _ => REFUSALS
            .iter()
            .find(|(name, _)| *name == error)
            .copied()
            .unwrap_or(("platform_refused", "see the error's name in Slack's documentation")),
    };
    let needed = body.get("needed").and_then(Value::as_str);
    let needed = needed.map(|scope| format!(" (scope `{}`)", quoted(scope))).unwrap_or_default();
    SendError::Refused {
        reason,
        detail: format!("Slack answered `{}`{needed}: {advice}", quoted(error)),
    }
}

/// A platform's own word, cut and without controls.
fn quoted(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_QUOTED_CHARS).collect()
}

/// What Slack refuses for good, and what to do.
const REFUSALS: [(&str, &str); 24] = [
    ("channel_not_found", "the channel does not exist or the bot may not see it; invite the bot"),
    ("not_in_channel", "invite the bot to the channel (/invite @bot)"),
    ("is_archived", "the channel is archived; unarchive it or change the flow's channels"),
    ("invalid_auth", "the bot token is not valid; set a new `bot_token`"),
    ("not_authed", "the bot token did not arrive; check `bot_token`"),
    ("token_revoked", "the bot token was revoked; install the app again and set `bot_token`"),
    ("token_expired", "the bot token expired; set a new `bot_token`"),
    ("account_inactive", "the app was uninstalled or its workspace is gone; install it again"),
    ("missing_scope", "add the scope to the app and install it again"),
    ("not_allowed_token_type", "use a bot token (xoxb-…)"),
    ("no_permission", "the app may not do this; check its scopes and the workspace's settings"),
    ("access_denied", "the app may not do this; check the workspace's settings"),
    ("ekm_access_denied", "the workspace's administrators suspended posting"),
    ("team_access_not_granted", "the app was not granted this workspace; ask its administrators"),
    ("enterprise_is_restricted", "the organisation's administrators forbid it; ask them"),
    ("restricted_action", "the workspace's settings forbid posting here; ask its administrators"),
    ("restricted_action_read_only_channel", "the channel is read-only; choose another"),
    ("restricted_action_thread_only_channel", "the channel takes replies in threads only"),
    ("restricted_action_thread_locked", "the thread is locked"),
    ("cannot_reply_to_message", "the message to answer cannot have replies"),
    ("thread_not_found", "the thread to answer in is gone"),
    ("msg_too_long", "the text is longer than Slack takes"),
    ("no_text", "there was nothing to say"),
    ("invalid_blocks", "the card is not as Slack wants it; report this with the dead letter"),
];

#[cfg(test)]
mod tests;
