//! A message's text: what is addressed to the bot, and what is left once that is taken out.

use std::ops::Range;

use serde::Deserialize;

use super::{Bot, From};

/// A marked range of a text, counted in UTF-16 units.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Entity {
    #[serde(rename = "type")]
    kind: String,
    offset: usize,
    length: usize,
    /// Who a mention without a username means.
    #[serde(default)]
    user: Option<From>,
}

/// What a text says to the bot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Read {
    /// Without the mention of the bot, and without the command's name where words follow it.
    pub(super) text: String,
    /// How it turns to the bot.
    pub(super) to: To,
}

/// Whom a text turns to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum To {
    /// Everybody.
    All,
    /// The bot, by its name.
    Bot,
    /// The bot, by a command; its name without `/`.
    Command(String),
    /// Another bot, by a command.
    OtherBot,
}

/// Reads `text` with its `entities`.
pub(super) fn read(text: &str, entities: &[Entity], bot: &Bot<'_>) -> Read {
    if let Some((name, range)) = command(text, entities) {
        let (name, to) = name.split_once('@').unwrap_or((name, ""));
        // Without the bot's own name nobody knows whose command `/x@y` is.
        if !to.is_empty() && !bot.is_called(to) && bot.username.is_some() {
            return Read { text: text.trim().to_owned(), to: To::OtherBot };
        }
        let rest = text[range.end..].trim();
        let text = if rest.is_empty() { name } else { rest };
        return Read { text: text.to_owned(), to: To::Command(name.to_owned()) };
    }
    let own = |entity: &&Entity| match entity.kind.as_str() {
        "mention" => {
            let name = range(text, entity).and_then(|range| text[range].strip_prefix('@'));
            name.is_some_and(|name| bot.is_called(name))
        }
        "text_mention" => entity.user.as_ref().is_some_and(|user| Some(user.id) == bot.id),
        _ => false,
    };
    let mut ranges: Vec<_> =
        entities.iter().filter(own).filter_map(|entity| range(text, entity)).collect();
    ranges.sort_by_key(|range| range.start);
    let to = if ranges.is_empty() { To::All } else { To::Bot };
    Read { text: without(text, &ranges), to }
}

/// The command that opens a text, without its `/`, and where it stands.
fn command<'t>(text: &'t str, entities: &[Entity]) -> Option<(&'t str, Range<usize>)> {
    let entity = entities.iter().find(|e| e.kind == "bot_command" && e.offset == 0)?;
    let range = range(text, entity)?;
    Some((text[range.clone()].strip_prefix('/')?, range))
}

/// `text` without `ranges`, which are in order, and without the space behind one that
/// opens the text or follows a space.
fn without(text: &str, ranges: &[Range<usize>]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for range in ranges {
        let Some(before) = text.get(at..range.start) else { continue };
        out.push_str(before);
        at = range.end;
        if out.is_empty() || out.ends_with(char::is_whitespace) {
            at += text[at..].len() - text[at..].trim_start().len();
        }
    }
    out.push_str(&text[at..]);
    out.trim().to_owned()
}

/// Where an entity stands, in bytes; `None` when it is not within the text.
fn range(text: &str, entity: &Entity) -> Option<Range<usize>> {
    let start = byte_at(text, entity.offset)?;
    let end = byte_at(text, entity.offset.checked_add(entity.length)?)?;
    Some(start..end)
}

/// The byte at which UTF-16 unit number `unit` begins.
fn byte_at(text: &str, unit: usize) -> Option<usize> {
    let mut units = 0;
    for (at, c) in text.char_indices() {
        if units >= unit {
            return (units == unit).then_some(at);
        }
        units += c.len_utf16();
    }
    (units == unit).then_some(text.len())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const BOT: Bot<'_> = Bot { id: Some(42), username: Some("AofBot") };

    fn check(text: &str, entities: &Value, expected: (&str, To)) {
        let entities: Vec<Entity> = serde_json::from_value(entities.clone()).expect("entities");
        let read = read(text, &entities, &BOT);
        assert_eq!((read.text.as_str(), read.to), expected, "{text}");
    }

    #[test]
    fn what_turns_to_the_bot_is_taken_out() {
        let mention =
            |offset, length| json!([{ "type": "mention", "offset": offset, "length": length }]);
        check("@aofbot get pods", &mention(0, 7), ("get pods", To::Bot));
        check("please @AofBot get pods", &mention(7, 7), ("please get pods", To::Bot));
        check("🦀🦀 @aofbot é", &mention(5, 7), ("🦀🦀 é", To::Bot));
        check("ask @annbot", &mention(4, 7), ("ask @annbot", To::All));
        check("no end @aofbot", &mention(7, 99), ("no end @aofbot", To::All));
        check("🦀 half", &mention(1, 2), ("🦀 half", To::All));
        let named =
            json!([{ "type": "text_mention", "offset": 0, "length": 3, "user": { "id": 42 } }]);
        check("Aof, hi", &named, (", hi", To::Bot));
        check("bare", &json!([]), ("bare", To::All));
    }

    #[test]
    fn a_command_hands_on_what_follows_it() {
        let command = |length| json!([{ "type": "bot_command", "offset": 0, "length": length }]);
        let to = |name: &str| To::Command(name.to_owned());
        check("/ops uname -s", &command(4), ("uname -s", to("ops")));
        check("/ops@aofbot uname", &command(11), ("uname", to("ops")));
        check("/status", &command(7), ("status", to("status")));
        check("/ops@other uname", &command(10), ("/ops@other uname", To::OtherBot));
        let later = json!([{ "type": "bot_command", "offset": 4, "length": 4 }]);
        check("try /ops", &later, ("try /ops", To::All));
    }
}
