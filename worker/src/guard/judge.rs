//! Decides on a command: its own, and every command inside it.

use super::catalogue::{self, Risk};
use super::command::{Command, base_name};
use super::parse;
use super::policy::Policy;
use super::wrapper::{self, Inside};
use super::{MAX_BYTES, MAX_WORDS, Verdict};
use aof_shared::config::ApprovalMode;

/// Wrappers within wrappers that are looked through; deeper is nobody's honest command.
const MAX_DEPTH: usize = 8;

/// Commands inside one command.
const MAX_COMMANDS: usize = 256;

/// Where programs may be named by path.
const TRUSTED_DIRECTORIES: &[&str] = &[
    "/bin",
    "/usr/bin",
    "/usr/local/bin",
    "/sbin",
    "/usr/sbin",
    "/usr/local/sbin",
    "/opt/homebrew/bin",
    "/snap/bin",
];

/// A command among those inside one.
struct Layer {
    argv: Vec<String>,
    depth: usize,
    /// Why what it runs cannot be read, when it cannot.
    opaque: Option<String>,
}

/// Decides what becomes of `argv` under `policy`. Total, and linear in the input's size.
#[must_use]
pub fn judge(argv: &[String], policy: &Policy) -> Verdict {
    let layers = match fit(argv).and_then(|()| layers(argv)) {
        Ok(layers) => layers,
        Err(reason) => return Verdict::Refuse { reason },
    };
    let mut held: Option<Verdict> = None;
    for layer in &layers {
        match (judge_layer(layer, policy), &held) {
            (Verdict::Allow, _) => {}
            (refuse @ Verdict::Refuse { .. }, _) => return refuse,
            (hold, None) => held = Some(hold),
            (Verdict::Hold { chain, .. }, Some(Verdict::Hold { chain: first, .. }))
                if chain == *first => {}
            (_, Some(_)) => {
                return refuse("its parts need different approval chains; send them one at a time");
            }
        }
    }
    held.unwrap_or(Verdict::Allow)
}

fn refuse(reason: impl Into<String>) -> Verdict {
    Verdict::Refuse { reason: reason.into() }
}

/// Refuses what is too large, or does not show as what it is.
fn fit(argv: &[String]) -> Result<(), String> {
    let bytes: usize =
        argv.iter().map(|w| w.len().saturating_add(1)).fold(0, usize::saturating_add);
    if bytes > MAX_BYTES || argv.len() > MAX_WORDS {
        return Err(format!("a command has at most {MAX_BYTES} bytes and {MAX_WORDS} words"));
    }
    let hidden = |c: &char| (c.is_control() && !matches!(c, '\n' | '\t')) || parse::looks_alike(*c);
    if let Some(c) = argv.iter().flat_map(|w| w.chars()).find(hidden) {
        return Err(format!(
            "it has the character U+{:04X}, which does not show as what it is",
            u32::from(c)
        ));
    }
    let dashed = |w: &&String| w.chars().next().is_some_and(parse::typographic);
    match argv.iter().find(dashed) {
        Some(word) => Err(format!("`{word}` begins with a character that passes for an ASCII one")),
        None => Ok(()),
    }
}

/// `argv` and all commands inside it.
fn layers(argv: &[String]) -> Result<Vec<Layer>, String> {
    let mut layers = vec![Layer { argv: argv.to_vec(), depth: 0, opaque: None }];
    let mut at = 0;
    while at < layers.len() {
        if layers.len() > MAX_COMMANDS || layers[at].depth > MAX_DEPTH {
            return Err(
                "it wraps too many commands to look through; send them one at a time".to_owned()
            );
        }
        fit(&layers[at].argv)?;
        let depth = layers[at].depth + 1;
        let plain = |argv| Layer { argv, depth, opaque: None };
        match wrapper::look(&layers[at].argv) {
            Inside::Nothing => {}
            Inside::Opaque(why) => layers[at].opaque = Some(why),
            Inside::Commands(inner) => layers.extend(inner.into_iter().map(plain)),
            Inside::Open(inner) => {
                let open = !wrapper::may_be_open(&inner);
                let program = base_name(&layers[at].argv[0]).to_owned();
                layers.push(plain(inner));
                if open {
                    layers[at].opaque =
                        Some(format!("`{program}` adds arguments that are not known yet"));
                }
            }
        }
        at += 1;
    }
    Ok(layers)
}

fn judge_layer(layer: &Layer, policy: &Policy) -> Verdict {
    let command = Command::read(&layer.argv);
    if let Err(reason) = listed(&layer.argv, &command, policy) {
        return Verdict::Refuse { reason };
    }
    let rehearsal = catalogue::is_rehearsal(&command);
    if let Some((pattern, chain)) =
        policy.holds.iter().find(|(p, _)| !(rehearsal && p.names_verb()) && p.matches(&command))
    {
        return hold(policy, chain, pattern.text.clone());
    }
    let risk = match &layer.opaque {
        Some(why) => Risk::Opaque(why.clone()),
        None => catalogue::assess(&command),
    };
    let (what, chain) = match risk {
        Risk::None => return Verdict::Allow,
        _ if policy.mode == ApprovalMode::Waived => return Verdict::Allow,
        Risk::Destructive(what) => (format!("destructive: {what}"), policy.default_chain()),
        Risk::Opaque(why) => (format!("cannot be looked through: {why}"), policy.strictest_chain()),
    };
    match chain {
        Some(chain) => hold(policy, &chain.name, what),
        None => refuse(format!(
            "{what}. Nobody may approve it here: add `approval.allowed_users` or `approval.chains` to the flow, or waive \
             approvals with `REQUIRE_APPROVAL: \"false\"` in its `context.env`"
        )),
    }
}

fn hold(policy: &Policy, chain: &str, rule: String) -> Verdict {
    if policy.chains.iter().any(|c| c.name == chain) {
        return Verdict::Hold { chain: chain.to_owned(), rule };
    }
    refuse(format!(
        "`{rule}` needs the approval chain `{chain}`, which the flow does not define; add it to `approval.chains`"
    ))
}

/// Whether `written` names a program by a path in the system's own directories.
pub(crate) fn in_trusted_directory(written: &str) -> bool {
    written.rsplit_once('/').is_some_and(|(directory, _)| TRUSTED_DIRECTORIES.contains(&directory))
}

/// Whether the agent may run this program, and this part of it.
fn listed(argv: &[String], command: &Command<'_>, policy: &Policy) -> Result<(), String> {
    let written = argv.first().map_or("", String::as_str);
    let program = command.program;
    if program.is_empty() {
        return Err("it names no program".to_owned());
    }
    if !program.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!(
            "`{program}` is no program's name: it has characters that are not plain ASCII"
        ));
    }
    if written.contains('/')
        && !in_trusted_directory(written)
        && !policy.tools.iter().any(|t| t == written)
    {
        return Err(format!(
            "`{written}` is not in a trusted directory; name the program alone: `{program}`"
        ));
    }
    if !policy.lists(program) {
        return Err(format!(
            "`{program}` is not among this agent's tools: {}",
            policy.tools.join(", ")
        ));
    }
    let Some(allowed) = policy.allowed.get(program) else { return Ok(()) };
    if allowed.iter().any(|entry| entry.certainly_matches(command)) {
        return Ok(());
    }
    let names: Vec<&str> = allowed.iter().map(|p| p.text.as_str()).collect();
    Err(format!("this agent may run only: {}", names.join(", ")))
}
