//! The PostgreSQL store against the same server's own figures, in one run.
//!
//! Floor: a run begun and ended with two statements of its own, on as many connections as
//! there are tasks (at most 32). Ceiling: the same rows, 512 to a statement, on two
//! connections. `cargo bench -p aof-shared --bench store [-- quick]`. Compare lines of one
//! run only.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aof_servers::Postgres;
use aof_shared::ids::{AgentName, FlowName, MessageId, Revision, RunId, TenantId};
use aof_shared::lifecycle::Lifecycle;
use aof_shared::message::RunStatus;
use aof_shared::secret::Secret;
use aof_shared::store::postgres::{PostgresOptions, open};
use aof_shared::store::{RunEnd, RunStart, Store};
use futures_util::future::join_all;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};
use uuid::Uuid;

const TASKS: [usize; 3] = [1, 64, 256];
/// Most connections of the floor: a server of this size is given no more.
const MAX_CONNECTIONS: usize = 32;
/// Rows in a statement of the ceiling.
const GROUP: usize = 512;
const CEILING_CONNECTIONS: usize = 2;
/// An answer of a few sentences.
const ANSWER_BYTES: usize = 600;

fn main() {
    let quick = std::env::args().any(|arg| arg.eq_ignore_ascii_case("quick"));
    let time = Duration::from_secs(if quick { 1 } else { 4 });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let server = Postgres::start();
    runtime.block_on(async {
        let ceiling = ceiling(&server.url(), time).await;
        for tasks in TASKS {
            let floor = floor(&server.url(), tasks.min(MAX_CONNECTIONS), time).await;
            let (rate, p50_us, p99_us) = store(&server.url(), tasks, time).await;
            println!(
                "begin + end, {tasks:>3} tasks: {rate:>7.0} runs/s, p50 {p50_us} µs, p99 \
                 {p99_us} µs; single rows {floor:>7.0} ({:.1}×); batches {ceiling:>7.0} ({:.0} %)",
                rate / floor,
                100.0 * rate / ceiling
            );
        }
    });
}

fn start(tenant: &TenantId) -> RunStart {
    RunStart {
        run: RunId(Uuid::from_u128(rand::random())),
        tenant: tenant.clone(),
        message: MessageId(Uuid::from_u128(1)),
        flow: FlowName::new("flow").expect("a name"),
        agent: AgentName::new("agent").expect("a name"),
        revision: Revision::default(),
        at_ms: 1_705_314_600_000,
    }
}

fn end() -> RunEnd {
    RunEnd {
        status: RunStatus::Success,
        answer: "x".repeat(ANSWER_BYTES),
        tokens: 7,
        elapsed_ms: 8,
        at_ms: 1_705_314_600_008,
    }
}

fn tenant() -> TenantId {
    TenantId::new("tenant").expect("a name")
}

#[expect(clippy::cast_precision_loss, reason = "counts of a few seconds")]
fn rate(count: u64, began: Instant) -> f64 {
    count as f64 / began.elapsed().as_secs_f64()
}

/// Through the adapter.
async fn store(url: &str, tasks: usize, time: Duration) -> (f64, u128, u128) {
    let lifecycle = Lifecycle::new();
    let options = PostgresOptions { url: Secret::new(url), name: format!("bench-{tasks}") };
    let (store, _) = open(&options, &lifecycle).await.expect("it opens");
    // The lanes connect with their first write.
    let first = start(&tenant());
    store.begin_run(&first, first.run.0).await.expect("begin");
    store.finish_run(&first.tenant, first.run, &end(), None).await.expect("end");
    let began = Instant::now();
    let work = (0..tasks).map(|_| {
        let store: Arc<dyn Store> = Arc::clone(&store);
        lifecycle.spawn(async move {
            let (tenant, ended, mut took) = (tenant(), end(), Vec::new());
            while began.elapsed() < time {
                let (start, asked) = (start(&tenant), Instant::now());
                store.begin_run(&start, start.run.0).await.expect("begin");
                store.finish_run(&tenant, start.run, &ended, None).await.expect("end");
                took.push(asked.elapsed().as_micros());
            }
            took
        })
    });
    let took = join_all(work).await;
    let mut took: Vec<u128> = took.into_iter().flat_map(|t| t.expect("no panic")).collect();
    let rate = rate(u64::try_from(took.len()).expect("a count"), began);
    took.sort_unstable();
    lifecycle.stop();
    lifecycle.drained().await;
    (rate, took[took.len() / 2], took[took.len() * 99 / 100])
}

const TABLE: &str = "DROP TABLE IF EXISTS bare; CREATE TABLE bare (tenant text COLLATE \"C\", \
                     run uuid, start text NOT NULL, ended text, at_ms bigint NOT NULL, \
                     PRIMARY KEY (tenant, run)) WITH (fillfactor = 60)";

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("it connects")
}

async fn connected(url: &str, connections: usize) -> Vec<PgConnection> {
    join_all((0..connections).map(|_| connect(url))).await
}

async fn make_table(url: &str) {
    sqlx::raw_sql(TABLE).execute(&mut connect(url).await).await.expect("a table");
}

/// A statement a row.
async fn floor(url: &str, connections: usize, time: Duration) -> f64 {
    make_table(url).await;
    let connections = connected(url, connections).await;
    let (count, began, lifecycle) = (Arc::new(AtomicU64::new(0)), Instant::now(), Lifecycle::new());
    let work = connections.into_iter().map(|mut conn| {
        let count = Arc::clone(&count);
        lifecycle.spawn(async move {
            let (first, last) = documents();
            while began.elapsed() < time {
                let run = Uuid::from_u128(rand::random());
                let insert = sqlx::query("INSERT INTO bare VALUES ('tenant', $1, $2, NULL, 1)");
                conn.execute(insert.bind(run).bind(&first)).await.expect("a row");
                let update = "UPDATE bare SET ended = $2 WHERE tenant = 'tenant' AND run = $1";
                conn.execute(sqlx::query(update).bind(run).bind(&last)).await.expect("its end");
                count.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    join_all(work).await;
    rate(count.load(Ordering::Relaxed), began)
}

/// 512 rows a statement.
async fn ceiling(url: &str, time: Duration) -> f64 {
    make_table(url).await;
    let connections = connected(url, CEILING_CONNECTIONS).await;
    let (count, began, lifecycle) = (Arc::new(AtomicU64::new(0)), Instant::now(), Lifecycle::new());
    let work = connections.into_iter().map(|mut conn| {
        let count = Arc::clone(&count);
        lifecycle.spawn(async move {
            let (first, last) = documents();
            let (first, last) = (vec![first; GROUP], vec![last; GROUP]);
            while began.elapsed() < time {
                let runs: Vec<Uuid> = (0..GROUP).map(|_| Uuid::from_u128(rand::random())).collect();
                let insert = "INSERT INTO bare SELECT 'tenant', i.run, i.start, NULL, 1 \
                              FROM unnest($1::uuid[], $2::text[]) AS i(run, start)";
                conn.execute(sqlx::query(insert).bind(&runs).bind(&first)).await.expect("rows");
                let update = "UPDATE bare SET ended = i.ended \
                              FROM unnest($1::uuid[], $2::text[]) AS i(run, ended) \
                              WHERE tenant = 'tenant' AND bare.run = i.run";
                conn.execute(sqlx::query(update).bind(&runs).bind(&last)).await.expect("ends");
                count.fetch_add(u64::try_from(GROUP).expect("small"), Ordering::Relaxed);
            }
        })
    });
    join_all(work).await;
    rate(count.load(Ordering::Relaxed), began)
}

/// What the adapter writes of a run.
fn documents() -> (String, String) {
    let text = |value: serde_json::Result<String>| value.expect("plain data");
    (text(serde_json::to_string(&start(&tenant()))), text(serde_json::to_string(&end())))
}
