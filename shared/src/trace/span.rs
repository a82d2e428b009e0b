//! Spans: opened explicitly below a context, ended when dropped. Nothing is ambient.

use std::fmt::Display;

use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, SpanId, Status, TraceContextExt, TraceFlags,
    TraceId, TraceState,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, Span as Recording};

use super::{SpanKind, TraceContext};
use crate::queue::Stored;
use crate::subject::Stream;

/// `messaging.system` of every hop.
const SYSTEM: &str = "aof";

/// Opens spans. The default one records nothing and costs nothing.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<SdkTracer>);

impl Tracer {
    pub(super) fn new(tracer: SdkTracer) -> Self {
        Self(Some(tracer))
    }

    /// A span about to be opened. `name` is the module's path without `aof_`.
    pub fn span(&self, name: &'static str, kind: SpanKind) -> Opening<'_> {
        Opening { tracer: self, name, kind, parent: None, link: None }
    }

    /// The span of a role's work on a delivery, below whoever published it.
    #[must_use]
    pub fn process(&self, name: &'static str, source: &Stored) -> Span {
        let parent = TraceContext::carried(&source.headers);
        let mut span = self.span(name, SpanKind::Consumer).under(parent).start();
        span.tag_processed(source);
        span
    }
}

/// What a span will be.
#[derive(Debug)]
#[must_use]
pub struct Opening<'t> {
    tracer: &'t Tracer,
    name: &'static str,
    kind: SpanKind,
    parent: Option<TraceContext>,
    link: Option<TraceContext>,
}

impl Opening<'_> {
    /// Below `parent`; `None` starts a trace.
    pub fn under(mut self, parent: Option<TraceContext>) -> Self {
        self.parent = parent;
        self
    }

    /// Linked to a span of another trace, or of none.
    pub fn linked(mut self, other: Option<TraceContext>) -> Self {
        self.link = other;
        self
    }

    /// Opens it.
    #[must_use]
    pub fn start(self) -> Span {
        let Some(tracer) = &self.tracer.0 else {
            let context = self.parent.unwrap_or_else(TraceContext::start);
            return Span { context, recording: None };
        };
        let mut builder = SpanBuilder::from_name(self.name).with_kind(self.kind);
        if let Some(link) = self.link {
            builder = builder.with_links(vec![Link::with_context(remote(link))]);
        }
        let parent = match self.parent {
            Some(parent) => Context::new().with_remote_span_context(remote(parent)),
            None => Context::new(),
        };
        let span = builder.start_with_context(tracer, &parent);
        let made = span.span_context();
        let context = TraceContext {
            trace: u128::from_be_bytes(made.trace_id().to_bytes()),
            span: u64::from_be_bytes(made.span_id().to_bytes()),
            sampled: made.is_sampled(),
        };
        Span { context, recording: span.is_recording().then(|| Box::new(span)) }
    }
}

fn remote(context: TraceContext) -> SpanContext {
    SpanContext::new(
        TraceId::from_bytes(context.trace.to_be_bytes()),
        SpanId::from_bytes(context.span.to_be_bytes()),
        TraceFlags::default().with_sampled(context.sampled),
        true,
        TraceState::NONE,
    )
}

/// A piece of work with a beginning and an end: the end is when this is dropped.
///
/// Attributes are names, ids and counts. Never bodies, tokens or what names a person.
#[derive(Debug)]
pub struct Span {
    context: TraceContext,
    recording: Option<Box<Recording>>,
}

impl Span {
    /// What publications and spans below it carry.
    #[must_use]
    pub fn context(&self) -> TraceContext {
        self.context
    }

    /// Adds an attribute; writes it only if the span is recorded.
    pub fn tag(&mut self, key: &'static str, value: &dyn Display) -> &mut Self {
        if let Some(span) = &mut self.recording {
            span.set_attribute(KeyValue::new(key, value.to_string()));
        }
        self
    }

    /// Adds a number.
    pub fn count(&mut self, key: &'static str, value: impl TryInto<i64>) -> &mut Self {
        if let Some(span) = &mut self.recording {
            span.set_attribute(KeyValue::new(key, value.try_into().unwrap_or(i64::MAX)));
        }
        self
    }

    /// Says that it did not succeed; `reason` is a short constant.
    pub fn fail(&mut self, reason: &str) -> &mut Self {
        if let Some(span) = &mut self.recording {
            span.set_attribute(KeyValue::new("error.type", reason.to_owned()));
            span.set_status(Status::error(reason.to_owned()));
        }
        self
    }

    /// The attributes of a delivery.
    pub fn tag_processed(&mut self, source: &Stored) -> &mut Self {
        self.tag("messaging.system", &SYSTEM)
            .tag("messaging.operation.type", &"process")
            .tag("messaging.destination.name", &source.subject.stream())
            .tag("messaging.message.id", &source.id)
            .tag("tenant.id", source.subject.tenant())
    }

    /// The attributes of what publishes to `stream`.
    pub fn tag_published(&mut self, stream: Stream) -> &mut Self {
        self.tag("messaging.system", &SYSTEM)
            .tag("messaging.operation.type", &"send")
            .tag("messaging.destination.name", &stream)
    }
}
