//! A run: begins or resumes, settles what was pending, and works until it has an answer,
//! holds an action, or must stop.

pub(crate) mod call;
mod command;
pub(crate) mod memory;
mod model;
mod prompt;
pub(crate) mod stream;

use std::time::Duration;

use aof_shared::action::HeldAction;
use aof_shared::config::Runtime;
use aof_shared::message::RunStatus;
use aof_shared::store::{RunEnd, RunStart, RunState, StoreError};
use tokio::time::Instant;

use self::stream::AnswerStream;
use crate::action;
use crate::checkpoint::{Checkpoint, Outcome, Pending, ToolResult};
use crate::job::{Interrupted, Job};

/// Where a run stands after a delivery's work.
#[derive(Debug)]
pub(crate) enum Turned {
    /// It has an end, which is not recorded yet.
    Ended(Box<Ending>),
    /// It had ended before.
    Over(RunEnd),
    /// It waits for people; everything about that is published.
    Held,
    /// The delivery says nothing new about the run.
    Ignored,
}

/// How a run is about to end.
#[derive(Debug)]
pub(crate) struct Ending {
    /// How.
    pub(crate) status: RunStatus,
    /// What the person who asked is told, Markdown.
    pub(crate) answer: String,
    /// Why it failed: a short constant for metrics and dead letters.
    pub(crate) reason: &'static str,
    /// Where the run stood.
    pub(crate) checkpoint: Checkpoint,
}

impl Ending {
    pub(crate) fn new(
        status: RunStatus,
        reason: &'static str,
        answer: impl Into<String>,
        checkpoint: Checkpoint,
    ) -> Box<Self> {
        Box::new(Self { status, answer: answer.into(), reason, checkpoint })
    }
}

/// A run at work: its job, state and stream.
pub(crate) struct Run<'a> {
    pub(crate) job: &'a Job,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) stream: AnswerStream,
}

/// How long a run's state is tried to be stored: longer than a database takes to restart.
const SAVE_PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two tries.
const SAVE_PAUSE: Duration = Duration::from_millis(200);

/// What a part of a run came to.
pub(crate) enum Next {
    /// The turn goes on.
    Go,
    /// An action waits for people.
    Held,
    /// The run is at its end.
    End { status: RunStatus, reason: &'static str, answer: String },
}

impl Next {
    pub(crate) fn failed(reason: &'static str, answer: impl Into<String>) -> Self {
        Self::End { status: RunStatus::Failed, reason, answer: answer.into() }
    }

    pub(crate) fn refused(reason: &'static str, answer: impl Into<String>) -> Self {
        Self::End { status: RunStatus::Refused, reason, answer: answer.into() }
    }
}

impl Run<'_> {
    /// Makes what happened so far outlive this worker. A store that is away for a while is
    /// waited for: what already ran would be `uncertain` without it.
    ///
    /// # Errors
    /// [`Interrupted::Store`], after [`SAVE_PATIENCE`]; [`Interrupted::Superseded`].
    pub(crate) async fn save(&mut self) -> Result<(), Interrupted> {
        self.checkpoint.answer.clear();
        self.checkpoint.answer.push_str(self.stream.text());
        let job = self.job;
        let saved = self.checkpoint.to_json();
        let store = &job.worker.node.ports.store;
        let until = Instant::now() + SAVE_PATIENCE;
        loop {
            let of_run = (job.tenant(), job.task.run);
            match store.save_checkpoint(of_run.0, of_run.1, job.holder, &saved).await {
                Err(StoreError::Unavailable { .. } | StoreError::Unconfirmed { .. })
                    if Instant::now() < until =>
                {
                    tokio::time::sleep(SAVE_PAUSE).await;
                }
                Ok(false) => return Err(Interrupted::Superseded),
                ended => return Ok(ended.map(drop)?),
            }
        }
    }
}

/// Does the work of one delivery.
///
/// # Errors
/// [`Interrupted`] when queue or store do not work; the delivery then comes again.
pub(crate) async fn work(job: &Job) -> Result<Turned, Interrupted> {
    let task = &job.task;
    let start = RunStart {
        run: task.run,
        tenant: job.tenant().clone(),
        message: task.message.id,
        flow: task.flow.clone(),
        agent: task.agent.clone(),
        revision: task.revision.clone(),
        at_ms: job.now_ms(),
    };
    let state = job.worker.node.ports.store.begin_run(&start, job.holder).await?;
    let checkpoint = match state {
        RunState::Finished(end) => return Ok(Turned::Over(end)),
        RunState::Begun => None,
        RunState::Resumed { checkpoint: None } => None,
        RunState::Resumed { checkpoint: Some(saved) } => match Checkpoint::read(&saved) {
            Some(read) => Some(read),
            None => {
                job.mark_begun();
                let ending = Ending::new(
                    RunStatus::Failed,
                    "unreadable_checkpoint",
                    "This run was begun by another version, which left a state that cannot be \
                     read. Nothing was run again; ask once more.",
                    Checkpoint::new(start.at_ms),
                );
                return Ok(Turned::Ended(ending));
            }
        },
    };
    job.mark_begun();
    let checkpoint = checkpoint.unwrap_or_else(|| Checkpoint::new(start.at_ms));
    let live = job.worker.node.ports.live.clone();
    let stream = AnswerStream::new(live, job.tenant(), task.message.id, checkpoint.answer.clone());
    turn(Run { job, checkpoint, stream }).await
}

async fn turn(mut run: Run<'_>) -> Result<Turned, Interrupted> {
    if let Some((reason, text)) = &run.job.setup.problem {
        let ending = Ending::new(RunStatus::Failed, reason, text.as_str(), run.checkpoint);
        return Ok(Turned::Ended(ending));
    }
    let next = match run.checkpoint.pending.take() {
        None if run.job.task.decision.is_some() && run.checkpoint.transcript.is_empty() => {
            Next::failed("state_lost", "A decision came for a run whose state is gone.")
        }
        None => Next::Go,
        Some(Pending::Started { call, command }) => {
            // Whatever it was, it is not run again: nobody knows how far it came.
            run.checkpoint.record(ToolResult {
                call: call.id,
                tool: call.tool,
                command,
                text: "unknown outcome: the worker stopped while this ran; it was not run again"
                    .to_owned(),
                outcome: Outcome::Unknown,
            });
            run.save().await?;
            Next::Go
        }
        Some(Pending::Held { call, action }) => {
            match Box::pin(settle(&mut run, call, action)).await? {
                Some(next) => next,
                None => return Ok(Turned::Ignored),
            }
        }
    };
    // What a plain run has no need of is boxed, so that thousands of runs stay small.
    let next = match next {
        Next::Go => match run.job.setup.agent.runtime {
            Runtime::Command => Box::pin(command::run(&mut run)).await?,
            Runtime::Model if run.job.worker.options.recording.is_some() => {
                recorded(&mut run).await
            }
            Runtime::Model => model::run(&mut run).await?,
            Runtime::Remote => Next::failed(
                "unsupported",
                "This agent has `runtime: remote`, which this version does not support; use \
                 `model` or `command`.",
            ),
        },
        other => other,
    };
    Ok(match next {
        Next::End { status, reason, answer } => {
            Turned::Ended(Ending::new(status, reason, answer, run.checkpoint))
        }
        Next::Held | Next::Go => Turned::Held,
    })
}

/// What the agent answered in the past, in place of its model.
async fn recorded(run: &mut Run<'_>) -> Next {
    let task = &run.job.task;
    let recording = run.job.worker.options.recording.as_ref();
    match recording.and_then(|past| past.answer(task.message.id, &task.agent)) {
        Some(answer) => {
            run.stream.push(answer).await;
            Next::End { status: RunStatus::Success, reason: "", answer: answer.to_owned() }
        }
        None => Next::failed("not_recorded", "The recording has no answer of this agent."),
    }
}

/// Goes on with a held action: by its decision, or by asking for one again.
async fn settle(
    run: &mut Run<'_>,
    call: crate::checkpoint::Call,
    action: Box<HeldAction>,
) -> Result<Option<Next>, Interrupted> {
    match &run.job.task.decision {
        None => {
            // The worker stopped between saving and publishing, or its ack was lost.
            action::hold::publish(run, &call, &action).await?;
            Ok(Some(Next::Held))
        }
        Some(decision) if decision.action == action.id => {
            let decision = decision.clone();
            Ok(Some(action::decide::decide(run, call, *action, &decision).await?))
        }
        Some(_) => Ok(None),
    }
}
