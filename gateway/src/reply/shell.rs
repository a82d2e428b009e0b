//! Writes an argv so that people read exactly what will run. Pure; for showing only:
//! nothing ever parses it back.

use std::fmt::Write as _;

/// Joins `argv` as a POSIX shell would have to be given it.
#[must_use]
pub fn quoted(argv: &[String]) -> String {
    argv.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

/// One word: plain where that is safe, in single quotes otherwise, and in `$'…'` when it
/// holds something that a screen would hide.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    if !word.chars().any(is_hidden) {
        return format!("'{}'", word.replace('\'', r"'\''"));
    }
    let mut text = String::from("$'");
    for c in word.chars() {
        match c {
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '\\' | '\'' => {
                text.push('\\');
                text.push(c);
            }
            c if is_hidden(c) => {
                let code = u32::from(c);
                // Writing to a `String` cannot fail.
                let _ = match code {
                    0..=0xff => write!(text, "\\x{code:02x}"),
                    0x100..=0xffff => write!(text, "\\u{code:04x}"),
                    _ => write!(text, "\\U{code:08x}"),
                };
            }
            c => text.push(c),
        }
    }
    text.push('\'');
    text
}

/// Characters that show as nothing, or change how what stands beside them shows:
/// controls, odd spaces, joiners, direction marks, tags, variation selectors.
/// Source: Unicode 16, categories Cc, Cf, Zs, Zl, Zp.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(u32::from(c),
            0xad | 0x34f | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x890..=0x891 | 0x8e2
            | 0x115f..=0x1160 | 0x17b4..=0x17b5 | 0x180b..=0x180f | 0x200b..=0x200f
            | 0x202a..=0x202e | 0x2060..=0x206f | 0x2800 | 0x3164 | 0xfe00..=0xfe0f | 0xfeff
            | 0xffa0 | 0xfff0..=0xfffb | 0x110bd | 0x110cd | 0x13430..=0x1343f
            | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a | 0xe0000..=0xe0fff)
}

/// True when `argv` holds letters that may look like others: anything beyond ASCII.
#[must_use]
pub fn beyond_ascii(argv: &[String]) -> bool {
    argv.iter().any(|word| !word.is_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_a_shell_would_need() {
        let check = |words: &[&str], expected: &str| {
            let argv: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
            assert_eq!(quoted(&argv), expected);
        };
        check(&["kubectl", "delete", "ns/prod"], "kubectl delete ns/prod");
        check(&["rm", "a b", ""], "rm 'a b' ''");
        check(&["echo", "it's", "$HOME", "`x`"], r"echo 'it'\''s' '$HOME' '`x`'");
        check(&["sh", "-c", "a\nb\t'c\\"], r"sh -c $'a\nb\t\'c\\'");
        check(&["rm", "\u{202e}x\u{200b}"], r"rm $'\u202ex\u200b'");
        check(&["rm", "a\u{a0}b", "\u{1b}[0m"], r"rm $'a\xa0b' $'\x1b[0m'");
        check(&["kubectl", "dеlete"], "kubectl 'dеlete'"); // a Cyrillic е
    }

    #[test]
    fn names_letters_beyond_ascii() {
        assert!(beyond_ascii(&["dеlete".to_owned()]));
        assert!(!beyond_ascii(&["delete".to_owned()]));
    }
}
