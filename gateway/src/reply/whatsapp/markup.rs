//! Turns the Markdown of agents into WhatsApp's markup. Pure.
//!
//! WhatsApp knows `*bold*`, `_italic_`, `~struck~`, code and quotes. Nothing in a text can
//! mention anyone or become a button.

/// Longest span that is looked for, in bytes; keeps the cost of odd text linear.
const MAX_SPAN_BYTES: usize = 2_048;

/// Converts `markdown`.
#[must_use]
pub fn from_markdown(markdown: &str) -> String {
    let mut out = String::with_capacity(markdown.len());
    let mut fenced = false;
    for (at, line) in markdown.lines().enumerate() {
        if at > 0 {
            out.push('\n');
        }
        let is_fence = line.trim_start().starts_with("```");
        if is_fence {
            fenced = !fenced;
            out.push_str("```");
        } else if fenced {
            out.push_str(line);
        } else {
            prose(line, &mut out);
        }
    }
    if fenced {
        out.push_str("\n```");
    }
    out
}

fn prose(line: &str, out: &mut String) {
    let rest = line.trim_start();
    let indent = &line[..line.len() - rest.len()];
    let hashes = rest.bytes().take_while(|b| *b == b'#').count();
    if (1..=6).contains(&hashes) && rest[hashes..].starts_with(' ') {
        let title = rest[hashes..].trim().trim_end_matches('#').trim_end().replace("**", "");
        out.push('*');
        inline(&title, out);
        out.push('*');
        return;
    }
    out.push_str(indent);
    match rest.strip_prefix("* ").or_else(|| rest.strip_prefix("+ ")) {
        Some(item) => {
            out.push_str("- ");
            inline(item, out);
        }
        None => inline(rest, out),
    }
}

/// Spans: code, links, bold, italic, struck.
fn inline(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let taken = span(rest, out);
        if taken == 0 {
            out.push(c);
        }
        rest = &rest[taken.max(c.len_utf8())..];
    }
}

/// Writes the span that `rest` starts with; how many bytes it took, 0 for none.
fn span(rest: &str, out: &mut String) -> usize {
    match rest.as_bytes().first() {
        Some(b'`') => code(rest, out),
        Some(b'*') if rest.starts_with("**") => wrapped(rest, "**", '*', out),
        Some(b'_') if rest.starts_with("__") => wrapped(rest, "__", '*', out),
        Some(b'~') if rest.starts_with("~~") => wrapped(rest, "~~", '~', out),
        Some(b'*') => wrapped(rest, "*", '_', out),
        Some(b'[') => link(rest, out),
        _ => 0,
    }
}

/// The stretch of `text` in which a span has to end.
fn near(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_SPAN_BYTES)]
}

fn code(rest: &str, out: &mut String) -> usize {
    let ticks = rest.bytes().take_while(|b| *b == b'`').count();
    let mark = &rest[..ticks];
    let Some(length) = near(&rest[ticks..]).find(mark).filter(|length| *length > 0) else {
        return 0;
    };
    let taken = 2 * ticks + length;
    out.push_str(&rest[..taken]);
    taken
}

/// `mark`text`mark` as `with`text`with`. Not when text would start or end with a space.
fn wrapped(rest: &str, mark: &str, with: char, out: &mut String) -> usize {
    let body = &rest[mark.len()..];
    let Some(length) = near(body).find(mark).filter(|length| *length > 0) else { return 0 };
    let inner = &body[..length];
    if inner.starts_with(char::is_whitespace) || inner.ends_with(char::is_whitespace) {
        return 0;
    }
    out.push(with);
    inline(inner, out);
    out.push(with);
    2 * mark.len() + length
}

/// `[text](url)` as `text (url)`: people see where it leads.
fn link(rest: &str, out: &mut String) -> usize {
    let Some(close) = near(rest).find("](") else { return 0 };
    let (text, target) = (&rest[1..close], &rest[close + 2..]);
    let Some(end) = near(target).find(')') else { return 0 };
    let url = &target[..end];
    if text.contains('[') || url.is_empty() || url.contains(char::is_whitespace) {
        return 0;
    }
    if text == url {
        out.push_str(url);
    } else {
        inline(text, out);
        out.push_str(" (");
        out.push_str(url);
        out.push(')');
    }
    close + 2 + end + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converts_what_agents_write() {
        for (markdown, expected) in [
            ("**bold** and *it* and ~~no~~", "*bold* and _it_ and ~no~"),
            ("# Title **x** ##", "*Title x*"),
            ("#hash", "#hash"),
            ("- a\n  * b\n+ c", "- a\n  - b\n- c"),
            ("[docs](https://x.io/a?b=1)", "docs (https://x.io/a?b=1)"),
            ("[https://x.io](https://x.io)", "https://x.io"),
            ("`a*b*` and ``x`y``", "`a*b*` and ``x`y``"),
            ("2 * 3 * 4", "2 * 3 * 4"),
            ("```rust\nif a { **x** }\n```", "```\nif a { **x** }\n```"),
            ("```\nopen", "```\nopen\n```"),
            ("a\n\nb", "a\n\nb"),
            ("[a](b c)", "[a](b c)"),
        ] {
            assert_eq!(from_markdown(markdown), expected, "{markdown:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics_and_grows_by_little(text in "\\PC{0,200}") {
            let out = from_markdown(&text);
            proptest::prop_assert!(out.len() <= 2 * text.len() + 4);
        }
    }
}
