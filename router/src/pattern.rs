//! Patterns of flows: shared, compiled on first use, and only as many as fit.
//!
//! Compiling 50,000 regexes takes 23 s and a gigabyte (field.md, *Routing at scale*), so
//! loading a table only looks at them. A pattern that is a word, or words between bars,
//! never becomes a regex at all.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aof_shared::pattern::{self, Case, MAX_PATTERN_BYTES, PatternError};
use arc_swap::ArcSwapOption;
use regex::Regex;

use crate::literal;

/// Compiled regexes kept, for all tenants together; at 20 to 60 KiB each about 128 MiB
/// at worst. The least used make room.
const MAX_COMPILED: usize = 2_048;

/// Characters that make a pattern more than words between bars.
const META: [char; 13] = ['\\', '.', '+', '*', '?', '(', ')', '[', ']', '{', '}', '^', '$'];

/// A pattern of a flow or agent.
#[derive(Debug)]
pub struct Pattern {
    source: Arc<str>,
    case: Case,
    form: Form,
}

#[derive(Debug)]
enum Form {
    /// Matches where one of these occurs.
    Words(Box<[Box<str>]>),
    /// Verified by a regex, and only if one of `required` occurs when that is known.
    Regex { required: Option<Box<[Box<str>]>>, slot: Arc<Slot>, compiled: Compiled },
    /// Matches nothing.
    Unusable(PatternError),
}

/// Where a pattern keeps its regex while there is room.
#[derive(Debug, Default)]
struct Slot {
    /// Inside, `None` is one that turned out too large.
    regex: ArcSwapOption<Option<Regex>>,
    used: AtomicBool,
}

/// The slots that are filled, the oldest first.
#[derive(Debug, Clone, Default)]
struct Compiled(Arc<Mutex<VecDeque<Arc<Slot>>>>);

impl Compiled {
    /// Fills `slot`, and empties the oldest that was not used since it was last looked at.
    fn fill(&self, slot: &Arc<Slot>, regex: Arc<Option<Regex>>) {
        slot.regex.store(Some(regex));
        let mut filled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        filled.push_back(slot.clone());
        while filled.len() > MAX_COMPILED
            && let Some(oldest) = filled.pop_front()
        {
            if oldest.used.swap(false, Ordering::Relaxed) {
                filled.push_back(oldest);
            } else {
                oldest.regex.store(None);
            }
        }
    }
}

impl Pattern {
    fn new(source: Arc<str>, case: Case, compiled: &Compiled) -> Self {
        let form = if source.len() > MAX_PATTERN_BYTES {
            Form::Unusable(PatternError::TooLong { bytes: source.len() })
        } else if let Some(words) = words(&source, case) {
            Form::Words(words)
        } else {
            let mut parser = regex_syntax::ParserBuilder::new();
            match parser.case_insensitive(case == Case::Ignored).build().parse(&source) {
                Ok(hir) => {
                    let required = literal::required(&hir);
                    let required = required.map(|list| list.into_iter().map(Into::into).collect());
                    Form::Regex { required, slot: Arc::default(), compiled: compiled.clone() }
                }
                Err(error) => Form::Unusable(PatternError::Syntax(error.to_string())),
            }
        };
        Self { source, case, form }
    }

    /// As it was written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// True when it matches somewhere in `text`. Linear in `text`.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match &self.form {
            Form::Words(words) if self.case == Case::Exact => {
                words.iter().any(|word| text.contains(&**word))
            }
            Form::Words(words) => words.iter().any(|word| contains_ignoring_case(text, word)),
            Form::Regex { slot, compiled, .. } => {
                slot.used.store(true, Ordering::Relaxed);
                if let Some(regex) = &*slot.regex.load() {
                    return regex.as_ref().as_ref().is_some_and(|r| r.is_match(text));
                }
                let regex = Arc::new(pattern::compile(&self.source, self.case).ok());
                compiled.fill(slot, regex.clone());
                regex.as_ref().as_ref().is_some_and(|r| r.is_match(text))
            }
            Form::Unusable(_) => false,
        }
    }

    /// Why it can never match, if so.
    #[must_use]
    pub fn defect(&self) -> Option<PatternError> {
        match &self.form {
            Form::Words(_) => None,
            Form::Regex { .. } => pattern::compile(&self.source, self.case).err(),
            Form::Unusable(error) => Some(error.clone()),
        }
    }

    /// Texts of which one occurs, ASCII case aside, wherever the pattern matches; `None`
    /// when it must be verified against every text.
    pub(crate) fn required(&self) -> Option<&[Box<str>]> {
        match &self.form {
            Form::Words(words) => Some(words),
            Form::Regex { required, .. } => required.as_deref(),
            Form::Unusable(_) => Some(&[]),
        }
    }
}

/// The words, when the pattern is nothing but words between bars.
fn words(source: &str, case: Case) -> Option<Box<[Box<str>]>> {
    let plain = !source.contains(META) && (case == Case::Exact || source.is_ascii());
    let words: Box<[Box<str>]> = source.split('|').map(Box::from).collect();
    (plain && words.iter().all(|word| !word.is_empty())).then_some(words)
}

fn contains_ignoring_case(text: &str, word: &str) -> bool {
    text.as_bytes().windows(word.len()).any(|window| window.eq_ignore_ascii_case(word.as_bytes()))
}

/// Hands out patterns, one for each distinct text.
#[derive(Debug, Clone)]
pub(crate) struct Patterns {
    known: HashMap<(Case, Arc<str>), Arc<Pattern>>,
    compiled: Compiled,
}

impl Patterns {
    pub(crate) fn new() -> Self {
        Self { known: HashMap::new(), compiled: Compiled::default() }
    }

    /// The pattern of `source`, the same one as before if it is known.
    pub(crate) fn get(&mut self, source: &str, case: Case) -> Arc<Pattern> {
        let key = (case, Arc::<str>::from(source));
        if let Some(pattern) = self.known.get(&key) {
            return pattern.clone();
        }
        let pattern = Arc::new(Pattern::new(key.1.clone(), case, &self.compiled));
        self.known.insert(key, pattern.clone());
        pattern
    }

    /// Forgets patterns that no flow holds. `lists` is how many lists like this one hold
    /// each: with a clone that is still about, two.
    pub(crate) fn sweep(&mut self, lists: usize) {
        self.known.retain(|_, pattern| Arc::strong_count(pattern) > lists);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, case: Case, text: &str, expected: bool) {
        let pattern = Patterns::new().get(source, case);
        assert_eq!(pattern.matches(text), expected, "{source:?} on {text:?}");
        if let Some(regex) = pattern::compile(source, case).ok().filter(|_| source.is_ascii()) {
            assert_eq!(regex.is_match(text), expected, "the regex {source:?} on {text:?}");
        }
        let lower = text.to_ascii_lowercase();
        let possible = pattern.required().is_none_or(|list| {
            list.iter().any(|literal| lower.contains(&literal.to_ascii_lowercase()))
        });
        assert!(possible || !expected, "the prefilter of {source:?} loses {text:?}");
    }

    #[test]
    fn words_and_regexes_match_alike() {
        check("CRITICAL|HIGH|URGENT", Case::Exact, "this is URGENT", true);
        check("CRITICAL|HIGH|URGENT", Case::Exact, "highlights, critically", false);
        check("^(incident|outage|alert|page)", Case::Exact, "outage in prod", true);
        check("^(incident|outage|alert|page)", Case::Exact, "an outage in prod", false);
        check("pod", Case::Ignored, "restart the PODS", true);
        check("k8s", Case::Ignored, "K8S is down", true);
        check("kubectl", Case::Ignored, "kubect", false);
        check(r"deploy\s+prod", Case::Ignored, "Deploy  PROD", true);
        check("a||b", Case::Exact, "zzz", true);
        check("", Case::Exact, "zzz", true);
        check("größe", Case::Exact, "die größe", true);
    }

    #[test]
    fn unusable_patterns_match_nothing_and_say_why() {
        for source in ["(", r"(\w{50}){50}", &"x".repeat(MAX_PATTERN_BYTES + 1)] {
            let pattern = Patterns::new().get(source, Case::Exact);
            assert!(!pattern.matches("xxxxxxxxxxxx"));
            assert!(pattern.defect().is_some());
        }
    }

    #[test]
    fn no_more_regexes_are_kept_than_fit_and_all_go_on_matching() {
        let mut patterns = Patterns::new();
        let all: Vec<_> = (0..MAX_COMPILED + 10)
            .map(|n| (patterns.get(&format!("^x{n}$"), Case::Exact), format!("x{n}")))
            .collect();
        for _ in 0..2 {
            assert!(all.iter().all(|(pattern, text)| pattern.matches(text)));
        }
        let filled = patterns.compiled.0.lock().expect("no test panicked").len();
        assert_eq!(filled, MAX_COMPILED);
    }

    #[test]
    fn one_text_is_one_pattern_until_nobody_holds_it() {
        let mut patterns = Patterns::new();
        let held = patterns.get("kubectl", Case::Ignored);
        assert!(Arc::ptr_eq(&held, &patterns.get("kubectl", Case::Ignored)));
        assert!(!Arc::ptr_eq(&held, &patterns.get("kubectl", Case::Exact)));
        patterns.sweep(1);
        assert_eq!(patterns.known.len(), 1);
    }
}
