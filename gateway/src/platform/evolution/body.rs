//! The envelope: which event it is, of which account, and the shapes its `data` has had.

use aof_shared::config::Instance;
use serde_json::Value;

use super::message::{self, Source};
use super::redact::redacted;
use super::{Signed, jid, name_of};
use crate::platform::{Inbound, Malformed};

/// Messages of one body that are taken; Evolution sends one.
const MAX_ITEMS: usize = 1_000;

/// Says what a verified body is.
///
/// # Errors
/// [`Malformed`] when it is not Evolution's, or another account's.
pub(super) fn normalize(
    signed: &Signed<'_>,
    instance: &Instance,
) -> Result<Vec<Inbound>, Malformed> {
    let body: Value = serde_json::from_slice(signed.body)
        .map_err(|e| Malformed(format!("the body is not Evolution's: {e}")))?;
    let named = body["instance"].as_str().unwrap_or_default();
    if named != name_of(instance) {
        return Err(Malformed(format!(
            "the body is of instance `{}`, the address of `{}`",
            named.chars().filter(|c| !c.is_control()).take(128).collect::<String>(),
            name_of(instance)
        )));
    }
    let event = body["event"].as_str().or(signed.event).map(event_name).unwrap_or_default();
    match event.as_str() {
        "" => Err(Malformed("`event` is missing".to_owned())),
        "messages.upsert" => messages(&body, instance, signed.now_ms),
        "connection.update" => Ok(vec![connection(&body["data"])]),
        "qrcode.updated" => Ok(vec![Inbound::State { state: "qrcode", reason: None }]),
        other => Ok(vec![Inbound::Ignored(ignored(other))]),
    }
}

/// `MESSAGES_UPSERT` and `messages-upsert` are `messages.upsert`.
fn event_name(event: &str) -> String {
    event.trim().to_ascii_lowercase().replace(['_', '-'], ".")
}

/// Why an event starts nothing. Source: A8.
fn ignored(event: &str) -> &'static str {
    match event {
        "send.message" | "send.message.update" => "own message",
        "messages.set" | "chats.set" | "contacts.set" => "history",
        "messages.update" => "status",
        "messages.edited" => "edit",
        "messages.delete" => "deleted",
        "presence.update" => "presence",
        _ => "event type",
    }
}

/// How the account is linked now.
fn connection(data: &Value) -> Inbound {
    let state = match data["state"].as_str() {
        Some("open") => "open",
        Some("close") => "close",
        Some("connecting") => "connecting",
        Some("refused") => "refused",
        _ => return Inbound::Ignored("event type"),
    };
    Inbound::State { state, reason: data["statusReason"].as_u64() }
}

/// `data` is one message; older versions and other senders have a list, or a list below
/// `messages`. Source: platforms.md, *Evolution*.
fn messages(body: &Value, instance: &Instance, now_ms: u64) -> Result<Vec<Inbound>, Malformed> {
    let data = &body["data"];
    let list = data.as_array().or_else(|| data["messages"].as_array());
    let found: Vec<&Value> = list.map_or_else(|| vec![data], |list| list.iter().collect());
    if found.len() > MAX_ITEMS {
        return Err(Malformed(format!("more than {MAX_ITEMS} messages in one body")));
    }
    if found.is_empty() {
        return Ok(vec![Inbound::Ignored("no messages")]);
    }
    let source = Source { instance, now_ms, own: body["sender"].as_str().map(jid::plain) };
    let of = |said: &&Value| {
        let raw = if found.len() == 1 { body } else { *said };
        message::normalize(&source, said, || redacted(raw.clone()))
    };
    let items: Vec<Option<Inbound>> = found.iter().map(of).collect();
    if items.iter().all(Option::is_none) {
        return Err(Malformed("`data` is not a message: `key` is missing".to_owned()));
    }
    Ok(items.into_iter().map(|item| item.unwrap_or(Inbound::Ignored("unreadable"))).collect())
}
