//! The normal form of one command: program, words, flags, whatever way they were written.
//!
//! Where it is not known whether a flag takes a value, the word behind it may be that value
//! or a word of its own. Such a word is kept as *not certain*, and so are the flags behind
//! it; who looks for danger takes every reading, who looks for safety only the certain one.

use super::program::{self, Arity, Program, Style};

/// Flags of one command that are read; every letter of `-rf` may be one.
const MAX_FLAGS: usize = 1_024;

/// A word that is no flag and no flag's value, as far as can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word<'a> {
    pub(crate) text: &'a str,
    /// Whether it can be nothing else.
    pub(crate) certain: bool,
}

/// A flag by its one name, without dashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flag<'a> {
    /// The long name when it has one, else the letter.
    pub(crate) name: &'a str,
    /// Its value, or what may be its value.
    pub(crate) value: Option<&'a str>,
    /// Whether it can be nothing but a flag.
    pub(crate) certain: bool,
    /// Whether it was written out, and so perhaps cut short.
    pub(crate) long: bool,
    /// Whether it stands before every word.
    pub(crate) global: bool,
}

/// One command, taken apart.
#[derive(Debug, Clone)]
pub(crate) struct Command<'a> {
    /// The program's base name.
    pub(crate) program: &'a str,
    /// What is known about it.
    pub(crate) spec: Option<&'static Program>,
    pub(crate) words: Vec<Word<'a>>,
    pub(crate) flags: Vec<Flag<'a>>,
    /// Whether there are more flags than [`MAX_FLAGS`], which are left out.
    pub(crate) overlong: bool,
    /// What stands behind a certain `--`.
    pub(crate) rest: Option<&'a [String]>,
    /// Everything behind the program, as written.
    pub(crate) arguments: &'a [String],
}

/// What a flag wants of the next argument.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wants {
    Nothing,
    Value,
    Unknown,
}

impl<'a> Command<'a> {
    /// Takes `argv` apart by what is known of its program.
    pub(crate) fn read(argv: &'a [String]) -> Self {
        let program = argv.first().map_or("", |p| base_name(p));
        let spec = program::find(program);
        let arguments = argv.get(1..).unwrap_or_default();
        let mut command = Self {
            program,
            spec,
            words: Vec::new(),
            flags: Vec::new(),
            overlong: false,
            rest: None,
            arguments,
        };
        command.walk();
        command.unify_verb();
        command
    }

    /// The word at `index`, when it and all before it are certain.
    pub(crate) fn certain_word(&self, index: usize) -> Option<&'a str> {
        let head = self.words.get(..=index)?;
        head.iter().all(|w| w.certain).then(|| head[index].text)
    }

    /// Whether a flag of this name may stand here.
    pub(crate) fn has_flag(&self, name: &str) -> bool {
        self.flags.iter().any(|f| f.name == name)
    }

    /// All values that a flag of this name may have here.
    pub(crate) fn values<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a str> + 's {
        self.flags.iter().filter(move |f| f.name == name).filter_map(|f| f.value)
    }

    /// Gives the subcommand its one name, and drops a word that adds nothing.
    fn unify_verb(&mut self) {
        let Some(spec) = self.spec else { return };
        let head = self.words.iter().position(|w| w.certain).map_or(self.words.len(), |at| at + 1);
        let found = |text: &str| {
            spec.aliases.iter().find(|(alias, _)| *alias == text).map(|(_, name)| *name)
        };
        for word in &mut self.words[..head] {
            if let Some(name) = found(word.text) {
                word.text = name;
            }
        }
        if self
            .words
            .first()
            .is_some_and(|w| w.text.is_empty() && found("container").is_some() && w.certain)
        {
            self.words.remove(0);
        }
    }

    /// `open`: the flag just read may want the next argument.
    fn walk(&mut self) {
        let (mut at, mut open) = (0, false);
        while let Some(argument) = self.arguments.get(at) {
            at += 1;
            if argument == "--" {
                if !open {
                    self.rest = self.arguments.get(at..);
                }
                return self.words_only(at, open);
            }
            if !argument.starts_with('-') || argument.len() == 1 {
                if open && let Some(flag) = self.flags.last_mut() {
                    flag.value.get_or_insert(argument);
                }
                self.words.push(Word { text: argument, certain: !open });
                open = false;
                continue;
            }
            match (self.flag(argument, !open), open) {
                (Wants::Nothing, _) => open = false,
                (Wants::Value, false) => {
                    self.value(at);
                    at += 1;
                }
                (Wants::Value, true) | (Wants::Unknown, _) => open = true,
            }
        }
    }

    /// Gives the argument at `at` to the last flag. One with a dash is noted as a flag too.
    fn value(&mut self, at: usize) {
        let Some(value) = self.arguments.get(at) else { return };
        if let Some(flag) = self.flags.last_mut() {
            flag.value = Some(value);
        }
        if value.starts_with('-') && value.len() > 1 {
            self.flag(value, false);
        }
    }

    /// Behind `--`; when that may have been a value, flags are still flags.
    fn words_only(&mut self, from: usize, open: bool) {
        for argument in self.arguments.get(from..).unwrap_or_default() {
            if open && argument.starts_with('-') {
                self.flag(argument, false);
            }
            self.words.push(Word { text: argument, certain: !open });
        }
    }

    /// Notes the flag or flags in `argument`.
    fn flag(&mut self, argument: &'a str, certain: bool) -> Wants {
        let style = self.spec.map_or(Style::Letters, |p| p.style);
        match argument.strip_prefix("--") {
            Some(long) => self.long(long, argument, certain),
            None if style == Style::Words => self.long(&argument[1..], argument, certain),
            None => self.letters(&argument[1..], certain),
        }
    }

    fn push(&mut self, flag: Flag<'a>) {
        self.overlong |= self.flags.len() >= MAX_FLAGS;
        if !self.overlong {
            self.flags.push(flag);
        }
    }

    fn long(&mut self, body: &'a str, written: &'a str, certain: bool) -> Wants {
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        let written = written.split('=').next().unwrap_or(written);
        let (name, arity) = self.known(written, name);
        let global = self.words.is_empty();
        self.push(Flag { name, value, certain, long: true, global });
        if value.is_some() { Wants::Nothing } else { arity.into() }
    }

    /// `-rf`, `-n5`, `-n=5`: every letter may be a flag, up to one that takes the rest.
    fn letters(&mut self, body: &'a str, certain: bool) -> Wants {
        let mut doubt = false;
        for (at, letter) in body.char_indices() {
            if self.overlong {
                return Wants::Unknown;
            }
            let end = at + letter.len_utf8();
            let (name, arity) = self.known_letter(letter, &body[at..end]);
            let rest = &body[end..];
            let value = match rest.strip_prefix('=') {
                None if arity == Arity::Switch || rest.is_empty() => None,
                given => Some(given.unwrap_or(rest)),
            };
            let (certain, global) = (certain && !doubt, self.words.is_empty());
            self.push(Flag { name, value, certain, long: false, global });
            match arity {
                Arity::Switch if rest.starts_with('=') => return Wants::Nothing,
                Arity::Switch => {}
                Arity::Value if rest.is_empty() && !doubt => return Wants::Value,
                Arity::Unknown | Arity::Value if rest.is_empty() => return Wants::Unknown,
                Arity::Value => return Wants::Nothing,
                Arity::Unknown => doubt = true,
            }
        }
        Wants::Nothing
    }

    fn known_letter(&self, letter: char, name: &'a str) -> (&'a str, Arity) {
        let mut buffer = [b'-', 0, 0, 0, 0];
        let len = letter.encode_utf8(&mut buffer[1..]).len();
        let written = std::str::from_utf8(&buffer[..=len]).unwrap_or(name);
        self.known(written, name)
    }

    /// The one name of a flag and whether it takes a value. Before the subcommand only
    /// global flags are known: programs skip to it by those alone.
    fn known(&self, written: &str, name: &'a str) -> (&'a str, Arity) {
        let Some(spec) = self.spec else { return (name, Arity::Unknown) };
        spec.flag(written, &self.words).unwrap_or((name, Arity::Unknown))
    }
}

impl From<Arity> for Wants {
    fn from(arity: Arity) -> Self {
        match arity {
            Arity::Switch => Self::Nothing,
            Arity::Value => Self::Value,
            Arity::Unknown => Self::Unknown,
        }
    }
}

/// What follows the last slash.
pub(crate) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
