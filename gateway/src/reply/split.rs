//! Cuts long text at borders that a reader would choose. Pure.
//!
//! Parts end at a paragraph's end where one lies in the second half of a part, else at
//! a line's, else at a word's. A code fence that a cut goes through is closed and opened
//! again, so that every part reads on its own.

/// Below this many characters no part has room for reopened fences.
const MIN_LIMIT_CHARS: usize = 128;
/// An opening fence longer than this is reopened without its info string.
const MAX_REOPEN_CHARS: usize = 24;
/// Reopened fence, its line break, and the closing `\n```` ` of a part.
const FENCE_OVERHEAD_CHARS: usize = MAX_REOPEN_CHARS + 1 + 4;
/// Room kept for the note on what is missing; a part holds at least this twice.
const NOTE_CHARS: usize = 56;
/// What marks a fence.
const FENCE: &str = "```";
/// Room for what [`Unit::cut`] adds.
const CUT_CHARS: usize = 32;
/// Longest entity (`&quot;`) or short tag that a cut must not go through.
const MAX_ENTITY_CHARS: usize = 8;

/// How a platform counts the length of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Characters, as Unicode's code points.
    Chars,
    /// UTF-16 units, of which a character has one or two.
    Utf16,
}

impl Unit {
    /// The length of `text`.
    #[must_use]
    pub fn length(self, text: &str) -> usize {
        match self {
            Self::Chars => text.chars().count(),
            Self::Utf16 => text.encode_utf16().count(),
        }
    }

    /// The longest beginning of `text` within `limit`, in bytes.
    #[must_use]
    pub fn prefix(self, text: &str, limit: usize) -> usize {
        let mut length = 0;
        let over = |c: char| {
            length += match self {
                Self::Chars => 1,
                Self::Utf16 => c.len_utf16(),
            };
            length > limit
        };
        text.find(over).unwrap_or(text.len())
    }

    /// `text` within `limit`; what is cut off is counted behind it.
    #[must_use]
    pub fn cut(self, text: &str, limit: usize) -> String {
        if self.length(text) <= limit {
            return text.to_owned();
        }
        let end = self.prefix(text, limit.saturating_sub(CUT_CHARS));
        let missing = text[end..].chars().count();
        format!("{}… {missing} more characters", &text[..end])
    }
}

/// Cuts `text` into parts of at most `limit` (at least 128), counted in `unit`.
#[must_use]
pub fn split(text: &str, limit: usize, unit: Unit) -> Vec<String> {
    pack(text, limit.max(MIN_LIMIT_CHARS), unit)
}

/// [`split`] without the lower bound; `limit` is above twice [`FENCE_OVERHEAD_CHARS`].
fn pack(text: &str, limit: usize, unit: Unit) -> Vec<String> {
    if unit.length(text) <= limit {
        return vec![text.to_owned()];
    }
    let longest_line = limit - FENCE_OVERHEAD_CHARS;
    let mut packer =
        Packer { limit, unit, parts: Vec::new(), lines: Vec::new(), chars: 0, fence: None };
    for line in text.split('\n') {
        for piece in cut_line(line, longest_line, unit) {
            packer.push(piece);
        }
    }
    packer.finish()
}

/// Like [`split`], but of at most `max_parts` parts (at least one). The last one says how
/// many characters are missing; `cut_chars` of them were cut off before.
#[must_use]
pub fn split_bounded(
    text: &str,
    (limit, unit): (usize, Unit),
    max_parts: usize,
    cut_chars: usize,
) -> Vec<String> {
    let limit = limit.max(MIN_LIMIT_CHARS);
    let mut parts = split(text, limit, unit);
    let kept = parts.len().min(max_parts.max(1));
    let dropped: usize = parts.drain(kept..).map(|part| part.chars().count()).sum();
    if dropped + cut_chars == 0 {
        return parts;
    }
    if let Some(last) = parts.last_mut() {
        let room = limit - NOTE_CHARS.min(limit / 2);
        let whole = last.chars().count();
        if unit.length(last) > room {
            *last = pack(last, room, unit).swap_remove(0);
        }
        let missing = dropped + cut_chars + whole.saturating_sub(last.chars().count());
        last.push_str(&format!("\n… {missing} more characters left out"));
    }
    parts
}

/// One line as pieces of at most `limit`, cut behind spaces where there are any.
fn cut_line(line: &str, limit: usize, unit: Unit) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = line;
    while unit.length(rest) > limit {
        let cut = border(&rest[..unit.prefix(rest, limit)]);
        pieces.push(&rest[..cut]);
        rest = &rest[cut..];
    }
    pieces.push(rest);
    pieces
}

/// Where to cut `window`, in bytes; never 0.
fn border(window: &str) -> usize {
    let half = window.len() / 2;
    let space = window.rfind(' ').map(|at| at + 1).filter(|at| *at > half);
    let mut cut = space.unwrap_or(window.len());
    for (open, close) in [('&', ';'), ('<', '>')] {
        let head = &window[..cut];
        let Some(at) = head.rfind(open) else { continue };
        let whole = head[at..].contains(close);
        let near = open == '<' || head[at..].chars().count() <= MAX_ENTITY_CHARS;
        if !whole && near && at > half {
            cut = at;
        }
    }
    cut
}

/// Packs lines into parts and keeps track of the open fence.
struct Packer<'a> {
    limit: usize,
    unit: Unit,
    parts: Vec<String>,
    /// Lines of the part at work, each with the fence that is open behind it.
    lines: Vec<(&'a str, Option<&'a str>)>,
    /// Length of `lines`, line breaks included.
    chars: usize,
    /// The opening line of the fence that is open before `lines`.
    fence: Option<&'a str>,
}

impl<'a> Packer<'a> {
    fn push(&mut self, line: &'a str) {
        let chars = self.unit.length(line) + 1;
        while self.chars + chars + FENCE_OVERHEAD_CHARS > self.limit && !self.lines.is_empty() {
            self.flush(self.paragraph_end().unwrap_or(self.lines.len()));
        }
        let before = self.lines.last().map_or(self.fence, |(_, fence)| *fence);
        let is_fence = line.trim_start().starts_with(FENCE);
        let after = match (is_fence, before) {
            (true, None) => Some(line.trim_start()),
            (true, Some(_)) => None,
            (false, open) => open,
        };
        self.lines.push((line, after));
        self.chars += chars;
    }

    /// The last blank line outside a fence in the second half, as a count of lines.
    fn paragraph_end(&self) -> Option<usize> {
        let mut behind = 0;
        for (at, (line, fence)) in self.lines.iter().enumerate().rev() {
            if behind > self.chars / 2 {
                return None;
            }
            if line.trim().is_empty() && fence.is_none() && at > 0 {
                return Some(at + 1);
            }
            behind += self.unit.length(line) + 1;
        }
        None
    }

    /// Makes a part of the first `count` lines.
    fn flush(&mut self, count: usize) {
        let rest = self.lines.split_off(count);
        let mut part = String::new();
        if let Some(fence) = self.fence {
            let reopened = if fence.chars().count() > MAX_REOPEN_CHARS { FENCE } else { fence };
            part.push_str(reopened);
            part.push('\n');
        }
        let lines: Vec<&str> = self.lines.iter().map(|(line, _)| *line).collect();
        part.push_str(lines.join("\n").trim_end());
        let after = self.lines.last().map_or(self.fence, |(_, fence)| *fence);
        if after.is_some() {
            part.push('\n');
            part.push_str(FENCE);
        }
        self.fence = after;
        if !part.trim().is_empty() {
            self.parts.push(part);
        }
        self.chars = rest.iter().map(|(line, _)| self.unit.length(line) + 1).sum();
        self.lines = rest;
    }

    fn finish(mut self) -> Vec<String> {
        // A fence that the text itself never closes is closed here too.
        self.flush(self.lines.len());
        self.parts
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What must survive a cut: everything but white space and fence lines.
    fn essence(text: &str) -> String {
        text.split('\n')
            .filter(|line| !line.trim_start().starts_with(FENCE))
            .flat_map(|line| line.chars().filter(|c| !c.is_whitespace()))
            .collect()
    }

    #[test]
    fn short_text_stays_whole() {
        assert_eq!(split("a\n\nb", 3_900, Unit::Chars), vec!["a\n\nb".to_owned()]);
    }

    #[test]
    fn cuts_at_a_paragraph_in_the_second_half() {
        let text = format!("{}\n\n{}", "a ".repeat(45).trim(), "b ".repeat(45).trim());
        let parts = split(&text, 128, Unit::Chars);
        assert_eq!(parts, vec!["a ".repeat(45).trim(), "b ".repeat(45).trim()]);
    }

    #[test]
    fn closes_and_reopens_a_fence() {
        let text = format!("see\n```yaml\n{}```\nend", "key: value\n".repeat(20));
        let parts = split(&text, 130, Unit::Chars);
        assert!(parts.len() > 1);
        for part in &parts {
            assert_eq!(part.matches(FENCE).count() % 2, 0, "unbalanced:\n{part}");
        }
        assert!(parts[1].starts_with("```yaml\nkey: value"), "{}", parts[1]);
    }

    #[test]
    fn never_cuts_through_an_entity() {
        let text = "&lt;".repeat(100);
        for part in split(&text, 130, Unit::Chars) {
            assert_eq!(part.len() % 4, 0, "{part}");
        }
    }

    #[test]
    fn says_how_much_is_left_out() {
        let text = "word ".repeat(1_000);
        let parts = split_bounded(&text, (150, Unit::Chars), 3, 7);
        assert_eq!(parts.len(), 3);
        assert!(parts[2].ends_with("more characters left out"), "{}", parts[2]);
        assert!(parts.iter().all(|p| p.chars().count() <= 150));
    }

    #[test]
    fn lengths_are_counted_as_the_platform_counts() {
        assert_eq!((Unit::Chars.length("a🦀"), Unit::Utf16.length("a🦀")), (2, 3));
        assert_eq!((Unit::Utf16.prefix("a🦀b", 2), Unit::Utf16.prefix("a🦀b", 3)), (1, 5));
        let cut = Unit::Utf16.cut(&"🦀".repeat(100), 60);
        assert_eq!(cut, format!("{}… 86 more characters", "🦀".repeat(14)));
        assert_eq!(Unit::Chars.cut("short", 60), "short");
    }

    proptest! {
        #[test]
        fn parts_are_within_the_limit_and_lose_nothing(
            lines in prop::collection::vec(
                prop_oneof![
                    4 => "[a-zé🦀<>&; .]{0,90}",
                    1 => Just("```rust".to_owned()),
                    1 => Just("```".to_owned()),
                    1 => Just(String::new()),
                    1 => "[x🦀]{200,400}",
                ],
                0..60,
            ),
            limit in 128_usize..400,
            unit in prop_oneof![Just(Unit::Chars), Just(Unit::Utf16)],
        ) {
            let text = lines.join("\n");
            let parts = split(&text, limit, unit);
            for part in &parts {
                prop_assert!(unit.length(part) <= limit, "{} > {limit}", unit.length(part));
            }
            prop_assert_eq!(essence(&parts.join("\n")), essence(&text));
            if parts.len() > 1 {
                for part in &parts {
                    let fences = part.split('\n').filter(|l| l.trim_start().starts_with(FENCE));
                    prop_assert_eq!(fences.count() % 2, 0);
                }
            }
        }
    }
}
