//! `/accounts/{a}/approvals`: what waits for people, and their votes.

mod ballot;

use aof_shared::action::{
    Approval, ApprovalStatus, Choice, Identity, Quorum, RecordedVote, SelfApproval,
};
use aof_shared::ids::{ActionId, PlatformName};
use aof_shared::store::ApprovalFilter;
use axum::Json;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use self::ballot::{Ballot, Verdict};
use super::body;
use crate::app::{App, Shared};
use crate::auth::{Caller, Scope};
use crate::problem::{Problem, ProblemBody};

/// Approvals in one listing.
const MAX_LISTED: usize = 500;
/// Approvals in one listing, unless asked otherwise.
const DEFAULT_LISTED: usize = 100;
/// Longest reason of a vote in bytes.
const MAX_REASON_BYTES: usize = 2_000;
/// The platform of votes that come through this API.
const VOTER_PLATFORM: &str = "api";

/// The routes of this file.
pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show)).routes(routes!(vote))
}

/// An approval as people see it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct ApprovalBody {
    #[schema(value_type = String)]
    id: Uuid,
    /// `pending`, `approved`, `denied`, `expired`, `started`, `executed`, `failed`, `uncertain`.
    status: String,
    /// What exactly will run.
    argv: Vec<String>,
    /// Where.
    directory: String,
    /// On what.
    target: String,
    /// Names of the variables that it gets; never their values.
    environment: Vec<String>,
    flow: String,
    agent: String,
    /// The rule that held it.
    rule: String,
    #[schema(value_type = Object)]
    requester: Identity,
    /// The chain of people who may decide.
    chain: String,
    approvers: Vec<String>,
    /// How many distinct people must agree.
    require: u32,
    /// `allowed` or `never`: whether the requester's own vote counts.
    #[schema(value_type = String)]
    self_approval: SelfApproval,
    /// How many more must agree.
    missing: u32,
    #[schema(value_type = Vec<Object>)]
    votes: Vec<RecordedVote>,
    held_at_ms: u64,
    expires_at_ms: u64,
    decided_at_ms: Option<u64>,
    /// SHA-256 over everything that decides what runs.
    digest: String,
    #[schema(value_type = String)]
    run_id: Uuid,
    #[schema(value_type = String)]
    message_id: Uuid,
    /// What came of it.
    outcome: Option<String>,
    /// The platform's id of the message that shows it.
    posted: Option<String>,
}

/// Approvals of an account, newest first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct ApprovalList {
    approvals: Vec<ApprovalBody>,
}

impl From<Approval> for ApprovalBody {
    fn from(approval: Approval) -> Self {
        let agreed = approval.votes.iter().filter(|v| v.choice == Choice::Approve).count();
        let agreed = u32::try_from(agreed).unwrap_or(u32::MAX);
        let message_id = approval.action.message().id.0;
        let action = approval.action;
        Self {
            id: action.id.0,
            status: approval.status.as_str().to_owned(),
            argv: action.command.argv,
            directory: action.command.directory,
            target: action.command.target,
            environment: action.command.environment.into_keys().collect(),
            flow: action.flow.to_string(),
            agent: action.agent.to_string(),
            rule: action.rule,
            requester: action.requester,
            missing: action.quorum.require.saturating_sub(agreed),
            chain: action.quorum.chain,
            approvers: action.quorum.approvers,
            require: action.quorum.require,
            self_approval: action.quorum.self_approval,
            votes: approval.votes,
            held_at_ms: action.held_at_ms,
            expires_at_ms: action.expires_at_ms,
            decided_at_ms: approval.decided_at_ms,
            digest: action.digest,
            run_id: action.run.0,
            message_id,
            outcome: approval.outcome,
            posted: approval.posted,
        }
    }
}

#[derive(Debug, Deserialize)]
struct Filter {
    status: Option<String>,
    limit: Option<usize>,
}

/// Lists approvals, newest first.
#[utoipa::path(
    get,
    path = "/accounts/{account}/approvals",
    tag = "approvals",
    params(
        ("account" = String, Path, description = "the account"),
        ("status" = Option<String>, Query, description = "only this status"),
        ("limit" = Option<usize>, Query, description = "at most so many, up to 500"),
    ),
    security(("key" = ["read"])),
    responses((status = 200, body = ApprovalList), (status = 404, body = ProblemBody))
)]
async fn list(
    State(app): State<Shared>,
    Path(account): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Json<ApprovalList>, Problem> {
    let caller = app.authorize(&headers, &account, Scope::Read).await?;
    let filter: Filter = body::query(query.as_deref())?;
    let status = filter.status.as_deref().map(status_of).transpose()?;
    let limit = filter.limit.unwrap_or(DEFAULT_LISTED).clamp(1, MAX_LISTED);
    let filter = ApprovalFilter { status, limit };
    let approvals = app.node.ports.store.approvals(&caller.tenant, &filter).await?;
    Ok(Json(ApprovalList { approvals: approvals.into_iter().map(Into::into).collect() }))
}

fn status_of(name: &str) -> Result<ApprovalStatus, Problem> {
    serde_json::from_value(serde_json::Value::String(name.to_owned())).map_err(|_| {
        let known = "pending, approved, denied, expired, started, executed, failed, uncertain";
        Problem::invalid_field("?status", format!("use one of {known}"))
    })
}

/// Shows one approval.
#[utoipa::path(
    get,
    path = "/accounts/{account}/approvals/{id}",
    tag = "approvals",
    params(
        ("account" = String, Path, description = "the account"),
        ("id" = String, Path, description = "the approval's id"),
    ),
    security(("key" = ["read"])),
    responses((status = 200, body = ApprovalBody), (status = 404, body = ProblemBody))
)]
async fn show(
    State(app): State<Shared>,
    Path((account, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<ApprovalBody>, Problem> {
    let caller = app.authorize(&headers, &account, Scope::Read).await?;
    Ok(Json(find(&app, &caller, &id).await?.into()))
}

async fn find(app: &App, caller: &Caller, id: &str) -> Result<Approval, Problem> {
    let missing = || Problem::not_found("approval", id);
    let id: ActionId = id.parse().map_err(|_| missing())?;
    app.node.ports.store.approval(&caller.tenant, id).await?.ok_or_else(missing)
}

/// A vote.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
struct VoteRequest {
    /// `approve`, `deny` or `withdraw`.
    vote: String,
    /// Why.
    #[serde(default)]
    reason: Option<String>,
}

/// What became of a vote.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct VoteBody {
    /// `counted`, `already counted` for the same vote again, or `cast` when the approver has not answered yet.
    result: String,
    /// Why it was rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The approval as it stands now.
    approval: ApprovalBody,
}

/// Votes as the key's user, and says whether it counted.
#[utoipa::path(
    post,
    path = "/accounts/{account}/approvals/{id}/votes",
    tag = "approvals",
    params(
        ("account" = String, Path, description = "the account"),
        ("id" = String, Path, description = "the approval's id"),
    ),
    security(("key" = ["approve"])),
    request_body = VoteRequest,
    responses(
        (status = 200, description = "counted", body = VoteBody),
        (status = 202, description = "cast; not answered yet", body = VoteBody),
        (status = 404, body = ProblemBody),
        (status = 409, description = "rejected, or decided before", body = ProblemBody),
    )
)]
async fn vote(
    State(app): State<Shared>,
    Path((account, id)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, content) = request.into_parts();
    let caller = app.authorize(&parts.headers, &account, Scope::Approve).await?;
    let wanted: VoteRequest = body::json(&parts.headers, content, app.max_body_bytes).await?;
    let choice = choice_of(&wanted.vote)?;
    if wanted.reason.as_ref().is_some_and(|r| r.len() > MAX_REASON_BYTES) {
        return Err(Problem::invalid_field("/reason", "use at most 2,000 bytes"));
    }
    let approval = find(&app, &caller, &id).await?;
    if approval.status != ApprovalStatus::Pending {
        let detail = format!("it is decided already: {}", approval.status.as_str());
        return Err(Problem::conflict(detail));
    }
    let before = approval.votes.iter().find(|v| v.voter == voter(&caller));
    match before.map(|v| v.choice) {
        None | Some(Choice::Withdraw) if choice == Choice::Withdraw => {
            return Err(Problem::conflict("you have no vote on it that could be taken back"));
        }
        Some(cast) if cast == choice && says_nothing_new(before, &wanted) => {
            let body = VoteBody {
                result: "already counted".to_owned(),
                reason: None,
                approval: approval.into(),
            };
            return Ok(Json(body).into_response());
        }
        _ => {}
    }
    let caller_trace = body::trace(&parts.headers);
    let mut span = app.span("gateway.api.approvals", caller_trace, &caller.tenant);
    span.tag("action.id", &approval.action.id);
    let ballot = Ballot {
        tenant: caller.tenant.clone(),
        action: approval.action.id,
        voter: voter(&caller),
        choice,
        reason: wanted.reason,
        trace: span.context(),
    };
    let quorum = approval.action.quorum;
    let verdict = ballot.cast(&app).await?;
    let approval = find(&app, &caller, &id).await?.into();
    let (status, result, reason) = match verdict {
        Verdict::Counted => (StatusCode::OK, "counted", None),
        Verdict::Rejected(why) => return Err(Problem::conflict(rejected(&why, &caller, &quorum))),
        Verdict::Open => (StatusCode::ACCEPTED, "cast", None),
    };
    let body = VoteBody { result: result.to_owned(), reason, approval };
    Ok((status, Json(body)).into_response())
}

/// Why a vote does not count, with who cast it and whose would.
fn rejected(why: &str, caller: &Caller, quorum: &Quorum) -> String {
    let Quorum { chain, approvers, .. } = quorum;
    let user = &caller.key.user;
    format!("rejected: {why}; you vote as `{user}`, chain `{chain}` is {}", approvers.join(", "))
}

/// Whether the reason is the one that was given before, or none.
fn says_nothing_new(before: Option<&RecordedVote>, wanted: &VoteRequest) -> bool {
    wanted.reason.is_none() || before.is_some_and(|vote| vote.reason == wanted.reason)
}

fn voter(caller: &Caller) -> Identity {
    let platform = PlatformName::new(VOTER_PLATFORM).expect("a plain constant");
    Identity::new(platform, caller.key.user.clone())
}

fn choice_of(vote: &str) -> Result<Choice, Problem> {
    match vote {
        "approve" => Ok(Choice::Approve),
        "deny" => Ok(Choice::Deny),
        "withdraw" => Ok(Choice::Withdraw),
        _ => Err(Problem::invalid_field("/vote", "use `approve`, `deny` or `withdraw`")),
    }
}
