//! Text with entities: Markdown as Telegram shows it. Pure.
//!
//! Entities name ranges in UTF-16 units and leave the text alone, so no letter of an answer
//! is markup, and none can break the message.

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};
use serde::Serialize;

/// What opens an entry of a list without numbers.
const BULLET: &str = "• ";
/// Stands for a line across the text.
const RULE: &str = "———";
/// Deepest list that is indented further.
const MAX_INDENT: usize = 4;

/// A text and how its parts look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Styled {
    pub(super) text: String,
    pub(super) entities: Vec<Entity>,
    /// Length of `text` in UTF-16 units.
    units: usize,
}

/// How a part of a text looks. Source: Bot API, `MessageEntity`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Entity {
    #[serde(rename = "type")]
    kind: &'static str,
    offset: usize,
    length: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<String>,
}

impl Styled {
    /// Text without any look.
    pub(super) fn plain(text: &str) -> Self {
        let mut styled = Self::default();
        styled.push(text);
        styled
    }

    /// Markdown (CommonMark with strikethrough). Tables and HTML stay as they are written.
    pub(super) fn markdown(markdown: &str) -> Self {
        let mut writer = Writer::default();
        for event in Parser::new_ext(markdown, Options::ENABLE_STRIKETHROUGH) {
            writer.event(event);
        }
        writer.out
    }

    pub(super) fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.units += text.encode_utf16().count();
    }

    pub(super) fn bold(&mut self, text: &str) {
        self.marked("bold", text);
    }

    pub(super) fn code(&mut self, text: &str) {
        self.marked("code", text);
    }

    pub(super) fn preformatted(&mut self, text: &str) {
        self.marked("pre", text);
    }

    fn marked(&mut self, kind: &'static str, text: &str) {
        let open = Open { kind, offset: self.units, url: None, language: None };
        self.push(text);
        self.close(open);
    }

    /// Ends an entity here; one without length is none.
    fn close(&mut self, open: Open) {
        let length = self.units - open.offset.min(self.units);
        if length > 0 {
            let Open { kind, offset, url, language } = open;
            self.entities.push(Entity { kind, offset, length, url, language });
        }
    }
}

/// An entity that has begun.
struct Open {
    kind: &'static str,
    offset: usize,
    url: Option<String>,
    language: Option<String>,
}

/// Writes the events of a Markdown parser.
#[derive(Default)]
struct Writer {
    out: Styled,
    open: Vec<Open>,
    /// The number that the next entry of each open list gets; `None` for bullets.
    lists: Vec<Option<u64>>,
    /// Quotes that are open; only the outermost is an entity, since they do not nest.
    quotes: usize,
    /// Nothing but the mark of a list's entry has been written in it.
    fresh_item: bool,
    /// In a code block, which holds no other entity.
    code: bool,
}

impl Writer {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => self.write(&text),
            Event::Code(text) => {
                self.fresh_item = false;
                self.out.code(&text);
            }
            Event::SoftBreak | Event::HardBreak => self.write("\n"),
            Event::Rule => {
                self.gap(2);
                self.write(RULE);
            }
            Event::InlineMath(text) | Event::DisplayMath(text) => self.write(&text),
            Event::FootnoteReference(_) | Event::TaskListMarker(_) => {}
        }
    }

    fn write(&mut self, text: &str) {
        self.fresh_item = false;
        self.out.push(text);
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Paragraph | Tag::HtmlBlock => self.block(),
            Tag::Heading { .. } => {
                self.block();
                self.begin("bold", None);
            }
            Tag::BlockQuote(_) => {
                self.block();
                self.quotes += 1;
                if self.quotes == 1 {
                    self.begin("blockquote", None);
                }
            }
            Tag::CodeBlock(kind) => {
                self.block();
                self.code = true;
                let language = match kind {
                    CodeBlockKind::Fenced(info) => {
                        info.split_whitespace().next().map(str::to_owned)
                    }
                    CodeBlockKind::Indented => None,
                };
                let offset = self.out.units;
                self.open.push(Open { kind: "pre", offset, url: None, language });
            }
            Tag::List(first) => {
                self.gap(if self.lists.is_empty() { 2 } else { 1 });
                self.fresh_item = false;
                self.lists.push(first);
            }
            Tag::Item => self.item(),
            Tag::Emphasis => self.begin("italic", None),
            Tag::Strong => self.begin("bold", None),
            Tag::Strikethrough => self.begin("strikethrough", None),
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => {
                let link = ["http://", "https://", "tg://"].iter().any(|s| dest_url.starts_with(s));
                self.begin("text_link", link.then(|| dest_url.into_string()));
            }
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(_) | TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough => {
                self.finish();
            }
            TagEnd::Link | TagEnd::Image => {
                // Only an address that Telegram opens is a link.
                if self.open.last().is_some_and(|open| open.url.is_none()) {
                    self.open.pop();
                } else {
                    self.finish();
                }
            }
            TagEnd::BlockQuote(_) => {
                self.quotes = self.quotes.saturating_sub(1);
                if self.quotes == 0 {
                    self.finish();
                }
            }
            TagEnd::CodeBlock => {
                if self.out.text.ends_with('\n') {
                    self.out.text.pop();
                    self.out.units -= 1;
                }
                self.code = false;
                self.finish();
            }
            TagEnd::List(_) => {
                self.lists.pop();
            }
            TagEnd::Item => self.fresh_item = false,
            _ => {}
        }
    }

    fn begin(&mut self, kind: &'static str, url: Option<String>) {
        self.fresh_item = false;
        self.open.push(Open { kind, offset: self.out.units, url, language: None });
    }

    fn finish(&mut self) {
        if let Some(open) = self.open.pop() {
            self.out.close(open);
        }
    }

    /// A block begins: on a line of its own, unless it opens a list's entry.
    fn block(&mut self) {
        if !self.fresh_item {
            self.gap(if self.lists.is_empty() { 2 } else { 1 });
        }
    }

    fn item(&mut self) {
        self.gap(1);
        let indent = "  ".repeat((self.lists.len().saturating_sub(1)).min(MAX_INDENT));
        let mark = match self.lists.last_mut() {
            Some(Some(number)) => {
                let mark = format!("{number}. ");
                *number += 1;
                mark
            }
            _ => BULLET.to_owned(),
        };
        self.write(&format!("{indent}{mark}"));
        self.fresh_item = true;
    }

    /// Makes what follows begin behind `lines` line breaks; at the text's start behind none.
    fn gap(&mut self, lines: usize) {
        if self.out.text.is_empty() {
            return;
        }
        let there = self.out.text.chars().rev().take_while(|c| *c == '\n').count();
        for _ in there..lines {
            self.out.push("\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The entities as `kind:text`.
    fn entities(styled: &Styled) -> Vec<String> {
        let units: Vec<u16> = styled.text.encode_utf16().collect();
        let text = |e: &Entity| String::from_utf16(&units[e.offset..e.offset + e.length]);
        styled
            .entities
            .iter()
            .map(|e| format!("{}:{}", e.kind, text(e).expect("whole characters")))
            .collect()
    }

    fn check(markdown: &str, text: &str, expected: &[&str]) {
        let styled = Styled::markdown(markdown);
        assert_eq!(styled.text, text, "{markdown}");
        assert_eq!(entities(&styled), expected, "{markdown}");
    }

    #[test]
    fn markdown_is_shown_as_it_is_meant() {
        check(
            "🦀 **bold** and *so* `x<y>`",
            "🦀 bold and so x<y>",
            &["bold:bold", "italic:so", "code:x<y>"],
        );
        check("# Head\ntext\nmore\n\nlast", "Head\n\ntext\nmore\n\nlast", &["bold:Head"]);
        check("a\n\n- b\n- c\n  1. d\n\ne", "a\n\n• b\n• c\n  1. d\n\ne", &[]);
        check("```sh\nls *.rs\n```\nend", "ls *.rs\n\nend", &["pre:ls *.rs"]);
        check("> a\n> > b", "a\n\nb", &["blockquote:a\n\nb"]);
        check("[x](https://e.x) [y](javascript:z)", "x y", &["text_link:x"]);
        check("2 * 3 * 4 snake_case_name", "2 * 3 * 4 snake_case_name", &[]);
        check("<b>&amp;</b>", "<b>&</b>", &[]);
        check("| a | b |\n|---|---|", "| a | b |\n|---|---|", &[]);
        check("~~old~~\n\n---\n\nnew", "old\n\n———\n\nnew", &["strikethrough:old"]);
        let fence = Styled::markdown("```yaml\na: 1\n```");
        assert_eq!(fence.entities[0].language.as_deref(), Some("yaml"));
    }

    proptest! {
        #[test]
        fn entities_stay_within_the_text_on_whole_characters(
            markdown in "([*_`>#~\\-\\[\\]()! 🦀a\n]|```|\n\n|- |1\\. |https://e\\.x){0,80}",
        ) {
            let styled = Styled::markdown(&markdown);
            prop_assert_eq!(styled.units, styled.text.encode_utf16().count());
            let units: Vec<u16> = styled.text.encode_utf16().collect();
            for entity in &styled.entities {
                let end = entity.offset + entity.length;
                prop_assert!(entity.length > 0 && end <= units.len());
                prop_assert!(String::from_utf16(&units[entity.offset..end]).is_ok());
            }
        }
    }
}
