//! Weighted deficit round robin over the tenants that have work. Pure: no I/O, no clock.
//!
//! A tenant whose turn comes is given `QUANTUM × weight` of credit and takes runs while it
//! has credit left. A run costs [`BASE_COST`] when it starts; what it really cost beyond
//! that is charged when it ends, so an expensive tenant waits longer afterwards.
//!
//! **Bound.** Over any time in which tenants `i` and `j` both have work, their charged
//! service by weight drifts apart by no more than
//! `3 × QUANTUM + D/wᵢ + D/wⱼ`, where `D` is the largest overdraft: one [`BASE_COST`]
//! plus what the runs in flight cost beyond it, each at most [`MAX_COST`]. Proof: credit
//! stays within `[-D, QUANTUM × w]`, and the turns of two tenants in one ring differ by
//! at most one.

use std::collections::{HashMap, VecDeque};

use aof_shared::ids::TenantId;

/// What a run costs when it starts, in units of cost.
pub(crate) const BASE_COST: i64 = 1_000;
/// Credit of one turn at weight 1: four plain runs.
pub(crate) const QUANTUM: i64 = 4 * BASE_COST;
/// The most that one run is charged, so that nobody pays for an outlier for hours.
pub(crate) const MAX_COST: i64 = 200_000;
/// Units a second of running time: a second is as dear as a plain run.
const COST_PER_SECOND: u64 = 1_000;
/// Heaviest weight; keeps credit far from overflow.
pub(crate) const MAX_WEIGHT: u32 = 100;

/// What a run cost: a base, its model tokens, its seconds; at most [`MAX_COST`].
pub(crate) fn cost_of(tokens: u64, elapsed_ms: u64) -> i64 {
    let seconds = elapsed_ms.saturating_mul(COST_PER_SECOND) / 1_000;
    let extra = i64::try_from(tokens.saturating_add(seconds)).unwrap_or(MAX_COST);
    BASE_COST.saturating_add(extra).min(MAX_COST)
}

#[derive(Debug)]
struct Entry {
    weight: u32,
    credit: i64,
    /// It has work and stands in the ring.
    waiting: bool,
    /// It got this turn's credit already.
    granted: bool,
    /// Charged service by weight, on the scale of the virtual time.
    served: f64,
}

/// Whose turn it is, and how many runs it may start now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) tenant: TenantId,
    pub(crate) allowance: usize,
}

/// The ring of tenants with work.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    ring: VecDeque<TenantId>,
    entries: HashMap<TenantId, Entry>,
    ring_weight: u64,
    virtual_time: f64,
}

impl Schedule {
    /// True when nobody has work.
    pub(crate) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// `tenant` has work. Debt from before stays, credit does not.
    pub(crate) fn activate(&mut self, tenant: &TenantId, weight: u32) {
        let weight = weight.clamp(1, MAX_WEIGHT);
        let virtual_time = self.virtual_time;
        let entry = self.entries.entry(tenant.clone()).or_insert_with(|| Entry {
            weight,
            credit: 0,
            waiting: false,
            granted: false,
            served: virtual_time,
        });
        if entry.waiting {
            return;
        }
        entry.weight = weight;
        entry.waiting = true;
        entry.granted = false;
        entry.served = virtual_time;
        self.ring_weight += u64::from(weight);
        self.ring.push_back(tenant.clone());
    }

    /// A change of weight acts on what waits at once.
    pub(crate) fn set_weight(&mut self, tenant: &TenantId, weight: u32) {
        let weight = weight.clamp(1, MAX_WEIGHT);
        if let Some(entry) = self.entries.get_mut(tenant) {
            if entry.waiting {
                self.ring_weight = self.ring_weight + u64::from(weight) - u64::from(entry.weight);
            }
            entry.weight = weight;
            entry.credit = entry.credit.min(QUANTUM * i64::from(weight));
        }
    }

    /// `tenant` has no work for now, or must wait for a limit.
    pub(crate) fn leave(&mut self, tenant: &TenantId) {
        let Some(entry) = self.entries.get_mut(tenant).filter(|e| e.waiting) else { return };
        entry.waiting = false;
        entry.granted = false;
        entry.credit = entry.credit.min(0);
        self.ring_weight -= u64::from(entry.weight);
        if entry.credit == 0 {
            self.entries.remove(tenant);
        }
        if self.ring.front() == Some(tenant) {
            self.ring.pop_front();
        } else {
            self.ring.retain(|t| t != tenant);
        }
        if self.ring.is_empty() {
            // Nobody competes, so nobody owes anybody.
            self.entries.clear();
        }
    }

    /// Whose turn it is. Asking again without [`Schedule::started`] gives the same.
    pub(crate) fn turn(&mut self) -> Option<Turn> {
        loop {
            for _ in 0..self.ring.len() {
                let tenant = self.ring.front()?.clone();
                let entry = self.entry(&tenant);
                if !entry.granted {
                    entry.credit += QUANTUM * i64::from(entry.weight);
                    entry.granted = true;
                }
                if entry.credit > 0 {
                    let runs = (entry.credit + BASE_COST - 1) / BASE_COST;
                    let allowance = usize::try_from(runs).unwrap_or(1);
                    return Some(Turn { tenant, allowance });
                }
                entry.granted = false;
                self.ring.rotate_left(1);
            }
            self.skip_rounds()?;
        }
    }

    /// Everybody is in debt: gives all of them the rounds that nobody could use.
    fn skip_rounds(&mut self) -> Option<()> {
        let entries = &self.entries;
        let missing = |tenant| {
            let entry: &Entry = entries.get(tenant)?;
            Some(-entry.credit / (QUANTUM * i64::from(entry.weight)))
        };
        let rounds = self.ring.iter().filter_map(missing).min()?;
        for tenant in &self.ring {
            if let Some(entry) = self.entries.get_mut(tenant) {
                entry.credit += rounds * QUANTUM * i64::from(entry.weight);
            }
        }
        Some(())
    }

    /// `tenant` started `runs` runs.
    pub(crate) fn started(&mut self, tenant: &TenantId, runs: usize) {
        let cost = BASE_COST * i64::try_from(runs).unwrap_or(i64::MAX / BASE_COST);
        let alone = self.ring.len() == 1;
        self.serve(tenant, cost);
        if alone {
            // What nobody else wanted is not held against it.
            if let Some(entry) = self.entries.get_mut(tenant) {
                entry.credit = entry.credit.max(0);
            }
        }
    }

    /// A run of `tenant` ended and cost `cost` in all, or nothing when it never began.
    pub(crate) fn ended(&mut self, tenant: &TenantId, cost: i64) {
        if self.ring.is_empty() {
            return;
        }
        self.serve(tenant, cost.clamp(0, MAX_COST) - BASE_COST);
    }

    fn serve(&mut self, tenant: &TenantId, cost: i64) {
        let virtual_time = self.virtual_time;
        let entry = self.entries.entry(tenant.clone()).or_insert_with(|| Entry {
            weight: 1,
            credit: 0,
            waiting: false,
            granted: false,
            served: virtual_time,
        });
        entry.credit = (entry.credit - cost).min(QUANTUM * i64::from(entry.weight));
        let cost = as_f64(cost);
        entry.served += cost / f64::from(entry.weight);
        if entry.waiting && self.ring_weight > 0 {
            self.virtual_time += cost / as_f64(i64::try_from(self.ring_weight).unwrap_or(i64::MAX));
        }
    }

    /// How far each tenant with work is behind its fair share, in units of cost by weight;
    /// negative when it is ahead.
    pub(crate) fn lags(&self) -> impl Iterator<Item = (&TenantId, f64)> {
        self.ring.iter().filter_map(|tenant| {
            let entry = self.entries.get(tenant)?;
            Some((tenant, self.virtual_time - entry.served))
        })
    }

    fn entry(&mut self, tenant: &TenantId) -> &mut Entry {
        self.entries.get_mut(tenant).expect("every tenant in the ring has an entry")
    }
}

/// Costs are far below 2^53, where floats stop being exact.
#[expect(clippy::cast_precision_loss, reason = "costs are small")]
fn as_f64(cost: i64) -> f64 {
    cost as f64
}

#[cfg(test)]
mod tests;
