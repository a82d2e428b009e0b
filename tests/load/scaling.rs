//! Workers whose work waits: what two and four of them do more than one, on a cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aof_harness::{Manifests, Node};

use super::{Answers, Bench, TENANTS, flow_of, model, post_all, requests, slack};

/// How long the model takes.
const MODEL: Duration = Duration::from_millis(200);
/// Runs at once of one worker: 160 a second at best.
const CONCURRENCY: u64 = 32;
/// How many workers there are.
const WORKERS: [u64; 3] = [1, 2, 4];
/// How long each number is measured, at best.
const SPAN: Duration = Duration::from_secs(12);

pub(crate) async fn run() {
    let mut one = None;
    for workers in WORKERS {
        let rate = rate(workers).await;
        let ceiling = ceiling(workers);
        let ratio = rate / *one.get_or_insert(rate);
        println!(
            "scaling: {workers} workers of {CONCURRENCY} runs of {} ms: {rate:.0}/s, {:.0} % of what \
             they can wait for, {ratio:.2}x one worker",
            MODEL.as_millis(),
            100.0 * rate / ceiling,
        );
    }
}

/// Runs a second if nothing but the model took time.
fn ceiling(workers: u64) -> f64 {
    (workers * CONCURRENCY) as f64 / MODEL.as_secs_f64()
}

async fn rate(workers: u64) -> f64 {
    let answers = Arc::new(Answers { count: AtomicU64::new(0), ..Answers::default() });
    let seen = Arc::clone(&answers);
    let api = slack::listen(move |_| {
        seen.count.fetch_add(1, Ordering::SeqCst);
    })
    .await;
    let model = model::listen(MODEL).await;
    let manifests = Manifests::new(&format!(
        "  runtime: {{max_concurrent_tasks: 4096, max_tasks_per_user: 64, task_timeout_secs: 60}}\n  \
         models:\n    openai:\n      base_url: http://{model}/v1\n"
    ));
    manifests.agent("slow", "  model: openai:m\n  memory: {max_messages: 0}\n");
    for tenant in 0..TENANTS {
        flow_of(&manifests, tenant, api, "slow");
    }
    let data = tempfile::Builder::new().tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let count = usize::try_from(workers).expect("small");
    let node = Node::start_workers(
        env!("CARGO_BIN_EXE_aofctl"),
        manifests.dir.path(),
        data.path(),
        (count, CONCURRENCY),
    );
    let bench = Bench { node, answers, _manifests: manifests, _data: data };
    let addr = bench.node.addr();
    let warm = 4 * workers * CONCURRENCY;
    post_all(addr, &requests(0..warm, addr)).await;
    bench.answered(warm).await;
    let messages = (ceiling(workers) * SPAN.as_secs_f64()) as u64;
    let measured = requests(warm..warm + messages, addr);
    let began = Instant::now();
    post_all(addr, &measured).await;
    bench.answered(warm + messages).await;
    messages as f64 / began.elapsed().as_secs_f64()
}
