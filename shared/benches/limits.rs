//! Decisions of the limits on Redis against bare Redis, in one run.
//!
//! The ceiling is the smallest limiter that Redis runs (GCRA: read one key, write one key)
//! over the same kind of connection, by the same number of tasks.
//! `cargo bench -p aof-shared --bench limits [-- quick]`. Compare lines of one run only.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aof_servers::{Redis, RedisOptions as Server};
use aof_shared::lifecycle::Lifecycle;
use aof_shared::limit::redis::{RedisOptions, open};
use aof_shared::limit::{Admission, Demand, Limits, Places, Window};
use aof_shared::secret::Secret;
use redis::aio::MultiplexedConnection;

const TASKS: [usize; 3] = [1, 64, 256];
/// Scopes that the calls are spread over.
const SCOPES: u64 = 1_000;

const GCRA: &str = "
local now = redis.call('TIME')
now = tonumber(now[1]) * 1000000 + tonumber(now[2])
local free = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
if free - now > 1000000 then
    return free - now
end
redis.call('SET', KEYS[1], free + 1, 'PX', 2000)
return 0";

fn main() {
    let quick = std::env::args().any(|arg| arg.eq_ignore_ascii_case("quick"));
    let time = Duration::from_secs(if quick { 1 } else { 3 });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    for (name, durable) in [("in memory", false), ("appendfsync always", true)] {
        let redis = Redis::start_with(&Server { durable, ..Server::default() });
        println!("redis {name}:");
        for tasks in TASKS {
            runtime.block_on(compare(&redis, tasks, time));
        }
    }
}

async fn compare(redis: &Redis, tasks: usize, time: Duration) {
    let client = redis::Client::open(redis.url()).expect("a client");
    let connection = client.get_multiplexed_async_connection().await.expect("a connection");
    let script = Arc::new(redis::Script::new(GCRA));
    let options = RedisOptions { name: "bench".to_owned(), url: Secret::new(redis.url()) };
    let limits = open(options).await.expect("it opens").limits;
    println!("  {tasks} tasks:");
    let mut stats = connection.clone();
    let call = move |n| bare(connection.clone(), Arc::clone(&script), n);
    let ceiling = rate(tasks, time, call).await;
    report("bare GCRA", ceiling, ceiling, &mut stats).await;
    let pacer = Arc::clone(&limits);
    let rate_of = rate(tasks, time, move |n| admit(Arc::clone(&pacer), pacing(n))).await;
    report("one window", rate_of, ceiling, &mut stats).await;
    let rate_of = rate(tasks, time, move |n| run(Arc::clone(&limits), n)).await;
    report("a run: 2 windows, 3 places; release", rate_of, ceiling, &mut stats).await;
}

/// One line, with what the server says that each script took it.
async fn report(what: &str, rate: f64, ceiling: f64, stats: &mut MultiplexedConnection) {
    let info: String =
        redis::cmd("INFO").arg("commandstats").query_async(stats).await.expect("statistics");
    let line = info.lines().find(|line| line.starts_with("cmdstat_evalsha")).unwrap_or_default();
    let us = line.split(',').find_map(|field| field.strip_prefix("usec_per_call="));
    let us = us.unwrap_or("?");
    let share = 100.0 * rate / ceiling;
    println!("    {what:<36} {rate:>7.0}/s, {share:>3.0} %, {us:>6} us in the server a script");
    let _: () = redis::cmd("CONFIG").arg("RESETSTAT").query_async(stats).await.expect("reset");
}

/// Calls a second by `tasks` at once, each with a number of its own.
async fn rate<F, W>(tasks: usize, time: Duration, call: F) -> f64
where
    F: Fn(u64) -> W + Clone + Send + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    let (count, begun) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let lifecycle = Lifecycle::new();
    for _ in 0..tasks {
        let (count, call) = (Arc::clone(&count), call.clone());
        lifecycle.spawn(async move {
            while begun.elapsed() < time {
                call(count.fetch_add(1, Ordering::Relaxed)).await;
            }
        });
    }
    lifecycle.drained().await;
    per_second(count.load(Ordering::Relaxed), begun)
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn per_second(count: u64, begun: Instant) -> f64 {
    count as f64 / begun.elapsed().as_secs_f64()
}

async fn bare(mut connection: MultiplexedConnection, script: Arc<redis::Script>, n: u64) {
    let call = script.key(format!("gcra:{}", n % SCOPES)).invoke_async(&mut connection).await;
    let _: u64 = call.expect("a decision");
}

async fn admit(limits: Arc<dyn Limits>, demand: Demand) {
    let admission = limits.admit(&demand).await.expect("a decision");
    assert_eq!(admission, Admission::Granted);
}

fn window(scope: String) -> Window {
    Window { scope, limit: 1_000_000, window_ms: 2_000 }
}

/// What the gateway asks before it sends a reply.
fn pacing(n: u64) -> Demand {
    Demand { windows: vec![window(format!("slack/{}", n % SCOPES))], ..Demand::default() }
}

/// What a worker asks before a run, and gives back after it.
async fn run(limits: Arc<dyn Limits>, n: u64) {
    let place = |scope: String| Places { scope, limit: 10_000 };
    let (org, user) = (format!("org/{}", n % SCOPES), format!("user/{}", n % SCOPES));
    let demand = Demand {
        windows: vec![window(format!("{org}/minute")), window(format!("{user}/minute"))],
        places: vec![place("global".to_owned()), place(user), place(format!("run/{n}"))],
        holder: format!("worker-1/{n}"),
        ttl_ms: 30_000,
    };
    admit(Arc::clone(&limits), demand.clone()).await;
    limits.release(&demand).await.expect("released");
}
