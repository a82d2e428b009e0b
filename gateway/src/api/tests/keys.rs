//! Keys: tenant-bound, scoped, shown once, dead when revoked or expired.

use serde_json::{Value, json};

use crate::auth::ensure_admin_key;
use crate::testing::{Gateway, read};

const ALL: [&str; 4] = ["chat", "read", "approve", "operate"];

#[tokio::test]
async fn a_key_opens_its_own_account_and_every_other_looks_like_none() {
    let gateway = Gateway::start().await;
    let keys = [gateway.key("a", "ann", &ALL).await, gateway.key("b", "bo", &ALL).await];
    let paths = ["keys", "agents", "approvals", "events?follow=false", "dead-letters"];
    for (key, own, other) in [(&keys[0], "a", "b"), (&keys[1], "b", "a")] {
        for path in paths {
            let (status, body) = gateway.get(key, &format!("/accounts/{own}/{path}")).await;
            assert_eq!(status, 200, "{path}: {body}");
            let (status, body) = gateway.get(key, &format!("/accounts/{other}/{path}")).await;
            assert_eq!(status, 404, "{path}: {body}");
            let (none, unknown) = gateway.get(key, &format!("/accounts/nobody/{path}")).await;
            let unknown = unknown.to_string().replace("nobody", other);
            assert_eq!((none, unknown), (404, body.to_string()), "as one that is not there");
        }
        let (status, _) =
            gateway.post(key, &format!("/accounts/{other}/chat"), &json!({ "text": "hi" })).await;
        assert_eq!(status, 404);
        let (status, _) = gateway.post(key, &format!("/accounts/{other}/keys"), &json!({})).await;
        assert_eq!(status, 404);
    }
    assert!(gateway.inbound().await.is_empty());
}

#[tokio::test]
async fn a_key_says_whose_it_is() {
    let gateway = Gateway::start().await;
    let reader = gateway.key("a", "ann", &["read"]).await;
    let (status, who) = gateway.get(&reader, "/whoami").await;
    let expected = json!({ "tenant": "a", "user": "ann", "scopes": ["read"] });
    assert_eq!((status, who), (200, expected));
    let (status, who) = gateway.get(&gateway.admin, "/whoami").await;
    assert_eq!((status, &who["tenant"]), (200, &Value::Null), "the operator has no account");
    assert_eq!(gateway.get("nonsense", "/whoami").await.0, 401);
}

#[tokio::test]
async fn a_typing_mistake_of_the_operator_makes_no_account() {
    let gateway = Gateway::start().await;
    let admin = gateway.admin.clone();
    let path = "/accounts/typo-org/keys";
    let made = gateway.post(&admin, path, &json!({ "user": "x", "scopes": ["chat"] })).await;
    assert_eq!(made.0, 404, "{}", made.1);
    let said = gateway.post(&admin, "/accounts/typo-org/chat", &json!({ "text": "hi" })).await;
    assert_eq!(said.0, 404, "{}", said.1);
    for known in ["a", "b", "default"] {
        let (status, body) = gateway.get(&admin, &format!("/accounts/{known}/keys")).await;
        assert_eq!(status, 200, "{known}: {body}");
    }
    assert!(gateway.inbound().await.is_empty());
}

#[tokio::test]
async fn a_forged_tenant_header_changes_nothing() {
    let gateway = Gateway::start().await;
    let key = gateway.key("a", "ann", &ALL).await;
    let request = gateway.http.get(gateway.at("/accounts/a/agents")).bearer_auth(&key);
    let answer = request.header("x-tenant-id", "b").header("x-account-id", "b").send().await;
    let (_, agents) = read(answer.expect("an answer")).await;
    let names: Vec<_> = agents["agents"].as_array().expect("a list").iter().collect();
    assert_eq!(names.len(), 1, "{agents}");
    assert_eq!(names[0]["name"], "shell-a");
    assert_eq!(names[0]["health"], "ready");
}

#[tokio::test]
async fn without_a_key_that_counts_there_is_nothing() {
    let gateway = Gateway::start().await;
    let unknown = format!("aof_{}_{}", "0".repeat(12), "0".repeat(64));
    for key in ["", "nonsense", &unknown, &gateway.admin[..20]] {
        assert_eq!(gateway.get(key, "/accounts/a/agents").await.0, 401, "{key}");
    }
    let bare = gateway.http.get(gateway.at("/accounts/a/agents")).send().await;
    assert_eq!(read(bare.expect("an answer")).await.0, 401);
    let other_header =
        gateway.http.get(gateway.at("/accounts/a/agents")).header("x-api-key", &gateway.admin);
    assert_eq!(read(other_header.send().await.expect("an answer")).await.0, 200);
}

#[tokio::test]
async fn a_scope_that_is_missing_is_403_and_cannot_be_passed_on() {
    let gateway = Gateway::start().await;
    let reader = gateway.key("a", "ann", &["read"]).await;
    let hi = json!({ "text": "hi" });
    assert_eq!(gateway.post(&reader, "/accounts/a/chat", &hi).await.0, 403);
    assert_eq!(gateway.get(&reader, "/accounts/a/keys").await.0, 403);
    assert_eq!(gateway.get(&reader, "/status").await.0, 403);
    let keeper = gateway.key("a", "kim", &["read", "operate"]).await;
    let wanted = json!({ "scopes": ["read", "approve"] });
    let (status, body) = gateway.post(&keeper, "/accounts/a/keys", &wanted).await;
    assert_eq!((status, &body["errors"][0]["pointer"]), (400, &json!("/scopes/1")), "{body}");
    for bad in [json!({ "scopes": ["root"] }), json!({ "scopes": [] }), json!({ "user": " " })] {
        assert_eq!(gateway.post(&keeper, "/accounts/a/keys", &bad).await.0, 400, "{bad}");
    }
}

fn ids(list: &Value) -> Vec<String> {
    let keys = list["keys"].as_array().expect("a list").iter();
    keys.map(|k| k["id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test]
async fn a_key_is_shown_once_and_dies_when_revoked_by_its_own_account() {
    let gateway = Gateway::start().await;
    let keepers = [gateway.key("a", "ann", &ALL).await, gateway.key("b", "bo", &ALL).await];
    let wanted = json!({ "user": "kim", "scopes": ["read"] });
    let (_, made) = gateway.post(&keepers[0], "/accounts/a/keys", &wanted).await;
    let (id, key) = (made["id"].as_str().expect("id"), made["key"].as_str().expect("key"));
    let (_, listed) = gateway.get(&keepers[0], "/accounts/a/keys").await;
    assert!(ids(&listed).contains(&id.to_owned()) && !listed.to_string().contains(key));
    let (_, others) = gateway.get(&keepers[1], "/accounts/b/keys").await;
    assert!(!ids(&others).contains(&id.to_owned()));
    assert_eq!(gateway.get(key, "/accounts/a/agents").await.0, 200);
    let theirs = format!("/accounts/b/keys/{id}");
    assert_eq!(gateway.delete(&keepers[1], &theirs).await.0, 404, "of another account");
    assert_eq!(gateway.get(key, "/accounts/a/agents").await.0, 200);
    assert_eq!(gateway.delete(&keepers[0], &format!("/accounts/a/keys/{id}")).await.0, 204);
    let (status, body) = gateway.get(key, "/accounts/a/agents").await;
    assert_eq!((status, &body["detail"]), (401, &json!("this key was revoked: ask for a new one")));
}

#[tokio::test]
async fn a_key_expires_and_makes_none_that_outlives_it() {
    let gateway = Gateway::start().await;
    let wanted = json!({ "scopes": ALL, "expires_in_secs": 60 });
    let (_, made) = gateway.post(&gateway.admin, "/accounts/a/keys", &wanted).await;
    let key = made["key"].as_str().expect("a key");
    let wanted = json!({ "scopes": ["read"], "expires_in_secs": 3600 });
    let (_, child) = gateway.post(key, "/accounts/a/keys", &wanted).await;
    assert_eq!(child["expires_at_ms"], made["expires_at_ms"]);
    assert_eq!(gateway.get(key, "/accounts/a/agents").await.0, 200);
    gateway.clock.advance_ms(60_000);
    let (status, body) = gateway.get(key, "/accounts/a/agents").await;
    assert_eq!((status, &body["detail"]), (401, &json!("this key has expired: ask for a new one")));
}

#[tokio::test]
async fn the_first_key_is_kept_private_and_replaced_only_when_revoked() {
    use std::os::unix::fs::PermissionsExt;
    let gateway = Gateway::start().await;
    let dir = tempfile::tempdir().expect("a folder");
    let store = gateway.ports.store.as_ref();
    let ensure = async || {
        let path = ensure_admin_key(store, dir.path(), &gateway.clock).await.expect("a key");
        let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::read_to_string(path).expect("a file").trim().to_owned()
    };
    let first = ensure().await;
    assert_eq!(ensure().await, first);
    assert_eq!(gateway.get(&first, "/status").await.0, 200);
    let id = first.split('_').nth(1).expect("an id");
    assert!(store.revoke_key(None, id, 1).await.expect("revoked"));
    let second = ensure().await;
    assert_ne!(second, first);
    assert_eq!(gateway.get(&second, "/status").await.0, 200);
}
