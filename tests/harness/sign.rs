//! What Slack would send, signed as Slack signs it.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;

/// The signing secret of every Slack instance in these tests.
pub const SIGNING_SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";

/// Seconds since the epoch.
#[expect(clippy::disallowed_methods, reason = "signs as Slack does, with the real time")]
pub fn now_secs() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs()
}

/// Slack's signature over `body` at `timestamp`.
pub fn sign(secret: &str, timestamp: u64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.update(format!("v0:{timestamp}:{body}").as_bytes());
    format!("v0={}", hex::encode(mac.finalize().into_bytes()))
}

/// An `app_mention` as Slack sends it.
pub fn mention(channel: &str, user: &str, ts: &str, text: &str) -> String {
    json!({
        "token": "gone", "team_id": "T1", "api_app_id": "A1", "type": "event_callback",
        "event_id": format!("Ev{}{channel}", ts.replace('.', "")), "event_time": 1_700_000_000,
        "authorizations": [{"enterprise_id": null, "team_id": "T1", "user_id": "U0BOT", "is_bot": true,
            "is_enterprise_install": false}],
        "event": {"type": "app_mention", "user": user, "text": format!("<@U0BOT> {text}"), "ts": ts,
            "channel": channel, "event_ts": ts, "team": "T1"},
    })
    .to_string()
}

/// A reaction as Slack sends it.
pub fn reaction(channel: &str, user: &str, item_ts: &str, name: &str) -> String {
    json!({
        "token": "gone", "team_id": "T1", "api_app_id": "A1", "type": "event_callback",
        "event_id": format!("EvR{user}{name}{}", item_ts.replace('.', "")), "event_time": 1_700_000_000,
        "authorizations": [{"enterprise_id": null, "team_id": "T1", "user_id": "U0BOT", "is_bot": true,
            "is_enterprise_install": false}],
        "event": {"type": "reaction_added", "user": user, "reaction": name, "item_user": "U0BOT",
            "item": {"type": "message", "channel": channel, "ts": item_ts}, "event_ts": "1700000000.0001"},
    })
    .to_string()
}

/// A click on a card's button, as the `payload` field of Slack's form holds it.
pub fn button(user: &str, action_id: &str, value: &str, n: u32) -> String {
    json!({
        "type": "block_actions", "api_app_id": "A1", "team": {"id": "T1"}, "user": {"id": user},
        "trigger_id": format!("13345224609.{n}.{user}"), "container": {"type": "message"},
        "actions": [{"type": "button", "block_id": "b", "action_id": action_id, "value": value,
            "action_ts": format!("1700000000.{n:06}")}],
    })
    .to_string()
}

/// Where signed bodies go, and with which secret.
#[derive(Clone)]
pub struct Sender {
    pub http: reqwest::Client,
    pub url: String,
    pub instance: String,
    pub secret: String,
}

impl Sender {
    /// Posts to `<url>/webhook/slack/<instance>` with the harness' own secret.
    pub fn new(url: &str, instance: &str) -> Self {
        Self {
            http: reqwest::Client::new(),
            url: url.to_owned(),
            instance: instance.to_owned(),
            secret: SIGNING_SECRET.to_owned(),
        }
    }

    /// The same with another secret.
    pub fn signing_with(&self, secret: &str) -> Self {
        Self { secret: secret.to_owned(), ..self.clone() }
    }

    /// Posts a signed event.
    pub async fn post(&self, body: String) -> reqwest::Result<reqwest::Response> {
        self.post_as("application/json", body).await
    }

    /// Posts a signed form: a slash command or an interaction.
    pub async fn post_form(&self, fields: &[(&str, &str)]) -> reqwest::Result<reqwest::Response> {
        let body = serde_urlencoded::to_string(fields).expect("pairs are a form");
        self.post_as("application/x-www-form-urlencoded", body).await
    }

    async fn post_as(&self, kind: &str, body: String) -> reqwest::Result<reqwest::Response> {
        let timestamp = now_secs();
        let signature = sign(&self.secret, timestamp, &body);
        self.http
            .post(format!("{}/webhook/slack/{}", self.url, self.instance))
            .header("content-type", kind)
            .header("x-slack-request-timestamp", timestamp.to_string())
            .header("x-slack-signature", signature)
            .body(body)
            .send()
            .await
    }

    /// Posts a signed body and expects a 2xx.
    pub async fn accepted(&self, body: String) -> serde_json::Value {
        let answer = self.post(body).await.expect("the node answers");
        let status = answer.status();
        let text = answer.text().await.expect("a body");
        assert!(status.is_success(), "{status}: {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }
}
