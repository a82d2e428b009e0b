//! `aofctl doctor`: what is set up unsafely or does not work, and how to mend it.

use std::path::Path;
use std::process::ExitCode;

use aof_shared::clock::{Clock, SystemClock};
use reqwest::Method;
use serde::Serialize;
use serde_json::{Value, json};

use crate::client::{ADMIN_KEY_FILE, Client, ClientError, Connect, KeySource, data_dir};
use crate::output::{self, BAD, Format, GOOD, WAITS, paint};
use crate::{EXIT_COULD_NOT, EXIT_DONE, EXIT_NO};

/// How far this clock and the node's may differ, in ms. Platforms refuse signatures that
/// are 300 s off; a tenth of that is no accident.
const MAX_SKEW_MS: u64 = 30_000;
/// Work that has waited longer than this is worth a look, in ms.
const MAX_WAIT_MS: u64 = 60_000;

/// Arguments of `aofctl doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    aofctl doctor\n  \
    aofctl doctor --server https://aof.example.org --output json\n\n\
    Exit codes: 0 nothing is wrong (there may be warnings), 1 something is, 3 no answer.")]
pub struct Args {
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    connect: Connect,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Ok,
    Warning,
    Wrong,
    Skipped,
}

/// One check, what it found, and what to do.
#[derive(Debug, Clone, Serialize)]
struct Check {
    name: &'static str,
    outcome: Outcome,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'static str>,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Ok, detail: detail.into(), next: None }
    }

    fn of(
        name: &'static str,
        outcome: Outcome,
        detail: impl Into<String>,
        next: &'static str,
    ) -> Self {
        Self { name, outcome, detail: detail.into(), next: Some(next) }
    }
}

/// Runs the command.
///
/// # Errors
/// When the key file cannot be read.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.connect).await?;
    let mut checks = vec![transport(&client), key(&client), files(&data_dir())];
    let reached = match client.send(client.request(Method::GET, "/livez")).await {
        Ok(response) => {
            checks.push(Check::ok("server", format!("{} answers", client.server)));
            let date = response.headers().get("date").and_then(|v| v.to_str().ok());
            checks.push(clock(date, SystemClock.now_ms()));
            true
        }
        Err(error) => {
            let next = "start it with `aofctl serve`, or name it with --server or AOF_SERVER";
            checks.push(Check::of("server", Outcome::Wrong, error.to_string(), next));
            false
        }
    };
    if reached {
        checks.push(readiness(&client).await);
        checks.push(signatures(&client).await);
        checks.extend(node(&client).await);
    }
    show(args.format, &checks);
    let wrong = checks.iter().any(|c| c.outcome == Outcome::Wrong);
    Ok(ExitCode::from(match (reached, wrong) {
        (false, _) => EXIT_COULD_NOT,
        (true, true) => EXIT_NO,
        (true, false) => EXIT_DONE,
    }))
}

fn show(format: Format, checks: &[Check]) {
    if format.is_json() {
        output::json(&json!({ "checks": checks }));
        return;
    }
    for check in checks {
        let mark = match check.outcome {
            Outcome::Ok => paint(GOOD, "ok     "),
            Outcome::Warning => paint(WAITS, "warning"),
            Outcome::Wrong => paint(BAD, "wrong  "),
            Outcome::Skipped => "skipped".to_owned(),
        };
        output::line(format_args!("{mark}  {:<11} {}", check.name, check.detail));
        if let Some(next) = check.next {
            output::line(format_args!("{:21}next: {next}", ""));
        }
    }
}

/// Keys in the clear must stay on this machine.
fn transport(client: &Client) -> Check {
    let host = client.server.strip_prefix("http://").map(|rest| {
        let host = rest.split('/').next().unwrap_or_default();
        host.rsplit_once(':').map_or(host, |(host, _)| host)
    });
    match host {
        None => Check::ok("transport", "encrypted"),
        Some(host) if matches!(host, "localhost" | "[::1]") || host.starts_with("127.") => {
            Check::ok("transport", "plain, on this machine only")
        }
        Some(host) => {
            let detail = format!("the key goes to {host} in the clear");
            Check::of("transport", Outcome::Warning, detail, "put TLS in front and use https://")
        }
    }
}

fn key(client: &Client) -> Check {
    match &client.key_source {
        KeySource::Environment => Check::ok("key", "from AOF_API_KEY"),
        KeySource::File(path) => {
            Check::ok("key", format!("the operator's, from {}", path.display()))
        }
        KeySource::Nowhere => {
            let next = "set AOF_API_KEY, or AOF_DATA_DIR to the node's data directory";
            Check::of("key", Outcome::Wrong, "there is none", next)
        }
    }
}

/// Nobody else on this machine may read the data directory or the operator's key.
fn files(dir: &Path) -> Check {
    use std::os::unix::fs::PermissionsExt;
    const NAME: &str = "data";
    let mode = |path: &Path| std::fs::metadata(path).ok().map(|m| m.permissions().mode() & 0o777);
    let Some(dir_mode) = mode(dir) else {
        let detail = format!("{} is not on this machine", dir.display());
        return Check { name: NAME, outcome: Outcome::Skipped, detail, next: None };
    };
    let key = dir.join(ADMIN_KEY_FILE);
    if let Some(key_mode) = mode(&key).filter(|m| m & 0o077 != 0) {
        let detail = format!("{} has mode {key_mode:o}: others can read it", key.display());
        let next = "chmod 600 the file, then replace the key: others may have it";
        return Check::of(NAME, Outcome::Wrong, detail, next);
    }
    if dir_mode & 0o007 != 0 {
        let detail = format!("{} has mode {dir_mode:o}: anyone here can look in", dir.display());
        return Check::of(NAME, Outcome::Warning, detail, "chmod 700 the directory");
    }
    Check::ok(NAME, format!("{} is closed to others", dir.display()))
}

/// Signatures, expiries and keys all depend on the time.
fn clock(date: Option<&str>, now_ms: u64) -> Check {
    let parsed = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
    let Some(there) = parsed.and_then(|at| u64::try_from(at.timestamp().as_millisecond()).ok())
    else {
        let detail = "the node's answer has no date".to_owned();
        return Check { name: "clock", outcome: Outcome::Skipped, detail, next: None };
    };
    let skew_ms = now_ms.abs_diff(there);
    if skew_ms <= MAX_SKEW_MS {
        return Check::ok("clock", "the node's and this one agree");
    }
    let detail = format!("the node's and this one differ by {}", output::duration(skew_ms));
    let next = "synchronise both (NTP): signatures older than 300 s are refused";
    Check::of("clock", Outcome::Wrong, detail, next)
}

async fn readiness(client: &Client) -> Check {
    const NAME: &str = "ready";
    match client.send(client.request(Method::GET, "/readyz")).await {
        Ok(_) => Check::ok(NAME, "every part works"),
        Err(ClientError::Problem { problem }) if problem.status == 503 => {
            let next = "`aofctl status` says which part and why; the node's log says more";
            Check::of(NAME, Outcome::Wrong, "some part cannot work", next)
        }
        Err(error) => Check::of(NAME, Outcome::Wrong, error.to_string(), "see the node's log"),
    }
}

/// Asks what an attacker would: whether an unsigned webhook gets in.
async fn signatures(client: &Client) -> Check {
    const NAME: &str = "signatures";
    let request = client.request(Method::POST, "/webhook/slack").json(&json!({}));
    match client.send(request).await {
        Ok(_) => {
            let next = "set `signing_secret` for the instance, and restart";
            Check::of(NAME, Outcome::Wrong, "an unsigned webhook was accepted", next)
        }
        Err(ClientError::Problem { problem }) if problem.status < 500 => {
            Check::ok(NAME, format!("an unsigned webhook is refused ({})", problem.status))
        }
        Err(error) => Check::of(NAME, Outcome::Warning, error.to_string(), "see the node's log"),
    }
}

/// What only the operator sees: durability, backlog, dead letters, configuration.
async fn node(client: &Client) -> Vec<Check> {
    let status = match client.json(client.request(Method::GET, "/status")).await {
        Ok(status) => status,
        Err(error) => {
            let next = "use the operator's key for the checks of durability, queues and flows";
            return vec![Check::of("node", Outcome::Skipped, error.to_string(), next)];
        }
    };
    let mut checks = vec![durability(&status), flows(&status), queues(&status)];
    checks.extend(warnings(&status));
    checks
}

/// What the node itself says should be looked at.
fn warnings(status: &Value) -> Vec<Check> {
    let warnings = status["warnings"].as_object().into_iter().flatten();
    let check = |(part, why): (&String, &Value)| {
        let detail = format!("{part}: {}", output::text(why));
        let next = match part.as_str() {
            "configuration" => "`aofctl validate` checks manifests before they are saved",
            _ => "see the node's log",
        };
        Check::of("warning", Outcome::Warning, detail, next)
    };
    warnings.map(check).collect()
}

fn durability(status: &Value) -> Check {
    let found = output::text(&status["durability"]);
    if matches!(found.as_str(), "fsync" | "quorum") {
        return Check::ok("durability", format!("accepted messages survive a crash ({found})"));
    }
    let detail = format!("accepted messages may be lost in a crash ({found})");
    let next = "run 3 NATS servers with `replicas: 3`, or set `sync_interval: always` on the one \
                and `spec.cluster.nats_monitor_url` here";
    Check::of("durability", Outcome::Wrong, detail, next)
}

fn flows(status: &Value) -> Check {
    let count = |name: &str| status[name].as_u64().unwrap_or_default();
    let (flows, agents) = (count("flows"), count("agents"));
    if flows > 0 && agents > 0 {
        return Check::ok("flows", format!("{flows} flows, {agents} agents"));
    }
    let detail = format!("{flows} flows and {agents} agents: nothing would answer");
    Check::of("flows", Outcome::Warning, detail, "see `aofctl validate` and the daemon's config")
}

fn queues(status: &Value) -> Check {
    let queues = status["queues"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of = |queue: &Value, name: &str| queue[name].as_u64().unwrap_or_default();
    let is_dead = |queue: &&Value| queue["stream"].as_str() == Some("DEAD");
    let dead: u64 = queues.iter().filter(is_dead).map(|q| of(q, "pending")).sum();
    let slow = queues.iter().filter(|q| !is_dead(q)).max_by_key(|q| of(q, "oldest_age_ms"));
    if let Some(slow) = slow.filter(|q| of(q, "oldest_age_ms") > MAX_WAIT_MS) {
        let [stream, age] =
            [output::text(&slow["stream"]), output::duration(of(slow, "oldest_age_ms"))];
        let detail = format!("the oldest in {stream} has waited {age}");
        let next = "see `aofctl status`: a limit, a slow agent, or too few workers";
        return Check::of("queues", Outcome::Warning, detail, next);
    }
    if dead > 0 {
        let detail = format!("{dead} dead letters");
        let next = "`aofctl dead-letters list`, then retry or abandon each";
        return Check::of("queues", Outcome::Warning, detail, next);
    }
    Check::ok("queues", "nothing waits long, no dead letters")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_compared_with_the_nodes_date() {
        let date = Some("Mon, 15 Jan 2024 10:30:00 GMT");
        let there = 1_705_314_600_000;
        for (now_ms, expected) in [
            (there, Outcome::Ok),
            (there + MAX_SKEW_MS, Outcome::Ok),
            (there - MAX_SKEW_MS - 1, Outcome::Wrong),
        ] {
            assert_eq!(clock(date, now_ms).outcome, expected, "{now_ms}");
        }
        assert_eq!(clock(None, there).outcome, Outcome::Skipped);
    }

    #[test]
    fn a_key_that_others_can_read_is_wrong() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a directory");
        let set = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
        };
        let key = dir.path().join(ADMIN_KEY_FILE);
        std::fs::write(&key, "k").expect("written");
        for (dir_mode, key_mode, expected) in [
            (0o700, 0o600, Outcome::Ok),
            (0o700, 0o644, Outcome::Wrong),
            (0o755, 0o600, Outcome::Warning),
        ] {
            set(dir.path(), dir_mode);
            set(&key, key_mode);
            assert_eq!(files(dir.path()).outcome, expected, "{dir_mode:o} {key_mode:o}");
        }
        assert_eq!(files(&dir.path().join("none")).outcome, Outcome::Skipped);
    }

    #[test]
    fn what_the_node_warns_of_is_a_warning_here() {
        let status = json!({"warnings": {"configuration": "edit rejected: a.yaml:3: no"}});
        let found = warnings(&status);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].outcome, Outcome::Warning);
        assert_eq!(found[0].detail, "configuration: edit rejected: a.yaml:3: no");
        assert!(warnings(&json!({})).is_empty(), "an older node");
    }

    #[test]
    fn backlogs_and_dead_letters_are_named() {
        let check = |stream: &str, pending: u64, age: u64, expected| {
            let queue = json!({"stream": stream, "pending": pending, "oldest_age_ms": age});
            assert_eq!(queues(&json!({"queues": [queue]})).outcome, expected, "{stream}");
        };
        check("TASKS", 5, 1_000, Outcome::Ok);
        check("TASKS", 5, MAX_WAIT_MS + 1, Outcome::Warning);
        check("DEAD", 1, MAX_WAIT_MS + 1, Outcome::Warning);
        check("DEAD", 0, 0, Outcome::Ok);
    }
}
