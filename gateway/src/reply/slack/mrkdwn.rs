//! Turns the Markdown of agents into Slack's mrkdwn. Pure.
//!
//! What an agent wrote can link and name single people; it can neither mention a whole
//! channel or group, nor break out of a code block into markup of its own.

use std::fmt::Write as _;

/// Stands between `@` and a mass mention's word, so that Slack sees none.
const WORD_JOINER: char = '\u{2060}';
/// Longest span that is looked for, in bytes; keeps the cost of odd text linear.
const MAX_SPAN_BYTES: usize = 2_048;
/// Words behind `@` that call everybody.
const MASS_MENTIONS: [&str; 3] = ["channel", "here", "everyone"];

/// Converts `markdown`.
#[must_use]
pub fn from_markdown(markdown: &str) -> String {
    let mut out = String::with_capacity(markdown.len() + markdown.len() / 8);
    let mut fence: Option<(char, usize)> = None;
    for line in markdown.lines() {
        if !out.is_empty() {
            out.push('\n');
        }
        match (fence, fence_of(line)) {
            (None, Some((mark, length, _))) => {
                fence = Some((mark, length));
                out.push_str("```");
            }
            (Some((mark, length)), Some((m, l, true))) if m == mark && l >= length => {
                fence = None;
                out.push_str("```");
            }
            (Some(_), _) => code(line, &mut out),
            (None, None) => prose_line(line, &mut out),
        }
    }
    if fence.is_some() {
        out.push_str("\n```");
    }
    out
}

/// A fence line's mark, its length, and whether nothing follows (it can close).
fn fence_of(line: &str) -> Option<(char, usize, bool)> {
    let line = line.trim_start();
    let mark = line.chars().next().filter(|c| *c == '`' || *c == '~')?;
    let length = line.chars().take_while(|c| *c == mark).count();
    let info = &line[length..];
    (length >= 3 && !info.contains('`')).then(|| (mark, length, info.trim().is_empty()))
}

/// Text inside a code fence: escaped, and unable to close the fence.
fn code(line: &str, out: &mut String) {
    out.push_str(&escape(&line.replace("```", "`\u{2060}`\u{2060}`")));
}

/// Escapes what Slack takes for control characters. Source: Slack, "Formatting text".
#[must_use]
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Escapes text that must stay as it is in mrkdwn, such as names: no markup, no mentions.
#[must_use]
pub fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '*' | '_' | '~' | '`' | '@' => {
                out.push(c);
                out.push(WORD_JOINER);
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

fn prose_line(line: &str, out: &mut String) {
    let indent = line.len() - line.trim_start().len();
    let (space, rest) = line.split_at(indent);
    let hashes = rest.chars().take_while(|c| *c == '#').count();
    if (1..=6).contains(&hashes) && rest[hashes..].starts_with(' ') {
        let title = rest[hashes..].trim().trim_end_matches('#').trim_end();
        let mut bold = String::new();
        inline(&title.replace("**", "").replace("__", ""), &mut bold);
        // Writing to a `String` cannot fail.
        let _ = write!(out, "*{bold}*");
        return;
    }
    out.push_str(space);
    if let Some(quoted) = rest.strip_prefix('>') {
        out.push('>');
        inline(quoted, out);
        return;
    }
    for bullet in ["- ", "* ", "+ "] {
        if let Some(item) = rest.strip_prefix(bullet) {
            out.push_str("• ");
            inline(item, out);
            return;
        }
    }
    inline(rest, out);
}

/// Spans: code, links, bold, italic, struck, mentions.
fn inline(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let taken = span(rest, out);
        if taken > 0 {
            rest = &rest[taken..];
            continue;
        }
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
        rest = &rest[c.len_utf8()..];
    }
}

/// Writes the span that `rest` starts with; how many bytes it took, 0 for none.
fn span(rest: &str, out: &mut String) -> usize {
    match rest.as_bytes().first() {
        Some(b'`') => code_span(rest, out),
        Some(b'*') if rest.starts_with("**") => wrapped(rest, "**", '*', out),
        Some(b'*') => wrapped(rest, "*", '_', out),
        Some(b'_') if rest.starts_with("__") => wrapped(rest, "__", '*', out),
        Some(b'~') if rest.starts_with("~~") => wrapped(rest, "~~", '~', out),
        Some(b'!') if rest.starts_with("![") => match link(&rest[1..], out) {
            0 => 0,
            taken => taken + 1,
        },
        Some(b'[') => link(rest, out),
        Some(b'<') => angle(rest, out),
        Some(b'@') => mass_mention(rest, out),
        Some(b'\\') => match rest.chars().nth(1) {
            Some(c) if c.is_ascii_punctuation() => {
                out.push_str(&escape(&c.to_string()));
                2
            }
            _ => 0,
        },
        _ => 0,
    }
}

/// The stretch of `text` in which a span has to end.
fn near(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_SPAN_BYTES)]
}

fn code_span(rest: &str, out: &mut String) -> usize {
    let ticks = rest.bytes().take_while(|b| *b == b'`').count();
    let mark = &rest[..ticks];
    let Some(length) = near(&rest[ticks..]).find(mark).filter(|length| *length > 0) else {
        return 0;
    };
    let inner = &rest[ticks..ticks + length];
    let shown = inner.replace('`', "'");
    out.push('`');
    out.push_str(&escape(shown.trim()));
    out.push('`');
    2 * ticks + length
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

/// `[text](url)`; only to the web or a mail address.
fn link(rest: &str, out: &mut String) -> usize {
    let Some(close) = near(rest).find("](") else { return 0 };
    let (text, target) = (&rest[1..close], &rest[close + 2..]);
    let Some(end) = near(target).find(')') else { return 0 };
    let Some(url) = safe_url(target[..end].split(' ').next().unwrap_or_default()) else { return 0 };
    if text.contains('\n') || text.contains('[') {
        return 0;
    }
    let shown = neutral(text).replace('|', "¦");
    // Writing to a `String` cannot fail.
    let _ = if shown.is_empty() { write!(out, "<{url}>") } else { write!(out, "<{url}|{shown}>") };
    close + 2 + end + 1
}

/// Plain text of a link: escaped, without mass mentions or markup.
fn neutral(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let taken = if c == '@' { mass_mention(rest, &mut out) } else { 0 };
        if taken == 0 && !matches!(c, '*' | '`') {
            out.push_str(&escape(&c.to_string()));
        }
        rest = &rest[taken.max(c.len_utf8())..];
    }
    out
}

fn safe_url(url: &str) -> Option<String> {
    let known = ["https://", "http://", "mailto:"].iter().any(|scheme| url.starts_with(scheme));
    let clean = !url.chars().any(|c| c.is_whitespace() || c.is_control());
    (known && clean).then(|| {
        let url = url.replace('<', "%3C").replace('>', "%3E").replace('|', "%7C");
        url.replace('&', "&amp;")
    })
}

/// `<https://…>`, and mentions of one person or channel. Everything else in angle
/// brackets (`<!channel>`, `<!subteam^…>`) is shown and does nothing.
fn angle(rest: &str, out: &mut String) -> usize {
    let Some(end) = near(rest).find('>') else { return 0 };
    let inner = &rest[1..end];
    let single = inner.strip_prefix('@').or_else(|| inner.strip_prefix('#'));
    let id =
        |id: &str| id.len() > 2 && id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    let written = match single {
        Some(name) if id(name) => inner.to_owned(),
        Some(_) => return 0,
        None => match safe_url(inner) {
            Some(url) => url,
            None => return 0,
        },
    };
    // Writing to a `String` cannot fail.
    let _ = write!(out, "<{written}>");
    end + 1
}

fn mass_mention(rest: &str, out: &mut String) -> usize {
    let word = &rest[1..];
    let Some(name) = MASS_MENTIONS
        .iter()
        .find(|name| word.get(..name.len()).is_some_and(|head| head.eq_ignore_ascii_case(name)))
    else {
        return 0;
    };
    out.push('@');
    out.push(WORD_JOINER);
    out.push_str(&word[..name.len()]);
    1 + name.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converts_what_agents_write() {
        for (markdown, expected) in [
            ("**bold** and *it* and ~~no~~", "*bold* and _it_ and ~no~"),
            ("# Title **x** ##", "*Title x*"),
            ("###### deep", "*deep*"),
            ("#hash", "#hash"),
            ("- a\n  * b\n+ c", "• a\n  • b\n• c"),
            ("[docs](https://x.io/a?b=1&c=2)", "<https://x.io/a?b=1&amp;c=2|docs>"),
            ("![img](https://x.io/i.png)", "<https://x.io/i.png|img>"),
            ("<https://x.io>", "<https://x.io>"),
            ("[x](javascript:alert)", "[x](javascript:alert)"),
            ("a < b && c > d", "a &lt; b &amp;&amp; c &gt; d"),
            ("`a<b` and ``x`y``", "`a&lt;b` and `x'y`"),
            ("2 * 3 * 4", "2 * 3 * 4"),
            ("snake_case_name", "snake_case_name"),
            ("\\*not\\*", "*not*"),
            ("> quote **b**", "> quote *b*"),
            ("```rust\nif a < b { **x** }\n```", "```\nif a &lt; b { **x** }\n```"),
            ("~~~\n```\n~~~", "```\n`\u{2060}`\u{2060}`\n```"),
            ("```\nopen", "```\nopen\n```"),
            ("```inline```", "`inline`"),
        ] {
            assert_eq!(from_markdown(markdown), expected, "{markdown:?}");
        }
    }

    #[test]
    fn nobody_can_be_called_in_mass() {
        for bad in [
            "<!channel>",
            "<!here|here>",
            "<!subteam^S1|x>",
            "@channel",
            "hey @HERE",
            "@everyone",
            "[@channel](https://x.io)",
            "[x](https://x.io|<!channel>)",
            "**<!channel>**",
            "<@U1|<!here>",
            "# <!everyone> @channel",
            "`<!channel>`",
            "```\n<!channel>\n```",
            "<https://x.io|<!here>>",
            "<!date^1^{date}|@here>",
        ] {
            let out = from_markdown(bad);
            assert!(!out.contains("<!"), "{bad:?} became {out:?}");
            let lower = out.to_lowercase();
            for word in MASS_MENTIONS {
                assert!(!lower.contains(&format!("@{word}")), "{bad:?} became {out:?}");
            }
        }
    }

    #[test]
    fn one_person_can_be_named() {
        assert_eq!(from_markdown("ask <@U015VBH1GTZ>"), "ask <@U015VBH1GTZ>");
        assert_eq!(from_markdown("<@nobody here>"), "&lt;@nobody here&gt;");
    }

    proptest::proptest! {
        #[test]
        fn never_panics_and_never_opens_a_command(text in ".{0,200}") {
            let out = from_markdown(&text);
            proptest::prop_assert!(!out.contains("<!"));
        }
    }
}
