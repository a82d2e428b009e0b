//! Discord: interactions over HTTP, and what its Gateway connection dispatches.
//!
//! Messages and reactions reach a bot over the connection alone; commands and buttons come
//! over HTTP once the application has an Interactions Endpoint URL, else over the connection.

pub(crate) mod event;
pub(crate) mod guilds;
pub(crate) mod interaction;
mod options;
pub(crate) mod place;
pub(crate) mod text;
mod verify;

#[cfg(test)]
mod tests;

use aof_shared::action::Choice;
use aof_shared::clock::UnixMs;
use aof_shared::config::Instance;
use aof_shared::secret::Secret;
use aof_shared::store::Note;
use serde::Deserialize;

use super::{Claim, Delivery, Facts, Malformed, Platform, Signed, Unreadable, Verified};

/// Source: platforms.md, *Discord*. It sends nothing twice, and counts only the answer.
const FACTS: Facts = Facts {
    name: "discord",
    secret: "public_key",
    pins: &["application_id"],
    event_in_path: false,
    unreadable: Unreadable::Refused,
};
/// How far a request's timestamp may be from now, in milliseconds.
const WINDOW_MS: u64 = 300_000;
/// The first millisecond of 2015, from which ids count. Source: Discord, "Snowflakes".
const EPOCH_MS: u64 = 1_420_070_400_000;

/// Discord's interactions.
#[derive(Debug)]
pub(crate) struct Discord;

impl Platform for Discord {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn claim(&self, signed: &Signed<'_>) -> Claim {
        #[derive(Deserialize)]
        struct Origin {
            application_id: String,
        }
        match serde_json::from_slice::<Origin>(signed.body) {
            Ok(origin) => Claim(vec![("application_id", origin.application_id)]),
            Err(_) => Claim::default(),
        }
    }

    fn verify(&self, signed: &Signed<'_>, secret: &Secret, _: &Instance) -> Option<Verified> {
        verify::verify(signed, secret, WINDOW_MS).map(Verified::once)
    }

    fn normalize(&self, signed: &Signed<'_>, instance: &Instance) -> Result<Delivery, Malformed> {
        let body = std::str::from_utf8(signed.body)
            .map_err(|_| Malformed("the body is not UTF-8".to_owned()))?;
        interaction::normalize(body, instance, signed.now_ms)
    }

    fn note(&self, signed: &Signed<'_>, delivery: &Delivery) -> Option<(String, Note)> {
        interaction::note(signed.body, delivery)
    }
}

/// True for what Discord uses as an id.
pub(crate) fn is_snowflake(id: &str) -> bool {
    (1..=20).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_digit())
}

/// When the thing with this id was made, in milliseconds since the Unix epoch.
fn made_at_ms(id: &str) -> Option<UnixMs> {
    let id: u64 = id.parse().ok()?;
    Some((id >> 22) + EPOCH_MS)
}

/// An id that Discord always sends.
fn required<'a>(id: Option<&'a String>, name: &str) -> Result<&'a str, Malformed> {
    id.map(String::as_str)
        .filter(|id| is_snowflake(id))
        .ok_or_else(|| Malformed(format!("`{name}` is missing or no id")))
}

/// What a reaction says about a held action; `None` for all others, those that a server made
/// itself included. Skin tones do not matter.
fn choice_of(emoji: &str) -> Option<Choice> {
    let plain = emoji.trim_end_matches(|c| matches!(c, '\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}'));
    match plain {
        "👍" | "✅" | "✔" | "☑" => Some(Choice::Approve),
        "👎" | "❌" | "⛔" | "🚫" => Some(Choice::Deny),
        _ => None,
    }
}
