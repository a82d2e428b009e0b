//! `aofctl events`: the journal live, from a durable cursor, and one message's causal tree.

use std::path::PathBuf;
use std::process::ExitCode;

use anstyle::Style;
use anyhow::Context;
use aof_shared::ids::Revision;
use serde_json::{Value, json};

use crate::about::About;
use crate::client::{self, Client, Connect};
use crate::journal::{self, Selection};
use crate::output::{self, Format, paint};
use crate::{EXIT_DONE, EXIT_NO, trace};

/// Arguments of `aofctl events`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    aofctl events tail --type 'approval.*' --type 'action.*'\n  \
    aofctl events tail -n 20 --output json | jq .data\n  \
    aofctl events tail --flow prod-k8s-flow --user U015SRE\n  \
    aofctl events follow --consumer billing --output json\n  \
    aofctl events trace 0b7d6c1e-…   (a message, run, action, event or trace id)")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show events as they happen
    #[command(
        after_help = "Examples:\n  aofctl events tail --type 'approval.*'\n  aofctl events tail -n 20 --output json | jq .data"
    )]
    Tail(Tail),
    /// Show every event once, from where this consumer left off
    #[command(after_help = "Examples:\n  aofctl events follow --consumer billing --output json")]
    Follow(Follow),
    /// Show what one message led to, as a tree with times
    #[command(after_help = "Examples:\n  aofctl events trace 0b7d6c1e-…")]
    Trace(Trace),
}

#[derive(Debug, clap::Args)]
struct Tail {
    /// Only these: a type, or a prefix as in `approval.*`; may be given more than once
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    #[command(flatten)]
    about: About,
    /// Start with the newest so many, up to 1000
    #[arg(short, value_name = "N")]
    n: Option<usize>,
    /// Stop after what is there now
    #[arg(long)]
    no_follow: bool,
    /// `json` writes one event a line
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, clap::Args)]
struct Follow {
    /// Names the cursor, which is kept in your state directory
    #[arg(long, value_name = "NAME", value_parser = plain_name)]
    consumer: String,
    /// Only these: a type, or a prefix as in `approval.*`; may be given more than once
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    #[command(flatten)]
    about: About,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, clap::Args)]
struct Trace {
    /// A message, or its run, action, event or trace
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    connect: Connect,
}

/// Runs the command.
///
/// # Errors
/// When the node cannot be reached, or the cursor cannot be kept.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    client::answer(match args.action {
        Action::Tail(args) => tail(args).await,
        Action::Follow(args) => follow(args).await,
        Action::Trace(args) => show_trace(args).await,
    })
}

async fn tail(args: Tail) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.connect).await?;
    let about = args.about.parameters();
    let selection = Selection { types: args.types, tail: args.n, about, ..Selection::default() };
    if args.no_follow {
        journal::history(&client, &selection, |event| print(args.format, &event)).await?;
        return Ok(ExitCode::from(EXIT_DONE));
    }
    let shown = journal::follow(&client, &selection, |event| {
        print(args.format, &event);
        Ok(())
    });
    until_interrupted(shown).await
}

async fn follow(args: Follow) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.connect).await?;
    let about = args.about.parameters();
    let cursor = Cursor::open(&client, &args.consumer, (&args.types, &about))?;
    let after = Some(cursor.read()?);
    let selection = Selection { types: args.types, after, about, ..Selection::default() };
    let shown = journal::follow(&client, &selection, |event| {
        print(args.format, &event);
        cursor.write(event["seq"].as_u64().unwrap_or_default())
    });
    until_interrupted(shown).await
}

/// Ctrl-C is how one leaves, and no failure.
async fn until_interrupted(
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<ExitCode> {
    tokio::select! {
        ended = work => ended?,
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(ExitCode::from(EXIT_DONE))
}

async fn show_trace(args: Trace) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.connect).await?;
    let events = story(&client, &args.id).await?;
    if events.is_empty() {
        anstream::eprintln!("no event of account {} names {}", client.account, args.id);
        return Ok(ExitCode::from(EXIT_NO));
    }
    let trees = trace::tree(&events);
    if args.format.is_json() {
        output::json(&json!({ "id": args.id, "events": trees }));
        return Ok(ExitCode::from(EXIT_DONE));
    }
    let first = &events[0];
    let [message, conversation, time] =
        ["message_id", "conversation", "time"].map(|field| output::text(&first[field]));
    output::line(format_args!("message {message} in {conversation}, {time}"));
    output::line(format_args!("{}", trace::draw(&trees)));
    Ok(ExitCode::from(EXIT_DONE))
}

/// Every event of the message that `id` names, in order.
async fn story(client: &Client, id: &str) -> anyhow::Result<Vec<Value>> {
    for name in ["message_id", "run_id"] {
        if id.parse::<uuid::Uuid>().is_err() {
            break;
        }
        let found = all_of(client, name, id).await?;
        match found.iter().find_map(|event| event["message_id"].as_str()) {
            Some(message) if message != id => return all_of(client, "message_id", message).await,
            Some(_) => return Ok(found),
            None => {}
        }
    }
    // An action, event or trace: the node does not look for these.
    let mut events = Vec::new();
    journal::history(client, &Selection::default(), |event| events.push(event)).await?;
    Ok(trace::of_message(events, id))
}

/// What the journal has of one message or run, also after its end.
async fn all_of(client: &Client, name: &'static str, id: &str) -> anyhow::Result<Vec<Value>> {
    let mut events: Vec<Value> = Vec::new();
    let mut after = None;
    loop {
        let of = Some((name, id.to_owned()));
        let selection = Selection { after, of, ..Selection::default() };
        let known = events.len();
        journal::history(client, &selection, |event| {
            if event["seq"].is_u64() {
                events.push(event);
            }
        })
        .await?;
        if events.len() == known {
            return Ok(events);
        }
        after = events.last().and_then(|event| event["seq"].as_u64());
    }
}

fn kind(event: &Value) -> &str {
    event["type"].as_str().unwrap_or_default()
}

fn print(format: Format, event: &Value) {
    if format.is_json() {
        output::line(format_args!("{event}"));
        return;
    }
    let seq = event["seq"].as_u64().unwrap_or_default();
    let time = paint(Style::new().dimmed(), &output::text(&event["time"]));
    let kind = paint(output::BOLD, &format!("{:<22}", kind(event)));
    output::line(format_args!("{seq:>8} {time} {kind} {}", trace::detail(event)));
}

/// Where a consumer left off, one file a node, account, name and choice of types.
struct Cursor {
    path: PathBuf,
}

impl Cursor {
    fn open(client: &Client, name: &str, choice: Choice<'_>) -> anyhow::Result<Self> {
        let server: String = client
            .server
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' })
            .collect();
        let dir = state_dir()?.join(server).join(client.account.as_str());
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self { path: dir.join(cursor_file(name, choice)) })
    }

    fn read(&self) -> anyhow::Result<u64> {
        match std::fs::read_to_string(&self.path) {
            Ok(text) => text.trim().parse().with_context(|| {
                format!("{} is no cursor: delete it to start over", self.path.display())
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error).with_context(|| format!("{}", self.path.display())),
        }
    }

    /// After the event was written: what is shown twice is better than not at all.
    fn write(&self, seq: u64) -> anyhow::Result<()> {
        let next = self.path.with_extension("next");
        std::fs::write(&next, format!("{seq}\n"))
            .and_then(|()| std::fs::rename(&next, &self.path))
            .with_context(|| format!("cannot keep the cursor in {}", self.path.display()))
    }
}

/// The types that a consumer shows, and what they must be about.
type Choice<'a> = (&'a [String], &'a [(&'static str, String)]);

/// Each choice has a place of its own: what one passed over, another still shows.
fn cursor_file(name: &str, (types, about): Choice<'_>) -> String {
    if types.is_empty() && about.is_empty() {
        return format!("{name}.seq");
    }
    let mut types = types.to_vec();
    types.extend(about.iter().map(|(field, value)| format!("{field}={value}")));
    types.sort_unstable();
    types.dedup();
    format!("{name}.{}.seq", Revision::of(types.join("\n").as_bytes()))
}

/// Where the command line keeps where it left off.
pub(crate) fn state_dir() -> anyhow::Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let dir = set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")));
    let dir = dir.context("neither XDG_STATE_HOME nor HOME is set, so no cursor can be kept")?;
    Ok(dir.join("aofctl"))
}

/// A name that is a file's.
pub(crate) fn plain_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !text.is_empty() && text.len() <= 64 && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    Err("use 1 to 64 letters, digits, `-` or `_`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_and_a_broken_one_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let cursor = Cursor { path: dir.path().join("billing.seq") };
        assert_eq!(cursor.read().expect("no cursor yet"), 0);
        cursor.write(41).expect("written");
        cursor.write(42).expect("written");
        assert_eq!(cursor.read().expect("readable"), 42);
        std::fs::write(&cursor.path, "x").expect("written");
        assert!(cursor.read().expect_err("broken").to_string().contains("billing.seq"));
    }

    #[test]
    fn each_choice_of_types_has_its_own_cursor() {
        let file = |types: &[&str]| {
            let types: Vec<String> = types.iter().map(ToString::to_string).collect();
            cursor_file("billing", (&types, &[]))
        };
        assert_eq!(file(&[]), "billing.seq");
        assert_eq!(file(&["run.*", "action.*"]), file(&["action.*", "run.*"]));
        assert_ne!(file(&["run.*"]), file(&["action.*"]));
        let of = |flow: &str| cursor_file("billing", (&[], &[("flow", flow.to_owned())]));
        assert!(of("prod") != of("dev") && of("prod") != "billing.seq");
    }

    #[test]
    fn consumer_names_stay_in_their_directory() {
        for bad in ["", "../x", "a/b", "a.b", "ä"] {
            assert!(plain_name(bad).is_err(), "{bad}");
        }
        assert!(plain_name("billing-2").is_ok());
    }
}
