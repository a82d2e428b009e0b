//! The journal as a stream: exactly what was missed, only one's own, and an honest resync.

use aof_shared::event::EventType;
use futures_util::StreamExt;
use serde_json::Value;

use crate::testing::{DEADLINE, Gateway};

/// The lines of a finished read.
async fn lines(gateway: &Gateway, account: &str, query: &str) -> Vec<Value> {
    let path = format!("/accounts/{account}/events?follow=false&{query}");
    let request = gateway.http.get(gateway.at(&path)).bearer_auth(&gateway.admin);
    let answer = request.header("accept", "application/x-ndjson").send().await.expect("an answer");
    assert_eq!(answer.status(), 200, "{query}");
    let text = answer.text().await.expect("a whole body");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn numbers(lines: &[Value]) -> Vec<u64> {
    lines.iter().map(|l| l["data"]["n"].as_u64().expect("a number")).collect()
}

/// Reads a stream until `done` says so; returns its text.
async fn until(request: reqwest::RequestBuilder, done: impl Fn(&str) -> bool) -> String {
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let kind = answer.headers()["content-type"].to_str().expect("text").to_owned();
    assert!(kind.starts_with("text/event-stream"), "{kind}");
    let (mut pieces, mut text) = (answer.bytes_stream(), String::new());
    let read = async {
        while !done(&text) {
            let Some(piece) = pieces.next().await else { break };
            text.push_str(&String::from_utf8_lossy(&piece.expect("a piece")));
        }
    };
    tokio::time::timeout(DEADLINE, read).await.expect("the stream says it in time");
    text
}

#[tokio::test]
async fn each_account_reads_its_own_and_filters_choose() {
    let gateway = Gateway::start().await;
    for n in 0..10 {
        let kind = if n % 2 == 0 { EventType::ApprovalVoted } else { EventType::RunFailed };
        gateway.happen(if n < 8 { "a" } else { "b" }, kind, n).await;
    }
    assert_eq!(numbers(&lines(&gateway, "a", "").await), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(numbers(&lines(&gateway, "b", "after=0").await), [8, 9]);
    assert_eq!(numbers(&lines(&gateway, "a", "type=approval.*").await), [0, 2, 4, 6]);
    assert_eq!(numbers(&lines(&gateway, "a", "tail=3").await), [5, 6, 7]);
    assert_eq!(numbers(&lines(&gateway, "b", "tail=5").await), [8, 9]);
    assert_eq!(numbers(&lines(&gateway, "a", "tail=2&type=run.failed").await), [5, 7]);
    let (status, _) = gateway.get(&gateway.admin, "/accounts/a/events?type=nope").await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn who_comes_back_gets_exactly_what_was_missed() {
    let gateway = Gateway::start().await;
    let first = gateway.happen("a", EventType::RunStarted, 1).await;
    gateway.happen("b", EventType::RunStarted, 2).await;
    gateway.happen("a", EventType::RunStarted, 3).await;
    let request = gateway.http.get(gateway.at("/accounts/a/events")).bearer_auth(&gateway.admin);
    let request = request.header("last-event-id", first.to_string());
    let reading = until(request, |text| text.contains("\"n\":4"));
    let (text, last) = tokio::join!(reading, gateway.happen("a", EventType::RunStep, 4));
    let ids: Vec<_> = text.lines().filter_map(|l| l.strip_prefix("id: ")).collect();
    assert_eq!(ids, [(first + 2).to_string(), last.to_string()], "{text}");
    assert!(text.contains("event: run.step") && !text.contains("resync"), "{text}");
}

#[tokio::test]
async fn an_id_that_is_not_held_is_answered_with_one_resync() {
    let gateway = Gateway::start().await;
    gateway.happen("a", EventType::RunStarted, 1).await;
    let lines = lines(&gateway, "a", "after=999999").await;
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!((&lines[0]["type"], &lines[1]["data"]["n"]), (&"resync".into(), &1.into()));
    for id in ["999999", "18446744073709551615", "99999999999999999999999"] {
        let request =
            gateway.http.get(gateway.at("/accounts/a/events")).bearer_auth(&gateway.admin);
        let text = until(request.header("last-event-id", id), |text| text.contains("\"n\":1"));
        assert_eq!(text.await.matches("event: resync").count(), 1, "{id}");
    }
}

#[tokio::test]
async fn a_stream_ends_when_the_node_stops() {
    let gateway = Gateway::start().await;
    let request = gateway.http.get(gateway.at("/accounts/a/events?after=0"));
    gateway.happen("a", EventType::RunStarted, 1).await;
    let answer = request.bearer_auth(&gateway.admin).send().await.expect("an answer");
    let mut pieces = answer.bytes_stream();
    pieces.next().await.expect("the first event").expect("a piece");
    gateway.lifecycle.stop();
    let ended = async { while pieces.next().await.is_some() {} };
    tokio::time::timeout(DEADLINE, ended).await.expect("the stream ends");
    tokio::time::timeout(DEADLINE, gateway.lifecycle.drained()).await.expect("everything ends");
}
