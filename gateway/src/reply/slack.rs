//! Egress to Slack: text, threads, approval cards; within Slack's limits.

pub mod blocks;
pub mod client;
pub mod mrkdwn;

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use aof_shared::config::Instance;
use aof_shared::message::{Address, Reply};

use self::client::Method;
use super::pace::Pace;
use super::paced::{Paced, bounded, pieces};
use super::port::{Body, Outlet, Piece, Posted, SendError};
use super::split::{Unit, split_bounded};

/// Longest text of one message; Slack advises 4,000 and cuts at 40,000.
const MAX_TEXT_CHARS: usize = 3_900;
/// Messages that one answer may become; the last one says what is left out.
const MAX_PARTS: usize = 10;
/// Longest Markdown that is converted at all.
const MAX_MARKDOWN_CHARS: usize = MAX_TEXT_CHARS * MAX_PARTS;
/// What people tap on; a vote's emoji at the ingress.
const SEEDS: [&str; 2] = ["+1", "-1"];
/// Longest wait for the admission of a seed; beyond it the card goes without.
const MAX_SEED_WAIT_MS: u64 = 2_000;
/// A window of a minute, as Slack counts tiers.
const MINUTE_MS: u64 = 60_000;
/// Stands in for nothing, which Slack refuses.
const EMPTY_ANSWER: &str = "_The agent gave an empty answer._";

/// Slack's limit for `method` as `instance` (in `channel`). Source: platforms.md, *Slack*.
#[must_use]
pub fn pace(instance: &Instance, method: Method, channel: &str) -> Pace {
    pace_of(instance.tenant.as_str(), instance.name.as_str(), method, channel)
}

fn pace_of(tenant: &str, instance: &str, method: Method, channel: &str) -> Pace {
    let base = format!("slack/{tenant}/{instance}/{}", method.name());
    let (scope, label, limit, window_ms) = match method {
        Method::PostMessage => (format!("{base}/{channel}"), "slack/chat.postMessage", 1, 1_000),
        Method::Update => (base, "slack/chat.update", 50, MINUTE_MS),
        Method::React => (base, "slack/reactions.add", 50, MINUTE_MS),
        Method::ChannelInfo => (base, "slack/conversations.info", 50, MINUTE_MS),
        Method::ChannelList => (base, "slack/conversations.list", 20, MINUTE_MS),
        Method::AuthTest => (base, "slack/auth.test", 100, MINUTE_MS),
    };
    Pace { scope, label, limit, window_ms }
}

/// Slack, paced: every call takes its admission first, and a 429 closes its scope.
#[derive(Clone)]
pub struct Slack(Paced);

impl Slack {
    /// Calls through `paced`.
    #[must_use]
    pub fn new(paced: Paced) -> Self {
        Self(paced)
    }

    /// Calls `method` within its limit; `channel` matters for posting only.
    ///
    /// # Errors
    /// [`SendError`], `Limited` also when the pacing says no.
    pub async fn call(
        &self,
        instance: &Instance,
        method: Method,
        channel: &str,
        body: &Value,
    ) -> Result<Value, SendError> {
        let request = client::request(&self.0.caller, instance, method, body)?;
        let paces = [pace(instance, method, channel)];
        self.0.call(&paces, request, |answer| client::classify(method, answer)).await
    }
}

/// The Slack outlet.
pub struct SlackOutlet {
    slack: Slack,
}

impl SlackOutlet {
    /// Sends as the accounts of the configuration.
    #[must_use]
    pub fn new(paced: Paced) -> Self {
        Self { slack: Slack::new(paced) }
    }
}

/// The method by which `body` goes out.
fn method_of(body: &Body) -> Method {
    match body {
        Body::Card { replaces: Some(_), .. } => Method::Update,
        Body::Card { replaces: None, .. } | Body::Text(_) => Method::PostMessage,
    }
}

/// Markdown as texts that fit into messages.
fn texts(markdown: &str) -> Vec<String> {
    let (kept, cut_chars) = bounded(markdown, MAX_MARKDOWN_CHARS);
    let text = mrkdwn::from_markdown(kept);
    if text.trim().is_empty() {
        return vec![EMPTY_ANSWER.to_owned()];
    }
    split_bounded(text.trim_end(), (MAX_TEXT_CHARS, Unit::Chars), MAX_PARTS, cut_chars)
}

/// The request's body for `body`.
fn request(to: &Address, piece: &Piece) -> Value {
    let mut request = json!({
        "channel": to.channel,
        "unfurl_links": false,
        "unfurl_media": false,
    });
    match &piece.body {
        Body::Text(text) => request["text"] = json!(text),
        Body::Card { view, .. } => {
            let card = blocks::card(view);
            request["text"] = json!(card.text);
            request["blocks"] = card.blocks;
        }
    }
    if let Body::Card { replaces: Some(ts), .. } = &piece.body {
        request["ts"] = json!(ts);
        return request;
    }
    if let Some(thread) = &to.thread {
        request["thread_ts"] = json!(thread);
    }
    // Names the reply to whoever reads the channel's history through the API.
    request["metadata"] =
        json!({"event_type": "aof_reply", "event_payload": {"reply_id": piece.id}});
    request
}

#[async_trait]
impl Outlet for SlackOutlet {
    fn pieces(&self, reply: &Reply) -> Vec<Piece> {
        pieces(reply, texts)
    }

    fn repeatable(&self, body: &Body) -> bool {
        method_of(body).repeatable()
    }

    fn wait_ms(&self, reply: &Reply, body: &Body) -> u64 {
        let to = &reply.to;
        let method = method_of(body);
        let pace = pace_of(to.tenant.as_str(), to.instance.as_str(), method, &to.channel);
        self.slack.0.wait_ms(&[pace])
    }

    async fn send(&self, reply: &Reply, piece: &Piece) -> Result<Posted, SendError> {
        let instance = self.slack.0.instance(&reply.to)?;
        let method = method_of(&piece.body);
        let body = request(&reply.to, piece);
        let answer = self.slack.call(&instance, method, &reply.to.channel, &body).await?;
        let text = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
        Ok(Posted { id: text("ts"), channel: text("channel") })
    }

    async fn decorate(&self, reply: &Reply, posted: &str) {
        let Ok(instance) = self.slack.0.instance(&reply.to) else { return };
        for name in SEEDS {
            let body = json!({"channel": reply.to.channel, "timestamp": posted, "name": name});
            let call = || self.slack.call(&instance, Method::React, &reply.to.channel, &body);
            let mut result = call().await;
            if let Err(SendError::Limited { retry_after_ms, .. }) = result
                && retry_after_ms <= MAX_SEED_WAIT_MS
            {
                tokio::time::sleep(Duration::from_millis(retry_after_ms)).await;
                result = call().await;
            }
            if let Err(error) = result {
                // `already_reacted` ends here too. The buttons decide as well.
                tracing::debug!(%error, name, "card goes without a reaction to tap on");
            }
        }
    }
}

#[cfg(test)]
mod tests;
