//! `aofctl explain`: why a message goes where it goes, without sending it.

mod recorded;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use aof_router::channel::Naming;
use aof_router::explain::{Explanation, FlowReport, explain, naming_of};
use aof_router::score::Request;
use aof_router::table::Table;
use aof_shared::config::{Instance, Snapshot};
use aof_shared::ids::{AgentName, InstanceName, MessageId, PlatformName, TenantId};
use aof_shared::manifest::{Env, Severity, Sources, load, platform_names};
use aof_shared::message::{Channel, Message, MessageKind, User};
use comfy_table::{ContentArrangement, presets};

use self::recorded::Recorded;
use crate::output::Format;
use crate::{EXIT_DONE, EXIT_NO, client, findings};

/// Arguments of `aofctl explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    aofctl explain --platform slack --channel production --user U015SRE --text 'scale deploy'\n  \
    aofctl explain --channel C024BE91L --text 'outage' --flows-dir ./flows --output json\n  \
    aofctl explain --event 5b1d9c6e-0f4a-5c1e-9d57-a0f10c1d57e4 --text 'what they wrote'\n\n\
    A channel is given by id or by name; a name stands for a channel that is known to have it.\n\
    Exit code 1: no flow or agent would work on the message.")]
pub struct Args {
    /// The platform it comes from [default: slack]
    #[arg(long, value_name = "PLATFORM", value_parser = known_platform)]
    platform: Option<PlatformName>,
    /// The channel: an id, `name` or `#name` [default: a direct conversation]
    #[arg(long, value_name = "CHANNEL")]
    channel: Option<String>,
    /// The platform id of who writes
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// What they write
    #[arg(long, value_name = "TEXT", required_unless_present = "event")]
    text: Option<String>,
    /// What kind of message it is [default: mention]
    #[arg(long, value_name = "KIND")]
    kind: Option<Kind>,
    /// The account that the message comes in through [default: the one with the best score]
    #[arg(long, value_name = "NAME")]
    instance: Option<InstanceName>,
    /// The agent that the sender asks for by name
    #[arg(long, value_name = "NAME")]
    agent: Option<AgentName>,
    /// Whose flows to look at
    #[arg(long, value_name = "TENANT", default_value = "default")]
    tenant: TenantId,
    /// The DaemonConfig, with its folders
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where flows are, instead of the config's `flows.directory` [default: flows, if there]
    #[arg(long, value_name = "DIR")]
    flows_dir: Option<PathBuf>,
    /// Where agents are, instead of the config's `agents.directory` [default: agents, if there]
    #[arg(long, value_name = "DIR")]
    agents_dir: Option<PathBuf>,
    /// Take a message from a node's journal, by the id of it, its run or an event; options
    /// beside it go before what the journal says, which never holds the text
    #[arg(long, value_name = "ID")]
    event: Option<String>,
    /// The node whose journal to read
    #[arg(long, value_name = "URL", env = "AOF_SERVER", default_value = "http://127.0.0.1:8080")]
    server: String,
    #[command(flatten)]
    format: Format,
}

/// A platform that manifests know.
fn known_platform(text: &str) -> Result<PlatformName, String> {
    let known = platform_names();
    if !known.contains(&text) {
        return Err(format!("unknown platform; known: {}", known.join(", ")));
    }
    PlatformName::new(text).map_err(|error| error.to_string())
}

/// A kind of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// The bot is mentioned
    Mention,
    /// Any other message in a channel
    Message,
    /// A slash command
    Command,
    /// An alert
    Alert,
}

impl From<Kind> for MessageKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Mention => Self::Mention,
            Kind::Message => Self::Message,
            Kind::Command => Self::Command,
            Kind::Alert => Self::Alert,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When the manifests cannot be loaded or the node does not answer.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    client::answer(explained(args).await)
}

async fn explained(args: Args) -> anyhow::Result<ExitCode> {
    let recorded = match &args.event {
        Some(id) => recorded::read(&args.server, &args.tenant, id).await?,
        None => Recorded::default(),
    };
    if args.text.is_none() {
        anstream::eprintln!("note: the journal holds no texts; add --text to check patterns");
    }
    let known = args.instance.clone().or(recorded.instance.clone());
    let agent = args.agent.clone().or(recorded.agent.clone());
    let (mut message, name) = hypothetical(&args, &recorded);
    let Some(snapshot) = manifests(&args) else { return Ok(ExitCode::from(EXIT_NO)) };
    if snapshot.flows.is_empty() {
        anstream::eprintln!("note: no flows were read; name them with --config or --flows-dir");
    }
    let snapshot = Arc::new(snapshot);
    let table = Table::build(snapshot.clone(), None);
    let naming = match &name {
        Some(name) => Naming::Named(name),
        None if message.channel.direct => Naming::Nameless,
        None => Naming::Unresolved,
    };
    if let Some(instance) = known.or_else(|| likeliest(&snapshot, &table, &message, naming)) {
        message.instance = instance;
    }
    let request = Request::new(&message, naming).pinned_to(agent.as_ref());
    let told = explain(&table, &request);
    if args.format.is_json() {
        anstream::println!("{}", serde_json::to_string_pretty(&told)?);
    } else {
        anstream::println!("{}", as_table(&told, &table, &message.tenant));
        if let Some(outcome) = &recorded.outcome {
            anstream::println!("the journal says: {outcome}");
        }
    }
    let code = if told.selected.is_some() { EXIT_DONE } else { EXIT_NO };
    Ok(ExitCode::from(code))
}

/// Loads the manifests; what is wrong with them goes to standard error.
fn manifests(args: &Args) -> Option<Snapshot> {
    let usual = |given: &Option<PathBuf>, usual: &str| {
        let here = Some(PathBuf::from(usual)).filter(|p| args.config.is_none() && p.is_dir());
        given.clone().or(here)
    };
    let mut sources = Sources::new(Env::process());
    sources.config.clone_from(&args.config);
    sources.flows_dir = usual(&args.flows_dir, "flows");
    sources.agents_dir = usual(&args.agents_dir, "agents");
    let loaded = load(&sources);
    let errors = loaded.findings.iter().filter(|f| f.severity == Severity::Error);
    findings::print(&errors.cloned().collect::<Vec<_>>());
    if loaded.snapshot.is_none() {
        anstream::eprintln!("error: the manifests are not valid; see `aofctl validate`");
    }
    loaded.snapshot
}

/// The message to explain, and its channel's name if that is known.
fn hypothetical(args: &Args, recorded: &Recorded) -> (Message, Option<String>) {
    let tenant = args.tenant.clone();
    let platform = args.platform.clone().or(recorded.platform.clone());
    let platform = platform.unwrap_or_else(PlatformName::slack);
    let (id, name) = match args.channel.as_deref().map(naming_of) {
        Some((id, Naming::Named(name))) => (id.to_owned(), Some(name.to_owned())),
        Some((id, _)) => (id.to_owned(), None),
        None => (recorded.channel.clone().unwrap_or_default(), recorded.channel_name.clone()),
    };
    let instance = InstanceName::new("default").expect("a plain word");
    let text = args.text.clone().unwrap_or_default();
    let kind = args.kind.map(Into::into).or(recorded.kind);
    let derived = MessageId::derive(&tenant, &platform, &instance, &text);
    let message = Message {
        id: recorded.id.unwrap_or(derived),
        tenant,
        instance,
        platform,
        kind: kind.unwrap_or(MessageKind::Mention),
        channel: Channel { direct: id.is_empty(), id, name: None },
        thread: None,
        reply_to: None,
        user: User::new(args.user.clone().or(recorded.user.clone()).unwrap_or_default()),
        text,
        media: Vec::new(),
        event_id: String::new(),
        conversation: String::new(),
        sent_at_ms: 0,
        received_at_ms: 0,
        raw: String::new(),
    };
    (message, name)
}

/// The tenant's account through which the message would score highest; the first such.
fn likeliest(
    snapshot: &Snapshot,
    table: &Table,
    message: &Message,
    naming: Naming<'_>,
) -> Option<InstanceName> {
    let own = |i: &&Arc<Instance>| i.tenant == message.tenant && i.platform == message.platform;
    let score = |instance: &Arc<Instance>| {
        let message = Message { instance: instance.name.clone(), ..message.clone() };
        let found = table.candidates(&Request::new(&message, naming));
        found.first().map_or(0, |best| best.score)
    };
    let best = snapshot.instances.iter().filter(own).rev().max_by_key(|i| score(i));
    best.map(|instance| instance.name.clone())
}

fn as_table(told: &Explanation, table: &Table, tenant: &TenantId) -> String {
    let mut rows = comfy_table::Table::new();
    rows.load_style(presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(["FLOW", "SCORE", "FILTERS", "VERDICT"]);
    for flow in &told.flows {
        rows.add_row([&flow.flow, &flow.score.to_string(), &filters(flow), &flow.verdict]);
    }
    let mut text = match &told.selected {
        Some(selected) => format!("{} → {}: {}", selected.flow, selected.agent, told.reason),
        None => format!("{}: {}", told.outcome, told.reason),
    };
    if !told.flows.is_empty() {
        text = format!("{rows}\n{text}");
    }
    let mut others: Vec<&str> =
        table.tenants().filter(|t| *t != tenant).map(TenantId::as_str).collect();
    others.sort_unstable();
    if !others.is_empty() {
        text.push_str(&format!(
            "\nonly flows of `{tenant}` can match; --tenant for those of {}",
            others.join(", ")
        ));
    }
    text
}

/// `✓` matched, `✗` failed, `?` unresolved; what is not set is left out.
fn filters(flow: &FlowReport) -> String {
    let set = flow.filters.iter().filter(|f| f.result != "unset");
    let lines: Vec<String> = set
        .map(|f| {
            let mark = match f.result {
                "matched" => "✓",
                "unresolved" => "?",
                _ => "✗",
            };
            let weight = if f.weight > 0 { format!(" +{}", f.weight) } else { String::new() };
            format!("{mark} {}{weight}: {}", f.filter, f.wants)
        })
        .collect();
    if lines.is_empty() { "none set".to_owned() } else { lines.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_platform_is_named_with_those_that_are_known() {
        assert!(known_platform("slack").is_ok());
        let error = known_platform("foo").expect_err("nobody knows it");
        assert!(error.contains("unknown platform") && error.contains("telegram"), "{error}");
    }
}
