//! Sends spans to the receiver that the environment names, beside the work and never in its
//! way: a bounded queue, one task, drops counted, flushed at drain within a deadline.

use std::time::Duration;

use opentelemetry::trace::{Link, TraceContextExt, TraceId, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter as Otlp};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    Sampler, SamplingResult, SdkTracerProvider, ShouldSample, Span, SpanData, SpanExporter,
    SpanProcessor,
};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::settings::Settings;
use super::{SpanKind, Tracer};
use crate::lifecycle::Lifecycle;
use crate::telemetry::Metrics;

/// Spans that wait to be sent; about a kilobyte each.
const QUEUE: usize = 16_384;
/// Spans of one request to the receiver, well below the 4 MiB that gRPC takes.
const BATCH: usize = 1_024;
/// Longest wait of a span for others to be sent with.
const LINGER: Duration = Duration::from_millis(500);
/// Longest time that one request may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time that a node's end waits for the receiver.
const FLUSH_DEADLINE: Duration = Duration::from_secs(5);

/// Traces cannot be sent as the environment says.
#[derive(Debug, thiserror::Error)]
#[error("traces cannot be exported; check the variables OTEL_EXPORTER_OTLP_*: {reason}")]
pub struct ExportError {
    reason: String,
}

/// Starts sending spans; stop `lifecycle` after everything that makes spans has ended.
///
/// # Errors
/// [`ExportError`] when the exporter cannot be built. That its receiver is away is none.
pub fn start(
    settings: Settings,
    metrics: &Metrics,
    lifecycle: &Lifecycle,
) -> Result<Tracer, ExportError> {
    let failed = |e: opentelemetry_otlp::ExporterBuildError| ExportError { reason: e.to_string() };
    let mut exporter = match settings.protocol {
        Protocol::Grpc => Otlp::builder().with_tonic().build(),
        _ => Otlp::builder().with_http().build(),
    }
    .map_err(failed)?;
    let resource = resource(&settings);
    exporter.set_resource(&resource);
    Ok(start_with(exporter, settings.sampler, metrics, lifecycle))
}

/// Starts sending spans to `exporter`.
fn start_with<E: SpanExporter + 'static>(
    exporter: E,
    sampler: Sampler,
    metrics: &Metrics,
    lifecycle: &Lifecycle,
) -> Tracer {
    let (sender, spans) = mpsc::channel(QUEUE);
    let dropped = metrics.trace_spans_dropped.clone();
    let queue = Queue { spans: sender, dropped: dropped.clone() };
    // What it says of itself goes with each batch, by the exporter.
    let provider = SdkTracerProvider::builder()
        .with_sampler(AsLinked(sampler))
        .with_resource(Resource::builder_empty().build())
        .with_span_processor(queue)
        .build();
    let pump =
        Pump { exporter, spans, dropped, sent: metrics.trace_spans_sent.clone(), failing: false };
    let stop = lifecycle.clone();
    lifecycle.spawn(async move { pump.run(&stop).await });
    Tracer::new(provider.tracer("aof"))
}

/// Who sends: `OTEL_SERVICE_NAME`, else what OTEL_RESOURCE_ATTRIBUTES says, else `aofctl`.
fn resource(settings: &Settings) -> Resource {
    let detected = Resource::builder().build();
    let named = detected.get(&"service.name".into()).map(|name| name.to_string());
    let named = named.filter(|name| !name.starts_with("unknown_service"));
    let name = settings.service.clone().or(named);
    Resource::builder()
        .with_service_name(name.unwrap_or_else(|| settings.default_service.to_owned()))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", Uuid::now_v7().to_string()))
        .build()
}

/// Takes ended spans and never waits.
#[derive(Debug)]
struct Queue {
    spans: mpsc::Sender<SpanData>,
    dropped: Counter,
}

impl SpanProcessor for Queue {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.spans.try_send(span).is_err() {
            self.dropped.inc();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Samples a trace that starts with a link as the linked one was; everything else as `.0` says.
#[derive(Debug, Clone)]
struct AsLinked(Sampler);

impl ShouldSample for AsLinked {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        if let (Some(link), Sampler::ParentBased(_)) = (links.first(), &self.0)
            && !parent.is_some_and(Context::has_active_span)
        {
            let linked = Context::new().with_remote_span_context(link.span_context.clone());
            return self.0.should_sample(Some(&linked), trace, name, kind, attributes, links);
        }
        self.0.should_sample(parent, trace, name, kind, attributes, links)
    }
}

/// Moves spans from the queue to the receiver.
struct Pump<E> {
    exporter: E,
    spans: mpsc::Receiver<SpanData>,
    dropped: Counter,
    sent: Counter,
    /// The last batch did not arrive.
    failing: bool,
}

impl<E: SpanExporter> Pump<E> {
    async fn run(mut self, lifecycle: &Lifecycle) {
        loop {
            let mut batch = Vec::new();
            if !self.collect(&mut batch, lifecycle).await {
                let flush = self.flush(batch);
                if tokio::time::timeout(FLUSH_DEADLINE, flush).await.is_err() {
                    let left = self.spans.len();
                    tracing::warn!(left, "the receiver of traces is slow; the last ones are lost");
                }
                return;
            }
            self.send(batch).await;
        }
    }

    /// Fills a batch with what comes within [`LINGER`]. `false`: this is the last one.
    async fn collect(&mut self, batch: &mut Vec<SpanData>, lifecycle: &Lifecycle) -> bool {
        let linger = tokio::time::sleep(LINGER);
        tokio::pin!(linger);
        while batch.len() < BATCH {
            let room = BATCH - batch.len();
            tokio::select! {
                biased;
                () = lifecycle.stopped() => return false,
                taken = self.spans.recv_many(batch, room) => if taken == 0 { return false },
                () = &mut linger => break,
            }
        }
        true
    }

    /// Sends `batch` and everything that waits behind it.
    async fn flush(&mut self, mut batch: Vec<SpanData>) {
        self.spans.close();
        loop {
            self.send(std::mem::take(&mut batch)).await;
            if self.spans.recv_many(&mut batch, BATCH).await == 0 {
                return;
            }
        }
    }

    /// Sends a batch. What does not arrive is counted and not sent again.
    async fn send(&mut self, batch: Vec<SpanData>) {
        if batch.is_empty() {
            return;
        }
        let spans = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let sent = tokio::time::timeout(EXPORT_TIMEOUT, self.exporter.export(batch)).await;
        let error = match sent {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer in {} s", EXPORT_TIMEOUT.as_secs())),
        };
        match &error {
            None => self.sent.inc_by(spans),
            Some(_) => self.dropped.inc_by(spans),
        };
        match &error {
            Some(error) if !self.failing => tracing::warn!(
                error,
                "traces do not reach their receiver; work goes on without, and \
                 agentflow_trace_spans_dropped_total counts what is lost"
            ),
            None if self.failing => tracing::info!("traces reach their receiver again"),
            _ => {}
        }
        self.failing = error.is_some();
    }
}

#[cfg(test)]
mod tests;
