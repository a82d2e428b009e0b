//! Says why a message goes where it goes: every flow, filter by filter. Pure.
//!
//! It asks the same functions as the dispatch loop, so it cannot tell another story.

use aof_shared::ids::FlowName;
use serde::{Deserialize, Serialize};

use crate::channel::Naming;
use crate::score::{CompiledFlow, Filter, Outcome, Request, outcome, score};
use crate::select::Candidate;
use crate::table::{Miss, Route, Table};

/// The answer of `aofctl explain`. The JSON form is public: interface.md, *Commands*.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// Where the message goes; `null`: nowhere.
    pub selected: Option<Selected>,
    /// `routed`, `default`, `ignored` or `unrouted`.
    pub outcome: &'static str,
    /// What that means, in one sentence.
    pub reason: String,
    /// The flows of the message's tenant in load order.
    pub flows: Vec<FlowReport>,
}

/// The flow and agent that work on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Selected {
    /// The flow; `_default` stands for `routing.default_agent`.
    pub flow: String,
    /// The agent.
    pub agent: String,
}

/// What one flow makes of the message.
#[derive(Debug, Clone, Serialize)]
pub struct FlowReport {
    /// The flow.
    pub flow: String,
    /// File and line of its document.
    pub source: String,
    /// The sum of the weights; 0 when it is excluded.
    pub score: u32,
    /// Every filter, set or not.
    pub filters: Vec<FilterReport>,
    /// `selected`, `lost …` or `excluded …`, with the reason.
    pub verdict: String,
}

/// What one filter of a flow makes of the message.
#[derive(Debug, Clone, Serialize)]
pub struct FilterReport {
    /// `platform`, `agent`, `instance`, `events`, `user`, `channel` or `pattern`.
    pub filter: &'static str,
    /// `matched`, `failed`, `unset`, or `unresolved` when a channel's name is not known.
    pub result: &'static str,
    /// What it adds: its weight when it matched, else 0.
    pub weight: u32,
    /// What it asks for; empty when unset.
    pub wants: String,
}

/// A flow that took a message: one row of the score table that the journal keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranked {
    /// The flow.
    pub flow: FlowName,
    /// Its score.
    pub score: u32,
    /// The filters that matched.
    pub filters: Vec<Filter>,
}

impl Ranked {
    /// The rows of `candidates`, the best first.
    #[must_use]
    pub fn all(candidates: &[Candidate<'_>], request: &Request<'_>) -> Vec<Self> {
        let row = |candidate: &Candidate<'_>| {
            let matched = |f: &Filter| outcome(*f, candidate.flow, request) == Outcome::Matched;
            Self {
                flow: candidate.flow.flow.name.clone(),
                score: candidate.score,
                filters: Filter::ALL.into_iter().filter(matched).collect(),
            }
        };
        candidates.iter().map(row).collect()
    }
}

/// Explains what [`Table::decide`] decides.
#[must_use]
pub fn explain(table: &Table, request: &Request<'_>) -> Explanation {
    let decision = table.decide(request);
    let winner = decision.candidates.first().map(|c| (c.order, c.score));
    let flows = table.flows(&request.message.tenant);
    let reports =
        flows.iter().enumerate().map(|(place, flow)| report(place, flow, winner, request));
    let (outcome, reason) = match &decision.verdict {
        Ok(route) if winner.is_some() => ("routed", routed(route)),
        Ok(route) => {
            ("default", format!("no flow matches; `{}` is the default agent", route.agent))
        }
        Err(miss) => missed(*miss),
    };
    let selected = decision.verdict.ok().map(|route| Selected {
        flow: route.flow.as_str().to_owned(),
        agent: route.agent.as_str().to_owned(),
    });
    Explanation { selected, outcome, reason, flows: reports.collect() }
}

fn routed(route: &Route) -> String {
    format!("flow `{}` has the highest score, {}", route.flow, route.score)
}

fn missed(miss: Miss) -> (&'static str, String) {
    let (outcome, reason) = match miss {
        Miss::Chatter => ("ignored", "no flow listens, and the message does not speak to the bot"),
        Miss::Strict => ("unrouted", "no flow matches, and `strict_mode` is on"),
        Miss::NoDefault => ("unrouted", "no flow matches, and there is no `default_agent`"),
        Miss::UnknownAgent => ("unrouted", "no flow that matches has the agent that was asked for"),
        Miss::NoAgent => ("unrouted", "the flow has no agent, and there is no `default_agent`"),
    };
    (outcome, reason.to_owned())
}

fn report(
    place: usize,
    flow: &CompiledFlow,
    winner: Option<(usize, u32)>,
    request: &Request<'_>,
) -> FlowReport {
    let score = score(flow, request);
    let verdict = match (score, winner) {
        (None, _) => excluded(flow, request),
        (Some(_), Some((first, _))) if first == place => "selected".to_owned(),
        (Some(own), Some((_, best))) if own == best => {
            format!("lost the tie at {own}: another flow was loaded first")
        }
        (Some(own), best) => {
            format!("lost: {own} is less than {}", best.map_or(0, |(_, score)| score))
        }
    };
    let source = &flow.flow.source;
    FlowReport {
        flow: flow.flow.name.as_str().to_owned(),
        source: format!("{}:{}", source.file.display(), source.line),
        score: score.unwrap_or(0),
        filters: shown(request).map(|f| filter_report(f, flow, request)).collect(),
        verdict,
    }
}

fn excluded(flow: &CompiledFlow, request: &Request<'_>) -> String {
    let failed =
        |f: &Filter| matches!(outcome(*f, flow, request), Outcome::Failed | Outcome::Unresolved);
    let names: Vec<&str> = Filter::ALL.iter().filter(|f| failed(f)).map(|f| f.name()).collect();
    let mut text = format!("excluded: {} not matched", names.join(" and "));
    if outcome(Filter::Channel, flow, request) == Outcome::Unresolved {
        text.push_str(" (the channel's name is not known)");
    }
    text
}

/// The filters of every flow; whether an agent was asked for is the message's matter.
fn shown(request: &Request<'_>) -> impl Iterator<Item = Filter> {
    let pinned = request.pinned.is_some();
    Filter::ALL.into_iter().filter(move |f| pinned || *f != Filter::Agent)
}

fn filter_report(filter: Filter, flow: &CompiledFlow, request: &Request<'_>) -> FilterReport {
    let outcome = outcome(filter, flow, request);
    let result = match outcome {
        Outcome::Unset => "unset",
        Outcome::Matched => "matched",
        Outcome::Failed => "failed",
        Outcome::Unresolved => "unresolved",
    };
    let weight = if outcome == Outcome::Matched { filter.weight() } else { 0 };
    FilterReport { filter: filter.name(), result, weight, wants: wants(filter, flow) }
}

fn wants(filter: Filter, flow: &CompiledFlow) -> String {
    let trigger = &flow.flow.trigger;
    match filter {
        Filter::Platform => trigger.platform.as_ref().map(ToString::to_string).unwrap_or_default(),
        Filter::Instance => trigger.instance.as_ref().map(ToString::to_string).unwrap_or_default(),
        Filter::Agent => {
            let names = flow.flow.agents.iter().map(|a| a.name.as_str());
            names.collect::<Vec<_>>().join(", ")
        }
        Filter::Events => {
            let names = trigger.events.iter().map(|kind| format!("{kind:?}").to_lowercase());
            names.collect::<Vec<_>>().join(", ")
        }
        Filter::User => trigger.users.join(", "),
        Filter::Channel => trigger.channels.join(", "),
        Filter::Pattern => {
            let shown = flow.patterns.iter().map(|pattern| match pattern.defect() {
                None => pattern.source().to_owned(),
                Some(defect) => format!("{} ({defect})", pattern.source()),
            });
            shown.collect::<Vec<_>>().join(" or ")
        }
    }
}

/// How the explanation was told the channel: an id as events carry it, or a name as
/// people know it. A name stands for a channel that has this name resolved.
#[must_use]
pub fn naming_of(channel: &str) -> (&str, Naming<'_>) {
    if channel.starts_with('#') || !crate::channel::looks_like_id(channel) {
        let name = channel.trim_start_matches('#');
        return (name, Naming::Named(name));
    }
    (channel, Naming::Unresolved)
}
