//! Slack's Web API: one call, and what its answer means for the sender.
//!
//! The question that every error answers is whether the call may have had its effect.
//! Tokens appear in no error and no log.

use reqwest::RequestBuilder;
use serde_json::Value;

use aof_shared::config::Instance;

use crate::reply::call::{
    Answer, Caller, DEFAULT_RETRY_AFTER_MS, base_url, quoted, token, unknown,
};
use crate::reply::port::SendError;

/// Where Slack's Web API is unless the instance says otherwise.
const DEFAULT_BASE_URL: &str = "https://slack.com/api";

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

/// The call of `method` as `instance` with `body`, a JSON object; not sent yet.
///
/// # Errors
/// `Refused` when the instance has no token.
pub(super) fn request(
    caller: &Caller,
    instance: &Instance,
    method: Method,
    body: &Value,
) -> Result<RequestBuilder, SendError> {
    let token = token(instance, "bot_token")?;
    let url = format!("{}/{}", base_url(instance, DEFAULT_BASE_URL), method.name());
    let request = caller.post(&url).bearer_auth(token);
    Ok(if method.takes_form() {
        request.form(&form(body))
    } else {
        // Slack warns about a JSON body without a charset.
        request.header("content-type", "application/json; charset=utf-8").json(body)
    })
}

/// The members of an object as form fields; text as it is, everything else as JSON.
fn form(body: &Value) -> Vec<(String, String)> {
    let members = body.as_object().into_iter().flatten();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    members.map(|(name, value)| (name.clone(), text(value))).collect()
}

/// Decides what an answer means. Pure.
pub(super) fn classify(method: Method, answer: &Answer) -> Result<Value, SendError> {
    let scope = format!("slack/{}", method.name());
    let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
    let ok = body.as_ref().and_then(|b| b.get("ok")).and_then(Value::as_bool);
    match (ok, body, answer.status) {
        (Some(true), Some(body), 200..=299) => Ok(body),
        (Some(false), Some(body), status) if status != 429 => {
            let error = body.get("error").and_then(Value::as_str).unwrap_or("unknown_error");
            let retry_after_ms = answer.retry_after_ms().unwrap_or(DEFAULT_RETRY_AFTER_MS);
            Err(if is_limit(error) {
                SendError::Limited { retry_after_ms, scope }
            } else {
                named(error, &body)
            })
        }
        (_, _, status) => Err(answer
            .failure("Slack", &scope)
            .unwrap_or_else(|| unknown(&format!("its answer ({status}) could not be read")))),
    }
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
