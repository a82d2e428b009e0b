//! What Evolution sends, and what it is to us. Bodies are written after its source.

use aof_shared::action::{Choice, VoteTarget};
use aof_shared::message::{Message, MessageKind};
use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::*;
use crate::platform::{Inbound, buttons, contract};

const SECRET: &str = "a webhook secret";
const KEY: &str = "0000AAAA-4BBB";

fn instance() -> Instance {
    contract::account("evolution", SECRET, &json!({ "instance_name": "ops" }))
}

/// A body around `data`.
fn body(event: &str, data: &Value) -> String {
    json!({ "event": event, "instance": "ops", "data": data, "apikey": KEY,
        "sender": "15550001000@s.whatsapp.net", "date_time": "2025-11-16T14:49:42.155Z",
        "server_url": "http://evolution" })
    .to_string()
}

fn said(key: &Value, message: &Value) -> Value {
    let mut whole =
        json!({ "remoteJid": "15550002000@s.whatsapp.net", "fromMe": false, "id": "3EB0" });
    for (name, member) in key.as_object().expect("an object") {
        whole[name] = member.clone();
    }
    json!({ "key": whole, "pushName": "Ann", "message": message, "messageTimestamp": 1_700_000_000 })
}

fn text(key: &Value) -> Value {
    said(key, &json!({ "conversation": "get pods" }))
}

fn normalized(body: &str, event: Option<&str>) -> Result<Vec<Inbound>, Malformed> {
    let headers = HeaderMap::new();
    let signed =
        Signed { headers: &headers, event, body: body.as_bytes(), now_ms: 1_700_000_001_000 };
    Evolution.normalize(&signed, &instance()).map(|delivery| delivery.items)
}

fn read(data: &Value) -> Vec<Inbound> {
    normalized(&body("messages.upsert", data), None).expect("it is Evolution's")
}

fn one(data: &Value) -> Inbound {
    let [item] = <[Inbound; 1]>::try_from(read(data)).expect("one thing");
    item
}

fn message(data: &Value) -> Box<Message> {
    match one(data) {
        Inbound::Message(message) => message,
        other => panic!("{other:?}"),
    }
}

fn ignored(data: &Value) -> &'static str {
    match one(data) {
        Inbound::Ignored(reason) => reason,
        other => panic!("{other:?}"),
    }
}

fn vote(data: &Value) -> (VoteTarget, Choice, Vec<String>) {
    match one(data) {
        Inbound::Vote { vote, .. } => {
            let ids = vote.voter.ids().map(str::to_owned).collect();
            (vote.target, vote.choice, ids)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn all_three_shapes_of_data_are_read() {
    let single = text(&json!({}));
    let second = text(&json!({ "id": "3EB1" }));
    assert_eq!(read(&single).len(), 1);
    assert_eq!(read(&json!([single, second])).len(), 2);
    assert_eq!(read(&json!({ "messages": [single, second] })).len(), 2);
    assert!(matches!(&read(&json!([]))[..], [Inbound::Ignored("no messages")]));
    assert!(normalized(&body("messages.upsert", &json!({})), None).is_err());
    let mixed = read(&json!([single, { "odd": 1 }]));
    assert!(matches!(&mixed[..], [Inbound::Message(_), Inbound::Ignored("unreadable")]));
}

#[test]
fn a_direct_message_is_its_writers_by_phone_number() {
    let message = message(&text(&json!({})));
    assert_eq!(message.text, "get pods");
    assert_eq!(
        (message.user.id.as_str(), message.user.name.as_deref()),
        ("15550002000", Some("Ann"))
    );
    assert_eq!(message.channel.id, "15550002000@s.whatsapp.net");
    assert_eq!((message.kind, message.channel.direct), (MessageKind::Mention, true));
    assert_eq!(message.sent_at_ms, 1_700_000_000_000, "not `date_time`");
    assert!(!message.raw.contains(KEY) && message.raw.contains("get pods"), "{}", message.raw);
}

#[test]
fn an_opaque_address_is_the_person_whose_number_stands_beside_it() {
    for key in [
        json!({ "remoteJid": "82@lid", "remoteJidAlt": "15550002000@s.whatsapp.net" }),
        json!({ "remoteJid": "82@lid", "senderPn": "15550002000@s.whatsapp.net" }),
        json!({ "remoteJid": "15550002000:4@s.whatsapp.net", "remoteJidAlt": "82@lid",
            "participant": "" }),
    ] {
        let message = message(&text(&key));
        assert_eq!(message.channel.id, "15550002000@s.whatsapp.net", "{key}");
        let mut ids: Vec<&str> = message.user.ids().collect();
        assert_eq!(ids[0], "15550002000", "{key}");
        ids.sort_unstable();
        assert_eq!(ids, ["15550002000", "15550002000@s.whatsapp.net", "82@lid"], "{key}");
    }
    let alone = message(&text(&json!({ "remoteJid": "82@lid" })));
    assert_eq!((alone.user.id.as_str(), alone.channel.id.as_str()), ("82@lid", "82@lid"));
}

#[test]
fn in_a_group_it_is_whoever_wrote_and_a_mention_only_when_it_is_one() {
    let key = json!({ "remoteJid": "120@g.us", "participant": "82@lid",
        "participantAlt": "15550002000@s.whatsapp.net" });
    let chatter = message(&text(&key));
    assert_eq!(
        (chatter.user.id.as_str(), chatter.channel.id.as_str()),
        ("15550002000", "120@g.us")
    );
    assert_eq!((chatter.kind, chatter.channel.direct), (MessageKind::Message, false));
    let named = json!({ "extendedTextMessage": { "text": "@15550001000 get pods",
        "contextInfo": { "mentionedJid": ["15550001000@s.whatsapp.net"] } } });
    let mention = message(&said(&key, &named));
    assert_eq!((mention.kind, mention.text.as_str()), (MessageKind::Mention, "get pods"));
    let mut answer = said(&key, &json!({ "conversation": "yes" }));
    answer["contextInfo"] =
        json!({ "stanzaId": "OURS", "participant": "15550001000@s.whatsapp.net" });
    let answer = message(&answer);
    assert_eq!((answer.kind, answer.reply_to.as_deref()), (MessageKind::Mention, Some("OURS")));
    let nobody = text(&json!({ "remoteJid": "120@g.us" }));
    assert_eq!(ignored(&nobody), "no user");
}

#[test]
fn echoes_history_and_broadcasts_start_nothing() {
    assert_eq!(ignored(&text(&json!({ "fromMe": true }))), "own message");
    assert_eq!(ignored(&text(&json!({ "remoteJid": "status@broadcast" }))), "status broadcast");
    assert_eq!(ignored(&text(&json!({ "remoteJid": "120@newsletter" }))), "newsletter");
    for (event, expected) in [
        ("messages.set", "history"),
        ("MESSAGES_UPDATE", "status"),
        ("messages.delete", "deleted"),
        ("send-message", "own message"),
        ("presence.update", "presence"),
        ("labels.edit", "event type"),
    ] {
        let items = normalized(&body(event, &text(&json!({}))), None).expect("Evolution's");
        assert!(matches!(&items[..], [Inbound::Ignored(why)] if *why == expected), "{items:?}");
    }
    for (message, expected) in [
        (json!({ "protocolMessage": { "type": 14 } }), "edit"),
        (json!({ "pollUpdateMessage": {} }), "poll"),
        (json!({ "contactMessage": {} }), "contacts"),
        (json!({ "albumMessage": {} }), "unsupported"),
    ] {
        assert_eq!(ignored(&said(&json!({}), &message)), expected);
    }
}

#[test]
fn reactions_and_our_buttons_are_votes() {
    let react = |text: &str| {
        let key = json!({ "remoteJid": "120@g.us", "participant": "82@lid" });
        let reaction = json!({ "key": { "id": "CARD", "fromMe": true }, "text": text,
            "senderTimestampMs": { "low": 1, "high": 0, "unsigned": true } });
        vote(&said(&key, &json!({ "reactionMessage": reaction })))
    };
    for (emoji, expected) in [
        ("✅", Choice::Approve),
        ("👎", Choice::Deny),
        ("", Choice::Withdraw),
        ("😮", Choice::Withdraw),
    ] {
        let (target, choice, ids) = react(emoji);
        let VoteTarget::Posted { at, message } = target else { panic!("{target:?}") };
        assert_eq!((at.channel.as_str(), message.as_str(), choice), ("120@g.us", "CARD", expected));
        assert_eq!(ids, ["82@lid"]);
    }
    let id = aof_shared::ids::ActionId(uuid::Uuid::from_u128(5));
    let [approve, deny] = buttons::ids_of(id);
    let pressed = json!({ "buttonsResponseMessage": { "selectedButtonId": approve } });
    assert_eq!(vote(&said(&json!({}), &pressed)).1, Choice::Approve);
    let pressed = json!({ "templateButtonReplyMessage": { "selectedId": deny } });
    assert_eq!(vote(&said(&json!({}), &pressed)).1, Choice::Deny);
    let other = json!({ "buttonsResponseMessage":
        { "selectedButtonId": "approve:apr_01", "selectedDisplayText": "Approve" } });
    assert_eq!(message(&said(&json!({}), &other)).text, "Approve", "not ours: what it says");
}

#[test]
fn files_come_by_reference_and_wrapped_messages_are_unwrapped() {
    let image = json!({ "url": "https://mmg/x.enc", "mimetype": "image/jpeg", "caption": "see",
        "fileLength": { "low": -1, "high": 0, "unsigned": true }, "mediaKey": "k3y" });
    let wrapped = json!({ "ephemeralMessage": { "message": { "imageMessage": image } } });
    let message = message(&said(&json!({}), &wrapped));
    assert_eq!(message.text, "see");
    assert_eq!(message.media[0].url, "https://mmg/x.enc");
    assert_eq!(message.media[0].size_bytes, Some(4_294_967_295));
    assert!(!message.raw.contains("k3y"), "{}", message.raw);
    let voice = one(&said(&json!({}), &json!({ "audioMessage": { "url": "https://mmg/v" } })));
    assert!(matches!(voice, Inbound::Empty(_)), "{voice:?}");
}

#[test]
fn times_come_as_numbers_texts_and_halves() {
    for time in [
        json!(1_700_000_000),
        json!("1700000000"),
        json!({ "low": 1_700_000_000, "high": 0, "unsigned": true }),
        json!(1_700_000_000_000_u64),
    ] {
        let mut data = text(&json!({}));
        data["messageTimestamp"] = time.clone();
        assert_eq!(message(&data).sent_at_ms, 1_700_000_000_000, "{time}");
    }
    let mut data = text(&json!({}));
    data["messageTimestamp"] = Value::Null;
    assert_eq!(message(&data).sent_at_ms, 1_700_000_001_000, "when it came in");
}

#[test]
fn how_the_account_is_linked_is_noted_without_its_credentials() {
    let state = |event: &str, data: &Value| {
        let items = normalized(&body(event, data), None).expect("Evolution's");
        let [Inbound::State { state, reason }] = &items[..] else { panic!("{items:?}") };
        (*state, *reason)
    };
    let closed = json!({ "state": "close", "statusReason": 401 });
    assert_eq!(state("connection.update", &closed), ("close", Some(401)));
    assert_eq!(state("CONNECTION_UPDATE", &json!({ "state": "open" })), ("open", None));
    assert_eq!(state("qrcode.updated", &json!({ "qrcode": { "code": "2@x" } })), ("qrcode", None));
}

#[test]
fn the_address_and_the_body_name_one_instance() {
    let other = body("messages.upsert", &text(&json!({}))).replace("\"ops\"", "\"other\"");
    let error = normalized(&other, None).expect_err("another's");
    assert_eq!(error.to_string(), "the body is of instance `other`, the address of `ops`");
    let unnamed = json!({ "instance": "ops", "data": text(&json!({})) }).to_string();
    assert!(normalized(&unnamed, None).is_err(), "no event");
    let items = normalized(&unnamed, Some("messages-upsert")).expect("the address names it");
    assert!(matches!(&items[..], [Inbound::Message(_)]), "{items:?}");
}

#[test]
fn without_a_secret_the_key_in_the_body_proves_it() {
    let bare = Instance { signing_secret: None, bot_token: Some(Secret::new(KEY)), ..instance() };
    let verified = |body: &str, instance: &Instance| {
        let headers = HeaderMap::new();
        let signed = Signed { headers: &headers, event: None, body: body.as_bytes(), now_ms: 0 };
        let secret = Evolution.secret(instance).expect("a secret");
        Evolution.verify(&signed, secret, instance).is_some()
    };
    let good = body("messages.upsert", &text(&json!({})));
    assert!(verified(&good, &bare));
    assert!(!verified(&good.replace(KEY, "0000AAAA-4BBC"), &bare));
    assert!(!verified(&good.replace(&format!("\"{KEY}\""), "null"), &bare));
    let secured = Instance { bot_token: Some(Secret::new(KEY)), ..instance() };
    assert!(!verified(&good, &secured), "a configured secret is not optional");
    let nothing = Instance { signing_secret: None, bot_token: None, ..instance() };
    assert!(Evolution.secret(&nothing).is_none());
}

fn case() -> contract::Case {
    contract::Case {
        platform: &Evolution,
        instance: instance(),
        other_secret: "another secret",
        prove: |secret, _, _| vec![("authorization", format!("Bearer {secret}"))],
        window_secs: None,
        covers_body: false,
        content_type: "application/json",
        message: contract::Said {
            body: body(
                "messages.upsert",
                &said(&json!({}), &json!({ "conversation": "uname -r" })),
            ),
            kind: MessageKind::Mention,
            channel: "15550002000@s.whatsapp.net",
            user: "15550002000",
            text: "uname -r",
        },
        echo: Some(body("messages.upsert", &text(&json!({ "fromMe": true })))),
        vote: Some((
            body(
                "messages.upsert",
                &said(
                    &json!({ "id": "3EB9" }),
                    &json!({ "reactionMessage": { "key": { "id": "CARD" }, "text": "👍" } }),
                ),
            ),
            Choice::Approve,
        )),
        noise: vec![body("messages.update", &json!([{ "keyId": "3EB0", "status": "READ" }]))],
    }
}

contract::ingress_contract!(case());
