//! Streams and subjects. Every subject is built and parsed here and nowhere else.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{FlowName, PlatformName, TenantId};

/// A durable stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Stream {
    /// Accepted messages; keeps history, which replay reads.
    Inbound,
    /// Work for workers; a message leaves it when acked.
    Tasks,
    /// Held actions and votes; a message leaves it when acked.
    Actions,
    /// Answers on their way to platforms; a message leaves it when acked.
    Replies,
    /// The journal; keeps history.
    Events,
    /// What could not be done, with reason and payload; leaves by `retry` or `abandon`.
    Dead,
}

impl Stream {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Inbound, Self::Tasks, Self::Actions, Self::Replies, Self::Events, Self::Dead];

    /// The name that people see: `INBOUND`, `TASKS`, …
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Inbound => "INBOUND",
            Self::Tasks => "TASKS",
            Self::Actions => "ACTIONS",
            Self::Replies => "REPLIES",
            Self::Events => "EVENTS",
            Self::Dead => "DEAD",
        }
    }

    /// True when an acked message leaves the stream.
    #[must_use]
    pub fn is_work_queue(self) -> bool {
        matches!(self, Self::Tasks | Self::Actions | Self::Replies)
    }

    /// The second token of the stream's subjects.
    fn token(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Tasks => "task",
            Self::Actions => "action",
            Self::Replies => "reply",
            Self::Events => "event",
            Self::Dead => "dead",
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a message goes: `aof.<stream>.<tenant>.<rest>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subject {
    stream: Stream,
    tenant: TenantId,
    rest: Arc<str>,
}

impl Subject {
    /// `aof.inbound.<tenant>.<platform>`
    #[must_use]
    pub fn inbound(tenant: &TenantId, platform: &PlatformName) -> Self {
        Self::of(Stream::Inbound, tenant, platform.as_str())
    }

    /// `aof.task.<tenant>.<flow>`
    #[must_use]
    pub fn task(tenant: &TenantId, flow: &FlowName) -> Self {
        Self::of(Stream::Tasks, tenant, flow.as_str())
    }

    /// `aof.action.<tenant>`
    #[must_use]
    pub fn action(tenant: &TenantId) -> Self {
        Self::of(Stream::Actions, tenant, "")
    }

    /// `aof.reply.<tenant>.<platform>`
    #[must_use]
    pub fn reply(tenant: &TenantId, platform: &PlatformName) -> Self {
        Self::of(Stream::Replies, tenant, platform.as_str())
    }

    /// `aof.event.<tenant>.<type>`, where the type may hold a dot (`run.started`).
    #[must_use]
    pub fn event(tenant: &TenantId, kind: &str) -> Self {
        Self::of(Stream::Events, tenant, kind)
    }

    /// `aof.dead.<tenant>.<role>`
    #[must_use]
    pub fn dead(tenant: &TenantId, role: &str) -> Self {
        Self::of(Stream::Dead, tenant, role)
    }

    /// The subject of a stored row.
    pub(crate) fn of(stream: Stream, tenant: &TenantId, rest: &str) -> Self {
        Self { stream, tenant: tenant.clone(), rest: Arc::from(rest) }
    }

    /// Reads back what `Display` wrote; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::parse_under(DEFAULT_SPACE, text)
    }

    fn parse_under(space: &str, text: &str) -> Option<Self> {
        let mut tokens = text.splitn(4, '.');
        if tokens.next() != Some(space) {
            return None;
        }
        let token = tokens.next()?;
        let stream = Stream::ALL.into_iter().find(|s| s.token() == token)?;
        let tenant = TenantId::new(tokens.next()?).ok()?;
        let rest = Arc::from(tokens.next().unwrap_or_default());
        Some(Self { stream, tenant, rest })
    }

    fn write_under(&self, space: &str, to: &mut impl fmt::Write) -> fmt::Result {
        write!(to, "{space}.{}.{}", self.stream.token(), self.tenant)?;
        if self.rest.is_empty() { Ok(()) } else { write!(to, ".{}", self.rest) }
    }

    /// The stream that holds it.
    #[must_use]
    pub fn stream(&self) -> Stream {
        self.stream
    }

    /// Whose it is.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// What follows the tenant: a platform, flow, event type or role; may be empty.
    #[must_use]
    pub fn rest(&self) -> &str {
        &self.rest
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_under(DEFAULT_SPACE, f)
    }
}

/// Where short-lived signals go, see [`crate::queue::Live`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LiveSubject(String);

impl LiveSubject {
    /// The answer of one message as it is produced.
    #[must_use]
    pub fn answer(tenant: &TenantId, message: crate::ids::MessageId) -> Self {
        Self(format!("aof.live.{tenant}.answer.{message}"))
    }

    /// Requests to look a channel's name up, for one platform.
    #[must_use]
    pub fn resolve(platform: &PlatformName) -> Self {
        Self(format!("aof.live.resolve.{platform}"))
    }

    /// Where nodes say that they are there.
    #[must_use]
    pub fn nodes() -> Self {
        Self("aof.live.nodes".to_owned())
    }

    /// The subject as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The first token of every subject, for the cluster that was given no other name.
const DEFAULT_SPACE: &str = "aof";

/// All subjects of one cluster: its name is their first token, so that two clusters can
/// share one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Space(Arc<str>);

impl Space {
    /// Under `name`, which MUST be one token.
    pub(crate) fn new(name: &str) -> Self {
        Self(Arc::from(name))
    }

    /// Where a message is published.
    pub(crate) fn subject(&self, subject: &Subject) -> String {
        let mut text = String::with_capacity(64);
        // Writing to a string cannot fail.
        let _ = subject.write_under(&self.0, &mut text);
        text
    }

    /// Reads back what [`Space::subject`] wrote; `None` for anything else.
    pub(crate) fn parse(&self, text: &str) -> Option<Subject> {
        Subject::parse_under(&self.0, text)
    }

    /// Every subject of `stream`.
    pub(crate) fn all(&self, stream: Stream) -> String {
        format!("{}.{}.>", self.0, stream.token())
    }

    /// Filters for what `tenant` (or anyone) has in `stream` under `rests` (or any).
    pub(crate) fn filters(
        &self,
        stream: Stream,
        tenant: Option<&TenantId>,
        rests: &[String],
    ) -> Vec<String> {
        let tenant = tenant.map_or("*", TenantId::as_str);
        let start = format!("{}.{}.{tenant}", self.0, stream.token());
        let under = |rest: &str| {
            if rest.is_empty() { start.clone() } else { format!("{start}.{rest}") }
        };
        if !rests.is_empty() {
            return rests.iter().map(|rest| under(rest)).collect();
        }
        // `>` stands for one token or more, and an action's subject ends with its tenant.
        if stream == Stream::Actions { vec![start] } else { vec![format!("{start}.>")] }
    }

    /// Where short-lived signals go.
    pub(crate) fn live(&self, subject: &LiveSubject) -> String {
        let rest = subject.as_str().strip_prefix(DEFAULT_SPACE).unwrap_or(subject.as_str());
        format!("{}{rest}", self.0)
    }

    /// The progress of every consumer.
    pub(crate) fn all_progress(&self) -> String {
        format!("{}.progress.>", self.0)
    }

    /// The progress of one consumer.
    pub(crate) fn progress(&self, stream: Stream, consumer: &str) -> String {
        format!("{}.progress.{}.{consumer}", self.0, stream.token())
    }

    /// Requests to the leader of one consumer, and what it tells everyone.
    pub(crate) fn dispatch(&self, stream: Stream, consumer: &str, verb: &str) -> String {
        format!("{}.dispatch.{}.{consumer}.{verb}", self.0, stream.token())
    }

    /// Nobody answers here: the server's own answer shows that it has read what came before.
    pub(crate) fn nobody(&self) -> String {
        format!("{}.nobody", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_read_back_what_they_write() {
        let tenant = TenantId::new("org-a").expect("a valid name");
        let flow = FlowName::new("prod-k8s-flow").expect("a valid name");
        for subject in [
            Subject::task(&tenant, &flow),
            Subject::action(&tenant),
            Subject::event(&tenant, "run.started"),
        ] {
            assert_eq!(Subject::parse(&subject.to_string()), Some(subject));
        }
    }

    #[test]
    fn a_cluster_reads_its_own_subjects_only() {
        let tenant = TenantId::new("org-a").expect("a valid name");
        let subject = Subject::event(&tenant, "run.started");
        let (aof, other) = (Space::new("aof"), Space::new("other"));
        assert_eq!(aof.subject(&subject), subject.to_string());
        assert_eq!(other.subject(&subject), "other.event.org-a.run.started");
        assert_eq!(other.parse(&other.subject(&subject)), Some(subject.clone()));
        assert_eq!(aof.parse(&other.subject(&subject)), None);
    }

    #[test]
    fn filters_never_leave_a_tenant() {
        let tenant = TenantId::new("org-a").expect("a valid name");
        let space = Space::new("aof");
        let rests = ["run.step".to_owned(), "run.failed".to_owned()];
        for (stream, tenant, rests, expected) in [
            (Stream::Events, Some(&tenant), &rests[..0], vec!["aof.event.org-a.>"]),
            (Stream::Actions, Some(&tenant), &rests[..0], vec!["aof.action.org-a"]),
            (Stream::Actions, None, &rests[..0], vec!["aof.action.*"]),
            (
                Stream::Events,
                Some(&tenant),
                &rests[..],
                vec!["aof.event.org-a.run.step", "aof.event.org-a.run.failed"],
            ),
        ] {
            assert_eq!(space.filters(stream, tenant, rests), expected);
        }
    }

    #[test]
    fn foreign_subjects_are_not_parsed() {
        for text in ["", "aof", "aof.task", "aof.nope.t.x", "x.task.t.f", "aof.task.*.f"] {
            assert_eq!(Subject::parse(text), None, "{text}");
        }
    }
}
