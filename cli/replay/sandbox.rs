//! Runs messages again, apart from everything: on a backend of its own in a scratch folder,
//! with tools answering from the recording. No gateway is there, so what would have been
//! said to a platform stays in the queue; no approver is there, so what is held stays held.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use aof_shared::backend::open_embedded;
use aof_shared::clock::{Clock, SystemClock};
use aof_shared::config::{Config, Daemon, Flow, RateLimits, Snapshot};
use aof_shared::event::{Event, EventType};
use aof_shared::ids::{AgentName, MessageId, TenantId};
use aof_shared::lifecycle::Lifecycle;
use aof_shared::message::{PINNED_AGENT, Reply, ReplyContent};
use aof_shared::node::{Health, Node};
use aof_shared::queue::{Publication, ReadRange};
use aof_shared::store::{ChannelName, Ports};
use aof_shared::subject::{Stream, Subject};
use aof_shared::telemetry::Metrics;
use aof_worker::Recording;
use serde::Serialize;
use serde_json::Value;

use super::record::{Decision, EventLine, Input};
use super::slice::Slice;
use super::source::{Inputs, Source};
use crate::output::{self, BOLD, paint};

/// The events that a sandbox learns from.
const LEARNED: [&str; 6] = [
    "message.routed",
    "message.unrouted",
    "message.ignored",
    "run.step",
    "run.completed",
    "run.failed",
];
/// Longest wait for the last message to end; nothing here waits for anybody.
const PATIENCE: Duration = Duration::from_secs(120);
/// Events or replies read at once.
const PAGE: usize = 1_000;
/// How long one read waits for something new.
const READ_WAIT_MS: u64 = 500;

/// What a sandbox starts from.
#[derive(Default)]
pub(super) struct Past {
    messages: Vec<(Input, Decision)>,
    recording: Recording,
    before: HashMap<MessageId, End>,
}

/// How a message ended, then or now.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct End {
    /// `flow/agent`; missing when nothing took it.
    pub(super) place: Option<String>,
    /// `success`, `held`, `refused`, `failed`, `ignored`, `unrouted`, …
    pub(super) status: String,
    /// The answer.
    pub(super) answer: String,
}

/// One message, then and in the sandbox.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    message_id: MessageId,
    text: String,
    before: End,
    after: End,
    /// What would have been said to the platform.
    captured: Vec<String>,
}

/// Reads up to `limit` messages of the slice, and what their tools and agents gave.
///
/// # Errors
/// When the past cannot be read to its end.
pub(super) async fn read(
    (_, source): (&TenantId, &Source),
    slice: &Slice,
    limit: usize,
) -> anyhow::Result<Past> {
    let mut past = Past::default();
    let mut wanted = HashSet::new();
    let mut inputs = Inputs::new(source.messages(slice).await?);
    let mut events = source.events(slice, &LEARNED).await?;
    while let Some(line) = events.next().await? {
        let Ok(event) = serde_json::from_slice::<EventLine<'_>>(&line) else { continue };
        let Some(id) = event.message_id else { continue };
        if event.kind.name().starts_with("message.") {
            let decision: Decision = serde_json::from_str(event.data.get())?;
            let (true, Some(seq)) = (past.messages.len() < limit, decision.inbound_seq) else {
                continue;
            };
            if let Some(input) = inputs.take(id, seq).await? {
                wanted.insert(id);
                past.before.insert(id, decided(event.kind, &decision));
                past.messages.push((input, decision));
            }
        } else if wanted.contains(&id) {
            past.learn(id, event.kind, &serde_json::from_str(event.data.get())?);
        }
    }
    Ok(past)
}

fn decided(kind: EventType, decision: &Decision) -> End {
    let place = decision.flow.as_ref().zip(decision.agent.as_ref());
    let status = kind.name().trim_start_matches("message.").to_owned();
    End { place: place.map(|(flow, agent)| format!("{flow}/{agent}")), status, ..End::default() }
}

impl Past {
    fn learn(&mut self, id: MessageId, kind: EventType, data: &Value) {
        let text = |name: &str| data[name].as_str().unwrap_or_default();
        if kind == EventType::RunStep {
            let code = data["outcome"]["code"].as_i64().and_then(|code| i32::try_from(code).ok());
            self.recording.add_tool(id, text("command"), code, text("output"));
            return;
        }
        if let Ok(agent) = text("agent").parse::<AgentName>() {
            self.recording.add_answer(id, &agent, text("answer"));
        }
        if let Some(end) = self.before.get_mut(&id) {
            text("status").clone_into(&mut end.status);
            text("answer").clone_into(&mut end.answer);
        }
    }
}

/// Lets the messages run under `snapshot`, and tells how each ended.
///
/// # Errors
/// When the scratch folder cannot be used, or a message does not come to its end.
pub(super) async fn run(
    account: &TenantId,
    snapshot: Snapshot,
    past: Past,
) -> anyhow::Result<Vec<Told>> {
    let dir = tempfile::tempdir().context("no scratch folder can be made")?;
    let (lifecycle, backend) = (Lifecycle::new(), Lifecycle::new());
    let ports = open_embedded(dir.path(), Arc::new(SystemClock), &backend)?;
    let node = Node {
        ports: ports.clone(),
        config: Config::new(unlimited(snapshot)),
        tracer: aof_shared::trace::Tracer::default(),
        metrics: Arc::new(Metrics::default()),
        health: Health::default(),
        members: Default::default(),
        lifecycle: lifecycle.clone(),
    };
    let Past { messages, recording, mut before } = past;
    name_channels(&ports, &messages).await?;
    for (input, _) in &messages {
        ports.queue.publish(vec![publication(input)?]).await?;
    }
    let mut options = aof_worker::Options::new(dir.path().join("runs"));
    options.recording = Some(Arc::new(recording));
    aof_router::start(&node).await?;
    aof_worker::start(&node, options).await?;
    let wanted = messages.iter().map(|(input, _)| input.message.id).collect();
    let ended = ends(&ports, account, wanted).await;
    let captured = captured(&ports, account).await;
    lifecycle.stop();
    lifecycle.drained().await;
    backend.stop();
    drop((node, ports));
    backend.drained().await;
    let (mut ended, mut captured) = (ended?, captured?);
    let told = messages.into_iter().map(|(input, _)| {
        let id = input.message.id;
        Told {
            message_id: id,
            text: input.message.text,
            before: before.remove(&id).unwrap_or_default(),
            after: ended.remove(&id).unwrap_or_default(),
            captured: captured.remove(&id).unwrap_or_default(),
        }
    });
    Ok(told.collect())
}

/// Rate limits would only make the same messages wait.
fn unlimited(mut snapshot: Snapshot) -> Snapshot {
    for flow in &mut snapshot.flows {
        let free = Flow { limits: RateLimits::default(), ..Flow::clone(flow) };
        *flow = Arc::new(free);
    }
    snapshot.daemon = Arc::new(Daemon {
        limits_global: RateLimits::default(),
        limits_per_organization: RateLimits::default(),
        limits_per_user: RateLimits::default(),
        ..Daemon::clone(&snapshot.daemon)
    });
    snapshot
}

/// The router asks for names of channels: here are those that were known.
async fn name_channels(ports: &Ports, messages: &[(Input, Decision)]) -> anyhow::Result<()> {
    let asked_at_ms = SystemClock.now_ms();
    for (Input { message, .. }, decision) in messages {
        let name = decision.channel_name.clone();
        let channel = ChannelName { id: message.channel.id.clone(), name, asked_at_ms };
        let store = &ports.store;
        store
            .put_channels(&message.tenant, &message.platform, &message.instance, &[channel])
            .await?;
    }
    Ok(())
}

fn publication(input: &Input) -> anyhow::Result<Publication> {
    let message = &input.message;
    let subject = Subject::inbound(&message.tenant, &message.platform);
    let publication = Publication::json(subject, message.id.0, message)?;
    let publication = publication.ordered_by(message.ordering_key());
    Ok(match &input.agent {
        Some(agent) => publication.with_header(PINNED_AGENT, agent.as_str()),
        None => publication,
    })
}

/// How each of `wanted` ended. What waits for people has come to its end here.
async fn ends(
    ports: &Ports,
    account: &TenantId,
    mut wanted: HashSet<MessageId>,
) -> anyhow::Result<HashMap<MessageId, End>> {
    let mut ends: HashMap<MessageId, End> = HashMap::new();
    let mut range = ReadRange { tenant: Some(account.clone()), ..ReadRange::default() };
    let until = Instant::now() + PATIENCE;
    while !wanted.is_empty() {
        anyhow::ensure!(
            Instant::now() < until,
            "{} messages did not come to their end in {} s; choose a smaller slice",
            wanted.len(),
            PATIENCE.as_secs()
        );
        let page = ports.queue.read(Stream::Events, range.clone(), PAGE, READ_WAIT_MS).await?;
        for stored in &page {
            range.after_seq = stored.seq;
            let event = Event::from_stored(stored)?;
            let Some(id) = event.message_id else { continue };
            if end(ends.entry(id).or_default(), &event) {
                wanted.remove(&id);
            }
        }
    }
    Ok(ends)
}

/// Takes in an event; true when nothing more is to come.
fn end(end: &mut End, event: &Event) -> bool {
    let text = |name: &str| event.data[name].as_str().unwrap_or_default().to_owned();
    match event.kind {
        EventType::MessageRouted => {
            end.place = Some(format!("{}/{}", text("flow"), text("agent")));
            return false;
        }
        EventType::RunCompleted | EventType::RunFailed => {
            (end.status, end.answer) = (text("status"), text("answer"));
        }
        EventType::ActionHeld => {
            let people = event.data["require"].as_u64().unwrap_or_default();
            end.status = "held".to_owned();
            end.answer = format!("waits for {people} of {}: {}", text("chain"), text("command"));
        }
        EventType::MessageIgnored => end.status = "ignored".to_owned(),
        EventType::MessageUnrouted => {
            (end.status, end.answer) = ("unrouted".to_owned(), text("reason"));
        }
        EventType::DeadLetterAdded => {
            (end.status, end.answer) = ("failed".to_owned(), text("detail"));
        }
        _ => return false,
    }
    true
}

/// What would have been said, by message.
async fn captured(
    ports: &Ports,
    account: &TenantId,
) -> anyhow::Result<BTreeMap<MessageId, Vec<String>>> {
    let mut said: BTreeMap<MessageId, Vec<String>> = BTreeMap::new();
    let mut range = ReadRange { tenant: Some(account.clone()), ..ReadRange::default() };
    loop {
        let page = ports.queue.read(Stream::Replies, range.clone(), PAGE, 0).await?;
        let Some(last) = page.last() else { return Ok(said) };
        range.after_seq = last.seq;
        for stored in &page {
            let reply: Reply = serde_json::from_slice(&stored.payload)?;
            let text = match reply.content {
                ReplyContent::Answer { text, .. } | ReplyContent::Notice { text } => text,
                ReplyContent::Approval { view } => format!("approval of {:?}", view.argv),
            };
            said.entry(reply.message).or_default().push(text);
        }
    }
}

/// For people.
pub(super) fn print(account: &TenantId, told: &[Told]) {
    output::line(format_args!(
        "{}: {} messages in a sandbox; nothing was sent or run",
        paint(BOLD, account.as_str()),
        told.len()
    ));
    for Told { message_id, text, before, after, captured } in told {
        output::line("");
        output::line(format_args!("{message_id} {}", output::visible(&text.replace('\n', " "))));
        for (when, end) in [("then", before), ("now ", after)] {
            let place = end.place.as_deref().unwrap_or("nowhere");
            let answer = output::visible(&end.answer.replace('\n', " "));
            let status = output::status(&end.status);
            output::line(format_args!("  {when}  {place}: {status}  {answer}"));
        }
        for said in captured {
            let said = output::visible(&said.replace('\n', " "));
            output::line(format_args!("  would say  {said}"));
        }
    }
}
