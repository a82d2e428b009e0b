//! What WhatsApp sends, and what it is to us. Bodies are written after Meta's documentation.

use std::sync::Arc;

use aof_shared::action::{Choice, VoteTarget};
use aof_shared::ids::{InstanceName, TenantId};
use aof_shared::message::{Message, MessageKind};
use axum::http::HeaderMap;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::*;
use crate::platform::{Inbound, buttons, contract};
use crate::testing::{Gateway, read as read_answer};

const SECRET: &str = "an app secret";

fn instance() -> Instance {
    contract::account(
        "whatsapp",
        SECRET,
        &json!({ "phone_number_id": "1001", "verify_token": "a verify token" }),
    )
}

/// A body with one change that holds `value` beside the number and its contact.
fn body(value: &Value) -> String {
    let mut whole = json!({
        "messaging_product": "whatsapp",
        "metadata": { "display_phone_number": "15550001000", "phone_number_id": "1001" },
        "contacts": [{ "profile": { "name": "Ann" }, "wa_id": "15550002000",
            "user_id": "US.77", "parent_user_id": "US.ENT.88" }],
    });
    for (key, member) in value.as_object().expect("an object") {
        whole[key] = member.clone();
    }
    change("messages", &whole)
}

fn change(field: &str, value: &Value) -> String {
    let change = json!({ "field": field, "value": value });
    json!({ "object": "whatsapp_business_account", "entry": [{ "id": "9", "changes": [change] }] })
        .to_string()
}

/// A message of `kind` whose own part is `part`.
fn said(kind: &str, part: &Value) -> Value {
    let mut message =
        json!({ "from": "15550002000", "id": "wamid.A", "timestamp": "1700000000", "type": kind });
    message[kind] = part.clone();
    message
}

fn read(body: &str) -> Vec<Inbound> {
    let headers = HeaderMap::new();
    let signed =
        Signed { headers: &headers, event: None, body: body.as_bytes(), now_ms: 1_700_000_001_000 };
    WhatsApp.normalize(&signed, &instance()).expect("it is WhatsApp's").items
}

fn one(message: &Value) -> Inbound {
    let [item] = <[Inbound; 1]>::try_from(read(&body(&json!({ "messages": [message] }))))
        .expect("one thing");
    item
}

fn message(said: &Value) -> Box<Message> {
    match one(said) {
        Inbound::Message(message) => message,
        other => panic!("{other:?}"),
    }
}

fn vote(said: &Value) -> (VoteTarget, Choice, Vec<String>) {
    match one(said) {
        Inbound::Vote { vote, .. } => {
            let ids = vote.voter.ids().map(str::to_owned).collect();
            (vote.target, vote.choice, ids)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_person_is_their_id_and_known_by_their_numbers() {
    let message = message(&said("text", &json!({ "body": " get pods " })));
    assert_eq!(message.text, "get pods");
    assert_eq!((message.user.id.as_str(), message.user.name.as_deref()), ("US.77", Some("Ann")));
    assert_eq!(message.user.aliases, ["15550002000", "US.ENT.88"]);
    assert_eq!((message.channel.id.as_str(), message.channel.direct), ("15550002000", true));
    assert_eq!((message.kind, message.conversation.as_str()), (MessageKind::Mention, "US.77"));
    assert_eq!(
        (message.event_id.as_str(), message.thread.as_deref()),
        ("wamid.A", Some("wamid.A"))
    );
    assert_eq!(message.sent_at_ms, 1_700_000_000_000);
}

#[test]
fn someone_without_a_number_is_answered_by_their_id() {
    let mut hidden = said("text", &json!({ "body": "hi" }));
    hidden["from_user_id"] = json!("US.77");
    hidden.as_object_mut().expect("an object").remove("from");
    let contacts = json!([{ "profile": { "name": "Ann" }, "user_id": "US.77" }]);
    let items = read(&body(&json!({ "messages": [hidden], "contacts": contacts })));
    let [Inbound::Message(message)] = &items[..] else { panic!("{items:?}") };
    assert_eq!((message.user.id.as_str(), message.channel.id.as_str()), ("US.77", "US.77"));
    assert!(message.user.aliases.is_empty());
}

#[test]
fn nobody_gets_another_persons_ids() {
    let contacts =
        json!([{ "wa_id": "1", "user_id": "US.1" }, { "wa_id": "2", "user_id": "US.2" }]);
    let mut second = said("text", &json!({ "body": "b" }));
    second["from"] = json!("2");
    let mut stranger = said("text", &json!({ "body": "c" }));
    stranger["from"] = json!("3");
    let items = read(&body(&json!({ "messages": [second, stranger], "contacts": contacts })));
    let ids: Vec<Vec<&str>> = items
        .iter()
        .map(|item| match item {
            Inbound::Message(message) => message.user.ids().collect(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids, [vec!["US.2", "2"], vec!["3"]]);
}

#[test]
fn files_are_references_with_their_caption_as_text() {
    let document = json!({ "id": "4242", "mime_type": "application/pdf", "filename": "a.pdf",
        "caption": "see this", "sha256": "x" });
    let message = message(&said("document", &document));
    assert_eq!(message.text, "see this");
    let file = &message.media[0];
    assert_eq!((file.mime.as_str(), file.name.as_deref()), ("application/pdf", Some("a.pdf")));
    assert_eq!(file.url, "https://graph.facebook.com/v26.0/4242");
    let voice = one(&said("audio", &json!({ "id": "4243", "mime_type": "audio/ogg" })));
    assert!(matches!(voice, Inbound::Empty(_)), "whoever sends no text is told so: {voice:?}");
}

#[test]
fn our_own_buttons_are_votes_and_others_are_what_they_say() {
    let id = aof_shared::ids::ActionId(uuid::Uuid::from_u128(5));
    let [approve, deny] = buttons::ids_of(id);
    let reply = |id: &str, title: &str| {
        let picked = json!({ "id": id, "title": title });
        said("interactive", &json!({ "type": "button_reply", "button_reply": picked }))
    };
    let target = VoteTarget::Action { id };
    let people = ["US.77", "15550002000", "US.ENT.88"].map(str::to_owned).to_vec();
    assert_eq!(
        vote(&reply(&approve, "Approve")),
        (target.clone(), Choice::Approve, people.clone())
    );
    let template = said("button", &json!({ "payload": deny, "text": "Deny" }));
    assert_eq!(vote(&template), (target, Choice::Deny, people));
    assert_eq!(message(&reply("other", "Restart it")).text, "Restart it");
    assert_eq!(message(&said("button", &json!({ "payload": "p", "text": "t" }))).text, "t");
    let row = json!({ "type": "list_reply", "list_reply": { "id": "r", "title": "Row" } });
    assert_eq!(message(&said("interactive", &row)).text, "Row");
}

#[test]
fn a_reaction_votes_and_any_other_takes_the_vote_back() {
    let check = |reaction: Value, expected: Choice| {
        let (target, choice, _) = vote(&said("reaction", &reaction));
        let VoteTarget::Posted { at, message } = target else { panic!("{target:?}") };
        assert_eq!((at.channel.as_str(), message.as_str()), ("15550002000", "wamid.CARD"));
        assert_eq!(choice, expected, "{reaction}");
    };
    check(json!({ "message_id": "wamid.CARD", "emoji": "👍" }), Choice::Approve);
    check(json!({ "message_id": "wamid.CARD", "emoji": "❌" }), Choice::Deny);
    check(json!({ "message_id": "wamid.CARD", "emoji": "" }), Choice::Withdraw);
    check(json!({ "message_id": "wamid.CARD" }), Choice::Withdraw);
    check(json!({ "message_id": "wamid.CARD", "emoji": "😮" }), Choice::Withdraw);
}

#[test]
fn in_a_group_only_answers_to_us_are_mentions() {
    let mut grouped = said("text", &json!({ "body": "hi" }));
    grouped["group_id"] = json!("G1");
    let chatter = message(&grouped);
    assert_eq!((chatter.kind, chatter.channel.direct), (MessageKind::Message, false));
    assert_eq!((chatter.channel.id.as_str(), chatter.conversation.as_str()), ("G1", "G1"));
    grouped["context"] = json!({ "id": "wamid.OURS", "from": "+1 555-000-1000" });
    let answer = message(&grouped);
    assert_eq!(
        (answer.kind, answer.reply_to.as_deref()),
        (MessageKind::Mention, Some("wamid.OURS"))
    );
}

#[test]
fn a_batch_is_read_whole_and_only_for_its_number() {
    let value = |number: &str, ids: &[&str]| {
        let of = |id: &&str| {
            let mut message = said("text", &json!({ "body": id }));
            message["id"] = json!(id);
            message
        };
        let messages: Vec<Value> = ids.iter().map(of).collect();
        json!({ "field": "messages", "value": { "metadata": { "phone_number_id": number },
            "messages": messages } })
    };
    let batch = json!({ "object": "whatsapp_business_account", "entry": [
        { "id": "1", "changes": [value("1001", &["a", "b"]), value("2002", &["c"])] },
        { "id": "2", "changes": [value("1001", &["d"])] },
    ] })
    .to_string();
    let items = read(&batch);
    let texts: Vec<&str> = items
        .iter()
        .map(|item| match item {
            Inbound::Message(message) => message.text.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(texts, ["a", "b", "d"]);
    assert_eq!(body::numbers(batch.as_bytes()), ["1001", "2002"]);
    let [Inbound::Message(first), ..] = &items[..] else { panic!("{items:?}") };
    assert!(!first.raw.contains("2002"), "another number's messages: {}", first.raw);
}

#[test]
fn what_starts_nothing_says_why() {
    let check = |body: &str, expected: &str| {
        let items = read(body);
        assert!(matches!(&items[..], [Inbound::Ignored(why)] if *why == expected), "{items:?}");
    };
    let status = json!([{ "id": "wamid.B", "status": "delivered", "timestamp": "1" }]);
    check(&body(&json!({ "statuses": status })), "status");
    check(&body(&json!({ "errors": [{ "code": 130_429 }] })), "no messages");
    let echo = json!({ "metadata": { "phone_number_id": "1001" }, "message_echoes": [] });
    check(&change("smb_message_echoes", &echo), "own message");
    check(&change("history", &json!({})), "history");
    check(&change("calls", &json!({})), "call");
    check(&change("account_update", &json!({ "event": "X" })), "account event");
    check(&change("message_template_status_update", &json!({})), "template event");
    let elsewhere = json!({ "metadata": { "phone_number_id": "2002" }, "messages": [] });
    check(&change("messages", &elsewhere), "another number");
    for (kind, expected) in [
        ("unsupported", "unsupported"),
        ("system", "system"),
        ("order", "order"),
        ("contacts", "contacts"),
        ("edit", "edit"),
        ("revoke", "deleted"),
        ("interactive", "form"),
    ] {
        check(&body(&json!({ "messages": [said(kind, &json!({}))] })), expected);
    }
    check(&body(&json!({ "messages": [{ "id": 7 }] })), "unreadable");
}

#[test]
fn the_challenge_is_answered_to_the_right_token_alone() {
    let ask = |mode: &str, token: &str, challenge: &str| {
        let query = [("hub.mode", mode), ("hub.verify_token", token), ("hub.challenge", challenge)];
        let query: Vec<(String, String)> =
            query.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
        WhatsApp.handshake(&query, &instance())
    };
    let accepted = Handshake::Accepted("1158201444".to_owned());
    assert_eq!(ask("subscribe", "a verify token", "1158201444"), accepted);
    for (mode, token, challenge) in [
        ("subscribe", "a verify toke", "1"),
        ("subscribe", "", "1"),
        ("unsubscribe", "a verify token", "1"),
        ("subscribe", "a verify token", ""),
    ] {
        assert_eq!(ask(mode, token, challenge), Handshake::Refused, "{mode} {token} {challenge}");
    }
    assert_eq!(WhatsApp.handshake(&[], &instance()), Handshake::Refused);
    let open = contract::account("whatsapp", SECRET, &json!({ "verify_token": "" }));
    let query = [("hub.mode", "subscribe"), ("hub.verify_token", ""), ("hub.challenge", "1")];
    let query: Vec<_> = query.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec();
    assert_eq!(WhatsApp.handshake(&query, &open), Handshake::Refused, "no token, no handshake");
}

/// Two organisations' numbers of one app in one body.
#[tokio::test]
async fn each_tenant_gets_its_own_numbers_of_a_shared_body() {
    let of = |tenant: &str, number: &str| {
        Arc::new(Instance {
            name: InstanceName::new(tenant).expect("a plain name"),
            tenant: TenantId::new(tenant).expect("a plain name"),
            ..contract::account("whatsapp", SECRET, &json!({ "phone_number_id": number }))
        })
    };
    let gateway = Gateway::start_with_instances(vec![of("a", "1001"), of("b", "2002")]).await;
    let value = |number: &str| {
        let mut message = said("text", &json!({ "body": format!("for {number}") }));
        message["id"] = json!(format!("wamid.{number}"));
        json!({ "field": "messages", "value": { "metadata": { "phone_number_id": number },
            "messages": [message] } })
    };
    let post = async |path: &str, numbers: &[&str]| {
        let changes: Vec<Value> = numbers.iter().map(|number| value(number)).collect();
        let body = json!({ "entry": [{ "id": "9", "changes": changes }] }).to_string();
        let proof = (case().prove)(SECRET, body.as_bytes(), 0);
        let request = gateway.http.post(gateway.at(path)).header(proof[0].0, &proof[0].1);
        read_answer(request.body(body).send().await.expect("an answer")).await
    };
    let (status, answer) = post("/webhook/whatsapp", &["1001", "2002", "3003"]).await;
    assert_eq!((status, answer["items"].as_array().map(Vec::len)), (200, Some(2)), "{answer}");
    let inbound = gateway.inbound().await;
    let mut got: Vec<_> =
        inbound.iter().map(|m| (m.tenant.as_str(), m.text.as_str(), m.raw.len())).collect();
    got.sort_unstable();
    assert_eq!(
        [(got[0].0, got[0].1), (got[1].0, got[1].1)],
        [("a", "for 1001"), ("b", "for 2002")]
    );
    for message in &inbound {
        let other = if message.tenant.as_str() == "a" { "2002" } else { "1001" };
        assert!(!message.raw.contains(other), "another tenant's: {}", message.raw);
    }
    // The address names one account: another's number is not its own, whoever signed.
    for (path, number) in [("/webhook/whatsapp/a", "2002"), ("/webhook/whatsapp/b", "1001")] {
        let (status, answer) = post(path, &[number]).await;
        assert_eq!((status, &answer["ignored"]), (200, &json!("another number")), "{path}");
    }
    assert_eq!(gateway.inbound().await.len(), 2);
}

#[tokio::test]
async fn a_number_that_two_tenants_claim_is_nobodys() {
    let of = |tenant: &str| {
        Arc::new(Instance {
            name: InstanceName::new(tenant).expect("a plain name"),
            tenant: TenantId::new(tenant).expect("a plain name"),
            ..instance()
        })
    };
    let gateway = Gateway::start_with_instances(vec![of("a"), of("b")]).await;
    let case = case();
    let proof = (case.prove)(SECRET, case.message.body.as_bytes(), 0);
    let request = gateway.http.post(gateway.at("/webhook/whatsapp"));
    let request = request.header(proof[0].0, &proof[0].1).body(case.message.body);
    assert_eq!(request.send().await.expect("an answer").status(), 401);
    assert!(gateway.inbound().await.is_empty());
}

fn case() -> contract::Case {
    contract::Case {
        platform: &WhatsApp,
        instance: instance(),
        other_secret: "another secret",
        prove: |secret, body, _| {
            let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
            mac.update(body);
            let signature = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
            vec![("x-hub-signature-256", signature)]
        },
        window_secs: None,
        covers_body: true,
        content_type: "application/json",
        message: contract::Said {
            body: body(&json!({ "messages": [said("text", &json!({ "body": "uname -r" }))] })),
            kind: MessageKind::Mention,
            channel: "15550002000",
            user: "US.77",
            text: "uname -r",
        },
        echo: Some(change("smb_message_echoes", &json!({ "message_echoes": [] }))),
        vote: Some((
            body(&json!({ "messages": [
                said("reaction", &json!({ "message_id": "wamid.CARD", "emoji": "👍" }))] })),
            Choice::Approve,
        )),
        noise: vec![
            body(&json!({ "statuses": [{ "id": "wamid.B", "status": "read" }] })),
            change("account_update", &json!({ "event": "ACCOUNT_VIOLATION" })),
        ],
    }
}

contract::ingress_contract!(case());
