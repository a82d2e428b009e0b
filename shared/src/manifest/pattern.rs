//! Checks regular expressions, mostly without compiling them: compiling 50,000 takes
//! 23 s (design, field.md), reading them a hundredth of it.

use regex_syntax::hir::{Hir, HirKind};

use crate::pattern::{Case, MAX_PATTERN_BYTES, PatternError, compile};

use super::finding::At;
use super::read::{Scope, Text};

/// Patterns estimated to need more than this many instructions are compiled to be sure.
/// An instruction takes up to 24 bytes, so 1,024 are far below the cap of 128 KiB.
const SURELY_SMALL: usize = 1_024;

/// Reports what is wrong with `pattern`, and where in it.
pub(super) fn check(scope: &Scope<'_>, pattern: &Text, case: Case) {
    let text = pattern.value.as_str();
    if text.is_empty() {
        let help = "remove it, or write `.*`".to_owned();
        let says = ("an empty pattern matches everything".to_owned(), help);
        scope.warn_with("empty-pattern", pattern.at, says);
    }
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b" -_".contains(&b));
    if plain && text.len() <= MAX_PATTERN_BYTES {
        return;
    }
    let small = match regex_syntax::parse(text) {
        Ok(hir) => text.len() <= MAX_PATTERN_BYTES && size(&hir) <= SURELY_SMALL,
        Err(error) => return report(scope, pattern, &error),
    };
    if small {
        return;
    }
    match compile(text, case) {
        Ok(_) => {}
        Err(PatternError::Syntax(_)) => {
            scope.error("bad-pattern", pattern.at, "this pattern does not compile");
        }
        Err(error) => scope.error("bad-pattern", pattern.at, format!("this {error}")),
    }
}

/// About how many instructions `hir` compiles to.
fn size(hir: &Hir) -> usize {
    let sum = |parts: &[Hir]| parts.iter().map(size).fold(1, usize::saturating_add);
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(literal) => literal.0.len().saturating_mul(2),
        HirKind::Class(class) => match class {
            regex_syntax::hir::Class::Unicode(class) => class.ranges().len().saturating_mul(4),
            regex_syntax::hir::Class::Bytes(class) => class.ranges().len(),
        },
        HirKind::Repetition(repeat) => {
            let times = repeat.max.unwrap_or(repeat.min.saturating_add(1)).max(1);
            size(&repeat.sub).saturating_add(1).saturating_mul(times as usize)
        }
        HirKind::Capture(capture) => size(&capture.sub).saturating_add(2),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => sum(parts),
    }
}

fn report(scope: &Scope<'_>, pattern: &Text, error: &regex_syntax::Error) {
    let (what, start, end) = match error {
        regex_syntax::Error::Parse(e) => (e.kind().to_string(), e.span().start, e.span().end),
        regex_syntax::Error::Translate(e) => (e.kind().to_string(), e.span().start, e.span().end),
        _ => return scope.error("bad-pattern", pattern.at, "this pattern does not compile"),
    };
    let message =
        format!("this pattern does not compile: {what}, at its character {}", start.column);
    let help = "put `\\` before a character that is meant as it stands".to_owned();
    let length = end.column.saturating_sub(start.column).max(1);
    scope.error_with("bad-pattern", within(pattern, start.column, length), (message, help));
}

/// The place of character `position` (from 1) of a text, when the file shows it as it is.
fn within(text: &Text, position: usize, length: usize) -> At {
    let written = text.at.width as usize;
    let quotes = match written.checked_sub(text.value.chars().count()) {
        Some(0) => 0,
        Some(2) => 1,
        _ => return text.at,
    };
    if text.written.is_some() {
        return text.at;
    }
    At::new(text.at.line as usize, text.at.column as usize + quotes + position - 1, length)
}
