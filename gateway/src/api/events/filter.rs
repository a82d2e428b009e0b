//! What a reader of the journal asks for. Pure.

use aof_shared::clock::UnixMs;
use aof_shared::event::{Event, EventType};
use serde::Deserialize;
use uuid::Uuid;

use super::related::Related;
use crate::api::span::at_ms;
use crate::problem::Problem;

/// Most events that `tail` starts with.
const MAX_TAIL: usize = 1_000;

/// The query as written.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Query {
    after: Option<u64>,
    tail: Option<usize>,
    #[serde(rename = "type")]
    kinds: Option<String>,
    message_id: Option<Uuid>,
    run_id: Option<Uuid>,
    conversation: Option<String>,
    flow: Option<String>,
    agent: Option<String>,
    user: Option<String>,
    from: Option<String>,
    to: Option<String>,
    follow: Option<bool>,
}

/// Where reading starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// After this sequence number.
    After(u64),
    /// With the newest so many.
    Tail(usize),
    /// With the oldest that there is.
    Oldest,
    /// With whatever comes.
    Now,
}

impl Start {
    /// `Last-Event-ID` goes first: it is what a client sends when it comes back.
    /// Without any, a follower starts now and a reader at the oldest.
    pub(super) fn of(query: &Query, last_event_id: Option<&str>) -> Result<Self, Problem> {
        if let Some(id) = last_event_id.filter(|id| !id.is_empty()) {
            if !id.bytes().all(|b| b.is_ascii_digit()) {
                let unknown = "it is no id of this stream";
                return Err(Problem::invalid_field("Last-Event-ID", unknown));
            }
            // One too large to read is not held either, and is answered with a `resync`:
            // after a 400 a browser does not come back.
            return Ok(Self::After(id.parse().unwrap_or(u64::MAX)));
        }
        if let Some(seq) = query.after {
            return Ok(Self::After(seq));
        }
        match query.tail {
            Some(n) if n > MAX_TAIL => Err(Problem::invalid_field("?tail", "use at most 1,000")),
            Some(n) => Ok(Self::Tail(n)),
            None if query.follow == Some(false) || query.is_narrow() || query.is_past() => {
                Ok(Self::Oldest)
            }
            None => Ok(Self::Now),
        }
    }
}

impl Query {
    /// True when it asks for one message's or one run's story.
    fn is_narrow(&self) -> bool {
        self.message_id.is_some() || self.run_id.is_some()
    }

    /// True when it asks for a stretch of time.
    fn is_past(&self) -> bool {
        self.from.is_some() || self.to.is_some()
    }
}

/// The events that name a message's flow and agent.
const ROUTING: &[EventType] = &[EventType::MessageRouted];
/// The event that names a message's user.
const ACCEPTING: &[EventType] = &[EventType::MessageAccepted];

/// Which events are wanted.
#[derive(Debug, Default, Clone)]
pub(super) struct Filter {
    /// Names of types to read; empty means all.
    pub(super) kinds: Vec<String>,
    /// Names of types to show; empty means all that are read.
    shown: Vec<String>,
    related: Vec<Related>,
    conversation: Option<String>,
    /// Only at or after.
    pub(super) from_ms: Option<UnixMs>,
    /// Only before.
    pub(super) to_ms: Option<UnixMs>,
    message_id: Option<Uuid>,
    run_id: Option<Uuid>,
    /// Waits for more at the end.
    pub(super) follow: bool,
}

impl Filter {
    /// Reads the query's filters.
    pub(super) fn of(query: &Query) -> Result<Self, Problem> {
        let named = |field, wanted: &Option<String>, by| {
            wanted.clone().map(|wanted| Related::new(field, wanted, by))
        };
        let related = [
            named("flow", &query.flow, ROUTING),
            named("agent", &query.agent, ROUTING),
            named("user", &query.user, ACCEPTING),
        ];
        let related: Vec<Related> = related.into_iter().flatten().collect();
        let shown = kinds_of(query.kinds.as_deref().unwrap_or_default())?;
        let mut kinds = shown.clone();
        if !kinds.is_empty() {
            // What names the flow must be read, also where it is not shown.
            kinds.extend(naming_of(&related));
            kinds.sort_unstable();
            kinds.dedup();
        }
        let to_ms = at_ms("?to", query.to.as_deref())?;
        Ok(Self {
            kinds,
            shown,
            related,
            conversation: query.conversation.clone(),
            from_ms: at_ms("?from", query.from.as_deref())?,
            to_ms,
            message_id: query.message_id,
            run_id: query.run_id,
            follow: query.follow.unwrap_or(true) && to_ms.is_none(),
        })
    }

    /// The types that tell of a message what is asked for.
    pub(super) fn naming(&self) -> Vec<String> {
        let mut names = naming_of(&self.related);
        names.sort_unstable();
        names.dedup();
        names
    }

    /// True when `event` is wanted. Ask for each event that is read, in order: what is
    /// known of a message comes from its earlier events.
    pub(super) fn takes(&mut self, event: &Event) -> bool {
        let message = self.message_id.is_none_or(|id| event.message_id.map(|m| m.0) == Some(id));
        let run = self.run_id.is_none_or(|id| event.run_id.map(|r| r.0) == Some(id));
        let talk =
            self.conversation.as_ref().is_none_or(|c| event.conversation.as_ref() == Some(c));
        let shown = self.shown.is_empty() || self.shown.iter().any(|k| k == event.kind.name());
        let mut related = true;
        for relation in &mut self.related {
            related &= relation.takes(event);
        }
        message && run && talk && shown && related
    }

    /// True when nothing can follow `event` in the story that is asked for.
    pub(super) fn ends_with(&self, event: &Event) -> bool {
        let narrow = self.message_id.is_some() || self.run_id.is_some();
        narrow && crate::outcome::TERMINAL.contains(&event.kind)
    }
}

/// The types whose events tell of a message what `related` asks for.
fn naming_of(related: &[Related]) -> Vec<String> {
    let kinds = related.iter().flat_map(|related| related.named_by);
    kinds.map(|kind| kind.name().to_owned()).collect()
}

/// `approval.*,run.failed` as names of types.
fn kinds_of(patterns: &str) -> Result<Vec<String>, Problem> {
    let mut kinds = Vec::new();
    for pattern in patterns.split(',').map(str::trim).filter(|p| !p.is_empty() && *p != "*") {
        let before = kinds.len();
        let fits = |name: &str| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == pattern,
        };
        kinds
            .extend(EventType::ALL.iter().map(|k| k.name()).filter(|n| fits(n)).map(str::to_owned));
        if kinds.len() == before {
            return Err(Problem::invalid_field("?type", format!("no event is called `{pattern}`")));
        }
    }
    kinds.sort_unstable();
    kinds.dedup();
    Ok(kinds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_the_types_that_they_match() {
        let check = |patterns: &str, expected: Option<&[&str]>| {
            let kinds = kinds_of(patterns).ok();
            let kinds = kinds.as_ref().map(|k| k.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(kinds.as_deref(), expected, "{patterns}");
        };
        check("", Some(&[]));
        check("*", Some(&[]));
        check("run.failed", Some(&["run.failed"]));
        check("approval.*", Some(&["approval.vote_rejected", "approval.voted"]));
        check("reply.*, run.failed,run.f*", Some(&["reply.failed", "reply.sent", "run.failed"]));
        check("nothing", None);
        check("run.failed,nope.*", None);
    }

    #[test]
    fn a_reader_starts_where_it_says_and_else_where_it_makes_sense() {
        let check = |text: &str, last: Option<&str>, expected: Option<Start>| {
            let query: Query = serde_urlencoded::from_str(text).expect("a query");
            assert_eq!(Start::of(&query, last).ok(), expected, "{text} {last:?}");
        };
        check("", None, Some(Start::Now));
        check("follow=false", None, Some(Start::Oldest));
        check("after=7", None, Some(Start::After(7)));
        check("after=7", Some("9"), Some(Start::After(9)));
        check("tail=3", None, Some(Start::Tail(3)));
        check("tail=1001", None, None);
        check("", Some("x"), None);
        check("", Some("-1"), None);
        check("", Some("99999999999999999999999"), Some(Start::After(u64::MAX)));
        check("run_id=0b7f3a36-6d34-4b5c-9b55-0e6b0c1f2a3b", None, Some(Start::Oldest));
    }
}
