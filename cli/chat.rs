//! `aofctl chat`: talks to a node from the terminal, through the whole pipeline.

use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;

use anstyle::Style;
use anyhow::Context;
use eventsource_stream::Eventsource;
use futures_util::StreamExt;
use reqwest::Method;
use reqwest::header::ACCEPT;
use serde_json::{Value, json};

use crate::client::{self, Client, Connect};
use crate::output::{self, WAITS, paint, visible};
use crate::{EXIT_COULD_NOT, EXIT_DONE, EXIT_NO};

/// Arguments of `aofctl chat`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    aofctl chat --channel ops 'uptime'\n  \
    aofctl chat --channel production 'kubectl get pods'\n  \
    aofctl chat --agent k8s-ops --user U015VBH1GTZ 'why is api-0 restarting?'\n  \
    aofctl chat                     (asks for one message a line, until Ctrl-D)\n\n\
    Exit codes: 0 answered, 1 refused, denied, expired or failed, 3 no answer.")]
pub struct Args {
    /// The channel it is written in, which flows may filter on
    #[arg(long, value_name = "CHANNEL")]
    channel: Option<String>,
    /// Who writes it; only the operator's key may name others
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// The agent to ask, instead of the flow's choice
    #[arg(long, value_name = "AGENT")]
    agent: Option<String>,
    /// What it belongs to: messages of one conversation share a memory [default: one a
    /// user and channel]
    #[arg(long, value_name = "ID")]
    conversation: Option<String>,
    /// The message; without it, one a line from standard input
    #[arg(value_name = "TEXT", trailing_var_arg = true)]
    text: Vec<String>,
    #[command(flatten)]
    connect: Connect,
}

/// Runs the command.
///
/// # Errors
/// When the node cannot be reached, or its answer breaks off.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.connect).await?;
    if !args.text.is_empty() {
        return client::answer(say(&client, &args, &args.text.join(" ")).await);
    }
    let prompt = std::io::stdin().is_terminal();
    let mut last = ExitCode::from(EXIT_DONE);
    while let Some(line) = next_line(prompt).await? {
        if !line.trim().is_empty() {
            last = client::answer(say(&client, &args, line.trim()).await)?;
        }
    }
    Ok(last)
}

async fn next_line(prompt: bool) -> anyhow::Result<Option<String>> {
    if prompt {
        anstream::eprint!("{} ", paint(output::BOLD, ">"));
    }
    let read = || std::io::stdin().lock().lines().next().transpose();
    let line = tokio::task::spawn_blocking(read).await?.context("standard input")?;
    if prompt && line.is_none() {
        anstream::eprintln!();
    }
    Ok(line)
}

/// Sends one message and shows what comes back, until it has ended.
async fn say(client: &Client, args: &Args, text: &str) -> anyhow::Result<ExitCode> {
    let path = match &args.agent {
        Some(agent) => format!("/agents/{agent}/chat"),
        None => "/chat".to_owned(),
    };
    let body = json!({
        "text": text,
        "channel": args.channel,
        "user": args.user,
        "conversation": args.conversation,
    });
    let accept = "text/event-stream, application/problem+json";
    let request = client.of_account(Method::POST, &path).header(ACCEPT, accept).json(&body);
    let mut events = client.send(request).await?.bytes_stream().eventsource();
    let mut screen = Screen::default();
    let mut message = String::new();
    while let Some(event) = events.next().await {
        let Ok(event) = event else { break };
        let data: Value =
            serde_json::from_str(&event.data).map_err(|error| client.garbled(error.to_string()))?;
        match event.event.as_str() {
            "accepted" => message = output::text(&data["message_id"]),
            "delta" => screen.put(&data),
            "step" => step(client, &mut screen, &data),
            "done" => {
                let trace = format!("aofctl events trace {message}{}", client.options());
                return Ok(done(&mut screen, &data, &trace));
            }
            _ => {}
        }
    }
    screen.end_line();
    let options = client.options();
    anyhow::bail!(
        "the answer broke off; the message goes on: \
         follow it with `aofctl events trace {message}{options}`"
    )
}

fn step(client: &Client, screen: &mut Screen, data: &Value) {
    screen.end_line();
    let said = visible(&output::text(&data["text"]));
    let Some(approval) = data["approval_id"].as_str() else {
        if !said.is_empty() && data["status"].as_str() != Some("held") {
            anstream::eprintln!("{}", paint(Style::new().dimmed(), &format!("· {said}")));
        }
        return;
    };
    let held = if said.is_empty() { format!("held: waits for approval {approval}") } else { said };
    anstream::eprintln!("{}", paint(WAITS, &held));
    let options = client.options();
    anstream::eprintln!("  look:    aofctl approvals show {approval}{options}");
    anstream::eprintln!("  approve: aofctl approvals approve {approval}{options}");
    anstream::eprintln!("  deny:    aofctl approvals deny {approval}{options}");
}

/// Shows the end, and says how it went by exit code; `trace` tells the story.
fn done(screen: &mut Screen, data: &Value, trace: &str) -> ExitCode {
    let answer = data["answer"].as_str().or(data["text"].as_str()).unwrap_or_default();
    screen.whole(answer);
    screen.end_line();
    let status = data["status"].as_str().unwrap_or("success");
    match status {
        "success" => ExitCode::from(EXIT_DONE),
        "accepted" | "held" => {
            anstream::eprintln!("not over yet: follow it with `{trace}`");
            ExitCode::from(EXIT_COULD_NOT)
        }
        _ => {
            anstream::eprintln!("{} ({trace})", output::status(status));
            ExitCode::from(EXIT_NO)
        }
    }
}

/// An answer as it grows on the terminal.
#[derive(Debug, Default)]
struct Screen {
    /// What the answer is so far.
    text: String,
    /// How much of it is printed, in bytes; `None` when something printed was wrong.
    printed: Option<usize>,
    /// The cursor is not at the start of a line.
    mid_line: bool,
}

impl Screen {
    /// Takes a `delta`: cut at `offset`, append.
    fn put(&mut self, data: &Value) {
        let offset = data["offset"].as_u64().and_then(|o| usize::try_from(o).ok());
        let offset = offset.unwrap_or(self.text.len());
        if offset > self.text.len() || !self.text.is_char_boundary(offset) {
            return; // a gap, which the end fills
        }
        if offset < self.printed.unwrap_or_default() {
            self.printed = None;
        } else if self.text.is_empty() {
            self.printed = Some(0);
        }
        self.text.truncate(offset);
        self.text.push_str(data["text"].as_str().unwrap_or_default());
        self.show();
    }

    /// Takes the whole answer, and prints what was missing, or all of it again.
    fn whole(&mut self, answer: &str) {
        let shown = self.printed.and_then(|n| self.text.get(..n));
        match shown {
            Some(shown) if answer.starts_with(shown) => {}
            None if self.text.is_empty() => self.printed = Some(0),
            _ => {
                self.end_line();
                self.printed = Some(0);
            }
        }
        answer.clone_into(&mut self.text);
        self.show();
    }

    fn show(&mut self) {
        let Some(more) = self.printed.and_then(|n| self.text.get(n..)) else { return };
        if more.is_empty() {
            return;
        }
        output::write(visible(more));
        self.mid_line = !more.ends_with('\n');
        self.printed = Some(self.text.len());
    }

    fn end_line(&mut self) {
        if self.mid_line {
            output::line("");
            self.mid_line = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(deltas: &[(usize, &str)], answer: &str, reprinted: bool) {
        let mut screen = Screen::default();
        for (offset, text) in deltas {
            screen.put(&json!({"offset": offset, "text": text}));
        }
        let wrong = screen.printed.is_none() && !deltas.is_empty();
        screen.whole(answer);
        assert_eq!((screen.text.as_str(), screen.printed), (answer, Some(answer.len())));
        assert_eq!(wrong, reprinted, "{deltas:?}");
    }

    #[test]
    fn the_whole_answer_is_on_the_screen_whatever_was_lost_or_repeated() {
        check(&[(0, "Hel"), (3, "lo")], "Hello", false);
        check(&[], "Hello", false);
        check(&[(0, "Hel"), (9, "x")], "Hello", false);
        check(&[(0, "Help"), (3, "lo")], "Hello", true);
        check(&[(0, "é"), (1, "x")], "éa", false);
    }
}
