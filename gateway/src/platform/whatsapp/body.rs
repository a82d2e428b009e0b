//! The envelope: entries of accounts, changes of numbers, and what each change holds.

use aof_shared::clock::UnixMs;
use aof_shared::config::Instance;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::NUMBER;
use super::message::{self, Chat, Contact};
use crate::platform::{Inbound, Malformed, setting};

/// Messages of one body that are taken; Meta sends far fewer.
const MAX_ITEMS: usize = 1_000;

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    entry: Vec<Entry<'a>>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow, default)]
    changes: Vec<Change<'a>>,
}

#[derive(Deserialize)]
struct Change<'a> {
    field: String,
    #[serde(borrow)]
    value: &'a RawValue,
}

#[derive(Deserialize)]
struct Messages<'a> {
    #[serde(default)]
    metadata: Option<Metadata>,
    #[serde(default)]
    contacts: Option<Vec<Contact>>,
    #[serde(borrow, default)]
    messages: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    statuses: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    phone_number_id: Option<String>,
    #[serde(default)]
    display_phone_number: Option<String>,
}

/// What a business number's own account is told, as opposed to the number.
#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    errors: Option<Vec<Code>>,
}

#[derive(Deserialize)]
struct Code {
    code: u64,
}

/// The numbers that a body is about, without trusting it.
pub(super) fn numbers(body: &[u8]) -> Vec<String> {
    let Ok(body) = serde_json::from_slice::<Body<'_>>(body) else { return Vec::new() };
    let changes = body.entry.iter().flat_map(|entry| &entry.changes);
    let mut numbers: Vec<String> = changes.filter_map(number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

fn number(change: &Change<'_>) -> Option<String> {
    #[derive(Deserialize)]
    struct Of {
        #[serde(default)]
        metadata: Option<Metadata>,
    }
    serde_json::from_str::<Of>(change.value.get()).ok()?.metadata?.phone_number_id
}

/// Everything in the body that came in through `instance`'s number, and why the rest is not
/// for it.
///
/// # Errors
/// [`Malformed`] when the body is not WhatsApp's.
pub(super) fn normalize(
    body: &[u8],
    instance: &Instance,
    now_ms: UnixMs,
) -> Result<Vec<Inbound>, Malformed> {
    let text =
        std::str::from_utf8(body).map_err(|_| Malformed("the body is not UTF-8".to_owned()))?;
    let read: Body<'_> = serde_json::from_str(text)
        .map_err(|e| Malformed(format!("the body is not WhatsApp's: {e}")))?;
    let changes: Vec<&Change<'_>> = read.entry.iter().flat_map(|entry| &entry.changes).collect();
    let own = setting(instance, NUMBER);
    let mut items = Vec::new();
    for change in &changes {
        let number = number(change);
        if number.is_some() && number.as_deref() != own {
            continue;
        }
        // A body with a single change is kept whole; of a batch each message keeps its change.
        let raw = if changes.len() == 1 { text } else { change.value.get() };
        items.extend(of_change(change, (instance, now_ms), raw));
        if items.len() > MAX_ITEMS {
            return Err(Malformed(format!("more than {MAX_ITEMS} messages in one body")));
        }
    }
    if items.is_empty() {
        items.push(Inbound::Ignored("another number"));
    }
    Ok(items)
}

fn of_change(
    change: &Change<'_>,
    (instance, now_ms): (&Instance, UnixMs),
    raw: &str,
) -> Vec<Inbound> {
    if let Some(reason) = not_messages(&change.field) {
        return vec![Inbound::Ignored(reason)];
    }
    let Ok(value) = serde_json::from_str::<Messages<'_>>(change.value.get()) else {
        return vec![Inbound::Ignored("unreadable")];
    };
    let statuses = value.statuses.as_deref().unwrap_or_default();
    statuses.iter().for_each(|status| say_undelivered(instance, status));
    let messages = value.messages.as_deref().unwrap_or_default();
    if messages.is_empty() {
        let reason = if statuses.is_empty() { "no messages" } else { "status" };
        return vec![Inbound::Ignored(reason)];
    }
    let chat = Chat {
        instance,
        now_ms,
        contacts: value.contacts.as_deref().unwrap_or_default(),
        own_number: value.metadata.and_then(|m| m.display_phone_number),
    };
    // Of several messages in one change, each keeps itself.
    let of = |own: &&RawValue| {
        let raw = if messages.len() == 1 { raw } else { own.get() };
        message::normalize(&chat, own, raw).unwrap_or(Inbound::Ignored("unreadable"))
    };
    messages.iter().map(of).collect()
}

/// Why a change of `field` starts nothing; `None` for messages. Source: A8.
fn not_messages(field: &str) -> Option<&'static str> {
    Some(match field {
        "messages" => return None,
        "smb_message_echoes" | "message_echoes" => "own message",
        "history" | "smb_app_state_sync" => "history",
        "calls" => "call",
        "user_preferences" | "user_id_update" => "user setting",
        field if field.starts_with("message_template") || field.starts_with("template") => {
            "template event"
        }
        _ => "account event",
    })
}

/// A send that Meta took and could not deliver: said once, in the log.
fn say_undelivered(instance: &Instance, status: &RawValue) {
    let Ok(failure) = serde_json::from_str::<Failure>(status.get()) else { return };
    if failure.status.as_deref() == Some("failed") {
        let code = failure.errors.unwrap_or_default().first().map_or(0, |error| error.code);
        tracing::warn!(tenant.id = %instance.tenant, instance.name = %instance.name, code,
            "whatsapp took a message and could not deliver it; see Meta's error codes");
    }
}
