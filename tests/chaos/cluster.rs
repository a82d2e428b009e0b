//! A whole cluster as plain processes, at a steady load, while everything in it is killed,
//! frozen, cut off and restarted in turn. What was promised must hold all the same.
//!
//! `AOF_CHAOS_SECS=1800 tests/run --test chaos cluster:: -- --ignored --nocapture` is the long run;
//! `AOF_SEED` sets the faults. Every fault is printed with its time. When a promise is
//! broken the processes' logs are in `target/tmp/chaos`.

mod faults;
mod follow;
mod ledger;
mod ran;
mod topology;
mod traffic;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aof_harness::Slack;
use serde_json::Value;

use self::follow::Followed;
use self::ledger::{Known, Ledger};
use self::topology::{TENANTS, Topology};
use self::traffic::Outside;
use crate::draws::seed;

/// Seconds of load unless `AOF_CHAOS_SECS` says otherwise.
const SECS: u64 = 60;
/// Longest wait for everything that was accepted to end once nothing fails any more: what a
/// limit a minute held up meanwhile, and the longest approval.
const SETTLE: Duration = Duration::from_secs(240);
/// Pause between two looks at that.
const LOOK: Duration = Duration::from_secs(2);

fn secs() -> u64 {
    std::env::var("AOF_CHAOS_SECS").ok().and_then(|secs| secs.parse().ok()).unwrap_or(SECS)
}

/// Slack, as far as it counts how often each tool's output was posted.
async fn slack() -> (Arc<Mutex<HashMap<String, u64>>>, std::net::SocketAddr) {
    let posted: Arc<Mutex<HashMap<String, u64>>> = Arc::default();
    let counted = Arc::clone(&posted);
    let (_, addr) = Slack::observed(move |method, args| {
        // A card tells what came of its action; an answer has no blocks.
        if method != "chat.postMessage" || args["blocks"].is_array() {
            return;
        }
        let text = args.to_string();
        let Some((_, key)) = text.split_once("ran:") else { return };
        let key = key.split(':').next().unwrap_or_default().to_owned();
        *counted.lock().expect("ok").entry(key).or_default() += 1;
    })
    .await;
    (posted, addr)
}

/// The journals of all organizations.
async fn journals(topology: &Topology) -> BTreeMap<String, Vec<Value>> {
    let mut journals = BTreeMap::new();
    for tenant in TENANTS {
        journals.insert(tenant.to_owned(), topology.api(tenant).journal().await);
    }
    journals
}

/// Waits until what was accepted has ended, at most [`SETTLE`].
async fn settle(topology: &Topology, outside: &Outside) {
    let end = Instant::now() + SETTLE;
    loop {
        let journals = journals(topology).await;
        let accepted = outside.accepted.lock().expect("ok").clone();
        if ledger::is_settled(&accepted, &journals) || Instant::now() > end {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether who followed saw what the journal has, once each.
fn compare(
    followed: &BTreeMap<String, Arc<Mutex<Followed>>>,
    journals: &BTreeMap<String, Vec<Value>>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for (tenant, followed) in followed {
        let followed = followed.lock().expect("ok");
        wrong.extend(followed.wrong.iter().cloned());
        let journal: Vec<u64> =
            journals[tenant].iter().filter_map(|event| event["seq"].as_u64()).collect();
        let reached = followed.seqs.last().copied().unwrap_or_default();
        let until = journal.partition_point(|seq| *seq <= reached);
        if followed.seqs != journal[..until] {
            let missed = journal[..until].iter().filter(|seq| !followed.seqs.contains(seq)).count();
            wrong.push(format!("{tenant}: whoever followed missed {missed} of {until} events"));
        }
    }
    wrong
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes of faults: AOF_CHAOS_SECS=1800 tests/run --test chaos cluster:: -- --ignored --nocapture"]
async fn every_promise_holds_while_everything_fails_in_turn() {
    let (secs, seed) = (secs(), seed());
    println!("seed {seed}, {secs} s");
    let (posted, slack) = slack().await;
    let topology = Arc::new(Topology::start(slack));
    let people = traffic::people(&topology).await;
    let outside = Arc::new(Outside::default());
    let lines = traffic::start(&topology, &outside);
    let mut watching = tokio::task::JoinSet::new();
    watching.spawn(traffic::vote(people, Arc::clone(&outside)));
    let mut followed = BTreeMap::new();
    for tenant in TENANTS {
        let seen: Arc<Mutex<Followed>> = Arc::default();
        followed.insert(tenant.to_owned(), Arc::clone(&seen));
        watching.spawn(follow::follow(topology.api(tenant), seen));
    }

    let failing = Arc::clone(&topology);
    let end = Instant::now() + Duration::from_secs(secs);
    let done = tokio::task::spawn_blocking(move || {
        let done = faults::run(&failing, seed, end);
        failing.wait_ready();
        done
    });
    let done = done.await.expect("faults are inflicted to their end");
    outside.stop.store(true, Ordering::SeqCst);
    println!("{secs} s are over; offering what was not taken, then waiting for all to end");
    // What was offered is offered until it is taken.
    let offered = tokio::time::timeout(SETTLE, lines.join_all()).await;
    let healed = Instant::now();
    settle(&topology, &outside).await;
    outside.settled.store(true, Ordering::SeqCst);
    // The last answers go out, and reach who follows.
    tokio::time::sleep(LOOK).await;
    watching.shutdown().await;
    let journals = journals(&topology).await;

    let known = Known {
        accepted: outside.accepted.lock().expect("ok").clone(),
        answered: outside.answered.lock().expect("ok").clone(),
        journals,
        ran: ran::read(&topology.ran()),
        posted: posted.lock().expect("ok").clone(),
    };
    let mut ledger = Ledger::of(&known);
    let broken: u64 = followed.values().map(|seen| seen.lock().expect("ok").broken).sum();
    ledger.columns.extend([
        ("faults", done.faults),
        ("nodes killed", done.killed),
        ("nodes drained", done.drained),
        ("offers not taken at first", outside.refused.load(Ordering::SeqCst)),
        ("streams resumed", broken),
        ("votes taken", outside.votes.load(Ordering::SeqCst)),
        ("votes not taken", outside.votes_lost.load(Ordering::SeqCst)),
        ("seconds until all had ended", healed.elapsed().as_secs()),
    ]);
    let wrong = outside.wrong.lock().expect("ok").clone();
    for (promise, what) in [
        ("drain", done.bad_drains),
        ("streams resume", compare(&followed, &known.journals)),
        ("one-run", wrong),
    ] {
        if !what.is_empty() {
            ledger.broken.entry(promise).or_default().extend(what);
        }
    }
    println!("ledger after {secs} s, seed {seed}:");
    ledger.print();
    if !ledger.broken.is_empty() || offered.is_err() {
        topology.keep_logs();
    }
    assert!(offered.is_ok(), "a message was refused for {SETTLE:?}");
    let enough = usize::try_from(secs).expect("seconds");
    assert!(known.accepted.len() > enough, "the load hardly got through");
    let promises: Vec<_> = ledger.broken.keys().collect();
    assert!(
        promises.is_empty(),
        "broken: {promises:?}; logs are in {}",
        topology::logs().display()
    );
}
