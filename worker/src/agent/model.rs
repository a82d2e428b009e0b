//! The `model` runtime: model → tools through the guard → results → …, until an answer
//! or a limit. Every way out says what happened.

use std::time::Duration;

use aof_shared::message::RunStatus;
use aof_shared::trace::SpanKind;

use crate::admit;
use crate::agent::{Next, Run, call, memory, prompt};
use crate::checkpoint::{Call, Entry, Outcome, ToolResult};
use crate::job::Interrupted;
use crate::model::{ECHO, ModelError, Request, Said, estimate_tokens};

/// How often spent tokens are charged when the limits are away, half a minute in all: a
/// restart of theirs is shorter. The charge's id makes it once.
const CHARGE_ATTEMPTS: u32 = 60;
/// Pause between them.
const CHARGE_PAUSE: Duration = Duration::from_millis(500);

/// Works until the model has no more tools to call.
///
/// # Errors
/// [`Interrupted`].
pub(super) async fn run(run: &mut Run<'_>) -> Result<Next, Interrupted> {
    let setup = &run.job.setup;
    let (tools, meant) = prompt::tools(setup.tools());
    let mut request = Request {
        system: prompt::system(setup),
        user: prompt::user(&run.job.task.message),
        tools,
        temperature: setup.agent.temperature,
        ..Request::default()
    };
    request.history = history(run, &request).await?;
    loop {
        while let Some(mut open) = run.checkpoint.open_call() {
            let Some(tool) = meant.get(&open.tool) else {
                run.checkpoint.record(unknown_tool(open, setup.tools()));
                continue;
            };
            open.tool.clone_from(tool);
            match Box::pin(call::call(run, open)).await? {
                Next::Go => {}
                other => return Ok(other),
            }
        }
        let calls = run.checkpoint.model_calls;
        if calls >= setup.agent.max_iterations.max(1) {
            return Ok(Next::failed(
                "max_iterations",
                format!(
                    "The agent stopped after {calls} model calls, its `max_iterations`, without \
                     a final answer."
                ),
            ));
        }
        match one(run, &mut request).await? {
            Ok(said) if said.calls.is_empty() => return Ok(done(run)),
            Ok(said) => {
                let entry = Entry::Said { text: said.text, calls: said.calls };
                run.checkpoint.transcript.push(entry);
            }
            Err(end) => return Ok(end),
        }
    }
}

fn done(run: &Run<'_>) -> Next {
    let answer = run.stream.text();
    if answer.trim().is_empty() {
        return Next::failed("empty_answer", "The model gave an empty answer.");
    }
    Next::End { status: RunStatus::Success, reason: "", answer: answer.to_owned() }
}

fn unknown_tool(call: Call, tools: &[String]) -> ToolResult {
    ToolResult {
        text: format!("there is no tool `{}`; there is: {}", call.tool, tools.join(", ")),
        command: call.tool.clone(),
        call: call.id,
        tool: call.tool,
        outcome: Outcome::Refused,
    }
}

/// The part of the conversation's memory that the model is given.
async fn history(
    run: &Run<'_>,
    request: &Request,
) -> Result<Vec<(crate::model::Role, String)>, Interrupted> {
    let job = run.job;
    let agent = &job.setup.agent;
    if agent.memory.max_messages == 0 || agent.model.provider == ECHO {
        return Ok(Vec::new());
    }
    let key = memory::key(agent.memory.session, &job.task.flow, &job.task.message);
    let turns = job.worker.node.ports.store.history(&key, agent.memory.max_messages).await?;
    let fixed = estimate_tokens(&request.system) + estimate_tokens(&request.user);
    // Half of the cap is left for the answer and for tools.
    let budget = cap(run).map(|cap| (cap / 2).saturating_sub(fixed));
    Ok(memory::fitting(turns, budget))
}

fn cap(run: &Run<'_>) -> Option<u64> {
    let setup = &run.job.setup;
    admit::tokens_per_request(&setup.snapshot.daemon, &setup.flow, &run.job.task)
}

/// One model call within the token limits, charged to the day's budgets.
async fn one(run: &mut Run<'_>, request: &mut Request) -> Result<Result<Said, Next>, Interrupted> {
    let job = run.job;
    if let Some(next) = over_day_budget(run).await? {
        return Ok(Err(next));
    }
    let agent = &job.setup.agent;
    request.max_tokens = agent.max_tokens;
    if let Some(cap) = cap(run) {
        let used = run.checkpoint.tokens;
        let asked = estimate_tokens(&request.system) + estimate_tokens(&request.user);
        let left = cap.saturating_sub(used);
        if left <= asked {
            let text = format!(
                "The request's limit of {cap} tokens is used up ({used} so far); it was cut here."
            );
            return Ok(Err(Next::refused("tokens_per_request", text)));
        }
        let left = u32::try_from(left - asked).unwrap_or(u32::MAX);
        request.max_tokens = Some(agent.max_tokens.map_or(left, |most| most.min(left)));
    }
    request.transcript.clone_from(&run.checkpoint.transcript);
    run.stream.new_paragraph();
    let said = match ask(run, request).await {
        Ok(said) => said,
        Err(error) => {
            tracing::debug!(run.id = %job.task.run, error = %error, "model call gave up");
            let text = job.mask.apply(format!("No answer: {error}."));
            return Ok(Err(Next::failed(error.reason(), text)));
        }
    };
    run.checkpoint.tokens += said.tokens;
    charge(run, said.tokens).await;
    Ok(Ok(said))
}

/// The call itself, in its span.
async fn ask(run: &mut Run<'_>, request: &Request) -> Result<Said, ModelError> {
    let job = run.job;
    let model = &job.setup.agent.model;
    let mut span = job.span("worker.agent.model", SpanKind::Client).start();
    span.tag("gen_ai.operation.name", &"chat")
        .tag("gen_ai.provider.name", &model.provider)
        .tag("gen_ai.request.model", &model.name)
        .count("gen_ai.request.messages", request.history.len() + request.transcript.len() + 1);
    if let Some(most) = request.max_tokens {
        span.count("gen_ai.request.max_tokens", most);
    }
    let daemon = &job.setup.snapshot.daemon;
    let asked = job.worker.models.ask(daemon, model, request, &mut run.stream).await;
    run.checkpoint.model_calls += 1;
    match &asked {
        Ok(said) => {
            span.count("gen_ai.usage.total_tokens", said.tokens)
                .count("gen_ai.response.tool_calls", said.calls.len());
        }
        Err(error) => {
            span.fail(error.reason());
        }
    }
    asked
}

/// Says no when a budget of today is used up already. Without the limits nobody knows, so the
/// run waits.
async fn over_day_budget(run: &Run<'_>) -> Result<Option<Next>, Interrupted> {
    let job = run.job;
    let setup = &job.setup;
    let day = admit::day(job.now_ms());
    for budget in admit::budgets(&setup.snapshot.daemon, &setup.flow, &job.task) {
        let spent = job.worker.node.ports.limits.spent(&budget.scope, day).await?;
        if spent >= budget.limit {
            let text = format!(
                "Today's budget of {} tokens ({}) is used up. It starts anew at 00:00 UTC.",
                budget.limit,
                admit::kind(&budget.scope)
            );
            return Ok(Some(Next::refused("tokens_per_day", text)));
        }
    }
    Ok(None)
}

/// Charges one call's tokens, once, to every budget of the day.
async fn charge(run: &Run<'_>, tokens: u64) {
    let job = run.job;
    let setup = &job.setup;
    let day = admit::day(job.now_ms());
    let call = format!("{}/{}", job.task.run, run.checkpoint.model_calls);
    for budget in admit::budgets(&setup.snapshot.daemon, &setup.flow, &job.task) {
        let limits = &job.worker.node.ports.limits;
        let charge_id = format!("{}/{call}", budget.scope);
        for attempt in 1..=CHARGE_ATTEMPTS {
            match limits.charge(&budget.scope, day, tokens, &charge_id).await {
                Ok(_) => break,
                Err(error) if attempt == CHARGE_ATTEMPTS => {
                    let scope = &budget.scope;
                    tracing::error!(%scope, tokens, %error, "tokens were spent and not charged");
                }
                Err(_) => tokio::time::sleep(CHARGE_PAUSE).await,
            }
        }
    }
}
