//! `aofctl validate`: everything that is wrong with manifests, before they serve.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use aof_shared::manifest::{Env, Loaded, Paint, Severity, Sources, load};
use serde_json::json;

use crate::output::{self, Format};
use crate::{EXIT_DONE, EXIT_NO};

/// Arguments of `aofctl validate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    aofctl validate daemon-config.yaml          # with the folders that it names\n  \
    aofctl validate agents/ flows/ --strict     # in CI: warnings count as errors\n  \
    aofctl validate . --output json\n\n\
    Variables are read from the environment; an unset one without a default is an error.\n\
    Exit code 1: there are errors, or under --strict anything at all.")]
pub struct Args {
    /// Files, and folders with all below them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Take warnings as errors
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    format: Format,
}

/// Runs the command.
///
/// # Errors
/// When a path does not exist.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    for path in &args.paths {
        std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    }
    let loaded = load(&Sources { paths: args.paths.clone(), ..Sources::new(Env::process()) });
    let valid = loaded.files > 0 && !loaded.has_errors();
    let valid = valid && (!args.strict || loaded.findings.is_empty());
    if args.format.is_json() {
        output::json(&document(&loaded, valid));
    } else {
        print(&loaded);
    }
    Ok(ExitCode::from(if valid { EXIT_DONE } else { EXIT_NO }))
}

fn count(loaded: &Loaded, severity: Severity) -> usize {
    loaded.findings.iter().filter(|finding| finding.severity == severity).count()
}

fn document(loaded: &Loaded, valid: bool) -> serde_json::Value {
    json!({
        "valid": valid,
        "files": loaded.files,
        "errors": count(loaded, Severity::Error),
        "warnings": count(loaded, Severity::Warning),
        "revision": loaded.snapshot.as_ref().map(|snapshot| &snapshot.revision),
        "findings": loaded.findings,
    })
}

fn print(loaded: &Loaded) {
    let paint = if std::io::stdout().is_terminal() { Paint::Colour } else { Paint::Plain };
    for finding in &loaded.findings {
        output::line(finding.render(paint));
    }
    let files = number(loaded.files, "file");
    let errors = count(loaded, Severity::Error);
    let warnings = count(loaded, Severity::Warning);
    output::line(match &loaded.snapshot {
        _ if loaded.files == 0 => "no manifests (*.yaml, *.yml) found".to_owned(),
        None => format!("{files}: {}, {}", number(errors, "error"), number(warnings, "warning")),
        Some(snapshot) => format!(
            "{files}: {}, {}, {}; {}",
            number(snapshot.flows.len(), "flow"),
            number(snapshot.agents.len(), "agent"),
            number(snapshot.instances.len(), "account"),
            number(warnings, "warning")
        ),
    });
}

fn number(n: usize, what: &str) -> String {
    match n {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{n} {what}s"),
    }
}
