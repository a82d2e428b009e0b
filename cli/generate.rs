//! `aofctl generate`: a first flow for an agent, to be edited by people.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use aof_shared::config::Agent;
use aof_shared::ids::{AgentName, FlowName};
use aof_shared::manifest::{Env, Severity, Sources, load};

use crate::{EXIT_DONE, EXIT_NO, EXIT_USAGE, findings, output};

/// Arguments of `aofctl generate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

/// What can be generated.
#[derive(Debug, clap::Subcommand)]
enum What {
    /// Write a flow that lets people reach an agent
    Flow(FlowArgs),
}

/// Arguments of `aofctl generate flow`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    aofctl generate flow --from-agent agents/k8s-ops.yaml --output flows/prod/k8s-flow.yaml\n  \
    aofctl generate flow --from-agent agents/k8s-ops.yaml --output flows/k8s.yaml \\\n    \
    --channel production --approver U015SRE --approver U016SRE")]
struct FlowArgs {
    /// The agent's manifest
    #[arg(long, value_name = "FILE")]
    from_agent: PathBuf,
    /// Where to write the flow; `-` for standard output
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Which agent, when the manifest has several
    #[arg(long, value_name = "NAME")]
    agent: Option<AgentName>,
    /// Where messages come from
    #[arg(long, value_name = "TYPE", default_value = "Slack", ignore_case = true,
          value_parser = ["Slack", "Telegram", "Discord", "WhatsApp", "Chat"])]
    platform: String,
    /// A channel to listen in; may be given again [default: all]
    #[arg(long, value_name = "CHANNEL")]
    channel: Vec<String>,
    /// A person who may approve destructive commands; may be given again
    #[arg(long, value_name = "ID")]
    approver: Vec<String>,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

/// Runs the command.
///
/// # Errors
/// When the agent has no manifest there, or the flow cannot be written.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let What::Flow(args) = args.what;
    let loaded =
        load(&Sources { paths: vec![args.from_agent.clone()], ..Sources::new(Env::process()) });
    let Some(snapshot) = loaded.snapshot else {
        let errors = loaded.findings.into_iter().filter(|f| f.severity == Severity::Error);
        findings::print(&errors.collect::<Vec<_>>());
        return Ok(ExitCode::from(EXIT_NO));
    };
    let mut agents: Vec<&Agent> = snapshot.agents.values().map(|agent| &**agent).collect();
    agents.sort_by_key(|agent| agent.source.line);
    agents.retain(|agent| args.agent.as_ref().is_none_or(|name| name == &agent.name));
    let agent = match agents.as_slice() {
        [agent] => agent,
        [] => bail!("{} defines no such agent", args.from_agent.display()),
        several => {
            let names: Vec<&str> = several.iter().map(|agent| agent.name.as_str()).collect();
            anstream::eprintln!(
                "error: {} defines several agents: choose one of {} with --agent",
                args.from_agent.display(),
                names.join(", ")
            );
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    let text = flow(&args, agent)?;
    if args.output == Path::new("-") {
        output::write(text);
        return Ok(ExitCode::from(EXIT_DONE));
    }
    if !write(&args, &text)? {
        anstream::eprintln!(
            "error: {} is there already; --force replaces it",
            args.output.display()
        );
        return Ok(ExitCode::from(EXIT_NO));
    }
    output::line(format_args!("wrote {}", args.output.display()));
    output::line("next: add filters, then `aofctl validate` it together with your DaemonConfig");
    Ok(ExitCode::from(EXIT_DONE))
}

/// Writes the file; `false` when it is there and may not be replaced.
fn write(args: &FlowArgs, text: &str) -> anyhow::Result<bool> {
    let cannot = || format!("cannot write {}", args.output.display());
    if let Some(folder) = args.output.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).with_context(cannot)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).create_new(!args.force);
    match options.open(&args.output) {
        Ok(mut file) => file.write_all(text.as_bytes()).with_context(cannot).map(|()| true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error).with_context(cannot),
    }
}

/// The flow in the style of 001.
fn flow(args: &FlowArgs, agent: &Agent) -> anyhow::Result<String> {
    let (name, environment) = name_of(&args.output, &agent.name);
    let name = FlowName::new(name)?;
    let mut text = String::new();
    if args.output != Path::new("-") {
        let _ = writeln!(text, "# {}", args.output.display());
    }
    text.push_str("apiVersion: aof.dev/v1\nkind: AgentFlow\nmetadata:\n");
    let _ = writeln!(text, "  name: {name}");
    if let Some(environment) = environment {
        let _ = writeln!(text, "  labels:\n    environment: {environment}");
    }
    let _ = writeln!(text, "spec:\n  trigger:\n    type: {}\n    config:", args.platform);
    if args.platform.eq_ignore_ascii_case("slack") {
        text.push_str("      events: [app_mention, message]\n");
    }
    match args.channel.as_slice() {
        [] => text.push_str("      # channels: [production]  # only these; now it is all\n"),
        some => drop(writeln!(text, "      channels: [{}]", list(some))),
    }
    if args.platform.eq_ignore_ascii_case("chat") {
        text.push_str("      # reached with `aofctl chat` and API keys: needs no credentials\n\n");
    } else {
        text.push_str("      # credentials come from `spec.platforms` of the DaemonConfig\n\n");
    }
    let _ = writeln!(text, "  agents:\n    - name: {}\n", agent.name);
    match args.approver.as_slice() {
        [] => text.push_str(
            "  # Destructive commands are refused until someone may approve them:\n  \
             # approval:\n  #   allowed_users: [U015VBH1GTZ]\n",
        ),
        some => drop(writeln!(text, "  approval:\n    allowed_users: [{}]", list(some))),
    }
    Ok(text)
}

/// `flows/prod/k8s-flow.yaml` makes `prod-k8s-flow` in production: 001, *Naming
/// Conventions*.
fn name_of(output: &Path, agent: &AgentName) -> (String, Option<&'static str>) {
    let text = |part: Option<&std::ffi::OsStr>| {
        let part = part.unwrap_or_default().to_string_lossy().into_owned();
        part.replace(|c: char| !c.is_ascii_alphanumeric() && c != '_', "-")
    };
    let folder = text(output.parent().and_then(Path::file_name));
    let stem = text(output.file_stem());
    let stem = if stem.trim_matches('-').is_empty() { agent.to_string() } else { stem };
    let environment = match folder.split('-').next().unwrap_or_default() {
        "prod" | "production" => Some("production"),
        "staging" | "stage" => Some("staging"),
        "dev" | "development" => Some("development"),
        _ => None,
    };
    let front = environment.is_some() && !stem.starts_with(&folder);
    (if front { format!("{folder}-{stem}") } else { stem }, environment)
}

/// Texts as a YAML list between brackets.
fn list(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|t| serde_json::json!(t).to_string()).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    const AGENT: &str = "apiVersion: aof.dev/v1\nkind: Agent\nmetadata: {name: k8s-ops}\n\
                         spec: {model: 'echo:repeat', tools: [kubectl]}\n";

    async fn generate(dir: &Path, output: &str, more: &[&str]) -> ExitCode {
        std::fs::write(dir.join("agent.yaml"), AGENT).expect("written");
        let (agent, output) = (dir.join("agent.yaml"), dir.join(output));
        let mut line = vec!["aofctl".to_owned(), "flow".to_owned()];
        for (key, path) in [("--from-agent", &agent), ("--output", &output)] {
            line.extend([key.to_owned(), path.display().to_string()]);
        }
        line.extend(more.iter().map(ToString::to_string));
        let cli = <Cli as clap::Parser>::parse_from(line);
        run(cli.args).await.expect("it can")
    }

    #[tokio::test]
    async fn a_generated_flow_loads_for_its_agent() {
        for more in [
            &[][..],
            &["--channel", "#prod \"x\"", "--approver", "U015SRE01"],
            &["--platform", "telegram"],
            &["--platform", "chat", "--approver", "alice"],
        ] {
            let dir = tempfile::tempdir().expect("a folder");
            let code = generate(dir.path(), "flows/prod/k8s-flow.yaml", more).await;
            assert_eq!(code, ExitCode::SUCCESS);
            let paths = vec![dir.path().to_owned()];
            let loaded = load(&Sources { paths, ..Sources::new(Env::new(|_| None)) });
            let codes: Vec<_> = loaded.findings.iter().map(|f| f.code).collect();
            let known = ["no-credentials", "unguarded-tools"];
            assert!(codes.iter().all(|code| known.contains(code)), "{:?}", loaded.findings);
            let snapshot = loaded.snapshot.expect("it loads");
            assert_eq!(snapshot.flows[0].name.as_str(), "prod-k8s-flow");
            assert_eq!(snapshot.flows[0].labels["environment"], "production");
            assert_eq!(snapshot.flows[0].agents[0].name.as_str(), "k8s-ops");
        }
    }

    #[tokio::test]
    async fn standard_output_is_no_file_and_chat_needs_no_credentials() {
        let cli = <Cli as clap::Parser>::parse_from([
            "aofctl",
            "flow",
            "--from-agent",
            "a.yaml",
            "--output",
            "-",
            "--platform",
            "chat",
        ]);
        let What::Flow(args) = cli.args.what;
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("a.yaml"), AGENT).expect("written");
        let paths = vec![dir.path().to_owned()];
        let loaded = load(&Sources { paths, ..Sources::new(Env::new(|_| None)) });
        let snapshot = loaded.snapshot.expect("it loads");
        let agent = snapshot.agents.values().next().expect("one agent");
        let text = flow(&args, agent).expect("a flow");
        assert!(text.starts_with("apiVersion:") && text.contains("name: k8s-ops"), "{text}");
        assert!(!text.contains("spec.platforms"), "{text}");
    }

    #[tokio::test]
    async fn an_existing_file_is_replaced_by_force_only() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("flow.yaml"), "mine").expect("written");
        let code = generate(dir.path(), "flow.yaml", &[]).await;
        assert_eq!(code, ExitCode::from(EXIT_NO));
        let text = || std::fs::read_to_string(dir.path().join("flow.yaml")).expect("readable");
        assert_eq!(text(), "mine");
        assert_eq!(generate(dir.path(), "flow.yaml", &["--force"]).await, ExitCode::SUCCESS);
        assert!(text().contains("kind: AgentFlow"));
    }
}
