//! Decides, before anything runs, whether a command runs, is refused, or waits for people.
//! Pure: no I/O, no clock, no shell.
//!
//! # The idea
//! A filter on a command's *text* loses: `kubectl delete` is also `kubectl 'del'ete`,
//! `kubectl -n prod delete`, `sh -c "kubectl delete"`, `timeout 5 env kubectl delete`. So
//! nothing here looks at text. A command is taken to its **normal form** first, and people's
//! patterns and our own catalogue meet that form alone:
//!
//! 1. [`parse_command`] splits a text into words and refuses what only a shell could carry
//!    out. Tools are started from those words, so what is judged is what runs, to the byte.
//! 2. `wrapper` looks through programs that run programs (`sudo`, `env`, `xargs`, `sh -c`,
//!    `kubectl exec`); each inner command is judged like the outer one, and the strictest
//!    verdict counts.
//! 3. `command` names the program by its base name, skips its global flags, unifies the
//!    forms of flags, and says of every word whether it can be read in one way only.
//! 4. [`judge()`] asks in turn: is the program listed, and this part of it? Does a rule or
//!    `require_for` name it? Does the `catalogue` call it destructive?
//!
//! # Doubt
//! Every reader errs to one side. Who looks for danger takes *any* reading of an ambiguous
//! command; who looks for harmlessness takes only what can be read in *one* way. A program
//! with a table is harmless where the table says so and nowhere else, so an unknown
//! subcommand (a plugin, an alias, next year's verb) is held, not run. What cannot be
//! looked through at all (`python -c`, `$(…)`, `base64 -d | sh`) is held for the chain that
//! asks the most people, or else writing `kubectl delete namespace` in Python would cost fewer
//! votes than writing it plainly.
//!
//! # What it does not promise
//! It reads commands, not the world: what a file applied by `kubectl apply -f` contains, what
//! a chart installs, what an unlisted side effect of a listed program is. A program that has
//! no table is taken at its words. Docs: `docs/guard.md`.

mod catalogue;
mod command;
mod judge;
mod kind;
mod parse;
mod pattern;
mod policy;
mod program;
mod review;
mod wrapper;

pub(crate) use command::base_name;
pub(crate) use judge::in_trusted_directory;
pub use judge::judge;
pub use parse::{ParseError, parse_command};
pub use policy::Policy;
pub use review::{Judged, people, review};

use serde::{Deserialize, Serialize};

/// Longest command that is looked at, in bytes.
pub const MAX_BYTES: usize = 65_536;

/// Most words of a command that is looked at.
pub const MAX_WORDS: usize = 1_024;

/// What becomes of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It runs now.
    Allow,
    /// It never runs.
    Refuse {
        /// What is in the way and what to do, for the person or model that asked.
        reason: String,
    },
    /// It runs when people agree.
    Hold {
        /// The name of the approval chain.
        chain: String,
        /// The pattern that held it, or `destructive: …`, or `cannot be looked through: …`.
        rule: String,
    },
}

impl Verdict {
    /// In a word, for spans.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Refuse { .. } => "refuse",
            Self::Hold { .. } => "hold",
        }
    }
}

#[cfg(test)]
mod tests;
