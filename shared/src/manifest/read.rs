//! Reads the fields of a mapping. Asking for a field is what makes its key known, so
//! whatever nobody asked for is an unknown key, and none is ever ignored in silence.

use std::borrow::Cow;
use std::cell::RefCell;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use super::env::{self, Env};
use super::finding::{At, Finding, Severity};
use super::suggest::nearest;
use super::yaml::{Key, Node, Value};

/// What reading one file needs and collects.
pub(super) struct Scope<'a> {
    pub(super) env: &'a Env,
    pub(super) file: &'a Arc<Path>,
    pub(super) findings: RefCell<Vec<Finding>>,
}

/// A text with its variables expanded.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub(super) value: String,
    /// As written, when variables took part: then `value` must not be shown.
    pub(super) written: Option<Box<str>>,
    pub(super) at: At,
}

impl Text {
    /// What may be shown of it.
    pub(super) fn shown(&self) -> &str {
        self.written.as_deref().unwrap_or(&self.value)
    }
}

impl<'a> Scope<'a> {
    pub(super) fn new(env: &'a Env, file: &'a Arc<Path>) -> Self {
        Self { env, file, findings: RefCell::default() }
    }

    pub(super) fn error(&self, code: &'static str, at: At, message: impl Into<String>) {
        self.push(Finding::new(Severity::Error, code, self.file, at, message));
    }

    pub(super) fn error_with(&self, code: &'static str, at: At, says: (String, String)) {
        self.push(Finding::new(Severity::Error, code, self.file, at, says.0).help(says.1));
    }

    pub(super) fn warn_with(&self, code: &'static str, at: At, says: (String, String)) {
        self.push(Finding::new(Severity::Warning, code, self.file, at, says.0).help(says.1));
    }

    pub(super) fn push(&self, finding: Finding) {
        self.findings.borrow_mut().push(finding);
    }

    /// The scalar in `node`, expanded; a finding and `None` when it is none.
    pub(super) fn text(&self, node: &Node<'_>, what: &str) -> Option<Text> {
        let Value::Scalar { text, .. } = &node.value else {
            self.error("wrong-type", node.at, format!("`{what}` must be one value"));
            return None;
        };
        let expanded = env::expand(Cow::Borrowed(text), self.env);
        for name in &expanded.unset {
            let help = format!("set {name}, or give a default: ${{{name}:-…}}");
            self.error_with(
                "unset-variable",
                node.at,
                (format!("variable `{name}` is not set"), help),
            );
        }
        let written = expanded.from_variable.then(|| Box::from(text.as_ref()));
        let usable = expanded.unset.is_empty();
        usable.then(|| Text { value: expanded.text.into_owned(), written, at: node.at })
    }

    /// Every scalar of a list; a single scalar counts as a list of one.
    pub(super) fn texts(&self, node: &Node<'_>, what: &str) -> Vec<Text> {
        match &node.value {
            Value::List(items) => items.iter().filter_map(|item| self.text(item, what)).collect(),
            Value::Scalar { .. } => self.text(node, what).into_iter().collect(),
            Value::Map(_) => {
                self.error("wrong-type", node.at, format!("`{what}` must be a list"));
                Vec::new()
            }
        }
    }

    /// `node` as JSON, its strings expanded.
    pub(super) fn json(&self, node: &Node<'_>, what: &str) -> serde_json::Value {
        match &node.value {
            Value::Scalar { plain, .. } if *plain && node.is_null() => serde_json::Value::Null,
            Value::Scalar { plain, .. } => match self.text(node, what) {
                Some(text) if *plain => plain_json(text.value),
                Some(text) => serde_json::Value::String(text.value),
                None => serde_json::Value::Null,
            },
            Value::List(items) => items.iter().map(|item| self.json(item, what)).collect(),
            Value::Map(entries) => entries
                .iter()
                .map(|(key, value)| (key.text.to_string(), self.json(value, what)))
                .collect(),
        }
    }
}

/// What a scalar without quotes means.
fn plain_json(text: String) -> serde_json::Value {
    match text.as_str() {
        "true" | "True" => true.into(),
        "false" | "False" => false.into(),
        _ => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(number), _) => number.into(),
            (_, Ok(number)) if number.is_finite() => number.into(),
            _ => text.into(),
        },
    }
}

/// The fields of one mapping.
pub(super) struct Fields<'s, 'n> {
    pub(super) scope: &'s Scope<'s>,
    /// Where it sits, for people: `spec.trigger.config`.
    pub(super) path: &'static str,
    pub(super) at: At,
    entries: &'n [(Key<'n>, Node<'n>)],
    seen: Vec<bool>,
    asked: Vec<&'static str>,
}

impl<'s, 'n> Fields<'s, 'n> {
    /// The fields of `node`; a finding and `None` when it is no mapping.
    pub(super) fn of(scope: &'s Scope<'s>, node: &'n Node<'n>, path: &'static str) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            scope.error("wrong-type", node.at, format!("`{path}` must hold fields (`key: value`)"));
            return None;
        };
        let seen = vec![false; entries.len()];
        Some(Self { scope, path, at: node.at, entries, seen, asked: Vec::new() })
    }

    /// The key and value of `name`, unless absent or null.
    pub(super) fn entry(&mut self, name: &'static str) -> Option<&'n (Key<'n>, Node<'n>)> {
        self.asked.push(name);
        let mut found: Option<&'n (Key<'n>, Node<'n>)> = None;
        for (n, entry) in self.entries.iter().enumerate() {
            if !is_key(&entry.0.text, name) {
                continue;
            }
            self.seen[n] = true;
            if let Some(first) = found {
                self.twice(first, entry);
            } else {
                found = Some(entry);
            }
        }
        found.filter(|(_, node)| !node.is_null())
    }

    /// The value of `name`, unless absent or null.
    pub(super) fn take(&mut self, name: &'static str) -> Option<&'n Node<'n>> {
        self.entry(name).map(|(_, node)| node)
    }

    /// The value under any of `names`, all of which mean the same.
    pub(super) fn any(&mut self, names: &[&'static str]) -> Option<&'n (Key<'n>, Node<'n>)> {
        let mut found: Option<&'n (Key<'n>, Node<'n>)> = None;
        for name in names {
            if let Some(entry) = self.entry(name) {
                if let Some(first) = found {
                    self.twice(first, entry);
                } else {
                    found = Some(entry);
                }
            }
        }
        found
    }

    fn twice(&self, first: &(Key<'_>, Node<'_>), again: &(Key<'_>, Node<'_>)) {
        let message = format!(
            "`{}` says again what `{}` said on line {}",
            again.0.text, first.0.text, first.0.at.line
        );
        self.scope.error_with("duplicate-key", again.0.at, (message, "keep one".to_owned()));
    }

    /// The text of `name`.
    pub(super) fn text(&mut self, name: &'static str) -> Option<Text> {
        let node = self.take(name)?;
        self.scope.text(node, name)
    }

    /// The texts of the list `name`.
    pub(super) fn texts(&mut self, name: &'static str) -> Vec<Text> {
        self.take(name).map(|node| self.scope.texts(node, name)).unwrap_or_default()
    }

    /// The fields below `name`.
    pub(super) fn fields(&mut self, name: &'static str, path: &'static str) -> Option<Self> {
        let node = self.take(name)?;
        Fields::of(self.scope, node, path)
    }

    /// `true` or `false`.
    pub(super) fn bool(&mut self, name: &'static str) -> Option<bool> {
        let text = self.text(name)?;
        match text.value.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => {
                let message = format!("`{name}` must be `true` or `false`");
                self.scope.error("wrong-type", text.at, message);
                None
            }
        }
    }

    /// A whole number of at least 1.
    pub(super) fn positive<N: FromStr + PartialEq + Default>(
        &mut self,
        name: &'static str,
    ) -> Option<N> {
        let text = self.text(name)?;
        if let Some(number) = text.value.parse::<N>().ok().filter(|n| *n != N::default()) {
            return Some(number);
        }
        let message = format!("`{name}` must be a whole number of at least 1");
        let help = match text.value.parse::<f64>() {
            Ok(0.0) => "leave it out where nothing is to be limited",
            _ => "write digits only, without unit",
        };
        self.scope.error_with("wrong-number", text.at, (message, help.to_owned()));
        None
    }

    /// Knows `names` without needing what they say.
    pub(super) fn known(&mut self, names: &[&'static str]) {
        for name in names {
            self.entry(name);
        }
    }

    /// Every entry that nobody asked for so far; they count as asked for now.
    pub(super) fn rest(&mut self) -> impl Iterator<Item = &'n (Key<'n>, Node<'n>)> + use<'n> {
        let open: Vec<usize> = (0..self.seen.len()).filter(|n| !self.seen[*n]).collect();
        self.seen.fill(true);
        let entries = self.entries;
        open.into_iter().map(move |n| &entries[n])
    }

    /// Warns of an unknown key, with the nearest known one.
    pub(super) fn unknown(&self, key: &Key<'_>) {
        let message = format!("`{}` is not a key of `{}`", key.text, self.path);
        let help = match nearest(&key.text, self.asked.iter().copied()) {
            Some(known) => format!("did you mean `{known}`?"),
            None => "remove it: it has no effect".to_owned(),
        };
        self.scope.warn_with("unknown-key", key.at, (message, help));
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(mut self) {
        let rest: Vec<_> = self.rest().collect();
        rest.into_iter().for_each(|(key, _)| self.unknown(key));
    }
}

/// Whether `key` is `name`, in snake or camel case.
pub(super) fn is_key(key: &str, name: &str) -> bool {
    if key == name {
        return true;
    }
    if !key.bytes().any(|b| b.is_ascii_uppercase()) {
        return false;
    }
    let mut wanted = name.chars();
    for c in key.chars() {
        if c.is_ascii_uppercase() && wanted.next() != Some('_') {
            return false;
        }
        if wanted.next() != Some(c.to_ascii_lowercase()) {
            return false;
        }
    }
    wanted.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_match_in_snake_and_camel_case() {
        for (key, name, same) in [
            ("bot_token", "bot_token", true),
            ("botToken", "bot_token", true),
            ("bottoken", "bot_token", false),
            ("apiBaseUrl", "api_base_url", true),
            ("apiVersion", "api_version", true),
            ("Channels", "channels", false),
            ("botTokenX", "bot_token", false),
        ] {
            assert_eq!(is_key(key, name), same, "{key} {name}");
        }
    }

    #[test]
    fn plain_scalars_become_what_they_look_like() {
        for (text, json) in [("5", "5"), ("1.5", "1.5"), ("true", "true"), ("NaN", "\"NaN\"")] {
            assert_eq!(plain_json(text.to_owned()).to_string(), json);
        }
    }
}
