//! `aofctl dead-letters`: what could not be done, and what to do with it.

use std::process::ExitCode;

use reqwest::Method;
use serde_json::{Value, json};

use crate::EXIT_DONE;
use crate::client::{self, Client, Connect};
use crate::output::{self, Column, Format};

/// Arguments of `aofctl dead-letters`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    aofctl dead-letters list\n  \
    aofctl dead-letters show 7\n  \
    aofctl dead-letters retry 7\n  \
    aofctl dead-letters abandon 7")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List what could not be done
    #[command(after_help = "Examples:\n  aofctl dead-letters list --output json")]
    List(List),
    /// Show one with its payload
    #[command(after_help = "Examples:\n  aofctl dead-letters show 7")]
    Show(One),
    /// Do it again, from the start
    #[command(after_help = "Examples:\n  aofctl dead-letters retry 7")]
    Retry(One),
    /// Take it off the list for good
    #[command(after_help = "Examples:\n  aofctl dead-letters abandon 7")]
    Abandon(One),
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, clap::Args)]
struct One {
    /// Its number, from `aofctl dead-letters list`
    #[arg(value_name = "SEQ", value_parser = number)]
    seq: u64,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    connect: Connect,
}

/// Runs the command.
///
/// # Errors
/// When the node cannot be reached.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    client::answer(match args.action {
        Action::List(args) => list(args).await,
        Action::Show(args) => show(args).await,
        Action::Retry(args) => retry(args).await,
        Action::Abandon(args) => abandon(args).await,
    })
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "use its number from `aofctl dead-letters list`".to_owned())
}

const COLUMNS: [Column; 6] = [
    ("SEQ", |d| output::text(&d["seq"])),
    ("AT", |d| output::time(&d["at_ms"])),
    ("ROLE", |d| output::text(&d["role"])),
    ("REASON", |d| output::text(&d["reason"])),
    ("TRIES", |d| output::text(&d["failures"])),
    ("DETAIL", |d| output::text(&d["detail"])),
];

async fn list(args: List) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.connect).await?;
    let letters = all(&client).await?;
    output::list(args.format, &letters, "dead_letters", &COLUMNS, "no dead letters");
    Ok(ExitCode::from(EXIT_DONE))
}

/// All pages as one document; bounded by what the node keeps.
async fn all(client: &Client) -> anyhow::Result<Value> {
    let mut letters = Vec::new();
    let mut after = Some(0);
    while let Some(seq) = after {
        let mut page = client.get(&format!("/dead-letters?after={seq}")).await?;
        if let Value::Array(more) = page["dead_letters"].take() {
            letters.extend(more);
        }
        after = page["next_after"].as_u64().filter(|next| *next > seq);
    }
    Ok(json!({ "dead_letters": letters }))
}

async fn show(args: One) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.connect).await?;
    let letter = client.get(&format!("/dead-letters/{}", args.seq)).await?;
    if args.format.is_json() {
        output::json(&letter);
        return Ok(ExitCode::from(EXIT_DONE));
    }
    let payload = output::text(&letter["payload"]);
    let payload = serde_json::from_str::<Value>(&payload).map_or(payload, |v| format!("{v:#}"));
    output::facts(&[
        ("number", output::text(&letter["seq"])),
        ("at", output::time(&letter["at_ms"])),
        ("role", output::text(&letter["role"])),
        ("reason", output::text(&letter["reason"])),
        ("detail", output::text(&letter["detail"])),
        ("tries", output::text(&letter["failures"])),
        ("subject", output::text(&letter["subject"])),
        ("message", output::text(&letter["message_id"])),
        ("run", output::text(&letter["run_id"])),
        ("payload", payload),
    ]);
    Ok(ExitCode::from(EXIT_DONE))
}

async fn retry(args: One) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.connect).await?;
    let answer = client.post(&format!("/dead-letters/{}/retry", args.seq), &json!({})).await?;
    if args.format.is_json() {
        output::json(&answer);
    } else if let Some(message) = answer["message_id"].as_str() {
        output::line(format_args!("dead letter {} goes again as message {message}", args.seq));
    } else {
        output::line(format_args!("dead letter {} was sent again as it was", args.seq));
    }
    Ok(ExitCode::from(EXIT_DONE))
}

async fn abandon(args: One) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.connect).await?;
    client.json(client.of_account(Method::DELETE, &format!("/dead-letters/{}", args.seq))).await?;
    if args.format.is_json() {
        output::json(&json!({ "abandoned": args.seq }));
    } else {
        output::line(format_args!("dead letter {} is abandoned", args.seq));
    }
    Ok(ExitCode::from(EXIT_DONE))
}
