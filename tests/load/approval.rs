//! From the last vote to the start of the approved action, as whoever votes sees it.

use std::time::{Duration, Instant};

use aof_harness::{Api, Manifests, Node};
use hdrhistogram::Histogram;

use super::milli;

/// Actions that are approved, one after the other.
const ACTIONS: usize = 60;
/// Longest wait for one.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn run() {
    let manifests = Manifests::new("");
    manifests.agent("shell", "  runtime: command\n  tools: [rm]\n");
    manifests.flow(
        "ops",
        "  trigger:\n    type: Chat\n    config:\n      channels: [ops]\n  agents:\n    - name: shell\n  \
         approval:\n    chains:\n      - {name: two, approvers: [alice, bob], require: 2}\n    \
         rules:\n      - {pattern: rm, chain: two}\n",
    );
    let data = tempfile::Builder::new().tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let scratch =
        tempfile::Builder::new().tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let node = Node::start(env!("CARGO_BIN_EXE_aofctl"), manifests.dir.path(), data.path());
    let api = Api::operator(&node, "default");
    let alice = api.person("alice", &["read", "approve"]).await;
    let bob = api.person("bob", &["read", "approve"]).await;
    let mut micros = Histogram::<u64>::new(3).expect("three digits");
    let mut spawns = Histogram::<u64>::new(3).expect("three digits");
    for n in 0..ACTIONS {
        let target = scratch.path().join(format!("old-{n}"));
        std::fs::create_dir(&target).expect("a folder");
        let answer = api.chat("ops", &format!("rm -r {}", target.display())).await;
        let id = answer["approval_id"].as_str().unwrap_or_else(|| panic!("not held: {answer}"));
        assert_eq!(alice.vote(id, "approve").await.0, 200);
        let (voted, end) = (Instant::now(), Instant::now() + PATIENCE);
        let vote = tokio::task::spawn_blocking({
            let target = target.clone();
            move || {
                while target.exists() {
                    assert!(Instant::now() < end, "{} is still there", target.display());
                    std::thread::sleep(Duration::from_micros(200));
                }
                Instant::now()
            }
        });
        assert_eq!(bob.vote(id, "approve").await.0, 200);
        let took = vote.await.expect("it ran") - voted;
        micros.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX)).expect("in range");
        std::fs::create_dir(&target).expect("a folder");
        let began = Instant::now();
        let done = std::process::Command::new("rm").arg("-r").arg(&target).status();
        assert!(done.expect("rm runs").success());
        let took = began.elapsed();
        spawns.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX)).expect("in range");
    }
    println!(
        "approval, last vote sent to the action's effect: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms \
         (the same command alone: p50 {:.1} ms)",
        milli(micros.value_at_quantile(0.5)),
        milli(micros.value_at_quantile(0.99)),
        milli(micros.max()),
        milli(spawns.value_at_quantile(0.5)),
    );
}
