//! What Slack sends, and what we make of it.

use aof_shared::action::{Choice, Vote, VoteTarget};
use aof_shared::ids::{InstanceName, PlatformName, TenantId};
use aof_shared::message::{Message, MessageKind};
use axum::http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::*;
use crate::platform::{Inbound, contract};
use crate::testing::sign;

const NOW_MS: UnixMs = 1_700_000_000_000;
const ACTION: &str = "0b7f3a36-6d34-5b5c-9b55-0e6b0c1f2a3b";

/// An instance of tenant `acme` with these settings.
pub(crate) fn instance(settings: &Value) -> Instance {
    let settings = settings.as_object().expect("an object").clone();
    Instance {
        name: InstanceName::new("main").expect("a plain name"),
        tenant: TenantId::new("acme").expect("a plain name"),
        platform: PlatformName::slack(),
        bot_token: None,
        signing_secret: Some(Secret::new("s")),
        api_base_url: None,
        needs_channel_names: false,
        settings: settings.into_iter().collect(),
    }
}

fn deliver(body: &str, form: bool, settings: &Value) -> Result<Delivery, Malformed> {
    let mut headers = HeaderMap::new();
    let kind = if form { "application/x-www-form-urlencoded" } else { "application/json" };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    let signed = Signed { headers: &headers, event: None, body: body.as_bytes(), now_ms: NOW_MS };
    Slack.normalize(&signed, &instance(settings))
}

/// The one thing that a body carries. Slack shows the answer to a form to the person.
fn read(body: &str, form: bool, settings: &Value) -> Result<Inbound, Malformed> {
    let delivery = deliver(body, form, settings)?;
    assert_eq!(delivery.answer, if form { Answer::Empty } else { Answer::Receipt }, "{body}");
    let [item] = <[Inbound; 1]>::try_from(delivery.items).expect("one thing");
    Ok(item)
}

/// An `event_callback` around `event`, installed with the bot `UBOT`.
fn callback(event: &Value) -> String {
    let installed = json!([{ "team_id": "T1", "user_id": "UBOT", "is_bot": true }]);
    let kind = "event_callback";
    json!({ "token": "t0k", "type": kind, "event_id": "Ev1", "event": event, "authorizations": installed })
        .to_string()
}

fn event(event: &Value) -> Inbound {
    read(&callback(event), false, &json!({})).expect("a well-formed event")
}

fn message(sent: &Value) -> Message {
    match event(sent) {
        Inbound::Message(message) => *message,
        other => panic!("{sent} became {other:?}"),
    }
}

fn said(kind: &str, text: &str) -> Value {
    let ts = "1700000000.000100";
    json!({ "type": kind, "channel": "C1", "user": "U1", "text": text, "ts": ts, "event_ts": ts })
}

fn with(mut event: Value, name: &str, value: Value) -> Value {
    event[name] = value;
    event
}

#[test]
fn both_deliveries_of_a_mention_are_one_message() {
    let mention = message(&said("app_mention", "<@UBOT> scale web &amp; db"));
    let plain = message(&said("message", "<@UBOT> scale web &amp; db"));
    assert_eq!(mention.id, plain.id);
    for one in [mention, plain] {
        assert_eq!((one.kind, one.text.as_str()), (MessageKind::Mention, "scale web & db"));
        assert_eq!(one.thread.as_deref(), Some("1700000000.000100"));
        assert_eq!(one.conversation, "C1:1700000000.000100");
        assert_eq!((one.sent_at_ms, one.received_at_ms), (NOW_MS, NOW_MS));
        assert!(!one.raw.contains("t0k") && one.raw.contains("scale"), "{}", one.raw);
    }
}

#[test]
fn a_message_is_what_its_place_and_text_make_it() {
    let check = |sent: Value, kind: MessageKind, direct: bool, thread: &str| {
        let message = message(&sent);
        assert_eq!((message.kind, message.channel.direct), (kind, direct), "{sent}");
        assert_eq!(message.thread.as_deref(), Some(thread), "{sent}");
    };
    let own = "1700000000.000100";
    check(said("message", "hi"), MessageKind::Message, false, own);
    check(said("message", "hi <@UBOTX>"), MessageKind::Message, false, own);
    check(said("message", "hi <@UBOT|bot>"), MessageKind::Mention, false, own);
    check(with(said("message", "hi"), "channel", json!("D1")), MessageKind::Mention, true, own);
    check(
        with(said("message", "hi"), "channel_type", json!("im")),
        MessageKind::Mention,
        true,
        own,
    );
    let threaded = with(said("message", "hi"), "thread_ts", json!("1699999999.000001"));
    check(threaded, MessageKind::Message, false, "1699999999.000001");
    check(
        with(said("message", "hi"), "subtype", json!("thread_broadcast")),
        MessageKind::Message,
        false,
        own,
    );
}

#[test]
fn the_instance_names_the_bot_where_the_installation_does_not() {
    let body =
        json!({ "type": "event_callback", "event": said("message", "<@UOWN> hi") }).to_string();
    let read = read(&body, false, &json!({ "bot_user_id": "UOWN" })).expect("a message");
    let Inbound::Message(message) = read else { panic!("{read:?}") };
    assert_eq!((message.kind, message.text.as_str()), (MessageKind::Mention, "hi"));
}

#[test]
fn a_channel_that_changed_is_named_by_its_id() {
    let check = |changed: Value, expected: Option<&str>| {
        let channel = match event(&changed) {
            Inbound::ChannelChanged { channel } => Some(channel),
            _ => None,
        };
        assert_eq!(channel.as_deref(), expected, "{changed}");
    };
    let renamed = json!({ "id": "C1", "name": "production" });
    check(json!({ "type": "channel_rename", "channel": renamed }), Some("C1"));
    check(json!({ "type": "channel_archive", "channel": "C2", "user": "U1" }), Some("C2"));
    check(json!({ "type": "channel_archive" }), None);
    check(json!({ "type": "channel_created", "channel": renamed }), None);
}

#[test]
fn files_travel_by_reference_and_only_with_text() {
    let file = json!([{ "mimetype": "image/png", "name": "a.png", "url_private": "https://f/a", "size": 7 }]);
    let shared = with(said("message", "look"), "subtype", json!("file_share"));
    let media = message(&with(shared.clone(), "files", file.clone())).media;
    assert_eq!((media[0].url.as_str(), media[0].size_bytes), ("https://f/a", Some(7)));
    let silent = with(with(shared, "files", file), "text", json!(""));
    assert_eq!(event(&silent), Inbound::Ignored("no text"));
}

#[test]
fn noise_is_ignored_with_its_reason() {
    let check = |sent: Value, reason: &str| match event(&sent) {
        Inbound::Ignored(why) => assert_eq!(why, reason, "{sent}"),
        other => panic!("{sent} became {other:?}"),
    };
    let hi = || said("message", "hi");
    check(with(hi(), "user", json!("UBOT")), "own message");
    check(with(hi(), "bot_id", json!("B1")), "another bot");
    check(with(with(hi(), "subtype", json!("bot_message")), "user", Value::Null), "another bot");
    check(with(hi(), "subtype", json!("message_changed")), "edit");
    check(with(hi(), "subtype", json!("message_deleted")), "edit");
    check(with(hi(), "subtype", json!("channel_join")), "subtype");
    check(with(hi(), "hidden", json!(true)), "hidden");
    check(with(hi(), "user", Value::Null), "no user");
    check(with(hi(), "text", json!("")), "no text");
    check(json!({ "type": "member_joined_channel", "user": "U1" }), "membership");
    check(json!({ "type": "tokens_revoked", "tokens": {} }), "access revoked");
    check(json!({ "type": "user_change", "user": { "id": "U1" } }), "event type");
}

fn reacted(kind: &str, emoji: &str, user: &str) -> Inbound {
    let item = json!({ "type": "message", "channel": "C1", "ts": "1.2" });
    let ts = "1700000000.5";
    event(&json!({ "type": kind, "user": user, "reaction": emoji, "item": item, "event_ts": ts }))
}

fn vote_of(inbound: Inbound) -> Vote {
    match inbound {
        Inbound::Vote { vote, .. } => *vote,
        other => panic!("no vote: {other:?}"),
    }
}

#[test]
fn a_persons_reaction_is_a_vote_on_the_message_it_is_on() {
    let check = |kind: &str, emoji: &str, choice: Choice| {
        let vote = vote_of(reacted(kind, emoji, "U1"));
        assert_eq!((vote.choice, vote.voter.user.as_str()), (choice, "U1"), "{kind} {emoji}");
        assert_eq!(vote.cast_at_ms, NOW_MS + 500);
        let VoteTarget::Posted { at, message } = vote.target else { panic!("no posted target") };
        assert_eq!((at.channel.as_str(), message.as_str()), ("C1", "1.2"));
    };
    for emoji in ["+1", "thumbsup", "white_check_mark", "heavy_check_mark", "+1::skin-tone-3"] {
        check("reaction_added", emoji, Choice::Approve);
    }
    for emoji in ["-1", "thumbsdown", "x", "no_entry"] {
        check("reaction_added", emoji, Choice::Deny);
    }
    check("reaction_removed", "+1", Choice::Withdraw);
    for (emoji, user) in [("+1", "UBOT"), ("eyes", "U1"), ("", "U1"), ("+1", "")] {
        let inbound = reacted("reaction_added", emoji, user);
        assert!(matches!(inbound, Inbound::Ignored(..)), "{emoji} by {user}: {inbound:?}");
    }
}

fn form(fields: &[(&str, &str)]) -> String {
    serde_urlencoded::to_string(fields).expect("pairs are a form")
}

fn clicked(action: &str, value: &str) -> Result<Inbound, Malformed> {
    let actions = json!([
        { "type": "datepicker", "action_id": { "odd": 1 } },
        { "action_id": action, "value": value, "action_ts": "1700000000.25" },
    ]);
    let user = json!({ "id": "U1" });
    let payload =
        json!({ "type": "block_actions", "user": user, "trigger_id": "1.2.x", "actions": actions });
    read(&form(&[("payload", &payload.to_string())]), true, &json!({}))
}

#[test]
fn our_buttons_are_votes_and_other_actions_are_not() {
    let check = |action: &str, choice: Choice| {
        let vote = vote_of(clicked(action, ACTION).expect("a click"));
        assert_eq!(vote.choice, choice);
        let id = ACTION.parse().expect("an id");
        assert_eq!(vote.target, VoteTarget::Action { id });
    };
    check("aof.approve", Choice::Approve);
    check("aof.deny", Choice::Deny);
    let other = clicked("theirs", ACTION);
    assert_eq!(other.ok(), Some(Inbound::Ignored("other action")));
    assert!(clicked("aof.approve", "no id").is_err());
}

#[test]
fn a_slash_command_is_a_message_without_its_credentials() {
    let body = form(&[
        ("token", "t0k"),
        ("command", "/ops"),
        ("text", "get pods &amp; <@U2|ann>"),
        ("user_id", "U1"),
        ("user_name", "bo"),
        ("channel_id", "C1"),
        ("channel_name", "privategroup"),
        ("response_url", "https://hooks/secret"),
        ("trigger_id", "1.2.x"),
    ]);
    let read = read(&body, true, &json!({})).expect("a command");
    let Inbound::Message(message) = read else { panic!("{read:?}") };
    assert_eq!((message.kind, message.text.as_str()), (MessageKind::Command, "get pods & @U2"));
    assert_eq!((message.event_id.as_str(), message.channel.name), ("1.2.x", None));
    assert!(!message.raw.contains("t0k") && !message.raw.contains("secret"), "{}", message.raw);
}

#[test]
fn what_slack_does_not_send_is_malformed() {
    let check = |body: &str, form: bool| {
        let read = read(body, form, &json!({}));
        assert!(read.is_err(), "{body:?} became {read:?}");
    };
    for body in ["", "{", "[]", "null", "{}", r#"{"type":1}"#, r#"{"type":"event_callback"}"#] {
        check(body, false);
    }
    check(r#"{"type":"url_verification"}"#, false);
    check(r#"{"type":"event_callback","event":{}}"#, false);
    check(&callback(&with(said("message", "hi"), "ts", json!("soon"))), false);
    check(&callback(&with(said("message", "hi"), "channel", Value::Null)), false);
    check("command=/x", true);
    check("payload=%7B", true);
    check(&form(&[("command", "/x"), ("user_id", "U"), ("channel_id", "C")]), true);
}

#[test]
fn a_challenge_is_sent_back() {
    let read = deliver(r#"{"type":"url_verification","challenge":"abc"}"#, false, &json!({}));
    assert_eq!(read.ok(), Some(Delivery::answered(json!({ "challenge": "abc" }))));
}

#[test]
fn times_of_slack_are_milliseconds() {
    let check = |ts: &str, expected: Option<u64>| assert_eq!(ts_ms(ts), expected, "{ts}");
    check("1595926230.009600", Some(1_595_926_230_009));
    check("1595926230.5", Some(1_595_926_230_500));
    check("1595926230", Some(1_595_926_230_000));
    check("", None);
    check("x.y", None);
    check("1.é", None);
    check("99999999999999999999.1", None);
}

fn case() -> contract::Case {
    let body = |event: &Value| callback(event);
    contract::Case {
        platform: &Slack,
        instance: contract::account("slack", "a signing secret", &json!({})),
        other_secret: "another secret",
        prove: |secret, body, at| sign(secret, at, body).to_vec(),
        window_secs: Some(300),
        covers_body: true,
        content_type: "application/json",
        message: contract::Said {
            body: body(&said("app_mention", "<@UBOT> uname -r")),
            kind: MessageKind::Mention,
            channel: "C1",
            user: "U1",
            text: "uname -r",
        },
        echo: Some(body(&with(said("message", "done"), "user", json!("UBOT")))),
        vote: Some((
            body(&json!({ "type": "reaction_added", "user": "U2", "reaction": "+1",
                "item": { "type": "message", "channel": "C1", "ts": "1.2" } })),
            Choice::Approve,
        )),
        noise: vec![body(&json!({ "type": "member_joined_channel", "user": "U1" }))],
    }
}

contract::ingress_contract!(case());
