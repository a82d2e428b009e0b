//! Text that must not be printed.

use std::fmt;
use std::sync::Arc;

/// A secret. `Debug` prints `***`; only [`Secret::expose`] gives it out.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps `text`.
    #[must_use]
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(Arc::from(text.as_ref()))
    }

    /// The text itself. Never log, journal or store what this returns.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Secret {
    /// The URL, or comma-separated URLs, with neither user, password nor query: what may be
    /// shown of where a server is.
    #[must_use]
    pub fn without_credentials(&self) -> String {
        let mut shown: Vec<String> = Vec::new();
        for url in self.urls() {
            let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
            // Passwords and queries may hold signs that should have been escaped. Where that
            // leaves two readings, nothing is shown.
            let host = |text: &'_ str| text.rsplit('@').next().unwrap_or_default().to_owned();
            let path = |text: &'_ str| text.split(['?', '#']).next().unwrap_or_default().to_owned();
            let (one, other) = (path(&host(rest)), host(&path(rest)));
            let place = if one == other { one } else { "…".to_owned() };
            shown.push(format!("{scheme}://{place}"));
        }
        shown.join(",")
    }

    /// The single URLs of a list. A comma ends one only where another scheme follows, since
    /// a password may hold commas.
    fn urls(&self) -> Vec<&str> {
        let text = self.expose();
        let follows = |at: usize| {
            let scheme = text[at + 1..].split_once("://").map(|(scheme, _)| scheme);
            scheme.is_some_and(|s| !s.is_empty() && s.bytes().all(|b| b.is_ascii_lowercase()))
        };
        let ends = text.match_indices(',').map(|(at, _)| at).filter(|at| follows(*at));
        let mut urls = Vec::new();
        let mut from = 0;
        for end in ends {
            urls.push(&text[from..end]);
            from = end + 1;
        }
        urls.push(&text[from..]);
        urls
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_url_holds_no_credentials() {
        for (url, shown) in [
            ("nats://h:4222", "nats://h:4222"),
            ("nats://token@h:4222", "nats://h:4222"),
            ("nats://u:p@a:1,nats://u:p@b:2", "nats://a:1,nats://b:2"),
            ("nats://u:p,q@a:1", "nats://a:1"),
            ("postgres://u:p@ss/w@h/db?password=x", "postgres://h/db"),
            ("postgres://u@h/db?password=x@y", "postgres://…"),
            ("redis://:p#1@h:6379/0", "redis://…"),
            ("plain", "://plain"),
        ] {
            assert_eq!(Secret::new(url).without_credentials(), shown, "{url}");
        }
    }
}
