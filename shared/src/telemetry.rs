//! The metrics of a node. Names and labels are public: interface.md, *Metrics and logs*.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Upper bounds in seconds, from a cached answer to a long agent run.
const LATENCY_BUCKETS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 300.0];

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($field:ident),+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub struct $name {
            $(#[doc = concat!("Label `", stringify!($field), "`.")] pub $field: String),+
        }
    };
}

labels!(
    /// Labels of `agentflow_requests_total`.
    RequestLabels { flow, platform, agent }
);
labels!(
    /// Labels of `agentflow_latency_seconds`.
    LatencyLabels { flow, agent }
);
labels!(
    /// The exemplar of a latency: a recorded trace that took so long.
    TraceLabels { trace_id }
);
labels!(
    /// Labels of `agentflow_approvals_total`.
    ApprovalLabels { flow, status }
);
labels!(
    /// Labels of `agentflow_errors_total`.
    ErrorLabels { flow, error_type }
);
labels!(
    /// Labels of `agentflow_queue_depth`.
    DepthLabels { stream, tenant }
);
labels!(
    /// Labels of `agentflow_queue_age_seconds`.
    StreamLabels { stream }
);
labels!(
    /// Labels of the per-tenant series.
    TenantLabels { tenant }
);
labels!(
    /// Labels of `agentflow_dead_letters_total`.
    DeadLetterLabels { role, reason }
);
labels!(
    /// Labels of `agentflow_limit_deferrals_total`.
    ScopeLabels { scope }
);
labels!(
    /// Labels of `agentflow_node_warnings`: `configuration`, `clock` or `name`.
    WarningLabels { kind }
);
labels!(
    /// Labels of `agentflow_part_up`.
    PartLabels { part }
);
labels!(
    /// Labels of `agentflow_ingress_total`: `outcome` is `accepted`, `duplicate`,
    /// `ignored`, `unauthorized`, `invalid` or `unavailable`.
    IngressLabels { platform, outcome }
);

/// Makes the latency histograms.
#[derive(Debug, Clone, Copy)]
pub struct LatencyHistogram;

/// Latencies, each bucket with the trace that was seen last.
pub type Latency = HistogramWithExemplars<TraceLabels>;

impl MetricConstructor<Latency> for LatencyHistogram {
    fn new_metric(&self) -> Latency {
        Latency::new(LATENCY_BUCKETS.into_iter())
    }
}

/// A gauge of seconds.
type Seconds = Gauge<f64, AtomicU64>;

/// The series of a node.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    /// Finished requests.
    pub requests: Family<RequestLabels, Counter>,
    /// Accepted to answered.
    pub latency: Family<LatencyLabels, Latency, LatencyHistogram>,
    /// Approvals by how they ended, and `pending` when held.
    pub approvals: Family<ApprovalLabels, Counter>,
    /// Failed requests by cause.
    pub errors: Family<ErrorLabels, Counter>,
    /// Messages not settled yet.
    pub queue_depth: Family<DepthLabels, Gauge>,
    /// Age of the oldest message not settled yet.
    pub queue_age: Family<StreamLabels, Seconds>,
    /// Tasks running now.
    pub inflight: Family<TenantLabels, Gauge>,
    /// How far behind its fair share a backlogged tenant is, in units of cost.
    pub fairness_lag: Family<TenantLabels, Seconds>,
    /// Dead letters added.
    pub dead_letters: Family<DeadLetterLabels, Counter>,
    /// Deliveries that a limit sent back.
    pub deferrals: Family<ScopeLabels, Counter>,
    /// Requests at the gateway by what became of them.
    pub ingress: Family<IngressLabels, Counter>,
    /// Nodes of the cluster that this one hears, itself included.
    pub nodes: Gauge,
    /// 1 for each way in which nodes differ that should not.
    pub warnings: Family<WarningLabels, Gauge>,
    /// 1 for each part of this node that can work, else 0.
    pub part_up: Family<PartLabels, Gauge>,
    /// Spans that reached the receiver of traces.
    pub trace_spans_sent: Counter,
    /// Spans that did not: the queue was full, or the receiver away.
    pub trace_spans_dropped: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("agentflow")),
            requests: Family::default(),
            latency: Family::new_with_constructor(LatencyHistogram),
            approvals: Family::default(),
            errors: Family::default(),
            queue_depth: Family::default(),
            queue_age: Family::default(),
            inflight: Family::default(),
            fairness_lag: Family::default(),
            dead_letters: Family::default(),
            deferrals: Family::default(),
            ingress: Family::default(),
            nodes: Gauge::default(),
            warnings: Family::default(),
            part_up: Family::default(),
            trace_spans_sent: Counter::default(),
            trace_spans_dropped: Counter::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&self) {
        let mut registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        registry.register("requests", "Finished requests", self.requests.clone());
        registry.register("latency_seconds", "Accepted to answered", self.latency.clone());
        registry.register("approvals", "Approvals by status", self.approvals.clone());
        registry.register("errors", "Failed requests by cause", self.errors.clone());
        registry.register("queue_depth", "Messages not settled yet", self.queue_depth.clone());
        registry.register("queue_age_seconds", "Age of the oldest message", self.queue_age.clone());
        registry.register("inflight_tasks", "Tasks running now", self.inflight.clone());
        registry.register("fairness_lag", "Behind the fair share", self.fairness_lag.clone());
        registry.register("dead_letters", "Dead letters added", self.dead_letters.clone());
        registry.register("limit_deferrals", "Sent back by a limit", self.deferrals.clone());
        registry.register("ingress", "Requests by outcome", self.ingress.clone());
        registry.register("cluster_nodes", "Nodes heard, itself included", self.nodes.clone());
        registry.register("node_warnings", "1 where nodes differ", self.warnings.clone());
        registry.register("part_up", "1 where a part can work", self.part_up.clone());
        let (sent, dropped) = (&self.trace_spans_sent, &self.trace_spans_dropped);
        registry.register("trace_spans_sent", "Spans that were exported", sent.clone());
        registry.register("trace_spans_dropped", "Spans that were not", dropped.clone());
    }

    /// All series in the OpenMetrics text format.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Writing to a `String` cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_series_of_source_001_have_its_names_and_labels() {
        let metrics = Metrics::default();
        let text = |s: &str| s.to_owned();
        metrics
            .requests
            .get_or_create(&RequestLabels {
                flow: text("f"),
                platform: text("p"),
                agent: text("a"),
            })
            .inc();
        metrics
            .latency
            .get_or_create(&LatencyLabels { flow: text("f"), agent: text("a") })
            .observe(0.1, Some(TraceLabels { trace_id: text("t") }), None);
        metrics
            .approvals
            .get_or_create(&ApprovalLabels { flow: text("f"), status: text("s") })
            .inc();
        metrics.errors.get_or_create(&ErrorLabels { flow: text("f"), error_type: text("e") }).inc();
        let encoded = metrics.encode();
        for line in [
            r#"agentflow_requests_total{flow="f",platform="p",agent="a"} 1"#,
            r#"agentflow_latency_seconds_count{flow="f",agent="a"} 1"#,
            r#"le="0.1",flow="f",agent="a"} 1 # {trace_id="t"} 0.1"#,
            r#"agentflow_approvals_total{flow="f",status="s"} 1"#,
            r#"agentflow_errors_total{flow="f",error_type="e"} 1"#,
        ] {
            assert!(encoded.contains(line), "{line} is missing in\n{encoded}");
        }
    }
}
