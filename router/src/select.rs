//! Picks the flow, and the agent within it. Pure.

use std::cmp::Reverse;

use aof_shared::config::FlowAgent;

use crate::score::{CompiledFlow, Request, score};

/// Flows kept for the journal: the winner and those next to it.
pub const MAX_CANDIDATES: usize = 10;

/// A flow that takes the message.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'t> {
    /// The flow.
    pub flow: &'t CompiledFlow,
    /// Its score, at least [`crate::score::CATCH_ALL`].
    pub score: u32,
    /// Its place in load order among its tenant's flows, which breaks ties.
    pub order: usize,
}

/// Scores every flow; the best first, at most [`MAX_CANDIDATES`]. Cost follows the number
/// of flows: the index in [`crate::table`] finds the same without looking at all of them.
#[must_use]
pub fn scan<'t>(
    flows: impl IntoIterator<Item = &'t CompiledFlow>,
    request: &Request<'_>,
) -> Vec<Candidate<'t>> {
    let scored = flows.into_iter().enumerate().filter_map(|(order, flow)| {
        score(flow, request).map(|score| Candidate { flow, score, order })
    });
    rank(scored.collect())
}

/// Highest score first, ties by load order; a flow that was found twice counts once.
#[must_use]
pub(crate) fn rank(mut candidates: Vec<Candidate<'_>>) -> Vec<Candidate<'_>> {
    candidates.sort_unstable_by_key(|c| (Reverse(c.score), c.order));
    candidates.dedup_by_key(|c| c.order);
    candidates.truncate(MAX_CANDIDATES);
    candidates
}

/// The agent that was asked for; else the first with a pattern that matches, else the first without patterns, else
/// the first. `None` when the flow has no agent.
#[must_use]
pub fn agent<'t>(flow: &'t CompiledFlow, request: &Request<'_>) -> Option<&'t FlowAgent> {
    if let Some(name) = request.pinned {
        return flow.agents().map(|(agent, _)| agent).find(|agent| agent.name == *name);
    }
    let by_pattern =
        flow.agents().find(|(_, patterns)| patterns.iter().any(|p| p.matches(request.text)));
    by_pattern
        .or_else(|| flow.agents().find(|(_, patterns)| patterns.is_empty()))
        .or_else(|| flow.agents().next())
        .map(|(agent, _)| agent)
}
