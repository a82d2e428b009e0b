//! Slack: Events API, slash commands and block actions.

mod command;
mod event;
mod interaction;
mod text;
mod verify;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use aof_shared::action::Choice;
use aof_shared::clock::UnixMs;
use aof_shared::config::Instance;
use aof_shared::secret::Secret;
use axum::http::header::CONTENT_TYPE;
use serde::Deserialize;

use super::{Answer, Claim, Delivery, Facts, Malformed, Platform, Signed, Unreadable, Verified};

/// Source: platforms.md, *Slack*.
const FACTS: Facts = Facts {
    name: "slack",
    secret: "signing_secret",
    pins: &PINS,
    event_in_path: false,
    unreadable: Unreadable::Refused,
};
/// The installed workspace, the organisation of workspaces, the app.
const PINS: [&str; 3] = ["team_id", "enterprise_id", "app_id"];
/// How far a request's timestamp may be from now, in milliseconds.
const WINDOW_MS: u64 = 300_000;

/// Slack's webhooks.
#[derive(Debug)]
pub(crate) struct Slack;

impl Platform for Slack {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn claim(&self, signed: &Signed<'_>) -> Claim {
        match kind_of(signed) {
            Kind::Json => event::claim(signed.body),
            Kind::Form => command::claim(signed.body),
        }
    }

    fn verify(
        &self,
        signed: &Signed<'_>,
        secret: &Secret,
        _instance: &Instance,
    ) -> Option<Verified> {
        verify::verify(signed, secret, WINDOW_MS).map(Verified::once)
    }

    fn normalize(&self, signed: &Signed<'_>, instance: &Instance) -> Result<Delivery, Malformed> {
        let body = std::str::from_utf8(signed.body)
            .map_err(|_| Malformed("the body is not UTF-8".to_owned()))?;
        match kind_of(signed) {
            Kind::Json => event::normalize(body, instance, signed.now_ms),
            Kind::Form => {
                let inbound = command::normalize(body, instance, signed.now_ms)?;
                Ok(Delivery::one(inbound, Answer::Empty))
            }
        }
    }
}

enum Kind {
    Json,
    Form,
}

/// Events are JSON; commands and interactions are forms. A body that opens with a
/// brace is JSON whatever its header says.
fn kind_of(signed: &Signed<'_>) -> Kind {
    let declared = signed.headers.get(CONTENT_TYPE).map(axum::http::HeaderValue::as_bytes);
    let form = declared.is_some_and(|t| t.starts_with(b"application/x-www-form-urlencoded"));
    let braced = signed.body.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
    if form && !braced { Kind::Form } else { Kind::Json }
}

/// Text that borrows from the body unless it holds escapes.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Text<'_> {
    fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text unless it is missing or empty; Slack sends both.
fn filled<'a>(text: Option<&'a Text<'_>>) -> Option<&'a str> {
    text.map(Text::as_str).filter(|t| !t.is_empty())
}

/// The values of [`PINS`] that a body names, in their order.
fn claimed(values: [Option<&str>; 3]) -> Claim {
    let named = PINS.into_iter().zip(values);
    Claim(named.filter_map(|(pin, value)| Some((pin, value?.to_owned()))).collect())
}

/// Slack's `1595926230.009600` (seconds and microseconds) as milliseconds.
fn ts_ms(ts: &str) -> Option<UnixMs> {
    let (secs, micros) = ts.split_once('.').unwrap_or((ts, "0"));
    let secs: u64 = secs.parse().ok()?;
    let millis: u64 = format!("{micros:0<3}").get(..3)?.parse().ok()?;
    secs.checked_mul(1000)?.checked_add(millis)
}

/// What a reaction says about a held action; `None` for all others. Skin tones do not matter.
fn choice_of(emoji: &str) -> Option<Choice> {
    match emoji.split("::").next().unwrap_or_default() {
        "+1" | "thumbsup" | "white_check_mark" | "heavy_check_mark" => Some(Choice::Approve),
        "-1" | "thumbsdown" | "x" | "no_entry" => Some(Choice::Deny),
        _ => None,
    }
}
