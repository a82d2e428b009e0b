//! Runs end once, resume where they stopped, and keep to their flow.

use std::time::Duration;

use aof_shared::config::{Daemon, SessionStrategy};
use aof_shared::event::EventType;
use aof_shared::message::{AnswerChunk, RunStatus, Task};
use aof_shared::store::{RunEnd, RunStart};
use aof_shared::subject::{LiveSubject, Stream, Subject};
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::agent::memory;
use crate::checkpoint::{Call, Checkpoint, Outcome, Pending, ToolResult};

#[tokio::test]
async fn a_task_becomes_one_run_one_answer_and_one_end() {
    let rig = Rig::new(simple(modeller("echo", &[])));
    let task = fixture::task("acme", "ops", "hello there");
    rig.start().await;
    rig.send(&task).await;
    assert_eq!(rig.end(&task).await, ("success".to_owned(), "hello there".to_owned()));
    // The same task again, as a redelivery that the queue's dedupe does not cover.
    rig.settled().await;
    rig.send_as(&task, Uuid::now_v7()).await;
    rig.settled().await;
    let (message, tenant) = (task.message.id, &task.message.tenant);
    assert_eq!(rig.count(message, tenant, EventType::RunStarted).await, 1);
    assert_eq!(rig.count(message, tenant, EventType::RunCompleted).await, 1);
    assert_eq!(rig.stored(Stream::Replies, tenant).await.len(), 1);
    let agent = modeller("echo", &[]);
    let key = memory::key(agent.memory.session, &task.flow, &task.message);
    let turns = rig.node.ports.store.history(&key, 10).await.expect("it reads");
    let said: Vec<_> = turns.iter().map(|t| (t.role.as_str(), t.text.as_str())).collect();
    assert_eq!(said, [("user", "hello there"), ("assistant", "hello there")]);
    rig.stop().await;
}

#[tokio::test]
async fn two_flows_remember_apart() {
    let flows = vec![flow("acme", "ops", &[]), flow("acme", "dev", &[])];
    let rig = Rig::new(snapshot(modeller("echo", &[]), flows, Daemon::default()));
    rig.start().await;
    let message = fixture::message("acme", "one", "hi");
    let tasks = ["ops", "dev"].map(|flow| fixture::task_of(message.clone(), flow));
    for task in &tasks {
        rig.send(task).await;
    }
    rig.settled().await;
    for task in &tasks {
        let key = memory::key(SessionStrategy::PerChat, &task.flow, &task.message);
        let turns = rig.node.ports.store.history(&key, 10).await.expect("it reads");
        assert_eq!(turns.len(), 2, "{}", task.flow);
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_command_answers_with_its_output_and_a_bad_one_with_the_reason() {
    let rig = Rig::new(simple(commander(&["echo", "false", "no-such-tool", "rm"])));
    rig.start().await;
    for (text, status, part) in [
        ("echo hello", "success", "```\nhello\n```"),
        ("false", "success", "exit code 1"),
        ("cat /etc/passwd", "refused", "not one of this agent's tools"),
        ("no-such-tool x", "failed", "not installed"),
        ("rm -rf /tmp/x", "refused", ""),
        ("   ", "refused", "not a command"),
    ] {
        let task = fixture::task("acme", "ops", text);
        rig.send(&task).await;
        let (ended, answer) = rig.end(&task).await;
        assert_eq!(ended, status, "{text}: {answer}");
        assert!(answer.contains(part), "{text}: {answer}");
    }
    rig.settled().await;
    let runs = rig.dir.path().join("runs").join(std::process::id().to_string());
    assert_eq!(std::fs::read_dir(runs).expect("the directory").count(), 0, "nothing is left");
    let tenant = fixture::tenant("acme");
    assert_eq!(rig.stored(Stream::Dead, &tenant).await.len(), 1, "only what failed");
    rig.stop().await;
}

#[tokio::test]
async fn tools_see_their_flows_environment_and_no_other() {
    let flows = vec![
        flow("acme", "ops", &[("TOKEN", "acme-secret")]),
        flow("globex", "ops", &[("TOKEN", "globex-secret"), ("REGION", "eu")]),
    ];
    let rig = Rig::new(snapshot(commander(&["env"]), flows, Daemon::default()));
    rig.start().await;
    for (tenant, names) in
        [("acme", "HOME LANG PATH TOKEN"), ("globex", "HOME LANG PATH REGION TOKEN")]
    {
        let task = fixture::task(tenant, "ops", "env");
        rig.send(&task).await;
        let (status, answer) = rig.end(&task).await;
        assert_eq!(status, "success", "{answer}");
        let mut seen: Vec<_> = answer.lines().filter_map(|l| l.split_once('=')).collect();
        seen.sort_unstable();
        let keys: Vec<_> = seen.iter().map(|(name, _)| *name).collect();
        assert_eq!(keys.join(" "), names);
        assert!(answer.contains("TOKEN=***") && !answer.contains("secret"), "{answer}");
    }
    rig.stop().await;
}

fn call() -> Call {
    Call {
        id: "message".to_owned(),
        tool: "touch".to_owned(),
        arguments: json!({"args": ["marker"]}),
        signatures: None,
    }
}

/// Leaves the store as a worker that died at `checkpoint` does.
async fn died_at(rig: &Rig, task: &Task, checkpoint: Option<&Checkpoint>) {
    let start = RunStart {
        run: task.run,
        tenant: task.message.tenant.clone(),
        message: task.message.id,
        flow: task.flow.clone(),
        agent: task.agent.clone(),
        revision: task.revision.clone(),
        at_ms: 1,
    };
    let store = &rig.node.ports.store;
    store.begin_run(&start, task.run.0).await.expect("it begins");
    if let Some(checkpoint) = checkpoint {
        let saved = checkpoint.to_json();
        store.save_checkpoint(&start.tenant, task.run, task.run.0, &saved).await.expect("it saves");
    }
}

#[tokio::test]
async fn a_crash_at_any_step_repeats_no_step_that_may_have_happened() {
    let marker_dir = tempfile::tempdir().expect("a directory");
    let mut ops = flow("acme", "ops", &[]);
    ops.context.working_dir = Some(marker_dir.path().to_owned());
    let rig = Rig::new(snapshot(commander(&["touch"]), vec![ops], Daemon::default()));
    let marker = marker_dir.path().join("marker");
    let started = {
        let mut checkpoint = Checkpoint::new(1);
        checkpoint.pending =
            Some(Pending::Started { call: call(), command: "touch marker".to_owned() });
        checkpoint
    };
    let done = {
        let mut checkpoint = Checkpoint::new(1);
        checkpoint.record(ToolResult {
            call: "message".to_owned(),
            tool: "touch".to_owned(),
            command: "touch marker".to_owned(),
            text: "it was touched".to_owned(),
            outcome: Outcome::Exited { code: 0 },
        });
        checkpoint
    };
    rig.start().await;
    for (checkpoint, status, part, ran) in [
        (None, "success", "printed nothing", true),
        (Some(&started), "failed", "not run again", false),
        (Some(&done), "success", "it was touched", false),
    ] {
        let _ = std::fs::remove_file(&marker);
        let mut message = fixture::message("acme", &format!("e-{part}"), "touch marker");
        message.conversation = part.to_owned();
        let task = fixture::task_of(message, "ops");
        died_at(&rig, &task, checkpoint).await;
        rig.send(&task).await;
        let (ended, answer) = rig.end(&task).await;
        assert_eq!(ended, status, "{answer}");
        assert!(answer.contains(part), "{answer}");
        assert_eq!(marker.exists(), ran, "{part}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_crash_after_the_end_only_tells_it() {
    let rig = Rig::new(simple(commander(&["touch"])));
    let task = fixture::task("acme", "ops", "touch marker");
    died_at(&rig, &task, None).await;
    let end = RunEnd {
        status: RunStatus::Success,
        answer: "as it was".to_owned(),
        tokens: 0,
        elapsed_ms: 5,
        at_ms: 6,
    };
    let store = &rig.node.ports.store;
    store.finish_run(&task.message.tenant, task.run, &end, None).await.expect("it ends");
    rig.start().await;
    rig.send(&task).await;
    assert_eq!(rig.end(&task).await, ("success".to_owned(), "as it was".to_owned()));
    rig.stop().await;
}

#[tokio::test]
async fn the_stream_is_the_answer() {
    let rig = Rig::new(simple(modeller("echo", &[])));
    let task = fixture::task("acme", "ops", "tell me a long story");
    let subject = LiveSubject::answer(&task.message.tenant, task.message.id);
    let mut listener = rig.node.ports.live.listen(&subject).await.expect("it listens");
    rig.start().await;
    rig.send(&task).await;
    let mut streamed = String::new();
    loop {
        let next = tokio::time::timeout(DEADLINE, listener.next()).await.expect("in time");
        match serde_json::from_slice(&next.expect("a chunk")).expect("a chunk") {
            AnswerChunk::Delta { offset, text } => {
                assert_eq!(offset, streamed.len());
                streamed.push_str(&text);
            }
            AnswerChunk::Step { .. } => {}
            AnswerChunk::Done { text, status } => {
                assert_eq!((status, &text), (RunStatus::Success, &streamed));
                break;
            }
        }
    }
    assert_eq!(rig.end(&task).await.1, streamed);
    rig.stop().await;
}

#[tokio::test]
async fn a_task_that_takes_too_long_is_killed_and_becomes_a_dead_letter() {
    let daemon = Daemon { task_timeout_secs: 1, ..Daemon::default() };
    let flows = vec![flow("acme", "ops", &[])];
    let rig = Rig::new(snapshot(commander(&["sleep"]), flows, daemon));
    rig.start().await;
    let task = fixture::task("acme", "ops", "sleep 60");
    rig.send(&task).await;
    let (status, answer) = rig.end(&task).await;
    assert_eq!(status, "failed");
    assert!(answer.contains("Stopped after 1 s"), "{answer}");
    rig.settled().await;
    assert_eq!(rig.stored(Stream::Dead, &task.message.tenant).await.len(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn a_run_longer_than_the_ack_wait_runs_once() {
    let rig = Rig::new(simple(commander(&["sleep"])));
    let options = Options { ack_wait_ms: 400, ..rig.options() };
    start(&rig.node, options).await.expect("it starts");
    let task = fixture::task("acme", "ops", "sleep 2");
    rig.send(&task).await;
    assert_eq!(rig.end(&task).await.0, "success");
    rig.settled().await;
    let steps = rig.count(task.message.id, &task.message.tenant, EventType::RunStep).await;
    assert_eq!(steps, 1);
    rig.stop().await;
}

#[tokio::test]
async fn a_drain_hands_back_what_does_not_end_and_costs_no_attempt() {
    let rig = Rig::new(simple(commander(&["sleep"])));
    let options = Options { drain_ms: 200, ..rig.options() };
    start(&rig.node, options).await.expect("it starts");
    let task = fixture::task("acme", "ops", "sleep 60");
    rig.send(&task).await;
    rig.event(&task.message, EventType::RunStarted).await;
    let began = tokio::time::Instant::now();
    let rig = rig.restart(simple(commander(&["sleep"]))).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    rig.start().await;
    let (status, answer) = rig.end(&task).await;
    assert_eq!(status, "failed", "{answer}");
    assert!(answer.contains("not run again"), "{answer}");
    rig.stop().await;
}

#[tokio::test]
async fn what_is_no_task_goes_to_dead_with_its_payload() {
    let rig = Rig::new(simple(modeller("echo", &[])));
    rig.start().await;
    let task = fixture::task("acme", "ops", "hello");
    let other = fixture::task("globex", "ops", "foreign");
    for payload in ["not json".to_owned(), serde_json::to_string(&other).expect("plain JSON")] {
        let subject = Subject::task(&task.message.tenant, &task.flow);
        let publication = Publication::new(subject, Uuid::now_v7(), payload);
        rig.node.ports.queue.publish(vec![publication]).await.expect("it is stored");
    }
    rig.send(&task).await;
    assert_eq!(rig.end(&task).await.0, "success", "the rest goes on");
    rig.settled().await;
    let dead = rig.stored(Stream::Dead, &task.message.tenant).await;
    let payloads: Vec<_> = dead
        .iter()
        .map(|s| aof_shared::dead::DeadLetter::from_stored(s).expect("a letter").payload)
        .collect();
    assert!(payloads.iter().any(|p| p == "not json"), "{payloads:?}");
    assert_eq!(payloads.len(), 2);
    assert!(rig.events(&other.message.tenant).await.is_empty(), "the other tenant sees nothing");
    rig.stop().await;
}

#[tokio::test]
async fn a_missing_agent_or_flow_is_named() {
    let rig = Rig::new(simple(modeller("echo", &[])));
    rig.start().await;
    let mut nobody = fixture::task("acme", "ops", "who");
    nobody.agent = AgentName::new("nobody").expect("a valid name");
    let gone = fixture::task("acme", "gone", "where");
    for (task, part) in [(nobody, "no agent `nobody`"), (gone, "flow `gone`")] {
        rig.send(&task).await;
        let (status, answer) = rig.end(&task).await;
        assert_eq!(status, "failed");
        assert!(answer.contains(part), "{answer}");
    }
    rig.stop().await;
}
