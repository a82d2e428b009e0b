//! Entries of `trigger.config.channels`, and how a message's channel fits them. Pure.
//!
//! Manifests say `production`, `#production` or `C024BE91L`; messages carry ids. An id
//! never changes, a name does, and whoever may rename a channel could rename it to
//! `production`. Hence:
//!
//! - every entry is compared with the channel's id;
//! - an entry that looks like a name is also compared with the name that the gateway
//!   resolved and pinned in the store, never with a name that came in the message;
//! - an entry that looks like an id is never compared with a name, so that a channel
//!   *named* `123456789012345678` gains nothing;
//! - a name that is not known matches nothing (fail closed).
//!
//! Names are compared as written: Slack's and Discord's are lower case anyway.

use aof_shared::ids::PlatformName;
use aof_shared::message::{Channel, Message};
use serde::{Deserialize, Serialize};

/// Shortest platform id: Slack's have nine or more characters.
const MIN_ID_CHARS: usize = 9;

/// What is known of the name of a message's channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming<'a> {
    /// The store has this name pinned to the id.
    Named(&'a str),
    /// It has no name: a direct conversation, a platform without names, or the platform
    /// says there is no such channel.
    Nameless,
    /// It may have one, but nobody could say it yet.
    Unresolved,
}

/// A [`Naming`] as the journal writes it beside the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// The name was known.
    Named,
    /// There was none.
    Nameless,
    /// Nobody could say it.
    Unresolved,
    /// No flow of the tenant asked for names, so nobody looked.
    Unasked,
}

/// One entry of a channel filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) text: Box<str>,
    pub(crate) is_name: bool,
}

impl Entry {
    pub(crate) fn parse(written: &str) -> Self {
        let written = written.trim();
        match written.strip_prefix('#') {
            Some(name) => Self { text: name.into(), is_name: true },
            None => Self { text: written.into(), is_name: !looks_like_id(written) },
        }
    }

    pub(crate) fn matches(&self, channel: &Channel, naming: Naming<'_>) -> bool {
        *self.text == *channel.id || (self.is_name && naming == Naming::Named(&self.text))
    }
}

/// Slack's `C024BE91L`, Discord's and Telegram's numbers, addresses like `1203@g.us`.
pub fn looks_like_id(text: &str) -> bool {
    let slack = text.starts_with(['C', 'G', 'D'])
        && text.len() >= MIN_ID_CHARS
        && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    let digits = text.strip_prefix('-').unwrap_or(text);
    let number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    slack || number || text.contains('@')
}

/// True where a message's channel cannot have a name.
#[must_use]
pub fn is_nameless(message: &Message) -> bool {
    message.channel.direct || has_no_names(&message.platform)
}

/// True where the channel's id is all there is: on `chat` the caller's own word is the id.
pub(crate) fn has_no_names(platform: &PlatformName) -> bool {
    *platform == PlatformName::chat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(entry: &str, id: &str, naming: Naming<'_>, expected: bool) {
        let channel = Channel { id: id.to_owned(), name: None, direct: false };
        assert_eq!(
            Entry::parse(entry).matches(&channel, naming),
            expected,
            "{entry} {id} {naming:?}"
        );
    }

    #[test]
    fn ids_match_ids_and_names_match_resolved_names() {
        check("C024BE91L", "C024BE91L", Naming::Unresolved, true);
        check("C024BE91L", "C024BE91M", Naming::Named("C024BE91L"), false);
        check("123456789012345678", "9", Naming::Named("123456789012345678"), false);
        check("-1001234", "-1001234", Naming::Nameless, true);
        check("production", "C024BE91L", Naming::Named("production"), true);
        check("#production", "C024BE91L", Naming::Named("production"), true);
        check("#production", "C024BE91L", Naming::Named("prod"), false);
        check("production", "C024BE91L", Naming::Unresolved, false);
        check("production", "C024BE91L", Naming::Nameless, false);
        check("production", "production", Naming::Nameless, true);
        check("#production", "production", Naming::Nameless, true);
        check("G8", "C024BE91L", Naming::Named("G8"), true);
    }

    #[test]
    fn a_name_inside_the_message_counts_for_nothing() {
        let channel =
            Channel { id: "C024BE91L".into(), name: Some("production".into()), direct: false };
        assert!(!Entry::parse("production").matches(&channel, Naming::Unresolved));
    }
}
