//! Telegram's Bot API: one call, and what its answer means for the sender.

use reqwest::RequestBuilder;
use serde::Deserialize;
use serde_json::Value;

use aof_shared::config::Instance;

use crate::reply::call::{
    Answer, Caller, DEFAULT_RETRY_AFTER_MS, base_url, quoted, token, unknown,
};
use crate::reply::port::SendError;

/// Where the Bot API is unless the instance says otherwise.
const DEFAULT_BASE_URL: &str = "https://api.telegram.org";

/// A method of the Bot API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// `sendMessage`
    Send,
    /// `editMessageText`
    EditText,
}

impl Method {
    /// As Telegram calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Send => "sendMessage",
            Self::EditText => "editMessageText",
        }
    }
}

/// The call of `method` as `instance`; not sent yet. The token is part of the path.
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
    let url = format!("{}/bot{token}/{}", base_url(instance, DEFAULT_BASE_URL), method.name());
    Ok(caller.post(&url).json(body))
}

#[derive(Deserialize)]
struct Said {
    ok: bool,
    #[serde(default)]
    description: String,
    #[serde(default)]
    parameters: Parameters,
    #[serde(default)]
    result: Value,
}

#[derive(Default, Deserialize)]
struct Parameters {
    #[serde(default)]
    retry_after: Option<u64>,
    #[serde(default)]
    migrate_to_chat_id: Option<i64>,
}

/// Decides what an answer means: the message's id, where it names one. Pure.
pub(super) fn classify(method: Method, answer: &Answer) -> Result<Option<i64>, SendError> {
    let scope = format!("telegram/{}", method.name());
    let by_status = || {
        let read = || unknown(&format!("its answer ({}) could not be read", answer.status));
        answer.failure("Telegram", &scope).unwrap_or_else(read)
    };
    let Ok(said) = serde_json::from_slice::<Said>(&answer.body) else { return Err(by_status()) };
    if said.ok && (200..=299).contains(&answer.status) {
        return Ok(said.result.get("message_id").and_then(Value::as_i64));
    }
    if answer.status == 429 {
        let asked = said.parameters.retry_after.map(|secs| secs.saturating_mul(1_000).max(1));
        let retry_after_ms = asked.or(answer.retry_after_ms()).unwrap_or(DEFAULT_RETRY_AFTER_MS);
        return Err(SendError::Limited { retry_after_ms, scope });
    }
    if said.ok || answer.status >= 500 {
        return Err(by_status());
    }
    refusal(method, &said)
}

/// What `ok: false` means. Telegram gives no codes, only words, which tdlib's server has had
/// unchanged for years.
fn refusal(method: Method, said: &Said) -> Result<Option<i64>, SendError> {
    let told = said.description.to_ascii_lowercase();
    if method == Method::EditText {
        if told.contains("message is not modified") {
            return Ok(None);
        }
        let gone = ["message to edit not found", "message can't be edited", "message_id_invalid"];
        if gone.iter().any(|words| told.contains(words)) {
            return Err(SendError::Gone);
        }
    }
    let known = REFUSALS.iter().find(|(words, ..)| told.contains(words));
    let other = ("platform_refused", "see the Bot API's documentation of the method");
    let (reason, advice) = known.map_or(other, |(_, reason, advice)| (*reason, *advice));
    let moved = said.parameters.migrate_to_chat_id;
    let moved = moved.map(|id| format!(" (its new id is {id})")).unwrap_or_default();
    let detail = format!("Telegram answered `{}`{moved}: {advice}", quoted(&said.description));
    Err(SendError::Refused { reason, detail })
}

/// What Telegram refuses for good: its words, the reason, and what to do.
const REFUSALS: [(&str, &str, &str); 13] = [
    ("unauthorized", "invalid_auth", "the bot token is not valid; set a new `bot_token`"),
    ("not found: method", "platform_refused", "the API behind `api_base_url` is too old"),
    ("chat not found", "chat_not_found", "the chat is gone, or the bot was never in it"),
    ("upgraded to a supergroup", "chat_migrated", "use the chat's new id in the flow's channels"),
    ("bot was blocked", "blocked", "the person blocked the bot; only they can unblock it"),
    ("bot can't initiate", "not_started", "the person has to write to the bot first"),
    ("bot was kicked", "not_in_channel", "add the bot to the chat again"),
    ("bot is not a member", "not_in_channel", "add the bot to the chat"),
    ("user is deactivated", "blocked", "the person's account is gone"),
    (
        "not enough rights",
        "no_permission",
        "let the bot write in the chat (its administrators can)",
    ),
    ("have no rights", "no_permission", "let the bot write in the chat (its administrators can)"),
    ("thread not found", "thread_not_found", "the topic to answer in is gone"),
    ("not found", "invalid_auth", "check `bot_token` and `api_base_url`"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: Method, status: u16, body: &str, expected: &str) {
        let answer = Answer { status, body: body.into(), ..Answer::default() };
        let got = match classify(method, &answer) {
            Ok(id) => format!("ok {id:?}"),
            Err(SendError::Limited { retry_after_ms, .. }) => format!("limited {retry_after_ms}"),
            Err(SendError::Unavailable { .. }) => "unavailable".to_owned(),
            Err(SendError::Refused { reason, .. }) => reason.to_owned(),
            Err(SendError::Gone) => "gone".to_owned(),
            Err(SendError::Unknown { .. }) => "unknown".to_owned(),
        };
        assert_eq!(got, expected, "{status} {body}");
    }

    fn no(description: &str) -> String {
        format!(r#"{{"ok":false,"error_code":400,"description":"Bad Request: {description}"}}"#)
    }

    #[test]
    fn every_answer_says_whether_it_may_have_happened() {
        use Method::{EditText, Send};
        check(Send, 200, r#"{"ok":true,"result":{"message_id":7}}"#, "ok Some(7)");
        check(EditText, 200, r#"{"ok":true,"result":true}"#, "ok None");
        check(EditText, 200, r#"{"ok":true,"result":null}"#, "ok None");
        check(EditText, 400, &no("message is not modified: specified new"), "ok None");
        check(EditText, 400, &no("message to edit not found"), "gone");
        check(EditText, 400, &no("message can't be edited"), "gone");
        check(Send, 400, &no("message thread not found"), "thread_not_found");
        check(Send, 400, &no("chat not found"), "chat_not_found");
        check(Send, 400, &no("something new"), "platform_refused");
        check(Send, 403, &no("bot was kicked from the supergroup chat"), "not_in_channel");
        check(Send, 401, r#"{"ok":false,"description":"Unauthorized"}"#, "invalid_auth");
        check(Send, 404, r#"{"ok":false,"description":"Not Found"}"#, "invalid_auth");
        check(Send, 429, r#"{"ok":false,"parameters":{"retry_after":5}}"#, "limited 5000");
        check(Send, 429, "", "limited 30000");
        check(Send, 500, r#"{"ok":false,"description":"Internal Server Error"}"#, "unavailable");
        check(Send, 502, "<html>", "unavailable");
        check(Send, 504, "", "unknown");
        check(Send, 200, "", "unknown");
        check(Send, 200, r#"{"ok":false"#, "unknown");
    }

    #[test]
    fn a_group_that_became_a_supergroup_is_named_by_its_new_id() {
        let body = r#"{"ok":false,"error_code":400,"description":"Bad Request: group chat was upgraded to a supergroup chat","parameters":{"migrate_to_chat_id":-1001}}"#;
        let answer = Answer { status: 400, body: body.into(), ..Answer::default() };
        let Err(SendError::Refused { reason, detail }) = classify(Method::Send, &answer) else {
            panic!("it must be refused");
        };
        assert_eq!(reason, "chat_migrated");
        assert!(detail.contains("-1001"), "{detail}");
    }
}
