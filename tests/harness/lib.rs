//! Starts a real node as a process, a stand-in for Slack's API, and signs what Slack would sign.
#![expect(missing_docs, reason = "names say it all in a test harness")]

mod manifests;
mod node;
mod sign;
mod slack;

pub use manifests::*;
pub use node::*;
pub use sign::*;
pub use slack::*;

use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest wait for anything in a test.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// Waits until `probe` gives something, or panics saying what was awaited.
pub async fn until<T, F>(what: &str, mut probe: F) -> T
where
    F: AsyncFnMut() -> Option<T>,
{
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < end, "waited {DEADLINE:?} in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The journal of an account, oldest first.
pub async fn journal(http: &reqwest::Client, node: &Node, account: &str) -> Vec<Value> {
    let text = http
        .get(format!("{}/accounts/{account}/events?follow=false&after=0", node.url))
        .bearer_auth(node.admin_key())
        .header("accept", "application/x-ndjson")
        .send()
        .await
        .expect("the node answers")
        .text()
        .await
        .expect("a whole answer");
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
