//! Egress to WhatsApp Cloud: text, approval cards with buttons; within Meta's limits.
//!
//! A message cannot be edited, so what becomes of an action is a message of its own that
//! answers the card.

pub mod card;
pub mod client;
pub mod markup;

use async_trait::async_trait;
use serde_json::{Value, json};

use aof_shared::action::{ApprovalStatus, ApprovalView};
use aof_shared::config::Instance;
use aof_shared::ids::{InstanceName, TenantId};
use aof_shared::message::{Address, Reply};

use self::card::{Ballot, MAX_TEXT, UNIT};
use super::call::{base_url, token};
use super::pace::Pace;
use super::paced::{Paced, bounded, pieces};
use super::port::{Body, Outlet, Piece, Posted, SendError};
use super::split::split_bounded;
use crate::platform::buttons;

/// Where Meta's Graph API is unless the instance says otherwise.
const DEFAULT_BASE_URL: &str = "https://graph.facebook.com/v26.0";
/// Messages that one answer may become; the last one says what is left out.
const MAX_PARTS: usize = 8;
/// Stands in for nothing, which WhatsApp refuses.
const EMPTY_ANSWER: &str = "_The agent gave an empty answer._";
/// Messages of one number in a second. Source: Meta, "Throughput".
const NUMBER_PER_SECOND: u32 = 80;
/// Messages to one person: one in six seconds, of which 45 may come at once.
/// Source: Meta, "Pair rate limits".
const PAIR_BURST: u32 = 45;
/// The stretch in which [`PAIR_BURST`] is one in six seconds.
const PAIR_WINDOW_MS: u64 = 45 * 6_000;

/// Where a file that came in is, by reference: the Graph API names its address when it is asked
/// with the instance's token.
pub(crate) fn media_url(instance: &Instance, id: &str) -> String {
    let id: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{}/{id}", base_url(instance, DEFAULT_BASE_URL))
}

/// The WhatsApp outlet.
pub struct WhatsAppOutlet {
    paced: Paced,
}

impl WhatsAppOutlet {
    /// Sends as the accounts of the configuration.
    #[must_use]
    pub fn new(paced: Paced) -> Self {
        Self { paced }
    }
}

/// The limits of a message to `channel`; the first is the one that a refusal is about.
fn paces(tenant: &TenantId, instance: &InstanceName, channel: &str) -> [Pace; 2] {
    let base = format!("whatsapp/{tenant}/{instance}");
    [
        Pace {
            scope: format!("{base}/{channel}"),
            label: "whatsapp/pair",
            limit: PAIR_BURST,
            window_ms: PAIR_WINDOW_MS,
        },
        Pace { scope: base, label: "whatsapp/number", limit: NUMBER_PER_SECOND, window_ms: 1_000 },
    ]
}

/// Markdown as texts that fit into messages.
pub(crate) fn texts(markdown: &str) -> Vec<String> {
    let (kept, cut_chars) = bounded(markdown, MAX_TEXT * MAX_PARTS);
    let text = markup::from_markdown(kept);
    if text.trim().is_empty() {
        return vec![EMPTY_ANSWER.to_owned()];
    }
    split_bounded(text.trim_end(), (MAX_TEXT, UNIT), MAX_PARTS, cut_chars)
}

/// True for the states between a decision and its outcome: nothing is posted for them where
/// each state is a message of its own.
pub(crate) fn is_passing(body: &Body) -> bool {
    let Body::Card { view, replaces: Some(_) } = body else { return false };
    matches!(view.status, ApprovalStatus::Approved | ApprovalStatus::Started)
}

/// Who a message goes to. Source: Meta, "Business-scoped user IDs" and "Groups API".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recipient {
    /// A person by phone number.
    Number,
    /// A person by id, who has no phone number for us.
    Id,
    /// A group, in which WhatsApp shows no buttons.
    Group,
}

impl Recipient {
    fn of(channel: &str) -> Self {
        if channel.bytes().all(|b| b.is_ascii_digit()) {
            Self::Number
        } else if channel.get(2..3) == Some(".") {
            Self::Id
        } else {
            Self::Group
        }
    }
}

/// The request's body for `body`.
fn request(to: &Address, body: &Body) -> Value {
    let recipient = Recipient::of(&to.channel);
    let group = recipient == Recipient::Group;
    let (mut request, card) = match body {
        Body::Text(text) => (plain(text), None),
        Body::Card { view, replaces: None } if view.status == ApprovalStatus::Pending && !group => {
            (interactive(view), None)
        }
        Body::Card { view, replaces } => {
            (plain(&card::text(view, Ballot::Reactions)), replaces.as_deref())
        }
    };
    request["messaging_product"] = json!("whatsapp");
    request["recipient_type"] = json!(if group { "group" } else { "individual" });
    request[if recipient == Recipient::Id { "recipient" } else { "to" }] = json!(to.channel);
    if let Some(message) = card.or(to.thread.as_deref()) {
        request["context"] = json!({ "message_id": message });
    }
    request
}

fn plain(text: &str) -> Value {
    json!({ "type": "text", "text": { "body": text, "preview_url": false } })
}

/// The card of an action that waits, with its two buttons.
fn interactive(view: &ApprovalView) -> Value {
    let [approve, deny] = buttons::ids_of(view.id);
    let button =
        |id: String, title: &str| json!({ "type": "reply", "reply": { "id": id, "title": title } });
    json!({
        "type": "interactive",
        "interactive": {
            "type": "button",
            "body": { "text": card::text(view, Ballot::Buttons) },
            "action": { "buttons": [button(approve, "Approve"), button(deny, "Deny")] },
        },
    })
}

#[async_trait]
impl Outlet for WhatsAppOutlet {
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
        let instance = self.paced.instance(&reply.to)?;
        let url = client::url(&instance, base_url(&instance, DEFAULT_BASE_URL))?;
        let call = self.paced.caller.post(&url).bearer_auth(token(&instance, "access_token")?);
        let call = call.json(&request(&reply.to, &piece.body));
        let paces = paces(&reply.to.tenant, &reply.to.instance, &reply.to.channel);
        let id = self.paced.call(&paces, call, client::posted).await?;
        Ok(Posted { id: Some(id), channel: None })
    }

    async fn decorate(&self, _reply: &Reply, _posted: &str) {}
}

#[cfg(test)]
mod tests;
