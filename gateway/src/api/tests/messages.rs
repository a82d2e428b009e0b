//! The inputs of decisions, and who may read them; the journal's filters.

use serde_json::Value;

use crate::Options;
use crate::testing::Gateway;

/// The lines of an answer.
async fn lines(gateway: &Gateway, key: &str, path: &str) -> Vec<Value> {
    let request = gateway.http.get(gateway.at(path)).bearer_auth(key);
    let answer = request.header("accept", "application/x-ndjson").send().await.expect("an answer");
    assert_eq!(answer.status(), 200, "{path}");
    let text = answer.text().await.expect("a whole body");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Says `text` in the account's chat.
async fn say(gateway: &Gateway, account: &str, text: &str, user: &str) {
    let key = gateway.key(account, user, &["chat"]).await;
    let path = format!("/accounts/{account}/chat");
    let body = serde_json::json!({"channel": "ops", "text": text});
    // Nothing routes here: it is accepted, and nobody waits for an answer.
    let (status, answer) = gateway.post(&key, &path, &body).await;
    assert_eq!(status, 202, "{answer}");
}

async fn start() -> Gateway {
    Gateway::start_with(|options| Options { chat_wait_ms: 1, ..options }).await
}

#[tokio::test]
async fn each_account_reads_its_own_messages_with_their_texts() {
    let gateway = start().await;
    say(&gateway, "a", "of a", "ann").await;
    say(&gateway, "b", "of b", "ben").await;
    for (own, other) in [("a", "b"), ("b", "a")] {
        let key = gateway.key(own, "reader", &["read"]).await;
        let read = lines(&gateway, &key, &format!("/accounts/{own}/messages")).await;
        let texts: Vec<_> = read.iter().map(|l| l["message"]["text"].clone()).collect();
        assert_eq!(texts, [format!("of {own}")]);
        assert!(read[0]["seq"].as_u64() > Some(0) && read[0]["message"]["raw"].is_null());
        let (status, _) = gateway.get(&key, &format!("/accounts/{other}/messages")).await;
        assert_eq!(status, 404);
        let chat_only = gateway.key(own, "talker", &["chat"]).await;
        let (status, _) = gateway.get(&chat_only, &format!("/accounts/{own}/messages")).await;
        assert_eq!(status, 403);
        let (status, _) = gateway.get(&key, "/accounts").await;
        assert_eq!(status, 403, "only the operator sees who else there is");
    }
    let (_, all) = gateway.get(&gateway.admin, "/accounts").await;
    assert_eq!(all["accounts"], serde_json::json!(["a", "b", "default"]));
}

#[tokio::test]
async fn a_stretch_of_time_is_read_and_nothing_beside_it() {
    let gateway = start().await;
    let mut times = Vec::new();
    for text in ["one", "two", "three"] {
        times.push(gateway.ports.clock.now_ms());
        say(&gateway, "a", text, text).await;
        gateway.clock.advance_ms(60_000);
    }
    let path = format!("/accounts/a/messages?from={}&to={}", times[1], times[2]);
    let read = lines(&gateway, &gateway.admin, &path).await;
    let texts: Vec<_> = read.iter().map(|l| l["message"]["text"].clone()).collect();
    assert_eq!(texts, ["two"]);
    let path =
        format!("/accounts/a/events?from={}&to={}&type=message.accepted", times[1], times[2]);
    let read = lines(&gateway, &gateway.admin, &path).await;
    let users: Vec<_> = read.iter().map(|l| l["data"]["user"].clone()).collect();
    assert_eq!(users, ["two"], "it ends at `to` though nobody said follow=false");
    let read = lines(&gateway, &gateway.admin, "/accounts/a/events?follow=false&user=three").await;
    assert_eq!(read.len(), 1, "{read:?}");
    for bad in ["from=yesterday", "to=x"] {
        for what in ["messages", "events"] {
            let path = format!("/accounts/a/{what}?{bad}");
            assert_eq!(gateway.get(&gateway.admin, &path).await.0, 400, "{path}");
        }
    }
}

#[tokio::test]
async fn a_reader_that_returns_still_knows_whose_messages_it_follows() {
    let gateway = start().await;
    say(&gateway, "a", "one", "ann").await;
    say(&gateway, "a", "two", "ben").await;
    let accepted = lines(&gateway, &gateway.admin, "/accounts/a/events?follow=false").await;
    let last = accepted.last().expect("accepted")["seq"].as_u64().expect("a number");
    let message = accepted[0]["message_id"].as_str().expect("an id");
    let id = aof_shared::ids::EventId::derive(uuid::Uuid::from_u128(1), "step");
    let kind = aof_shared::event::EventType::RunStep;
    let mut event = aof_shared::event::Event::new(id, &crate::testing::tenant("a"), kind, 0);
    event.message_id = message.parse().ok();
    let publication = event.publication().expect("an event");
    gateway.ports.queue.publish(vec![publication]).await.expect("published");
    let rest = |user: &str| format!("/accounts/a/events?follow=false&after={last}&user={user}");
    let of_ann = lines(&gateway, &gateway.admin, &rest("ann")).await;
    assert_eq!(of_ann.len(), 1, "{of_ann:?}");
    assert!(lines(&gateway, &gateway.admin, &rest("ben")).await.is_empty());
}

#[tokio::test]
async fn a_message_comes_again_once_in_a_replay_and_names_its_origin() {
    let gateway = start().await;
    say(&gateway, "a", "of a", "ann").await;
    say(&gateway, "b", "of b", "ben").await;
    let of_a = lines(&gateway, &gateway.admin, "/accounts/a/messages").await;
    let seq = of_a[0]["seq"].as_u64().expect("a number");
    let path = format!("/accounts/a/messages/{seq}/replay");
    let body = serde_json::json!({"name": "incident-1"});
    let (status, first) = gateway.post(&gateway.admin, &path, &body).await;
    assert_eq!((status, &first["duplicate"]), (202, &false.into()), "{first}");
    assert_eq!(first["origin"], of_a[0]["message"]["id"]);
    let (_, second) = gateway.post(&gateway.admin, &path, &body).await;
    assert_eq!((&second["duplicate"], &second["message_id"]), (&true.into(), &first["message_id"]));
    let read = lines(&gateway, &gateway.admin, "/accounts/a/messages").await;
    assert_eq!(read.len(), 2, "once, however often it was asked for");
    assert_eq!(read[1]["message"]["text"], "of a");
    let path_of_copy = format!("/accounts/a/messages/{}/replay", read[1]["seq"]);
    assert_eq!(gateway.post(&gateway.admin, &path_of_copy, &body).await.0, 409);
    let types = "/accounts/a/events?follow=false&type=message.accepted";
    let accepted = lines(&gateway, &gateway.admin, types).await;
    let data = &accepted.last().expect("accepted")["data"];
    assert_eq!((&data["retry_of"], &data["replay"]), (&first["origin"], &"incident-1".into()));
    // The other's message is not there, and no key of an account may do it.
    let crossed = format!("/accounts/b/messages/{seq}/replay");
    assert_eq!(gateway.post(&gateway.admin, &crossed, &body).await.0, 404);
    for (own, other) in [("a", "b"), ("b", "a")] {
        let key = gateway.key(own, "op", &["operate", "read", "chat"]).await;
        let path = |account: &str| format!("/accounts/{account}/messages/{seq}/replay");
        assert_eq!(gateway.post(&key, &path(own), &body).await.0, 403);
        assert_eq!(gateway.post(&key, &path(other), &body).await.0, 404);
    }
    let wrong = serde_json::json!({"name": "a b"});
    assert_eq!(gateway.post(&gateway.admin, &path, &wrong).await.0, 400);
}
