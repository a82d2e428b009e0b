//! Variables in manifests: `${VAR}` and `${VAR:-default}`, expanded after parsing.
//!
//! Because a value is put into a string that was parsed already, it can neither add YAML
//! nor move a position.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// Where variables come from. What it answers must not change while a loader lives.
#[derive(Clone)]
pub struct Env(Arc<Lookup>);

type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

impl Env {
    /// Asks `lookup`.
    #[must_use]
    pub fn new(lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(lookup))
    }

    /// The environment of this process.
    #[must_use]
    pub fn process() -> Self {
        Self::new(|name| std::env::var(name).ok())
    }

    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<String> {
        (self.0)(name)
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Env")
    }
}

/// What became of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expanded<'t> {
    pub(super) text: Cow<'t, str>,
    /// Whether a variable took part, so that `text` must never be shown.
    pub(super) from_variable: bool,
    /// Variables that are not set and have no default.
    pub(super) unset: Vec<String>,
}

/// Expands every reference in `text`. What is not exactly a reference stays as it is.
pub(super) fn expand<'t>(text: Cow<'t, str>, env: &Env) -> Expanded<'t> {
    if !text.contains("${") {
        return Expanded { text, from_variable: false, unset: Vec::new() };
    }
    let mut out = String::with_capacity(text.len());
    let (mut from_variable, mut unset) = (false, Vec::new());
    let mut rest: &str = &text;
    while let Some(start) = rest.find("${") {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let Some((name, default, length)) = reference(rest) else {
            out.push_str("${");
            rest = &rest[2..];
            continue;
        };
        from_variable = true;
        match (env.get(name), default) {
            (Some(value), None) => out.push_str(&value),
            (Some(value), Some(_)) if !value.is_empty() => out.push_str(&value),
            (_, Some(default)) => out.push_str(default),
            (None, None) => unset.push(name.to_owned()),
        }
        rest = &rest[length..];
    }
    out.push_str(rest);
    Expanded { text: Cow::Owned(out), from_variable, unset }
}

/// Name, default and length of the reference that `text` starts with.
fn reference(text: &str) -> Option<(&str, Option<&str>, usize)> {
    let body = text.strip_prefix("${")?;
    let end = body.find('}')?;
    let (name, default) = match body[..end].split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (&body[..end], None),
    };
    is_variable_name(name).then_some((name, default, end + 3))
}

/// Letters, digits and `_`, not starting with a digit.
pub(super) fn is_variable_name(name: &str) -> bool {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    plain && name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str, unset: &[&str]) {
        let env = Env::new(|name| match name {
            "A" => Some("alpha".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some("x: y\n${A}".to_owned()),
            _ => None,
        });
        let expanded = expand(Cow::Borrowed(text), &env);
        assert_eq!(expanded.text, expected, "{text}");
        assert_eq!(expanded.unset, unset, "{text}");
    }

    #[test]
    fn references_expand_once_and_everything_else_stays() {
        check("plain $A $(A)", "plain $A $(A)", &[]);
        check("<${A}>", "<alpha>", &[]);
        check("${A}${A}", "alphaalpha", &[]);
        check("${NO:-b c}", "b c", &[]);
        check("${EMPTY:-b}", "b", &[]);
        check("${EMPTY}", "", &[]);
        check("${NO}/${A}/${NO2}", "/alpha/", &["NO", "NO2"]);
        check("${event.text} ${", "${event.text} ${", &[]);
        check("${TRICK}", "x: y\n${A}", &[]);
    }
}
