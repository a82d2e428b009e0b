//! `POST /webhook/…`: signature, replay guard, shape, publish; 2xx only after the queue's receipt.

use std::sync::Arc;

use aof_shared::config::Instance;
use axum::Json;
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::body;
use crate::app::{App, Shared};
use crate::ingress::ReceiptBody;
use crate::instances::{Authenticated, authenticate, is_default};
use crate::intake::{self, Taken};
use crate::platform::{
    self, Answer, Delivery, Handshake, Malformed, Platform, Sharing, Signed, Unreadable, Verified,
};
use crate::problem::{Problem, ProblemBody};

/// The routes of this file.
pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(named, handshake))
        .routes(routes!(unnamed, unnamed_handshake))
        .routes(routes!(event))
}

/// Takes a platform's webhook for one instance.
#[utoipa::path(
    post,
    path = "/webhook/{platform}/{instance}",
    tag = "webhooks",
    params(
        ("platform" = String, Path, description = "such as `slack`"),
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
    let to = To { platform: &platform, instance: Some(&instance), event: None };
    receive(&app, to, request).await
}

/// Takes a platform's webhook; the credential that verifies names the instance.
#[utoipa::path(
    post,
    path = "/webhook/{platform}",
    tag = "webhooks",
    params(("platform" = String, Path, description = "such as `slack`")),
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
    let to = To { platform: &platform, instance: None, event: None };
    receive(&app, to, request).await
}

/// Takes a webhook of a platform that appends the event's name to the address.
#[utoipa::path(
    post,
    path = "/webhook/{platform}/{instance}/{event}",
    tag = "webhooks",
    params(
        ("platform" = String, Path, description = "such as `evolution`"),
        ("instance" = String, Path, description = "the instance's name"),
        ("event" = String, Path, description = "the event as the platform names it"),
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
async fn event(
    State(app): State<Shared>,
    Path((platform, instance, event)): Path<(String, String, String)>,
    request: Request,
) -> Response {
    let to = To { platform: &platform, instance: Some(&instance), event: Some(&event) };
    receive(&app, to, request).await
}

/// Answers the request by which a platform checks that the address is ours.
#[utoipa::path(
    get,
    path = "/webhook/{platform}/{instance}",
    tag = "webhooks",
    params(
        ("platform" = String, Path, description = "such as `whatsapp`"),
        ("instance" = String, Path, description = "the instance's name"),
    ),
    responses(
        (status = 200, description = "the challenge as it came", body = String),
        (status = 403, description = "not with the instance's token", body = ProblemBody),
        (status = 404, description = "no such platform or instance", body = ProblemBody),
        (status = 405, description = "the platform asks nothing this way", body = ProblemBody),
    )
)]
async fn handshake(
    State(app): State<Shared>,
    Path((platform, name)): Path<(String, String)>,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    shake(&app, &platform, Some(&name), &query)
}

/// The same for the address that all instances share; any one's token will do.
#[utoipa::path(
    get,
    path = "/webhook/{platform}",
    tag = "webhooks",
    params(("platform" = String, Path, description = "such as `whatsapp`")),
    responses(
        (status = 200, description = "the challenge as it came", body = String),
        (status = 403, description = "not with an instance's token", body = ProblemBody),
        (status = 404, description = "no such platform", body = ProblemBody),
        (status = 405, description = "the platform asks nothing this way", body = ProblemBody),
    )
)]
async fn unnamed_handshake(
    State(app): State<Shared>,
    Path(platform): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    shake(&app, &platform, None, &query)
}

fn shake(app: &App, platform: &str, name: Option<&str>, query: &[(String, String)]) -> Response {
    let Some(platform) = platform::by_name(platform) else {
        return Problem::not_found("platform", platform).into_response();
    };
    let name_of = platform.facts().name;
    let candidates = app.directory.candidates(&app.node.config, name_of, name);
    let answers: Vec<_> = candidates.iter().map(|i| platform.handshake(query, i)).collect();
    let accepted = answers.iter().find(|answer| matches!(answer, Handshake::Accepted(_)));
    match accepted.or(answers.first()) {
        None => Problem::not_found("instance", name.unwrap_or("default")).into_response(),
        Some(Handshake::Unknown) => Problem::wrong_method().into_response(),
        Some(Handshake::Accepted(text)) => text.clone().into_response(),
        Some(Handshake::Refused) => {
            app.count(name_of, "unauthorized");
            Problem::forbidden("the token is not the instance's").into_response()
        }
    }
}

/// What a webhook's address names.
#[derive(Debug, Clone, Copy)]
struct To<'a> {
    platform: &'a str,
    instance: Option<&'a str>,
    event: Option<&'a str>,
}

async fn receive(app: &App, to: To<'_>, request: Request) -> Response {
    let Some(platform) = platform::by_name(to.platform) else {
        return Problem::not_found("platform", to.platform).into_response();
    };
    let facts = platform.facts();
    if let Some(event) = to.event
        && !facts.event_in_path
    {
        return Problem::not_found("event", event).into_response();
    }
    let mut candidates = app.directory.candidates(&app.node.config, facts.name, to.instance);
    if to.instance.is_none() && platform.sharing() == Sharing::Default {
        candidates = Arc::new(candidates.iter().filter(|i| is_default(i)).cloned().collect());
    }
    if candidates.is_empty() {
        return Problem::not_found("instance", to.instance.unwrap_or("default")).into_response();
    }
    match take(app, platform, (&candidates, to.event), request).await {
        Ok((taken, answer)) => {
            for outcome in outcomes(&taken) {
                app.count(facts.name, outcome);
            }
            answered(answer, taken)
        }
        Err(problem) => {
            app.count(facts.name, outcome_of(problem.status()));
            if problem.status() == StatusCode::UNAUTHORIZED {
                say_unsigned(app, platform, to.instance);
            }
            problem.into_response()
        }
    }
}

/// Nothing of the request is logged but the instance that its address names, which exists.
fn say_unsigned(app: &App, platform: &dyn Platform, instance: Option<&str>) {
    let facts = platform.facts();
    if app.unsigned.allows(facts.name, app.now_ms()) {
        tracing::warn!(
            platform = facts.name,
            instance.name = instance.unwrap_or("any"),
            setting = facts.secret,
            "webhook refused (401): not signed with the instance's secret (`setting`), or stale, \
             or a replay; agentflow_ingress_total counts them"
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

/// One count for each thing that came in; a request that carried nothing counts once.
fn outcomes(taken: &[Taken]) -> Vec<&'static str> {
    if taken.is_empty() { vec!["ignored"] } else { taken.iter().map(|t| t.outcome).collect() }
}

/// Verifies before anything else. A signature is remembered only once the request took
/// effect, so that a retry of what got 503 passes.
async fn take(
    app: &App,
    platform: &dyn Platform,
    (candidates, event): (&[Arc<Instance>], Option<&str>),
    request: Request,
) -> Result<(Vec<Taken>, Answer), Problem> {
    let (parts, body) = request.into_parts();
    let body = body::read(&parts.headers, body, app.max_body_bytes).await?;
    let now_ms = app.now_ms();
    let signed = Signed { headers: &parts.headers, event, body: &body, now_ms };
    let (owners, verified) = match authenticate(platform, candidates, &signed) {
        Authenticated::As(owners, verified) => (owners, verified),
        Authenticated::Ambiguous => {
            tracing::error!(
                platform = platform.facts().name,
                pins = ?platform.facts().pins,
                "several tenants share a secret: set one of `pins` on each instance"
            );
            return Err(Problem::bad_signature());
        }
        Authenticated::Nobody => return Err(Problem::bad_signature()),
    };
    if verified.once.is_some_and(|fingerprint| app.seen.contains(&fingerprint)) {
        return Err(Problem::bad_signature());
    }
    // Read for all of them before anything is published. What is published for one before
    // another fails is a duplicate when the request comes again.
    let mut deliveries = Vec::with_capacity(owners.len());
    for instance in &owners {
        let delivery = platform.normalize(&signed, instance);
        let delivery = delivery.or_else(|malformed| unreadable(platform, instance, malformed))?;
        deliveries.push((instance, delivery));
    }
    let (mut taken, mut answer) = (Vec::new(), Answer::Receipt);
    for (instance, delivery) in deliveries {
        // A platform's own trace means nothing here, so each thing starts one.
        let open = || {
            let mut span = app.span("gateway.webhook", None, &instance.tenant);
            span.tag("platform", &instance.platform).tag("instance.name", &instance.name);
            span
        };
        if let Some(note) = platform.note(&signed, &delivery) {
            intake::keep(app, instance, note).await;
        }
        taken.extend(intake::take(app, instance, delivery.items, &open).await?);
        answer = delivery.answer;
    }
    if let Verified { once: Some(fingerprint) } = verified {
        app.seen.remember(fingerprint, now_ms);
    }
    Ok((taken, answer))
}

/// What is done with a verified body that is not what the platform sends.
fn unreadable(
    platform: &dyn Platform,
    instance: &Instance,
    malformed: Malformed,
) -> Result<Delivery, Problem> {
    match platform.facts().unreadable {
        Unreadable::Refused => Err(Problem::invalid(malformed.to_string())),
        Unreadable::Ignored => {
            tracing::warn!(tenant.id = %instance.tenant, instance.name = %instance.name,
                platform = platform.facts().name, reason = %malformed,
                "a webhook that cannot be read is ignored");
            let items = vec![platform::Inbound::Ignored("unreadable")];
            Ok(Delivery { items, answer: Answer::Receipt })
        }
    }
}

fn answered(answer: Answer, taken: Vec<Taken>) -> Response {
    match answer {
        Answer::Receipt => Json(receipt(taken)).into_response(),
        Answer::Empty => StatusCode::OK.into_response(),
        Answer::Json(body) => Json(body).into_response(),
    }
}

/// The receipt of the one thing that came in, or a list of them.
fn receipt(taken: Vec<Taken>) -> Value {
    let mut receipts: Vec<Value> = taken.into_iter().map(|taken| taken.receipt).collect();
    if receipts.len() == 1 { receipts.swap_remove(0) } else { json!({ "items": receipts }) }
}

#[cfg(test)]
mod tests;
