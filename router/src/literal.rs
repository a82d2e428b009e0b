//! Finds text that must occur wherever a pattern matches. Pure.
//!
//! Compiling and running a regex for each of a tenant's flows is what makes routing
//! slow. Nearly every pattern that people write contains a word, and one automaton
//! finds all those words in one pass; only the flows whose words occur are verified.

use regex_syntax::hir::{Class, Hir, HirKind};

/// Shorter texts occur everywhere and would filter nothing, in bytes.
const MIN_LITERAL_BYTES: usize = 2;

/// More alternatives than this are not worth their place in the automaton.
const MAX_ALTERNATIVES: usize = 64;

/// What is known of one part of a pattern.
struct Part {
    /// The part matches this text and no other, ASCII case aside.
    exact: Option<String>,
    /// One of these occurs wherever the part matches, ASCII case aside.
    required: Option<Vec<String>>,
}

impl Part {
    const UNKNOWN: Self = Self { exact: None, required: None };

    fn exact(text: String) -> Self {
        Self { exact: Some(text), required: None }
    }

    fn into_required(self) -> Option<Vec<String>> {
        match self.exact {
            Some(text) if text.len() >= MIN_LITERAL_BYTES => Some(vec![text]),
            _ => self.required,
        }
    }
}

/// Lower-case texts of which at least one occurs, ASCII case aside, in every text that
/// `hir` matches. `None` when there is no such list, as for `.*` or `\d+`.
pub(crate) fn required(hir: &Hir) -> Option<Vec<String>> {
    examine(hir).into_required()
}

fn examine(hir: &Hir) -> Part {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Part::exact(String::new()),
        HirKind::Literal(literal) => std::str::from_utf8(&literal.0)
            .map_or(Part::UNKNOWN, |text| Part::exact(text.to_ascii_lowercase())),
        HirKind::Class(class) => one_letter(class).map_or(Part::UNKNOWN, |c| Part::exact(c.into())),
        HirKind::Capture(capture) => examine(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => {
            Part { exact: None, required: required(&repetition.sub) }
        }
        HirKind::Repetition(_) => Part::UNKNOWN,
        HirKind::Concat(parts) => concatenation(parts),
        HirKind::Alternation(parts) => alternation(parts),
    }
}

/// The letter, in lower case, when the class is `[Xx]` or `[x]`.
fn one_letter(class: &Class) -> Option<char> {
    let Class::Unicode(class) = class else { return None };
    let mut letter = None;
    for range in class.ranges() {
        let c = range.start().to_ascii_lowercase();
        let single = range.start() == range.end() && c.is_ascii();
        if !single || letter.is_some_and(|l| l != c) {
            return None;
        }
        letter = Some(c);
    }
    letter
}

fn concatenation(parts: &[Hir]) -> Part {
    let mut run = String::new();
    let mut whole = true;
    let mut best = None;
    for part in parts {
        let part = examine(part);
        if let Some(text) = part.exact {
            run.push_str(&text);
            continue;
        }
        whole = false;
        best = better(best, Part::exact(std::mem::take(&mut run)).into_required());
        best = better(best, part.required);
    }
    if whole {
        return Part::exact(run);
    }
    Part { exact: None, required: better(best, Part::exact(run).into_required()) }
}

fn alternation(parts: &[Hir]) -> Part {
    let mut all = Vec::new();
    for part in parts {
        match required(part) {
            Some(list) => all.extend(list),
            None => return Part::UNKNOWN,
        }
    }
    all.sort();
    all.dedup();
    let fits = all.len() <= MAX_ALTERNATIVES;
    Part { exact: None, required: fits.then_some(all) }
}

/// The list whose shortest text is longer: it occurs more rarely.
fn better(a: Option<Vec<String>>, b: Option<Vec<String>>) -> Option<Vec<String>> {
    let shortest = |list: &Vec<String>| list.iter().map(String::len).min().unwrap_or(0);
    match (a, b) {
        (Some(a), Some(b)) => Some(if shortest(&b) > shortest(&a) { b } else { a }),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, expected: Option<&[&str]>) {
        let hir = regex_syntax::Parser::new().parse(pattern).expect("a valid pattern");
        let found = required(&hir);
        let found: Option<Vec<&str>> =
            found.as_ref().map(|list| list.iter().map(String::as_str).collect());
        assert_eq!(found.as_deref(), expected, "{pattern}");
    }

    #[test]
    fn names_a_text_that_every_match_contains() {
        check("^(incident|outage|alert|page)", Some(&["alert", "incident", "outage", "page"]));
        check("CRITICAL|HIGH", Some(&["critical", "high"]));
        check(r"\bdeploy\s+\w+", Some(&["deploy"]));
        check(r"\d+ pods? in .*namespace", Some(&["namespace"]));
        check("(?i)prod", Some(&["prod"]));
        check("incid[a-f]nt", Some(&["incid"]));
        check("(ab)+", Some(&["ab"]));
        check("x{2,3}", None);
    }

    #[test]
    fn names_nothing_where_nothing_is_certain() {
        for pattern in [".*", r"\d+", "(error)?", "error|.", "a", "(?i)k", ""] {
            check(pattern, None);
        }
    }
}
