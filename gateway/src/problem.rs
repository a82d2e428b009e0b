//! Problem documents: what went wrong, in a shape that programs can read (RFC 9457).

use aof_shared::queue::QueueError;
use aof_shared::store::StoreError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// When to come back after a 503, in seconds: a disk or broker needs about that long.
const RETRY_AFTER_UNAVAILABLE_SECS: u32 = 2;
/// When to come back after a 429, in seconds: streams end on their own schedule.
const RETRY_AFTER_BUSY_SECS: u32 = 5;

/// Characters of a name that is repeated in a problem.
const MAX_NAME_CHARS: usize = 128;

/// One thing that is wrong in the request's body or query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct FieldError {
    /// Where, as a JSON pointer (`/text`), or `?name` for a query parameter.
    pub(crate) pointer: String,
    /// What is wrong and what would be right.
    pub(crate) detail: String,
}

/// The body of a problem document.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// Names the kind of problem; stable.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The kind in words.
    pub(crate) title: String,
    /// The HTTP status.
    pub(crate) status: u16,
    /// This occurrence, for people.
    pub(crate) detail: String,
    /// What exactly is wrong with the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) errors: Vec<FieldError>,
}

/// An answer that is a problem document.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    slug: &'static str,
    title: &'static str,
    detail: String,
    errors: Vec<FieldError>,
    retry_after_secs: Option<u32>,
    cause: Option<Box<Cause>>,
}

/// What went wrong behind a refusal, for the node's log; goes with the response, and is
/// not shown.
#[derive(Debug, Clone)]
pub(crate) struct Cause {
    /// What did not work.
    pub(crate) what: &'static str,
    /// How; the same text for the same cause.
    pub(crate) error: String,
}

impl Problem {
    fn new(status: StatusCode, slug: &'static str, title: &'static str, detail: String) -> Self {
        Self {
            status,
            slug,
            title,
            detail,
            errors: Vec::new(),
            retry_after_secs: None,
            cause: None,
        }
    }

    /// 400: the request cannot be read.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid-request", "Invalid request", detail.into())
    }

    /// 400: one field is wrong.
    pub(crate) fn invalid_field(pointer: &str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let whole = pointer.trim_start_matches('?').is_empty();
        let told = if whole { detail.clone() } else { format!("{pointer}: {detail}") };
        let mut problem = Self::invalid(told);
        problem.errors.push(FieldError { pointer: pointer.to_owned(), detail });
        problem
    }

    /// 401: a webhook's signature does not verify. Says nothing about why.
    pub(crate) fn bad_signature() -> Self {
        let detail = "the request is not signed by a known account".to_owned();
        Self::new(StatusCode::UNAUTHORIZED, "bad-signature", "Signature refused", detail)
    }

    /// 401: no API key, or not one that counts.
    pub(crate) fn bad_key() -> Self {
        let detail = "send a valid key as `Authorization: Bearer <key>` or `X-API-Key`".to_owned();
        Self::new(StatusCode::UNAUTHORIZED, "bad-key", "API key refused", detail)
    }

    /// 401: the key was good once. Only who holds the whole key learns that.
    pub(crate) fn dead_key(why: &str) -> Self {
        let detail = format!("this key {why}: ask for a new one");
        Self::new(StatusCode::UNAUTHORIZED, "bad-key", "API key refused", detail)
    }

    /// 403: the key may not do this.
    pub(crate) fn missing_scope(scope: &str) -> Self {
        let detail = format!("this key lacks the scope `{scope}`");
        Self::new(StatusCode::FORBIDDEN, "missing-scope", "Not allowed with this key", detail)
    }

    /// 403: only the operator may.
    pub(crate) fn forbidden(detail: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Not allowed", detail.to_owned())
    }

    /// 404: not there, or not yours; the two look the same.
    pub(crate) fn not_found(what: &str, name: &str) -> Self {
        let name: String = name.chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect();
        let detail = format!("there is no {what} `{name}` here");
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// 405.
    pub(crate) fn wrong_method() -> Self {
        let detail = "this resource does not take that method".to_owned();
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "wrong-method", "Method not allowed", detail)
    }

    /// 408: the body did not arrive in time.
    pub(crate) fn too_slow() -> Self {
        let detail = "the body did not arrive in time".to_owned();
        Self::new(StatusCode::REQUEST_TIMEOUT, "too-slow", "Request timeout", detail)
    }

    /// 409: as things stand it cannot be done.
    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "Conflict", detail.into())
    }

    /// 413.
    pub(crate) fn too_large(cap_bytes: usize) -> Self {
        let detail = format!("the body is larger than {cap_bytes} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Body too large", detail)
    }

    /// 429: too many streams at once.
    pub(crate) fn too_many_streams(cap: usize) -> Self {
        let detail = format!("this account has {cap} streams open; close one first");
        let mut problem =
            Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-streams", "Busy", detail);
        problem.retry_after_secs = Some(RETRY_AFTER_BUSY_SECS);
        problem
    }

    /// 503: nothing was accepted; the same request may be sent again.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let mut problem = Self::new(status, "unavailable", "Try again later", detail.into());
        problem.retry_after_secs = Some(RETRY_AFTER_UNAVAILABLE_SECS);
        problem
    }

    fn caused_by(mut self, what: &'static str, error: String) -> Self {
        self.cause = Some(Box::new(Cause { what, error }));
        self
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<QueueError> for Problem {
    /// What did not happen, or may not have, is 503: the sender tries again under the
    /// same id. Source: platforms.md, *What matters most* 4.
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::TooLarge { max_bytes, .. } => Self::too_large(max_bytes),
            other => {
                let error = match &other {
                    // How long was waited differs each time.
                    QueueError::Unconfirmed { .. } => "no answer in time".to_owned(),
                    same => same.to_string(),
                };
                Self::unavailable("the queue does not confirm right now; send it again")
                    .caused_by("queue", error)
            }
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::unavailable("the store does not answer right now; try again")
            .caused_by("store", error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ProblemBody {
            kind: format!("urn:aof:problem:{}", self.slug),
            title: self.title.to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
            errors: self.errors,
        };
        let text = serde_json::to_string(&body).expect("a problem document is made of text");
        let mut response = (self.status, text).into_response();
        if let Some(cause) = self.cause {
            response.extensions_mut().insert(*cause);
        }
        let headers = response.headers_mut();
        let problem_json = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, problem_json);
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(secs) = self.retry_after_secs {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(secs));
        }
        response
    }
}
