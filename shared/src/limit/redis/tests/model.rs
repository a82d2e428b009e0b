//! Redis answers as the embedded adapter does, whatever is asked in whatever order.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{OnRedis, START_MS};
use crate::backend::open_embedded;
use crate::clock::ManualClock;
use crate::lifecycle::Lifecycle;
use crate::limit::contract::LimitFixture;
use crate::limit::{Demand, Limits, Places, Window};

const SEEDS: u64 = 10;
const STEPS: usize = 300;
/// One length a scope, as everywhere in the product.
const WINDOWS: [(&str, u64); 3] = [("w/short", 50), ("w/long", 1_000), ("w/longer", 4_000)];
const PLACES: [&str; 3] = ["p/a", "p/b", "p/c"];

fn any_demand(rng: &mut StdRng) -> Demand {
    let windows = WINDOWS.iter().filter_map(|(scope, window_ms)| {
        let limit = rng.random_range(0..6_u32);
        rng.random_bool(0.4).then(|| Window {
            scope: (*scope).to_owned(),
            limit,
            window_ms: *window_ms,
        })
    });
    let windows = windows.collect();
    let places = PLACES.iter().filter_map(|scope| {
        let limit = rng.random_range(0..4_u32);
        rng.random_bool(0.4).then(|| Places { scope: (*scope).to_owned(), limit })
    });
    let places = places.collect();
    let holder = match rng.random_range(0..7_u32) {
        0 => String::new(),
        n => format!("h{n}"),
    };
    Demand { windows, places, holder, ttl_ms: rng.random_range(1..800) }
}

/// One random call; its answer as text.
async fn step(limits: &dyn Limits, rng: &mut StdRng) -> String {
    let demand = any_demand(rng);
    match rng.random_range(0..10_u32) {
        0..6 => format!("{demand:?}: {:?}", limits.admit(&demand).await.expect("a decision")),
        6..8 => format!("renew {demand:?}: {}", limits.renew(&demand).await.expect("renewed")),
        8 => format!("release {demand:?}: {:?}", limits.release(&demand).await.expect("released")),
        _ => {
            let (day, amount) = (rng.random_range(0..2), rng.random_range(0..u64::MAX / 3));
            let id = rng.random_range(0..50_u32).to_string();
            let total = limits.charge("org/acme", day, amount, &id).await.expect("a total");
            let spent = limits.spent("org/acme", day).await.expect("a total");
            format!("charge {id} of {day}: {total}, then {spent}")
        }
    }
}

#[tokio::test]
async fn redis_answers_as_the_embedded_adapter_does() {
    for seed in 0..SEEDS {
        let (redis, clock) = (OnRedis::new().await, ManualClock::at(START_MS));
        let dir = tempfile::tempdir().expect("a directory");
        let lifecycle = Lifecycle::new();
        let embedded = open_embedded(dir.path(), std::sync::Arc::new(clock.clone()), &lifecycle);
        let embedded = embedded.expect("it opens").limits;
        let mut rng = StdRng::seed_from_u64(seed);
        for at in 0..STEPS {
            let call: u64 = rng.random();
            let call = || StdRng::seed_from_u64(call);
            let expected = step(embedded.as_ref(), &mut call()).await;
            let answer = step(redis.limits.as_ref(), &mut call()).await;
            assert_eq!(answer, expected, "seed {seed}, step {at}");
            if rng.random_bool(0.5) {
                let ms = rng.random_range(0..120);
                clock.advance_ms(ms);
                redis.pass_ms(ms).await;
            }
        }
        lifecycle.stop();
    }
}
