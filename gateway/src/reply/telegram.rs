//! Egress to Telegram: text with entities, topics and replies, approval cards; within its limits.

mod client;
mod styled;

#[cfg(test)]
mod tests;

use async_trait::async_trait;
use serde_json::{Value, json};

use aof_shared::action::ApprovalView;
use aof_shared::message::{Address, Reply};

use self::client::Method;
use self::styled::Styled;
use super::card::{self, Room};
use super::pace::Pace;
use super::paced::{Paced, bounded, pieces};
use super::port::{Body, Outlet, Piece, Posted, SendError};
use super::split::{Unit, split_bounded};
use crate::platform::telegram::place::Place;
use crate::platform::telegram::{APPROVE, DENY};

/// Longest text of one message. Source: Bot API, `sendMessage`, `text`.
const MAX_TEXT_UNITS: usize = 4_096;
/// Longest Markdown that becomes one message: what a list or table gains is less than the rest.
const MAX_MARKDOWN_UNITS: usize = 3_900;
/// Messages that one answer may become; the last one says what is left out.
const MAX_PARTS: usize = 10;
/// Longest Markdown that is cut at all.
const MAX_MARKDOWN_CHARS: usize = MAX_MARKDOWN_UNITS * MAX_PARTS;
/// All parts of a card together stay below [`MAX_TEXT_UNITS`].
const ROOM: Room = Room { unit: Unit::Utf16, command: 1_200, line: 150, outcome: 600 };
/// Stands in for nothing, which Telegram refuses.
const EMPTY_ANSWER: &str = "_The agent gave an empty answer._";
const MINUTE_MS: u64 = 60_000;

/// The Telegram outlet.
pub struct TelegramOutlet {
    paced: Paced,
}

impl TelegramOutlet {
    /// Sends as the accounts of the configuration.
    #[must_use]
    pub fn new(paced: Paced) -> Self {
        Self { paced }
    }

    async fn call(
        &self,
        reply: &Reply,
        method: Method,
        body: &Value,
    ) -> Result<Option<i64>, SendError> {
        let instance = self.paced.instance(&reply.to)?;
        let request = client::request(&self.paced.caller, &instance, method, body)?;
        let read = |answer: &super::call::Answer| client::classify(method, answer);
        self.paced.call(&paces(&reply.to), request, read).await
    }
}

/// Telegram's limits for one message, the chat's own first: one a second in a chat, twenty
/// a minute in a group, thirty a second for the bot. Source: Bots FAQ, "My bot is hitting limits".
fn paces(to: &Address) -> Vec<Pace> {
    let base = format!("telegram/{}/{}", to.tenant, to.instance);
    let pace = |scope, label, limit, window_ms| Pace { scope, label, limit, window_ms };
    let chat = format!("{base}/chat/{}", to.channel);
    let mut paces = vec![pace(chat, "telegram/chat", 1, 1_000)];
    if to.channel.starts_with(['-', '@']) {
        let group = format!("{base}/group/{}", to.channel);
        paces.push(pace(group, "telegram/group", 20, MINUTE_MS));
    }
    paces.push(pace(base, "telegram/bot", 30, 1_000));
    paces
}

/// Markdown as Markdown that fits into messages.
fn texts(markdown: &str) -> Vec<String> {
    let (kept, cut_chars) = bounded(markdown, MAX_MARKDOWN_CHARS);
    if Styled::markdown(kept).text.trim().is_empty() {
        return vec![EMPTY_ANSWER.to_owned()];
    }
    let limit = (MAX_MARKDOWN_UNITS, Unit::Utf16);
    split_bounded(kept.trim_end(), limit, MAX_PARTS, cut_chars)
}

/// A part as text with entities; as it was written where that would be too long.
fn styled(markdown: &str) -> Styled {
    let styled = Styled::markdown(markdown);
    if Unit::Utf16.length(&styled.text) > MAX_TEXT_UNITS { Styled::plain(markdown) } else { styled }
}

/// The card as text with entities.
fn drawn(view: &ApprovalView) -> (Styled, bool) {
    let card = card::draw(view, &ROOM);
    let mut text = Styled::default();
    text.bold(&card.headline);
    text.push("\n");
    text.preformatted(&card.command);
    for warning in &card.warnings {
        text.push("\n⚠ ");
        text.push(warning);
    }
    for (name, value) in &card.facts {
        text.push("\n");
        text.bold(name);
        text.push(" ");
        text.push(value);
    }
    if let Some(outcome) = &card.outcome {
        text.push("\n");
        text.preformatted(outcome);
    }
    text.push("\n");
    text.code(&card.footer);
    (text, card.open)
}

/// The two buttons, or none. An empty keyboard takes those of an earlier version away.
fn keyboard(view: &ApprovalView, open: bool) -> Value {
    let button = |text: &str, what: &str| json!({ "text": text, "callback_data": format!("{what}{}", view.id) });
    let rows = if open {
        json!([[button("✅ Approve", APPROVE), button("⛔ Deny", DENY)]])
    } else {
        json!([])
    };
    json!({ "inline_keyboard": rows })
}

/// The call that sends `piece`.
fn request(to: &Address, piece: &Piece) -> (Method, Value) {
    // Ids of chats are numbers; `@name` is the name of a public channel.
    let chat = to.channel.parse::<i64>().map_or_else(|_| json!(to.channel), |id| json!(id));
    let mut body = json!({ "chat_id": chat, "link_preview_options": { "is_disabled": true } });
    let text = match &piece.body {
        Body::Text(markdown) => styled(markdown),
        Body::Card { view, .. } => {
            let (text, open) = drawn(view);
            body["reply_markup"] = keyboard(view, open);
            text
        }
    };
    body["text"] = json!(text.text);
    // With entities nothing in the text is markup, so nothing in it can break the call.
    body["entities"] = json!(text.entities);
    if let Body::Card { replaces: Some(shown), .. } = &piece.body {
        body["message_id"] = shown.parse::<i64>().map_or_else(|_| json!(shown), |id| json!(id));
        return (Method::EditText, body);
    }
    let place: Place = to.thread.as_deref().and_then(|t| t.parse().ok()).unwrap_or_default();
    if let Some(topic) = place.topic {
        body["message_thread_id"] = json!(topic);
    }
    if let Some(message) = place.message {
        body["reply_parameters"] =
            json!({ "message_id": message, "allow_sending_without_reply": true });
    }
    (Method::Send, body)
}

#[async_trait]
impl Outlet for TelegramOutlet {
    fn pieces(&self, reply: &Reply) -> Vec<Piece> {
        pieces(reply, texts)
    }

    fn repeatable(&self, body: &Body) -> bool {
        matches!(body, Body::Card { replaces: Some(_), .. })
    }

    fn wait_ms(&self, reply: &Reply, _body: &Body) -> u64 {
        self.paced.wait_ms(&paces(&reply.to))
    }

    async fn send(&self, reply: &Reply, piece: &Piece) -> Result<Posted, SendError> {
        let (method, body) = request(&reply.to, piece);
        let sent = self.call(reply, method, &body).await?;
        let before = match &piece.body {
            Body::Card { replaces, .. } => replaces.clone(),
            Body::Text(_) => None,
        };
        Ok(Posted { id: before.or(sent.map(|id| id.to_string())), channel: None })
    }

    /// A bot may react once to a message, so there is nothing to tap on but the buttons.
    async fn decorate(&self, _reply: &Reply, _posted: &str) {}
}
