//! Which emoji are votes, on platforms whose reactions are characters. Pure.

use aof_shared::action::Choice;

/// What a reaction says about a held action; `None` for all others. Skin tones and
/// presentation selectors do not matter.
pub(crate) fn choice_of(emoji: &str) -> Option<Choice> {
    let plain: String = emoji.chars().filter(|c| !is_modifier(*c)).collect();
    match plain.as_str() {
        "👍" | "✅" | "✔" | "☑" => Some(Choice::Approve),
        "👎" | "❌" | "✖" | "⛔" | "🚫" => Some(Choice::Deny),
        _ => None,
    }
}

/// Variation selectors 15 and 16, and the skin tones. Source: Unicode, UTS #51.
fn is_modifier(c: char) -> bool {
    matches!(c, '\u{fe0e}' | '\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn votes_are_thumbs_checks_and_crosses_of_any_colour() {
        let check = |emoji: &str, expected: Option<Choice>| {
            assert_eq!(choice_of(emoji), expected, "{emoji}");
        };
        for yes in ["👍", "👍🏽", "✅", "✔️", "✔"] {
            check(yes, Some(Choice::Approve));
        }
        for no in ["👎", "👎🏿", "❌", "⛔", "🚫", "✖️"] {
            check(no, Some(Choice::Deny));
        }
        for other in ["", "😮", "👍👎", "+1", "❤️", "🏽"] {
            check(other, None);
        }
    }
}
