//! The queue, the pump and the sampler, with receivers that work, hang or come and go.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use opentelemetry_sdk::error::OTelSdkError;

use super::*;
use crate::trace::{Span as OurSpan, TraceContext};

/// A receiver that keeps what it gets.
#[derive(Debug, Clone, Default)]
struct Kept {
    spans: Arc<Mutex<Vec<SpanData>>>,
    away: Arc<AtomicBool>,
    hangs: bool,
}

impl SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        if self.away.load(Ordering::SeqCst) {
            return Err(OTelSdkError::InternalFailure("away".to_owned()));
        }
        self.spans.lock().expect("ok").extend(batch);
        Ok(())
    }
}

struct Rig {
    tracer: Tracer,
    kept: Kept,
    metrics: Metrics,
    lifecycle: Lifecycle,
}

impl Rig {
    fn new(kept: Kept, sampler: Sampler) -> Self {
        let (metrics, lifecycle) = (Metrics::default(), Lifecycle::new());
        let tracer = start_with(kept.clone(), sampler, &metrics, &lifecycle);
        Self { tracer, kept, metrics, lifecycle }
    }

    fn span(&self, parent: Option<TraceContext>) -> OurSpan {
        self.tracer.span("shared.trace.export", SpanKind::Internal).under(parent).start()
    }

    /// Ends the pump and gives what arrived.
    async fn drain(self) -> Vec<SpanData> {
        self.lifecycle.stop();
        self.lifecycle.drained().await;
        std::mem::take(&mut *self.kept.spans.lock().expect("ok"))
    }
}

fn always() -> Sampler {
    Sampler::ParentBased(Box::new(Sampler::AlwaysOn))
}

fn never() -> Sampler {
    Sampler::ParentBased(Box::new(Sampler::AlwaysOff))
}

fn sampled() -> TraceContext {
    TraceContext { sampled: true, ..TraceContext::start() }
}

#[tokio::test]
async fn spans_of_one_trace_arrive_with_their_parents_at_the_latest_at_drain() {
    let rig = Rig::new(Kept::default(), always());
    let mut root = rig.span(None);
    root.tag("tenant.id", &"a").count("parts", 3_u64).fail("broken");
    let child = rig.span(TraceContext::parse(&root.context().traceparent()));
    let trace = root.context().trace_id();
    drop((child, root));
    let spans = rig.drain().await;
    assert_eq!(spans.len(), 2);
    assert_eq!(spans[0].parent_span_id, spans[1].span_context.span_id());
    assert!(spans.iter().all(|s| format!("{:032x}", s.span_context.trace_id()) == trace));
    assert_eq!(spans[1].status, opentelemetry::trace::Status::error("broken"));
    assert_eq!(spans[1].attributes.len(), 3);
}

#[tokio::test]
async fn the_flag_of_whoever_came_before_is_kept() {
    let rig = Rig::new(Kept::default(), always());
    let quiet = rig.span(Some(TraceContext::start()));
    assert!(!quiet.context().sampled(), "not sampled before, not sampled now");
    drop(quiet);
    assert!(rig.drain().await.is_empty());
    let rig = Rig::new(Kept::default(), never());
    assert!(!rig.span(None).context().sampled());
    assert!(rig.span(Some(sampled())).context().sampled());
    assert_eq!(rig.drain().await.len(), 1);
}

#[tokio::test]
async fn a_trace_that_starts_with_a_link_is_sampled_as_the_linked_one() {
    let rig = Rig::new(Kept::default(), never());
    let open = |link| {
        rig.tracer.span("shared.trace.export", SpanKind::Internal).linked(Some(link)).start()
    };
    let held = sampled();
    assert!(open(held).context().sampled());
    assert_ne!(open(held).context().trace_id(), held.trace_id(), "a trace of its own");
    assert!(!open(TraceContext::start()).context().sampled());
    assert_eq!(rig.drain().await[0].links.len(), 1);
}

#[tokio::test]
async fn a_full_queue_drops_and_counts_and_never_waits() {
    let rig = Rig::new(Kept { hangs: true, ..Kept::default() }, always());
    let made = u64::try_from(QUEUE + 10 * BATCH).expect("small");
    for n in 0..made {
        drop(rig.span(None));
        if n % 1_000 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let dropped = rig.metrics.trace_spans_dropped.get();
    assert!((1..=made - u64::try_from(QUEUE).expect("small")).contains(&dropped), "{dropped}");
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_hangs_keeps_no_node_from_ending() {
    let rig = Rig::new(Kept { hangs: true, ..Kept::default() }, always());
    drop(rig.span(None));
    let began = tokio::time::Instant::now();
    assert!(rig.drain().await.is_empty());
    assert!(began.elapsed() <= FLUSH_DEADLINE + EXPORT_TIMEOUT, "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_a_receiver_that_is_away_misses_is_counted() {
    let kept = Kept::default();
    kept.away.store(true, Ordering::SeqCst);
    let rig = Rig::new(kept, always());
    drop(rig.span(None));
    let end = Instant::now() + Duration::from_secs(10);
    while rig.metrics.trace_spans_dropped.get() == 0 {
        assert!(Instant::now() < end, "nothing was counted");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    rig.kept.away.store(false, Ordering::SeqCst);
    drop(rig.span(None));
    let (sent, dropped) =
        (rig.metrics.trace_spans_sent.clone(), rig.metrics.trace_spans_dropped.clone());
    assert_eq!(rig.drain().await.len(), 1);
    assert_eq!((sent.get(), dropped.get()), (1, 1));
}

#[test]
fn a_tracer_that_is_off_hands_contexts_on_as_they_are() {
    let off = Tracer::default();
    let given = sampled();
    let span = off.span("shared.trace.export", SpanKind::Internal).under(Some(given)).start();
    assert_eq!(span.context(), given);
    let root = off.span("shared.trace.export", SpanKind::Internal).start();
    assert!(!root.context().sampled());
}
