//! `aofctl replays`: replays that let messages come in again: listed, paused, taken up,
//! given up. Where one stands is kept in your state directory.

mod job;

use std::process::ExitCode;

use serde_json::json;

pub(crate) use self::job::{Job, Status};
use crate::client;
use crate::events::plain_name;
use crate::output::{self, Column, Format};
use crate::{EXIT_DONE, replay};

/// Arguments of `aofctl replays`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    aofctl replay --last 15m --flow prod --live --name incident-7\n  \
    aofctl replays list\n  \
    aofctl replays pause incident-7        # from another terminal; Ctrl-C does the same\n  \
    aofctl replays resume incident-7\n  \
    aofctl replays cancel incident-7")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List them, and how far they are
    #[command(after_help = "Examples:\n  aofctl replays list --output json")]
    List(List),
    /// Stop one after the message that is on its way
    #[command(after_help = "Examples:\n  aofctl replays pause incident-7")]
    Pause(One),
    /// Go on where it stopped, also after a crash
    #[command(after_help = "Examples:\n  aofctl replays resume incident-7")]
    Resume(Resume),
    /// Give it up; what came in again stays
    #[command(after_help = "Examples:\n  aofctl replays cancel incident-7")]
    Cancel(One),
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct One {
    /// Its name
    #[arg(value_name = "NAME", value_parser = plain_name)]
    name: String,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct Resume {
    #[command(flatten)]
    one: One,
    /// Times as fast as it was, from now on
    #[arg(long, value_name = "N", value_parser = replay::speed)]
    speed: Option<f64>,
}

const COLUMNS: [Column; 6] = [
    ("NAME", |j| output::text(&j["name"])),
    ("ACCOUNT", |j| output::text(&j["account"])),
    ("STATUS", |j| output::text(&j["status"])),
    ("DONE", |j| format!("{} of {}", j["done"], j["total"])),
    ("FROM", |j| output::text(&j["slice"]["from"])),
    ("TO", |j| output::text(&j["slice"]["to"])),
];

/// Runs the command.
///
/// # Errors
/// When the node cannot be reached, or there is no such replay.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    client::answer(match args.action {
        Action::List(args) => list(args.format),
        Action::Pause(args) => ask(&args, Status::Paused),
        Action::Cancel(args) => ask(&args, Status::Cancelled),
        Action::Resume(args) => replay::resume(&args.one.name, args.speed, args.one.format).await,
    })
}

fn list(format: Format) -> anyhow::Result<ExitCode> {
    let document = json!({ "replays": Job::all()? });
    output::list(format, &document, "replays", &COLUMNS, "no replays");
    Ok(ExitCode::from(EXIT_DONE))
}

fn ask(args: &One, status: Status) -> anyhow::Result<ExitCode> {
    let job = Job::read(&args.name)?;
    job.ask(status)?;
    if args.format.is_json() {
        output::json(&json!({ "name": job.name, "asked": status }));
    } else {
        output::line(format_args!(
            "{} is asked to stop; it was at {} of {}",
            job.name, job.done, job.total
        ));
    }
    Ok(ExitCode::from(EXIT_DONE))
}
