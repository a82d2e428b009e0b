//! Several processes on one consumer: whoever dies, freezes or is cut off, deliveries go on,
//! in order, to one holder at a time, and no confirmed ack is lost.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aof_servers::{NATS_NEWEST, Nats};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::runtime::Runtime;

use super::{FLOOR, NEWEST, Node, options, server};
use crate::clock::SystemClock;
use crate::lifecycle::Lifecycle;
use crate::queue::contract::{spec, task, tenant, text};
use crate::queue::jetstream::{JetStreamOptions, open};
use crate::queue::{Consumer, Delivery, Publication};
use crate::subject::Stream;

const KEYS: usize = 12;
const EACH: usize = 40;
/// Longest silence of the consumer while its leader is replaced, with room for a busy machine.
const GAP: Duration = Duration::from_secs(6);
/// How long all of it may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long a frozen process stands still: longer than its leader's key lives.
const FREEZE: Duration = Duration::from_secs(4);

/// What everyone together has seen.
#[derive(Default)]
struct Ledger {
    /// Message → the process that holds it.
    held: HashMap<u64, usize>,
    /// Acks that were asked for, by key.
    asked: BTreeMap<String, BTreeSet<usize>>,
    confirmed: BTreeSet<u64>,
    /// Processes that are dead or frozen: what they hold may go to others.
    out_of_order: BTreeSet<usize>,
    last: Option<Instant>,
    longest_gap: Duration,
}

fn place(delivery: &Delivery) -> (String, usize) {
    let body = text(delivery);
    let (key, n) = body.split_once(' ').expect("a key and a number");
    (key.to_owned(), n.parse().expect("a number"))
}

impl Ledger {
    fn take(&mut self, process: usize, delivery: &Delivery) {
        let (key, n) = place(delivery);
        let seq = delivery.message.seq;
        assert!(!self.confirmed.contains(&seq), "{key} {n} came again after its ack");
        let before = self.held.insert(seq, process);
        let free = before.is_none_or(|p| p == process || self.out_of_order.contains(&p));
        assert!(free, "{key} {n} is held by {before:?} and by {process}");
        let asked = self.asked.entry(key.clone()).or_default();
        assert!((0..n).all(|n| asked.contains(&n)), "{key} {n} overtook one before it");
    }

    fn ask(&mut self, delivery: &Delivery) {
        let (key, n) = place(delivery);
        self.asked.entry(key).or_default().insert(n);
    }

    fn end(&mut self, process: usize, seq: u64, confirmed: bool) {
        if self.held.get(&seq) == Some(&process) {
            self.held.remove(&seq);
        }
        if confirmed {
            self.confirmed.insert(seq);
            let now = Instant::now();
            let gap = self.last.map_or(Duration::ZERO, |last| now - last);
            self.longest_gap = self.longest_gap.max(gap);
            self.last = Some(now);
        }
    }
}

type Shared = Arc<Mutex<Ledger>>;

/// A process's worth of tasks, on a thread of its own, so that it can die and freeze alone.
struct Process {
    runtime: Option<Runtime>,
}

impl Process {
    fn start(number: usize, options: &JetStreamOptions, ledger: &Shared) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (options, ledger) = (options.clone(), Arc::clone(ledger));
        let lifecycle = Lifecycle::new();
        let _guard = runtime.enter();
        lifecycle.clone().spawn(async move {
            // The server may be away when a process starts.
            let (queue, _live) = loop {
                if let Ok(opened) = open(options.clone(), Arc::new(SystemClock), &lifecycle).await {
                    break opened;
                }
            };
            let mut terms = spec(Stream::Tasks, "worker");
            terms.ack_wait_ms = 20_000;
            let consumer = loop {
                if let Ok(consumer) = queue.consumer(terms.clone()).await {
                    break consumer;
                }
            };
            work(number, consumer, ledger).await;
        });
        Self { runtime: Some(runtime) }
    }

    /// As SIGKILL would: nothing is said to anyone.
    fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// As SIGSTOP would, for [`FREEZE`].
    fn freeze(&self, number: usize, ledger: &Shared) {
        let Some(runtime) = &self.runtime else { return };
        let _guard = runtime.enter();
        let ledger = Arc::clone(ledger);
        Lifecycle::new().spawn(async move {
            ledger.lock().expect("no panic").out_of_order.insert(number);
            std::thread::sleep(FREEZE);
        });
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn work(number: usize, consumer: Arc<dyn Consumer>, ledger: Shared) {
    loop {
        let Ok(pulled) = consumer.pull(None, 4, 200).await else { continue };
        for delivery in &pulled {
            ledger.lock().expect("no panic").take(number, delivery);
        }
        for delivery in pulled {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let seq = delivery.message.seq;
            ledger.lock().expect("no panic").ask(&delivery);
            let confirmed = delivery.ack().await.is_ok();
            ledger.lock().expect("no panic").end(number, seq, confirmed);
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill(usize),
    Freeze(usize),
    Restart,
}

fn messages() -> Vec<Publication> {
    let numbers = (0..EACH).flat_map(|n| (0..KEYS).map(move |k| (k, n)));
    let message = |(k, n): (usize, usize)| {
        let tenant = tenant(&format!("t{}", k % 3));
        task(&tenant, &format!("k{k} {n}")).ordered_by(format!("k{k}"))
    };
    numbers.map(message).collect()
}

/// Works everything off while `faults` strike, a second apart.
async fn prove(server: &Nats, faults: &[Fault]) -> Duration {
    let options = options(server);
    let node = Node::open(options.clone()).await;
    for batch in messages().chunks(60) {
        node.queue.publish(batch.to_vec()).await.expect("publish");
    }
    let ledger = Shared::default();
    let mut processes: Vec<Process> = Vec::new();
    for number in 0..3 {
        processes.push(Process::start(number, &options, &ledger));
        // The first one leads.
        wait_until(|| number > 0 || ledger.lock().expect("no panic").last.is_some()).await;
    }
    for fault in faults {
        match *fault {
            Fault::Kill(number) => {
                ledger.lock().expect("no panic").out_of_order.insert(number);
                processes[number].kill();
                // Another takes its place, under another number.
                let next = processes.len();
                processes.push(Process::start(next, &options, &ledger));
            }
            Fault::Freeze(number) => processes[number].freeze(number, &ledger),
            Fault::Restart => {
                server.kill();
                server.start_again();
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // An ack whose answer died with its process is on record all the same.
    let end = Instant::now() + DEADLINE;
    while node.queue.backlog(Stream::Tasks).await.map_or(true, |left| !left.is_empty()) {
        let left = node.queue.backlog(Stream::Tasks).await;
        let confirmed = ledger.lock().expect("no panic").confirmed.len();
        assert!(Instant::now() < end, "{left:?}; {confirmed} confirmed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let asked = ledger.lock().expect("no panic").asked.values().map(BTreeSet::len).sum::<usize>();
    assert_eq!(asked, KEYS * EACH, "a message was lost");
    drop(processes);
    node.close().await;
    ledger.lock().expect("no panic").longest_gap
}

async fn wait_until(done: impl Fn() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < end, "it takes too long");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_killed_is_replaced() {
    for server in [&FLOOR, &NEWEST] {
        let gap = prove(server, &[Fault::Kill(0)]).await;
        assert!(gap < GAP, "nothing was delivered for {gap:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_leader_is_replaced_and_gives_nothing_out_when_it_wakes() {
    let gap = prove(&NEWEST, &[Fault::Freeze(0)]).await;
    assert!(gap < GAP, "nothing was delivered for {gap:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_no_ack_and_no_order() {
    let server = server(NATS_NEWEST, false);
    prove(&server, &[Fault::Restart, Fault::Restart]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_faults_in_any_order_break_no_promise() {
    const SEED: u64 = 11;
    let server = server(NATS_NEWEST, false);
    let mut rng = StdRng::seed_from_u64(SEED);
    let faults: Vec<Fault> = (0..6)
        .map(|_| match rng.random_range(0..4_u32) {
            0 => Fault::Restart,
            1 => Fault::Freeze(rng.random_range(0..3)),
            _ => Fault::Kill(rng.random_range(0..3)),
        })
        .collect();
    prove(&server, &faults).await;
}
