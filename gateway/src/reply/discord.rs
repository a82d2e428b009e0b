//! Egress to Discord: text, replies, threads, approval cards; within Discord's limits.
//!
//! Nothing that is sent can mention anyone unless it is a card's own. What answers a command
//! replaces its "thinking…" while the interaction lives, and is a message of its own later.

mod card;
mod client;
mod rates;
mod route;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use aof_shared::config::Instance;
use aof_shared::message::{Address, Reply};
use aof_shared::store::NoteKey;

pub use self::client::Discord;
pub(crate) use self::rates::bot_of;
pub(crate) use self::route::Route;
use super::paced::{Paced, bounded, pieces};
use super::port::{Body, Outlet, Piece, Posted, SendError};
use super::split::{Unit, split_bounded};
use crate::platform::discord::interaction::{Later, note_name};
use crate::platform::discord::place::Place;

/// Longest text of one message: 2,000 characters. Source: Discord, "Create Message". It does
/// not say of which kind; in units of UTF-16 there are never fewer.
const MAX_TEXT_UNITS: usize = 2_000;
/// Messages that one answer may become; the last one says what is left out.
const MAX_PARTS: usize = 10;
/// Longest Markdown that is cut into messages at all.
const MAX_MARKDOWN_CHARS: usize = MAX_TEXT_UNITS * MAX_PARTS;
/// What people tap on, in percent encoding: 👍 and 👎.
const SEEDS: [&str; 2] = ["%F0%9F%91%8D", "%F0%9F%91%8E"];
/// Longest wait for the admission of a seed; beyond it the card goes without.
const MAX_SEED_WAIT_MS: u64 = 2_000;
/// Shows no previews of links. Source: Discord, "Message Flags".
const SUPPRESS_EMBEDS: u64 = 1 << 2;
/// Stands in for nothing, which Discord refuses.
const EMPTY_ANSWER: &str = "*The agent gave an empty answer.*";

/// The Discord outlet.
pub struct DiscordOutlet {
    discord: Discord,
}

/// Discord shows the Markdown of agents as it is.
fn texts(markdown: &str) -> Vec<String> {
    let (kept, cut_chars) = bounded(markdown, MAX_MARKDOWN_CHARS);
    if kept.trim().is_empty() {
        return vec![EMPTY_ANSWER.to_owned()];
    }
    split_bounded(kept.trim_end(), (MAX_TEXT_UNITS, Unit::Utf16), MAX_PARTS, cut_chars)
}

/// The channel to write in: a thread is one.
fn channel(to: &Address) -> &str {
    Place::read(to.thread.as_deref()).thread.unwrap_or(&to.channel)
}

/// The request's body for `piece`.
fn request(piece: &Piece) -> Value {
    let mut request = match &piece.body {
        Body::Text(text) => json!({"content": text, "flags": SUPPRESS_EMBEDS}),
        Body::Card { view, .. } => card::card(view),
    };
    request["allowed_mentions"] = json!({"parse": [], "replied_user": false});
    request
}

/// The same as a new message: it says what it replies to, and who sends it again with this
/// nonce within a few minutes gets the message that is there. Source: Discord, "Create
/// Message", `enforce_nonce`; a nonce has at most 25 characters, this one 22.
fn new_message(reply: &Reply, piece: &Piece) -> Value {
    let mut request = request(piece);
    request["nonce"] = json!(URL_SAFE_NO_PAD.encode(piece.id.0.as_bytes()));
    request["enforce_nonce"] = json!(true);
    let replied = Place::read(reply.to.thread.as_deref()).reply_to;
    if let Some(message) = replied.filter(|_| piece.id == reply.id) {
        request["message_reference"] = json!({"message_id": message, "fail_if_not_exists": false});
    }
    request
}

impl DiscordOutlet {
    /// Sends as the accounts of the configuration.
    #[must_use]
    pub fn new(paced: Paced) -> Self {
        Self { discord: Discord::new(paced) }
    }

    /// What answers the command that `reply` is about; `None` once it is over, and for what
    /// was no command.
    async fn later(&self, instance: &Instance, reply: &Reply) -> Result<Option<Later>, SendError> {
        if Place::read(reply.to.thread.as_deref()).reply_to.is_some() {
            return Ok(None);
        }
        let key = NoteKey {
            tenant: instance.tenant.clone(),
            platform: instance.platform.clone(),
            instance: instance.name.clone(),
            name: note_name(reply.message),
        };
        let paced = &self.discord.paced;
        let note = paced.store.note(&key, paced.pacer.now_ms()).await.map_err(|error| {
            SendError::Unavailable { reason: format!("the store does not say how: {error}") }
        })?;
        Ok(note.and_then(|note| serde_json::from_str(note.value.expose()).ok()))
    }

    /// Says `piece` in answer to the command, while that is possible.
    async fn answer(
        &self,
        instance: &Instance,
        later: &Later,
        (reply, piece): (&Reply, &Piece),
    ) -> Result<Value, SendError> {
        let body = request(piece);
        let speaks = instance.bot_token.is_some();
        let route = match &piece.body {
            Body::Text(_) if piece.id == reply.id => Route::EditOriginal { later },
            Body::Card { replaces: Some(message), .. } if !speaks => {
                Route::EditFollowUp { later, message }
            }
            // The bot's own messages can be changed for longer than 15 minutes.
            _ if speaks => return Err(SendError::Gone),
            _ => Route::FollowUp { later },
        };
        self.discord.call(instance, route, Some(&body)).await
    }

    /// Posts `piece`. Where nobody knows whether Discord took it, once more with its nonce.
    async fn post(
        &self,
        instance: &Instance,
        (reply, piece): (&Reply, &Piece),
    ) -> Result<Value, SendError> {
        let body = new_message(reply, piece);
        let route = Route::CreateMessage { channel: channel(&reply.to) };
        match self.discord.call(instance, route, Some(&body)).await {
            Err(SendError::Unknown { reason }) => {
                tracing::info!(tenant.id = %instance.tenant, reason, "sent again with its nonce");
                match self.discord.call(instance, route, Some(&body)).await {
                    Ok(answer) => Ok(answer),
                    // What became of the first is still unknown.
                    Err(_) => Err(SendError::Unknown { reason }),
                }
            }
            result => result,
        }
    }
}

#[async_trait]
impl Outlet for DiscordOutlet {
    fn pieces(&self, reply: &Reply) -> Vec<Piece> {
        pieces(reply, texts)
    }

    fn repeatable(&self, body: &Body) -> bool {
        matches!(body, Body::Card { replaces: Some(_), .. })
    }

    fn wait_ms(&self, reply: &Reply, body: &Body) -> u64 {
        let Ok(instance) = self.discord.paced.instance(&reply.to) else { return 0 };
        let channel = channel(&reply.to);
        let route = match body {
            Body::Card { replaces: Some(message), .. } => Route::EditMessage { channel, message },
            _ => Route::CreateMessage { channel },
        };
        self.discord.paced.wait_ms(&self.discord.rates.paces(&instance, &route))
    }

    async fn send(&self, reply: &Reply, piece: &Piece) -> Result<Posted, SendError> {
        let instance = self.discord.paced.instance(&reply.to)?;
        let later = self.later(&instance, reply).await?;
        let mut result = Err(SendError::Gone);
        if let Some(later) = &later {
            result = self.answer(&instance, later, (reply, piece)).await;
        }
        if result == Err(SendError::Gone) {
            result = match &piece.body {
                Body::Card { replaces: Some(message), .. } => {
                    let route = Route::EditMessage { channel: channel(&reply.to), message };
                    self.discord.call(&instance, route, Some(&request(piece))).await
                }
                _ => self.post(&instance, (reply, piece)).await,
            };
        }
        let answer = result?;
        let text = |name: &str| answer[name].as_str().map(str::to_owned);
        Ok(Posted { id: text("id"), channel: text("channel_id") })
    }

    async fn decorate(&self, reply: &Reply, posted: &str) {
        let Ok(instance) = self.discord.paced.instance(&reply.to) else { return };
        // Without a connection nobody would hear of them.
        let snapshot = self.discord.paced.accounts.snapshot();
        if crate::connections::plan::intents(&snapshot, &instance).is_none() {
            return;
        }
        for emoji in SEEDS {
            let route = Route::React { channel: channel(&reply.to), message: posted, emoji };
            let mut result = self.discord.call(&instance, route, None).await;
            if let Err(SendError::Limited { retry_after_ms, .. }) = result
                && retry_after_ms <= MAX_SEED_WAIT_MS
            {
                tokio::time::sleep(std::time::Duration::from_millis(retry_after_ms)).await;
                result = self.discord.call(&instance, route, None).await;
            }
            if let Err(error) = result {
                // The buttons decide as well.
                tracing::debug!(%error, "card goes without a reaction to tap on");
            }
        }
    }
}

#[cfg(test)]
mod tests;
