//! What a run asks the limiter for, from the configuration. Pure.
//!
//! In two questions, so that nothing is spent in vain: a place of the whole cluster
//! before a delivery is pulled (it can be given back), then, with the message known, the
//! user's place, the run's own lease and one admission of every rate window, all or
//! nothing. A task that goes on with a run that was admitted before asks for no window.

use aof_shared::clock::UnixMs;
use aof_shared::config::{Daemon, Flow, RateLimits};
use aof_shared::limit::{Demand, Places, Window};
use aof_shared::message::Task;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 86_400_000;

/// Who a limit holds for; the first part of every scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everybody: nothing else may start either.
    Global,
    /// One tenant: its other work waits as well.
    Organization,
    /// One flow, user or run: only this delivery waits.
    Narrow,
}

impl Scope {
    /// Reads the kind back from a scope that this module wrote.
    pub(crate) fn of(scope: &str) -> Self {
        match kind(scope) {
            "global" => Self::Global,
            "org" => Self::Organization,
            _ => Self::Narrow,
        }
    }
}

/// `global`, `org`, `flow`, `user` or `run`: the metric's label.
pub(crate) fn kind(scope: &str) -> &str {
    scope.split('/').next().unwrap_or(scope)
}

/// A place among all runs of the cluster, for `holder`.
pub(crate) fn place(daemon: &Daemon, holder: &str, ttl_ms: u64) -> Demand {
    let places =
        Places { scope: "global/tasks".to_owned(), limit: daemon.max_concurrent_tasks.max(1) };
    Demand { windows: Vec::new(), places: vec![places], holder: holder.to_owned(), ttl_ms }
}

/// What one task needs beside its place: windows unless its run was admitted before.
pub(crate) fn run(daemon: &Daemon, flow: &Flow, task: &Task, place: &Demand) -> Demand {
    let mut windows = Vec::new();
    if task.decision.is_none() {
        for (scope, limits) in scopes(daemon, flow, task) {
            let limit = |limit: Option<u32>, name: &str, window_ms| {
                limit.map(|limit| Window { scope: format!("{scope}/{name}"), limit, window_ms })
            };
            windows.extend(limit(limits.max_requests_per_minute, "minute", MINUTE_MS));
            windows.extend(limit(limits.max_requests_per_hour, "hour", HOUR_MS));
        }
    }
    let message = &task.message;
    let user = format!("user/{}/{}/{}", message.tenant, message.platform, message.user.id);
    let places = vec![
        Places { scope: format!("{user}/tasks"), limit: daemon.max_tasks_per_user.max(1) },
        Places { scope: format!("run/{}/{}", message.tenant, task.run), limit: 1 },
    ];
    Demand { windows, places, holder: place.holder.clone(), ttl_ms: place.ttl_ms }
}

/// Both demands' places: what is renewed while the run lasts and released at its end.
pub(crate) fn held(place: &Demand, run: &Demand) -> Demand {
    let places = place.places.iter().chain(&run.places).cloned().collect();
    Demand { windows: Vec::new(), places, holder: place.holder.clone(), ttl_ms: place.ttl_ms }
}

/// Every scope that a task falls under, with its limits, widest first.
fn scopes<'a>(daemon: &'a Daemon, flow: &'a Flow, task: &Task) -> [(String, &'a RateLimits); 4] {
    let message = &task.message;
    let tenant = &message.tenant;
    [
        ("global".to_owned(), &daemon.limits_global),
        (format!("org/{tenant}"), &daemon.limits_per_organization),
        (format!("flow/{tenant}/{}", flow.name), &flow.limits),
        (
            format!("user/{tenant}/{}/{}", message.platform, message.user.id),
            &daemon.limits_per_user,
        ),
    ]
}

/// A token budget of one UTC day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Budget {
    /// The counter.
    pub(crate) scope: String,
    /// Most tokens in a day.
    pub(crate) limit: u64,
}

/// Every day budget that a task's tokens count against.
pub(crate) fn budgets(daemon: &Daemon, flow: &Flow, task: &Task) -> Vec<Budget> {
    let budget = |(scope, limits): (String, &RateLimits)| {
        let limit = limits.max_tokens_per_day?;
        Some(Budget { scope: format!("{scope}/tokens"), limit })
    };
    scopes(daemon, flow, task).into_iter().filter_map(budget).collect()
}

/// Most model tokens of one request, prompt and answer: the tightest of all scopes.
pub(crate) fn tokens_per_request(daemon: &Daemon, flow: &Flow, task: &Task) -> Option<u64> {
    scopes(daemon, flow, task).into_iter().filter_map(|(_, l)| l.max_tokens_per_request).min()
}

/// The UTC day, counted from the Unix epoch.
pub(crate) fn day(now_ms: UnixMs) -> u32 {
    u32::try_from(now_ms / DAY_MS).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::fixture;

    fn limits(minute: u32, tokens: u64) -> RateLimits {
        RateLimits {
            max_requests_per_minute: Some(minute),
            max_tokens_per_request: Some(tokens),
            max_tokens_per_day: Some(tokens * 10),
            ..RateLimits::default()
        }
    }

    #[test]
    fn every_scope_counts_and_the_tightest_cap_wins() {
        let task = fixture::task("acme", "ops", "hello");
        let mut flow = fixture::flow("acme", "ops");
        flow.limits = limits(4, 300);
        let daemon = Daemon {
            limits_global: limits(1, 900),
            limits_per_organization: limits(2, 700),
            limits_per_user: limits(3, 800),
            ..Daemon::default()
        };
        let place = place(&daemon, "h", 5_000);
        let demand = run(&daemon, &flow, &task, &place);
        let seen: Vec<_> = demand.windows.iter().map(|w| (w.scope.as_str(), w.limit)).collect();
        assert_eq!(
            seen,
            [
                ("global/minute", 1),
                ("org/acme/minute", 2),
                ("flow/acme/ops/minute", 4),
                ("user/acme/slack/U1/minute", 3),
            ]
        );
        assert_eq!(held(&place, &demand).places.len(), 3);
        assert_eq!(tokens_per_request(&daemon, &flow, &task), Some(300));
        assert_eq!(budgets(&daemon, &flow, &task).len(), 4);
    }

    #[test]
    fn a_decision_spends_no_window_again() {
        let mut task = fixture::task("acme", "ops", "hello");
        task.decision = Some(fixture::decision(&task));
        let daemon = Daemon { limits_global: limits(1, 900), ..Daemon::default() };
        let place = place(&daemon, "h", 5_000);
        let demand = run(&daemon, &fixture::flow("acme", "ops"), &task, &place);
        assert_eq!(demand.windows, []);
        assert_eq!(demand.places.len(), 2);
    }

    #[test]
    fn scopes_read_back_as_who_must_wait() {
        for (scope, who) in [
            ("global/tasks", Scope::Global),
            ("org/acme/hour", Scope::Organization),
            ("user/acme/slack/U1/minute", Scope::Narrow),
            ("flow/acme/ops/hour", Scope::Narrow),
            ("run/acme/x", Scope::Narrow),
        ] {
            assert_eq!(Scope::of(scope), who, "{scope}");
        }
    }
}
