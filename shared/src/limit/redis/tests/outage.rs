//! Redis dies, hangs, and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use aof_servers::Redis;
use futures_util::future::{join, join_all};

use super::{clients, in_window, open, options};
use crate::limit::{Admission, Demand, Limits};

/// Longest that a caller is kept while Redis is away.
const BOUND: Duration = Duration::from_secs(2);
/// Longest wait for anything to heal.
const DEADLINE: Duration = Duration::from_secs(30);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(10);

/// Asks until there is a decision.
async fn decided(limits: &dyn Limits, demand: &Demand) -> Admission {
    let end = Instant::now() + DEADLINE;
    loop {
        match limits.admit(demand).await {
            Ok(admission) => return admission,
            Err(error) => assert!(Instant::now() < end, "no decision in {DEADLINE:?}: {error}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn charged(limits: &dyn Limits, charge_id: &str) -> u64 {
    let end = Instant::now() + DEADLINE;
    loop {
        match limits.charge("org/acme", 20_000, 3, charge_id).await {
            Ok(total) => return total,
            Err(error) => assert!(Instant::now() < end, "no charge in {DEADLINE:?}: {error}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_under_load_loses_no_admission_and_no_charge() {
    const CLIENTS: usize = 8;
    const DEMANDS: usize = 800;
    const LIMIT: u32 = 500;
    let redis = Arc::new(Redis::start());
    let options = options(&redis);
    let clients = clients(&options, CLIENTS).await;
    let done = AtomicU32::new(0);
    let callers = (0..CLIENTS).map(|client| {
        let (limits, done) = (clients[client].as_ref(), &done);
        async move {
            let mut granted = 0_u32;
            for n in (client..DEMANDS).step_by(CLIENTS) {
                let holder = format!("demand {n}");
                let asked = Demand { holder, ttl_ms: 600_000, ..in_window(LIMIT, 3_600_000) };
                granted += u32::from(decided(limits, &asked).await == Admission::Granted);
                charged(limits, &asked.holder).await;
                done.fetch_add(1, Ordering::SeqCst);
            }
            granted
        }
    });
    let outage = async {
        for at in [100, 300, 450, 700] {
            while done.load(Ordering::SeqCst) < at {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let redis = Arc::clone(&redis);
            let again = tokio::task::spawn_blocking(move || {
                redis.kill();
                redis.start_again();
            });
            again.await.expect("it starts again");
        }
    };
    let (granted, ()) = join(join_all(callers), outage).await;
    assert_eq!(granted.into_iter().sum::<u32>(), LIMIT, "no admission twice, none forgotten");
    // Charging an id again changes nothing, and its connection may be one that a kill broke.
    let total = charged(clients[0].as_ref(), "demand 0").await;
    assert_eq!(total, 3 * DEMANDS as u64, "every charge once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_callers_hear_so_in_time_and_go_on_once_it_is_back() {
    let redis = Redis::start();
    let limits = open(options(&redis)).await.expect("it opens").limits;
    let asked = in_window(1_000, 60_000);
    type Turn = (&'static str, fn(&Redis), fn(&Redis));
    let turns: [Turn; 3] = [
        ("killed", Redis::kill, Redis::start_again),
        ("hanging", Redis::pause, Redis::resume),
        ("stopped", Redis::stop, Redis::start_again),
    ];
    for (what, away, back) in turns {
        away(&redis);
        // Twice: with the broken connection, and when there is none to be had.
        for _ in 0..2 {
            let begun = Instant::now();
            let error = limits.admit(&asked).await.expect_err(what);
            assert!(begun.elapsed() < BOUND, "{what}: {:?}", begun.elapsed());
            assert!(error.to_string().contains("redis at 127.0.0.1:"), "{error}");
        }
        back(&redis);
        assert_eq!(decided(limits.as_ref(), &asked).await, Admission::Granted, "{what}");
    }
}
