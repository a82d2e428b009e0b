//! `aofctl keys`: makes, lists and revokes API keys. A key is shown once.

use std::process::ExitCode;

use anyhow::Context;
use reqwest::Method;
use serde_json::{Value, json};

use crate::EXIT_DONE;
use crate::client::{self, Client, Connect};
use crate::output::{self, Column, Format};

/// Arguments of `aofctl keys`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    aofctl keys create --user U015VBH1GTZ --scope approve --scope read\n  \
    aofctl keys create --user ci --account org-a --scope chat --expires-in 30d\n  \
    aofctl keys list --output json\n  \
    aofctl keys revoke 3f1c9a\n\n\
    A key votes and chats as its --user: to let somebody approve, use the id that the\n\
    chain's approvers name. The key's text is shown once; only its hash is kept.")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a key and show it, once
    #[command(
        after_help = "Examples:\n  aofctl keys create --user U015VBH1GTZ --scope approve --scope read\n  aofctl keys create --user ci --scope chat --expires-in 30d"
    )]
    Create(Create),
    /// List an account's keys, without their secrets
    #[command(after_help = "Examples:\n  aofctl keys list --account org-a")]
    List(List),
    /// Refuse a key from now on
    #[command(after_help = "Examples:\n  aofctl keys revoke 3f1c9a0b12de")]
    Revoke(Revoke),
}

#[derive(Debug, clap::Args)]
struct Create {
    /// Who chats and votes with it
    #[arg(long, value_name = "USER")]
    user: String,
    /// What it may do; may be given more than once [default: chat, read]
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<Scope>,
    /// When it expires: a number with s, m, h or d (`30d`) [default: never]
    #[arg(long, value_name = "TIME", value_parser = parse_secs)]
    expires_in: Option<u64>,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Scope {
    /// Send messages and read their answers
    Chat,
    /// Read events, approvals and agents
    Read,
    /// Vote
    Approve,
    /// Make keys, retry dead letters
    Operate,
}

impl Scope {
    fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Read => "read",
            Self::Approve => "approve",
            Self::Operate => "operate",
        }
    }
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, clap::Args)]
struct Revoke {
    /// The key's id, from `aofctl keys list`
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    connect: Connect,
}

/// Runs the command.
///
/// # Errors
/// When the node cannot be reached.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    client::answer(match args.action {
        Action::Create(args) => create(args).await,
        Action::List(args) => list(args).await,
        Action::Revoke(args) => revoke(args).await,
    })
}

async fn create(args: Create) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.connect).await?;
    let mut body = json!({ "user": args.user });
    if !args.scopes.is_empty() {
        body["scopes"] = args.scopes.iter().map(|s| Value::from(s.name())).collect();
    }
    if let Some(secs) = args.expires_in {
        body["expires_in_secs"] = json!(secs);
    }
    let made = client.post("/keys", &body).await?;
    if args.format.is_json() {
        output::json(&made);
        return Ok(ExitCode::from(EXIT_DONE));
    }
    let key = made["key"].as_str().context("the node's answer holds no key")?;
    // The key alone on stdout, so that a script can take it.
    output::line(format_args!("{key}"));
    anstream::eprintln!(
        "key {} of {}: {}{}",
        output::text(&made["id"]),
        output::text(&made["user"]),
        output::text(&made["scopes"]),
        made["expires_at_ms"].as_u64().map_or_else(String::new, |at| {
            format!(", until {}", aof_shared::clock::rfc3339(at))
        })
    );
    anstream::eprintln!("This is the only time it is shown. Use it as AOF_API_KEY.");
    Ok(ExitCode::from(EXIT_DONE))
}

const COLUMNS: [Column; 6] = [
    ("ID", |k| output::text(&k["id"])),
    ("USER", |k| output::text(&k["user"])),
    ("SCOPES", |k| output::text(&k["scopes"])),
    ("CREATED", |k| output::time(&k["created_at_ms"])),
    ("EXPIRES", |k| output::time(&k["expires_at_ms"])),
    ("REVOKED", |k| output::time(&k["revoked_at_ms"])),
];

async fn list(args: List) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.connect).await?;
    let keys = client.get("/keys").await?;
    output::list(
        args.format,
        &keys,
        "keys",
        &COLUMNS,
        "no keys: make one with `aofctl keys create`",
    );
    Ok(ExitCode::from(EXIT_DONE))
}

async fn revoke(args: Revoke) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.connect).await?;
    client.json(client.of_account(Method::DELETE, &format!("/keys/{}", args.id))).await?;
    anstream::eprintln!("key {} is refused from now on", args.id);
    Ok(ExitCode::from(EXIT_DONE))
}

/// `90`, `90s`, `15m`, `12h`, `30d` in seconds.
fn parse_secs(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        other => return Err(format!("unknown unit `{other}`: use s, m, h or d")),
    };
    let number: u64 = digits.parse().map_err(|_| "write it as 90s, 15m, 12h or 30d".to_owned())?;
    number.checked_mul(unit).filter(|secs| *secs > 0).ok_or_else(|| "out of range".to_owned())
}

#[cfg(test)]
mod tests {
    use super::parse_secs;

    #[test]
    fn times_are_read_with_their_unit() {
        for (text, secs) in [("90", 90), ("90s", 90), ("15m", 900), ("12h", 43_200), ("1d", 86_400)]
        {
            assert_eq!(parse_secs(text), Ok(secs), "{text}");
        }
        for bad in ["", "s", "0", "-1d", "1w", "1.5h", "99999999999999999999d"] {
            assert!(parse_secs(bad).is_err(), "{bad}");
        }
    }
}
