//! Edits while a node runs.

use std::time::{Duration, Instant};

use aof_harness::{Api, Manifests, Node, until};

const FLOW: &str =
    "  trigger: {type: Chat, config: {channels: [ops]}}\n  agents: [{name: AGENT}]\n";

#[tokio::test]
async fn an_edit_is_in_force_within_two_seconds_and_a_broken_one_changes_nothing() {
    let manifests = Manifests::new("");
    manifests.agent("first", "  model: echo:repeat\n");
    manifests.agent("second", "  model: echo:repeat\n");
    manifests.flow("ops", &FLOW.replace("AGENT", "first"));
    let data = tempfile::tempdir().expect("a folder");
    let node = Node::start(env!("CARGO_BIN_EXE_aofctl"), manifests.dir.path(), data.path());
    let api = Api::operator(&node, "default");
    let agent_of_next = async || {
        api.chat("ops", "hello").await;
        let routed = api.events("message.routed").await;
        routed.last().map(|e| e["data"]["agent"].clone()).unwrap_or_default()
    };
    assert_eq!(agent_of_next().await, "first");

    let edited = Instant::now();
    manifests.flow("ops", &FLOW.replace("AGENT", "second"));
    until("the edit", async || (agent_of_next().await == "second").then_some(())).await;
    assert!(edited.elapsed() < Duration::from_secs(2), "took {:?}", edited.elapsed());

    manifests
        .write("flows/ops.yaml", "apiVersion: aof.dev/v1\nkind: AgentFlow\nmetadata: {name: [\n");
    until("the rejection", async || {
        let rejected = api.events("config.rejected").await;
        rejected.last().map(|e| e["data"].to_string()).filter(|d| d.contains("ops.yaml"))
    })
    .await;
    assert_eq!(agent_of_next().await, "second", "the last good revision serves on");
}
