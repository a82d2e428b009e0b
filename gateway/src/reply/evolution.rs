//! Egress to Evolution API v2: text and approval cards through a linked WhatsApp account.
//!
//! A linked account has no buttons that WhatsApp shows reliably: people vote by reacting to the
//! card, and what becomes of an action is a message of its own that answers it.

pub mod client;

use async_trait::async_trait;
use serde_json::{Value, json};

use aof_shared::ids::{InstanceName, TenantId};
use aof_shared::message::{Address, Reply};

use super::call::token;
use super::pace::Pace;
use super::paced::{Paced, pieces};
use super::port::{Body, Outlet, Piece, Posted, SendError};
use super::whatsapp::card::{self, Ballot};
use super::whatsapp::{is_passing, texts};
use crate::platform::evolution::name_of;

/// Messages to one chat in [`CHAT_WINDOW_MS`]. WhatsApp names no limit for linked accounts and
/// bans those that behave like machines, so this is our own: a fast typist's pace.
const CHAT_BURST: u32 = 10;
/// The stretch in which [`CHAT_BURST`] may be sent.
const CHAT_WINDOW_MS: u64 = 10_000;
/// Messages of one account in a minute; our own limit too.
const ACCOUNT_PER_MINUTE: u32 = 120;
/// A minute.
const MINUTE_MS: u64 = 60_000;

/// The Evolution outlet.
pub struct EvolutionOutlet {
    paced: Paced,
}

impl EvolutionOutlet {
    /// Sends as the accounts of the configuration.
    #[must_use]
    pub fn new(paced: Paced) -> Self {
        Self { paced }
    }
}

/// The limits of a message to `channel`; the first is the one that a refusal is about.
fn paces(tenant: &TenantId, instance: &InstanceName, channel: &str) -> [Pace; 2] {
    let base = format!("evolution/{tenant}/{instance}");
    [
        Pace {
            scope: format!("{base}/{channel}"),
            label: "evolution/chat",
            limit: CHAT_BURST,
            window_ms: CHAT_WINDOW_MS,
        },
        Pace {
            scope: base,
            label: "evolution/account",
            limit: ACCOUNT_PER_MINUTE,
            window_ms: MINUTE_MS,
        },
    ]
}

/// The request's body for `body`. Answers in a group quote what they answer.
fn request(to: &Address, body: &Body) -> Value {
    let number = to.channel.strip_suffix("@s.whatsapp.net").unwrap_or(&to.channel);
    let group = to.channel.ends_with("@g.us");
    let asked = to.thread.as_deref().filter(|_| group).map(|id| (id, false));
    let (text, quoted) = match body {
        Body::Text(text) => (text.clone(), asked),
        Body::Card { view, replaces } => {
            let text = card::text(view, Ballot::Reactions);
            (text, replaces.as_deref().map(|id| (id, true)).or(asked))
        }
    };
    let mut request = json!({ "number": number, "text": text });
    if let Some((id, own)) = quoted {
        request["quoted"] = json!({"key": {"remoteJid": to.channel, "fromMe": own, "id": id}});
    }
    request
}

#[async_trait]
impl Outlet for EvolutionOutlet {
    fn pieces(&self, reply: &Reply) -> Vec<Piece> {
        pieces(reply, texts)
    }

    /// Whatever is sent twice is shown twice.
    fn repeatable(&self, _body: &Body) -> bool {
        false
    }

    fn wait_ms(&self, reply: &Reply, body: &Body) -> u64 {
        if is_passing(body) {
            return 0;
        }
        let to = &reply.to;
        self.paced.wait_ms(&paces(&to.tenant, &to.instance, &to.channel))
    }

    async fn send(&self, reply: &Reply, piece: &Piece) -> Result<Posted, SendError> {
        if is_passing(&piece.body) {
            return Ok(Posted { id: None, channel: None });
        }
        let to = &reply.to;
        let instance = self.paced.instance(to)?;
        let url = client::url(&instance, "sendText", name_of(&instance))?;
        let call = self.paced.caller.post(&url).header("apikey", token(&instance, "api_key")?);
        let call = call.json(&request(to, &piece.body));
        let paces = paces(&to.tenant, &to.instance, &to.channel);
        let id = self.paced.call(&paces, call, client::posted).await?;
        Ok(Posted { id: Some(id), channel: None })
    }

    async fn decorate(&self, _reply: &Reply, _posted: &str) {}
}

#[cfg(test)]
mod tests;
