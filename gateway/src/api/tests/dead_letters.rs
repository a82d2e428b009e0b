//! Dead letters: seen, tried again or given up by their own account only.

use aof_shared::dead::DeadLetter;
use aof_shared::message::{Message, PINNED_AGENT};
use aof_shared::queue::ReadRange;
use aof_shared::subject::{Stream, Subject};
use serde_json::{Value, json};

use crate::testing::{Gateway, read, tenant};

/// Puts the newest message of account `a` among the dead, as the router would.
async fn bury(gateway: &Gateway, payload: Option<&str>) {
    let read = gateway.ports.queue.read(Stream::Inbound, ReadRange::default(), 100, 0).await;
    let stored = read.expect("INBOUND reads").pop().expect("a message");
    let message: Message = serde_json::from_slice(&stored.payload).expect("a message");
    let text = String::from_utf8(stored.payload.to_vec()).expect("text");
    let letter = DeadLetter {
        seq: 0,
        tenant: tenant("a"),
        role: "router".to_owned(),
        reason: "unreadable".to_owned(),
        detail: "it broke".to_owned(),
        subject: Subject::inbound(&message.tenant, &message.platform).to_string(),
        payload: payload.map_or(text, str::to_owned),
        failures: 5,
        message_id: Some(message.id),
        run_id: None,
        at_ms: 1,
    };
    let publication = letter.publication(&stored).expect("a letter");
    gateway.ports.queue.publish(vec![publication]).await.expect("published");
}

#[tokio::test]
async fn a_retried_message_goes_to_the_agent_that_was_asked_for() {
    let gateway = Gateway::start().await;
    let key = gateway.key("a", "ann", &["chat"]).await;
    let asked = json!({ "text": "hi" });
    let chat = gateway.post(&key, "/accounts/a/agents/shell-a/chat?wait=false", &asked);
    let _ = tokio::time::timeout(std::time::Duration::from_secs(5), chat).await;
    bury(&gateway, None).await;
    let path = format!("/accounts/a/dead-letters/{}", listed(&gateway).await[0]["seq"]);
    let (status, _) = gateway.post(&gateway.admin, &format!("{path}/retry"), &json!({})).await;
    assert_eq!(status, 202);
    let read = gateway.ports.queue.read(Stream::Inbound, ReadRange::default(), 100, 0).await;
    let again = read.expect("INBOUND reads").pop().expect("a message");
    let agent = again.headers.get(PINNED_AGENT).map(String::as_str);
    assert_eq!(agent, Some("shell-a"));
}

async fn say(gateway: &Gateway, ts: &str) {
    let body = json!({ "type": "event_callback", "event": { "type": "message", "channel": "C1",
        "user": "U1", "text": "hi", "ts": ts } });
    let answer = gateway.signed("a", "application/json", &body.to_string()).send().await;
    assert_eq!(read(answer.expect("an answer")).await.0, 200);
}

async fn listed(gateway: &Gateway) -> Vec<Value> {
    let (status, list) = gateway.get(&gateway.admin, "/accounts/a/dead-letters").await;
    assert_eq!(status, 200);
    list["dead_letters"].as_array().expect("a list").clone()
}

#[tokio::test]
async fn a_retried_message_comes_back_as_a_new_one_that_names_its_origin() {
    let gateway = Gateway::start().await;
    say(&gateway, "1531420600.0001").await;
    bury(&gateway, None).await;
    let letters = listed(&gateway).await;
    assert_eq!((letters.len(), &letters[0]["payload"]), (1, &Value::Null));
    let path = format!("/accounts/a/dead-letters/{}", letters[0]["seq"]);
    let (_, shown) = gateway.get(&gateway.admin, &path).await;
    assert!(shown["payload"].as_str().is_some_and(|p| p.contains("\"hi\"")), "{shown}");
    let (status, revived) =
        gateway.post(&gateway.admin, &format!("{path}/retry"), &json!({})).await;
    assert_eq!(status, 202, "{revived}");
    let inbound = gateway.inbound().await;
    assert_eq!(inbound.len(), 2);
    assert_eq!(revived["message_id"], json!(inbound[1].id));
    assert_ne!(inbound[0].id, inbound[1].id);
    assert_eq!(inbound[0].conversation, inbound[1].conversation);
    assert!(listed(&gateway).await.is_empty());
    let kinds = gateway.journal().await;
    assert_eq!(kinds, ["message.accepted", "message.accepted", "dead_letter.retried"]);
    let (status, _) = gateway.post(&gateway.admin, &format!("{path}/retry"), &json!({})).await;
    assert_eq!(status, 404, "it is no longer dead");
}

#[tokio::test]
async fn what_cannot_be_read_is_not_retried_but_given_up() {
    let gateway = Gateway::start().await;
    say(&gateway, "1531420600.0001").await;
    bury(&gateway, Some("{nonsense")).await;
    let path = format!("/accounts/a/dead-letters/{}", listed(&gateway).await[0]["seq"]);
    let (status, _) = gateway.post(&gateway.admin, &format!("{path}/retry"), &json!({})).await;
    assert_eq!(status, 409);
    assert_eq!(gateway.delete(&gateway.admin, &path).await.0, 204);
    assert!(listed(&gateway).await.is_empty());
    assert_eq!(gateway.journal().await, ["message.accepted", "dead_letter.abandoned"]);
}

#[tokio::test]
async fn another_account_neither_sees_nor_settles_it() {
    let gateway = Gateway::start().await;
    say(&gateway, "1531420600.0001").await;
    bury(&gateway, None).await;
    let key = gateway.key("b", "bo", &["read", "operate"]).await;
    let seq = listed(&gateway).await[0]["seq"].clone();
    for account in ["a", "b"] {
        let path = format!("/accounts/{account}/dead-letters/{seq}");
        assert_eq!(gateway.get(&key, &path).await.0, 404);
        assert_eq!(gateway.post(&key, &format!("{path}/retry"), &json!({})).await.0, 404);
        assert_eq!(gateway.delete(&key, &path).await.0, 404);
    }
    assert_eq!(listed(&gateway).await.len(), 1);
    let (_, list) = gateway.get(&key, "/accounts/b/dead-letters").await;
    assert_eq!(list["dead_letters"], json!([]));
}
