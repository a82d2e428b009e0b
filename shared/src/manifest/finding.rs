//! What is wrong with a manifest, said the way a good compiler says it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

/// Most findings that one load reports; the rest are counted.
pub(super) const MAX_FINDINGS: usize = 1_000;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It loads, but surely not as its author means it.
    Warning,
    /// Nothing of it loads.
    Error,
}

impl Severity {
    /// As people read it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// A place in a file; all three count from 1, in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct At {
    pub(super) line: u32,
    pub(super) column: u32,
    /// How many characters of the line are meant.
    pub(super) width: u32,
}

impl At {
    pub(super) fn new(line: usize, column: usize, width: usize) -> Self {
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { line: narrow(line), column: narrow(column), width: narrow(width.max(1)) }
    }
}

/// One thing that is wrong. No part of it ever holds what a variable expanded to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What kind it is, stable for scripts: `unknown-key`, `missing-agent`, ….
    pub code: &'static str,
    /// Where.
    pub file: PathBuf,
    /// Line, from 1; 0 when the file as a whole is meant.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The text meant, as it is written in the file.
    pub text: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The whole line, with secrets masked.
    #[serde(skip)]
    pub source: Option<String>,
    /// Where the caret stands in `source`, which masking may have moved, and how wide.
    #[serde(skip)]
    caret: (usize, usize),
}

/// Whether rendered findings carry terminal colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// Text alone.
    Plain,
    /// With ANSI colours.
    Colour,
}

impl Finding {
    pub(super) fn new(
        severity: Severity,
        code: &'static str,
        file: &Path,
        at: At,
        message: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            code,
            file: file.to_owned(),
            line: at.line as usize,
            column: at.column as usize,
            text: String::new(),
            message: message.into(),
            help: None,
            source: None,
            caret: (at.column as usize, at.width as usize),
        }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// `file:line:column`, as editors and terminals follow it.
    #[must_use]
    pub fn place(&self) -> String {
        match self.line {
            0 => self.file.display().to_string(),
            line => format!("{}:{line}:{}", self.file.display(), self.column),
        }
    }

    /// The finding in one line, for logs.
    #[must_use]
    pub fn line(&self) -> String {
        let message = visible(&self.message);
        format!("{}: {}: {message}", self.place(), self.severity.as_str())
    }

    /// The finding with its line, a caret and what to do.
    #[must_use]
    pub fn render(&self, paint: Paint) -> String {
        let pen = Pen::new(paint, self.severity);
        let mut out = String::new();
        let head = format!("{}[{}]", self.severity.as_str(), self.code);
        let _ = writeln!(
            out,
            "{}{head}{}{}: {}{}",
            pen.tone,
            pen.off,
            pen.bold,
            visible(&self.message),
            pen.off
        );
        let number = self.line.to_string();
        let gap = " ".repeat(number.len());
        let _ = writeln!(out, "{gap}{}-->{} {}", pen.dim, pen.off, self.place());
        if let Some(source) = &self.source {
            let (column, width) = self.caret;
            let before: String = source.chars().take(column.saturating_sub(1)).map(blank).collect();
            let rest = source.chars().count().saturating_sub(before.chars().count()).max(1);
            let carets = "^".repeat(width.clamp(1, rest));
            let bar = format!("{}|{}", pen.dim, pen.off);
            let _ = writeln!(out, "{gap} {bar}");
            let _ = writeln!(out, "{}{number}{} {bar} {}", pen.dim, pen.off, visible(source));
            let _ = writeln!(out, "{gap} {bar} {before}{}{carets}{}", pen.tone, pen.off);
        }
        if let Some(help) = &self.help {
            let _ = writeln!(out, "{gap} {}={} help: {}", pen.dim, pen.off, visible(help));
        }
        out
    }
}

/// `text` without anything that a terminal would obey.
fn visible(text: &str) -> Cow<'_, str> {
    let hidden = |c: char| c.is_control() && c != '\t';
    if !text.contains(hidden) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if hidden(c) { '\u{fffd}' } else { c }).collect())
}

/// Keeps tabs, so that the caret stands below what it means.
fn blank(c: char) -> char {
    if c == '\t' { c } else { ' ' }
}

/// The escape sequences of one rendering; all empty when plain.
struct Pen {
    tone: &'static str,
    bold: &'static str,
    dim: &'static str,
    off: &'static str,
}

impl Pen {
    fn new(paint: Paint, severity: Severity) -> Self {
        let tone = match severity {
            Severity::Error => "\u{1b}[1;31m",
            Severity::Warning => "\u{1b}[1;33m",
        };
        match paint {
            Paint::Plain => Self { tone: "", bold: "", dim: "", off: "" },
            Paint::Colour => {
                Self { tone, bold: "\u{1b}[1m", dim: "\u{1b}[1;34m", off: "\u{1b}[0m" }
            }
        }
    }
}

/// Sorts by place, cuts at [`MAX_FINDINGS`] (errors stay first), and adds the source lines.
pub(super) fn finish(mut findings: Vec<Finding>, order: &[Arc<Path>]) -> Vec<Finding> {
    let rank: HashMap<&Path, usize> = order.iter().enumerate().map(|(n, p)| (&**p, n)).collect();
    if findings.len() > MAX_FINDINGS {
        findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
        let left_out = findings.len() - MAX_FINDINGS;
        findings.truncate(MAX_FINDINGS);
        let message = format!("{left_out} more findings are not shown");
        let file = order.last().map_or(Path::new(""), |p| &**p);
        findings.push(Finding::new(Severity::Warning, "too-many", file, At::default(), message));
    }
    findings.sort_by_key(|f| (rank.get(&*f.file).copied().unwrap_or(usize::MAX), f.line, f.column));
    findings.dedup();
    let mut shown: Option<(PathBuf, Vec<String>)> = None;
    for finding in findings.iter_mut().filter(|f| f.line > 0) {
        if shown.as_ref().is_none_or(|(path, _)| path != &finding.file) {
            let text = std::fs::read_to_string(&finding.file).unwrap_or_default();
            shown = Some((finding.file.clone(), text.lines().map(str::to_owned).collect()));
        }
        if let Some((_, lines)) = &shown {
            attach(finding, lines);
        }
    }
    findings
}

fn attach(finding: &mut Finding, lines: &[String]) {
    let Some(line) = lines.get(finding.line - 1) else { return };
    let (column, width) = finding.caret;
    let (line, column) = mask(line, column);
    let meant = line.chars().skip(column.saturating_sub(1)).take(width);
    finding.text = meant.collect::<String>().trim().to_owned();
    finding.caret = (column, width);
    finding.source = Some(line);
}

/// Words in a key that make its value a secret.
const SECRET_WORDS: [&str; 7] =
    ["token", "secret", "password", "api_key", "apikey", "private_key", "public_key"];
/// Keys of servers' URLs, which may hold a password; without `_`.
const SERVER_KEYS: [&str; 4] = ["natsurl", "natsmonitorurl", "redisurl", "databaseurl"];

/// True when a value under `key` must not be shown.
pub(super) fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let named = key.ends_with("_env") || key.starts_with("max_");
    !named && (SECRET_WORDS.iter().any(|word| key.contains(word)) || is_server_key(&key))
}

fn is_server_key(key: &str) -> bool {
    SERVER_KEYS.contains(&key.to_ascii_lowercase().replace('_', "").as_str())
}

/// Replaces secrets that are written out in the file, and moves `column` along;
/// references to variables stay.
fn mask(line: &str, column: usize) -> (String, usize) {
    let (mut out, mut column) = (String::with_capacity(line.len()), column);
    let mut rest = line;
    while let Some(colon) = rest.find(':') {
        let (before, after) = rest.split_at(colon + 1);
        out.push_str(before);
        let key = before.trim_end_matches([':', '"', '\'']);
        let start = key.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |n| n + 1);
        let value = after.trim_start().trim_start_matches(['"', '\'']);
        rest = after;
        if is_secret_key(&key[start..]) && !value.is_empty() && !value.starts_with("${") {
            // A list of URLs has commas too.
            let end = if is_server_key(&key[start..]) { None } else { after.find([',', '}']) };
            let end = end.unwrap_or(after.len());
            let hidden = after[..end].chars().count();
            if column > out.chars().count() + hidden {
                column = column + MASK.len() - hidden;
            }
            out.push_str(MASK);
            rest = &after[end..];
        }
    }
    out.push_str(rest);
    (out, column)
}

/// What stands in a line instead of a secret.
const MASK: &str = " ***";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_the_line_with_a_caret_below_what_is_meant() {
        let at = At::new(12, 9, 4);
        let mut finding = Finding::new(
            Severity::Error,
            "unknown-chain",
            Path::new("flows/a.yaml"),
            at,
            "no chain is called `crit`",
        )
        .help("did you mean `critical`?");
        finding.source = Some("\tchain: crit".to_owned());
        let expected = "error[unknown-chain]: no chain is called `crit`\n  \
                        --> flows/a.yaml:12:9\n   |\n12 | \tchain: crit\n   | \t       ^^^^\n   \
                        = help: did you mean `critical`?\n";
        assert_eq!(finding.render(Paint::Plain), expected);
        assert!(finding.render(Paint::Colour).contains("\u{1b}[1;31m^^^^"));
    }

    #[test]
    fn written_out_secrets_are_masked_and_references_are_not() {
        for (line, shown) in [
            ("  bot_token: xoxb-1 # mine", "  bot_token: ***"),
            ("  bot_token: ${T}", "  bot_token: ${T}"),
            ("  bot_token_env: T", "  bot_token_env: T"),
            ("  max_tokens: 5", "  max_tokens: 5"),
            ("a: {botToken: 'x:y', b: 1}", "a: {botToken: ***, b: 1}"),
            ("  nats_url: nats://u:p@a,nats://u:p@b", "  nats_url: ***"),
            ("  redis_url: ${REDIS_URL}", "  redis_url: ${REDIS_URL}"),
        ] {
            assert_eq!(mask(line, 1).0, shown);
        }
        let (line, column) = mask("{secret: abcdefgh, chanels: x}", 20);
        assert_eq!(line.chars().skip(column - 1).take(7).collect::<String>(), "chanels");
    }
}
