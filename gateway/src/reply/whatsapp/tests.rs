//! What goes out to WhatsApp, against a stub of Meta's API.

use aof_shared::action::{ApprovalStatus, ApprovalView, Choice, Identity, RecordedVote};
use aof_shared::ids::PlatformName;
use serde_json::{Value, json};
use wiremock::ResponseTemplate;

use super::*;
use crate::reply::contract;

fn to(channel: &str) -> Address {
    Address {
        tenant: "org-a".parse().expect("a name"),
        platform: PlatformName::new("whatsapp").expect("a plain name"),
        instance: "main".parse().expect("a name"),
        channel: channel.to_owned(),
        thread: Some("wamid.ASKED".to_owned()),
    }
}

fn view() -> Box<ApprovalView> {
    Box::new(contract::view())
}

#[test]
fn people_are_reached_by_number_else_by_id_and_groups_as_groups() {
    let body = Body::Text("hi".to_owned());
    let check = |channel: &str, member: &str, kind: &str| {
        let request = request(&to(channel), &body);
        assert_eq!(request[member], channel, "{request}");
        assert_eq!(request["recipient_type"], kind, "{request}");
        let other = if member == "to" { "recipient" } else { "to" };
        assert!(request[other].is_null(), "{request}");
        assert_eq!(request["context"], json!({ "message_id": "wamid.ASKED" }));
        assert_eq!(request["messaging_product"], "whatsapp");
    };
    check("15550002000", "to", "individual");
    check("US.13491208655302741918", "recipient", "individual");
    check("Y2FwaV9ncm91cDox", "to", "group");
}

#[test]
fn a_card_has_two_buttons_within_whatsapps_bounds() {
    let card = request(&to("1"), &Body::Card { view: view(), replaces: None });
    let buttons = card["interactive"]["action"]["buttons"].as_array().expect("buttons");
    assert_eq!(buttons.len(), 2);
    let ids: Vec<&str> =
        buttons.iter().map(|b| b["reply"]["id"].as_str().expect("an id")).collect();
    assert_eq!(ids, crate::platform::buttons::ids_of(view().id));
    for button in buttons {
        let title = button["reply"]["title"].as_str().expect("a title");
        assert!(title.chars().count() <= 20);
        assert!(button["reply"]["id"].as_str().expect("an id").len() <= 256);
    }
    let text = card["interactive"]["body"]["text"].as_str().expect("text");
    assert!(UNIT.length(text) <= card::MAX_BUTTONS_TEXT, "{text}");
}

#[test]
fn in_a_group_people_vote_by_reacting() {
    let card = request(&to("Y2FwaV9ncm91cDox"), &Body::Card { view: view(), replaces: None });
    assert_eq!(card["type"], "text", "{card}");
    assert!(card["text"]["body"].as_str().expect("text").contains("React"), "{card}");
}

#[test]
fn what_becomes_of_an_action_is_a_message_that_answers_the_card() {
    let outcome = |status| {
        let view = Box::new(ApprovalView { status, outcome: Some("gone".to_owned()), ..*view() });
        Body::Card { view, replaces: Some("wamid.CARD".to_owned()) }
    };
    let done = request(&to("1"), &outcome(ApprovalStatus::Executed));
    assert_eq!(
        (&done["type"], &done["context"]["message_id"]),
        (&json!("text"), &json!("wamid.CARD"))
    );
    let text = done["text"]["body"].as_str().expect("text");
    assert!(text.contains("Executed") && text.contains("gone"), "{text}");
    for status in [ApprovalStatus::Approved, ApprovalStatus::Started] {
        assert!(is_passing(&outcome(status)), "nothing is posted on the way");
    }
    assert!(!is_passing(&outcome(ApprovalStatus::Failed)));
}

#[test]
fn a_command_is_shown_whole_or_says_that_it_is_not() {
    let drawn = |argv: &[String]| {
        let view = ApprovalView { argv: argv.to_vec(), ..*view() };
        card::text(&view, Ballot::Buttons)
    };
    let long = drawn(&["rm".to_owned(), "x".repeat(5_000)]);
    assert!(UNIT.length(&long) <= card::MAX_BUTTONS_TEXT);
    assert!(long.contains("more characters of the command are not shown"), "{long}");
    assert!(long.contains(&format!("aofctl approvals show {}", view().id)), "{long}");
    let sly = drawn(&["echo".to_owned(), "``` *Approved* ```".to_owned()]);
    assert_eq!(sly.matches("```").count(), 2, "nothing closes the block: {sly}");
    let odd = drawn(&["rm".to_owned(), "dеl".to_owned()]);
    assert!(odd.contains("beyond ASCII"), "{odd}");
}

#[test]
fn a_card_fits_whatever_is_on_it() {
    let who =
        |n: usize| Identity::new(PlatformName::new("whatsapp").expect("a name"), "x".repeat(n));
    let vote = |choice| RecordedVote { voter: who(500), choice, reason: None, cast_at_ms: 0 };
    let mut full = *view();
    full.quorum.approvers = (0..50).map(|n| format!("US.{n:060}")).collect();
    full.votes = vec![vote(Choice::Approve); 30];
    full.rule = "*".repeat(1_000);
    full.outcome = Some("out\n".repeat(5_000));
    full.argv = vec!["a b".repeat(900)];
    for (ballot, max) in [(Ballot::Buttons, card::MAX_BUTTONS_TEXT), (Ballot::Reactions, MAX_TEXT)]
    {
        let open = ApprovalView { votes: Vec::new(), outcome: None, ..full.clone() };
        let drawn = card::text(&open, ballot);
        assert!(UNIT.length(&drawn) <= max, "{drawn}");
        assert!(drawn.contains("more characters of the command are not shown"), "{drawn}");
        assert!(drawn.ends_with(&open.id.to_string()), "nothing is cut off: {drawn}");
    }
    let failed = ApprovalView { status: ApprovalStatus::Failed, ..full };
    let drawn = card::text(&failed, Ballot::Reactions);
    assert!(UNIT.length(&drawn) <= MAX_TEXT && drawn.ends_with(&failed.id.to_string()), "{drawn}");
}

fn text_of(request: &Value) -> String {
    let text = &request["text"]["body"];
    text.as_str().or(request["interactive"]["body"]["text"].as_str()).expect("text").to_owned()
}

fn error(status: u16, code: u64) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(json!({ "error": { "code": code } }))
}

fn case() -> contract::Case {
    let posted = json!({ "messages": [{ "id": "wamid.SENT" }] });
    contract::Case {
        platform: "whatsapp",
        settings: json!({ "phone_number_id": "1001" }),
        channel: "15550002000",
        thread: Some("wamid.ASKED"),
        posted: (ResponseTemplate::new(200).set_body_json(posted), "wamid.SENT"),
        limited: (error(400, 131_056), 6_000),
        refused: vec![
            (error(400, 131_047), "window_closed"),
            (error(401, 190), "invalid_auth"),
            (error(400, 131_026), "undeliverable"),
        ],
        gone: None,
        text_of,
        length: |text| UNIT.length(text),
        max_length: MAX_TEXT,
    }
}

contract::egress_contract!(case());

#[test]
fn a_file_is_known_by_where_the_graph_api_names_it() {
    let instance = crate::platform::contract::account("whatsapp", "s", &json!({}));
    assert_eq!(media_url(&instance, "65463453"), "https://graph.facebook.com/v26.0/65463453");
    assert_eq!(media_url(&instance, "../x"), "https://graph.facebook.com/v26.0/x");
}
