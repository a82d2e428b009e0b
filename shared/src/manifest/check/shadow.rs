//! Flows that can never win.
//!
//! Weights add up, and a filter that does not match excludes the flow. So an earlier flow
//! takes everything from a later one exactly when both set the same kinds of filter (a
//! wider flow with fewer kinds scores less, one with more is not wider) and each of its
//! filters takes at least what the later one's takes. Patterns count as wider only when
//! they include the other's word for word, so nothing is reported that might win.

use std::collections::{HashMap, HashSet};

use super::{Finding, Located, shown, warning};
use crate::config::Trigger;
use crate::ids::PlatformName;

/// Earlier flows that one flow is compared with. Beyond it, a flow may go unreported.
const MAX_CANDIDATES: usize = 256;

/// Lists longer than this are compared by hash.
const SHORT_LIST: usize = 16;

/// What two flows must share for one to shadow the other.
type Group<'w> = (Option<&'w PlatformName>, [bool; 3]);

/// The kind of a filter and one of its values.
type Value<'w> = (u8, &'w str);

/// The flows of a group so far.
#[derive(Default)]
struct Earlier<'w> {
    flows: Vec<Located<'w>>,
    by_value: HashMap<Value<'w>, Vec<usize>>,
}

/// Reports every flow of a tenant that an earlier one leaves nothing.
pub(super) fn check(flows: &[Located<'_>], findings: &mut Vec<Finding>) {
    let mut groups: HashMap<Group<'_>, Earlier<'_>> = HashMap::new();
    for &flow in flows {
        let trigger = &flow.doc.flow.trigger;
        let kinds = [&trigger.channels, &trigger.users, &trigger.patterns];
        let kinds = kinds.map(|filter| !filter.is_empty());
        let group = (trigger.platform.as_ref(), kinds);
        let earlier = groups.entry(group).or_default();
        if let Some(winner) = earlier.winner(trigger) {
            findings.push(finding(flow, winner));
        } else {
            earlier.add(flow);
        }
    }
}

impl<'w> Earlier<'w> {
    /// The flow that wins whenever `trigger` matches. It must have every value that
    /// `trigger` has, so the rarest value's flows are all that need a look.
    fn winner(&self, trigger: &Trigger) -> Option<Located<'w>> {
        let mut candidates: Option<&[usize]> = None;
        for value in values(trigger) {
            let flows = self.by_value.get(&value)?;
            if candidates.is_none_or(|best| flows.len() < best.len()) {
                candidates = Some(flows);
            }
        }
        let takes = |flow: &Located<'w>| covers(&flow.doc.flow.trigger, trigger);
        match candidates {
            Some(places) => {
                let mut flows = places.iter().take(MAX_CANDIDATES).map(|n| self.flows[*n]);
                flows.find(takes)
            }
            None => self.flows.iter().take(MAX_CANDIDATES).copied().find(takes),
        }
    }

    fn add(&mut self, flow: Located<'w>) {
        let place = self.flows.len();
        self.flows.push(flow);
        for value in values(&flow.doc.flow.trigger) {
            self.by_value.entry(value).or_default().push(place);
        }
    }
}

fn values(trigger: &Trigger) -> impl Iterator<Item = Value<'_>> {
    let channels = trigger.channels.iter().map(|c| (0, c.trim_start_matches('#')));
    let users = trigger.users.iter().map(|u| (1, u.as_str()));
    let patterns = trigger.patterns.iter().map(|p| (2, p.as_str()));
    channels.chain(users).chain(patterns)
}

/// Whether `wide` matches whenever `narrow` does.
fn covers(wide: &Trigger, narrow: &Trigger) -> bool {
    let instance = wide.instance.is_none() || wide.instance == narrow.instance;
    let events = wide.events.is_empty()
        || (!narrow.events.is_empty() && narrow.events.iter().all(|e| wide.events.contains(e)));
    instance && events && {
        let (wide, narrow): (Vec<_>, Vec<_>) = (values(wide).collect(), values(narrow).collect());
        if wide.len() <= SHORT_LIST {
            narrow.iter().all(|value| wide.contains(value))
        } else {
            let wide: HashSet<_> = wide.into_iter().collect();
            narrow.iter().all(|value| wide.contains(value))
        }
    }
}

fn finding(flow: Located<'_>, winner: Located<'_>) -> Finding {
    let name = |flow: Located<'_>| shown(&flow.doc.name, flow.doc.flow.name.as_str()).to_owned();
    let message = format!(
        "flow `{}` can never win: `{}` ({}:{}) comes first and takes all of its messages",
        name(flow),
        name(winner),
        winner.path.display(),
        winner.doc.name.at.line
    );
    let help = "give one of them a channel, user or pattern that the other has not";
    warning("never-wins", flow.path, flow.doc.name.at, message).help(help)
}
