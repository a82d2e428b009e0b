//! Discord's payloads as messages and votes, and the contract of all platforms.

mod fixtures;

use aof_shared::action::VoteTarget;
use aof_shared::ids::ActionId;
use aof_shared::message::MessageKind;
use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};
use uuid::Uuid;

use super::event::Source;
use super::*;
use crate::platform::contract::{self, account};
use crate::platform::{Answer, Inbound};
use crate::testing::AT;

/// The bot's user id.
const BOT: &str = "900000000000000001";
const SERVER: &str = "200000000000000001";
const CHANNEL: &str = "300000000000000001";
const THREAD: &str = "300000000000000077";
const PERSON: &str = "100000000000000001";

/// Two applications' keys; their seeds differ in one byte.
fn pair(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(seed: u8) -> String {
    hex::encode(pair(seed).verifying_key().as_bytes())
}

fn action() -> ActionId {
    ActionId(Uuid::from_u128(7))
}

fn command(data: &Value) -> Value {
    json!({"type": 2, "id": "400000000000000001", "application_id": "800000000000000001",
        "token": "t0ken", "guild_id": SERVER, "channel_id": CHANNEL, "version": 1,
        "channel": {"id": CHANNEL, "type": 0},
        "member": {"user": {"id": PERSON, "username": "ann"}}, "data": data})
}

fn button(custom_id: &str) -> Value {
    let mut click = command(&json!({"custom_id": custom_id, "component_type": 2}));
    click["type"] = json!(3);
    click
}

fn case() -> contract::Case {
    contract::Case {
        platform: &Discord,
        instance: account("discord", &public(1), &json!({})),
        other_secret: Box::leak(public(2).into_boxed_str()),
        prove: |secret, body, at| {
            let seed = if secret == public(1) { 1 } else { 2 };
            let signed = pair(seed).sign(&[at.to_string().as_bytes(), body].concat());
            vec![
                ("x-signature-ed25519", hex::encode(signed.to_bytes())),
                ("x-signature-timestamp", at.to_string()),
            ]
        },
        window_secs: Some(300),
        covers_body: true,
        content_type: "application/json",
        message: contract::Said {
            body: command(&json!({"name": "ops", "options": [
                {"name": "task", "type": 3, "value": "uname -r"}]}))
            .to_string(),
            kind: MessageKind::Command,
            channel: CHANNEL,
            user: PERSON,
            text: "uname -r",
        },
        echo: None,
        vote: Some((button(&format!("aof.approve:{}", action())).to_string(), Choice::Approve)),
        noise: vec![button("mine").to_string(), json!({"type": 99}).to_string()],
    }
}

contract::ingress_contract!(case());

fn read(body: &Value, settings: &Value) -> Delivery {
    let instance = account("discord", &public(1), settings);
    interaction::normalize(&body.to_string(), &instance, AT * 1_000).expect("an interaction")
}

fn only(delivery: Delivery) -> Inbound {
    let [item] = <[Inbound; 1]>::try_from(delivery.items).expect("one thing");
    item
}

#[test]
fn each_interaction_is_answered_as_discord_wants() {
    let autocomplete = {
        let mut typed = command(&json!({"name": "ops"}));
        typed["type"] = json!(4);
        typed
    };
    let form = {
        let row = json!([{"type": 1, "components": [{"type": 4, "value": "why"}]}]);
        let mut form = command(&json!({"custom_id": "form", "components": row}));
        form["type"] = json!(5);
        form
    };
    for (body, answer) in [
        (json!({"type": 1, "id": "1", "token": "t"}), json!({"type": 1})),
        (command(&json!({"name": "ops"})), json!({"type": 5})),
        (form, json!({"type": 5})),
        (button(&format!("aof.deny:{}", action())), json!({"type": 6})),
        (button("mine"), json!({"type": 6})),
        (autocomplete, json!({"type": 8, "data": {"choices": []}})),
    ] {
        assert_eq!(read(&body, &json!({})).answer, Answer::Json(answer), "{body}");
    }
}

#[test]
fn a_button_names_its_action_whoever_clicks() {
    let clicked = read(&button(&format!("aof.deny:{}", action())), &json!({}));
    let Inbound::Vote { vote, event_id } = only(clicked) else { panic!("no vote") };
    assert_eq!(vote.target, VoteTarget::Action { id: action() });
    assert_eq!((vote.choice, vote.voter.user.as_str()), (Choice::Deny, PERSON));
    assert_eq!(event_id, "400000000000000001");
}

#[test]
fn a_command_in_a_thread_belongs_to_its_channel_and_is_answered_in_the_thread() {
    let mut asked = command(&json!({"name": "ops"}));
    asked["channel_id"] = json!(THREAD);
    asked["channel"] = json!({"id": THREAD, "type": 11, "parent_id": CHANNEL});
    let Inbound::Message(message) = only(read(&asked, &json!({}))) else { panic!("no message") };
    assert_eq!((message.channel.id.as_str(), message.thread.as_deref()), (CHANNEL, Some(THREAD)));
}

#[test]
fn the_token_of_a_command_is_noted_and_stands_nowhere_else() {
    let asked = command(&json!({"name": "ops"}));
    let delivery = read(&asked, &json!({}));
    let Inbound::Message(message) = &delivery.items[0] else { panic!("no message") };
    assert!(!serde_json::to_string(message).expect("JSON").contains("t0ken"), "{message:?}");
    let note = interaction::note(asked.to_string().as_bytes(), &delivery);
    let (name, note) = note.expect("a note");
    assert_eq!(name, interaction::note_name(message.id));
    assert!(note.value.expose().contains("t0ken"));
    let made_ms = made_at_ms("400000000000000001").expect("an id");
    assert_eq!(note.expires_at_ms, made_ms + 15 * 60_000);
    assert!(!format!("{note:?}").contains("t0ken"), "{note:?}");
    let mut odd = asked;
    odd["token"] = json!("../../users/@me");
    assert_eq!(interaction::note(odd.to_string().as_bytes(), &delivery), None, "it is no token");
}

#[test]
fn other_servers_are_told_so_and_nothing_more() {
    for (guilds, admitted) in [
        (json!([SERVER]), true),
        (json!(SERVER), true),
        (json!(format!("1, {SERVER}")), true),
        (json!(["200000000000000009"]), false),
        (json!([]), false),
    ] {
        let delivery = read(&command(&json!({"name": "ops"})), &json!({"guild_ids": guilds}));
        assert_eq!(matches!(only(delivery), Inbound::Message(_)), admitted, "{guilds}");
    }
}

fn dispatched(kind: &str, data: &Value, parent: Option<&str>) -> Inbound {
    let instance = account("discord", &public(1), &json!({"guild_ids": [SERVER]}));
    let source =
        Source { instance: &instance, bot: BOT, parent, delivery: "s:7", now_ms: AT * 1_000 };
    event::normalize(kind, &data.to_string(), &source).expect("Discord's")
}

fn written(change: Value) -> Value {
    let mut message = json!({"type": 0, "id": "500000000000000001", "channel_id": CHANNEL,
        "guild_id": SERVER, "author": {"id": PERSON, "username": "ann"}, "content": "it is down",
        "mentions": [], "attachments": []});
    let change = change.as_object().cloned().unwrap_or_default();
    message.as_object_mut().expect("an object").extend(change);
    message
}

#[test]
fn messages_are_told_apart_by_whom_they_speak_to() {
    let bot = json!({"id": BOT, "bot": true});
    for (change, kind, direct) in [
        (json!({}), MessageKind::Message, false),
        (
            json!({"mentions": [bot], "content": format!("<@{BOT}> it is down")}),
            MessageKind::Mention,
            false,
        ),
        (
            json!({"type": 19, "message_reference": {"message_id": "5"},
            "referenced_message": {"author": bot}}),
            MessageKind::Mention,
            false,
        ),
        (json!({"guild_id": null}), MessageKind::Mention, true),
    ] {
        let Inbound::Message(message) = dispatched("MESSAGE_CREATE", &written(change), None) else {
            panic!("no message")
        };
        assert_eq!((message.kind, message.channel.direct), (kind, direct));
        assert_eq!(message.text, "it is down");
        assert_eq!(message.conversation, CHANNEL);
        let reply = (!direct).then(|| "/500000000000000001".to_owned());
        assert_eq!(message.thread, reply, "it is replied to where others write too");
    }
}

#[test]
fn a_message_in_a_thread_belongs_to_its_channel() {
    let data = written(json!({"channel_id": THREAD}));
    let Inbound::Message(message) = dispatched("MESSAGE_CREATE", &data, Some(CHANNEL)) else {
        panic!("no message")
    };
    assert_eq!(message.channel.id, CHANNEL);
    assert_eq!(message.thread.as_deref(), Some("300000000000000077/500000000000000001"));
    assert_eq!(message.conversation, THREAD, "a thread is a conversation of its own");
}

#[test]
fn echoes_bots_history_and_other_servers_start_nothing() {
    for (kind, change, reason) in [
        ("MESSAGE_CREATE", json!({"author": {"id": BOT, "bot": true}}), "own message"),
        ("MESSAGE_CREATE", json!({"author": {"id": "6", "bot": true}}), "another bot"),
        ("MESSAGE_CREATE", json!({"webhook_id": "6"}), "another bot"),
        ("MESSAGE_CREATE", json!({"type": 7}), "kind of message"),
        ("MESSAGE_CREATE", json!({"guild_id": "200000000000000009"}), "another server"),
        ("MESSAGE_CREATE", json!({"content": ""}), "no text"),
        ("MESSAGE_UPDATE", json!({}), "edit"),
        ("MESSAGE_DELETE", json!({}), "edit"),
        ("PRESENCE_UPDATE", json!({}), "event type"),
    ] {
        let ignored = dispatched(kind, &written(change), None);
        assert_eq!(ignored, Inbound::Ignored(reason), "{kind}");
    }
    let called = json!({"content": format!("<@{BOT}>"), "mentions": [{"id": BOT}]});
    let empty = dispatched("MESSAGE_CREATE", &written(called), None);
    assert!(matches!(empty, Inbound::Empty(_)), "{empty:?}");
}

#[test]
fn files_come_by_reference() {
    let file = json!({"id": "1", "filename": "log.txt", "content_type": "text/plain", "size": 3,
        "url": "https://cdn.example/log.txt"});
    let Inbound::Message(message) =
        dispatched("MESSAGE_CREATE", &written(json!({"attachments": [file]})), None)
    else {
        panic!("no message")
    };
    assert_eq!(message.media[0].url, "https://cdn.example/log.txt");
    assert_eq!(
        (message.media[0].mime.as_str(), message.media[0].size_bytes),
        ("text/plain", Some(3))
    );
}

#[test]
fn reactions_are_votes_and_their_removal_takes_them_back() {
    let reaction = |emoji: Value, user: &str| {
        json!({"user_id": user, "channel_id": CHANNEL, "message_id": "6", "guild_id": SERVER,
            "emoji": emoji})
    };
    let named = |name: &str| json!({"id": null, "name": name});
    for (kind, emoji, choice) in [
        ("MESSAGE_REACTION_ADD", "👍", Choice::Approve),
        ("MESSAGE_REACTION_ADD", "👍🏽", Choice::Approve),
        ("MESSAGE_REACTION_ADD", "✔️", Choice::Approve),
        ("MESSAGE_REACTION_ADD", "👎", Choice::Deny),
        ("MESSAGE_REACTION_REMOVE", "👍", Choice::Withdraw),
    ] {
        let item = dispatched(kind, &reaction(named(emoji), PERSON), None);
        let Inbound::Vote { vote, event_id } = item else { panic!("{item:?}") };
        assert_eq!((vote.choice, event_id.as_str()), (choice, "s:7"), "{emoji}");
        let VoteTarget::Posted { at, message } = vote.target else { panic!("no post") };
        assert_eq!((at.channel.as_str(), message.as_str()), (CHANNEL, "6"));
    }
    let bot = json!({"member": {"user": {"id": "7", "bot": true}}});
    let mut by_bot = reaction(named("👍"), "7");
    by_bot.as_object_mut().expect("one").extend(bot.as_object().cloned().expect("one"));
    for (data, reason) in [
        (reaction(named("🎉"), PERSON), "other emoji"),
        (reaction(json!({"id": "9", "name": "👍"}), PERSON), "other emoji"),
        (reaction(named("👍"), BOT), "own reaction"),
        (by_bot, "another bot"),
    ] {
        let ignored = dispatched("MESSAGE_REACTION_ADD", &data, None);
        assert_eq!(ignored, Inbound::Ignored(reason), "{data}");
    }
    let cleared = dispatched("MESSAGE_REACTION_REMOVE_ALL", &json!({}), None);
    assert_eq!(cleared, Inbound::Ignored("reactions cleared"));
}
