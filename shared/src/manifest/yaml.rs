//! Reads YAML into a tree whose every node knows where it was written.
//!
//! Syntax errors and duplicate keys become problems, not failures: the documents after a
//! broken one are still read, so that one look shows everything that is wrong.

use std::borrow::Cow;
use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Span, StrInput};

use super::finding::At;

/// Nodes that aliases may add to one document, so that nested aliases cannot explode.
const MAX_ALIAS_NODES: usize = 10_000;

/// A node and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node<'t> {
    pub(super) at: At,
    pub(super) value: Value<'t>,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub(super) enum Value<'t> {
    /// A scalar; `plain` when it was written without quotes or block marker.
    Scalar {
        text: Cow<'t, str>,
        plain: bool,
    },
    List(Vec<Node<'t>>),
    Map(Vec<(Key<'t>, Node<'t>)>),
}

/// A key of a mapping and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Key<'t> {
    pub(super) at: At,
    pub(super) text: Cow<'t, str>,
}

impl Node<'_> {
    /// True for nothing, `~` and `null`.
    pub(super) fn is_null(&self) -> bool {
        match &self.value {
            Value::Scalar { text, plain: true } => {
                matches!(text.as_ref(), "" | "~" | "null" | "Null" | "NULL")
            }
            _ => false,
        }
    }

    fn size(&self) -> usize {
        match &self.value {
            Value::Scalar { .. } => 1,
            Value::List(items) => 1 + items.iter().map(Node::size).sum::<usize>(),
            Value::Map(entries) => 1 + entries.iter().map(|(_, n)| 1 + n.size()).sum::<usize>(),
        }
    }
}

/// One document of a file.
#[derive(Debug)]
pub(super) struct Tree<'t> {
    /// The line it starts on, from 1.
    pub(super) line: u32,
    /// Its source.
    pub(super) source: &'t str,
    /// Its content; `None` for a document of comments only.
    pub(super) root: Option<Node<'t>>,
}

/// Something wrong with the YAML itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// It is not YAML.
    Syntax { at: At, message: String },
    /// A key is given twice in one mapping.
    DuplicateKey { at: At, key: String, first: At },
}

/// Every document of `text` that can be read, and all that is wrong with the others.
pub(super) fn parse(text: &str) -> (Vec<Tree<'_>>, Vec<Problem>) {
    let options = granit_parser::options! { emit_comments: false };
    let mut reader = Reader {
        text,
        parser: Parser::new_from_str_with_options(text, options),
        anchors: HashMap::new(),
        alias_nodes: 0,
        problems: Vec::new(),
    };
    let mut trees = Vec::new();
    loop {
        match reader.document() {
            Ok(Some(tree)) => trees.push(tree),
            Ok(None) => break,
            Err(problem) => {
                reader.problems.push(problem);
                if !matches!(reader.parser.proceed_next_document(), Ok(true)) {
                    break;
                }
            }
        }
    }
    (trees, reader.problems)
}

struct Reader<'t> {
    text: &'t str,
    parser: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, Node<'t>>,
    alias_nodes: usize,
    problems: Vec<Problem>,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<Option<(Event<'t>, Span)>, Problem> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok(event)) => Ok(Some(event)),
            Some(Err(error)) => {
                let mark = error.marker();
                let at = At::new(mark.line(), mark.col() + 1, 1);
                Err(Problem::Syntax { at, message: error.info() })
            }
        }
    }

    fn document(&mut self) -> Result<Option<Tree<'t>>, Problem> {
        let (line, start) = loop {
            match self.next()? {
                None | Some((Event::StreamEnd, _)) => return Ok(None),
                Some((Event::DocumentStart(..), span)) => break (span.start.line(), begin(&span)),
                Some(_) => {}
            }
        };
        self.anchors.clear();
        self.alias_nodes = 0;
        let mut root = None;
        let end = loop {
            match self.next()? {
                None => break self.text.len(),
                Some((Event::DocumentEnd, span)) => break begin(&span),
                Some((event, span)) => root = self.node(event, &span)?,
            }
        };
        let source = self.text.get(start..end).unwrap_or_default().trim();
        let root = root.filter(|node| !node.is_null());
        Ok(Some(Tree { line: narrow(line), source, root }))
    }

    fn node(&mut self, event: Event<'t>, span: &Span) -> Result<Option<Node<'t>>, Problem> {
        let at = self.at(span);
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, _) => {
                (anchor, Value::Scalar { text, plain: style == ScalarStyle::Plain })
            }
            Event::SequenceStart(_, anchor, _) => (anchor, self.list()?),
            Event::MappingStart(_, anchor, _) => (anchor, self.map()?),
            Event::Alias(id) => return self.alias(id, at).map(Some),
            _ => return Ok(None),
        };
        let node = Node { at, value };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(Some(node))
    }

    fn alias(&mut self, id: usize, at: At) -> Result<Node<'t>, Problem> {
        let Some(node) = self.anchors.get(&id) else {
            let message = "this alias stands inside of what it names".to_owned();
            return Err(Problem::Syntax { at, message });
        };
        self.alias_nodes += node.size();
        if self.alias_nodes > MAX_ALIAS_NODES {
            let message = format!("aliases add more than {MAX_ALIAS_NODES} nodes");
            return Err(Problem::Syntax { at, message });
        }
        Ok(node.clone())
    }

    fn list(&mut self) -> Result<Value<'t>, Problem> {
        let mut items = Vec::new();
        while let Some((event, span)) = self.next()? {
            if event == Event::SequenceEnd {
                break;
            }
            items.extend(self.node(event, &span)?);
        }
        Ok(Value::List(items))
    }

    fn map(&mut self) -> Result<Value<'t>, Problem> {
        let mut entries: Vec<(Key<'t>, Node<'t>)> = Vec::new();
        let mut merged = Vec::new();
        let mut seen = Seen::default();
        while let Some((event, span)) = self.next()? {
            if event == Event::MappingEnd {
                break;
            }
            let key = self.key(event, &span)?;
            let Some((event, span)) = self.next()? else { break };
            let Some(value) = self.node(event, &span)? else { break };
            if key.text == "<<" {
                merged.push(value);
            } else if let Some(first) = seen.first(&entries, &key) {
                let name = key.text.into_owned();
                self.problems.push(Problem::DuplicateKey { at: key.at, key: name, first });
            } else {
                entries.push((key, value));
            }
        }
        merged.into_iter().for_each(|node| merge(&mut entries, node));
        Ok(Value::Map(entries))
    }

    fn key(&mut self, event: Event<'t>, span: &Span) -> Result<Key<'t>, Problem> {
        let at = self.at(span);
        match self.node(event, span)? {
            Some(Node { value: Value::Scalar { text, .. }, .. }) => Ok(Key { at, text }),
            _ => Err(Problem::Syntax { at, message: "a key must be a plain word".to_owned() }),
        }
    }

    /// Where `span` starts, and how much of its first line it covers.
    fn at(&self, span: &Span) -> At {
        let source = span.byte_range().and_then(|range| self.text.get(range)).unwrap_or_default();
        let first = source.lines().next().unwrap_or_default().trim_end();
        At::new(span.start.line(), span.start.col() + 1, first.chars().count())
    }
}

/// From this many keys on, a mapping's keys are looked up instead of compared one by one.
const INDEXED_KEYS: usize = 32;

/// The keys of a mapping so far.
#[derive(Default)]
struct Seen<'t>(HashMap<Cow<'t, str>, At>);

impl<'t> Seen<'t> {
    /// Where `key` was given before.
    fn first(&mut self, entries: &[(Key<'t>, Node<'t>)], key: &Key<'t>) -> Option<At> {
        if entries.len() < INDEXED_KEYS {
            return entries.iter().find(|(k, _)| k.text == key.text).map(|(k, _)| k.at);
        }
        if self.0.is_empty() {
            self.0.extend(entries.iter().map(|(k, _)| (k.text.clone(), k.at)));
        }
        let first = self.0.get(&key.text).copied();
        if first.is_none() {
            self.0.insert(key.text.clone(), key.at);
        }
        first
    }
}

/// Adds what `<<` names, behind what is written out.
fn merge<'t>(entries: &mut Vec<(Key<'t>, Node<'t>)>, node: Node<'t>) {
    match node.value {
        Value::Map(more) => {
            for (key, value) in more {
                if !entries.iter().any(|(k, _)| k.text == key.text) {
                    entries.push((key, value));
                }
            }
        }
        Value::List(nodes) => nodes.into_iter().for_each(|node| merge(entries, node)),
        Value::Scalar { .. } => {}
    }
}

fn begin(span: &Span) -> usize {
    span.start.byte_offset().unwrap_or_default()
}

fn narrow(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(tree: &Tree<'_>) -> Vec<String> {
        match &tree.root.as_ref().expect("a root").value {
            Value::Map(entries) => entries.iter().map(|(k, _)| k.text.to_string()).collect(),
            other => panic!("not a map: {other:?}"),
        }
    }

    #[test]
    fn documents_know_their_line_and_source() {
        let (trees, problems) = parse("# head\na: 1\n---\nb: 2\n---\n# nothing\n");
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(trees.len(), 3);
        assert_eq!((trees[0].source, trees[1].line), ("a: 1", 3));
        assert!(trees[1].source.ends_with("b: 2"), "{:?}", trees[1].source);
        assert!(trees[2].root.is_none());
    }

    #[test]
    fn nodes_know_line_column_and_width() {
        let (trees, _) = parse("spec:\n  list: [one, \"zwei drei\"]\n");
        let Value::Map(spec) = &trees[0].root.as_ref().unwrap().value else { panic!() };
        let Value::Map(list) = &spec[0].1.value else { panic!() };
        assert_eq!(list[0].0.at, At::new(2, 3, 4));
        let Value::List(items) = &list[0].1.value else { panic!() };
        assert_eq!(items[0].at, At::new(2, 10, 3));
        assert_eq!(items[1].at, At::new(2, 15, 11));
    }

    #[test]
    fn duplicate_keys_are_reported_and_the_first_stands() {
        let (trees, problems) = parse("a: 1\nb: 2\na: 3\n");
        assert_eq!(keys(&trees[0]), ["a", "b"]);
        let (at, first) = (At::new(3, 1, 1), At::new(1, 1, 1));
        assert_eq!(problems, [Problem::DuplicateKey { at, key: "a".to_owned(), first }]);
    }

    #[test]
    fn a_broken_document_does_not_hide_the_next() {
        let (trees, problems) = parse("a: [1, 2\n---\nb: 2\n");
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(trees.len(), 1);
        assert_eq!(keys(&trees[0]), ["b"]);
    }

    #[test]
    fn aliases_and_merges_are_followed_within_bounds() {
        let (trees, problems) = parse("base: &b {x: 1, y: 2}\nmine:\n  <<: *b\n  y: 3\n");
        assert!(problems.is_empty());
        let Value::Map(root) = &trees[0].root.as_ref().unwrap().value else { panic!() };
        let Value::Map(mine) = &root[1].1.value else { panic!() };
        let names: Vec<_> = mine.iter().map(|(k, _)| k.text.as_ref()).collect();
        assert_eq!(names, ["y", "x"]);

        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for n in 1..9 {
            let many = vec![format!("*a{}", n - 1); 10].join(", ");
            bomb.push_str(&format!("a{n}: &a{n} [{many}]\n"));
        }
        let (_, problems) = parse(&bomb);
        assert!(
            matches!(&problems[..], [Problem::Syntax { message, .. }] if message.contains("10000"))
        );
    }
}
