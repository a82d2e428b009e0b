//! Slack's egress under the contract of all outlets.

use serde_json::{Value, json};
use wiremock::ResponseTemplate;

use super::MAX_TEXT_CHARS;
use crate::reply::contract;

fn says(body: Value) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(body)
}

fn case() -> contract::Case {
    contract::Case {
        platform: "slack",
        settings: json!({}),
        channel: "C1",
        thread: Some("170.0"),
        posted: (says(json!({ "ok": true, "ts": "171.1" })), "171.1"),
        limited: (ResponseTemplate::new(429).insert_header("retry-after", "7"), 7_000),
        refused: vec![
            (says(json!({ "ok": false, "error": "not_in_channel" })), "not_in_channel"),
            (says(json!({ "ok": false, "error": "invalid_auth" })), "invalid_auth"),
        ],
        gone: Some(says(json!({ "ok": false, "error": "message_not_found" }))),
        text_of: |body| body["text"].as_str().unwrap_or_default().to_owned(),
        length: |text| text.chars().count(),
        max_length: MAX_TEXT_CHARS,
    }
}

contract::egress_contract!(case());
