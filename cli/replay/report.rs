//! What differs, counted whole and listed in part.

use std::collections::BTreeMap;

use aof_router::explain::FlowReport;
use aof_shared::ids::{MessageId, Revision, TenantId};
use serde::Serialize;

use super::record::Decision;
use super::rules::{Judgement, Side};

/// One way to differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    /// Another flow or agent takes the message.
    Moved,
    /// Nothing takes it any more.
    Lost,
    /// Something takes it now.
    Found,
    /// The same happens, by another score table or for another reason.
    Rescored,
    /// A command that ran, or was refused, waits for people.
    NewlyHeld,
    /// A command that ran, or waited for people, never runs.
    NewlyRefused,
    /// A command that waited for people, or was refused, just runs.
    NewlyAllowed,
    /// Fewer people must agree.
    FewerApprovers,
    /// More or other people must agree.
    OtherApproval,
}

impl Change {
    /// All of them, as they are listed.
    pub(crate) const ALL: [Self; 9] = [
        Self::Moved,
        Self::Lost,
        Self::Found,
        Self::Rescored,
        Self::NewlyHeld,
        Self::NewlyRefused,
        Self::NewlyAllowed,
        Self::FewerApprovers,
        Self::OtherApproval,
    ];

    /// For people.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Moved => "moved",
            Self::Lost => "lost its flow",
            Self::Found => "found a flow",
            Self::Rescored => "decided alike, scored otherwise",
            Self::NewlyHeld => "newly needs approval",
            Self::NewlyRefused => "newly refused",
            Self::NewlyAllowed => "newly allowed",
            Self::FewerApprovers => "fewer must approve",
            Self::OtherApproval => "others must approve",
        }
    }

    /// Something that was denied, or asked people first, is now let through more easily.
    pub(crate) fn loosens(self) -> bool {
        matches!(self, Self::NewlyAllowed | Self::FewerApprovers)
    }
}

/// A command under both configurations.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CommandChange {
    /// Program and arguments.
    pub(crate) argv: Vec<String>,
    /// What became of it; missing when it was never judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) before: Option<Judgement>,
    /// What would.
    pub(crate) after: Judgement,
}

/// One message or command that would be decided otherwise.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Difference {
    pub(crate) change: Change,
    pub(crate) message_id: MessageId,
    pub(crate) time: String,
    /// The beginning of what was written.
    pub(crate) text: String,
    /// What was decided, with the flows that matched.
    pub(crate) before: Side,
    /// What would be.
    pub(crate) after: Side,
    /// Every flow's score now, filter by filter.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) table: Vec<FlowReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) command: Option<CommandChange>,
}

/// How much of the past could be decided again.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Coverage {
    /// Decisions of the slice.
    pub(crate) decisions: u64,
    /// Those that were made again.
    pub(crate) covered: u64,
    /// Why others were not.
    pub(crate) uncovered: BTreeMap<&'static str, u64>,
    /// Commands that were judged.
    pub(crate) commands: u64,
    /// Those that were judged again.
    pub(crate) commands_covered: u64,
    /// Why others were not.
    pub(crate) commands_uncovered: BTreeMap<&'static str, u64>,
}

/// What one account's past would have been.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) account: TenantId,
    pub(crate) coverage: Coverage,
    /// The configurations that decisions were made under, with how many each.
    pub(crate) recorded_under: BTreeMap<Revision, u64>,
    /// How many of each; none left out.
    pub(crate) differences: BTreeMap<Change, u64>,
    /// From where to where, of those that moved, were lost or found.
    pub(crate) moves: BTreeMap<String, u64>,
    /// The first of them.
    pub(crate) listed: Vec<Difference>,
    #[serde(skip)]
    limit: u64,
}

impl Report {
    pub(super) fn new(tenant: &TenantId, limit: usize) -> Self {
        Self {
            account: tenant.clone(),
            coverage: Coverage::default(),
            recorded_under: BTreeMap::new(),
            differences: BTreeMap::new(),
            moves: BTreeMap::new(),
            listed: Vec::new(),
            limit: limit as u64,
        }
    }

    /// How many differ.
    pub(crate) fn total(&self) -> u64 {
        self.differences.values().sum()
    }

    /// How many are let through more easily.
    pub(crate) fn loosened(&self) -> u64 {
        let loose = self.differences.iter().filter(|(change, _)| change.loosens());
        loose.map(|(_, count)| count).sum()
    }

    /// Whether the newest of them is listed. Each way to differ has its own room, so that
    /// many of one hide none of another.
    pub(super) fn has_room(&self, change: Change) -> bool {
        self.differences.get(&change).is_some_and(|count| *count <= self.limit)
    }

    pub(super) fn push(&mut self, difference: Difference) {
        self.listed.push(difference);
    }

    pub(super) fn saw(&mut self, decision: &Decision) {
        self.coverage.decisions += 1;
        if let Some(config) = &decision.config {
            match self.recorded_under.get_mut(config) {
                Some(count) => *count += 1,
                None => drop(self.recorded_under.insert(config.clone(), 1)),
            }
        }
    }

    pub(super) fn uncovered(&mut self, why: &'static str) {
        *self.coverage.uncovered.entry(why).or_default() += 1;
    }

    pub(super) fn decided(&mut self, change: Option<Change>, before: &Side, after: &Side) {
        self.coverage.covered += 1;
        let Some(change) = change else { return };
        *self.differences.entry(change).or_default() += 1;
        if change != Change::Rescored {
            let way = format!("{} → {}", place(before), place(after));
            *self.moves.entry(way).or_default() += 1;
        }
    }

    pub(super) fn saw_command(&mut self) {
        self.coverage.commands += 1;
    }

    pub(super) fn uncovered_command(&mut self, why: &'static str) {
        *self.coverage.commands_uncovered.entry(why).or_default() += 1;
    }

    pub(super) fn judged(&mut self, change: Option<Change>) {
        self.coverage.commands_covered += 1;
        if let Some(change) = change {
            *self.differences.entry(change).or_default() += 1;
        }
    }
}

/// `flow/agent`, or why nowhere.
pub(super) fn place(side: &Side) -> String {
    match (&side.flow, &side.agent, &side.reason) {
        (Some(flow), Some(agent), _) => format!("{flow}/{agent}"),
        (_, _, Some(reason)) => format!("nowhere ({reason})"),
        _ => "nowhere".to_owned(),
    }
}
