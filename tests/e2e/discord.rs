//! Discord through a real node: approval by button and by reaction, commands answered in
//! place, and one gateway of two holding the connection. The other end is the harness' stub.

use std::process::Command;
use std::time::Instant;

use aof_harness::{
    Api, DISCORD_BOT, Discord, Manifests, Node, discord_interaction, discord_message,
    discord_reaction, discord_trigger, until,
};
use serde_json::{Value, json};

use crate::cluster::Cluster;

const CHANNEL: &str = "300000000000000001";
const OTHER_CHANNEL: &str = "300000000000000002";
const ASKER: &str = "100000000000000001";
const LEAD: &str = "100000000000000002";
const MANAGER: &str = "100000000000000003";
const STRANGER: &str = "100000000000000004";

fn flow() -> String {
    format!(
        "  agents:\n    - name: shell\n  approval:\n    chains:\n      - {{name: critical, approvers: [\"{LEAD}\", \"{MANAGER}\"], require: 2}}\n    rules:\n      - {{pattern: mktemp, chain: critical}}\n"
    )
}

struct Story {
    node: Node,
    api: Api,
    discord: Discord,
    _manifests: Manifests,
    _data: tempfile::TempDir,
}

async fn story(more: &str) -> Story {
    let channels = [(CHANNEL, "production"), (OTHER_CHANNEL, "random")];
    let (discord, address) = Discord::start(&channels).await;
    let manifests = Manifests::new("");
    manifests.agent("shell", "  runtime: command\n  tools: [uname, mktemp]\n");
    let trigger = discord_trigger(address, "a-bot-token", more);
    manifests.flow("ops", &format!("{trigger}{}", flow()));
    let data = tempfile::tempdir().expect("a folder");
    let node = Node::start(env!("CARGO_BIN_EXE_aofctl"), manifests.dir.path(), data.path());
    let api = Api::operator(&node, "default");
    let story = Story { node, api, discord, _manifests: manifests, _data: data };
    until("a connection", async || story.discord.gateway().is_held().then_some(())).await;
    story
}

impl Story {
    fn say(&self, id: &str, channel: &str, text: &str) {
        let message = discord_message(id, channel, ASKER, &format!("<@{DISCORD_BOT}> {text}"));
        self.discord.gateway().dispatch("MESSAGE_CREATE", message);
    }

    /// The held action's id, and the card's.
    async fn held(&self) -> (String, String) {
        until("the approval", async || {
            let (_, list) = self.api.get("approvals?status=pending").await;
            let first = &list["approvals"][0];
            let posted = first["posted"].as_str()?.to_owned();
            Some((first["id"].as_str()?.to_owned(), posted))
        })
        .await
    }

    async fn executed(&self, id: &str) {
        until("its execution", async || {
            (self.api.approval(id).await["status"] == "executed").then_some(())
        })
        .await;
    }

    fn react(&self, user: &str, card: &str, emoji: &str) {
        let reaction = discord_reaction(CHANNEL, card, user, emoji);
        self.discord.gateway().dispatch("MESSAGE_REACTION_ADD", reaction);
    }

    async fn interact(&self, body: &Value) -> Value {
        let answer = discord_interaction(&self.node.url, "default", &body.to_string()).await;
        assert_eq!(answer.status(), 200);
        answer.json().await.expect("JSON")
    }

    async fn click(&self, user: &str, custom_id: &str, n: u32) -> Value {
        let id = format!("40000000000000000{n}");
        self.interact(&interaction(3, &id, user, &json!({"custom_id": custom_id}))).await
    }

    /// Waits until the card shows that it was executed, and has no buttons.
    async fn shown(&self, card: &str) {
        until("the card to show it", async || {
            let edits = self.discord.calls("PATCH", &format!("/messages/{card}"));
            let last = &edits.last()?.body;
            let done = last["embeds"][0]["title"].as_str()?.contains("Executed");
            (done && last["components"] == json!([])).then_some(())
        })
        .await;
    }
}

fn interaction(kind: u64, id: &str, user: &str, data: &Value) -> Value {
    json!({"type": kind, "id": id, "application_id": "800000000000000001", "token": "t0ken",
        "guild_id": aof_harness::DISCORD_SERVER, "channel_id": CHANNEL,
        "member": {"user": {"id": user, "username": "someone"}}, "data": data})
}

/// An id of an interaction that happens now: its time is in it.
fn fresh_id() -> String {
    let since_2015_ms = aof_harness::now_secs() * 1_000 - 1_420_070_400_000;
    (since_2015_ms << 22).to_string()
}

#[tokio::test]
async fn a_mention_is_one_run_answered_as_a_reply_in_the_named_channel_only() {
    let story = story("      channels: [production]\n").await;
    story.say("500000000000000001", CHANNEL, "uname -s");
    story.say("500000000000000001", CHANNEL, "uname -s");
    let posts = until("a post", async || {
        let posts = story.discord.calls("POST", &format!("/channels/{CHANNEL}/messages"));
        (!posts.is_empty()).then_some(posts)
    })
    .await;
    let post = &posts[0];
    assert_eq!(post.authorization, "Bot a-bot-token");
    assert_eq!(post.body["message_reference"]["message_id"], "500000000000000001");
    assert_eq!(post.body["allowed_mentions"]["parse"], json!([]));
    assert!(post.body["content"].as_str().is_some_and(|t| t.contains("Linux")), "{post:?}");
    assert_eq!(post.body["enforce_nonce"], true);
    story.say("500000000000000002", OTHER_CHANNEL, "uname -s");
    until("the verdict", async || {
        (!story.api.events("message.unrouted").await.is_empty()).then_some(())
    })
    .await;
    assert_eq!(story.api.events("run.started").await.len(), 1);
}

#[tokio::test]
async fn reactions_of_two_listed_people_run_it_once_and_update_the_card() {
    let story = story("").await;
    let scratch = tempfile::tempdir().expect("a folder");
    story.say(
        "500000000000000001",
        CHANNEL,
        &format!("mktemp -p {} did.XXXXXX", scratch.path().display()),
    );
    let (id, card) = story.held().await;
    until("seeds", async || (story.discord.calls("PUT", "/@me").len() == 2).then_some(())).await;
    // The bot's own seeds, a stranger, one person twice: none of them makes two.
    for (user, emoji) in [(DISCORD_BOT, "👍"), (STRANGER, "👍"), (LEAD, "👍"), (LEAD, "✅")]
    {
        story.react(user, &card, emoji);
    }
    until("the first vote", async || {
        (!story.api.events("approval.voted").await.is_empty()).then_some(())
    })
    .await;
    until("the stranger's refusal", async || {
        (!story.api.events("approval.vote_rejected").await.is_empty()).then_some(())
    })
    .await;
    assert_eq!(story.api.approval(&id).await["status"], "pending");
    story.react(MANAGER, &card, "👍🏽");
    story.executed(&id).await;
    assert_eq!(std::fs::read_dir(scratch.path()).expect("a folder").count(), 1, "it ran once");
    story.shown(&card).await;
}

#[tokio::test]
async fn buttons_decide_and_a_command_is_answered_in_place() {
    let story = story("").await;
    let scratch = tempfile::tempdir().expect("a folder");
    let task = format!("mktemp -p {} did.XXXXXX", scratch.path().display());
    let options = json!({"name": "ops", "options": [{"name": "task", "value": task}]});
    let asked = interaction(2, &fresh_id(), ASKER, &options);
    assert_eq!(story.interact(&asked).await, json!({"type": 5}), "it is put off");
    let (id, card) = story.held().await;
    for (n, (user, verb)) in
        [(STRANGER, "approve"), (LEAD, "approve"), (LEAD, "approve")].into_iter().enumerate()
    {
        let n = u32::try_from(n).expect("few");
        let answer = story.click(user, &format!("aof.{verb}:{id}"), n).await;
        assert_eq!(answer, json!({"type": 6}));
    }
    until("the first vote", async || {
        (!story.api.events("approval.voted").await.is_empty()).then_some(())
    })
    .await;
    assert_eq!(story.api.approval(&id).await["status"], "pending");
    story.click(MANAGER, &format!("aof.approve:{id}"), 8).await;
    story.executed(&id).await;
    assert_eq!(std::fs::read_dir(scratch.path()).expect("a folder").count(), 1, "it ran once");
    story.shown(&card).await;
    let answer = until("the answer in place", async || {
        story.discord.calls("PATCH", "/messages/@original").pop()
    })
    .await;
    assert_eq!(answer.path, "/webhooks/800000000000000001/t0ken/messages/@original");
    assert_eq!(answer.authorization, "", "the interaction's token speaks");
    let journal = json!(story.api.journal().await);
    assert!(!journal.to_string().contains("t0ken"), "{journal}");
    assert!(!story.node.log().contains("t0ken"), "{}", story.node.log());
}

#[tokio::test]
async fn what_is_not_discords_is_401() {
    let story = story("").await;
    let body = interaction(2, "400000000000000001", ASKER, &json!({"name": "ops"})).to_string();
    let answer = discord_interaction(&story.node.url, "default", r#"{"type":1}"#).await;
    assert_eq!(answer.json::<Value>().await.expect("JSON"), json!({"type": 1}));
    let forged = reqwest::Client::new()
        .post(format!("{}/webhook/discord/default", story.node.url))
        .header("x-signature-timestamp", aof_harness::now_secs().to_string())
        .header("x-signature-ed25519", "ab".repeat(64))
        .body(body);
    assert_eq!(forged.send().await.expect("an answer").status(), 401);
    assert!(story.api.events("message.accepted").await.is_empty());
}

#[tokio::test]
async fn the_node_and_discords_own_library_agree_on_every_signature() {
    let Some(python) = aof_harness::tool("python/bin/python") else { return };
    let script = crate::root().join("tests/e2e/discord_referee.py");
    let output = Command::new(python).arg(script).output().expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    let mut lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    assert_eq!(lines.next().expect("the key")["public"], aof_harness::discord_public_key());
    let story = story("").await;
    let (mut all, mut accepted, mut differ) = (0, 0, Vec::new());
    for case in lines {
        let body = case["body"].as_str().expect("text").to_owned();
        let url = format!("{}/webhook/discord/default", story.node.url);
        let mut request = reqwest::Client::new().post(url).body(body);
        for (name, value) in case["headers"].as_object().expect("headers") {
            request = request.header(name, value.as_str().expect("text"));
        }
        let status = request.send().await.expect("an answer").status().as_u16();
        // The same signature in capital digits is the same request: a replay.
        let replayed = case["name"] == "capital digits";
        let expected = if case["verdict"] == true && !replayed { 200 } else { 401 };
        all += 1;
        accepted += usize::from(status == 200);
        if status != expected {
            differ.push(case["name"].to_string());
        }
    }
    println!("{all} requests, {} agreed on, {accepted} accepted", all - differ.len());
    assert!(differ.is_empty(), "{differ:?}");
    assert_eq!(accepted, 2);
}

#[tokio::test]
async fn another_gateway_takes_the_connection_over_when_its_holder_is_killed() {
    let (discord, address) = Discord::start(&[(CHANNEL, "production")]).await;
    let cluster = Cluster::new();
    cluster.manifests.agent("shell", "  runtime: command\n  tools: [uname]\n");
    let trigger = discord_trigger(address, "a-bot-token", "");
    cluster.manifests.flow("discord", &format!("{trigger}  agents: [{{name: shell}}]\n"));
    let rest = ["router", "worker", "approver"].map(|role| cluster.node(role));
    let first = cluster.node("gateway");
    cluster.ready(&rest).await;
    cluster.ready(std::slice::from_ref(&first)).await;
    until("a connection", async || discord.gateway().is_held().then_some(())).await;
    let second = cluster.node("gateway");
    cluster.ready(std::slice::from_ref(&second)).await;
    let say = |id: &str| {
        let message = discord_message(id, CHANNEL, ASKER, &format!("<@{DISCORD_BOT}> uname"));
        discord.gateway().dispatch("MESSAGE_CREATE", message);
    };
    let answered = async |count: usize| {
        until(&format!("{count} answers"), async || {
            let posts = discord.calls("POST", &format!("/channels/{CHANNEL}/messages"));
            (posts.len() >= count).then_some(())
        })
        .await;
    };
    say("500000000000000001");
    answered(1).await;
    assert_eq!(discord.gateway().connections(), 1, "one of two holds it");
    // Killed, not asked to stop.
    drop(first);
    let killed = Instant::now();
    say("500000000000000002");
    answered(2).await;
    println!("taken over and answered after {} ms", killed.elapsed().as_millis());
    assert_eq!(discord.gateway().identified().len(), 1, "the session went on");
    assert!(!discord.gateway().resumed().is_empty());
}
