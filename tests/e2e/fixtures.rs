//! What Slack really sent, through a real node.

use std::collections::BTreeMap;

use aof_harness::{Manifests, Node, SIGNING_SECRET, Sender, Slack, slack_trigger};
use serde_json::Value;

/// Sends a captured payload as it travelled: commands and interactions as forms.
async fn send(sender: &Sender, file: &Value) -> reqwest::Response {
    let events = ["event_callback", "url_verification", "app_rate_limited"];
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let kind = file["type"].as_str();
    let sent = if file["envelope_id"].is_null() && kind.is_some_and(|k| !events.contains(&k)) {
        sender.post_form(&[("payload", &file.to_string())]).await
    } else if kind.is_none() && file["command"].is_string() {
        let fields = file.as_object().expect("an object").iter();
        let fields: Vec<_> = fields.map(|(name, value)| (name.as_str(), text(value))).collect();
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        sender.post_form(&fields).await
    } else {
        sender.post(file.to_string()).await
    };
    sent.expect("an answer")
}

/// How often the node's counter says that something came to `outcome`.
async fn counted(node: &Node, outcome: &str) -> u64 {
    let metrics = reqwest::get(format!("{}/metrics", node.url)).await.expect("an answer");
    let metrics = metrics.text().await.expect("text");
    let series = format!("agentflow_ingress_total{{platform=\"slack\",outcome=\"{outcome}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&series));
    line.map_or(0, |count| count.parse().expect("a number"))
}

/// What became of one file, with the reason that was given.
async fn became(node: &Node, sender: &Sender, file: &Value) -> String {
    let before = counted(node, "accepted").await + counted(node, "duplicate").await;
    let answer = send(sender, file).await;
    let status = answer.status().as_u16();
    let body = answer.text().await.expect("a body");
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let taken = counted(node, "accepted").await + counted(node, "duplicate").await > before;
    match status {
        200 if body["vote_id"].is_string() => "vote".to_owned(),
        200 if body["message_id"].is_string() => "message".to_owned(),
        200 if body["noted"] == true => "channel changed".to_owned(),
        200 if body["challenge"].is_string() => "challenge".to_owned(),
        200 if body["ignored"].is_string() => format!("ignored: {}", text("ignored")),
        200 if taken => "message or vote, answered empty".to_owned(),
        200 => "ignored: not ours, answered empty".to_owned(),
        _ => format!("refused {status}: {}", text("detail")),
    }
}

#[tokio::test]
async fn every_captured_payload_of_slack_is_what_it_is() {
    let Some(root) = std::env::var_os("AOF_FIXTURES").filter(|root| !root.is_empty()) else {
        println!("left out: AOF_FIXTURES does not name the folder of captured payloads");
        return;
    };
    let (_slack, address) = Slack::start(&[]).await;
    let manifests = Manifests::new("");
    manifests.agent("echo", "  model: echo:repeat\n");
    let trigger = slack_trigger(address, "xoxb-1", SIGNING_SECRET, "");
    manifests.flow("ops", &format!("{trigger}  agents: [{{name: echo}}]\n"));
    let data = tempfile::tempdir().expect("a folder");
    let node = Node::start(env!("CARGO_BIN_EXE_aofctl"), manifests.dir.path(), data.path());
    let sender = Sender::new(&node.url, "default");
    let mut table: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let dir = std::path::Path::new(&root).join("slack");
    for entry in std::fs::read_dir(&dir).expect("the folder of captures") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let file = std::fs::read_to_string(&path).expect("a readable file");
        let file: Value = serde_json::from_str(&file).expect("JSON");
        let became = became(&node, &sender, &file).await;
        assert!(!became.starts_with("refused 5"), "{name}: {became}");
        // Answers of the API and frames of a socket are no webhooks; nor is a form without values.
        let inbound = !["api_", "shape_", "socket_mode_"].iter().any(|p| name.starts_with(p));
        assert!(!inbound || !became.starts_with("refused"), "{name}: {became}");
        table.entry(became).or_default().push(name);
    }
    for (became, names) in &table {
        println!("{:>3}  {became}\n       {}", names.len(), names.join(", "));
    }
    let of = |name: &str| {
        let found = table.iter().find(|(_, names)| names.iter().any(|n| n == name));
        found.map_or("missing", |(became, _)| became.as_str())
    };
    assert_eq!(of("app_mention"), "message");
    assert_eq!(of("slash_command"), "message or vote, answered empty");
    assert!(of("message_changed").starts_with("ignored: "));
    let all: usize = table.values().map(Vec::len).sum();
    println!("{all} files");
    assert!(all > 20, "only {all} files in {}", dir.display());
}
