//! Slack's markup as plain text, and bodies with their credentials taken out.

/// Where a mention of the bot is taken out.
#[derive(Debug, Clone, Copy)]
pub(super) enum BotMention<'a> {
    /// Every mention of this id.
    Of(&'a str),
    /// The id is not known, but the text mentions the bot: the first mention, if the text opens with it.
    Leading,
}

/// Turns Slack's markup into plain text and takes the mention of the bot out.
/// Ids of people stay; links that Slack made of typed text become what was typed.
pub(super) fn plain(markup: &str, bot: BotMention<'_>) -> String {
    let mut out = String::with_capacity(markup.len());
    let mut rest = markup;
    while let Some(open) = rest.find('<') {
        push_unescaped(&mut out, &rest[..open]);
        let inner = &rest[open + 1..];
        let Some(close) = inner.find('>') else {
            push_unescaped(&mut out, &rest[open..]);
            rest = "";
            break;
        };
        rest = &inner[close + 1..];
        let entity = &inner[..close];
        if is_bot(entity, bot, out.trim().is_empty()) {
            if out.is_empty() || out.ends_with(char::is_whitespace) {
                rest = rest.trim_start();
            }
        } else {
            push_entity(&mut out, entity);
        }
    }
    push_unescaped(&mut out, rest);
    out.trim().to_owned()
}

/// True when the text mentions `user`.
pub(super) fn mentions(markup: &str, user: &str) -> bool {
    let mut rest = markup;
    while let Some(at) = rest.find("<@") {
        rest = &rest[at + 2..];
        if let Some(after) = rest.strip_prefix(user)
            && after.starts_with(['>', '|'])
        {
            return true;
        }
    }
    false
}

fn is_bot(entity: &str, bot: BotMention<'_>, opens: bool) -> bool {
    let Some(mention) = entity.strip_prefix('@') else { return false };
    let id = mention.split('|').next().unwrap_or_default();
    match bot {
        BotMention::Of(bot) => id == bot,
        BotMention::Leading => opens,
    }
}

/// What stood between `<` and `>`: `@U1`, `#C1|name`, `!here`, `https://a.b|label`.
fn push_entity(out: &mut String, entity: &str) {
    let (target, label) = match entity.split_once('|') {
        Some((target, label)) => (target, Some(label).filter(|l| !l.is_empty())),
        None => (entity, None),
    };
    match target.as_bytes().first() {
        Some(b'@') => out.push_str(target),
        Some(b'#') => {
            out.push('#');
            push_unescaped(out, label.unwrap_or(&target[1..]));
        }
        Some(b'!') => push_special(out, &target[1..], label),
        _ => push_link(out, target, label),
    }
}

fn push_special(out: &mut String, target: &str, label: Option<&str>) {
    match label {
        Some(label) => push_unescaped(out, label),
        None => {
            out.push('@');
            push_unescaped(out, target.split('^').next().unwrap_or(target));
        }
    }
}

fn push_link(out: &mut String, url: &str, label: Option<&str>) {
    let Some(label) = label else { return push_unescaped(out, url) };
    push_unescaped(out, label);
    let bare = url.split_once("://").map_or(url, |(_, bare)| bare);
    let bare = bare.strip_prefix("mailto:").or_else(|| bare.strip_prefix("tel:")).unwrap_or(bare);
    if label != bare && label != url && label.trim_end_matches('/') != bare.trim_end_matches('/') {
        out.push_str(" (");
        push_unescaped(out, url);
        out.push(')');
    }
}

/// Slack escapes exactly three characters.
fn push_unescaped(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let escapes = [("&amp;", '&'), ("&lt;", '<'), ("&gt;", '>')];
        match escapes.into_iter().find(|(escape, _)| rest.starts_with(escape)) {
            Some((escape, plain)) => {
                out.push(plain);
                rest = &rest[escape.len()..];
            }
            None => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
}

/// Keys whose values are credentials.
const CREDENTIALS: [&str; 4] = ["token", "response_url", "action_token", "bot_access_token"];

/// True when a field of this name holds a credential.
pub(super) fn is_credential(key: &str) -> bool {
    CREDENTIALS.contains(&key)
}

/// The JSON text with every credential's value replaced by `***`, whatever its depth.
pub(super) fn redact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut copied = 0;
    let mut at = 0;
    while let Some((start, end)) = next_string(json, at) {
        at = end;
        if !is_credential(&json[start + 1..end - 1]) {
            continue;
        }
        let Some(value) = value_after(json, end) else { continue };
        out.push_str(&json[copied..value.0]);
        out.push_str("\"***\"");
        copied = value.1;
        at = value.1;
    }
    out.push_str(&json[copied..]);
    out
}

/// The next string with its quotes, as a range; escapes are skipped.
fn next_string(json: &str, from: usize) -> Option<(usize, usize)> {
    let start = from + json[from..].find('"')?;
    let bytes = json.as_bytes();
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return Some((start, at + 1)),
            _ => at += 1,
        }
    }
    None
}

/// The string value that follows a key which ended at `end`, as a range with its quotes.
fn value_after(json: &str, end: usize) -> Option<(usize, usize)> {
    let gap = json[end..].find(|c: char| !c.is_ascii_whitespace())?;
    let after = end + gap;
    let rest = json[after..].strip_prefix(':')?;
    let value = after + 1 + rest.find(|c: char| !c.is_ascii_whitespace())?;
    if json.as_bytes()[value] == b'"' { next_string(json, value) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(markup: &str, expected: &str) {
        assert_eq!(plain(markup, BotMention::Of("UBOT")), expected, "{markup}");
    }

    #[test]
    fn markup_becomes_what_a_person_would_have_typed() {
        check("<@UBOT> kubectl get pods", "kubectl get pods");
        check("<@UBOT|bot>: hi", ": hi");
        check("please <@UBOT> scale it", "please scale it");
        check("ask <@U2> and <@U3|ann>", "ask @U2 and @U3");
        check("in <#C1|general> and <#C2> or <#C3|>", "in #general and #C2 or #C3");
        check("see <https://a.b/c|the page>", "see the page (https://a.b/c)");
        check("curl <http://example.com|example.com>", "curl example.com");
        check("<https://a.b/c?x=1&amp;y=2>", "https://a.b/c?x=1&y=2");
        check(
            "<mailto:a@b.c|a@b.c> <!here> <!subteam^S1|@sre> <!subteam^S1>",
            "a@b.c @here @sre @subteam",
        );
        check("a &lt;b&gt; &amp;&amp; c & d &amp;lt;", "a <b> && c & d &lt;");
        check("an open < stays", "an open < stays");
        check("é <@UBOT>", "é");
    }

    #[test]
    fn an_unknown_bot_is_taken_out_only_where_the_text_opens() {
        assert_eq!(plain("<@U1> ask <@U2>", BotMention::Leading), "ask @U2");
        assert_eq!(plain("ask <@U2>", BotMention::Leading), "ask @U2");
    }

    #[test]
    fn a_mention_is_found_by_its_whole_id() {
        assert!(mentions("a <@U1> b", "U1") && mentions("<@U1|n>", "U1"));
        assert!(!mentions("<@U12>", "U1") && !mentions("@U1", "U1"));
    }

    #[test]
    fn credentials_are_redacted_at_any_depth_and_nothing_else_is() {
        let body = r#"{"token" : "s3cret","a":{"response_url":"https:\/\/x\"y","text":"token: \"token\":\"no\""},"tokens":["t"],"token_n":1}"#;
        let redacted = redact(body);
        assert_eq!(
            redacted,
            r#"{"token" : "***","a":{"response_url":"***","text":"token: \"token\":\"no\""},"tokens":["t"],"token_n":1}"#
        );
        for odd in ["", "\"", "\"token\"", "\"token\":", "\"token\": 1", "\"token\":\"x", "\"\\"] {
            assert_eq!(redact(odd), odd);
        }
    }
}
