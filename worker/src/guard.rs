//! Placeholder until the guard lands: splits on white space and allows everything.

use aof_shared::config::{Agent, Approval, FlowAgent};

/// What the guard says of a command.
pub enum Verdict {
    /// It may run.
    Allow,
    /// It never runs.
    Refuse {
        /// Why.
        reason: String,
    },
    /// It waits for people.
    Hold {
        /// The chain.
        chain: String,
        /// The rule.
        rule: String,
    },
}

/// A line that is no command.
#[derive(Debug, thiserror::Error)]
#[error("it is empty")]
pub struct ParseError;

/// What a flow says of commands.
pub struct Policy {
    approval: Approval,
}

impl Policy {
    /// From agent and flow.
    #[must_use]
    pub fn new(_agent: &Agent, _flow_agent: Option<&FlowAgent>, approval: &Approval) -> Self {
        Self { approval: approval.clone() }
    }
}

/// Holds what starts with a `require_for`.
#[must_use]
pub fn judge(argv: &[String], policy: &Policy) -> Verdict {
    let line = argv.join(" ");
    for rule in &policy.approval.require_for {
        if line.starts_with(rule) {
            return Verdict::Hold { chain: "default".to_owned(), rule: rule.clone() };
        }
    }
    if argv.first().is_some_and(|a| a == "rm") {
        return Verdict::Refuse { reason: "nobody could approve it".to_owned() };
    }
    Verdict::Allow
}

/// Splits on white space.
///
/// # Errors
/// [`ParseError`].
pub fn parse_command(text: &str) -> Result<Vec<String>, ParseError> {
    let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
    if words.is_empty() { Err(ParseError) } else { Ok(words) }
}
