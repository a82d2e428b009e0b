//! `aofctl approvals`: what waits for people, and their votes, as the key's identity.

use std::process::ExitCode;

use aof_approver::explain::{self, Case, Explanation};
use aof_shared::action::{ApprovalStatus, Identity, Quorum, RecordedVote, SelfApproval};
use aof_shared::clock::UnixMs;
use aof_shared::ids::ActionId;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::{self, Client, Connect};
use crate::output::{self, Column, Format};
use crate::{EXIT_COULD_NOT, EXIT_DONE};

/// Arguments of `aofctl approvals`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    aofctl approvals list --status pending\n  \
    aofctl approvals show 6f0c2f2e-…\n  \
    aofctl approvals explain 6f0c2f2e-…\n  \
    aofctl approvals approve 6f0c2f2e-… --reason 'agreed in the stand-up'\n  \
    aofctl approvals deny 6f0c2f2e-… --account org-a")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List approvals, newest first
    #[command(
        after_help = "Examples:\n  aofctl approvals list --status pending\n  aofctl approvals list --output json"
    )]
    List(List),
    /// Show what exactly would run, and who has voted
    #[command(after_help = "Examples:\n  aofctl approvals show 6f0c2f2e-…")]
    Show(One),
    /// Vote for it
    #[command(
        after_help = "Examples:\n  aofctl approvals approve 6f0c2f2e-… --reason 'agreed in the stand-up'"
    )]
    Approve(Vote),
    /// Vote against it; one listed person is enough
    #[command(
        after_help = "Examples:\n  aofctl approvals deny 6f0c2f2e-… --reason 'wrong cluster'"
    )]
    Deny(Vote),
    /// Take your vote back
    #[command(after_help = "Examples:\n  aofctl approvals withdraw 6f0c2f2e-…")]
    Withdraw(Vote),
    /// Say who is still needed
    #[command(after_help = "Examples:\n  aofctl approvals explain 6f0c2f2e-…")]
    Explain(One),
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only these
    #[arg(long, value_name = "STATUS")]
    status: Option<Status>,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Status {
    Pending,
    Approved,
    Denied,
    Expired,
    Started,
    Executed,
    Failed,
    Uncertain,
}

#[derive(Debug, clap::Args)]
struct One {
    /// The approval's id
    #[arg(value_name = "ID", value_parser = approval_id)]
    id: ActionId,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, clap::Args)]
struct Vote {
    #[command(flatten)]
    one: One,
    /// Why, for the journal and everyone who looks
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// When the node cannot be reached.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    client::answer(match args.action {
        Action::List(args) => list(args).await,
        Action::Show(args) => show(args).await,
        Action::Approve(args) => vote(args, "approve").await,
        Action::Deny(args) => vote(args, "deny").await,
        Action::Withdraw(args) => vote(args, "withdraw").await,
        Action::Explain(args) => explain(args).await,
    })
}

fn approval_id(text: &str) -> Result<ActionId, String> {
    text.parse().map_err(|_| "copy the id from `aofctl approvals list`".to_owned())
}

const COLUMNS: [Column; 6] = [
    ("ID", |a| output::text(&a["id"])),
    ("STATUS", |a| output::text(&a["status"])),
    ("FLOW", |a| output::text(&a["flow"])),
    ("ASKED BY", |a| output::identity(&a["requester"])),
    ("EXPIRES", |a| output::time(&a["expires_at_ms"])),
    ("COMMAND", |a| output::shell_words(&a["argv"])),
];

async fn list(args: List) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.connect).await?;
    let query = args.status.and_then(|s| clap::ValueEnum::to_possible_value(&s));
    let query = query.map_or_else(String::new, |s| format!("?status={}", s.get_name()));
    let approvals = client.get(&format!("/approvals{query}")).await?;
    output::list(args.format, &approvals, "approvals", &COLUMNS, "no approvals");
    Ok(ExitCode::from(EXIT_DONE))
}

async fn show(args: One) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.connect).await?;
    let approval = client.get(&format!("/approvals/{}", args.id)).await?;
    if args.format.is_json() {
        output::json(&approval);
        return Ok(ExitCode::from(EXIT_DONE));
    }
    let votes = approval["votes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let votes: Vec<String> = votes.iter().map(vote_line).collect();
    let summary = read_case(&client, &approval).map(|case| case.explain().summary);
    output::facts(&[
        ("id", output::text(&approval["id"])),
        ("status", output::status(&output::text(&approval["status"]))),
        ("command", output::shell_words(&approval["argv"])),
        ("target", output::visible(&output::text(&approval["target"]))),
        ("directory", output::visible(&output::text(&approval["directory"]))),
        ("environment", output::text(&approval["environment"])),
        ("asked by", output::identity(&approval["requester"])),
        ("flow", output::text(&approval["flow"])),
        ("agent", output::text(&approval["agent"])),
        ("rule", output::visible(&output::text(&approval["rule"]))),
        ("chain", output::text(&approval["chain"])),
        ("approvers", output::text(&approval["approvers"])),
        ("votes", votes.join("\n")),
        ("stands", summary.unwrap_or_default()),
        ("expires", output::time(&approval["expires_at_ms"])),
        ("digest", output::text(&approval["digest"])),
        ("outcome", output::visible(&output::text(&approval["outcome"]))),
    ]);
    Ok(ExitCode::from(EXIT_DONE))
}

fn vote_line(vote: &Value) -> String {
    let reason = output::visible(&output::text(&vote["reason"])).replace('\n', " ");
    let reason = if reason.is_empty() { reason } else { format!(": {reason}") };
    format!(
        "{} {} {}{reason}",
        output::identity(&vote["voter"]),
        output::text(&vote["choice"]),
        output::time(&vote["cast_at_ms"]),
    )
}

async fn vote(args: Vote, choice: &str) -> anyhow::Result<ExitCode> {
    let Vote { one, reason } = args;
    let client = Client::new(&one.connect).await?;
    let mut body = json!({ "vote": choice });
    if let Some(reason) = reason {
        body["reason"] = json!(reason);
    }
    let answer = client.post(&format!("/approvals/{}/votes", one.id), &body).await?;
    if one.format.is_json() {
        output::json(&answer);
    }
    let cast = answer["result"].as_str() == Some("cast");
    if cast {
        anstream::eprintln!("cast, but the approver has not answered yet: look again with `show`");
    } else if !one.format.is_json() {
        let summary = read_case(&client, &answer["approval"]).map(|case| case.explain().summary);
        let status = output::text(&answer["approval"]["status"]);
        let summary = summary.unwrap_or_default();
        let result = output::text(&answer["result"]);
        match summary.strip_prefix(&status) {
            Some(rest) => {
                output::line(format_args!("{result}; {}{rest}", output::status(&status)));
            }
            None => {
                output::line(format_args!("{result}; {}: {summary}", output::status(&status)));
            }
        }
    }
    Ok(ExitCode::from(if cast { EXIT_COULD_NOT } else { EXIT_DONE }))
}

async fn explain(args: One) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.connect).await?;
    let approval = client.get(&format!("/approvals/{}", args.id)).await?;
    let found = read_case(&client, &approval)?.explain();
    if args.format.is_json() {
        output::json(&serde_json::to_value(&found)?);
        return Ok(ExitCode::from(EXIT_DONE));
    }
    let names = |who: &[Identity]| {
        let names: Vec<String> = who.iter().map(|i| format!("{}:{}", i.platform, i.user)).collect();
        names.join(" ")
    };
    let uncounted = found.not_counted.iter();
    let uncounted = uncounted.map(|u| format!("{}: {}", u.who.user, u.why.reason()));
    output::line(format_args!("{}", found.summary));
    output::facts(&[
        ("status", output::status(found.status.as_str())),
        ("approved", names(&found.approved)),
        ("denied", names(&found.denied)),
        ("any of", found.waiting_for.join(" ")),
        ("not counted", uncounted.collect::<Vec<_>>().join("\n")),
        ("expires", aof_shared::clock::rfc3339(found.expires_at_ms)),
    ]);
    Ok(ExitCode::from(EXIT_DONE))
}

/// The fields of an approval that say how it stands.
#[derive(Debug, Deserialize)]
struct Standing {
    id: ActionId,
    status: ApprovalStatus,
    requester: Identity,
    chain: String,
    approvers: Vec<String>,
    require: u32,
    #[serde(default)]
    self_approval: SelfApproval,
    #[serde(default)]
    votes: Vec<RecordedVote>,
    expires_at_ms: UnixMs,
}

impl Standing {
    fn explain(self) -> Explanation {
        let quorum = Quorum {
            chain: self.chain,
            approvers: self.approvers,
            require: self.require,
            self_approval: self.self_approval,
        };
        explain::explain_case(&Case {
            id: self.id,
            status: self.status,
            requester: &self.requester,
            quorum: &quorum,
            votes: &self.votes,
            expires_at_ms: self.expires_at_ms,
        })
    }
}

fn read_case(client: &Client, approval: &Value) -> anyhow::Result<Standing> {
    Ok(Standing::deserialize(approval)
        .map_err(|error| client.garbled(format!("an approval: {error}")))?)
}
