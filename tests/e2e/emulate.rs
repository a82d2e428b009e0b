//! The main job against a Slack that is not ours, through a real node: `emulate` from npm
//! keeps the channels, threads, reactions and cards. It does not sign what it sends, nor
//! can it be told where to send it, so the signed callbacks are sent beside it.

use std::path::Path;

use aof_harness::{
    Api, EMULATE, Emulate, Manifests, Member, Node, Sender, button, mention, reaction,
    slack_trigger, until,
};
use serde_json::Value;

/// A workspace with its people, and a node that serves it.
struct Stage {
    slack: Emulate,
    bot: Member,
    lead: Member,
    manager: Member,
    stranger: Member,
    channel: String,
    api: Api,
    sender: Sender,
    _node: Node,
    _manifests: Manifests,
    _data: tempfile::TempDir,
}

async fn stage(script: &Path) -> Stage {
    let people = ["lead", "manager", "stranger"];
    let slack = Emulate::start(script, &people, &["production", "lounge"]).await;
    let (bot, stranger) = (slack.member("aof").await, slack.member("stranger").await);
    let (lead, manager) = (slack.member("lead").await, slack.member("manager").await);
    let manifests = Manifests::new("");
    manifests.agent("shell", "  runtime: command\n  tools: [uname, mktemp]\n");
    let channels = "      channels: [production]\n";
    let secret = aof_harness::SIGNING_SECRET;
    let trigger = slack_trigger(slack.addr, &bot.token, secret, channels);
    let approval = format!(
        "  agents: [{{name: shell}}]\n  approval:\n    chains:\n      - {{name: critical, approvers: \
         [{}, {}], require: 2}}\n    rules:\n      - {{pattern: mktemp, chain: critical}}\n",
        lead.id, manager.id
    );
    manifests.flow("ops", &format!("{trigger}{approval}"));
    let data = tempfile::tempdir().expect("a folder");
    let node = Node::start(env!("CARGO_BIN_EXE_aofctl"), manifests.dir.path(), data.path());
    Stage {
        channel: slack.channel("production").await,
        api: Api::operator(&node, "default"),
        sender: Sender::new(&node.url, "default"),
        slack,
        bot,
        lead,
        manager,
        stranger,
        _node: node,
        _manifests: manifests,
        _data: data,
    }
}

impl Stage {
    /// The stranger says it to the bot in `channel`; gives the message's `ts`.
    async fn says(&self, channel: &str, text: &str) -> String {
        let said = format!("<@{}> {text}", self.bot.id);
        let form = [("channel", channel), ("text", said.as_str())];
        let posted = self.slack.ask(&self.stranger.token, "chat.postMessage", &form).await;
        let ts = posted["ts"].as_str().expect("a ts").to_owned();
        let event = mention(channel, &self.stranger.id, &ts, text);
        self.sender.accepted(event.replace("U0BOT", &self.bot.id)).await;
        ts
    }

    /// The first message below `ts` whose text satisfies `wanted`, as Slack shows it.
    async fn shown(&self, ts: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until(what, async || {
            let thread = self.slack.thread(&self.channel, ts).await;
            thread.into_iter().skip(1).find(|message| wanted(message))
        })
        .await
    }

    /// Asks for something destructive; gives the thread, the action's id and its card.
    async fn held(&self, scratch: &Path) -> (String, String, Value) {
        let text = format!("mktemp -p {} did.XXXXXX", scratch.display());
        let thread = self.says(&self.channel, &text).await;
        let card = self
            .shown(&thread, "a card with two reactions to tap on", |message| {
                message["reactions"].as_array().is_some_and(|all| all.len() == 2)
            })
            .await;
        let id = button_value(&card, "aof.approve").expect("a button").to_owned();
        until("the node to know its card", async || {
            (self.api.approval(&id).await["posted"] == card["ts"]).then_some(())
        })
        .await;
        assert!(card["text"].as_str().is_some_and(|text| text.contains("mktemp")), "{card}");
        (thread, id, card)
    }

    /// Reacts on the card in Slack, and the node hears of it.
    async fn reacts(&self, who: &Member, card: &str, emoji: &str) {
        let form = [("channel", self.channel.as_str()), ("timestamp", card), ("name", emoji)];
        self.slack.ask(&who.token, "reactions.add", &form).await;
        let event = reaction(&self.channel, &who.id, card, emoji);
        self.sender.accepted(event.replace("U0BOT", &self.bot.id)).await;
    }

    async fn clicks(&self, who: &Member, id: &str, n: u32) {
        let payload = button(&who.id, "aof.approve", id, n);
        let answer = self.sender.post_form(&[("payload", &payload)]).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.text().await.expect("a body"), "", "Slack would show it");
    }

    async fn count(&self, kind: &str, count: usize) {
        until(&format!("{count} × {kind}"), async || {
            (self.api.events(kind).await.len() >= count).then_some(())
        })
        .await;
    }

    /// The card shows the end, has no button left, and the command ran once.
    async fn ran_once(&self, thread: &str, card: &Value, scratch: &Path) {
        let updated = self
            .shown(thread, "the card to show the end", |message| {
                message["ts"] == card["ts"]
                    && message["text"].as_str().is_some_and(|t| t.contains("Executed"))
            })
            .await;
        assert_eq!(button_value(&updated, "aof.approve"), None, "{updated}");
        let answer = self
            .shown(thread, "the answer", |message| {
                message["ts"] != card["ts"] && message["text"].to_string().contains("did.")
            })
            .await;
        assert_eq!(answer["user"], self.bot.id.as_str(), "{answer}");
        assert_eq!(std::fs::read_dir(scratch).expect("a folder").count(), 1, "it ran once");
        assert_eq!(self.api.events("action.started").await.len(), 1);
        assert_eq!(self.slack.thread(&self.channel, thread).await.len(), 3);
    }
}

/// The value of a button of the card's blocks.
fn button_value<'a>(card: &'a Value, action: &str) -> Option<&'a str> {
    let blocks = card["blocks"].as_array()?.iter();
    let mut elements = blocks.filter_map(|block| block["elements"].as_array()).flatten();
    elements.find(|element| element["action_id"] == action)?["value"].as_str()
}

#[tokio::test]
async fn a_mention_is_answered_in_its_thread_and_reactions_of_two_run_what_was_held_once() {
    let Some(script) = aof_harness::tool(EMULATE) else { return };
    let stage = stage(&script).await;
    let lounge = stage.slack.channel("lounge").await;
    stage.says(&lounge, "uname -s").await;
    stage.count("message.unrouted", 1).await;
    let asked = stage.says(&stage.channel, "uname -s").await;
    let linux = |m: &Value| m["text"].as_str().is_some_and(|text| text.contains("Linux"));
    stage.shown(&asked, "the answer", linux).await;
    assert_eq!(stage.api.events("message.routed").await.len(), 1, "by the channel's name");

    let scratch = tempfile::tempdir().expect("a folder");
    let (thread, id, card) = stage.held(scratch.path()).await;
    let ts = card["ts"].as_str().expect("a ts");
    stage.reacts(&stage.stranger, ts, "white_check_mark").await;
    stage.count("approval.vote_rejected", 1).await;
    stage.reacts(&stage.lead, ts, "+1").await;
    stage.reacts(&stage.lead, ts, "white_check_mark").await;
    stage.count("approval.voted", 1).await;
    assert_eq!(stage.api.approval(&id).await["status"], "pending", "one person is one vote");
    assert_eq!(std::fs::read_dir(scratch.path()).expect("a folder").count(), 0);
    stage.reacts(&stage.manager, ts, "+1").await;
    stage.ran_once(&thread, &card, scratch.path()).await;
    let rejected = stage.api.events("approval.vote_rejected").await;
    assert!(rejected[0].to_string().contains(&stage.stranger.id), "{rejected:?}");
}

#[tokio::test]
async fn buttons_pressed_by_two_run_it_once() {
    let Some(script) = aof_harness::tool(EMULATE) else { return };
    let stage = stage(&script).await;
    let scratch = tempfile::tempdir().expect("a folder");
    let (thread, id, card) = stage.held(scratch.path()).await;
    stage.clicks(&stage.stranger, &id, 1).await;
    stage.count("approval.vote_rejected", 1).await;
    stage.clicks(&stage.lead, &id, 2).await;
    stage.clicks(&stage.lead, &id, 3).await;
    stage.count("approval.voted", 1).await;
    assert_eq!(stage.api.approval(&id).await["status"], "pending", "one person is one vote");
    stage.clicks(&stage.manager, &id, 4).await;
    stage.ran_once(&thread, &card, scratch.path()).await;
}
