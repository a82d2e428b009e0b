//! `aofctl status`: the node now, the others of its cluster, and what waits.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use crate::client::{self, Client, Connect};
use crate::output::{self, BAD, Column, Format, GOOD, WAITS, paint};
use crate::{EXIT_DONE, EXIT_NO};

/// Arguments of `aofctl status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    aofctl status\n  \
    aofctl status --watch 2\n  \
    aofctl status --server https://aof.example.org --output json\n\n\
    Needs the operator's key. Exit codes: 0 ready, 1 some part cannot work, 3 no answer.")]
pub struct Args {
    /// Show it again every so many seconds, until Ctrl-C
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = clap::value_parser!(u64).range(1..=3600))]
    watch: Option<u64>,
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
    let Some(every) = args.watch else { return client::answer(show(&args).await) };
    loop {
        if !args.format.is_json() && std::io::stdout().is_terminal() {
            output::write(CLEAR);
        }
        // A node that is away for a while is what one wants to see come back.
        if let Err(error) = client::answer(show(&args).await) {
            anstream::eprintln!("error: {error:#}");
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(every)) => {}
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                return Ok(ExitCode::from(EXIT_DONE));
            }
        }
    }
}

/// Clears a terminal and goes to its upper left corner.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

const NODES: [Column; 6] = [
    ("NODE", |n| output::text(&n["id"])),
    ("ROLES", |n| roles(&n["roles"])),
    ("VERSION", |n| output::text(&n["version"])),
    ("REVISION", |n| output::text(&n["revision"])),
    ("ADDRESS", |n| output::text(&n["address"])),
    ("CLOCK", |n| format!("{:+} ms", n["clock_ahead_ms"].as_i64().unwrap_or_default())),
];

fn roles(roles: &Value) -> String {
    let roles = roles.as_array().map(Vec::as_slice).unwrap_or_default();
    roles.iter().map(output::text).collect::<Vec<_>>().join(", ")
}

const QUEUES: [Column; 4] = [
    ("STREAM", |q| output::text(&q["stream"])),
    ("WAITING", |q| output::text(&q["pending"])),
    ("OLDEST", |q| q["oldest_age_ms"].as_u64().map(output::duration).unwrap_or_default()),
    ("ACCOUNTS", |q| tenants(&q["tenants"])),
];

fn tenants(tenants: &Value) -> String {
    let tenants = tenants.as_array().map(Vec::as_slice).unwrap_or_default();
    let named = |t: &Value| format!("{}: {}", output::text(&t["tenant"]), t["pending"]);
    tenants.iter().map(named).collect::<Vec<_>>().join(", ")
}

async fn show(args: &Args) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.connect).await?;
    let status = client.json(client.request(Method::GET, "/status")).await?;
    let ready = status["ready"].as_bool().unwrap_or_default();
    let code = ExitCode::from(if ready { EXIT_DONE } else { EXIT_NO });
    if args.format.is_json() {
        output::json(&status);
        return Ok(code);
    }
    let parts = status["parts"].as_object().into_iter().flatten();
    let parts: Vec<String> = parts
        .map(|(part, why)| match why.as_str() {
            None => format!("{part} {}", paint(GOOD, "works")),
            Some(why) => format!("{part} {}", paint(BAD, why)),
        })
        .collect();
    output::facts(&[
        ("node", client.server.clone()),
        ("version", output::text(&status["version"])),
        ("ready", if ready { paint(GOOD, "yes") } else { paint(BAD, "no") }),
        ("parts", parts.join("\n")),
        ("durability", output::text(&status["durability"])),
        ("revision", output::text(&status["revision"])),
        ("flows", output::text(&status["flows"])),
        ("agents", output::text(&status["agents"])),
        ("instances", output::text(&status["instances"])),
    ]);
    for (part, warning) in status["warnings"].as_object().into_iter().flatten() {
        let warning = output::text(warning);
        output::line(format_args!("{}  {part}: {warning}", paint(WAITS, "warning")));
    }
    if status["nodes"].as_array().is_some_and(|nodes| !nodes.is_empty()) {
        output::line("");
        output::list(args.format, &status, "nodes", &NODES, "no other node");
    }
    output::line("");
    output::list(args.format, &status, "queues", &QUEUES, "nothing waits");
    Ok(code)
}
