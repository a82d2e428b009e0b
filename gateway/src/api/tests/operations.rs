//! Health, metrics, status, and the document of the API.

use serde_json::json;

use crate::testing::{Gateway, read};

#[tokio::test]
async fn health_says_what_is_true() {
    let gateway = Gateway::start().await;
    let get =
        async |path: &str| gateway.http.get(gateway.at(path)).send().await.expect("an answer");
    assert_eq!(get("/livez").await.status(), 200);
    let (status, ready) = read(get("/readyz").await).await;
    assert_eq!((status, &ready["parts"]["gateway"]), (200, &json!(null)), "{ready}");
    gateway.health.down("queue", "disk full");
    let answer = get("/readyz").await;
    assert_eq!(answer.status(), 503);
    let ready: serde_json::Value = answer.json().await.expect("JSON");
    assert_eq!((&ready["ready"], &ready["parts"]["queue"]), (&json!(false), &json!("disk full")));
    assert_eq!(get("/livez").await.status(), 200, "a part that is down is no reason to restart");
}

#[tokio::test]
async fn what_waits_is_in_metrics_and_status_by_tenant() {
    let gateway = Gateway::start().await;
    let body = json!({ "type": "event_callback", "event": { "type": "message", "channel": "C1",
        "user": "U1", "text": "hi", "ts": "1531420600.0001" } });
    let answer = gateway.signed("a", "application/json", &body.to_string()).send().await;
    assert_eq!(read(answer.expect("an answer")).await.0, 200);
    gateway.clock.advance_ms(7_000);
    let (status, shown) = gateway.get(&gateway.admin, "/status").await;
    assert_eq!(status, 200);
    let inbound = &shown["queues"][0];
    assert_eq!(inbound["stream"], "INBOUND");
    assert_eq!(inbound["tenants"], json!([{ "tenant": "a", "pending": 1, "oldest_age_ms": 7000 }]));
    assert_eq!((&shown["durability"], &shown["ready"]), (&json!("fsync"), &json!(true)));
    let depth = r#"agentflow_queue_depth{stream="INBOUND",tenant="a"}"#;
    assert_eq!(gateway.metric(depth).await, 1);
}

#[tokio::test]
async fn the_document_names_every_route() {
    let gateway = Gateway::start().await;
    let answer = gateway.http.get(gateway.at("/openapi.json")).send().await.expect("an answer");
    let (status, document) = read(answer).await;
    assert_eq!(status, 200);
    let paths: Vec<_> = document["paths"].as_object().expect("paths").keys().cloned().collect();
    for path in [
        "/webhook/{platform}",
        "/webhook/{platform}/{instance}",
        "/accounts/{account}/chat",
        "/accounts/{account}/agents/{agent}/chat",
        "/accounts/{account}/agents",
        "/accounts/{account}/approvals",
        "/accounts/{account}/approvals/{id}",
        "/accounts/{account}/approvals/{id}/votes",
        "/accounts/{account}/events",
        "/accounts/{account}/keys",
        "/accounts/{account}/keys/{id}",
        "/accounts/{account}/dead-letters",
        "/accounts/{account}/dead-letters/{seq}",
        "/accounts/{account}/dead-letters/{seq}/retry",
        "/status",
        "/livez",
        "/readyz",
        "/metrics",
    ] {
        assert!(paths.iter().any(|p| p == path), "{path} is missing in {paths:?}");
    }
    let nowhere = gateway.http.get(gateway.at("/nowhere")).send().await.expect("an answer");
    assert_eq!(read(nowhere).await.0, 404);
}
