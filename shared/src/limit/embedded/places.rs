//! Places and who holds them, with a ttl. Pure.

use std::collections::HashMap;

use crate::clock::UnixMs;
use crate::limit::Demand;

/// A place may be given back at any time before its ttl, so nobody is told to wait longer.
const MAX_PLACE_WAIT_MS: u64 = 250;
/// Scopes and grants below which expired ones are not looked for.
const MIN_SWEEP: usize = 1_024;

/// All places that are held, and all grants that still run.
#[derive(Default)]
pub(super) struct HeldPlaces {
    /// Scope to holder to end.
    scopes: HashMap<String, HashMap<String, UnixMs>>,
    /// Holder to end, of grants without a place: asking again takes nothing twice.
    grants: HashMap<String, UnixMs>,
    sweep_at: usize,
}

impl HeldPlaces {
    /// True when this holder was granted and still has everything.
    pub(super) fn granted(&self, demand: &Demand, now_ms: UnixMs) -> bool {
        if demand.places.is_empty() {
            return self.grants.get(&demand.holder).is_some_and(|end_ms| *end_ms > now_ms);
        }
        // Places are taken with everything else or not at all.
        demand.places.iter().all(|place| self.holds(&place.scope, &demand.holder, now_ms))
    }

    fn holds(&self, scope: &str, holder: &str, now_ms: UnixMs) -> bool {
        let end_ms = self.scopes.get(scope).and_then(|holders| holders.get(holder));
        end_ms.is_some_and(|end_ms| *end_ms > now_ms)
    }

    /// The scope that has no place left, and when to ask again.
    pub(super) fn refuses(&mut self, demand: &Demand, now_ms: UnixMs) -> Option<(String, u64)> {
        let mut refused: Option<(String, u64)> = None;
        for place in &demand.places {
            let first = match self.scopes.get_mut(&place.scope) {
                None if place.limit > 0 => continue,
                None => None,
                Some(holders) => {
                    let fits = |holders: &HashMap<String, UnixMs>| {
                        let own = holders.get(&demand.holder);
                        holders.len() < place.limit as usize || own.is_some_and(|ms| *ms > now_ms)
                    };
                    if fits(holders) {
                        continue;
                    }
                    // Whoever has expired is only looked for when that can make a place.
                    holders.retain(|_, end_ms| *end_ms > now_ms);
                    if fits(holders) {
                        continue;
                    }
                    holders.values().min().map(|end_ms| end_ms - now_ms)
                }
            };
            let wait_ms = first.map_or(MAX_PLACE_WAIT_MS, |ms| ms.min(MAX_PLACE_WAIT_MS));
            if refused.as_ref().is_none_or(|(_, longest)| wait_ms > *longest) {
                refused = Some((place.scope.clone(), wait_ms));
            }
        }
        refused
    }

    /// Takes one place of each; see `refuses`.
    pub(super) fn take(&mut self, demand: &Demand, now_ms: UnixMs, end_ms: UnixMs) {
        self.sweep(now_ms);
        for place in &demand.places {
            let holders = self.scopes.entry(place.scope.clone()).or_default();
            holders.insert(demand.holder.clone(), end_ms);
        }
        if demand.places.is_empty() {
            self.grants.insert(demand.holder.clone(), end_ms);
        }
    }

    /// Keeps what is still held. `false`: some were lost.
    pub(super) fn renew(&mut self, demand: &Demand, now_ms: UnixMs, end_ms: UnixMs) -> bool {
        let mut all = true;
        for place in &demand.places {
            let holders = self.scopes.get_mut(&place.scope);
            match holders.and_then(|holders| holders.get_mut(&demand.holder)) {
                Some(end) if *end > now_ms => *end = end_ms,
                _ => all = false,
            }
        }
        let grant = self.grants.get_mut(&demand.holder).filter(|end| **end > now_ms);
        if let Some(end) = grant.filter(|_| demand.places.is_empty()) {
            *end = end_ms;
        }
        all
    }

    /// Gives everything back.
    pub(super) fn release(&mut self, demand: &Demand) {
        if demand.places.is_empty() {
            self.grants.remove(&demand.holder);
        }
        for place in &demand.places {
            let Some(holders) = self.scopes.get_mut(&place.scope) else { continue };
            holders.remove(&demand.holder);
            if holders.is_empty() {
                self.scopes.remove(&place.scope);
            }
        }
    }

    /// Drops what has expired whenever the number of scopes and grants has doubled.
    fn sweep(&mut self, now_ms: UnixMs) {
        if self.grants.len() + self.scopes.len() < self.sweep_at.max(MIN_SWEEP) {
            return;
        }
        self.grants.retain(|_, end_ms| *end_ms > now_ms);
        self.scopes.retain(|_, holders| {
            holders.retain(|_, end_ms| *end_ms > now_ms);
            !holders.is_empty()
        });
        self.sweep_at = (self.grants.len() + self.scopes.len()) * 2;
    }
}
