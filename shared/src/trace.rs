//! W3C trace context, carried in the headers of every hop.

use uuid::Uuid;

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
}

impl TraceContext {
    /// Starts a trace.
    #[must_use]
    pub fn start() -> Self {
        Self { trace: rand::random::<u128>().max(1), span: rand::random::<u64>().max(1) }
    }

    /// A new span in the same trace.
    #[must_use]
    pub fn child(self) -> Self {
        Self { trace: self.trace, span: rand::random::<u64>().max(1) }
    }

    /// Reads a `traceparent`; `None` when it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
        if version.len() != 2 || trace.len() != 32 || span.len() != 16 {
            return None;
        }
        let trace = u128::from_str_radix(trace, 16).ok().filter(|t| *t != 0)?;
        let span = u64::from_str_radix(span, 16).ok().filter(|s| *s != 0)?;
        Some(Self { trace, span })
    }

    /// The context of a delivery; a new trace when it carries none.
    #[must_use]
    pub fn of(headers: &Headers) -> Self {
        headers.get(TRACEPARENT).and_then(|t| Self::parse(t)).unwrap_or_else(Self::start)
    }

    /// As a `traceparent`, sampled.
    #[must_use]
    pub fn traceparent(self) -> String {
        format!("00-{:032x}-{:016x}-01", self.trace, self.span)
    }

    /// The trace id, 32 hex digits.
    #[must_use]
    pub fn trace_id(self) -> String {
        format!("{:032x}", self.trace)
    }
}

/// The event that led to a delivery, if its headers name one.
#[must_use]
pub fn causation(headers: &Headers) -> Option<EventId> {
    headers.get(CAUSATION).and_then(|id| Uuid::parse_str(id).ok()).map(EventId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traceparent_reads_back() {
        let context = TraceContext::start();
        assert_eq!(TraceContext::parse(&context.traceparent()), Some(context));
        assert_eq!(context.child().trace_id(), context.trace_id());
        for bad in ["", "00-0-0-01", "00-00000000000000000000000000000000-0000000000000001-01"] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
    }
}
