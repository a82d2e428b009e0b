//! Redis against the port's contract, the embedded adapter, many clients, and outages.

mod crowd;
mod login;
mod model;
mod outage;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use aof_servers::Redis;
use async_trait::async_trait;

use super::{Opened, RedisOptions, open, open_on};
use crate::clock::ManualClock;
use crate::limit::contract::LimitFixture;
use crate::limit::faults::FaultyFixture;
use crate::limit::{Admission, Demand, Limits, Window};
use crate::secret::Secret;

/// 2024-01-15.
const START_MS: u64 = 1_705_314_600_000;

/// The server that this binary's tests share, each under a name of its own.
fn shared() -> &'static Redis {
    static SERVER: OnceLock<Redis> = OnceLock::new();
    SERVER.get_or_init(Redis::start)
}

fn options(redis: &Redis) -> RedisOptions {
    static NAMES: AtomicU32 = AtomicU32::new(0);
    let name = format!("t{}", NAMES.fetch_add(1, Ordering::Relaxed));
    RedisOptions { name, url: Secret::new(redis.url()) }
}

/// So many connections to the same limits, on the server's own clock.
async fn clients(options: &RedisOptions, count: usize) -> Vec<Arc<dyn Limits>> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(open(options.clone()).await.expect("it opens").limits);
    }
    clients
}

fn in_window(limit: u32, window_ms: u64) -> Demand {
    let window = Window { scope: "w".to_owned(), limit, window_ms };
    Demand { windows: vec![window], ..Demand::default() }
}

/// Limits on the shared server, on a clock that stands still.
struct OnRedis {
    options: RedisOptions,
    clock: ManualClock,
    limits: Arc<dyn Limits>,
}

impl OnRedis {
    async fn new() -> Self {
        let (options, clock) = (options(shared()), ManualClock::at(START_MS));
        let limits = Self::open(&options, &clock).await;
        Self { options, clock, limits }
    }

    async fn open(options: &RedisOptions, clock: &ManualClock) -> Arc<dyn Limits> {
        let opened = open_on(options.clone(), Some(Arc::new(clock.clone()))).await;
        opened.expect("it opens").limits
    }
}

#[async_trait]
impl LimitFixture for OnRedis {
    fn limits(&self) -> Arc<dyn Limits> {
        Arc::clone(&self.limits)
    }

    async fn pass_ms(&self, ms: u64) {
        self.clock.advance_ms(ms);
    }

    async fn restart(&mut self) {
        self.limits = Self::open(&self.options, &self.clock).await;
    }
}

mod contract {
    use super::OnRedis;
    crate::limit_contract!(OnRedis::new());
}

mod contract_under_faults {
    use super::{FaultyFixture, OnRedis};
    crate::limit_contract!(async { FaultyFixture::new(OnRedis::new().await, 1) });
}

#[tokio::test]
async fn clusters_of_two_names_share_a_server_and_nothing_else() {
    for name in [options(shared()), options(shared())] {
        let Opened { limits, .. } = open(name).await.expect("it opens");
        let admission = limits.admit(&in_window(1, 60_000)).await.expect("a decision");
        assert_eq!(admission, Admission::Granted);
        assert_eq!(limits.charge("org/acme", 20_000, 7, "a").await.expect("a total"), 7);
    }
}
