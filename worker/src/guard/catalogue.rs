//! Judges a command by what is known of its program, whatever people configured.

use super::command::Command;
use super::pattern::Pattern;
use super::program::{self, Program, SHELLS};
use super::wrapper;

/// What a command may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Risk {
    /// Nothing that is lost.
    None,
    /// It destroys; what.
    Destructive(String),
    /// It cannot be told; why.
    Opaque(String),
}

/// What, as a word of an unknown program's arguments, makes it count as destructive.
const VERBS: &[&str] = &[
    "abort",
    "cancel",
    "clean",
    "cleanup",
    "clear",
    "cordon",
    "deactivate",
    "decommission",
    "delete",
    "demote",
    "deprovision",
    "deregister",
    "destroy",
    "detach",
    "disable",
    "discard",
    "down",
    "drain",
    "drop",
    "empty",
    "erase",
    "evict",
    "expunge",
    "failover",
    "fence",
    "flush",
    "flushall",
    "flushdb",
    "force",
    "format",
    "halt",
    "kill",
    "nuke",
    "obliterate",
    "offline",
    "overwrite",
    "poweroff",
    "prune",
    "purge",
    "reboot",
    "recreate",
    "release",
    "remove",
    "replace",
    "reset",
    "restart",
    "revert",
    "revoke",
    "rm",
    "rmdir",
    "rollback",
    "scale",
    "shred",
    "shutdown",
    "stop",
    "suspend",
    "terminate",
    "trash",
    "truncate",
    "undeploy",
    "undo",
    "uninstall",
    "unlink",
    "unpublish",
    "unregister",
    "wipe",
    "write",
    "zap",
    "zero",
];

/// Judges `command` itself; what is inside it is a command of its own.
pub(crate) fn assess(command: &Command<'_>) -> Risk {
    let program = command.program;
    if wrapper::is_only_wrapper(program) {
        return Risk::None;
    }
    if asks_about_itself(command) {
        return Risk::None;
    }
    if command.overlong {
        return Risk::Opaque(format!("`{program}` has more flags than the guard reads"));
    }
    if let Some(name) = disguised_name(command) {
        return Risk::Opaque(format!("`{name}` has characters that are not plain ASCII"));
    }
    if program::is_opaque(program) {
        return Risk::Opaque(format!("`{program}` runs what its arguments or files say"));
    }
    match command.spec {
        Some(spec) => known(command, spec),
        None => unknown(command),
    }
}

/// Whether the command only rehearses, as `--dry-run=client` does. A plugin may read that flag
/// as it likes, so the subcommand must be a known one.
pub(crate) fn is_rehearsal(command: &Command<'_>) -> bool {
    let Some((spec, verb)) = command.spec.zip(command.certain_word(0)) else { return false };
    let entries =
        spec.destroys.iter().map(|(words, _)| *words).chain(spec.harmless.iter().copied());
    let known = entries.into_iter().any(|words| words.split(' ').next() == Some(verb));
    known
        && !command.overlong
        && !command.has_flag("raw")
        && spec.rehearsals.iter().any(|flag| every(command, flag))
}

/// Whether `wanted` is there, certainly, and nothing contradicts it.
fn every(command: &Command<'_>, wanted: &str) -> bool {
    let (name, value) = match wanted.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (wanted, None),
    };
    let mut found =
        command.flags.iter().filter(|f| f.name == name.trim_start_matches('-')).peekable();
    found.peek().is_some() && found.all(|f| f.certain && f.value == value)
}

/// `program --version`, and no more.
fn asks_about_itself(command: &Command<'_>) -> bool {
    matches!(command.arguments, [only] if matches!(only.as_str(), "--version" | "--help" | "-version" | "-help"))
}

/// A subcommand or a flag's name that is not plain ASCII.
fn disguised_name<'a>(command: &Command<'a>) -> Option<&'a str> {
    let head =
        command.words.iter().position(|w| w.certain).map_or(command.words.len(), |at| at + 1);
    let takes_verbs = command.spec.is_none_or(|spec| !spec.harmless.contains(&""));
    let verbs = command.words[..head].iter().map(|w| w.text).filter(|_| takes_verbs);
    verbs
        .chain(command.flags.iter().map(|f| f.name))
        .find(|name| !name.bytes().all(|b| b == b' ' || b.is_ascii_graphic()))
}

fn known(command: &Command<'_>, spec: &'static Program) -> Risk {
    let rehearsal = is_rehearsal(command);
    let exempt = |words: &str| rehearsal && !words.starts_with('-');
    if !rehearsal && let Some(what) = (spec.check)(command) {
        return Risk::Destructive(what);
    }
    let name = spec.names.first().unwrap_or(&"");
    let pattern = |words: &str| Pattern::compile(&format!("{name} {words}"), &[]);
    let of_name = |words: &str| !exempt(words) && pattern(words).matches_arguments(command);
    if let Some((_, what)) = spec.destroys.iter().find(|(words, _)| of_name(words)) {
        return Risk::Destructive((*what).to_owned());
    }
    if rehearsal || spec.harmless.iter().any(|words| pattern(words).certainly_matches(command)) {
        return Risk::None;
    }
    if spec.bare && command.words.is_empty() {
        return Risk::None;
    }
    let verb = command.words.first().map_or("", |w| w.text);
    Risk::Opaque(format!(
        "`{} {verb}` is not known to be harmless; it may be a plugin or an alias",
        command.program
    ))
}

/// A program whose owner listed it and that this guard knows nothing of: it is taken at its
/// words, and a word that names a destructive verb or a program that runs others counts.
fn unknown(command: &Command<'_>) -> Risk {
    let destroys = |word: &str| {
        let word = word.trim_start_matches('-').to_ascii_lowercase();
        word.split(['-', '_', ':', '.', '=', '/', ' ', ',']).any(|part| VERBS.contains(&part))
    };
    let runs = |word: &str| {
        SHELLS.contains(&word) || wrapper::is_wrapper(word) || program::is_opaque(word)
    };
    for argument in command.arguments {
        if destroys(argument) {
            return Risk::Destructive(format!("`{}` is told `{argument}`", command.program));
        }
        if runs(super::command::base_name(argument)) {
            return Risk::Opaque(format!("`{}` may run `{argument}`", command.program));
        }
    }
    Risk::None
}
