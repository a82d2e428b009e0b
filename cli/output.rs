//! How listings look: one table or one JSON document, colour on terminals only.

use std::io::{IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use comfy_table::{Cell, Table, presets};
use serde_json::Value;

use crate::EXIT_DONE;

/// Widest cell of a table in characters, so that a row stays a row; JSON has all of it.
const MAX_CELL_CHARS: usize = 72;

/// How a listing is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Table,
    /// One document with stable keys
    Json,
}

/// `--output`, the same for every listing.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Format {
    /// How to write the answer
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    pub output: Output,
}

impl Format {
    /// True when the answer is for programs.
    #[must_use]
    pub fn is_json(self) -> bool {
        self.output == Output::Json
    }
}

/// A column: its heading, and how a record's cell is written.
pub type Column = (&'static str, fn(&Value) -> String);

/// Writes `document` whole as JSON, or the records under `key` as a table.
pub fn list(format: Format, document: &Value, key: &str, columns: &[Column], empty: &str) {
    if format.is_json() {
        return json(document);
    }
    let records = document[key].as_array().map(Vec::as_slice).unwrap_or_default();
    if records.is_empty() {
        anstream::eprintln!("{empty}");
        return;
    }
    let headings: Vec<&str> = columns.iter().map(|(heading, _)| *heading).collect();
    let rows = records.iter().map(|r| columns.iter().map(|(_, cell)| cell(r)).collect()).collect();
    line(format_args!("{}", table(&headings, rows)));
}

/// Writes a line to stdout, without its colours where that is no terminal.
pub fn line(text: impl std::fmt::Display) {
    write(format_args!("{text}\n"));
}

/// Writes to stdout at once. Ends the command when nobody reads any more, as in `| head`.
pub fn write(text: impl std::fmt::Display) {
    let mut out = anstream::stdout().lock();
    if write!(out, "{text}").and_then(|()| out.flush()).is_err() {
        std::process::exit(EXIT_DONE.into());
    }
}

/// Writes one JSON document.
pub fn json(document: &Value) {
    line(format_args!("{document:#}"));
}

/// Writes `name  value` lines, the names in one column; nothing for empty values.
pub fn facts(facts: &[(&str, String)]) {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        let name = paint(Style::new().dimmed(), &format!("{name:width$}"));
        let value = value.replace('\n', &format!("\n{:width$}  ", ""));
        line(format_args!("{name}  {value}"));
    }
}

/// A plain table: headings, then rows, no lines.
fn table(headings: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let bold = |text: &&str| Cell::new(paint_on(std::io::stdout().is_terminal(), BOLD, text));
    table.set_header(headings.iter().map(bold));
    for row in rows {
        table.add_row(row.iter().map(|cell| Cell::new(cut(cell))));
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect::<String>().trim_end().into()
}

fn cut(text: &str) -> String {
    let line = visible(&text.replace(['\n', '\r', '\t'], " "));
    if line.chars().count() <= MAX_CELL_CHARS {
        return line;
    }
    let kept: String = line.chars().take(MAX_CELL_CHARS - 1).collect();
    format!("{kept}…")
}

/// Bold text.
pub const BOLD: Style = Style::new().bold();
/// What went well.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// What waits or deserves a look.
pub const WAITS: Style = AnsiColor::Yellow.on_default();
/// What went wrong.
pub const BAD: Style = AnsiColor::Red.on_default();

/// `text` in `style`; `anstream` takes the style out again where there is no terminal.
#[must_use]
pub fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Styled only when asked: widths are counted in tables, so no codes may be left in.
fn paint_on(terminal: bool, style: Style, text: &str) -> String {
    if terminal { paint(style, text) } else { text.to_owned() }
}

/// A status in its colour.
#[must_use]
pub fn status(text: &str) -> String {
    let style = match text {
        "approved" | "executed" | "success" | "started" => GOOD,
        "pending" | "held" | "uncertain" => WAITS,
        "denied" | "expired" | "failed" | "refused" => BAD,
        _ => Style::new(),
    };
    paint(style, text)
}

/// A field as text: strings bare, absent as nothing, anything else as JSON.
#[must_use]
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(|i| !i.is_object()) => {
            items.iter().map(text).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

/// Milliseconds since the epoch as RFC 3339; nothing for an absent value.
#[must_use]
pub fn time(value: &Value) -> String {
    value.as_u64().map(aof_shared::clock::rfc3339).unwrap_or_else(|| text(value))
}

/// An identity as `platform:user`.
#[must_use]
pub fn identity(value: &Value) -> String {
    match (value["platform"].as_str(), value["user"].as_str()) {
        (Some(platform), Some(user)) => format!("{platform}:{user}"),
        _ => text(value),
    }
}

/// `ms` for people: `850 ms`, `4.2 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.
#[must_use]
pub fn duration(ms: u64) -> String {
    let secs = ms / 1_000;
    match ms {
        0..=999 => format!("{ms} ms"),
        1_000..=59_999 => format!("{secs}.{} s", ms % 1_000 / 100),
        60_000..=3_599_999 => format!("{} min {} s", secs / 60, secs % 60),
        3_600_000..=86_399_999 => format!("{} h {} min", secs / 3_600, secs / 60 % 60),
        _ => format!("{} d {} h", secs / 86_400, secs / 3_600 % 24),
    }
}

/// An argv as one could type it, with nothing in it that a terminal would hide.
#[must_use]
pub fn shell_words(argv: &Value) -> String {
    let quote = |word: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word.to_owned()
        } else if word.chars().any(is_unseen) {
            format!("$'{}'", visible(word).replace('\'', "\\'"))
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    };
    let words = argv.as_array().map(Vec::as_slice).unwrap_or_default();
    words.iter().map(|w| quote(w.as_str().unwrap_or_default())).collect::<Vec<_>>().join(" ")
}

/// True for what a terminal obeys or hides: control characters, zero widths, and the
/// marks that turn the direction of writing.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Text of others with everything unseen written out as `\u{…}`; lines stay lines.
#[must_use]
pub fn visible(text: &str) -> String {
    let show = |c: char| match c {
        '\n' | '\t' => c.to_string(),
        c if is_unseen(c) => c.escape_unicode().to_string(),
        c => c.to_string(),
    };
    text.chars().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn durations_read_well() {
        for (ms, expected) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (4_249, "4.2 s"),
            (200_000, "3 min 20 s"),
            (7_500_000, "2 h 5 min"),
            (273_600_000, "3 d 4 h"),
        ] {
            assert_eq!(duration(ms), expected);
        }
    }

    #[test]
    fn commands_can_be_pasted_into_a_shell() {
        let argv = json!(["/bin/rm", "-rf", "a b", "it's", "", "$(x)"]);
        assert_eq!(shell_words(&argv), r"/bin/rm -rf 'a b' 'it'\''s' '' '$(x)'");
    }

    #[test]
    fn nothing_in_a_command_is_hidden_from_the_one_who_approves_it() {
        let argv = json!(["echo", "a\u{1b}[2Kb", "\u{202e}fdp.exe"]);
        assert_eq!(shell_words(&argv), r"echo $'a\u{1b}[2Kb' $'\u{202e}fdp.exe'");
        assert_eq!(visible("a\r\n\tb"), "a\\u{d}\n\tb");
    }

    #[test]
    fn tables_have_one_line_a_record_and_no_codes_off_a_terminal() {
        let rows = vec![vec!["a\nb".to_owned(), "x".repeat(100)]];
        let table = paint_free(&table(&["ID", "WHAT"], rows));
        assert_eq!(table.lines().count(), 2, "{table}");
        assert!(table.contains("a b") && table.contains('…'));
    }

    fn paint_free(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }
}
