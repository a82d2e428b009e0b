//! The regular expressions of manifests: how they are read, and how large one may be.
//!
//! Matching is linear in the text, but its factor is the size of the program, and
//! counted repetition multiplies that: `(\w{50}){50}` is small to write only. So both
//! the text of a pattern and its program are capped; what does not fit is refused when
//! the manifest is checked and matches nothing where it is used anyway.

use regex::{Regex, RegexBuilder};

/// Longest pattern, in bytes as written.
pub const MAX_PATTERN_BYTES: usize = 1_024;

/// Largest compiled program in bytes: `\w+` takes about 20 KiB, the word lists of
/// real flows less than 10 KiB.
pub const MAX_PROGRAM_BYTES: usize = 128 * 1_024;

/// Largest cache of lazily built automaton states in bytes, for each regex and thread.
const MAX_DFA_BYTES: usize = 512 * 1_024;

/// Whether upper and lower case differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Case {
    /// As written: `trigger.config.patterns`, where `CRITICAL` must not match "critically".
    Exact,
    /// Upper and lower case are the same: `agents[].patterns`, which are topics.
    Ignored,
}

/// A pattern that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Longer than [`MAX_PATTERN_BYTES`].
    #[error("pattern of {bytes} bytes is longer than {MAX_PATTERN_BYTES} bytes: split it")]
    TooLong {
        /// Its size.
        bytes: usize,
    },
    /// Compiles to more than [`MAX_PROGRAM_BYTES`].
    #[error("pattern is too large when compiled: use smaller repetition counts or `(?-u:\\w)`")]
    TooLarge,
    /// Not a regular expression.
    #[error("pattern is not a regular expression: {0}")]
    Syntax(String),
}

/// Compiles `source` within the caps.
///
/// # Errors
/// [`PatternError`], which says what to change.
pub fn compile(source: &str, case: Case) -> Result<Regex, PatternError> {
    if source.len() > MAX_PATTERN_BYTES {
        return Err(PatternError::TooLong { bytes: source.len() });
    }
    RegexBuilder::new(source)
        .case_insensitive(case == Case::Ignored)
        .size_limit(MAX_PROGRAM_BYTES)
        .dfa_size_limit(MAX_DFA_BYTES)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => PatternError::TooLarge,
            other => PatternError::Syntax(other.to_string()),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_real_patterns_and_refuses_what_is_too_large() {
        for good in [
            "^(incident|outage|alert|page)",
            "CRITICAL|HIGH",
            r"\b\w+\s+pod\b",
            r"deploy \S+ to (prod|staging)$",
        ] {
            assert!(compile(good, Case::Exact).is_ok(), "{good}");
            assert!(compile(good, Case::Ignored).is_ok(), "{good}");
        }
        assert_eq!(compile(r"(\w{50}){50}", Case::Exact).err(), Some(PatternError::TooLarge));
        assert!(matches!(compile("(", Case::Exact), Err(PatternError::Syntax(_))));
        let long = "a".repeat(MAX_PATTERN_BYTES + 1);
        assert!(matches!(compile(&long, Case::Exact), Err(PatternError::TooLong { .. })));
    }
}
