//! What is known of a program: its flags, what of it is harmless and what destroys.
//!
//! A subcommand in neither list is not assumed harmless: it may be a plugin or an alias.

mod cloud;
mod containers;
mod data;
mod git;
mod kubernetes;
mod network;
mod opaque;
mod system;
mod text;

use super::command::{Command, Word};

pub(crate) use opaque::{SHELLS, is_opaque};

/// How a program writes its flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// `-r -f`, `-rf`, `-n5`, `--long`, `--long=value`.
    Letters,
    /// `-long`, `-long=value`.
    Words,
}

/// Whether a flag takes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arity {
    /// None, or only as `--flag=value`.
    Switch,
    /// One, in the same argument or the next.
    Value,
    /// It cannot be told.
    Unknown,
}

/// A rule of its own for what a table cannot say: `Some` names the danger.
pub(crate) type Check = fn(&Command<'_>) -> Option<String>;

/// What is known of one program. Flags are written `-n,--namespace`.
#[derive(Debug)]
pub(crate) struct Program {
    /// Its names.
    pub(crate) names: &'static [&'static str],
    pub(crate) style: Style,
    /// Whether `--repl` is `--replicas`.
    pub(crate) abbreviates: bool,
    /// Global flags with a value.
    pub(crate) values: &'static [&'static str],
    /// Global flags without one.
    pub(crate) switches: &'static [&'static str],
    /// More of the former, known behind the subcommand only.
    pub(crate) later_values: &'static [&'static str],
    /// More of the latter.
    pub(crate) later_switches: &'static [&'static str],
    /// Flags with a value between a group's word and its subcommand.
    pub(crate) group_values: &'static [(&'static str, &'static [&'static str])],
    /// Command patterns that destroy, and what they do; see [`super::pattern`].
    pub(crate) destroys: &'static [(&'static str, &'static str)],
    /// Leading words of harmless commands; `""` for all.
    pub(crate) harmless: &'static [&'static str],
    /// Whether it is harmless without any word.
    pub(crate) bare: bool,
    /// Subcommands with another name, and that name; an empty one is no word at all.
    pub(crate) aliases: &'static [(&'static str, &'static str)],
    /// Flags that make a command of this program a rehearsal.
    pub(crate) rehearsals: &'static [&'static str],
    pub(crate) check: Check,
}

/// What a table leaves out.
pub(crate) const PLAIN: Program = Program {
    names: &[],
    style: Style::Letters,
    abbreviates: false,
    values: &[],
    switches: &["-h,--help", "--version"],
    later_values: &[],
    later_switches: &[],
    group_values: &[],
    destroys: &[],
    harmless: &[],
    bare: false,
    aliases: &[],
    rehearsals: &[],
    check: |_| None,
};

impl Program {
    /// The one name of a flag as written (with dashes, without value), and its arity.
    pub(crate) fn flag(&self, written: &str, words: &[Word<'_>]) -> Option<(&'static str, Arity)> {
        let later = !words.is_empty();
        let group = match words {
            [only] if only.certain => {
                self.group_values.iter().find(|(group, _)| *group == only.text)
            }
            _ => None,
        };
        let tables = [
            (group.map_or(&[][..], |(_, values)| *values), Arity::Value, true),
            (self.values, Arity::Value, true),
            (self.switches, Arity::Switch, true),
            (self.later_values, Arity::Value, later),
            (self.later_switches, Arity::Switch, later),
        ];
        let known = |form: &&str| form.split(',').any(|f| f == written);
        for (flags, arity, applies) in tables {
            if let Some(forms) = flags.iter().copied().find(|f| known(f)) {
                let name = forms.rsplit(',').next().unwrap_or(forms).trim_start_matches('-');
                return Some((name, if applies { arity } else { Arity::Unknown }));
            }
        }
        None
    }
}

/// What is known of the program of this base name.
pub(crate) fn find(name: &str) -> Option<&'static Program> {
    let tables = [
        kubernetes::PROGRAMS,
        cloud::PROGRAMS,
        containers::PROGRAMS,
        git::PROGRAMS,
        data::PROGRAMS,
        system::PROGRAMS,
        network::PROGRAMS,
        text::PROGRAMS,
    ];
    tables.into_iter().flatten().find(|p| p.names.contains(&name))
}

/// A relative path that stays below the working directory and is no hidden file.
pub(crate) fn stays_here(path: &str) -> bool {
    !path.is_empty()
        && !path.starts_with(['/', '~', '-'])
        && path.split('/').all(|part| !part.starts_with('.') || part == ".")
}
