//! Patterns of flows: shared, compiled on first use, and only as many as fit.
//!
//! Compiling 50,000 regexes takes 23 s and a gigabyte (field.md, *Routing at scale*), so
//! loading a table only looks at them. A pattern that is a word, or words between bars,
//! never becomes a regex at all.

use std::collections::HashMap;
use std::sync::Arc;

use aof_shared::pattern::{self, Case, MAX_PATTERN_BYTES, PatternError};
use moka::sync::Cache;
use regex::Regex;

use crate::literal;

/// Compiled regexes kept, for all tenants together; at 20 to 60 KiB each about 128 MiB
/// at worst. The least used make room.
const MAX_COMPILED: u64 = 2_048;

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
    Regex { id: u64, required: Option<Box<[Box<str>]>>, compiled: Compiled },
    /// Matches nothing.
    Unusable(PatternError),
}

/// Regexes by pattern number; `None` is one that turned out too large.
type Compiled = Cache<u64, Option<Arc<Regex>>>;

impl Pattern {
    fn new(source: Arc<str>, case: Case, id: u64, compiled: &Compiled) -> Self {
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
                    Form::Regex { id, required, compiled: compiled.clone() }
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
            Form::Regex { id, compiled, .. } => compiled
                .get_with(*id, || pattern::compile(&self.source, self.case).ok().map(Arc::new))
                .is_some_and(|regex| regex.is_match(text)),
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
    next_id: u64,
    compiled: Compiled,
}

impl Patterns {
    pub(crate) fn new() -> Self {
        Self { known: HashMap::new(), next_id: 0, compiled: Cache::new(MAX_COMPILED) }
    }

    /// The pattern of `source`, the same one as before if it is known.
    pub(crate) fn get(&mut self, source: &str, case: Case) -> Arc<Pattern> {
        let key = (case, Arc::<str>::from(source));
        if let Some(pattern) = self.known.get(&key) {
            return pattern.clone();
        }
        self.next_id += 1;
        let pattern = Arc::new(Pattern::new(key.1.clone(), case, self.next_id, &self.compiled));
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
    fn one_text_is_one_pattern_until_nobody_holds_it() {
        let mut patterns = Patterns::new();
        let held = patterns.get("kubectl", Case::Ignored);
        assert!(Arc::ptr_eq(&held, &patterns.get("kubectl", Case::Ignored)));
        assert!(!Arc::ptr_eq(&held, &patterns.get("kubectl", Case::Exact)));
        patterns.sweep(1);
        assert_eq!(patterns.known.len(), 1);
    }
}
