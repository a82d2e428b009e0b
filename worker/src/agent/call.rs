//! One tool call: listed? resolved? what does the guard say? Then it runs once, is held,
//! or comes back as a result that says no.

use std::path::{Path, PathBuf};

use aof_shared::event::EventType;
use aof_shared::ids::{ActionId, EventId};
use aof_shared::trace::{Span, SpanKind};
use serde_json::json;

use crate::action;
use crate::agent::{Next, Run};
use crate::checkpoint::{Call, Outcome, Pending, ToolResult};
use crate::guard::{self, Judged, Verdict};
use crate::job::{Interrupted, Job};
use crate::tool::fence::{self, Bounds, Launch, Network};
use crate::tool::process::{self, Ended, Program};
use crate::tool::{self, context, http, resolve};

/// Longest output that the journal keeps of a step, in characters.
const JOURNALED_CHARS: usize = 2_000;

/// Makes one call. [`Next::Go`] means that its result is recorded in the checkpoint.
///
/// # Errors
/// [`Interrupted`].
pub(super) async fn call(run: &mut Run<'_>, call: Call) -> Result<Next, Interrupted> {
    let mut span = run.job.span("worker.agent.call", SpanKind::Internal).start();
    span.tag("gen_ai.operation.name", &"execute_tool").tag("run.id", &run.job.task.run);
    let made = judged(run, call, &mut span).await;
    if made.is_err() {
        span.fail("interrupted");
    }
    made
}

async fn judged(run: &mut Run<'_>, call: Call, span: &mut Span) -> Result<Next, Interrupted> {
    let job = run.job;
    let setup = &job.setup;
    if let Err(error) = resolve::check_listed(&call.tool, setup.tools()) {
        let command = job.mask.apply(call.tool.clone());
        span.tag("guard.verdict", &"not_listed");
        let reason = error.to_string();
        let refused = |argv| noted(job, argv, Verdict::Refuse { reason: reason.clone() });
        let judged = tool::argv_of(&call).ok().map(refused);
        return refuse(run, call, (command, reason), judged).await;
    }
    // Only now: the name of a tool that is not listed is whatever somebody wrote.
    span.tag("gen_ai.tool.name", &call.tool).tag("gen_ai.tool.call.id", &call.id);
    if http::NAMES.contains(&call.tool.as_str()) {
        return query(run, call).await;
    }
    let argv = match tool::argv_of(&call) {
        Ok(argv) => argv,
        Err(error) => {
            let command = call.tool.clone();
            return refuse(run, call, (command, error), None).await;
        }
    };
    let command = job.mask.apply(tool::shown(&argv));
    job.note_command(&command);
    let flow_agent = setup.flow_agent.as_ref();
    let verdict = guard::review(&argv, &setup.agent, flow_agent, &setup.flow.approval);
    span.tag("guard.verdict", &verdict.name());
    let judged = noted(job, argv.clone(), verdict.clone());
    if let Verdict::Refuse { reason } = verdict {
        return refuse(run, call, (command, reason), Some(judged)).await;
    }
    let recording = job.worker.options.recording.as_deref();
    let program = match resolve::resolve(&argv[0], context::path(&setup.flow.context)) {
        Ok(program) => program,
        Err(_) if recording.is_some() => PathBuf::from(&argv[0]),
        Err(error) => {
            let result = result_of(&call, command, error.to_string(), Outcome::Failed);
            record(run, result, Some(judged)).await?;
            return Ok(Next::Go);
        }
    };
    if let Verdict::Hold { chain, rule } = verdict {
        let mut resolved = argv;
        resolved[0] = program.to_string_lossy().into_owned();
        let trace = span.context();
        let wanted = action::hold::Wanted { call, argv: resolved, chain, rule, command, trace };
        return action::hold::hold(run, wanted).await;
    }
    if let Some(recording) = recording {
        let (outcome, text) = recording.tool(job.task.message.id, &command);
        record(run, result_of(&call, command, text, outcome), Some(judged)).await?;
        return Ok(Next::Go);
    }
    if job.lease.is_over() {
        return Err(Interrupted::Superseded);
    }
    run.checkpoint.pending =
        Some(Pending::Started { call: call.clone(), command: command.clone() });
    run.save().await?;
    // Frozen meanwhile: the others take what was saved for a start, and have gone on.
    if job.lease.is_over() {
        return Err(Interrupted::Superseded);
    }
    run.stream.step(format!("running `{command}`")).await;
    let (outcome, text) = execute(job, program, argv[1..].to_vec(), &call.tool).await;
    tag_outcome(span, &outcome);
    record(run, result_of(&call, command, text, outcome), Some(judged)).await?;
    Ok(Next::Go)
}

/// A judgement as the journal keeps it.
pub(crate) fn noted(job: &Job, argv: Vec<String>, verdict: Verdict) -> Judged {
    Judged::new(argv, verdict, &job.setup.flow).masked_by(|text| job.mask.apply(text))
}

/// How a program ended, for its span.
pub(crate) fn tag_outcome(span: &mut Span, outcome: &Outcome) {
    match outcome {
        Outcome::Exited { code } => {
            span.count("process.exit.code", i64::from(*code));
        }
        Outcome::Failed => {
            span.fail("tool_failed");
        }
        Outcome::Refused | Outcome::Unknown => {}
    }
}

fn result_of(call: &Call, command: String, text: String, outcome: Outcome) -> ToolResult {
    ToolResult { call: call.id.clone(), tool: call.tool.clone(), command, text, outcome }
}

/// Runs a program with its flow's environment, in its flow's or the run's own directory.
pub(crate) async fn execute(
    job: &Job,
    path: PathBuf,
    args: Vec<String>,
    tool: &str,
) -> (Outcome, String) {
    let setup = &job.setup;
    let made = job.dir.get_or_try_init(|| async { job.worker.tools.run_dir(job.task.run) }).await;
    let home = match made {
        Ok(dir) => dir.path(),
        Err(error) => return (Outcome::Failed, format!("no scratch directory: {error}")),
    };
    let launch = launch(job, home, tool);
    if launch.is_none() && network(job, tool) != Network::Open {
        return (Outcome::Failed, "this system cannot close a tool's network".to_owned());
    }
    let context = &setup.flow.context;
    let program = Program {
        path,
        args,
        environment: context::environment(context, home),
        directory: context.working_dir.clone().unwrap_or_else(|| home.to_owned()),
        timeout: tool::timeout(setup.tool_config(tool)),
        launch,
    };
    let output = process::run(&program, &job.mask).await;
    match output.ended {
        Ended::Exited(code) => (Outcome::Exited { code }, output.text),
        Ended::NotStarted(reason) => (Outcome::Failed, reason),
        Ended::TimedOut => {
            let seconds = program.timeout.as_secs();
            let text = format!("stopped after {seconds} s, its time limit\n{}", output.text);
            (Outcome::Failed, text.trim_end().to_owned())
        }
    }
}

/// The fence around a tool: it sees its own run, directory and kubeconfig, and nothing of
/// the node's or of other organisations'.
fn launch(job: &Job, home: &Path, tool: &str) -> Option<Launch> {
    let fence = job.worker.options.fence.as_ref()?;
    let context = &job.setup.flow.context;
    let snapshot = job.worker.node.config.current();
    let mut hidden = fence.hidden.clone();
    hidden.extend(job.worker.kubeconfigs.of_others(&snapshot, &job.task.message.tenant));
    let mut open = vec![home.to_owned()];
    open.extend(context.working_dir.clone());
    open.extend(context.kubeconfig.iter().flat_map(|list| fence::split(list)));
    let bounds = Bounds { hidden, open, network: network(job, tool) };
    Some(Launch { launcher: fence.launcher.clone(), bounds })
}

fn network(job: &Job, tool: &str) -> Network {
    let config = job.setup.tool_config(tool);
    Network::of_setting(config.and_then(|config| config.settings.get("network")))
}

/// A built-in query: read-only, so it needs no guard and may simply run again.
async fn query(run: &mut Run<'_>, call: Call) -> Result<Next, Interrupted> {
    let job = run.job;
    let (query, options) = query_of(&call);
    let command = job.mask.apply(format!("{} {query}", call.tool));
    job.note_command(&command);
    if let Some(recording) = job.worker.options.recording.as_deref() {
        let (outcome, text) = recording.tool(job.task.message.id, &command);
        record(run, result_of(&call, command, text, outcome), None).await?;
        return Ok(Next::Go);
    }
    run.stream.step(format!("asking `{command}`")).await;
    let config = job.setup.tool_config(&call.tool);
    let asked = job.worker.tools.queries().ask(&call.tool, config, &query, &options).await;
    let result = match asked {
        Ok(text) => {
            let text = job.mask.apply(text);
            result_of(&call, command, text, Outcome::Exited { code: 0 })
        }
        Err(error) => {
            let error = job.mask.apply(error);
            result_of(&call, command, error, Outcome::Failed)
        }
    };
    record(run, result, None).await?;
    Ok(Next::Go)
}

/// The query and its options: by name, or as a typed command's arguments.
fn query_of(call: &Call) -> (String, Vec<(String, String)>) {
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if let Some(args) = call.arguments.get("args").and_then(|a| a.as_array()) {
        let query = args.iter().map(text).collect::<Vec<_>>().join(" ");
        return (query, Vec::new());
    }
    let query = call.arguments.get("query").map(text).unwrap_or_default();
    let options = ["time", "start", "end", "limit"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), text(call.arguments.get(name)?))));
    (query, options.collect())
}

async fn refuse(
    run: &mut Run<'_>,
    call: Call,
    (command, reason): (String, String),
    judged: Option<Judged>,
) -> Result<Next, Interrupted> {
    let job = run.job;
    job.note_command(&command);
    let action = ActionId::derive(job.task.run, run.checkpoint.step);
    let reason = job.mask.apply(reason);
    let data = json!({
        "action_id": action, "step": run.checkpoint.step, "command": command, "reason": reason,
        "judged": judged,
    });
    let event = job.event(EventId::derive(action.0, "refused"), EventType::ActionRefused, data);
    job.publish(vec![event.publication()?]).await?;
    run.stream.step(format!("refused `{command}`: {reason}")).await;
    let text = format!("`{command}` was refused: {reason}");
    run.checkpoint.record(result_of(&call, command, text, Outcome::Refused));
    run.save().await?;
    Ok(Next::Go)
}

/// Records a result in the checkpoint and the journal, then lets the turn see it. `judged`
/// is left out where the journal has it already, with what was held.
pub(crate) async fn record(
    run: &mut Run<'_>,
    result: ToolResult,
    judged: Option<Judged>,
) -> Result<(), Interrupted> {
    let job = run.job;
    let step = run.checkpoint.step;
    let output: String = result.text.chars().take(JOURNALED_CHARS).collect();
    let mut data = json!({
        "step": step, "tool": result.tool, "command": result.command,
        "outcome": result.outcome, "output": output,
    });
    if let Some(judged) = judged {
        data["judged"] = serde_json::to_value(judged)?;
    }
    let id = EventId::derive(job.task.run.0, &format!("step-{step}"));
    let event = job.event(id, EventType::RunStep, data);
    run.checkpoint.record(result);
    let publication = event.publication()?;
    let (saved, published) = tokio::join!(run.save(), job.publish(vec![publication]));
    saved?;
    published
}
