//! Decides again, under another configuration, what was decided then; and says of each
//! recorded command what the guard would make of it now. Pure, and bounded: a message that
//! is decided alike leaves 24 bytes behind.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use aof_shared::ids::{AgentName, FlowName, MessageId, Revision, TenantId};
use aof_worker::guard::{Judged, Verdict};

use super::record::{Decision, Input};
use super::report::{Change, CommandChange, Difference, Report};
use super::rules::{Judgement, Rules, Side};

/// Score tables kept for commands that are still to come, of the newest messages.
const MAX_RECENT: usize = 20_000;
/// Longest part of a text that a difference shows, in characters.
const SHOWN_CHARS: usize = 120;

/// The place of a message that nothing takes.
const NOWHERE: u32 = u32::MAX;

/// What to decide under.
pub(crate) enum Against {
    /// One configuration, whatever was in force.
    One(Box<Rules>),
    /// Each decision's own, by digest.
    Recorded(HashMap<Revision, Rules>),
}

impl Against {
    fn rules(&self, config: Option<&Revision>) -> Option<&Rules> {
        match self {
            Self::One(rules) => Some(rules),
            Self::Recorded(all) => all.get(config?),
        }
    }
}

/// Where a message would go, by number: few places, many messages.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    config: Option<Revision>,
    flow: FlowName,
    agent: AgentName,
}

/// Both score tables of a message.
struct Sides {
    before: Side,
    after: Side,
    text: String,
}

/// Decides again.
pub(crate) struct Decider<'a> {
    against: &'a Against,
    tenant: TenantId,
    report: Report,
    places: Vec<Place>,
    numbers: HashMap<Place, u32>,
    landed: HashMap<MessageId, u32>,
    recent: HashMap<MessageId, Arc<Sides>>,
    order: VecDeque<MessageId>,
}

impl<'a> Decider<'a> {
    /// Nothing decided yet; at most `limit` differences are kept whole, all are counted.
    pub(crate) fn new(against: &'a Against, tenant: &TenantId, limit: usize) -> Self {
        Self {
            against,
            tenant: tenant.clone(),
            report: Report::new(tenant, limit),
            places: Vec::new(),
            numbers: HashMap::new(),
            landed: HashMap::new(),
            recent: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Decides one message again. `input` is missing when it is no longer kept.
    pub(crate) fn decision(
        &mut self,
        (id, time): (MessageId, String),
        decision: &Decision,
        input: Option<&Input>,
    ) {
        self.report.saw(decision);
        let (rules, input) = match self.usable(decision, input) {
            Ok(usable) => usable,
            Err(why) => return self.report.uncovered(why),
        };
        let Some((naming, unasked)) = decision.naming(&input.message) else {
            return self.report.uncovered("made_by_an_earlier_version");
        };
        if unasked && rules.hangs_on_name(input, naming) {
            return self.report.uncovered("channel_name_was_never_asked_for");
        }
        let before = Side::recorded(decision);
        let after = rules.decide(input, naming);
        self.land(id, decision, &after);
        let change = change(&before, &after);
        self.report.decided(change, &before, &after);
        let text: String = input.message.text.chars().take(SHOWN_CHARS).collect();
        if let Some(change) = change
            && self.report.has_room(change)
        {
            let command = self.own_command(rules, input, &after);
            self.report.push(Difference {
                change,
                message_id: id,
                time,
                text: text.clone(),
                before: before.clone(),
                after: after.clone(),
                table: rules.table(input, naming),
                command,
            });
        }
        self.remember(id, Sides { before, after, text });
    }

    fn usable<'i>(
        &self,
        decision: &Decision,
        input: Option<&'i Input>,
    ) -> Result<(&'a Rules, &'i Input), &'static str> {
        if decision.inbound_seq.is_none() || decision.naming.is_none() {
            return Err("made_by_an_earlier_version");
        }
        let input = input.ok_or("message_no_longer_kept")?;
        let rules = self.against.rules(decision.config.as_ref());
        Ok((rules.ok_or("configuration_not_recorded")?, input))
    }

    /// What becomes of a message that is a command itself and goes elsewhere.
    fn own_command(&self, rules: &Rules, input: &Input, after: &Side) -> Option<CommandChange> {
        let (flow, agent) = (after.flow.as_ref()?, after.agent.as_ref()?);
        let argv = rules.command_of(agent, &input.message.text)?;
        let after = rules.judge(&self.tenant, (flow, agent), &argv);
        Some(CommandChange { argv, before: None, after })
    }

    fn land(&mut self, id: MessageId, decision: &Decision, after: &Side) {
        let (Some(flow), Some(agent)) = (&after.flow, &after.agent) else {
            // Only what ran may have judged commands.
            if decision.flow.is_some() {
                self.landed.insert(id, NOWHERE);
            }
            return;
        };
        let config = match self.against {
            Against::One(_) => None,
            Against::Recorded(_) => decision.config.clone(),
        };
        let place = Place { config, flow: flow.clone(), agent: agent.clone() };
        let next = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        let number = *self.numbers.entry(place).or_insert_with_key(|place| {
            self.places.push(place.clone());
            next
        });
        self.landed.insert(id, number);
    }

    fn remember(&mut self, id: MessageId, sides: Sides) {
        if self.order.len() == MAX_RECENT
            && let Some(oldest) = self.order.pop_front()
        {
            self.recent.remove(&oldest);
        }
        self.order.push_back(id);
        self.recent.insert(id, Arc::new(sides));
    }

    /// Judges a recorded command again, under the flow and agent that its message would go
    /// to. A command of a message that goes nowhere any more is not run at all, and counts
    /// with the message.
    pub(crate) fn command(&mut self, (id, time): (MessageId, String), judged: &Judged) {
        self.report.saw_command();
        if judged.masked {
            return self.report.uncovered_command("a_secret_was_taken_out");
        }
        let number = match self.landed.get(&id) {
            None => return self.report.uncovered_command("its_decision_is_not_covered"),
            Some(&NOWHERE) => return self.report.uncovered_command("its_message_goes_nowhere"),
            Some(&number) => number,
        };
        let place = &self.places[number as usize];
        let Some(rules) = self.against.rules(place.config.as_ref()) else {
            return self.report.uncovered_command("configuration_not_recorded");
        };
        let at = (&place.flow, &place.agent);
        let is_own = matches!(self.against, Against::Recorded(_));
        if is_own && rules.flow_revision(&self.tenant, at) != Some(&judged.revision) {
            return self.report.uncovered_command("judged_under_another_revision");
        }
        let before = Judgement { verdict: judged.verdict.clone(), require: judged.require };
        let after = rules.judge(&self.tenant, at, &judged.argv);
        let change = change_of_command(&before, &after);
        self.report.judged(change);
        if let Some(change) = change
            && self.report.has_room(change)
        {
            let nowhere =
                Side { flow: None, agent: None, score: 0, reason: None, candidates: Vec::new() };
            let sides = self.recent.get(&id);
            let of = |side: fn(&Sides) -> &Side| {
                sides.map_or_else(|| nowhere.clone(), |sides| side(sides).clone())
            };
            self.report.push(Difference {
                change,
                message_id: id,
                time,
                text: sides.map(|sides| sides.text.clone()).unwrap_or_default(),
                before: of(|sides| &sides.before),
                after: of(|sides| &sides.after),
                table: Vec::new(),
                command: Some(CommandChange {
                    argv: judged.argv.clone(),
                    before: Some(before),
                    after,
                }),
            });
        }
    }

    /// What came of it.
    pub(crate) fn finish(self) -> Report {
        self.report
    }
}

/// How the two differ; `None`: not at all.
fn change(before: &Side, after: &Side) -> Option<Change> {
    match (&before.flow, &after.flow) {
        (Some(_), None) => Some(Change::Lost),
        (None, Some(_)) => Some(Change::Found),
        (Some(_), Some(_)) if (&before.flow, &before.agent) != (&after.flow, &after.agent) => {
            Some(Change::Moved)
        }
        _ if before != after => Some(Change::Rescored),
        _ => None,
    }
}

/// How the two differ; `None`: not in what happens.
fn change_of_command(before: &Judgement, after: &Judgement) -> Option<Change> {
    use Verdict::{Allow, Hold, Refuse};
    match (&before.verdict, &after.verdict) {
        (Allow, Allow) | (Refuse { .. }, Refuse { .. }) => None,
        (Hold { .. } | Refuse { .. }, Allow) => Some(Change::NewlyAllowed),
        (Allow | Refuse { .. }, Hold { .. }) => Some(Change::NewlyHeld),
        (Allow | Hold { .. }, Refuse { .. }) => Some(Change::NewlyRefused),
        (Hold { .. }, Hold { .. }) if before.require > after.require => {
            Some(Change::FewerApprovers)
        }
        (Hold { chain: a, .. }, Hold { chain: b, .. }) => {
            (a != b || before.require != after.require).then_some(Change::OtherApproval)
        }
    }
}

#[cfg(test)]
mod tests;
