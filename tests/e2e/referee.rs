//! Slack's own SDK and framework as referees of what is signed and what is not.

use std::process::Command;

use aof_harness::{Api, Manifests, Node, SIGNING_SECRET, Slack, slack_trigger};
use serde_json::Value;

/// What the referee made: each with the headers, the body and its own verdict.
fn cases(python: &std::path::Path) -> Vec<Value> {
    let output = Command::new(python)
        .arg(crate::root().join("tests/e2e/referee.py"))
        .arg(SIGNING_SECRET)
        .output()
        .expect("python runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test]
async fn the_node_and_slacks_own_framework_agree_on_every_signature() {
    let Some(python) = aof_harness::tool("python/bin/python") else { return };
    let (_slack, address) = Slack::start(&[]).await;
    let manifests = Manifests::new("");
    manifests.agent("echo", "  model: echo:repeat\n");
    let trigger = slack_trigger(address, "xoxb-1", SIGNING_SECRET, "");
    manifests.flow("ops", &format!("{trigger}  agents: [{{name: echo}}]\n"));
    let data = tempfile::tempdir().expect("a folder");
    let node = Node::start(env!("CARGO_BIN_EXE_aofctl"), manifests.dir.path(), data.path());
    let http = reqwest::Client::new();
    let cases = cases(&python);
    let (mut accepted, mut differ) = (0, Vec::new());
    println!("{:<34} {:>4} {:>5}", "request", "Bolt", "node");
    for case in &cases {
        let body = case["body"].as_str().expect("text").to_owned();
        let mut request = http.post(format!("{}/webhook/slack/default", node.url)).body(body);
        for (name, value) in case["headers"].as_object().expect("headers") {
            request = request.header(name, value.as_str().expect("text"));
        }
        let status = request.send().await.expect("an answer").status().as_u16();
        let (name, bolt) = (case["name"].as_str().expect("text"), &case["bolt"]);
        println!("{name:<34} {bolt:>4} {status:>5}");
        accepted += usize::from(status == 200);
        if bolt.as_u64() != Some(u64::from(status)) {
            differ.push(name);
        }
    }
    println!(
        "{} requests, {} agreed on, {accepted} accepted",
        cases.len(),
        cases.len() - differ.len()
    );
    assert!(differ.is_empty(), "{differ:?}");
    assert_eq!(accepted, 8, "what the SDK signed");
    // Six mentions and a command; the block action is nobody's vote.
    let api = Api::operator(&node, "default");
    assert_eq!(api.events("message.accepted").await.len(), 7);
}
