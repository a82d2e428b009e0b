//! Holds an action: the checkpoint first, then the request for a decision. Nobody waits.

use aof_shared::action::{ActionMessage, Command, HeldAction, Identity, Quorum};
use aof_shared::config::Approval;
use aof_shared::event::EventType;
use aof_shared::ids::{ActionId, EventId};
use aof_shared::queue::Publication;
use aof_shared::subject::{Stream, Subject};
use aof_shared::trace::{SpanKind, TRACEPARENT, TraceContext};
use serde_json::json;

use crate::agent::call::noted;
use crate::agent::{Next, Run};
use crate::checkpoint::{Call, Outcome, Pending, ToolResult};
use crate::guard::Verdict;
use crate::job::{Interrupted, Job};
use crate::tool::{self, context};

/// How long people have unless the flow says otherwise, in seconds. Source: 001.
const DEFAULT_TIMEOUT_SECS: u64 = 300;
/// Bytes of randomness in a nonce.
const NONCE_BYTES: usize = 16;

/// A command that the guard held.
pub(crate) struct Wanted {
    /// The call.
    pub(crate) call: Call,
    /// What would run, the program as a path.
    pub(crate) argv: Vec<String>,
    /// The chain that the rule names.
    pub(crate) chain: String,
    /// The rule.
    pub(crate) rule: String,
    /// As people write it, secrets masked.
    pub(crate) command: String,
    /// The call's span.
    pub(crate) trace: TraceContext,
}

/// Holds `wanted` for its chain.
///
/// # Errors
/// [`Interrupted`].
pub(crate) async fn hold(run: &mut Run<'_>, wanted: Wanted) -> Result<Next, Interrupted> {
    let job = run.job;
    let approval = &job.setup.flow.approval;
    let Some(quorum) = quorum(approval, &wanted.chain) else {
        let text = format!(
            "`{}` needs the approval of `{}`, and nobody is in that chain. It was refused.",
            wanted.command, wanted.chain
        );
        run.checkpoint.record(ToolResult {
            call: wanted.call.id,
            tool: wanted.call.tool,
            command: wanted.command,
            text,
            outcome: Outcome::Refused,
        });
        run.save().await?;
        return Ok(Next::Go);
    };
    let tracer = &job.worker.node.tracer;
    let opening = tracer.span("worker.action.hold", SpanKind::Producer);
    let mut span = opening.under(Some(wanted.trace)).start();
    let mut action = Box::new(held(job, run.checkpoint.step, &wanted, quorum));
    action.traceparent = Some(span.context().traceparent());
    span.tag_published(Stream::Actions).tag("run.id", &action.run).tag("action.id", &action.id);
    run.checkpoint.pending =
        Some(Pending::Held { call: wanted.call.clone(), action: action.clone() });
    run.save().await?;
    publish(run, &wanted.call, &action).await?;
    Ok(Next::Held)
}

/// Who may decide: the chain's people; `None` when there are none.
fn quorum(approval: &Approval, chain: &str) -> Option<Quorum> {
    let chain = approval.chains.iter().find(|c| c.name == chain)?;
    if chain.approvers.is_empty() {
        return None;
    }
    Some(Quorum {
        chain: chain.name.clone(),
        approvers: chain.approvers.clone(),
        require: chain.require.max(1),
        self_approval: approval.self_approval,
    })
}

fn held(job: &Job, step: u32, wanted: &Wanted, quorum: Quorum) -> HeldAction {
    let now_ms = job.now_ms();
    let message = &job.task.message;
    let timeout_secs = match job.setup.flow.approval.timeout_secs {
        0 => DEFAULT_TIMEOUT_SECS,
        set => set,
    };
    let mut task = job.task.clone();
    task.decision = None;
    let mut action = HeldAction {
        id: ActionId::derive(job.task.run, step),
        tenant: job.tenant().clone(),
        flow: job.task.flow.clone(),
        revision: job.setup.revision().clone(),
        agent: job.task.agent.clone(),
        run: job.task.run,
        step,
        requester: Identity::of(message.platform.clone(), &message.user),
        command: command(job, wanted.argv.clone()),
        rule: wanted.rule.clone(),
        quorum,
        held_at_ms: now_ms,
        expires_at_ms: now_ms.saturating_add(timeout_secs.saturating_mul(1_000)),
        nonce: hex::encode(rand::random::<[u8; NONCE_BYTES]>()),
        digest: String::new(),
        task: Box::new(task),
        traceparent: None,
    };
    action.digest = action.compute_digest();
    action
}

/// What `argv` means under the job's configuration.
pub(super) fn command(job: &Job, argv: Vec<String>) -> Command {
    context::command(&job.setup.flow.context, argv)
}

/// Publishes the request for a decision; again when the first time is not certain.
///
/// # Errors
/// [`Interrupted`].
pub(crate) async fn publish(
    run: &Run<'_>,
    call: &Call,
    action: &HeldAction,
) -> Result<(), Interrupted> {
    let job = run.job;
    let shown = job.mask.apply(tool::shown(&action.command.argv));
    let subject = Subject::action(&action.tenant);
    let body = ActionMessage::Held(Box::new(action.clone()));
    let mut request =
        Publication::json(subject, action.id.0, &body)?.ordered_by(action.run.to_string());
    if let Some(held) = &action.traceparent {
        request = request.with_header(TRACEPARENT, held);
    }
    let (chain, rule) = (action.quorum.chain.clone(), action.rule.clone());
    let held = |argv| noted(job, argv, Verdict::Hold { chain: chain.clone(), rule: rule.clone() });
    let judged = tool::argv_of(call).ok().map(held);
    let data = json!({
        "action_id": action.id, "step": action.step, "command": shown,
        "target": action.command.target, "rule": action.rule, "chain": action.quorum.chain,
        "require": action.quorum.require, "expires_at_ms": action.expires_at_ms,
        "digest": action.digest, "judged": judged,
    });
    let event = job.event(EventId::derive(action.id.0, "held"), EventType::ActionHeld, data);
    job.publish(vec![event.publication()?, request]).await?;
    let text = format!(
        "held `{shown}` for {} of chain `{}` (action {})",
        action.quorum.require, action.quorum.chain, action.id
    );
    run.stream.held(text).await;
    Ok(())
}
