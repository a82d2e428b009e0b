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
pub fn sign(timestamp: u64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SIGNING_SECRET.as_bytes()).expect("any length");
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

/// Posts a signed body to `/webhook/slack/<instance>`.
pub async fn post_signed(
    http: &reqwest::Client,
    node: &str,
    instance: &str,
    body: String,
) -> reqwest::Result<reqwest::Response> {
    let timestamp = now_secs();
    http.post(format!("{node}/webhook/slack/{instance}"))
        .header("content-type", "application/json")
        .header("x-slack-request-timestamp", timestamp.to_string())
        .header("x-slack-signature", sign(timestamp, &body))
        .body(body)
        .send()
        .await
}
