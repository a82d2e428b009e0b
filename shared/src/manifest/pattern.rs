//! Checks regular expressions without compiling them: compiling 50,000 takes 23 s
//! (design, field.md), reading them a thousandth of it.

use super::finding::At;
use super::read::{Scope, Text};

/// Reports what is wrong with `pattern`, and where in it.
pub(super) fn check(scope: &Scope<'_>, pattern: &Text) {
    if pattern.value.is_empty() {
        let help = "remove it, or write `.*`".to_owned();
        let says = ("an empty pattern matches everything".to_owned(), help);
        scope.warn_with("empty-pattern", pattern.at, says);
    }
    if pattern.value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b' ') {
        return;
    }
    let Err(error) = regex_syntax::parse(&pattern.value) else { return };
    let (what, span) = match &error {
        regex_syntax::Error::Parse(error) => (error.kind().to_string(), *error.span()),
        regex_syntax::Error::Translate(error) => (error.kind().to_string(), *error.span()),
        _ => (String::from("it cannot be read"), regex_syntax::ast::Span::splat(start())),
    };
    let position = span.start.column;
    let message = format!("this pattern does not compile: {what}, at its character {position}");
    let help = "escape what is meant as it stands with `\\`".to_owned();
    let length = span.end.column.saturating_sub(span.start.column).max(1);
    scope.error_with("bad-pattern", within(pattern, position, length), (message, help));
}

fn start() -> regex_syntax::ast::Position {
    regex_syntax::ast::Position::new(0, 1, 1)
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
