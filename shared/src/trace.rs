//! Traces: the W3C context that the headers of every hop carry, and the spans of it.
//!
//! A message's context starts at the gateway and goes on with each publication; a held action
//! keeps its own, so that the decision continues it ([`Continued`]). A context that is not
//! sampled makes no spans and is carried on all the same, for the trace ids of the journal
//! and of logs.

pub mod export;
pub mod settings;
mod span;

pub use opentelemetry::trace::SpanKind;
use uuid::Uuid;

pub use self::span::{Opening, Span, Tracer};
use crate::ids::EventId;
use crate::queue::Headers;

/// Header with the W3C trace context.
pub const TRACEPARENT: &str = "traceparent";
/// Header with the id of the event that led to a publication.
pub const CAUSATION: &str = "causation-id";

/// A trace and the span that is current in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace: u128,
    span: u64,
    sampled: bool,
}

impl TraceContext {
    /// Starts a trace that nothing records.
    #[must_use]
    pub fn start() -> Self {
        let (trace, span) = (rand::random::<u128>().max(1), rand::random::<u64>().max(1));
        Self { trace, span, sampled: false }
    }

    /// Reads a `traceparent`; `None` when it is not one. Source: W3C Trace Context, 3.2.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version = hex(parts.next()?, 2)?;
        let trace = hex(parts.next()?, 32).filter(|trace| *trace != 0)?;
        let span = u64::try_from(hex(parts.next()?, 16)?).ok().filter(|span| *span != 0)?;
        let flags = hex(parts.next()?, 2)?;
        // Later versions may add parts; this one has none.
        if version == 0xff || (version == 0 && parts.next().is_some()) {
            return None;
        }
        Some(Self { trace, span, sampled: flags & 1 == 1 })
    }

    /// The context that a delivery carries.
    #[must_use]
    pub fn carried(headers: &Headers) -> Option<Self> {
        headers.get(TRACEPARENT).and_then(|t| Self::parse(t))
    }

    /// The context of a delivery; a new trace when it carries none.
    #[must_use]
    pub fn of(headers: &Headers) -> Self {
        Self::carried(headers).unwrap_or_else(Self::start)
    }

    /// As a `traceparent`.
    #[must_use]
    pub fn traceparent(self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }

    /// The trace id, 32 hex digits.
    #[must_use]
    pub fn trace_id(self) -> String {
        format!("{:032x}", self.trace)
    }

    /// Whether its spans are recorded.
    #[must_use]
    pub fn sampled(self) -> bool {
        self.sampled
    }
}

/// Exactly `digits` lower-case hex digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let plain = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (plain && text.len() == digits).then(|| u128::from_str_radix(text, 16).ok())?
}

/// The event that led to a delivery, if its headers name one.
#[must_use]
pub fn causation(headers: &Headers) -> Option<EventId> {
    headers.get(CAUSATION).and_then(|id| Uuid::parse_str(id).ok()).map(EventId)
}

/// How long after an action was held its decision still belongs to the same trace, in ms.
/// No span is open meanwhile; but a trace that goes on for longer than an hour falls out of
/// the windows in which receivers put one together, so the decision then has a trace of its
/// own, with a link.
pub const SAME_TRACE_MS: u64 = 60 * 60 * 1_000;

/// Where work goes on that waited: below a span, and linked to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Continued {
    /// The span to be below; `None` starts a trace.
    pub parent: Option<TraceContext>,
    /// The other side of the wait.
    pub link: Option<TraceContext>,
}

impl Continued {
    /// Work on what was held in `held` and waited for `waited_ms`, because of `own` (a vote),
    /// if it has a cause of its own.
    #[must_use]
    pub fn after(held: Option<TraceContext>, waited_ms: u64, own: Option<TraceContext>) -> Self {
        if held.is_some() && waited_ms <= SAME_TRACE_MS {
            return Self { parent: held, link: own };
        }
        Self { parent: own, link: held }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traceparent_reads_back_with_its_flag() {
        let context = TraceContext::start();
        for sampled in [false, true] {
            let context = TraceContext { sampled, ..context };
            assert_eq!(TraceContext::parse(&context.traceparent()), Some(context));
        }
        let later = "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03-more";
        assert!(TraceContext::parse(later).is_some_and(TraceContext::sampled));
    }

    #[test]
    fn what_is_no_traceparent_is_left_alone() {
        let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        for bad in [
            String::new(),
            "00-0-0-01".to_owned(),
            format!("00-{trace}-{span}"),
            format!("00-{trace}-{span}-1"),
            format!("00-{trace}-{span}-01-more"),
            format!("ff-{trace}-{span}-01"),
            format!("00-{}-{span}-01", trace.to_uppercase()),
            format!("00-{:032}-{span}-01", 0),
            format!("00-{trace}-{:016}-01", 0),
            format!("00-+{}-{span}-01", &trace[1..]),
        ] {
            assert_eq!(TraceContext::parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn a_decision_continues_the_trace_for_an_hour_and_links_to_it_later() {
        let (held, vote) = (TraceContext::start(), TraceContext::start());
        let soon = Continued::after(Some(held), SAME_TRACE_MS, Some(vote));
        assert_eq!(soon, Continued { parent: Some(held), link: Some(vote) });
        let late = Continued::after(Some(held), SAME_TRACE_MS + 1, Some(vote));
        assert_eq!(late, Continued { parent: Some(vote), link: Some(held) });
        let expired = Continued::after(Some(held), SAME_TRACE_MS + 1, None);
        assert_eq!(expired, Continued { parent: None, link: Some(held) });
        let before = Continued::after(None, 0, Some(vote));
        assert_eq!(before, Continued { parent: Some(vote), link: None });
    }
}
