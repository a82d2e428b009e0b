//! What every handler shares, and the table of routes.

use std::sync::Arc;

use aof_shared::ids::TenantId;
use aof_shared::node::Node;
use aof_shared::telemetry::IngressLabels;
use aof_shared::throttle::Throttle;
use aof_shared::trace::{Span, SpanKind, TraceContext};
use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;

use crate::Options;
use crate::auth::Keys;
use crate::health::Operations;
use crate::instances::Directory;
use crate::outcome::Outcomes;
use crate::problem::{Cause, Problem};
use crate::seen::Seen;
use crate::streams::Streams;
use crate::{api, health, openapi, webhook};

/// One log line a platform about webhooks that are refused, and one a cause about requests
/// that could not be taken.
const SAY_REFUSED_EVERY_MS: u64 = 60_000;

/// The state of a gateway. Losing it loses nothing: it is caches and open streams.
pub(crate) struct App {
    /// Ports, configuration, metrics, health, lifecycle.
    pub(crate) node: Node,
    /// Largest request body in bytes.
    pub(crate) max_body_bytes: usize,
    /// How long a chat request without streaming waits, in milliseconds.
    pub(crate) chat_wait_ms: u64,
    /// API keys looked up lately.
    pub(crate) keys: Keys,
    /// Instances by platform and name.
    pub(crate) directory: Directory,
    /// Signatures accepted lately.
    pub(crate) seen: Seen,
    /// What was logged of requests that nobody signed.
    pub(crate) unsigned: Throttle,
    /// What was logged of requests that could not be taken.
    refused: Throttle,
    /// Chats that wait for how their message ends.
    pub(crate) outcomes: Outcomes,
    /// Streams open now.
    pub(crate) streams: Streams,
    /// What operations ask.
    pub(crate) operations: Operations,
}

/// How handlers get at the state.
pub(crate) type Shared = Arc<App>;

impl App {
    /// The state of a gateway on `node`.
    pub(crate) fn new(node: Node, options: &Options, operations: Operations) -> Shared {
        operations.read_gauges_of(&node.ports);
        Arc::new(Self {
            outcomes: Outcomes::new(&node),
            node,
            max_body_bytes: options.max_body_bytes,
            chat_wait_ms: options.chat_wait_ms,
            keys: Keys::default(),
            directory: Directory::default(),
            seen: Seen::default(),
            unsigned: Throttle::new(SAY_REFUSED_EVERY_MS),
            refused: Throttle::new(SAY_REFUSED_EVERY_MS),
            streams: Streams::default(),
            operations,
        })
    }

    /// Now, in milliseconds since the Unix epoch.
    pub(crate) fn now_ms(&self) -> u64 {
        self.node.ports.clock.now_ms()
    }

    /// Opens the span of an accepted request: below the caller's, or the first of a trace.
    /// It ends with the acceptance, whatever the caller then waits for.
    pub(crate) fn span(
        &self,
        name: &'static str,
        caller: Option<TraceContext>,
        tenant: &TenantId,
    ) -> Span {
        let opening = self.node.tracer.span(name, SpanKind::Server);
        let mut span = opening.under(caller).start();
        span.tag("tenant.id", tenant);
        span
    }

    /// Counts a request at the ingress. Source: telemetry, `agentflow_ingress_total`.
    pub(crate) fn count(&self, platform: &str, outcome: &str) {
        let labels = IngressLabels { platform: platform.to_owned(), outcome: outcome.to_owned() };
        self.node.metrics.ingress.get_or_create(&labels).inc();
    }
}

/// Every documented route.
pub(crate) fn documented() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().merge(webhook::routes()).merge(api::routes()).merge(health::routes())
}

/// The whole HTTP surface.
pub(crate) fn router(app: &Shared) -> Router {
    let (routes, _) = documented().split_for_parts();
    routes
        .route("/openapi.json", axum::routing::get(openapi::serve))
        .fallback(async |uri: Uri| Problem::not_found("resource", uri.path()).into_response())
        .method_not_allowed_fallback(|| async { Problem::wrong_method().into_response() })
        .layer(axum::middleware::map_response(as_problem))
        .layer(axum::middleware::map_response_with_state(app.clone(), say_refused))
        .with_state(app.clone())
}

/// Logs why a request could not be taken, once in a while a cause: a flood of refusals
/// must not fill a disk that is full already.
async fn say_refused(State(app): State<Shared>, mut response: Response) -> Response {
    if let Some(Cause { what, error }) = response.extensions_mut().remove::<Cause>()
        && app.refused.allows(&format!("{what}: {error}"), app.now_ms())
    {
        let status = response.status().as_u16();
        tracing::warn!(what, error, status, "requests are refused; said once a minute a cause");
    }
    response
}

/// What the framework refuses by itself (an odd path) in plain text becomes a problem.
async fn as_problem(response: Response) -> Response {
    if !response.status().is_client_error() {
        return response;
    }
    let kind = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    if kind.is_some_and(|kind| kind.starts_with(b"text/plain")) {
        return Problem::invalid("the request cannot be read").into_response();
    }
    response
}
