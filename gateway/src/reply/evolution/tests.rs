//! What goes out to Evolution, against a stub of its API.

use aof_shared::action::{ApprovalStatus, ApprovalView};
use aof_shared::ids::PlatformName;
use serde_json::json;
use wiremock::ResponseTemplate;

use super::*;
use crate::reply::contract;

fn to(channel: &str) -> Address {
    Address {
        tenant: "org-a".parse().expect("a name"),
        platform: PlatformName::new("evolution").expect("a plain name"),
        instance: "main".parse().expect("a name"),
        channel: channel.to_owned(),
        thread: Some("ASKED".to_owned()),
    }
}

#[test]
fn a_person_is_a_number_and_a_group_is_quoted_in() {
    let text = Body::Text("hello".to_owned());
    let direct = request(&to("15550002000@s.whatsapp.net"), &text);
    assert_eq!(direct, json!({ "number": "15550002000", "text": "hello" }));
    let opaque = request(&to("82@lid"), &text);
    assert_eq!(opaque, json!({ "number": "82@lid", "text": "hello" }));
    let group = request(&to("120@g.us"), &text);
    let quoted = json!({ "key": { "remoteJid": "120@g.us", "fromMe": false, "id": "ASKED" } });
    assert_eq!(group, json!({ "number": "120@g.us", "text": "hello", "quoted": quoted }));
}

#[test]
fn a_card_says_how_to_vote_and_its_outcome_quotes_it() {
    let view = Box::new(contract::view());
    let card = Body::Card { view: view.clone(), replaces: None };
    let card = request(&to("15550002000@s.whatsapp.net"), &card);
    let text = card["text"].as_str().expect("text");
    assert!(text.contains("👍") && text.contains("rm -rf /srv/old"), "{text}");
    assert!(card["quoted"].is_null(), "{card}");
    let done = Box::new(ApprovalView { status: ApprovalStatus::Denied, ..*view });
    let outcome = Body::Card { view: done, replaces: Some("CARD".to_owned()) };
    let outcome = request(&to("15550002000@s.whatsapp.net"), &outcome);
    assert_eq!(outcome["quoted"]["key"]["id"], "CARD");
    assert_eq!(outcome["quoted"]["key"]["fromMe"], true);
    assert!(!outcome["text"].as_str().expect("text").contains("👍"), "nothing to vote on");
}

fn case() -> contract::Case {
    let posted = json!({ "key": { "remoteJid": "15550002000@s.whatsapp.net", "fromMe": true,
        "id": "3EB0SENT" }, "status": "PENDING" });
    let absent = json!({ "status": 400, "response": { "message": [{ "exists": false }] } });
    contract::Case {
        platform: "evolution",
        settings: json!({ "instance_name": "ops" }),
        channel: "15550002000@s.whatsapp.net",
        thread: Some("ASKED"),
        posted: (ResponseTemplate::new(201).set_body_json(posted), "3EB0SENT"),
        limited: (ResponseTemplate::new(429).insert_header("retry-after", "7"), 7_000),
        refused: vec![
            (ResponseTemplate::new(401), "invalid_auth"),
            (ResponseTemplate::new(400).set_body_json(absent), "undeliverable"),
        ],
        gone: None,
        text_of: |request| request["text"].as_str().expect("text").to_owned(),
        length: |text| card::UNIT.length(text),
        max_length: card::MAX_TEXT,
    }
}

contract::egress_contract!(case());
