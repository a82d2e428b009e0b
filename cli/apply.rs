//! `aofctl apply`: puts a folder of manifests in the place that a node reads, after telling
//! what the newest traffic would have been under it.

mod files;

use std::path::PathBuf;
use std::process::ExitCode;

use aof_shared::clock::{Clock, SystemClock};
use reqwest::Method;
use serde_json::json;

use self::files::Plan;
use crate::client::{self, Client, Connect};
use crate::output::{self, Format};
use crate::replay::{self, Impact, Past, Report};
use crate::{EXIT_DONE, EXIT_NO};

/// Differences listed of each account.
const LISTED: usize = 20;

/// Arguments of `aofctl apply`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    aofctl apply ./new-config --impact 24h                        # tells, writes nothing\n  \
    aofctl apply ./new-config --impact 24h --refuse-newly-allowed --into /etc/aof\n  \
    aofctl apply ./new-config --into /etc/aof --prune\n\n\
    The impact covers every account with the operator's key, else the key's own.\n\
    Exit codes: 0 applied, or nothing stands against it; 1 refused, or the manifests are not valid.")]
pub struct Args {
    /// The folder with the new manifests
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Tell first what messages and commands of so long would have become, as in 24h
    #[arg(long, value_name = "DURATION", value_parser = replay::duration_ms)]
    impact: Option<u64>,
    /// Refuse when a command that was denied or asked people would just run, or fewer
    /// would have to agree
    #[arg(long, requires = "impact")]
    refuse_newly_allowed: bool,
    /// The folder that the node reads its manifests from
    #[arg(long, value_name = "FOLDER")]
    into: Option<PathBuf>,
    /// Remove manifests there that the new folder does not have
    #[arg(long, requires = "into")]
    prune: bool,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    connect: Connect,
}

/// Runs the command.
///
/// # Errors
/// When the node cannot be reached, or a file cannot be read or written.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    client::answer(apply(args).await)
}

async fn apply(args: Args) -> anyhow::Result<ExitCode> {
    let Some(against) = replay::manifests(&args.dir)? else {
        return Ok(ExitCode::from(EXIT_NO));
    };
    let plan = args.into.as_deref().map(|into| Plan::of(&args.dir, into)).transpose()?;
    let leftovers = plan.as_ref().map(|plan| plan.leftovers.as_slice()).unwrap_or_default();
    if !leftovers.is_empty() && !args.prune {
        let names: Vec<_> = leftovers.iter().map(|path| path.display().to_string()).collect();
        anstream::eprintln!(
            "error: the folder has manifests that {} has not: {}\nnext:  add them to it, or \
             remove them with --prune",
            args.dir.display(),
            names.join(", ")
        );
        return Ok(ExitCode::from(EXIT_NO));
    }
    let impact = Impact::under(against);
    let mut reports = Vec::new();
    if let Some(last_ms) = args.impact {
        let past = Past::last(last_ms, SystemClock.now_ms());
        for client in accounts(&args.connect).await? {
            reports.push(impact.of(&client, &past, LISTED).await?);
        }
        reports.retain(|report| report.coverage.decisions > 0);
        if !args.format.is_json() {
            replay::render_report(&past, &args.dir.display().to_string(), &reports);
        }
    }
    let loosened: u64 = reports.iter().map(Report::loosened).sum();
    let refused = args.refuse_newly_allowed && loosened > 0;
    let written = match &plan {
        Some(plan) if !refused => plan.carry_out()?,
        _ => 0,
    };
    if args.format.is_json() {
        output::json(&json!({
            "refused": refused, "loosened": loosened, "files_written": written,
            "revision": impact.revision(), "accounts": reports,
        }));
    } else {
        told(&args, (refused, loosened), written);
    }
    Ok(ExitCode::from(if refused { EXIT_NO } else { EXIT_DONE }))
}

fn told(args: &Args, (refused, loosened): (bool, u64), written: usize) {
    if refused {
        anstream::eprintln!(
            "error: refused: {loosened} commands would be let through more easily; nothing was \
             written\nnext:  look at them above, then go without --refuse-newly-allowed if they \
             are meant"
        );
    } else if let Some(into) = &args.into {
        output::line(format_args!(
            "{written} files written to {}; a node takes them within two seconds, `aofctl events \
             tail --type 'config.*'` says so",
            into.display()
        ));
    } else {
        output::line("nothing stands against it; nothing was written: --into FOLDER does");
    }
}

/// The account that is named, else every one with the operator's key, else the key's own.
async fn accounts(connect: &Connect) -> anyhow::Result<Vec<Client>> {
    let client = Client::new(connect).await?;
    if connect.account.is_some() {
        return Ok(vec![client]);
    }
    let who = client.json(client.request(Method::GET, "/whoami")).await?;
    if who["tenant"].is_null() { replay::every(&client).await } else { Ok(vec![client]) }
}
