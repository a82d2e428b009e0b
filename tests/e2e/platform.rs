//! Slack, from a signed event to the answer in the thread.

use aof_harness::{Api, Manifests, Node, Sender, Slack, mention, reaction, slack_trigger, until};
use serde_json::{Value, json};

const FLOW: &str = "  agents:\n    - name: shell\n  approval:\n    chains:\n      - {name: critical, approvers: [U0000LEAD, U0MANAGER], require: 2}\n    rules:\n      - {pattern: mktemp, chain: critical}\n";

struct Story {
    node: Node,
    api: Api,
    slack: Slack,
    sender: Sender,
    _manifests: Manifests,
    _data: tempfile::TempDir,
}

async fn story(channels: &str) -> Story {
    let (slack, address) =
        Slack::start(&[("C0000PROD", "production"), ("C00RANDOM", "random")]).await;
    let manifests = Manifests::new("");
    manifests.agent("shell", "  runtime: command\n  tools: [uname, mktemp]\n");
    let trigger = slack_trigger(address, "xoxb-1", aof_harness::SIGNING_SECRET, channels);
    manifests.flow("ops", &format!("{trigger}{FLOW}"));
    let data = tempfile::tempdir().expect("a folder");
    let node = Node::start(env!("CARGO_BIN_EXE_aofctl"), manifests.dir.path(), data.path());
    let api = Api::operator(&node, "default");
    let sender = Sender::new(&node.url, "default");
    Story { node, api, slack, sender, _manifests: manifests, _data: data }
}

impl Story {
    async fn posts(&self, count: usize) -> Vec<Value> {
        until(&format!("{count} posts"), async || {
            let posts = self.slack.calls("chat.postMessage");
            (posts.len() >= count).then_some(posts)
        })
        .await
    }
}

/// The `message` event that Slack sends beside the `app_mention` of the same text.
fn as_message(mention: &str) -> String {
    let mut event: Value = serde_json::from_str(mention).expect("JSON");
    event["event"]["type"] = json!("message");
    event["event"]["channel_type"] = json!("channel");
    event["event_id"] = json!(format!("{}M", event["event_id"].as_str().expect("text")));
    event.to_string()
}

#[tokio::test]
async fn a_mention_delivered_twice_is_one_run_answered_in_its_thread() {
    let story = story("      channels: [production]\n").await;
    let event = mention("C0000PROD", "U0000001", "1700000000.000100", "uname -s");
    let first = story.sender.accepted(event.clone()).await;
    let second = story.sender.accepted(as_message(&event)).await;
    assert_eq!(first["message_id"], second["message_id"]);
    assert_eq!((&first["duplicate"], &second["duplicate"]), (&json!(false), &json!(true)));
    let posts = story.posts(1).await;
    assert_eq!(posts[0]["thread_ts"], "1700000000.000100", "{posts:?}");
    assert!(posts[0].to_string().contains("Linux"), "{posts:?}");
    assert_eq!(story.api.events("run.started").await.len(), 1);
}

#[tokio::test]
async fn a_flow_for_a_named_channel_takes_no_other() {
    let story = story("      channels: [production]\n").await;
    story.sender.accepted(mention("C00RANDOM", "U0000001", "1700000000.000100", "uname -s")).await;
    until("the verdict", async || {
        let unrouted = story.api.events("message.unrouted").await;
        (!unrouted.is_empty()).then_some(())
    })
    .await;
    assert!(story.api.events("run.started").await.is_empty());
}

#[tokio::test]
async fn reactions_of_two_listed_people_run_it_once_and_update_the_card() {
    let story = story("").await;
    let scratch = tempfile::tempdir().expect("a folder");
    let text = format!("mktemp -p {} did.XXXXXX", scratch.path().display());
    story.sender.accepted(mention("C0000PROD", "U0000001", "1700000000.000100", &text)).await;
    story.posts(1).await;
    let id = until("the approval", async || {
        let (_, list) = story.api.get("approvals?status=pending").await;
        let first = &list["approvals"][0];
        first["posted"].is_string().then(|| first["id"].as_str().map(ToOwned::to_owned)).flatten()
    })
    .await;
    let card = story.api.approval(&id).await["posted"].as_str().expect("posted").to_owned();
    // The bot's own seeds, a stranger, one person twice: none of them makes two.
    let votes =
        [("U0BOT", "+1"), ("USTRANGER", "+1"), ("U0000LEAD", "+1"), ("U0000LEAD", "thumbsup")];
    for (user, emoji) in votes {
        story.sender.accepted(reaction("C0000PROD", user, &card, emoji)).await;
    }
    until("the first vote", async || {
        (!story.api.events("approval.voted").await.is_empty()).then_some(())
    })
    .await;
    assert_eq!(story.api.approval(&id).await["status"], "pending");
    story.sender.accepted(reaction("C0000PROD", "U0MANAGER", &card, "white_check_mark")).await;
    until("its execution", async || {
        (story.api.approval(&id).await["status"] == "executed").then_some(())
    })
    .await;
    let made = std::fs::read_dir(scratch.path()).expect("a folder").count();
    assert_eq!(made, 1, "it ran once");
    until("the card to show it", async || {
        let updates = story.slack.calls("chat.update");
        let last = updates.last()?;
        (last["ts"] == card.as_str() && last.to_string().to_lowercase().contains("executed"))
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_does_not_verify_is_401_and_counted() {
    let story = story("").await;
    let body = mention("C0000PROD", "U0000001", "1700000000.000100", "uname");
    let now = aof_harness::now_secs();
    let good = |at: u64| aof_harness::sign(aof_harness::SIGNING_SECRET, at, &body);
    let tampered = body.replace("uname", "mktemp");
    let cases: [(&str, Option<u64>, Option<String>, &str); 6] = [
        ("no headers", None, None, &body),
        ("no signature", Some(now), None, &body),
        ("stale", Some(now - 302), Some(good(now - 302)), &body),
        ("from the future", Some(now + 303), Some(good(now + 303)), &body),
        ("tampered", Some(now), Some(good(now)), &tampered),
        ("another secret", Some(now), Some(aof_harness::sign("x", now, &body)), &body),
    ];
    for (what, timestamp, signature, sent) in cases {
        let mut request = reqwest::Client::new()
            .post(format!("{}/webhook/slack/default", story.node.url))
            .body(sent.to_owned());
        if let Some(timestamp) = timestamp {
            request = request.header("x-slack-request-timestamp", timestamp.to_string());
        }
        if let Some(signature) = signature {
            request = request.header("x-slack-signature", signature);
        }
        assert_eq!(request.send().await.expect("an answer").status(), 401, "{what}");
    }
    assert!(story.api.events("message.accepted").await.is_empty());
    let metrics = reqwest::get(format!("{}/metrics", story.node.url)).await.expect("an answer");
    let metrics = metrics.text().await.expect("text");
    let line = r#"agentflow_ingress_total{platform="slack",outcome="unauthorized"} 6"#;
    assert!(metrics.contains(line), "{metrics}");
}
