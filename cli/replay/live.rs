//! Lets the messages of a slice come in again, really, each as a new message that names its
//! origin. Asks first; goes on where it stopped; what was sent twice comes in once.

use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::record::DECIDED;
use super::slice::Slice;
use super::source::Source;
use crate::client::{Client, ClientError, Connect};
use crate::output::{self, Format};
use crate::replays::{Job, Status};
use crate::{EXIT_DONE, EXIT_NO};

/// Messages after which a replay says how far it is, and keeps it.
const KEEP_EVERY: u64 = 20;
/// Tries of one message while the node is away, and the pause between two: about two minutes.
const MAX_TRIES: u32 = 120;
const TRY_PAUSE: Duration = Duration::from_secs(1);
/// Longest wait between two messages, however long the pause was then.
const MAX_PAUSE: Duration = Duration::from_secs(3_600);

/// How a live replay was asked for.
pub(super) struct Asked {
    pub(super) name: String,
    pub(super) speed: Option<f64>,
    /// Nobody has to be asked.
    pub(super) sure: bool,
    pub(super) format: Format,
}

/// A decided message: where its decision stands, where it stands, and when.
#[derive(Debug, Deserialize)]
struct Line {
    seq: u64,
    time: String,
    data: Place,
}

#[derive(Debug, Deserialize)]
struct Place {
    #[serde(default)]
    inbound_seq: Option<u64>,
}

/// Starts a replay of `slice`, after asking.
///
/// # Errors
/// When the node cannot be reached, or a replay of this name is there.
pub(super) async fn start(
    client: &Client,
    slice: &Slice,
    asked: Asked,
) -> anyhow::Result<ExitCode> {
    if Job::read(&asked.name).is_ok() {
        anyhow::bail!(
            "a replay `{0}` is there already: `aofctl replays resume {0}`, or choose another --name",
            asked.name
        );
    }
    let mut lines = Source::Node(client.clone()).events(slice, &DECIDED).await?;
    let mut total = 0;
    while lines.next().await?.is_some() {
        total += 1;
    }
    if total == 0 {
        anstream::eprintln!("no message was decided then; choose another --from, --to or --last");
        return Ok(ExitCode::from(EXIT_NO));
    }
    if !asked.sure && !agreed(client, total)? {
        anstream::eprintln!("nothing came in again");
        return Ok(ExitCode::from(EXIT_NO));
    }
    let job = Job {
        name: asked.name,
        server: client.server.clone(),
        account: client.account.clone(),
        slice: slice.clone(),
        speed: asked.speed,
        status: Status::Running,
        total,
        done: 0,
        skipped: 0,
        duplicates: 0,
        after_seq: 0,
    };
    go_on(client, job, asked.format).await
}

fn agreed(client: &Client, total: u64) -> anyhow::Result<bool> {
    anyhow::ensure!(
        std::io::stdin().is_terminal(),
        "{total} messages of {} would come in again for real: say --yes to let them",
        client.account
    );
    anstream::eprint!(
        "{total} messages of {} come in again for real: to the flows in force now, with answers \
         sent to where they were written. Go on? [y/N] ",
        client.account
    );
    let answer = std::io::stdin().lock().lines().next().transpose()?.unwrap_or_default();
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Takes a replay up again where it stopped.
///
/// # Errors
/// When the node cannot be reached, or there is no such replay.
pub(crate) async fn resume(
    name: &str,
    speed: Option<f64>,
    format: Format,
) -> anyhow::Result<ExitCode> {
    let mut job = Job::read(name)?;
    if matches!(job.status, Status::Done | Status::Cancelled) {
        told(&job, format);
        return Ok(ExitCode::from(EXIT_NO));
    }
    job.forget_asked()?;
    job.status = Status::Running;
    job.speed = speed.or(job.speed);
    let connect = Connect { server: job.server.clone(), account: Some(job.account.clone()) };
    let client = Client::new(&connect).await?;
    go_on(&client, job, format).await
}

async fn go_on(client: &Client, mut job: Job, format: Format) -> anyhow::Result<ExitCode> {
    job.write()?;
    let went = tokio::select! {
        went = all(client, &mut job) => went,
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Into::into),
    };
    if job.status == Status::Running {
        job.status = Status::Paused;
    }
    job.forget_asked()?;
    job.write()?;
    told(&job, format);
    went?;
    Ok(ExitCode::from(if job.status == Status::Done { EXIT_DONE } else { EXIT_NO }))
}

async fn all(client: &Client, job: &mut Job) -> anyhow::Result<()> {
    let mut lines = Source::Node(client.clone()).events(&job.slice, &DECIDED).await?;
    let mut before: Option<jiff::Timestamp> = None;
    while let Some(line) = lines.next().await? {
        let line: Line = serde_json::from_slice(&line).context("a decision cannot be read")?;
        if line.seq <= job.after_seq {
            continue;
        }
        let at = line.time.parse::<jiff::Timestamp>().ok();
        if let (Some(speed), Some(before), Some(at)) = (job.speed, before, at) {
            wait(job, pause(before, at, speed)).await;
        }
        before = at;
        if let Some(status) = job.asked() {
            job.status = status;
            return Ok(());
        }
        match line.data.inbound_seq {
            Some(seq) => one(client, job, seq).await?,
            None => job.skipped += 1,
        }
        job.done += 1;
        job.after_seq = line.seq;
        if job.done.is_multiple_of(KEEP_EVERY) {
            job.write()?;
            anstream::eprintln!("{}: {} of {}", job.name, job.done, job.total);
        }
    }
    job.status = Status::Done;
    Ok(())
}

/// Waits, but not for what was asked to stop.
async fn wait(job: &Job, mut left: Duration) {
    while !left.is_zero() && job.asked().is_none() {
        let part = left.min(TRY_PAUSE);
        tokio::time::sleep(part).await;
        left -= part;
    }
}

/// How long after the last message the next one comes.
fn pause(before: jiff::Timestamp, at: jiff::Timestamp, speed: f64) -> Duration {
    let then = Duration::try_from(at.duration_since(before)).unwrap_or_default();
    Duration::try_from_secs_f64(then.as_secs_f64() / speed).unwrap_or(MAX_PAUSE).min(MAX_PAUSE)
}

/// Lets one message come in again; waits for a node that is away.
async fn one(client: &Client, job: &mut Job, seq: u64) -> anyhow::Result<()> {
    let path = format!("/messages/{seq}/replay");
    let mut tries = 0;
    loop {
        tries += 1;
        let request = client.of_account(Method::POST, &path).json(&json!({ "name": job.name }));
        match client.json(request).await {
            Ok(answer) => {
                job.duplicates += u64::from(answer["duplicate"] == true);
                return Ok(());
            }
            // No longer kept, or replayed itself.
            Err(ClientError::Problem { problem }) if matches!(problem.status, 404 | 409) => {
                job.skipped += 1;
                return Ok(());
            }
            Err(ClientError::Problem { problem })
                if problem.status < 500 && problem.status != 429 =>
            {
                return Err(ClientError::Problem { problem }.into());
            }
            Err(error) if tries >= MAX_TRIES => return Err(error.into()),
            Err(error) => {
                if tries == 1 {
                    anstream::eprintln!("{error}; trying again for two minutes");
                }
                tokio::time::sleep(TRY_PAUSE).await;
            }
        }
    }
}

fn told(job: &Job, format: Format) {
    if format.is_json() {
        return output::json(&serde_json::to_value(job).unwrap_or_default());
    }
    let Job { name, done, total, skipped, duplicates, .. } = job;
    let status = serde_json::to_value(job.status).unwrap_or_default();
    output::line(format_args!(
        "{name}: {}, {done} of {total} messages, {skipped} could not come again, {duplicates} had \
         come again before",
        output::text(&status)
    ));
    if job.status == Status::Paused {
        output::line(format_args!("next:  aofctl replays resume {name}"));
    }
}
