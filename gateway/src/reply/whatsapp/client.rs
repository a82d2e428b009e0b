//! What Meta's answer to a message means for the sender.
//!
//! Sources: Meta, "Cloud API error codes"; the code counts, not the HTTP status.

use aof_shared::config::Instance;
use serde::Deserialize;

use crate::platform::setting;
use crate::reply::call::{Answer, DEFAULT_RETRY_AFTER_MS, quoted, unknown};
use crate::reply::port::SendError;

/// Wait after a limit of one person's, which is one message in six seconds.
const PAIR_WAIT_MS: u64 = 6_000;

/// Where messages of `instance` are sent.
///
/// # Errors
/// `Refused` when the instance does not say which number it is.
pub(super) fn url(instance: &Instance, base: &str) -> Result<String, SendError> {
    let number = setting(instance, "phone_number_id").filter(|id| is_plain(id));
    let number = number.ok_or_else(|| SendError::Refused {
        reason: "no_number",
        detail: format!(
            "instance `{}` has no `phone_number_id`: set it in the flow's trigger config",
            instance.name
        ),
    })?;
    Ok(format!("{base}/{number}/messages"))
}

fn is_plain(id: &str) -> bool {
    id.bytes().all(|b| b.is_ascii_alphanumeric())
}

#[derive(Deserialize)]
struct Sent {
    messages: Vec<Id>,
}

#[derive(Deserialize)]
struct Id {
    id: String,
}

#[derive(Deserialize)]
struct Failed {
    error: Failure,
}

#[derive(Deserialize)]
struct Failure {
    code: u64,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    error_data: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    details: Option<String>,
}

/// The id of the message that Meta took.
///
/// # Errors
/// [`SendError`] by Meta's own code, else by the status.
pub(super) fn posted(answer: &Answer) -> Result<String, SendError> {
    if let Ok(failed) = serde_json::from_slice::<Failed>(&answer.body) {
        return Err(named(&failed.error, answer));
    }
    if (200..300).contains(&answer.status) {
        let sent: Option<Sent> = serde_json::from_slice(&answer.body).ok();
        let id = sent.and_then(|sent| sent.messages.into_iter().next());
        return id.map(|message| message.id).ok_or_else(|| unreadable(answer.status));
    }
    if answer.status == 500 {
        return Err(unreadable(500));
    }
    let failure = answer.failure("WhatsApp", "whatsapp/messages");
    Err(failure.unwrap_or_else(|| unreadable(answer.status)))
}

fn unreadable(status: u16) -> SendError {
    unknown(&format!("its answer ({status}) could not be read"))
}

fn named(error: &Failure, answer: &Answer) -> SendError {
    let limited = |wait_ms: u64, scope: &str| SendError::Limited {
        retry_after_ms: answer.retry_after_ms().unwrap_or(wait_ms),
        scope: scope.to_owned(),
    };
    let (reason, advice) = match error.code {
        131_056 => return limited(PAIR_WAIT_MS, "whatsapp/pair"),
        4 | 80_007 | 130_429 | 133_016 => {
            return limited(DEFAULT_RETRY_AFTER_MS, "whatsapp/number");
        }
        2 | 131_000 | 131_016 | 131_057 => {
            return SendError::Unavailable { reason: format!("it answered code {}", error.code) };
        }
        // "Invalid request or possible server error": the one code that says neither.
        1 => return unknown("it answered code 1"),
        code => refusal(code),
    };
    let told = error.error_data.as_ref().and_then(|data| data.details.as_deref());
    let told = told.or(error.message.as_deref()).map(quoted).unwrap_or_default();
    SendError::Refused {
        reason,
        detail: format!("WhatsApp answered {} ({told}): {advice}", error.code),
    }
}

/// What a code that is no limit means, and what to do.
fn refusal(code: u64) -> (&'static str, &'static str) {
    let found = REFUSALS.iter().find(|(codes, _, _)| codes.contains(&code));
    found.map_or(
        ("platform_refused", "see the code in Meta's \"Error codes\""),
        |(_, reason, advice)| (*reason, *advice),
    )
}

/// What Meta refuses for good, and what to do.
const REFUSALS: [(&[u64], &str, &str); 12] = [
    (
        &[131_047],
        "window_closed",
        "more than 24 hours have passed since the person last wrote, and only a template may be \
         sent: they have to write again; then retry the dead letter",
    ),
    (
        &[0, 190],
        "invalid_auth",
        "the access token is not valid any more; set a new `access_token` of a system user",
    ),
    (
        &[3, 10, 200, 131_005],
        "missing_scope",
        "the token may not send; give it `whatsapp_business_messaging` for this account",
    ),
    (&[33, 133_010], "no_number", "the number is not registered; check `phone_number_id`"),
    (
        &[131_026, 131_062],
        "undeliverable",
        "the person cannot get it: not on WhatsApp, an old version, or blocked",
    ),
    (&[131_030], "not_allowed", "a test number sends to its listed recipients only; add them"),
    (
        &[368, 131_031],
        "account_locked",
        "Meta has restricted the account; see its *Account quality*",
    ),
    (&[131_042], "payment", "something is wrong with the account's payment method"),
    (&[131_048, 131_049, 130_472], "spam_limit", "Meta holds messages of this number back"),
    (&[131_021], "own_number", "the recipient is the sender's own number"),
    (
        &[100, 131_008, 131_009, 131_051],
        "invalid_request",
        "the request is not as WhatsApp wants it; report this with the dead letter",
    ),
    (&[131_053], "media", "the file could not be sent; see its type and size"),
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(status: u16, body: &str, expected: &str) {
        let answer = Answer { status, body: body.as_bytes().to_vec(), ..Answer::default() };
        let shown = match posted(&answer) {
            Ok(id) => id,
            Err(SendError::Limited { retry_after_ms, scope }) => {
                format!("{scope} {retry_after_ms}")
            }
            Err(SendError::Refused { reason, .. }) => format!("refused {reason}"),
            Err(SendError::Unavailable { .. }) => "unavailable".to_owned(),
            Err(SendError::Gone) => "gone".to_owned(),
            Err(SendError::Unknown { .. }) => "unknown".to_owned(),
        };
        assert_eq!(shown, expected, "{status} {body}");
    }

    #[test]
    fn the_code_says_what_became_of_a_message() {
        check(200, r#"{"messages":[{"id":"wamid.A"}]}"#, "wamid.A");
        let code = |status: u16, code: u64, expected: &str| {
            let error = json!({"error": {"code": code, "message": "m", "fbtrace_id": "t"}});
            check(status, &error.to_string(), expected);
        };
        code(400, 131_047, "refused window_closed");
        code(400, 131_056, "whatsapp/pair 6000");
        code(400, 130_429, "whatsapp/number 30000");
        code(429, 80_007, "whatsapp/number 30000");
        code(401, 190, "refused invalid_auth");
        code(400, 131_026, "refused undeliverable");
        code(500, 131_000, "unavailable");
        code(500, 131_016, "unavailable");
        code(500, 1, "unknown");
        code(400, 999_999, "refused platform_refused");
        check(200, "{}", "unknown");
        check(200, r#"{"messages":[]}"#, "unknown");
        check(500, "<html>", "unknown");
        check(503, "", "unavailable");
        check(504, "", "unknown");
        check(429, "", "whatsapp/messages 30000");
        check(404, "", "refused http_error");
    }

    #[test]
    fn a_refusal_says_what_to_do_and_quotes_little() {
        let details = format!("line\n{}", "x".repeat(5_000));
        let error = json!({"error": {"code": 131_047, "error_data": {"details": details}}});
        let answer =
            Answer { status: 400, body: error.to_string().into_bytes(), ..Answer::default() };
        let Err(SendError::Refused { detail, .. }) = posted(&answer) else { panic!("refused") };
        assert!(detail.contains("24 hours") && !detail.contains('\n'), "{detail}");
        assert!(detail.len() < 500, "{detail}");
    }
}
