//! Two nodes, many tasks, the same ids: exactly one of them is first, every time.

use std::sync::Arc;

use futures_util::future::join_all;
use uuid::Uuid;

use super::{Node, SERVER, name, options};
use crate::action::ApprovalStatus;
use crate::ids::{ReplyId, TenantId};
use crate::queue::Publication;
use crate::store::contract::{
    HOLDER, NOW_MS, action_id, end, held, memory, run_id, settlement, start, tenant, turn,
};
use crate::store::{ActionStart, RunState, SendState, Store, StoreError};
use crate::subject::Subject;

/// Tasks at each node.
const TASKS: usize = 16;
/// Ids that all fight for.
const IDS: u128 = 60;

/// Who was first, by kind, and what one saw that it must not see.
#[derive(Default, Debug, PartialEq)]
struct First {
    begun: usize,
    ended: usize,
    settled: usize,
    started: usize,
    claimed: usize,
}

/// Asks again while it certainly did not happen, as when no connection was free in time.
async fn sure<T>(call: impl AsyncFn() -> Result<T, StoreError>) -> T {
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(StoreError::Unavailable { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

async fn fight(store: Arc<dyn Store>, t: TenantId, offset: u128) -> First {
    let (mut first, store, t) = (First::default(), &store, &t);
    let (key, turns, ending) = (memory(t), [turn("q"), turn("a")], end("x"));
    for n in 0..IDS {
        // Neighbours go through the ids in different orders.
        let n = if offset.is_multiple_of(2) { n } else { IDS - 1 - n };
        let (run, started) = (run_id(n), start(t, run_id(n)));
        let begun = sure(async || store.begin_run(&started, HOLDER).await).await;
        first.begun += usize::from(begun == RunState::Begun);
        let memory = Some((&key, &turns[..]));
        let ended = sure(async || store.finish_run(t, run, &ending, memory).await).await;
        first.ended += usize::from(ended);
        let action = held(t, action_id(n));
        sure(async || store.hold(&action).await).await;
        let mut settlement = settlement(ApprovalStatus::Approved);
        let id = Uuid::from_u128(offset * IDS + n);
        settlement.outbox.push(Publication::new(Subject::action(t), id, "x"));
        let settled = sure(async || store.settle(t, action.id, &settlement).await).await;
        first.settled += usize::from(settled);
        let started = sure(async || store.start_action(t, action.id, &action.digest).await).await;
        first.started += usize::from(started == ActionStart::Fresh);
        let reply = ReplyId(Uuid::from_u128(n));
        let claimed = sure(async || store.begin_send(t, reply, NOW_MS).await).await;
        first.claimed += usize::from(claimed == SendState::Fresh);
    }
    first
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_tasks_on_two_nodes_exactly_one_is_first() {
    let options = options(&SERVER.url(), &name());
    let nodes = join_all((0..2).map(|_| Node::of(options.clone()))).await;
    let t = tenant("a");
    let fights = (0..TASKS * nodes.len()).map(|task| {
        let node = &nodes[task % nodes.len()];
        let offset = u128::try_from(task / nodes.len()).expect("small");
        fight(Arc::clone(node.store()), t.clone(), offset)
    });
    let mut total = First::default();
    for first in join_all(fights).await {
        total.begun += first.begun;
        total.ended += first.ended;
        total.settled += first.settled;
        total.started += first.started;
        total.claimed += first.claimed;
    }
    let ids = usize::try_from(IDS).expect("small");
    let each = First { begun: ids, ended: ids, settled: ids, started: ids, claimed: ids };
    assert_eq!(total, each);
    let store = nodes[0].store();
    assert_eq!(store.history(&memory(&t), 10_000).await.expect("history").len(), 2 * ids);
    assert_eq!(store.outbox(1_000).await.expect("outbox").len(), ids);
}

#[tokio::test]
async fn two_nodes_share_the_outbox_and_neither_waits_for_the_other() {
    let options = options(&SERVER.url(), &name());
    let nodes = join_all((0..2).map(|_| Node::of(options.clone()))).await;
    let t = tenant("a");
    for n in 0..4 {
        let action = held(&t, action_id(n));
        nodes[0].store().hold(&action).await.expect("hold");
        let mut settlement = settlement(ApprovalStatus::Approved);
        settlement.outbox.push(Publication::new(Subject::action(&t), Uuid::from_u128(n), "x"));
        assert!(nodes[0].store().settle(&t, action.id, &settlement).await.expect("settle"));
    }
    let seqs = async |node: &Node, limit| {
        let read = node.store().outbox(limit).await.expect("outbox");
        read.into_iter().map(|entry| entry.seq).collect::<Vec<_>>()
    };
    let first = seqs(&nodes[0], 2).await;
    assert_eq!(first, seqs(&nodes[0], 2).await, "what one read it gets again");
    let second = seqs(&nodes[1], 10).await;
    assert_eq!((first.len(), second.len()), (2, 2));
    assert!(first.iter().all(|seq| !second.contains(seq)), "{first:?} {second:?}");
    nodes[1].store().outbox_done(&second).await.expect("done");
    // The first is gone: the second takes over what it had.
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while seqs(&nodes[1], 10).await != first {
        assert!(tokio::time::Instant::now() < deadline, "the claim never ended");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
