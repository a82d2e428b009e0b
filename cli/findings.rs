//! Prints what manifests got wrong.

use std::io::IsTerminal;

use aof_shared::manifest::{Finding, Paint};

/// Prints every finding on standard error, in colour on a terminal.
pub(crate) fn print(findings: &[Finding]) {
    let paint = if std::io::stderr().is_terminal() { Paint::Colour } else { Paint::Plain };
    for finding in findings {
        anstream::eprintln!("{}", finding.render(paint));
    }
}
