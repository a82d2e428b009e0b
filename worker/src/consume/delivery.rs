//! One delivery, from pull to ack: limits, the run under its heartbeat, its end.

use std::sync::Arc;
use std::time::Duration;

use aof_shared::limit::{Admission, Demand};
use aof_shared::message::{RunStatus, Task};
use aof_shared::queue::Delivery;
use aof_shared::store::{Recorded, RunEnd, RunState};
use aof_shared::telemetry::TenantLabels;
use aof_shared::trace::Span;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::Worker;
use crate::action;
use crate::admit;
use crate::agent::{self, Ending, Turned};
use crate::checkpoint::Checkpoint;
use crate::consume::{Report, Slot, defer, release, settle};
use crate::finish;
use crate::job::{Age, Interrupted, Job};
use crate::schedule::{BASE_COST, cost_of};

/// Failed deliveries of one task after which it is given up.
const MAX_FAILURES: u32 = 5;
/// A run that takes longer than this is journaled as started while it works; a quicker
/// one together with its end, which saves a commit.
const EAGER_START: Duration = Duration::from_millis(20);
/// Beats within the ack wait.
const BEATS: u32 = 3;

/// Takes one delivery to its end and reports what it cost.
pub(super) async fn handle(
    worker: Arc<Worker>,
    delivery: Delivery,
    slot: Slot,
    report: mpsc::Sender<Report>,
) {
    let tenant = delivery.message.subject.tenant().clone();
    let Slot { permit, place } = slot;
    let task = match settle::parse(&delivery) {
        Ok(task) => task,
        Err(unreadable) => {
            release(&worker, &place).await;
            Box::pin(settle::poison(&worker, delivery, &unreadable)).await;
            let _ = report.send(Report::Ended { tenant, cost: BASE_COST }).await;
            return;
        }
    };
    let mut job = open(worker, task, &delivery);
    let held = match admit(&job, &delivery, &place).await {
        Ok(held) => held,
        Err(no) => {
            release(&job.worker, &place).await;
            Box::pin(defer::send_back(&job, delivery, no, &report)).await;
            return;
        }
    };
    let began = Instant::now();
    let mut span = span_of(&job, &delivery);
    job.trace = span.context();
    let tokens = work(&job, delivery, (&held, &report), &mut span).await;
    drop(span);
    let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let _ = report.send(Report::Ended { tenant, cost: cost_of(tokens, elapsed_ms) }).await;
    drop(permit);
}

/// The span of a delivery's work. One that a limit sends back has none.
fn span_of(job: &Job, delivery: &Delivery) -> Span {
    let task = &job.task;
    let tracer = &job.worker.node.tracer;
    let mut span = tracer.process("worker.consume.delivery", &delivery.message);
    span.tag("flow.name", &task.flow)
        .tag("gen_ai.agent.name", &task.agent)
        .tag("message.id", &task.message.id)
        .tag("run.id", &task.run)
        .tag("revision", &task.revision);
    if let Some(decision) = &task.decision {
        span.tag("action.id", &decision.action);
    }
    if delivery.failures > 0 {
        span.count("messaging.delivery.failures", delivery.failures);
    }
    span
}

/// A job under the configuration that its task was routed under; a decision's under the
/// one in force, which must not have changed what was approved.
fn open(worker: Arc<Worker>, task: Task, delivery: &Delivery) -> Job {
    let config = &worker.node.config;
    let current = config.current();
    let earlier = match &task.decision {
        None => config.at(&task.revision).filter(|s| s.revision != current.revision),
        Some(_) => None,
    };
    let mut setup = match earlier {
        Some(earlier) => worker.flows.setup(earlier, Age::Earlier, &task),
        None => worker.flows.setup(current, Age::Current, &task),
    };
    if delivery.failures >= MAX_FAILURES && setup.problem.is_none() {
        setup.problem = Some((
            "too_many_failures",
            format!("This failed {} times and is given up.", delivery.failures),
        ));
    }
    Job::new(worker, task, delivery.message.clone(), setup)
}

/// Asks for everything that this task needs beside its place. Gives what is now held.
async fn admit(job: &Job, delivery: &Delivery, place: &Demand) -> Result<Demand, defer::No> {
    let setup = &job.setup;
    let mut demand = admit::run(&setup.snapshot.daemon, &setup.flow, &job.task, place);
    if job.worker.paid.has(job.task.id) {
        demand.windows.clear();
    }
    if delivery.failures > 0 && !demand.windows.is_empty() {
        // It came back: a run that had begun was admitted then.
        let store = &job.worker.node.ports.store;
        if matches!(store.run(job.tenant(), job.task.run).await, Ok(Some(_))) {
            demand.windows.clear();
        }
    }
    match job.worker.node.ports.limits.admit(&demand).await {
        Ok(Admission::Granted) => Ok(admit::held(place, &demand)),
        Ok(Admission::Deferred { scope, retry_after_ms }) => {
            Err(defer::No::Limit { scope, retry_after_ms })
        }
        Err(error) => Err(defer::No::Unavailable(error)),
    }
}

/// Counts a run as in flight while it lives.
struct Inflight<'a>(&'a Job);

impl<'a> Inflight<'a> {
    fn of(job: &'a Job) -> Self {
        job.worker.node.metrics.inflight.get_or_create(&labels(job)).inc();
        Self(job)
    }
}

fn labels(job: &Job) -> TenantLabels {
    TenantLabels { tenant: job.tenant().to_string() }
}

impl Drop for Inflight<'_> {
    fn drop(&mut self) {
        self.0.worker.node.metrics.inflight.get_or_create(&labels(self.0)).dec();
    }
}

/// How supervised work ended.
enum Worked {
    /// By itself.
    Turned(Turned),
    /// The task's time is over.
    TimedOut,
    /// The node drains, or another worker has the run.
    HandBack,
}

/// Runs the task and settles its delivery; returns the model tokens it cost.
async fn work(
    job: &Job,
    delivery: Delivery,
    (held, report): (&Demand, &mpsc::Sender<Report>),
    span: &mut Span,
) -> u64 {
    let worked = {
        let _inflight = Inflight::of(job);
        match supervise(job, &delivery, held).await {
            Ok(Worked::TimedOut) => Box::pin(timed_out(job)).await.map(Worked::Turned),
            other => other,
        }
    };
    say(span, &worked);
    let (tokens, told) = match worked {
        Ok(Worked::Turned(Turned::Ended(ending))) => {
            (ending.checkpoint.tokens, end(job, ending, delivery, (held, report)).await)
        }
        Ok(Worked::Turned(Turned::Over(end))) => {
            let closed = Box::pin(action::end::close(job, "its run had ended before")).await;
            free(job, held, report).await;
            match closed {
                Ok(_) => (0, tell_again(job, end, Some(delivery)).await),
                Err(error) => (0, Err((error, Some(delivery)))),
            }
        }
        Ok(Worked::Turned(Turned::Held | Turned::Ignored)) => {
            free(job, held, report).await;
            settle::ack(delivery).await;
            return 0;
        }
        Ok(Worked::TimedOut | Worked::HandBack) => {
            free(job, held, report).await;
            settle::hand_back(delivery).await;
            return 0;
        }
        Err(error) => {
            free(job, held, report).await;
            (0, Err((error, Some(delivery))))
        }
    };
    if let Err((error, held)) = told {
        if error.is_outage() {
            job.worker.paid.first(job.task.id);
            let _ = report.send(Report::Away).await;
        }
        settle::interrupted(job, held, &error).await;
    }
    tokens
}

/// Why a delivery is not settled, and the delivery if it is still held.
type Unsettled = (Interrupted, Option<Delivery>);

/// Records how a run ends, tells everyone, and acks.
async fn end(
    job: &Job,
    mut ending: Box<Ending>,
    delivery: Delivery,
    (held, report): (&Demand, &mpsc::Sender<Report>),
) -> Result<(), Unsettled> {
    let recorded = record(job, &mut ending, delivery).await;
    // The work is over, whatever its record came to.
    free(job, held, report).await;
    let (end, recorded) = recorded?;
    match recorded {
        Recorded::Concluded => {}
        Recorded::Written(batch, deliveries) => {
            job.conclude(batch, deliveries.into_iter().next()).await?;
        }
        Recorded::EndedBefore(deliveries) => {
            let delivery = deliveries.into_iter().next();
            return match stored_end(job).await {
                Ok(Some(end)) => tell_again(job, end, delivery).await,
                Ok(None) => {
                    if let Some(delivery) = delivery {
                        settle::ack(delivery).await;
                    }
                    Ok(())
                }
                Err(error) => Err((error, delivery)),
            };
        }
    }
    finish::stream_end(job, &end).await;
    finish::count(job, &end, ending.reason);
    job.worker.told.forget(job.task.id);
    job.worker.paid.forget(job.task.id);
    Ok(())
}

/// Records the end of a run, and before it that of an approved action it leaves behind.
async fn record(
    job: &Job,
    ending: &mut Ending,
    delivery: Delivery,
) -> Result<(RunEnd, Recorded), Unsettled> {
    match Box::pin(action::end::close(job, &ending.answer)).await {
        Ok(Some(left)) => ending.answer = format!("{} {left}", ending.answer),
        Ok(None) => {}
        Err(error) => return Err((error, Some(delivery))),
    }
    let end = finish::end(job, ending);
    let batch = finish::told(job, &end, ending.reason).and_then(|batch| Ok(job.prepare(batch)?));
    let batch = match batch {
        Ok(batch) => batch,
        Err(error) => return Err((error, Some(delivery))),
    };
    let recorded = job.record(&finish::record(job, &end), batch, delivery).await?;
    Ok((end, recorded))
}

/// Tells everyone how a run ended that had ended before, and acks.
async fn tell_again(job: &Job, end: RunEnd, delivery: Option<Delivery>) -> Result<(), Unsettled> {
    let batch = finish::told(job, &end, finish::reason_again(&end));
    match batch.and_then(|batch| Ok(job.prepare(batch)?)) {
        Ok(batch) => job.conclude(batch, delivery).await?,
        Err(error) => return Err((error, delivery)),
    }
    finish::stream_end(job, &end).await;
    Ok(())
}

/// How the work ended, for its span.
fn say(span: &mut Span, worked: &Result<Worked, Interrupted>) {
    let status = match worked {
        Ok(Worked::Turned(Turned::Ended(ending))) => {
            if ending.status == RunStatus::Failed {
                span.fail(ending.reason);
            }
            ending.status.as_str()
        }
        Ok(Worked::Turned(Turned::Over(end))) => end.status.as_str(),
        Ok(Worked::Turned(Turned::Held)) => "held",
        Ok(Worked::Turned(Turned::Ignored)) => "ignored",
        Ok(Worked::TimedOut | Worked::HandBack) => "handed_back",
        Err(_) => {
            span.fail("interrupted");
            "interrupted"
        }
    };
    span.tag("run.status", &status);
}

async fn free(job: &Job, held: &Demand, report: &mpsc::Sender<Report>) {
    release(&job.worker, held).await;
    let _ = report.send(Report::Freed).await;
}

async fn stored_end(job: &Job) -> Result<Option<RunEnd>, Interrupted> {
    let store = &job.worker.node.ports.store;
    Ok(match store.run(job.tenant(), job.task.run).await? {
        Some((_, RunState::Finished(end))) => Some(end),
        _ => None,
    })
}

/// The run with its heartbeat, its deadline, and the node's drain.
async fn supervise(job: &Job, delivery: &Delivery, held: &Demand) -> Result<Worked, Interrupted> {
    let worker = &job.worker;
    let timeout = Duration::from_secs(job.setup.snapshot.daemon.task_timeout_secs.max(1));
    let mut work = std::pin::pin!(agent::work(job));
    let mut deadline = std::pin::pin!(tokio::time::sleep(timeout));
    let mut announced = std::pin::pin!(announce(job));
    let mut early = true;
    let pace = Duration::from_millis(worker.options.ack_wait_ms.max(1)) / BEATS;
    let mut beat = interval_at(Instant::now() + pace, pace);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            turned = &mut work => return turned.map(Worked::Turned),
            () = worker.abort.cancelled() => return Ok(Worked::HandBack),
            () = &mut deadline => return Ok(Worked::TimedOut),
            _ = beat.tick() => {
                if !keep(job, delivery, held).await {
                    return Ok(Worked::HandBack);
                }
            }
            () = &mut announced, if early => early = false,
        }
    }
}

/// Journals the start of a run that takes its time. While the queue is away the entry waits
/// for the next publication of the run, whose command goes on.
async fn announce(job: &Job) {
    tokio::time::sleep(EAGER_START).await;
    // A store that is slow, or away, lets it begin later; the wait ends with the run.
    while !job.has_begun() {
        tokio::time::sleep(EAGER_START).await;
    }
    if job.owes_start()
        && let Err(error) = job.publish(Vec::new()).await
    {
        tracing::debug!(run.id = %job.task.run, error = %error, "start not journaled yet");
    }
}

/// Says that the run lives. `false`: another worker took it over meanwhile.
async fn keep(job: &Job, delivery: &Delivery, held: &Demand) -> bool {
    let asked = Instant::now();
    match delivery.extend().await {
        Ok(()) => job.lease.renew(asked),
        Err(error) => {
            tracing::debug!(run.id = %job.task.run, error = %error, "ack wait was not extended");
        }
    }
    let limits = &job.worker.node.ports.limits;
    let asked = Instant::now();
    match limits.renew(held).await {
        Ok(true) => {
            job.lease.renew(asked);
            true
        }
        // The limiter forgot them; if they are still free they are ours again.
        Ok(false) => !matches!(limits.admit(held).await, Ok(Admission::Deferred { .. })),
        Err(error) => {
            tracing::debug!(run.id = %job.task.run, error = %error, "places were not renewed");
            true
        }
    }
}

/// The end of a run that took too long.
async fn timed_out(job: &Job) -> Result<Turned, Interrupted> {
    action::end::cut_off(job).await?;
    let store = &job.worker.node.ports.store;
    let saved = match store.run(job.tenant(), job.task.run).await? {
        Some((_, RunState::Finished(end))) => return Ok(Turned::Over(end)),
        Some((_, RunState::Resumed { checkpoint })) => checkpoint,
        _ => None,
    };
    let checkpoint = saved.as_ref().and_then(Checkpoint::read);
    let checkpoint = checkpoint.unwrap_or_else(|| Checkpoint::new(job.now_ms()));
    let seconds = job.setup.snapshot.daemon.task_timeout_secs;
    let text = format!("Stopped after {seconds} s, the time limit of a task.");
    Ok(Turned::Ended(Ending::new(RunStatus::Failed, "timeout", text, checkpoint)))
}
