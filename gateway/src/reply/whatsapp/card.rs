//! The card that shows a held action, in WhatsApp's markup. Pure.
//!
//! What will run stands in a code block that nothing in the command can close.

use aof_shared::action::ApprovalView;

use crate::reply::card::{self, Room};
use crate::reply::split::Unit;

/// Longest text of a message. Source: Meta, "Text messages".
pub const MAX_TEXT: usize = 4_096;
/// Longest body of a message with buttons. Source: Meta, "Interactive reply buttons".
pub const MAX_BUTTONS_TEXT: usize = 1_024;
/// Lengths are counted the longer way, as Meta does not say which it means.
pub const UNIT: Unit = Unit::Utf16;

/// Where to vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ballot {
    /// By the buttons below it.
    Buttons,
    /// By reacting to it.
    Reactions,
}

impl Ballot {
    /// All parts of a card together stay below the longest text of its kind of message.
    fn room(self) -> (Room, usize) {
        match self {
            Self::Buttons => {
                (Room { unit: UNIT, command: 200, line: 44, outcome: 40 }, MAX_BUTTONS_TEXT)
            }
            Self::Reactions => {
                (Room { unit: UNIT, command: 1_200, line: 150, outcome: 600 }, MAX_TEXT)
            }
        }
    }

    fn how(self) -> &'static str {
        match self {
            Self::Buttons => "Press a button, or react with 👍 or 👎.",
            Self::Reactions => "React to the first message: 👍 to approve, 👎 to deny.",
        }
    }
}

/// Draws `view` for a message that is voted on by `ballot`.
#[must_use]
pub fn text(view: &ApprovalView, ballot: Ballot) -> String {
    let (room, max) = ballot.room();
    let card = card::draw(view, &room);
    let mut lines = vec![format!("*{}*", plain(&card.headline)), block(&card.command)];
    lines.extend(card.warnings.iter().map(|warning| format!("⚠️ {warning}")));
    lines.extend(card.facts.iter().map(|(name, value)| format!("{name}: {}", plain(value))));
    lines.extend(card.outcome.as_deref().map(block));
    if card.open {
        lines.push(ballot.how().to_owned());
    }
    lines.push(card.footer.clone());
    let text = lines.join("\n");
    text[..UNIT.prefix(&text, max)].to_owned()
}

/// Nothing inside closes the block.
fn block(text: &str) -> String {
    let text = text.replace("```", "`\u{2060}`\u{2060}`\u{2060}");
    format!("```{text}```")
}

/// A value that somebody else chose opens no code block.
fn plain(text: &str) -> String {
    text.replace('`', "'")
}
