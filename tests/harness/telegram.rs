//! Telegram's Bot API by people who are not us: `telegram-test-api` from npm.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use serde_json::{Value, json};

use crate::until;

/// The token of the bot, whose own id is 42.
pub const TELEGRAM_TOKEN: &str = "42:test-token";
/// What the webhook was registered with.
pub const TELEGRAM_SECRET: &str = "a_secret-of-the-webhook";
/// The group that everybody is in.
pub const TELEGRAM_GROUP: i64 = -100_500;

/// Its program, for [`crate::tool`].
pub const TELEGRAM: &str = "node_modules/telegram-test-api/lib/index.js";

/// Ports that may turn out to be taken before it has one.
const MAX_STARTS: u32 = 5;

/// A running stand-in; ends with its value.
pub struct Telegram {
    pub addr: SocketAddr,
    http: reqwest::Client,
    child: Child,
    /// Statuses and bodies with which the node answered what the stand-in delivered.
    answers: Arc<Mutex<Vec<(u16, Value)>>>,
}

/// Carries deliveries to the node as Telegram itself would: the stand-in knows no secret.
#[derive(Clone)]
struct Relay {
    http: reqwest::Client,
    webhook: String,
    answers: Arc<Mutex<Vec<(u16, Value)>>>,
}

impl Telegram {
    /// Starts it.
    pub async fn start(script: &Path) -> Self {
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0);
        let http = http.build().expect("a client");
        for _ in 0..MAX_STARTS {
            let (addr, child) = launch(script);
            let answers = Arc::default();
            let mut telegram = Self { addr, http: http.clone(), child, answers };
            if telegram.listens().await {
                return telegram;
            }
        }
        panic!("telegram-test-api ended {MAX_STARTS} times before it listened");
    }

    /// Waits until it answers; `false` when it ended instead.
    async fn listens(&mut self) -> bool {
        until("telegram-test-api to listen or to end", async || {
            if self.child.try_wait().expect("a child").is_some() {
                return Some(false);
            }
            self.call(&format!("bot{TELEGRAM_TOKEN}/getMe"), &json!({})).await.map(|_| true)
        })
        .await
    }

    async fn call(&self, path: &str, body: &Value) -> Option<Value> {
        let url = format!("http://{}/{path}", self.addr);
        self.http.post(url).json(body).send().await.ok()?.json().await.ok()
    }

    /// Delivers what people do from now on to `webhook`, with the secret.
    pub async fn deliver_to(&self, webhook: &str) {
        let relay = Relay {
            http: self.http.clone(),
            webhook: webhook.to_owned(),
            answers: Arc::clone(&self.answers),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let app = Router::new().route("/", post(carry)).with_state(relay);
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(async move { axum::serve(listener, app).await });
        let (method, body) = (format!("bot{TELEGRAM_TOKEN}/setWebhook"), json!({ "url": url }));
        assert_eq!(self.call(&method, &body).await.expect("it answers")["ok"], true);
    }

    /// The person `from` writes `text` in the group; gives the node's answer.
    pub async fn says(&self, from: i64, text: &str) -> (u16, Value) {
        let message = json!({ "botToken": TELEGRAM_TOKEN, "from": person(from), "text": text,
            "date": crate::now_secs(), "chat": group() });
        self.does("sendMessage", &message).await
    }

    /// The person `from` taps the button with `data` below `card`; gives the node's answer.
    pub async fn taps(&self, from: i64, card: &Value, data: &str) -> (u16, Value) {
        let message = json!({ "message_id": card["messageId"], "chat": group(), "date": 1 });
        let tap = json!({ "botToken": TELEGRAM_TOKEN, "from": person(from), "data": data,
            "message": message });
        self.does("sendCallback", &tap).await
    }

    async fn does(&self, what: &str, body: &Value) -> (u16, Value) {
        let count = || self.answers.lock().expect("no panic while it is held").len();
        let before = count();
        assert_eq!(self.call(what, body).await.expect("it answers")["ok"], true);
        until("the node's answer", async || (count() > before).then_some(())).await;
        self.answers.lock().expect("no panic while it is held")[before].clone()
    }

    /// What the bot has written in the group, as it looks now.
    pub async fn written(&self) -> Vec<Value> {
        let asked = json!({ "token": TELEGRAM_TOKEN });
        let history = self.call("getUpdatesHistory", &asked).await.expect("it answers");
        let items = history["result"].as_array().expect("a list").clone();
        items.into_iter().filter(|item| item["message"]["chat_id"] == TELEGRAM_GROUP).collect()
    }

    /// The first of [`Self::written`] that satisfies `wanted`.
    pub async fn shown(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until(what, async || self.written().await.into_iter().find(|item| wanted(&item["message"])))
            .await
    }
}

impl Drop for Telegram {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A reaction of the person `from` to the message `id`, which the stand-in does not know of.
pub fn telegram_reaction(update: u64, from: i64, id: &str, emoji: &str) -> String {
    let id: i64 = id.parse().expect("a number");
    json!({ "update_id": update, "message_reaction": { "chat": group(), "message_id": id,
        "user": person(from), "date": crate::now_secs(), "old_reaction": [],
        "new_reaction": [{ "type": "emoji", "emoji": emoji }] } })
    .to_string()
}

fn person(id: i64) -> Value {
    json!({ "id": id, "is_bot": false, "first_name": format!("Person {id}") })
}

fn group() -> Value {
    json!({ "id": TELEGRAM_GROUP, "type": "supergroup", "title": "Ops" })
}

async fn carry(State(relay): State<Relay>, body: String) -> StatusCode {
    let sent = relay.http.post(&relay.webhook).header("content-type", "application/json");
    let sent = sent.header("x-telegram-bot-api-secret-token", TELEGRAM_SECRET).body(body);
    let answer = sent.send().await.expect("the node answers");
    let status = answer.status().as_u16();
    let body = answer.json().await.unwrap_or_default();
    relay.answers.lock().expect("no panic while it is held").push((status, body));
    // The stand-in ends where a webhook fails.
    StatusCode::OK
}

/// Starts it on a port that is free for now: it takes no port 0.
fn launch(script: &Path) -> (SocketAddr, Child) {
    let addr = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port");
    let program = "const T = require(process.argv[1]); \
        new T({ host: '127.0.0.1', port: Number(process.argv[2]), storeTimeout: 3600 }).start()";
    let child = Command::new("node")
        .args(["-e", program])
        .arg(script)
        .arg(addr.port().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("node runs");
    (addr, child)
}
