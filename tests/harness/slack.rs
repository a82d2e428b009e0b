//! A stand-in for Slack's Web API.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::{Path as UrlPath, State};
use axum::http::HeaderMap;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};

/// Sees a call's method and arguments.
type Observer = dyn Fn(&str, &Value) + Send + Sync;

/// Slack's Web API as far as the product calls it; records every call.
#[derive(Clone, Default)]
pub struct Slack {
    calls: Arc<Mutex<Vec<(String, Value)>>>,
    posted: Arc<AtomicU64>,
    channels: Arc<Mutex<BTreeMap<String, String>>>,
    refusals: Arc<Mutex<BTreeMap<String, String>>>,
    observer: Option<Arc<Observer>>,
}

impl Slack {
    /// `channels` are id and name.
    pub async fn start(channels: &[(&str, &str)]) -> (Self, SocketAddr) {
        Self::default().listen(channels).await
    }

    /// Sees every call instead of keeping it, for load tests.
    pub async fn observed(
        observer: impl Fn(&str, &Value) + Send + Sync + 'static,
    ) -> (Self, SocketAddr) {
        Self { observer: Some(Arc::new(observer)), ..Self::default() }.listen(&[]).await
    }

    async fn listen(self, channels: &[(&str, &str)]) -> (Self, SocketAddr) {
        let pairs = channels.iter().map(|(id, name)| ((*id).to_owned(), (*name).to_owned()));
        self.channels.lock().expect("ok").extend(pairs);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let app =
            Router::new().route("/api/{method}", post(answer).get(answer)).with_state(self.clone());
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(async move { axum::serve(listener, app).await });
        (self, addr)
    }

    pub fn calls(&self, method: &str) -> Vec<Value> {
        let calls = self.calls.lock().expect("ok");
        calls.iter().filter(|(name, _)| name == method).map(|(_, body)| body.clone()).collect()
    }

    /// Answers all calls of `method` with this error, until told otherwise.
    pub fn refuse(&self, method: &str, error: Option<&str>) {
        let mut refusals = self.refusals.lock().expect("ok");
        match error {
            Some(error) => refusals.insert(method.to_owned(), error.to_owned()),
            None => refusals.remove(method),
        };
    }

    pub fn posted(&self) -> u64 {
        self.posted.load(Ordering::SeqCst)
    }
}

async fn answer(
    State(slack): State<Slack>,
    UrlPath(method): UrlPath<String>,
    uri: axum::http::Uri,
    headers: HeaderMap,
    body: String,
) -> Json<Value> {
    let form = headers
        .get("content-type")
        .is_some_and(|t| t.to_str().unwrap_or_default().starts_with("application/x-www-form"));
    let args: Value = if form || body.is_empty() {
        let text = if body.is_empty() { uri.query().unwrap_or_default() } else { &body };
        Value::Object(
            url_pairs(text).into_iter().map(|(name, value)| (name, Value::String(value))).collect(),
        )
    } else {
        serde_json::from_str(&body).unwrap_or(Value::Null)
    };
    if let Some(observer) = &slack.observer {
        observer(&method, &args);
    } else {
        slack.calls.lock().expect("ok").push((method.clone(), args.clone()));
    }
    if let Some(error) = slack.refusals.lock().expect("ok").get(&method) {
        return Json(json!({"ok": false, "error": error}));
    }
    let channel = args["channel"].as_str().unwrap_or_default().to_owned();
    Json(match method.as_str() {
        "chat.postMessage" => {
            let n = slack.posted.fetch_add(1, Ordering::SeqCst);
            json!({"ok": true, "channel": channel, "ts": format!("1800000000.{n:06}")})
        }
        "auth.test" => json!({"ok": true, "user_id": "U0BOT", "bot_id": "B0BOT", "team_id": "T1"}),
        "conversations.info" => match slack.channels.lock().expect("ok").get(&channel) {
            Some(name) => {
                json!({"ok": true, "channel": {"id": channel, "name": name, "is_channel": true}})
            }
            None => json!({"ok": false, "error": "channel_not_found"}),
        },
        "conversations.list" => {
            let channels = slack.channels.lock().expect("ok");
            let list: Vec<_> =
                channels.iter().map(|(id, name)| json!({"id": id, "name": name})).collect();
            json!({"ok": true, "channels": list, "response_metadata": {"next_cursor": ""}})
        }
        _ => json!({"ok": true, "channel": channel, "ts": args["ts"]}),
    })
}

fn url_pairs(text: &str) -> Vec<(String, String)> {
    let decode = |part: &str| {
        let mut bytes = Vec::new();
        let mut rest = part.bytes();
        while let Some(byte) = rest.next() {
            match byte {
                b'+' => bytes.push(b' '),
                b'%' => {
                    let hex: Vec<u8> = rest.by_ref().take(2).collect();
                    let text = String::from_utf8(hex).unwrap_or_default();
                    bytes.push(u8::from_str_radix(&text, 16).unwrap_or(b'?'));
                }
                other => bytes.push(other),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}
