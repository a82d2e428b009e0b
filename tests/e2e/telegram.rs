//! The main job in a Telegram group that is not ours, through a real node:
//! `telegram-test-api` from npm delivers messages and taps and keeps what the bot writes.
//! It knows no secret and no reactions, so the secret is added on the way and reactions are
//! sent beside it.

use std::path::Path;

use aof_harness::{
    Api, Manifests, Node, TELEGRAM, TELEGRAM_SECRET, TELEGRAM_TOKEN, Telegram, telegram_reaction,
    until,
};
use serde_json::Value;

const LEAD: i64 = 1001;
const MANAGER: i64 = 1002;
const STRANGER: i64 = 1003;

/// A group with its people, and a node that serves it.
struct Stage {
    telegram: Telegram,
    api: Api,
    webhook: String,
    _node: Node,
    _manifests: Manifests,
    _data: tempfile::TempDir,
}

async fn stage(script: &Path) -> Stage {
    let telegram = Telegram::start(script).await;
    let manifests = Manifests::new("");
    manifests.agent("shell", "  runtime: command\n  tools: [uname, mktemp]\n");
    manifests.flow(
        "ops",
        &format!(
            "  trigger:\n    type: Telegram\n    config:\n      events: [message]\n      \
             bot_token: \"{TELEGRAM_TOKEN}\"\n      secret_token: {TELEGRAM_SECRET}\n      \
             bot_username: aof_bot\n      api_base_url: http://{}\n  agents: [{{name: shell}}]\n  \
             approval:\n    chains:\n      - {{name: critical, approvers: [\"{LEAD}\", \
             \"{MANAGER}\"], require: 2}}\n    rules:\n      - {{pattern: mktemp, chain: \
             critical}}\n",
            telegram.addr
        ),
    );
    let data = tempfile::tempdir().expect("a folder");
    let node = Node::start(env!("CARGO_BIN_EXE_aofctl"), manifests.dir.path(), data.path());
    let webhook = format!("{}/webhook/telegram/default", node.url);
    telegram.deliver_to(&webhook).await;
    let api = Api::operator(&node, "default");
    Stage { telegram, api, webhook, _node: node, _manifests: manifests, _data: data }
}

impl Stage {
    /// The stranger asks for something destructive; gives the action's id and its card.
    async fn held(&self, scratch: &Path) -> (String, Value) {
        let text = format!("mktemp -p {} did.XXXXXX", scratch.display());
        let (status, answer) = self.telegram.says(STRANGER, &text).await;
        assert_eq!((status, &answer["duplicate"]), (200, &Value::Bool(false)), "{answer}");
        let card = self.telegram.shown("a card", |m| button(m, 0).is_some()).await;
        let text = card["message"]["text"].as_str().expect("text");
        assert!(text.contains("mktemp") && text.contains("Approval needed"), "{card}");
        let data = button(&card["message"], 0).expect("a button");
        let id = data.strip_prefix("aof.approve:").expect("the first approves").to_owned();
        until("the node to know its card", async || {
            let posted = self.api.approval(&id).await["posted"].clone();
            (posted.as_str() == Some(&card["messageId"].to_string())).then_some(())
        })
        .await;
        (id, card)
    }

    async fn taps(&self, who: i64, card: &Value) {
        let data = button(&card["message"], 0).expect("a button");
        let (status, answer) = self.telegram.taps(who, card, &data).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["method"], "answerCallbackQuery", "the tap's wait ends: {answer}");
    }

    async fn reacts(&self, who: i64, card: &Value, (update, emoji): (u64, &str)) {
        let body = telegram_reaction(update, who, &card["messageId"].to_string(), emoji);
        let sent = self.api.http.post(&self.webhook).body(body);
        let sent = sent.header("x-telegram-bot-api-secret-token", TELEGRAM_SECRET);
        assert_eq!(sent.send().await.expect("an answer").status(), 200);
    }

    async fn count(&self, kind: &str, count: usize) {
        until(&format!("{count} × {kind}"), async || {
            (self.api.events(kind).await.len() >= count).then_some(())
        })
        .await;
    }

    /// The card shows the end, has no button left, and the command ran once.
    async fn ran_once(&self, card: &Value, scratch: &Path) {
        let says = |message: &Value, words: &str| {
            message["text"].as_str().is_some_and(|text| text.contains(words))
        };
        let done = self.telegram.shown("the end on the card", |m| says(m, "Executed")).await;
        assert_eq!(done["messageId"], card["messageId"], "in place");
        assert_eq!(button(&done["message"], 0), None, "{done}");
        let answered = |m: &Value| says(m, "did.") && !says(m, "Executed");
        self.telegram.shown("the answer", answered).await;
        assert_eq!(std::fs::read_dir(scratch).expect("a folder").count(), 1, "it ran once");
        assert_eq!(self.api.events("action.started").await.len(), 1);
        assert_eq!(self.telegram.written().await.len(), 2, "a card and an answer");
    }
}

/// The data of button number `at` below a message.
fn button(message: &Value, at: usize) -> Option<String> {
    let data = &message["reply_markup"]["inline_keyboard"][0][at]["callback_data"];
    data.as_str().map(str::to_owned)
}

#[tokio::test]
async fn a_message_is_answered_and_the_taps_of_two_run_what_was_held_once() {
    let Some(script) = aof_harness::tool(TELEGRAM) else { return };
    let stage = stage(&script).await;
    stage.telegram.says(STRANGER, "uname -s").await;
    let linux = |m: &Value| m["text"].as_str().is_some_and(|text| text.contains("Linux"));
    let answer = stage.telegram.shown("the answer", linux).await;
    assert!(answer["message"]["reply_parameters"]["message_id"].is_number(), "{answer}");

    let stage = self::stage(&script).await;
    let scratch = tempfile::tempdir().expect("a folder");
    let (id, card) = stage.held(scratch.path()).await;
    stage.taps(STRANGER, &card).await;
    stage.count("approval.vote_rejected", 1).await;
    stage.taps(LEAD, &card).await;
    stage.taps(LEAD, &card).await;
    stage.count("approval.voted", 1).await;
    assert_eq!(stage.api.approval(&id).await["status"], "pending", "one person is one vote");
    assert_eq!(std::fs::read_dir(scratch.path()).expect("a folder").count(), 0);
    stage.taps(MANAGER, &card).await;
    stage.ran_once(&card, scratch.path()).await;
    let rejected = stage.api.events("approval.vote_rejected").await;
    assert!(rejected[0].to_string().contains("1003"), "{rejected:?}");
}

#[tokio::test]
async fn reactions_of_two_run_it_once_and_those_of_others_do_not_count() {
    let Some(script) = aof_harness::tool(TELEGRAM) else { return };
    let stage = stage(&script).await;
    let scratch = tempfile::tempdir().expect("a folder");
    let (id, card) = stage.held(scratch.path()).await;
    stage.reacts(STRANGER, &card, (901, "👍")).await;
    stage.count("approval.vote_rejected", 1).await;
    stage.reacts(LEAD, &card, (902, "👍")).await;
    stage.reacts(LEAD, &card, (902, "👍")).await;
    stage.count("approval.voted", 1).await;
    assert_eq!(stage.api.approval(&id).await["status"], "pending", "one person is one vote");
    stage.reacts(MANAGER, &card, (903, "👍")).await;
    stage.ran_once(&card, scratch.path()).await;
}
