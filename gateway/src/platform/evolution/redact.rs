//! Takes credentials and file contents out of a body before it is kept. Pure.

use serde_json::Value;

/// Keys whose values are credentials, keys to encrypted files, or the files themselves.
const LEFT_OUT: [&str; 7] =
    ["apikey", "base64", "jpegThumbnail", "mediaKey", "messageSecret", "pairingCode", "token"];

/// Deepest nesting that is kept; what lies deeper is left out.
const MAX_DEPTH: usize = 64;

/// The body with `***` for everything that is not to be kept.
pub(super) fn redacted(mut body: Value) -> String {
    redact(&mut body, MAX_DEPTH);
    body.to_string()
}

fn redact(value: &mut Value, depth: usize) {
    let Some(deeper) = depth.checked_sub(1) else {
        *value = Value::Null;
        return;
    };
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                if LEFT_OUT.iter().any(|name| name.eq_ignore_ascii_case(key)) {
                    *member = Value::from("***");
                } else {
                    redact(member, deeper);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| redact(item, deeper)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn credentials_go_at_any_depth_and_nothing_else_does() {
        let body = json!({"apikey": "s3cret", "event": "messages.upsert", "data": [{"message":
            {"base64": "aGk=", "imageMessage": {"mediaKey": {"0": 1}, "caption": "apikey"}},
            "ApiKey": null}], "server_url": "http://h"});
        let kept: Value = serde_json::from_str(&redacted(body)).expect("JSON");
        assert_eq!(
            kept,
            json!({"apikey": "***", "event": "messages.upsert", "data": [{"message":
                {"base64": "***", "imageMessage": {"mediaKey": "***", "caption": "apikey"}},
                "ApiKey": "***"}], "server_url": "http://h"})
        );
    }

    #[test]
    fn a_secret_below_any_nesting_is_not_kept() {
        let mut body = json!({"apikey": "s3cret"});
        for _ in 0..100 {
            body = json!([body]);
        }
        assert!(!redacted(body).contains("s3cret"));
    }
}
