//! Who is told which tenant has work: each asker is told of each tenant once, until its own
//! pull of that tenant came back short. Pure.

use std::collections::VecDeque;

use crate::ids::TenantId;

/// A set of askers, one bit each.
pub(super) type Set = u128;

/// Askers of one consumer at once, one a process that pulls by tenant.
const MAX_NAMERS: u32 = Set::BITS;

/// One who asks which tenants are active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::queue) struct Namer(u8);

impl Namer {
    pub(super) fn bit(self) -> Set {
        1 << self.0
    }
}

/// What one asker is to be told.
#[derive(Default)]
struct Desk {
    active: VecDeque<TenantId>,
    /// Their pull came back short although something was ready: the cap was reached.
    starved: Vec<TenantId>,
}

/// All askers of one consumer.
#[derive(Default)]
pub(super) struct Names {
    all: Set,
    desks: Vec<Desk>,
    /// Those with something in `starved`.
    starving: Set,
}

/// The askers in `set`.
fn each(mut set: Set) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let low = set.trailing_zeros();
        (low < MAX_NAMERS).then(|| {
            set &= !(1 << low);
            usize::try_from(low).unwrap_or_default()
        })
    })
}

impl Names {
    /// Everyone who asks.
    pub(super) fn all(&self) -> Set {
        self.all
    }

    /// One more asks; `None`: no room.
    pub(super) fn add(&mut self) -> Option<Namer> {
        let free = (!self.all).trailing_zeros();
        let namer = Namer(u8::try_from(free).ok().filter(|_| free < MAX_NAMERS)?);
        self.all |= namer.bit();
        if self.desks.len() <= usize::from(namer.0) {
            self.desks.push(Desk::default());
        }
        Some(namer)
    }

    /// They ask no more.
    pub(super) fn remove(&mut self, namer: Namer) {
        self.all &= !namer.bit();
        self.starving &= !namer.bit();
        self.desks[usize::from(namer.0)] = Desk::default();
    }

    /// Tells everyone in `set` of `tenant`.
    pub(super) fn tell(&mut self, set: Set, tenant: &TenantId) {
        for slot in each(set & self.all) {
            self.desks[slot].active.push_back(tenant.clone());
        }
    }

    /// `namer` is told of `tenant` once there is room under the cap.
    pub(super) fn starve(&mut self, namer: Namer, tenant: &TenantId) {
        self.starving |= namer.bit();
        self.desks[usize::from(namer.0)].starved.push(tenant.clone());
    }

    /// There is room under the cap.
    pub(super) fn feed_starved(&mut self) {
        for slot in each(std::mem::take(&mut self.starving)) {
            let desk = &mut self.desks[slot];
            desk.active.extend(desk.starved.drain(..));
        }
    }

    /// Up to `max` names for `namer`.
    pub(super) fn take(&mut self, namer: Namer, max: usize) -> Vec<TenantId> {
        let active = &mut self.desks[usize::from(namer.0)].active;
        active.drain(..max.min(active.len())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Dispatch, Item};
    use super::*;
    use crate::message::Priority;

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).expect("a valid name")
    }

    fn item(seq: u64, name: &str) -> Item {
        let (tenant, priority) = (tenant(name), Priority::Normal);
        Item { seq, tenant, priority, key: 0, failures: 0, due_at_ms: 0 }
    }

    fn names(dispatch: &mut Dispatch, namer: Namer) -> Vec<String> {
        dispatch.take_active(namer, 10).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_asker_is_told_once_until_its_own_pull_comes_short() {
        let mut dispatch = Dispatch::new(10);
        dispatch.add(item(1, "a"), None, 0);
        let [one, two] = [(); 2].map(|()| dispatch.add_namer().expect("room"));
        assert_eq!(
            (names(&mut dispatch, one), names(&mut dispatch, two)),
            (vec!["a".into()], vec!["a".into()])
        );
        assert_eq!(dispatch.take_of(&tenant("a"), 5, 9, Some(one)).len(), 1);
        dispatch.add(item(2, "a"), None, 0);
        assert_eq!(names(&mut dispatch, one), ["a"], "its pull came back short");
        assert!(names(&mut dispatch, two).is_empty(), "it has not pulled since it was told");
        assert_eq!(dispatch.take_of(&tenant("a"), 1, 9, Some(two)).len(), 1);
        dispatch.add(item(3, "a"), None, 0);
        assert!(names(&mut dispatch, two).is_empty(), "its pull was filled");
    }

    #[test]
    fn room_under_the_cap_is_told_to_whom_it_was_refused() {
        let mut dispatch = Dispatch::new(1);
        let [one, two] = [(); 2].map(|()| dispatch.add_namer().expect("room"));
        for seq in 1..=2 {
            dispatch.add(item(seq, "a"), None, 0);
        }
        for namer in [one, two] {
            assert_eq!(names(&mut dispatch, namer), ["a"]);
        }
        let taken = dispatch.take_of(&tenant("a"), 2, 9, Some(one)).remove(0);
        assert!(names(&mut dispatch, one).is_empty());
        dispatch.begin_settle(taken.seq, taken.token).expect("held");
        dispatch.settled(taken.seq, taken.token);
        assert_eq!(names(&mut dispatch, one), ["a"]);
        assert!(names(&mut dispatch, two).is_empty());
    }

    #[test]
    fn askers_are_bounded_and_places_are_used_again() {
        let mut dispatch = Dispatch::new(1);
        let all: Vec<Namer> = std::iter::from_fn(|| dispatch.add_namer()).take(200).collect();
        assert_eq!(all.len(), 128);
        dispatch.remove_namer(all[7]);
        dispatch.add(item(1, "a"), None, 0);
        assert_eq!(dispatch.add_namer(), Some(all[7]));
        assert_eq!(names(&mut dispatch, all[7]), ["a"]);
    }
}
