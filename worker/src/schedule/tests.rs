//! The bound of the schedule, on any mix of weights, costs and ends.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// Turns of one case: many rounds of the largest ring.
const TURNS: usize = 300;

fn tenant(n: usize) -> TenantId {
    TenantId::new(format!("t{n}")).expect("a valid name")
}

/// Runs `steps` turns with `weights`, ending runs in order once `in_flight` are out, and
/// returns the largest drift by weight between any two tenants.
fn drift(weights: &[u32], costs: &[i64], in_flight: usize, steps: usize) -> f64 {
    let mut schedule = Schedule::default();
    for (n, weight) in weights.iter().enumerate() {
        schedule.activate(&tenant(n), *weight);
    }
    let mut service = vec![0_i64; weights.len()];
    let mut flying: VecDeque<(usize, i64)> = VecDeque::new();
    let mut widest = 0.0_f64;
    for step in 0..steps {
        let turn = schedule.turn().expect("everybody has work");
        let n: usize = turn.tenant.as_str()[1..].parse().expect("a number");
        let runs = turn.allowance.min(in_flight);
        schedule.started(&turn.tenant, runs);
        for run in 0..runs {
            service[n] += BASE_COST;
            flying.push_back((n, costs[(step + run) % costs.len()]));
        }
        while flying.len() > in_flight {
            let (who, cost) = flying.pop_front().expect("it is not empty");
            schedule.ended(&tenant(who), cost);
            service[who] += cost - BASE_COST;
        }
        let share = |i: usize| as_f64(service[i]) / f64::from(weights[i]);
        for i in 0..weights.len() {
            for j in 0..i {
                widest = widest.max((share(i) - share(j)).abs());
            }
        }
    }
    widest
}

proptest! {
    #[test]
    fn two_backlogged_tenants_never_drift_apart_beyond_the_bound(
        weights in prop::collection::vec(1_u32..10, 2..6),
        costs in prop::collection::vec(BASE_COST..20_000, 1..20),
        in_flight in 1_usize..20,
    ) {
        let dearest = costs.iter().max().copied().unwrap_or(BASE_COST);
        // One turn's runs may be out on top of those that end late.
        let flying = i64::try_from(in_flight * 2).expect("small");
        let overdraft = as_f64(BASE_COST + flying * (dearest - BASE_COST));
        let lightest = f64::from(*weights.iter().min().expect("not empty"));
        let bound = 3.0 * as_f64(QUANTUM) + 2.0 * overdraft / lightest;
        let widest = drift(&weights, &costs, in_flight, TURNS);
        prop_assert!(widest <= bound, "{widest} > {bound}");
    }

    #[test]
    fn plain_runs_stay_within_three_quanta(weights in prop::collection::vec(1_u32..10, 2..6)) {
        let bound = 3.0 * as_f64(QUANTUM) + 2.0 * as_f64(BASE_COST);
        prop_assert!(drift(&weights, &[BASE_COST], 64, TURNS) <= bound);
    }
}

#[test]
fn service_follows_the_weights() {
    let mut schedule = Schedule::default();
    schedule.activate(&tenant(0), 1);
    schedule.activate(&tenant(1), 3);
    let mut runs = [0_usize; 2];
    for _ in 0..400 {
        let turn = schedule.turn().expect("both have work");
        let n = usize::from(turn.tenant == tenant(1));
        schedule.started(&turn.tenant, turn.allowance);
        runs[n] += turn.allowance;
    }
    assert_eq!(runs[1], 3 * runs[0], "{runs:?}");
}

#[test]
fn a_new_weight_acts_on_the_backlog_at_once() {
    let mut schedule = Schedule::default();
    schedule.activate(&tenant(0), 10);
    schedule.activate(&tenant(1), 1);
    assert_eq!(schedule.turn().expect("work").allowance, 40);
    schedule.set_weight(&tenant(0), 1);
    assert_eq!(schedule.turn().expect("work").allowance, 4);
}

#[test]
fn an_expensive_tenant_waits_longer() {
    let mut schedule = Schedule::default();
    schedule.activate(&tenant(0), 1);
    schedule.activate(&tenant(1), 1);
    let first = schedule.turn().expect("work");
    schedule.started(&first.tenant, 1);
    schedule.ended(&first.tenant, 10 * QUANTUM);
    let mut others = 0;
    loop {
        let turn = schedule.turn().expect("work");
        if turn.tenant == first.tenant {
            break;
        }
        schedule.started(&turn.tenant, 1);
        others += 1;
    }
    assert!((32..=44).contains(&others), "{others} runs of the other tenant first");
}

#[test]
fn a_tenant_alone_pays_nothing_for_what_nobody_else_wanted() {
    let mut schedule = Schedule::default();
    schedule.activate(&tenant(0), 1);
    for _ in 0..100 {
        schedule.turn();
        schedule.started(&tenant(0), 50);
    }
    schedule.activate(&tenant(1), 1);
    let mut seen = Vec::new();
    for _ in 0..2 {
        let turn = schedule.turn().expect("work");
        schedule.started(&turn.tenant, turn.allowance);
        seen.push(turn.tenant);
    }
    assert!(seen.contains(&tenant(0)) && seen.contains(&tenant(1)), "{seen:?}");
}

#[test]
fn leaving_forgets_credit_and_keeps_debt() {
    let mut schedule = Schedule::default();
    for n in 0..3 {
        schedule.activate(&tenant(n), 1);
    }
    let first = schedule.turn().expect("work").tenant;
    schedule.started(&first, 1);
    schedule.ended(&first, 5 * QUANTUM);
    schedule.leave(&first);
    schedule.activate(&first, 1);
    for _ in 0..6 {
        let turn = schedule.turn().expect("work");
        assert_ne!(turn.tenant, first, "it still owes");
        schedule.started(&turn.tenant, turn.allowance);
    }
}
