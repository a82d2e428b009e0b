//! What manifests may say of each platform: names of types, credentials, ids, events.
//!
//! Source of the id shapes: design, platforms.md.

use crate::message::MessageKind;

/// A key of the manifest and the key that names a variable instead.
pub(super) type KeyPair = (&'static str, &'static str);

macro_rules! pairs {
    ($($key:literal),* $(,)?) => { &[$(($key, concat!($key, "_env"))),*] };
}

/// A platform as manifests know it.
#[derive(Debug)]
pub(super) struct Platform {
    /// Its name everywhere behind the manifest.
    pub(super) name: &'static str,
    /// What `trigger.type` may say, in lower case.
    pub(super) types: &'static [&'static str],
    /// Keys for what we speak to it with.
    pub(super) token: &'static [KeyPair],
    /// Keys for what its deliveries are verified with.
    pub(super) secret: &'static [KeyPair],
    /// Further keys, kept as settings.
    pub(super) settings: &'static [KeyPair],
    /// Settings that tell accounts with the same credentials apart.
    pub(super) account: &'static [&'static str],
}

/// The names of all platforms, in no order that means anything.
#[must_use]
pub fn platform_names() -> Vec<&'static str> {
    PLATFORMS.iter().map(|platform| platform.name).collect()
}

/// Every platform there is.
pub(super) static PLATFORMS: [Platform; 12] = [
    Platform {
        name: "slack",
        types: &["slack"],
        token: pairs!["bot_token"],
        secret: pairs!["signing_secret"],
        settings: pairs!["app_token", "app_id", "team_id", "bot_user_id", "client_id"],
        account: &[],
    },
    Platform {
        name: "telegram",
        types: &["telegram"],
        token: pairs!["bot_token", "token"],
        secret: pairs!["secret_token", "webhook_secret", "signing_secret"],
        settings: pairs!["webhook_url", "bot_username"],
        account: &[],
    },
    Platform {
        name: "discord",
        types: &["discord"],
        token: pairs!["bot_token", "token"],
        secret: pairs!["public_key", "signing_secret"],
        settings: pairs!["application_id", "guild_ids"],
        account: &[],
    },
    Platform {
        name: "whatsapp",
        types: &["whatsapp"],
        token: pairs!["access_token", "bot_token", "token"],
        secret: pairs!["app_secret", "signing_secret"],
        settings: pairs!["phone_number_id", "verify_token", "business_account_id"],
        account: &["phone_number_id"],
    },
    Platform {
        name: "evolution",
        types: &["evolution"],
        token: pairs!["api_key", "bot_token"],
        secret: pairs!["webhook_secret", "jwt_key", "signing_secret"],
        settings: pairs!["instance_name", "is_default", "webhook_header", "bot_lid"],
        account: &["instance_name"],
    },
    Platform {
        name: "chat",
        types: &["chat", "api", "http"],
        token: &[],
        secret: &[],
        settings: pairs!["path"],
        account: &[],
    },
    Platform {
        name: "github",
        types: &["github"],
        token: pairs!["token", "access_token", "bot_token"],
        secret: pairs!["webhook_secret", "signing_secret"],
        settings: pairs!["app_id", "installation_id", "bot_name", "source", "reply_to"],
        account: &["installation_id"],
    },
    Platform {
        name: "pagerduty",
        types: &["pagerduty"],
        token: pairs!["api_token", "api_key", "bot_token"],
        secret: pairs!["webhook_secret", "signing_secret"],
        settings: pairs!["routing_key", "source", "reply_to"],
        account: &[],
    },
    Platform {
        name: "opsgenie",
        types: &["opsgenie"],
        token: pairs!["api_key", "bot_token"],
        secret: pairs!["webhook_secret", "signing_secret"],
        settings: pairs!["integration_id", "source", "reply_to"],
        account: &[],
    },
    Platform {
        name: "alertmanager",
        types: &["alertmanager"],
        token: pairs!["bot_token"],
        secret: pairs!["bearer_token", "token", "webhook_secret", "signing_secret"],
        settings: pairs!["source", "reply_to"],
        account: &[],
    },
    Platform {
        name: "teams",
        types: &["teams", "msteams"],
        token: pairs!["app_password", "client_secret", "bot_token"],
        secret: pairs!["signing_secret"],
        settings: pairs!["app_id", "tenant_id"],
        account: &["app_id"],
    },
    Platform {
        name: "webhook",
        types: &["webhook"],
        token: pairs!["bot_token"],
        secret: pairs!["secret", "token", "webhook_secret", "signing_secret"],
        settings: pairs!["path", "source", "reply_to"],
        account: &["path"],
    },
];

impl Platform {
    /// The platform that `kind` names, whatever its case.
    pub(super) fn of_type(kind: &str) -> Option<&'static Self> {
        let kind = kind.to_ascii_lowercase();
        PLATFORMS.iter().find(|platform| platform.types.contains(&kind.as_str()))
    }

    /// Whether events arrive only through an account with credentials.
    pub(super) fn needs_credentials(&self) -> bool {
        !self.token.is_empty() || !self.secret.is_empty()
    }

    /// Whether people give channels names there that must be resolved to ids.
    fn names_channels(&self) -> bool {
        matches!(self.name, "slack" | "discord" | "telegram")
    }

    /// Whether `channel` is a name that must be resolved before it can match.
    pub(super) fn is_channel_name(&self, channel: &str) -> bool {
        self.names_channels() && !self.is_channel_id(channel)
    }

    fn is_channel_id(&self, channel: &str) -> bool {
        match self.name {
            "slack" => is_slack_id(channel, &['C', 'G', 'D'], 8),
            "discord" => is_snowflake(channel),
            "telegram" => {
                let digits = channel.strip_prefix('-').unwrap_or(channel);
                !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
            }
            _ => true,
        }
    }

    /// Whether `user` has the shape of a person's id there; `None` when there is no shape.
    pub(super) fn is_user_id(&self, user: &str) -> Option<bool> {
        match self.name {
            "slack" => Some(is_slack_id(user, &['U', 'W'], 5)),
            "discord" => Some(is_snowflake(user)),
            "telegram" => Some(is_digits(user)),
            "whatsapp" => Some(is_phone(user) || is_scoped_id(user)),
            "evolution" => Some(is_phone(user) || is_person_jid(user)),
            _ => None,
        }
    }

    /// What a person's id looks like, for people.
    pub(super) fn user_id_shape(&self) -> &'static str {
        match self.name {
            "slack" => "`U` or `W` and capital letters and digits, as `U015VBH1GTZ`",
            "discord" => "17 to 20 digits",
            "telegram" => "digits only",
            "whatsapp" => "a phone number in digits only, as `15550002000`, or `US.1349…`",
            "evolution" => "a phone number in digits only, as `15550002000`, or `…@lid`",
            _ => "one word",
        }
    }
}

/// One of `first`, then at least `least` capital letters and digits.
fn is_slack_id(id: &str, first: &[char], least: usize) -> bool {
    let mut chars = id.chars();
    let rest = chars.by_ref().next().filter(|c| first.contains(c)).map(|_| chars.as_str());
    rest.is_some_and(|rest| {
        rest.len() >= least && rest.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    })
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// A phone number with its country's code: E.164 without the plus sign.
fn is_phone(text: &str) -> bool {
    (7..=15).contains(&text.len()) && is_digits(text)
}

/// An id that Meta gives a person towards one business, or towards several linked ones.
fn is_scoped_id(text: &str) -> bool {
    let Some((country, id)) = text.split_once('.') else { return false };
    let id = id.strip_prefix("ENT.").unwrap_or(id);
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
    country.len() == 2 && country.bytes().all(|b| b.is_ascii_uppercase()) && plain(id)
}

/// A person's address on WhatsApp.
fn is_person_jid(text: &str) -> bool {
    let server = |(user, server): (&str, &str)| {
        is_digits(user) && matches!(server, "s.whatsapp.net" | "lid")
    };
    text.split_once('@').is_some_and(server)
}

fn is_snowflake(id: &str) -> bool {
    (17..=20).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_digit())
}

/// The kinds of message that an entry of `events` takes; `None` when it is unknown.
///
/// - `app_mention`: someone turns to the bot: a mention, a direct message, a slash
///   command. 001's examples that list it alone mean "whoever talks to the bot".
/// - `message`: everything said where the bot listens. Platforms deliver a mention as a
///   message as well, so it takes mentions too; with `[app_mention, message]`, as in
///   001, a flow takes all three kinds.
pub(super) fn kinds_of_event(event: &str) -> Option<&'static [MessageKind]> {
    use MessageKind::{Alert, Command, Mention, Message};
    Some(match event.to_ascii_lowercase().as_str() {
        "app_mention" | "mention" => &[Mention, Command],
        "message" | "messages" | "messages.upsert" | "message_create" => &[Message, Mention],
        "direct_message" | "message.im" | "dm" => &[Mention],
        "slash_command" | "slash_commands" | "command" | "interaction_create" => &[Command],
        "alert" | "alerts" | "incident" => &[Alert],
        _ => return None,
    })
}

/// What `events` may hold, for people.
pub(super) const EVENTS: [&str; 5] =
    ["app_mention", "message", "direct_message", "slash_command", "alert"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_of_channels_are_told_apart() {
        for (kind, channel, is_name) in [
            ("slack", "C024BE91L", false),
            ("slack", "G0123456789", false),
            ("slack", "DEV", true),
            ("slack", "CRITICAL-ALERTS", true),
            ("slack", "production", true),
            ("slack", "#production", true),
            ("slack", "C024BE9", true),
            ("discord", "123456789012345678", false),
            ("discord", "general", true),
            ("telegram", "-1001234567890", false),
            ("telegram", "@ops", true),
            ("chat", "anything", false),
        ] {
            let platform = Platform::of_type(kind).expect(kind);
            assert_eq!(platform.is_channel_name(channel), is_name, "{kind} {channel}");
        }
    }

    #[test]
    fn people_on_phones_are_numbers_or_ids_and_nothing_between() {
        for (kind, id, expected) in [
            ("whatsapp", "15550002000", true),
            ("whatsapp", "US.13491208655302741918", true),
            ("whatsapp", "US.ENT.11815799212886844830", true),
            ("whatsapp", "+15550002000", false),
            ("whatsapp", "15550002000@s.whatsapp.net", false),
            ("whatsapp", "ann", false),
            ("evolution", "15550002000", true),
            ("evolution", "15550002000@s.whatsapp.net", true),
            ("evolution", "82334925746303@lid", true),
            ("evolution", "120363403554000000@g.us", false),
            ("evolution", "+1 555", false),
        ] {
            let platform = Platform::of_type(kind).expect(kind);
            assert_eq!(platform.is_user_id(id), Some(expected), "{kind} {id}");
        }
    }

    #[test]
    fn ids_of_people_in_001_have_the_shape_of_slack() {
        let slack = Platform::of_type("Slack").expect("slack");
        for id in ["U015VBH1GTZ", "U012ADMIN", "U015SRE", "W0123456"] {
            assert_eq!(slack.is_user_id(id), Some(true), "{id}");
        }
        for id in ["sre", "@alice", "UPPER", "u015VBH1GTZ", ""] {
            assert_eq!(slack.is_user_id(id), Some(false), "{id}");
        }
    }
}
