//! `aofctl replay`: a slice of the past, shown, decided again under another configuration,
//! or saved to go through offline.

mod capsule;
mod decide;
mod impact;
mod live;
mod record;
mod render;
mod report;
mod rules;
mod sandbox;
mod save;
mod slice;
mod source;
mod timeline;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use aof_shared::clock::{Clock, SystemClock};
use aof_shared::config::Snapshot;
use aof_shared::ids::TenantId;
use aof_shared::manifest::{Env, Severity, Sources, load};
use serde_json::json;

use self::decide::{Against, Decider};
use self::record::{Command, DECIDING, Decision, EventLine, Recorded};
use self::rules::Rules;
use self::slice::{Slice, SliceArgs};
use self::source::{Inputs, Source};
use crate::client::{self, Client, Connect};
use crate::events::plain_name;
use crate::output::{self, Format};
use crate::{EXIT_DONE, EXIT_NO, findings};

pub(crate) use self::impact::Impact;
pub(crate) use self::live::resume;
pub(crate) use self::render::report as render_report;
pub(crate) use self::report::Report;
pub(crate) use self::slice::{Slice as Past, duration_ms};

/// Differences or messages listed unless asked otherwise.
const DEFAULT_LIMIT: usize = 20;

/// Arguments of `aofctl replay`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    aofctl replay --last 15m --flow prod-k8s-flow\n  \
    aofctl replay --from 2026-01-31T12:00:00Z --to 2026-01-31T12:05:00Z --output json\n  \
    aofctl replay --last 24h --against ./new-config          # what would have been decided\n  \
    aofctl replay --last 24h --against recorded              # proves that nothing differs\n  \
    aofctl replay --last 15m --save incident.capsule\n  \
    aofctl replay incident.capsule --against ./new-config    # offline\n  \
    aofctl replay --last 15m --agent scratch --against ./new-config --sandbox\n  \
    aofctl replay --last 15m --agent scratch --live --name incident-7\n\n\
    Without --live nothing is sent, run or changed. Exit codes with --against: 0 nothing differs, \
    1 something does.")]
pub struct Args {
    /// A capsule to read instead of a node
    #[arg(value_name = "FILE")]
    capsule: Option<PathBuf>,
    #[command(flatten)]
    slice: SliceArgs,
    /// Decide again under the manifests in this folder or file, or under what was
    /// `recorded` with each decision
    #[arg(long, value_name = "DIR|recorded")]
    against: Option<String>,
    /// Save the slice with its configurations, approvals and tool outputs
    #[arg(long, value_name = "FILE", conflicts_with_all = ["against", "capsule"])]
    save: Option<PathBuf>,
    /// Let the slice's messages run again under --against: apart from everything, tools
    /// answering from the recording, replies captured
    #[arg(long, requires = "against", conflicts_with_all = ["live", "all_accounts"])]
    sandbox: bool,
    /// Let the slice's messages come in again, really, as new messages; asks first, and
    /// needs the operator's key
    #[arg(long, conflicts_with_all = ["against", "capsule", "save"])]
    live: bool,
    /// Names a live replay: in it each message comes again once [default: by the time]
    #[arg(long, value_name = "NAME", requires = "live", value_parser = plain_name)]
    name: Option<String>,
    /// Times as fast as it was, as in 1 or 10 [default: as fast as it goes]
    #[arg(long, value_name = "N", requires = "live", value_parser = speed)]
    speed: Option<f64>,
    /// Do not ask
    #[arg(long, requires = "live")]
    yes: bool,
    /// Every account, with the operator's key
    #[arg(long, conflicts_with_all = ["capsule", "save", "live", "account"])]
    all_accounts: bool,
    /// List so many differences of each kind, or messages, an account; all are counted
    #[arg(long, value_name = "N", default_value_t = DEFAULT_LIMIT)]
    limit: usize,
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
    client::answer(replay(args).await)
}

async fn replay(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(path) = &args.capsule {
        anyhow::ensure!(
            !args.slice.is_set(),
            "a capsule is a slice already: leave the options that choose one out"
        );
        let head = capsule::verify(path)?;
        let account = head["account"].as_str().unwrap_or_default();
        let account = account.parse().context("the capsule names no account")?;
        let slice = Slice {
            from: output::text(&head["slice"]["from"]),
            to: output::text(&head["slice"]["to"]),
            ..Slice::default()
        };
        let source = Source::Capsule(path.clone());
        return over(&args, vec![(account, source)], &slice).await;
    }
    let client = Client::new(&args.connect).await?;
    let slice = args.slice.at(SystemClock.now_ms())?;
    if let Some(path) = &args.save {
        return save::save(&client, &slice, path, args.format).await;
    }
    if args.live {
        let now_ms = SystemClock.now_ms();
        let name = args.name.clone().unwrap_or_else(|| format!("replay-{now_ms}"));
        let asked = live::Asked { name, speed: args.speed, sure: args.yes, format: args.format };
        return live::start(&client, &slice, asked).await;
    }
    let accounts = if args.all_accounts { every(&client).await? } else { vec![client] };
    let sources = accounts.into_iter().map(|c| (c.account.clone(), Source::Node(c)));
    over(&args, sources.collect(), &slice).await
}

/// Reads how many times as fast.
pub(crate) fn speed(text: &str) -> Result<f64, String> {
    let read = text.parse::<f64>().ok().filter(|speed| speed.is_finite() && *speed > 0.0);
    read.ok_or_else(|| "write a number above 0, as in 0.5, 1 or 10".to_owned())
}

/// The node, once for each of its accounts.
///
/// # Errors
/// Without the operator's key.
pub(crate) async fn every(client: &Client) -> anyhow::Result<Vec<Client>> {
    let listed = client.json(client.request(reqwest::Method::GET, "/accounts")).await?;
    let names = listed["accounts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names = names.iter().filter_map(|name| name.as_str()?.parse::<TenantId>().ok());
    Ok(names.map(|account| client.in_account(account)).collect())
}

async fn over(
    args: &Args,
    sources: Vec<(TenantId, Source)>,
    slice: &Slice,
) -> anyhow::Result<ExitCode> {
    if let (true, Some(against)) = (args.sandbox, &args.against) {
        return apart(args, &sources, slice, against).await;
    }
    let Some(against) = &args.against else {
        for (account, source) in &sources {
            timeline::show((account, source), slice, args.limit, args.format).await?;
        }
        return Ok(ExitCode::from(EXIT_DONE));
    };
    let one = match against.as_str() {
        "recorded" => None,
        path => {
            let Some(rules) = manifests(Path::new(path))? else {
                return Ok(ExitCode::from(EXIT_NO));
            };
            Some(Against::One(Box::new(rules)))
        }
    };
    let mut reports = Vec::new();
    for (account, source) in &sources {
        let recorded = match &one {
            Some(_) => None,
            None => Some(recorded(source, account).await?),
        };
        let against = one.as_ref().or(recorded.as_ref()).expect("one of the two is there");
        reports.push(decide_all((account, source), slice, against, args.limit).await?);
    }
    // Accounts without a past in the slice say nothing.
    if args.all_accounts {
        reports.retain(|report| report.coverage.decisions > 0);
    }
    let differs = reports.iter().any(|report| report.total() > 0);
    if args.format.is_json() {
        output::json(&json!({ "against": against, "slice": slice, "accounts": reports }));
    } else {
        render_report(slice, against, &reports);
    }
    Ok(ExitCode::from(if differs { EXIT_NO } else { EXIT_DONE }))
}

/// Runs the slice again in a sandbox.
async fn apart(
    args: &Args,
    sources: &[(TenantId, Source)],
    slice: &Slice,
    against: &str,
) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        against != "recorded",
        "a sandbox needs the manifests themselves: name their folder with --against"
    );
    let Some(snapshot) = snapshot(Path::new(against))? else {
        return Ok(ExitCode::from(EXIT_NO));
    };
    for (account, source) in sources {
        let past = sandbox::read((account, source), slice, args.limit).await?;
        let told = sandbox::run(account, snapshot.clone(), past).await?;
        if args.format.is_json() {
            output::json(&json!({
                "account": account, "against": against, "slice": slice, "messages": told,
            }));
        } else {
            sandbox::print(account, &told);
        }
    }
    Ok(ExitCode::from(EXIT_DONE))
}

/// Decides a whole slice again.
///
/// # Errors
/// When the past cannot be read to its end.
pub(crate) async fn decide_all(
    (account, source): (&TenantId, &Source),
    slice: &Slice,
    against: &Against,
    limit: usize,
) -> anyhow::Result<Report> {
    let mut inputs = Inputs::new(source.messages(slice).await?);
    let mut events = source.events(slice, &DECIDING).await?;
    let mut decider = Decider::new(against, account, limit);
    while let Some(line) = events.next().await? {
        // A type of a newer node is none of those that were asked for.
        let Ok(event) = serde_json::from_slice::<EventLine<'_>>(&line) else { continue };
        let Some(id) = event.message_id else { continue };
        let about = (id, event.time);
        if event.kind.name().starts_with("message.") {
            let decision: Decision =
                serde_json::from_str(event.data.get()).context("a decision cannot be read")?;
            let input = match decision.inbound_seq {
                Some(seq) => inputs.take(id, seq).await?,
                None => None,
            };
            decider.decision(about, &decision, input.as_ref());
        } else {
            let command: Command =
                serde_json::from_str(event.data.get()).context("a judgement cannot be read")?;
            if let Some(judged) = &command.judged {
                decider.command(about, judged);
            }
        }
    }
    Ok(decider.finish())
}

/// The configurations that the journal has, by digest.
async fn recorded(source: &Source, account: &TenantId) -> anyhow::Result<Against> {
    let mut all = HashMap::new();
    let mut events = source.configurations().await?;
    while let Some(line) = events.next().await? {
        let Ok(event) = serde_json::from_slice::<EventLine<'_>>(&line) else { continue };
        let recorded: Recorded =
            serde_json::from_str(event.data.get()).context("a configuration cannot be read")?;
        if let Some(document) = recorded.document {
            all.entry(recorded.config).or_insert_with(|| Rules::new(document.snapshot(account)));
        }
    }
    Ok(Against::Recorded(all))
}

/// Loads a folder or file of manifests; what is wrong with them goes to standard error.
/// Variables that are not set here get a stand-in: a decision needs no credentials.
///
/// # Errors
/// When there is no such folder or file.
pub(crate) fn manifests(path: &Path) -> anyhow::Result<Option<Rules>> {
    Ok(snapshot(path)?.map(Rules::new))
}

fn snapshot(path: &Path) -> anyhow::Result<Option<Snapshot>> {
    std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    let sources = |env| Sources { paths: vec![path.to_owned()], ..Sources::new(env) };
    let mut loaded = load(&sources(Env::process()));
    let unset: Vec<String> = loaded
        .findings
        .iter()
        .filter(|finding| finding.code == "unset-variable")
        .filter_map(|finding| finding.message.split('`').nth(1).map(str::to_owned))
        .collect();
    if !unset.is_empty() {
        anstream::eprintln!(
            "note: {} not set here; a stand-in is used, which changes no decision unless a \
             filter is made of it",
            unset.join(", ")
        );
        let stand_in = move |name: &str| {
            let missing = unset.iter().any(|unset| unset == name);
            std::env::var(name)
                .ok()
                .filter(|value| !missing || !value.trim().is_empty())
                .or_else(|| missing.then(|| format!("unset-{name}")))
        };
        loaded = load(&sources(Env::new(stand_in)));
    }
    let errors = loaded.findings.iter().filter(|f| f.severity == Severity::Error);
    findings::print(&errors.cloned().collect::<Vec<_>>());
    let Some(snapshot) = loaded.snapshot else {
        anstream::eprintln!(
            "error: the manifests are not valid\nnext:  aofctl validate {}",
            path.display()
        );
        return Ok(None);
    };
    anyhow::ensure!(loaded.files > 0, "no manifests (*.yaml, *.yml) are in {}", path.display());
    Ok(Some(snapshot))
}
