//! A disk that fills up while messages come in, and is freed again.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use aof_harness::{
    Api, Manifests, Node, SIGNING_SECRET, Sender, Slack, mention, slack_trigger, until,
};
use serde_json::Value;

/// Room on the small disk.
const DISK: &str = "size=48m";
/// Most messages that may still find room once the disk is full: what the log has in hand.
const MAX_POSTS: u32 = 5_000;
/// Messages sent while it is full.
const REFUSED: u32 = 20;
/// How long the disk stays full at least.
const FULL_FOR: Duration = Duration::from_secs(2);
/// Messages whose work is under way when it fills up.
const UNDER_WAY: u32 = 50;

/// A disk of its own in memory, until it is dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", DISK, "aof-test"])
            .arg(dir.path())
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then(|| Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.path().join("ballast")).expect("a file");
        for size in [1 << 20, 1 << 12, 1] {
            let block = vec![0; size];
            while file.write_all(&block).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.path().join("ballast")).expect("the ballast");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the node may be about to close its files.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// A mention in a channel of its own, so that no answer waits for another.
fn event(n: u32) -> String {
    let ts = format!("1700000000.{n:06}");
    let mut event: Value =
        serde_json::from_str(&mention(&format!("C{n:08}"), "U0000001", &ts, "hello"))
            .expect("JSON");
    event["event"]["blocks"] = "x".repeat(8_192).into();
    event.to_string()
}

/// Posts message `n`: its id, or `None` for a 503 that says when to come back.
async fn post(sender: &Sender, n: u32) -> Option<String> {
    let answer = sender.post(event(n)).await.expect("the node answers");
    let status = answer.status().as_u16();
    let retry_after = answer.headers().get("retry-after").cloned();
    let body = answer.text().await.expect("a body");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    if status == 200 {
        return Some(body["message_id"].as_str().expect("an id").to_owned());
    }
    assert_eq!(status, 503, "{body}");
    let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    assert!(retry_after.is_some(), "when to come back: {body}");
    None
}

/// Posts message `n` until it is taken.
async fn insist(sender: &Sender, n: u32) -> String {
    until("the node to take messages again", async || post(sender, n).await).await
}

#[tokio::test]
async fn a_full_disk_is_503_loses_nothing_and_heals_when_there_is_room() {
    let Some(disk) = SmallDisk::mount() else {
        println!("left out: a full disk; mounting a small one needs root");
        return;
    };
    let (slack, address) = Slack::start(&[]).await;
    let manifests = Manifests::new("");
    manifests.agent("echo", "  model: echo:repeat\n");
    let trigger = slack_trigger(address, "xoxb-1", SIGNING_SECRET, "");
    manifests.flow("ops", &format!("{trigger}  agents: [{{name: echo}}]\n"));
    let node =
        Node::start_embedded(env!("CARGO_BIN_EXE_aofctl"), manifests.dir.path(), disk.path());
    let (api, sender) = (Api::operator(&node, "default"), Sender::new(&node.url, "default"));

    let mut accepted =
        futures_util::future::join_all((0..UNDER_WAY).map(|n| insist(&sender, n))).await;
    disk.fill();
    let mut sent = UNDER_WAY;
    let first_refused = loop {
        match post(&sender, sent).await {
            Some(id) => accepted.push(id),
            None => break sent,
        }
        sent += 1;
        assert!(sent < MAX_POSTS, "a full disk still takes messages");
    };
    let mut refused = vec![first_refused];
    for n in sent + 1..=sent + REFUSED {
        match post(&sender, n).await {
            Some(id) => accepted.push(id),
            None => refused.push(n),
        }
    }
    let since = Instant::now();
    let before = accepted.len();
    let done = api.events("run.completed").await.len();
    let probe = async |path: &str| {
        reqwest::get(format!("{}/{path}", node.url)).await.expect("an answer").status().as_u16()
    };
    assert_eq!(probe("livez").await, 200, "a full disk is no reason to be killed");
    println!("full: {before} accepted, {done} ended");
    let ready = reqwest::get(format!("{}/readyz", node.url)).await.expect("an answer");
    assert_eq!(ready.status().as_u16(), 503, "a full disk takes no work");
    let ready: Value = ready.json().await.expect("JSON");
    let why = ready["parts"]["storage"].as_str().unwrap_or_default();
    assert!(why.contains("is full") && why.contains("make room"), "{ready}");
    while since.elapsed() < FULL_FOR {
        let again = post(&sender, first_refused).await;
        assert!(again.is_none(), "a full disk takes a message that it refused");
    }
    disk.free();
    for n in refused.clone() {
        accepted.push(insist(&sender, n).await);
    }
    println!("freed: {} refused before are accepted now", refused.len());
    let ended = until("every accepted message to end", async || {
        let ended = api.events("run.completed").await;
        (ended.len() >= accepted.len()).then_some(ended)
    })
    .await;
    let mut ids: Vec<_> = ended.iter().filter_map(|event| event["message_id"].as_str()).collect();
    let mut expected: Vec<_> = accepted.iter().map(String::as_str).collect();
    ids.sort_unstable();
    expected.sort_unstable();
    assert_eq!(ids, expected, "each ended once, and nothing else did");
    until("every answer", async || {
        (slack.calls("chat.postMessage").len() >= accepted.len()).then_some(())
    })
    .await;
    assert_eq!(slack.posted(), accepted.len() as u64, "each answered once");
    until("readiness by itself", async || (probe("readyz").await == 200).then_some(())).await;
    let said = node.log().matches("requests are refused").count();
    assert_eq!(said, 1, "one line a minute for {} refusals: {}", refused.len(), node.log());
    drop(node);
}
