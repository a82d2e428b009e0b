//! What Evolution's answer to a message means for the sender.

use aof_shared::config::Instance;
use serde_json::Value;

use crate::reply::call::{Answer, quoted, unknown};
use crate::reply::port::SendError;

/// Where messages are sent by `method` as the account called `name`.
///
/// # Errors
/// `Refused` when the instance does not say where its Evolution is.
pub(super) fn url(instance: &Instance, method: &str, name: &str) -> Result<String, SendError> {
    let base = instance.api_base_url.as_deref().ok_or_else(|| SendError::Refused {
        reason: "no_address",
        detail: format!(
            "instance `{}` has no `api_base_url`: set it to the address of its Evolution API",
            instance.name
        ),
    })?;
    let safe = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    let escape = |b: u8| if safe(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    let name: String = name.bytes().map(escape).collect();
    Ok(format!("{}/message/{method}/{name}", base.trim_end_matches('/')))
}

/// The id of the message that Evolution sent.
///
/// # Errors
/// [`SendError`]. A 500 may come after the message went out (it is stored afterwards), unless
/// its text says that the account was not linked.
pub(super) fn posted(answer: &Answer) -> Result<String, SendError> {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if (200..300).contains(&answer.status) {
        let id = body["key"]["id"].as_str().filter(|id| !id.is_empty());
        return id.map(str::to_owned).ok_or_else(|| unreadable(answer.status));
    }
    let told = &body["response"]["message"];
    if told.pointer("/0/exists").or(told.get("exists")) == Some(&Value::Bool(false)) {
        return Err(refused("undeliverable", "the number is not on WhatsApp", told));
    }
    let said = body.to_string().to_ascii_lowercase();
    if UNLINKED.iter().any(|words| said.contains(words)) {
        let reason = format!("its WhatsApp account is not linked ({})", quoted(&told.to_string()));
        return Err(SendError::Unavailable { reason });
    }
    Err(match answer.status {
        400 => refused("invalid_request", "the request is not as Evolution wants it", told),
        401 | 403 => {
            refused("invalid_auth", "the API key is not the instance's: set `api_key`", told)
        }
        404 => {
            refused("no_instance", "Evolution knows no such instance: check `instance_name`", told)
        }
        500 => unreadable(500),
        status => {
            answer.failure("Evolution", "evolution/sendText").unwrap_or_else(|| unreadable(status))
        }
    })
}

/// What it says when there is no connection to send over, in lower case.
const UNLINKED: [&str; 3] = ["connection closed", "not connected", "connection lost"];

fn refused(reason: &'static str, advice: &str, told: &Value) -> SendError {
    let detail = match quoted(&told.to_string()).as_str() {
        "null" => advice.to_owned(),
        told => format!("{advice}; it answered {told}"),
    };
    SendError::Refused { reason, detail }
}

fn unreadable(status: u16) -> SendError {
    unknown(&format!("its answer ({status}) does not say whether it was sent"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_what_became_of_a_message() {
        let check = |status: u16, body: &str, expected: &str| {
            let answer = Answer { status, body: body.as_bytes().to_vec(), ..Answer::default() };
            let shown = match posted(&answer) {
                Ok(id) => id,
                Err(SendError::Limited { scope, .. }) => format!("limited {scope}"),
                Err(SendError::Refused { reason, .. }) => format!("refused {reason}"),
                Err(SendError::Unavailable { .. }) => "unavailable".to_owned(),
                Err(SendError::Gone) => "gone".to_owned(),
                Err(SendError::Unknown { .. }) => "unknown".to_owned(),
            };
            assert_eq!(shown, expected, "{status} {body}");
        };
        check(201, r#"{"key":{"remoteJid":"1@g.us","fromMe":true,"id":"3EB0"}}"#, "3EB0");
        check(201, "{}", "unknown");
        check(200, "", "unknown");
        let absent = r#"{"status":400,"response":{"message":[{"exists":false,"number":"1"}]}}"#;
        check(400, absent, "refused undeliverable");
        check(400, r#"{"response":{"message":["text is required"]}}"#, "refused invalid_request");
        check(401, r#"{"error":"Unauthorized"}"#, "refused invalid_auth");
        check(404, r#"{"response":{"message":["it does not exist"]}}"#, "refused no_instance");
        check(500, r#"{"response":{"message":"Error: Connection Closed"}}"#, "unavailable");
        check(500, r#"{"response":{"message":"prisma"}}"#, "unknown");
        check(429, "", "limited evolution/sendText");
        check(503, "", "unavailable");
        check(504, "", "unknown");
    }

    #[test]
    fn a_name_stays_one_part_of_the_path() {
        let mut instance = crate::platform::contract::account("evolution", "s", &Value::Null);
        instance.api_base_url = Some("http://evo/".to_owned());
        let url = |name: &str| url(&instance, "sendText", name).expect("an address");
        assert_eq!(url("org-a-ops"), "http://evo/message/sendText/org-a-ops");
        assert_eq!(url("a/../b?c"), "http://evo/message/sendText/a%2F..%2Fb%3Fc");
    }
}
