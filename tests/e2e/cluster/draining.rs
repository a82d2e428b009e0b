//! A worker that is told to stop while it works.

use std::time::{Duration, Instant};

use aof_harness::until;
use aof_servers::NatsOptions;
use serde_json::Value;

use super::stand::{Stand, config, manifests, ready, url};

/// What `serve` promises, and a busy machine.
const DEADLINE: Duration = Duration::from_secs(31);
/// Asks Redis how many places of the cluster are held, those that ran out included.
const PLACES_HELD: &str = "ZCARD {aof}:p:global/tasks";

async fn started(stand: &Stand, gateway: &str, what: &str) {
    until(what, async || {
        let journal = stand.journal(gateway).await;
        journal.iter().any(|event| event["type"] == "run.started").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_finished_and_the_place_is_free_at_once() {
    let stand = Stand::new(&NatsOptions::default());
    let manifests = manifests("  runtime: {max_concurrent_tasks: 1}\n");
    let config = config(&manifests);
    let front = stand.node("gateway,router,approver", &config, &[]);
    let first = stand.node("worker", &config, &[]);
    ready(&[&front, &first]).await;
    let gateway = url(&front);
    let (slow, ()) = tokio::join!(stand.chat(&gateway, "slow", "sleep 3"), async {
        started(&stand, &gateway, "the slow run to start").await;
        let second = stand.node("worker", &config, &[]);
        ready(&[&second]).await;
        let began = Instant::now();
        assert_eq!(tokio::task::block_in_place(|| first.drain()), Some(0), "{}", first.log());
        assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
        assert!(stand.redis.answers(PLACES_HELD, ":0"), "its place was not given back");
        let next = stand.chat(&gateway, "next", "echo next").await;
        assert_eq!(next["status"], "success", "{next}");
    });
    assert_eq!(slow["status"], "success", "{slow}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_too_long_is_handed_back_inside_the_deadline() {
    let stand = Stand::new(&NatsOptions::default());
    let manifests = manifests("  runtime: {max_concurrent_tasks: 1}\n");
    let config = config(&manifests);
    let front = stand.node("gateway,router,approver", &config, &[]);
    let first = stand.node("worker", &config, &[]);
    ready(&[&front, &first]).await;
    let gateway = url(&front);
    let slow = async {
        // Its answer takes longer than a chat waits: it is asked for again.
        until("the slow run to end", async || {
            let (status, answer) = stand.say(&gateway, "slow", "sleep 300").await;
            (status == 200).then_some(answer)
        })
        .await
    };
    let (slow, ()): (Value, ()) = tokio::join!(slow, async {
        started(&stand, &gateway, "the slow run to start").await;
        let second = stand.node("worker", &config, &[]);
        ready(&[&second]).await;
        let began = Instant::now();
        assert_eq!(tokio::task::block_in_place(|| first.drain()), Some(0), "{}", first.log());
        assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
        let next = stand.chat(&gateway, "next", "echo next").await;
        assert_eq!(next["status"], "success", "{next}");
    });
    // It had started, so nobody repeats it, and whoever asked is told.
    assert_eq!(slow["status"], "failed", "{slow}");
    let told = slow["answer"].as_str().unwrap_or_default();
    assert!(told.contains("had started when its worker stopped"), "{told}");
}
