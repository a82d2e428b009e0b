//! Discord's markup of people, channels and emoji as plain text.

/// Longest `<…>` that is looked at, in bytes; what Discord writes is shorter.
const MAX_ENTITY_BYTES: usize = 128;

/// Turns mentions and custom emoji into plain text and takes mentions of `bot` out. What
/// else people type, Markdown included, stays as it is.
pub(crate) fn plain(content: &str, bot: &str) -> String {
    let mut out = String::with_capacity(content.len());
    let mut rest = content;
    while let Some(open) = rest.find('<') {
        out.push_str(&rest[..open]);
        rest = &rest[open..];
        let near = &rest[..rest.floor_char_boundary(MAX_ENTITY_BYTES)];
        let Some(close) = near.find('>') else {
            out.push('<');
            rest = &rest[1..];
            continue;
        };
        let entity = &rest[1..close];
        if is_mention_of(entity, bot) {
            rest = &rest[close + 1..];
            if out.is_empty() || out.ends_with(char::is_whitespace) {
                rest = rest.trim_start();
            }
            continue;
        }
        match shown(entity) {
            Some(shown) => {
                out.push_str(&shown);
                rest = &rest[close + 1..];
            }
            None => {
                out.push('<');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out.trim().to_owned()
}

fn is_mention_of(entity: &str, user: &str) -> bool {
    let Some(id) = entity.strip_prefix('@') else { return false };
    !user.is_empty() && id.strip_prefix('!').unwrap_or(id) == user
}

/// What a person sees of `@1`, `@!1`, `@&1`, `#1`, `:name:1`, `a:name:1`, `https://…`; `None`
/// for everything else. Source: Discord, "Message Formatting".
fn shown(entity: &str) -> Option<String> {
    let is_id = super::is_snowflake;
    if let Some(id) = entity.strip_prefix("@&").filter(|id| is_id(id)) {
        return Some(format!("@{id}"));
    }
    if let Some(id) = entity.strip_prefix('@') {
        let id = id.strip_prefix('!').unwrap_or(id);
        return is_id(id).then(|| format!("@{id}"));
    }
    if let Some(id) = entity.strip_prefix('#').filter(|id| is_id(id)) {
        return Some(format!("#{id}"));
    }
    // Angle brackets keep a link from being unfolded.
    if entity.starts_with("https://") || entity.starts_with("http://") {
        return Some(entity.to_owned());
    }
    let emoji = entity.strip_prefix('a').unwrap_or(entity).strip_prefix(':')?;
    let (name, id) = emoji.split_once(':')?;
    is_id(id).then(|| format!(":{name}:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_becomes_what_a_person_sees() {
        for (content, expected) in [
            ("<@99> kubectl get pods", "kubectl get pods"),
            ("<@!99> hi", "hi"),
            ("please <@99> scale it", "please scale it"),
            ("ask <@12> and <@!13> or <@&14>", "ask @12 and @13 or @14"),
            ("in <#15>", "in #15"),
            ("nice <:parrot:16> <a:dance:17>", "nice :parrot: :dance:"),
            ("see <https://a.b/c?x=1>", "see https://a.b/c?x=1"),
            ("a < b > c <@x> <#> <>", "a < b > c <@x> <#> <>"),
            ("**bold** `kubectl <name>`", "**bold** `kubectl <name>`"),
            ("é <@99>", "é"),
            ("<@999>", "@999"),
            ("<<@99>", "<"),
        ] {
            assert_eq!(plain(content, "99"), expected, "{content}");
        }
        assert_eq!(plain("<@1> x", ""), "@1 x", "an unknown bot is nobody");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(content in ".{0,200}") {
            plain(&content, "99");
        }
    }
}
