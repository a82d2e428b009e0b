//! Discord's egress under the contract of all outlets.

mod calls;

use serde_json::{Value, json};
use wiremock::ResponseTemplate;

use super::MAX_TEXT_UNITS;
use crate::reply::contract;

fn says(status: u16, body: Value) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(body)
}

fn case() -> contract::Case {
    contract::Case {
        platform: "discord",
        settings: json!({}),
        channel: "300000000000000001",
        thread: Some("300000000000000077"),
        posted: (
            says(200, json!({"id": "500000000000000002", "channel_id": "300000000000000077"})),
            "500000000000000002",
        ),
        limited: (
            says(429, json!({"message": "x", "retry_after": 1.5, "global": false}))
                .insert_header("retry-after", "2"),
            1_500,
        ),
        refused: vec![
            (says(403, json!({"code": 50_001, "message": "Missing Access"})), "missing_access"),
            (says(404, json!({"code": 10_003, "message": "Unknown"})), "channel_not_found"),
            (says(400, json!({"code": 50_035, "message": "Invalid"})), "invalid_body"),
            (says(401, json!({"code": 0, "message": "401: Unauthorized"})), "unauthorized"),
        ],
        gone: Some(says(404, json!({"code": 10_008, "message": "Unknown Message"}))),
        text_of: |body| body["content"].as_str().unwrap_or_default().to_owned(),
        length: |text| text.encode_utf16().count(),
        max_length: MAX_TEXT_UNITS,
    }
}

contract::egress_contract!(case());
