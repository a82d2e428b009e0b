//! `POST /webhook/…`: signature, replay guard, shape, publish; 2xx only after the queue's receipt.

use std::sync::Arc;

use aof_shared::config::Instance;
use aof_shared::ids::MessageId;
use aof_shared::subject::LiveSubject;
use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::body;
use crate::app::{App, Shared};
use crate::ingress::{
    Hop, ReceiptBody, VotePublication, publish_message, publish_notice, publish_vote,
};
use crate::instances::{Authenticated, authenticate};
use crate::platform::{self, Answer, Inbound, Platform, Signed};
use crate::problem::{Problem, ProblemBody};

/// What whoever called the bot and said nothing is told.
const EMPTY_NOTICE: &str =
    "I am here. Mention me again with what you would like me to do, in the same message.";

/// The routes of this file.
pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(named)).routes(routes!(unnamed))
}

/// Takes a platform's webhook for one instance.
#[utoipa::path(
    post,
    path = "/webhook/{platform}/{instance}",
    tag = "webhooks",
    params(
        ("platform" = String, Path, description = "`slack`"),
        ("instance" = String, Path, description = "the instance's name"),
    ),
    request_body(content = String, description = "the platform's own body, signed"),
    responses(
        (status = 200, description = "accepted, and as durable as it says", body = ReceiptBody),
        (status = 401, description = "not signed, or stale, or replayed", body = ProblemBody),
        (status = 404, description = "no such platform or instance", body = ProblemBody),
        (status = 413, description = "body over the cap", body = ProblemBody),
        (status = 503, description = "not accepted; send it again", body = ProblemBody),
    )
)]
async fn named(
    State(app): State<Shared>,
    Path((platform, instance)): Path<(String, String)>,
    request: Request,
) -> Response {
    receive(&app, &platform, Some(&instance), request).await
}

/// Takes a platform's webhook; the credential that verifies names the instance.
#[utoipa::path(
    post,
    path = "/webhook/{platform}",
    tag = "webhooks",
    params(("platform" = String, Path, description = "`slack`")),
    request_body(content = String, description = "the platform's own body, signed"),
    responses(
        (status = 200, description = "accepted, and as durable as it says", body = ReceiptBody),
        (status = 401, description = "not signed, or stale, or replayed", body = ProblemBody),
        (status = 404, description = "no such platform", body = ProblemBody),
        (status = 413, description = "body over the cap", body = ProblemBody),
        (status = 503, description = "not accepted; send it again", body = ProblemBody),
    )
)]
async fn unnamed(
    State(app): State<Shared>,
    Path(platform): Path<String>,
    request: Request,
) -> Response {
    receive(&app, &platform, None, request).await
}

async fn receive(app: &App, platform: &str, name: Option<&str>, request: Request) -> Response {
    let Some(platform) = platform::by_name(platform) else {
        return Problem::not_found("platform", platform).into_response();
    };
    let facts = platform.facts();
    let candidates = app.directory.candidates(&app.node.config, facts.name, name);
    if candidates.is_empty() {
        return Problem::not_found("instance", name.unwrap_or("default")).into_response();
    }
    match take(app, platform, &candidates, request).await {
        Ok((outcome, response)) => {
            app.count(facts.name, outcome);
            response
        }
        Err(problem) => {
            app.count(facts.name, outcome_of(problem.status()));
            if problem.status() == StatusCode::UNAUTHORIZED {
                say_unsigned(app, facts.name, name);
            }
            problem.into_response()
        }
    }
}

/// Nothing of the request is logged but the instance that its address names, which exists.
fn say_unsigned(app: &App, platform: &str, instance: Option<&str>) {
    if app.unsigned.allows(platform, app.now_ms()) {
        tracing::warn!(
            platform,
            instance.name = instance.unwrap_or("any"),
            "webhook refused (401): not signed with the instance's signing_secret, or stale, or \
             a replay; agentflow_ingress_total counts them"
        );
    }
}

fn outcome_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "unauthorized",
        StatusCode::SERVICE_UNAVAILABLE => "unavailable",
        _ => "invalid",
    }
}

/// Verifies before anything else. A signature is remembered only once the request took
/// effect, so that a retry of what got 503 passes.
async fn take(
    app: &App,
    platform: &dyn Platform,
    candidates: &[Arc<Instance>],
    request: Request,
) -> Result<(&'static str, Response), Problem> {
    let (parts, body) = request.into_parts();
    let body = body::read(&parts.headers, body, app.max_body_bytes).await?;
    let now_ms = app.now_ms();
    let signed = Signed { headers: &parts.headers, body: &body, now_ms };
    let (instance, fingerprint) = match authenticate(platform, candidates, &signed) {
        Authenticated::As(instance, fingerprint) => (instance, fingerprint),
        Authenticated::Ambiguous => {
            tracing::error!(
                platform = platform.facts().name,
                "several tenants share a signing secret: set `team_id` on each instance"
            );
            return Err(Problem::bad_signature());
        }
        Authenticated::Nobody => return Err(Problem::bad_signature()),
    };
    if app.seen.contains(&fingerprint) {
        return Err(Problem::bad_signature());
    }
    let inbound =
        platform.normalize(&signed, &instance).map_err(|e| Problem::invalid(e.to_string()))?;
    let answered = settle(app, &instance, inbound).await?;
    app.seen.remember(fingerprint, now_ms);
    Ok(answered)
}

async fn settle(
    app: &App,
    instance: &Instance,
    inbound: Inbound,
) -> Result<(&'static str, Response), Problem> {
    // A platform's own trace means nothing here, so each event starts one.
    let span = || {
        let mut span = app.span("gateway.webhook", None, &instance.tenant);
        span.tag("platform", &instance.platform).tag("instance.name", &instance.name);
        span
    };
    match inbound {
        Inbound::Challenge(challenge) => {
            Ok(("ignored", Json(json!({ "challenge": challenge })).into_response()))
        }
        Inbound::Ignored(reason, answer) => {
            Ok(("ignored", answered(answer, json!({ "ignored": reason }))))
        }
        Inbound::ChannelChanged { channel, answer } => {
            look_up_again(app, instance, channel).await;
            Ok(("accepted", answered(answer, json!({ "noted": true }))))
        }
        Inbound::Message(message, answer) => {
            let span = span();
            let accepted = publish_message(app, &message, Hop::of(span.context())).await?;
            let outcome = if accepted.duplicate { "duplicate" } else { "accepted" };
            Ok((outcome, answered(answer, ReceiptBody::from(accepted))))
        }
        Inbound::Empty(message, answer) => {
            let span = span();
            publish_notice(app, &message, EMPTY_NOTICE, span.context()).await?;
            Ok(("ignored", answered(answer, json!({ "ignored": "no text" }))))
        }
        Inbound::Vote { event_id, vote, answer } => {
            let tenant = instance.tenant.clone();
            let event_id = format!("vote:{event_id}");
            let id = MessageId::derive(&tenant, &instance.platform, &instance.name, &event_id).0;
            let span = span();
            let cast = VotePublication { tenant, id, vote: *vote, trace: span.context() };
            let receipt = publish_vote(app, cast).await?;
            let outcome = if receipt.duplicate { "duplicate" } else { "accepted" };
            let durability = app.node.ports.queue.durability();
            let duplicate = receipt.duplicate;
            let body = json!({ "vote_id": id, "duplicate": duplicate, "durability": durability });
            Ok((outcome, answered(answer, body)))
        }
    }
}

/// Best effort: a name that is not asked for now is asked for with a later message.
async fn look_up_again(app: &App, instance: &Instance, channel: String) {
    let request = crate::resolve::Request {
        tenant: instance.tenant.clone(),
        instance: instance.name.clone(),
        channel,
        changed: true,
    };
    if let Ok(payload) = serde_json::to_vec(&request) {
        let subject = LiveSubject::resolve(&instance.platform);
        app.node.ports.live.send(&subject, payload.into()).await;
    }
}

fn answered(answer: Answer, body: impl serde::Serialize) -> Response {
    match answer {
        Answer::Receipt => Json(body).into_response(),
        Answer::Empty => StatusCode::OK.into_response(),
    }
}

#[cfg(test)]
mod tests;
