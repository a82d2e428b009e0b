//! Command patterns, as people write them: `kubectl delete namespace`,
//! `kubectl scale --replicas=0`, `rm -rf`, `helm * prod-*`.
//!
//! A pattern is read like a command and compared with the command's normal form: the program
//! by its name, the words in order from the first (more may follow), the flags wherever and
//! however they are written. `*` stands for part of a word or one word, as the last word also
//! for none; `**` for any number of words. A pattern that begins with no program that is
//! known or listed matches under any program. In doubt it matches: a command held in vain
//! costs a vote, one let through may cost a cluster.

use super::command::{Command, base_name};
use super::{kind, parse, program, wrapper};

/// Words of a pattern that count; more is not what a person writes.
const MAX_PATTERN_WORDS: usize = 32;

/// A compiled pattern.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    /// As it was written.
    pub(crate) text: String,
    /// `None` matches any program.
    program: Option<String>,
    words: Vec<String>,
    flags: Vec<(String, Option<String>)>,
}

impl Pattern {
    /// Reads a pattern. `tools` are programs that are known by being listed.
    pub(crate) fn compile(text: &str, tools: &[String]) -> Self {
        let mut argv = split(text);
        let first = argv.first().map_or("", |p| base_name(p)).to_owned();
        let listed = tools.iter().any(|t| base_name(t) == first);
        let named = listed || first.contains('*') || program::find(&first).is_some();
        let program =
            (named || wrapper::is_wrapper(&first) || program::is_opaque(&first)).then_some(first);
        if program.is_none() {
            argv.insert(0, String::new());
        }
        let command = Command::read(&argv);
        let owned = |s: &str| s.to_owned();
        Self {
            text: text.to_owned(),
            program,
            words: command.words.iter().map(|w| owned(w.text)).take(MAX_PATTERN_WORDS).collect(),
            flags: command.flags.iter().map(|f| (owned(f.name), f.value.map(owned))).collect(),
        }
    }

    /// Whether it names more than flags.
    pub(crate) fn names_verb(&self) -> bool {
        !self.words.is_empty()
    }

    /// Whether some reading of `command` is what the pattern names.
    pub(crate) fn matches(&self, command: &Command<'_>) -> bool {
        self.program.as_deref().is_none_or(|p| glob(p, command.program))
            && self.matches_arguments(command)
    }

    /// The same, the program left aside.
    pub(crate) fn matches_arguments(&self, command: &Command<'_>) -> bool {
        (command.overlong || self.flags_match(command)) && self.words_match(command)
    }

    /// Whether `command` begins with the pattern's words and nothing else can be meant.
    pub(crate) fn certainly_matches(&self, command: &Command<'_>) -> bool {
        let words = self.words.iter().enumerate();
        words.clone().all(|(at, w)| command.certain_word(at) == Some(w.as_str()))
            && self.flags.iter().all(|(name, value)| {
                command.flags.iter().any(|f| {
                    f.certain
                        && f.name == name
                        && value.as_deref().is_none_or(|v| f.value == Some(v))
                })
            })
    }

    fn flags_match(&self, command: &Command<'_>) -> bool {
        let abbreviates = command.spec.is_none_or(|p| p.abbreviates);
        self.flags.iter().all(|(name, value)| {
            command.flags.iter().any(|flag| {
                let same =
                    flag.name == name || (abbreviates && flag.long && name.starts_with(flag.name));
                same && value
                    .as_deref()
                    .is_none_or(|v| flag.value.is_none_or(|given| value_matches(v, given)))
            })
        })
    }

    /// All ways at once: bit `i` of `reached` says that the first `i` words are found.
    fn words_match(&self, command: &Command<'_>) -> bool {
        let done = 1_u64 << self.words.len();
        let mut reached = self.close(1);
        for word in &command.words {
            if reached & done != 0 {
                return true;
            }
            let mut next = if word.certain { 0 } else { reached };
            for (at, wanted) in
                self.words.iter().enumerate().filter(|(at, _)| reached & (1 << at) != 0)
            {
                let is_kind = at == 1 && kind::has_kinds(command.program);
                if wanted == "**" || (is_kind && next_kind_may_follow(word.text)) {
                    next |= 1 << at;
                }
                if glob(wanted, word.text) || (is_kind && kind::names(word.text, wanted)) {
                    next |= 1 << (at + 1);
                }
            }
            reached = self.close(next);
        }
        let unseen_kind = kind::has_kinds(command.program) && kind::unseen(command);
        reached & done != 0
            || (unseen_kind
                && reached & 0b10 != 0
                && self.words.len() == 2
                && !self.words[1].contains('-'))
    }

    /// Adds what `**`, and a last `*`, let through without a word.
    fn close(&self, mut reached: u64) -> u64 {
        for (at, wanted) in self.words.iter().enumerate() {
            let optional = wanted == "**" || (wanted == "*" && at + 1 == self.words.len());
            if optional && reached & (1 << at) != 0 {
                reached |= 1 << (at + 1);
            }
        }
        reached
    }
}

/// `pod/a ns/b`: kinds may stand in later words too.
fn next_kind_may_follow(word: &str) -> bool {
    word.contains('/')
}

/// A pattern is words, quoted or not; what is not even that is split at spaces.
fn split(text: &str) -> Vec<String> {
    let plain = |token| match token {
        parse::Token::Word { text, .. } => text,
        parse::Token::Operator(sign) => sign.to_owned(),
        parse::Token::HarmlessRedirect(sign) => sign.to_string(),
    };
    match parse::lex(text) {
        Ok(tokens) => tokens.into_iter().map(plain).collect(),
        Err(_) => text.split_whitespace().map(str::to_owned).collect(),
    }
}

/// A number in a pattern is met by everything that is not plainly another number: programs
/// read `00` and `0x0` as zero.
fn value_matches(wanted: &str, given: &str) -> bool {
    let plain = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if plain(wanted) {
        let other_number =
            plain(given) && (given == "0" || !given.starts_with('0')) && given != wanted;
        return !other_number;
    }
    glob(wanted, given)
}

/// Compares without regard to ASCII case; `*` stands for any text. Takes time
/// proportional to the product of both lengths at worst, and patterns are short.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    if !pattern.contains('*') {
        return pattern.eq_ignore_ascii_case(text);
    }
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p).is_some_and(|c| c.eq_ignore_ascii_case(&text[t])) {
            p += 1;
            t += 1;
        } else if let Some((at, from)) = star {
            star = Some((at, from + 1));
            p = at + 1;
            t = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}
