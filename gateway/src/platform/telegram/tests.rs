//! What Telegram sends, and what we make of it.

use aof_shared::action::{Choice, VoteTarget};
use aof_shared::message::{Message, MessageKind};
use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::*;
use crate::platform::contract;

const NOW_MS: u64 = 1_700_000_000_000;
const ACTION: &str = "0b7f3a36-6d34-5b5c-9b55-0e6b0c1f2a3b";

/// The bot `@AofBot` with the id 42.
fn instance() -> Instance {
    let settings = json!({ "bot_username": "@AofBot" });
    let account = contract::account("telegram", "a-secret_token", &settings);
    Instance { bot_token: Some(Secret::new("42:token")), ..account }
}

fn deliver(update: &Value) -> Delivery {
    let headers = HeaderMap::new();
    let body = update.to_string();
    let signed = Signed { headers: &headers, event: None, body: body.as_bytes(), now_ms: NOW_MS };
    Telegram.normalize(&signed, &instance()).unwrap_or_else(|e| panic!("{e}: {update}"))
}

fn one(update: &Value) -> Inbound {
    let [item] = <[Inbound; 1]>::try_from(deliver(update).items).expect("one thing");
    item
}

fn person(id: i64) -> Value {
    json!({ "id": id, "is_bot": false, "first_name": "Ann", "username": "ann" })
}

fn group() -> Value {
    json!({ "id": -100, "type": "supergroup", "title": "Ops" })
}

/// An update with a message of person 7 in the group, with `more` members.
fn said(more: &Value) -> Value {
    let mut message =
        json!({ "message_id": 5, "date": NOW_MS / 1000, "chat": group(), "from": person(7) });
    for (name, value) in more.as_object().expect("an object") {
        message[name] = value.clone();
    }
    json!({ "update_id": 1, "message": message })
}

fn message(update: &Value) -> Message {
    match one(update) {
        Inbound::Message(message) => *message,
        other => panic!("{update} became {other:?}"),
    }
}

fn ignored(update: &Value, reason: &str) {
    assert_eq!(one(update), Inbound::Ignored(reason_of(reason)), "{update}");
}

/// The same text as a constant, which reasons are.
fn reason_of(reason: &str) -> &'static str {
    Box::leak(reason.to_owned().into_boxed_str())
}

fn tap(data: &str, from: &Value) -> Value {
    json!({ "update_id": 2, "callback_query": { "id": "q1", "from": from, "data": data } })
}

fn reacted(user: Option<Value>, before: &[&str], now: &[&str]) -> Value {
    let all = |emoji: &[&str]| -> Value {
        emoji.iter().map(|e| json!({ "type": "emoji", "emoji": e })).collect()
    };
    let (old, new) = (all(before), all(now));
    let mut reaction = json!({ "chat": group(), "message_id": 9, "date": NOW_MS / 1000,
        "old_reaction": old, "new_reaction": new });
    match user {
        Some(user) => reaction["user"] = user,
        None => reaction["actor_chat"] = group(),
    }
    json!({ "update_id": 3, "message_reaction": reaction })
}

fn case() -> contract::Case {
    contract::Case {
        platform: &Telegram,
        instance: instance(),
        other_secret: "another-secret",
        prove: |secret, _, _| vec![(SECRET_TOKEN, secret.to_owned())],
        window_secs: None,
        covers_body: false,
        content_type: "application/json",
        message: contract::Said {
            body: said(&json!({ "text": "@aofbot uname -r",
                "entities": [{ "type": "mention", "offset": 0, "length": 7 }] }))
            .to_string(),
            kind: MessageKind::Mention,
            channel: "-100",
            user: "7",
            text: "uname -r",
        },
        echo: Some(
            said(&json!({ "from": { "id": 42, "is_bot": true }, "text": "hi" })).to_string(),
        ),
        vote: Some((tap(&format!("{APPROVE}{ACTION}"), &person(7)).to_string(), Choice::Approve)),
        noise: vec![
            json!({ "update_id": 4, "my_chat_member": {} }).to_string(),
            json!({ "update_id": 5, "of_a_later_year": { "x": 1 } }).to_string(),
            reacted(None, &[], &["👍"]).to_string(),
        ],
    }
}

contract::ingress_contract!(case());

#[test]
fn a_message_is_what_its_place_and_text_make_it() {
    let kind = |more: Value| {
        let message = message(&said(&more));
        (message.kind, message.text, message.thread)
    };
    let place = |text: &str| Some(text.to_owned());
    let typed = |kind: MessageKind, text: &str| (kind, text.to_owned(), place("/5"));
    assert_eq!(kind(json!({ "text": "hi all" })), typed(MessageKind::Message, "hi all"));
    let entities = json!([{ "type": "bot_command", "offset": 0, "length": 11 }]);
    let command = json!({ "text": "/ops@aofbot get pods", "entities": entities });
    assert_eq!(kind(command), typed(MessageKind::Command, "get pods"));
    let ours = json!({ "message_id": 4, "from": { "id": 42, "is_bot": true } });
    let reply = json!({ "text": "and now?", "reply_to_message": ours });
    assert_eq!(kind(reply.clone()), typed(MessageKind::Mention, "and now?"));
    assert_eq!(message(&said(&reply)).reply_to.as_deref(), Some("4"));
    let private = json!({ "text": "hi", "chat": { "id": 7, "type": "private" } });
    let direct = message(&said(&private));
    assert_eq!((direct.kind, direct.channel.direct), (MessageKind::Mention, true));
    assert_eq!((direct.thread, direct.conversation.as_str()), (None, "7"));
    let caption = json!({ "caption": "look", "photo": [
        { "file_id": "small", "file_size": 10 }, { "file_id": "large", "file_size": 99 }] });
    let seen = message(&said(&caption));
    assert_eq!((seen.text.as_str(), seen.media.len()), ("look", 1));
    assert_eq!(seen.media[0].url, "telegram:file/large");
    assert_eq!((seen.media[0].mime.as_str(), seen.media[0].size_bytes), ("image/jpeg", Some(99)));
}

#[test]
fn topics_keep_their_own_order_and_their_answers() {
    let topic = json!({ "text": "hi", "message_thread_id": 77, "is_topic_message": true,
        "reply_to_message": { "message_id": 77, "from": { "id": 42 }, "forum_topic_created": {} } });
    let seen = message(&said(&topic));
    assert_eq!((seen.thread.as_deref(), seen.conversation.as_str()), (Some("77/5"), "-100:77"));
    assert_eq!((seen.kind, seen.reply_to), (MessageKind::Message, None), "nobody replied to us");
    let thread = json!({ "text": "hi", "message_thread_id": 77 });
    assert_eq!(message(&said(&thread)).conversation, "-100", "a thread of replies is no topic");
}

#[test]
fn whoever_is_anonymous_is_nobody_who_could_vote() {
    let anonymous = json!({ "text": "hi", "sender_chat": group(),
        "from": { "id": 1_087_968_824, "is_bot": true } });
    assert_eq!(message(&said(&anonymous)).user.id, "chat:-100");
    let channel = json!({ "id": -200, "type": "channel", "title": "News" });
    let post = json!({ "update_id": 1, "channel_post":
        { "message_id": 5, "date": 1, "chat": channel, "text": "hi", "author_signature": "Ann" } });
    let seen = message(&post);
    assert_eq!((seen.user.id.as_str(), seen.user.name.as_deref()), ("chat:-200", Some("Ann")));
    assert_eq!(seen.kind, MessageKind::Message);
    ignored(&reacted(None, &[], &["👍"]), "anonymous reaction");
}

#[test]
fn noise_is_ignored_with_its_reason() {
    let with = |more: Value| said(&more);
    ignored(&with(json!({ "text": "x", "from": { "id": 42, "is_bot": true } })), "own message");
    ignored(&with(json!({ "text": "x", "via_bot": { "id": 42, "is_bot": true } })), "own message");
    ignored(&with(json!({ "text": "x", "from": { "id": 9, "is_bot": true } })), "another bot");
    ignored(&with(json!({ "text": "x", "is_automatic_forward": true })), "automatic forward");
    ignored(&with(json!({ "text": "x", "guest_query_id": "g" })), "guest message");
    ignored(&with(json!({ "new_chat_title": "x" })), "no text");
    ignored(&with(json!({ "photo": [{ "file_id": "f" }] })), "no text");
    let entities = json!([{ "type": "bot_command", "offset": 0, "length": 8 }]);
    ignored(&with(json!({ "text": "/x@other", "entities": entities })), "another bot's command");
    let edited =
        json!({ "update_id": 1, "edited_message": said(&json!({ "text": "x" }))["message"] });
    ignored(&edited, "edit");
    let counts = json!({ "update_id": 1, "message_reaction_count": {} });
    ignored(&counts, "anonymous reactions");
    ignored(&json!({ "update_id": 1, "poll_answer": {} }), "update type");
}

#[test]
fn a_start_or_a_bare_mention_is_answered_and_starts_nothing() {
    let command = json!([{ "type": "bot_command", "offset": 0, "length": 6 }]);
    let mention = json!([{ "type": "mention", "offset": 0, "length": 7 }]);
    for more in [
        json!({ "text": "/start", "entities": command, "chat": { "id": 7, "type": "private" } }),
        json!({ "text": "@aofbot", "entities": mention }),
    ] {
        let inbound = one(&said(&more));
        assert!(matches!(inbound, Inbound::Empty(_)), "{more}: {inbound:?}");
    }
}

#[test]
fn a_tap_is_a_vote_and_its_answer_ends_the_wait() {
    for (what, expected) in [(APPROVE, Choice::Approve), (DENY, Choice::Deny)] {
        let delivery = deliver(&tap(&format!("{what}{ACTION}"), &person(7)));
        let Answer::Json(answer) = delivery.answer else { panic!("{:?}", delivery.answer) };
        assert_eq!(answer["method"], "answerCallbackQuery");
        assert_eq!(answer["callback_query_id"], "q1");
        let [Inbound::Vote { event_id, vote }] = &delivery.items[..] else { panic!("{what}") };
        assert_eq!((event_id.as_str(), vote.choice), ("tap:q1", expected));
        assert_eq!(vote.voter.user, "7");
        assert_eq!(vote.target, VoteTarget::Action { id: ACTION.parse().expect("an id") });
    }
    ignored(&tap("theirs", &person(7)), "other button");
    ignored(&tap("aof.approve:no-id", &person(7)), "other button");
    let bot = json!({ "id": 9, "is_bot": true });
    ignored(&tap(&format!("{APPROVE}{ACTION}"), &bot), "a bot's tap");
}

#[test]
fn a_persons_reaction_is_a_vote_and_taking_it_back_withdraws_it() {
    let check = |before: &[&str], now: &[&str], expected: Option<Choice>| {
        let inbound = one(&reacted(Some(person(7)), before, now));
        let Inbound::Vote { vote, .. } = inbound else {
            assert_eq!(expected, None, "{before:?} {now:?}: {inbound:?}");
            return;
        };
        assert_eq!(Some(vote.choice), expected, "{before:?} {now:?}");
        let VoteTarget::Posted { at, message } = vote.target else { panic!("no posted target") };
        assert_eq!((at.channel.as_str(), message.as_str()), ("-100", "9"));
    };
    check(&[], &["👍"], Some(Choice::Approve));
    check(&[], &["👎"], Some(Choice::Deny));
    check(&["👍"], &[], Some(Choice::Withdraw));
    check(&["👍"], &["👎"], Some(Choice::Deny));
    check(&["❤"], &["👍", "👎"], Some(Choice::Deny));
    check(&["👍"], &["❤"], Some(Choice::Withdraw));
    check(&["❤"], &["🔥"], None);
    ignored(&reacted(Some(json!({ "id": 9, "is_bot": true })), &[], &["👍"]), "a bot's reaction");
}

#[tokio::test]
async fn every_captured_file_is_what_it_is() {
    let known = [
        ("message_439432599_L650.json", "no text"),
        ("message_306197398_L749.json", "message"),
        ("tgbot_channel_post_0__get-updates-channel-post.json", "message"),
        ("message_reaction_767844136_L965.json", "anonymous reaction"),
        ("message_reaction_count_71651251_L1020.json", "anonymous reactions"),
        ("official_marvin_callback_query_inline.json", "answered"),
        ("poll_answer_0_L208.json", "update type"),
        ("tgbot_my_chat_member_1__get-updates-bot-status.json", "update type"),
        ("tgbot_api_set-webhook-base.json", "unreadable"),
        ("message_845402291_L782.json", "no text"),
    ];
    contract::captures(case(), "telegram", 80, &known).await;
}
