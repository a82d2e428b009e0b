//! Telegram: updates of one bot, delivered to its webhook.

mod message;
pub(crate) mod place;
mod text;
mod vote;

#[cfg(test)]
mod tests;

use aof_shared::config::Instance;
use aof_shared::secret::Secret;
use serde::Deserialize;
use serde_json::value::RawValue;
use subtle::ConstantTimeEq;

use super::{
    Answer, Claim, Delivery, Facts, Inbound, Malformed, Platform, Signed, Unreadable, Verified,
    setting,
};

pub(crate) use self::vote::{APPROVE, DENY};

/// Telegram retries whatever is not 2xx for 24 hours and holds back what follows in the
/// chat, so a body that cannot be read is not refused. Source: platforms.md, *Telegram*.
const FACTS: Facts = Facts {
    name: "telegram",
    secret: "secret_token",
    pins: &[],
    event_in_path: false,
    unreadable: Unreadable::Ignored,
};
/// Carries what `setWebhook` was given as `secret_token`.
const SECRET_TOKEN: &str = "x-telegram-bot-api-secret-token";

/// Telegram's webhooks.
#[derive(Debug)]
pub(crate) struct Telegram;

impl Platform for Telegram {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    /// An update does not say which bot it is for.
    fn claim(&self, _signed: &Signed<'_>) -> Claim {
        Claim::default()
    }

    /// The header holds the secret itself, the same for every update.
    fn verify(
        &self,
        signed: &Signed<'_>,
        secret: &Secret,
        _instance: &Instance,
    ) -> Option<Verified> {
        let given = signed.headers.get(SECRET_TOKEN)?.as_bytes();
        let wanted = secret.expose().as_bytes();
        let same = !wanted.is_empty() && bool::from(given.ct_eq(wanted));
        same.then(Verified::repeatable)
    }

    fn normalize(&self, signed: &Signed<'_>, instance: &Instance) -> Result<Delivery, Malformed> {
        let body = std::str::from_utf8(signed.body)
            .map_err(|_| Malformed("the body is not UTF-8".to_owned()))?;
        let update: Update<'_> = read(body, "update")?;
        let source = Source { body, bot: Bot::of(instance), instance, now_ms: signed.now_ms };
        let inbound = match update {
            Update { message: Some(raw), .. } => source.message(raw)?,
            Update { channel_post: Some(raw), .. } => source.channel_post(raw)?,
            Update { edited_message: Some(_), .. }
            | Update { edited_channel_post: Some(_), .. } => Inbound::Ignored("edit"),
            Update { callback_query: Some(raw), .. } => return source.tap(raw),
            Update { message_reaction: Some(raw), .. } => source.reaction(raw, update.update_id)?,
            Update { message_reaction_count: Some(_), .. } => {
                Inbound::Ignored("anonymous reactions")
            }
            _ => Inbound::Ignored("update type"),
        };
        Ok(Delivery::one(inbound, Answer::Receipt))
    }
}

/// One of these members is set, beside those of kinds that are nothing for us.
#[derive(Deserialize)]
struct Update<'a> {
    update_id: i64,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    channel_post: Option<&'a RawValue>,
    #[serde(borrow, default)]
    edited_message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    edited_channel_post: Option<&'a RawValue>,
    #[serde(borrow, default)]
    callback_query: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message_reaction: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message_reaction_count: Option<&'a RawValue>,
}

/// What every kind of update is read against.
struct Source<'a> {
    body: &'a str,
    bot: Bot<'a>,
    instance: &'a Instance,
    now_ms: u64,
}

/// Who we are there.
struct Bot<'a> {
    /// The bot's own user id: what stands before the colon of its token.
    id: Option<i64>,
    /// Its name without `@`, where the account says it.
    username: Option<&'a str>,
}

impl<'a> Bot<'a> {
    fn of(instance: &'a Instance) -> Self {
        let token = instance.bot_token.as_ref().map(Secret::expose);
        let id = token.and_then(|t| t.split(':').next()?.parse().ok());
        let username = setting(instance, "bot_username").map(|name| name.trim_start_matches('@'));
        Self { id, username }
    }

    /// True when `name`, without `@`, is the bot's.
    fn is_called(&self, name: &str) -> bool {
        self.username.is_some_and(|own| own.eq_ignore_ascii_case(name))
    }
}

/// A person, a bot, or what stands in for an anonymous one.
#[derive(Debug, Clone, Deserialize)]
struct From {
    id: i64,
    #[serde(default)]
    is_bot: bool,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    first_name: Option<String>,
}

/// A conversation: with one person, in a group, or a channel.
#[derive(Debug, Clone, Deserialize)]
struct Chat {
    id: i64,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    title: Option<String>,
}

fn read<'a, T: Deserialize<'a>>(json: &'a str, what: &str) -> Result<T, Malformed> {
    serde_json::from_str(json).map_err(|e| Malformed(format!("not a Telegram {what}: {e}")))
}

/// Telegram's seconds as milliseconds; `None` before 1970.
fn date_ms(secs: i64) -> Option<u64> {
    u64::try_from(secs).ok()?.checked_mul(1_000)
}
