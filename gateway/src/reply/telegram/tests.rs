//! Telegram's egress under the contract of all outlets, and what is its own.

use serde_json::{Value, json};
use wiremock::ResponseTemplate;

use super::*;
use crate::reply::contract::{self, view};
use aof_shared::action::ApprovalStatus;

fn says(status: u16, body: Value) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(body)
}

fn no(status: u16, description: &str) -> ResponseTemplate {
    says(status, json!({ "ok": false, "error_code": status, "description": description }))
}

fn case() -> contract::Case {
    let limit = json!({ "ok": false, "error_code": 429, "parameters": { "retry_after": 7 } });
    contract::Case {
        platform: "telegram",
        settings: json!({}),
        channel: "-1001234567890",
        thread: Some("7/42"),
        posted: (says(200, json!({ "ok": true, "result": { "message_id": 171 } })), "171"),
        limited: (says(429, limit), 7_000),
        refused: vec![
            (no(400, "Bad Request: chat not found"), "chat_not_found"),
            (no(403, "Forbidden: bot was kicked from the group chat"), "not_in_channel"),
            (no(401, "Unauthorized"), "invalid_auth"),
        ],
        gone: Some(no(400, "Bad Request: message to edit not found")),
        text_of: |body| body["text"].as_str().unwrap_or_default().to_owned(),
        length: |text| Unit::Utf16.length(text),
        max_length: MAX_TEXT_UNITS,
    }
}

contract::egress_contract!(case());

fn sent(body: Body) -> (Method, Value) {
    let reply = case().answer("hi");
    request(&reply.to, &Piece { id: reply.id, body })
}

#[test]
fn an_answer_goes_into_its_topic_and_replies_to_who_asked() {
    let (method, body) = sent(Body::Text("**hi** @all".to_owned()));
    assert_eq!(method, Method::Send);
    assert_eq!(body["chat_id"], -1_001_234_567_890_i64);
    assert_eq!(body["message_thread_id"], 7);
    let reply = json!({ "message_id": 42, "allow_sending_without_reply": true });
    assert_eq!(body["reply_parameters"], reply);
    assert_eq!(body["text"], "hi @all");
    assert_eq!(body["entities"], json!([{ "type": "bold", "offset": 0, "length": 2 }]));
    assert!(body.get("parse_mode").is_none(), "nothing in a text is markup");
}

#[test]
fn a_card_has_buttons_while_it_is_open_and_none_afterwards() {
    let (_, body) = sent(Body::Card { view: Box::new(view()), replaces: None });
    let row = &body["reply_markup"]["inline_keyboard"][0];
    for (button, what) in [(&row[0], APPROVE), (&row[1], DENY)] {
        let data = button["callback_data"].as_str().expect("text");
        assert_eq!(data, format!("{what}{}", view().id));
        assert!(data.len() <= 64, "{data}");
    }
    let done = ApprovalView { status: ApprovalStatus::Denied, ..view() };
    let (method, body) =
        sent(Body::Card { view: Box::new(done), replaces: Some("171".to_owned()) });
    assert_eq!((method, &body["message_id"]), (Method::EditText, &json!(171)));
    assert_eq!(body["reply_markup"], json!({ "inline_keyboard": [] }));
}

#[test]
fn the_largest_card_fits_into_a_message() {
    let long = "🦀".repeat(5_000);
    let mut view = view();
    view.argv = vec!["echo".to_owned(), long.clone()];
    view.target.clone_from(&long);
    view.rule.clone_from(&long);
    view.outcome = Some(long.clone());
    view.requester.user.clone_from(&long);
    view.quorum.approvers = vec![long; 50];
    let (text, _) = drawn(&view);
    let units = Unit::Utf16.length(&text.text);
    assert!(units <= MAX_TEXT_UNITS, "{units}");
}

#[test]
fn a_group_has_a_limit_that_a_person_has_not() {
    let scopes = |channel: &str| {
        let mut to = case().answer("hi").to;
        to.channel = channel.to_owned();
        paces(&to).iter().map(|pace| (pace.label, pace.limit)).collect::<Vec<_>>()
    };
    let (chat, bot) = (("telegram/chat", 1), ("telegram/bot", 30));
    assert_eq!(scopes("42"), [chat, bot]);
    assert_eq!(scopes("-100"), [chat, ("telegram/group", 20), bot]);
}
