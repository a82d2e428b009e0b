//! The server is killed, frozen, or holds a lock: what was confirmed is there, what was not
//! is told truthfully, and one row's trouble is its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aof_servers::Postgres;
use futures_util::future::join_all;
use sqlx::Connection;
use tokio::time::Instant;

use super::{Node, name, options};
use crate::ids::RunId;
use crate::store::contract::{HOLDER, end, memory, run_id, start, tenant, turn};
use crate::store::{RunState, Store, StoreError};

/// Longest that a condition may take to come true.
const DEADLINE: Duration = Duration::from_secs(60);
const WRITERS: u128 = 16;

/// What a writer was told.
#[derive(Default)]
struct Told {
    begun: Vec<RunId>,
    ended: Vec<RunId>,
    /// Refused as certainly not done, and not tried again.
    refused: Vec<RunId>,
}

/// Begins and ends runs until `stop`.
async fn write(store: Arc<dyn Store>, writer: u128, told: Arc<Mutex<Told>>, stop: Arc<AtomicBool>) {
    let t = tenant("a");
    let mut n = writer << 32;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let run = run_id(n);
        match store.begin_run(&start(&t, run), HOLDER).await {
            Ok(_) => told.lock().expect("no panic").begun.push(run),
            Err(StoreError::Unavailable { .. }) => {
                told.lock().expect("no panic").refused.push(run);
                continue;
            }
            Err(_) => continue,
        }
        let turns = [turn("q")];
        if let Ok(first) = store.finish_run(&t, run, &end("x"), Some((&memory(&t), &turns))).await {
            assert!(first, "nobody else ends it");
            told.lock().expect("no panic").ended.push(run);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_confirmed_survives_kills_and_the_store_works_again() {
    let server = Postgres::start();
    let node = Node::of(options(&server.url(), &name())).await;
    let (told, stop) = (Arc::new(Mutex::new(Told::default())), Arc::new(AtomicBool::new(false)));
    let writers: Vec<_> = (0..WRITERS)
        .map(|n| {
            let work = write(Arc::clone(node.store()), n, Arc::clone(&told), Arc::clone(&stop));
            node.lifecycle.spawn(work)
        })
        .collect();
    let ended = || told.lock().expect("no panic").ended.len();
    for _ in 0..3 {
        let before = ended();
        let deadline = Instant::now() + DEADLINE;
        while ended() < before + 500 {
            assert!(Instant::now() < deadline, "it does not work (again)");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.kill();
        server.start_again();
    }
    stop.store(true, Ordering::Relaxed);
    for writer in join_all(writers).await {
        writer.expect("no panic");
    }
    let told = std::mem::take(&mut *told.lock().expect("no panic"));
    let (t, store) = (tenant("a"), node.store());
    for run in &told.begun {
        assert!(store.run(&t, *run).await.expect("run").is_some(), "{run} was begun");
    }
    for run in &told.ended {
        let (_, state) = store.run(&t, *run).await.expect("run").expect("there");
        assert_eq!(state, RunState::Finished(end("x")), "{run} was ended");
    }
    for run in &told.refused {
        assert_eq!(store.run(&t, *run).await.expect("run"), None, "{run} was refused");
    }
    // Each end with its turn, and no turn without its end.
    let turns = store.history(&memory(&t), u32::MAX).await.expect("history").len();
    let mut sql = node.sql().await;
    let ends: i64 = sqlx::query_scalar("SELECT count(*) FROM runs WHERE ended IS NOT NULL")
        .fetch_one(&mut sql)
        .await
        .expect("a count");
    assert_eq!(i64::try_from(turns).expect("small"), ends);
}

#[tokio::test]
async fn a_frozen_server_leaves_writes_in_doubt_and_reads_undone_in_bounded_time() {
    let server = Postgres::start();
    let node = Node::of(options(&server.url(), &name())).await;
    let (t, store) = (tenant("a"), node.store());
    store.begin_run(&start(&t, run_id(1)), HOLDER).await.expect("begin");
    store.run(&t, run_id(1)).await.expect("run");
    server.pause();
    let (asked, second) = (Instant::now(), start(&t, run_id(2)));
    let (begun, read) = tokio::join!(store.begin_run(&second, HOLDER), store.run(&t, run_id(1)));
    server.resume();
    assert!(matches!(begun, Err(StoreError::Unconfirmed { .. })), "{begun:?}");
    assert!(matches!(read, Err(StoreError::Unavailable { .. })), "{read:?}");
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
    // It thaws, and asking again with the same id tells.
    let again = store.begin_run(&second, HOLDER).await.expect("begin");
    assert!(matches!(again, RunState::Begun | RunState::Resumed { checkpoint: None }));
}

#[tokio::test]
async fn a_locked_row_fails_alone() {
    let node = Node::new().await;
    let (t, store) = (tenant("a"), node.store());
    for n in 0..8 {
        store.begin_run(&start(&t, run_id(n)), HOLDER).await.expect("begin");
    }
    let mut sql = node.sql().await;
    let mut lock = sql.begin().await.expect("a transaction");
    sqlx::query("SELECT 1 FROM runs WHERE run = $1 FOR UPDATE")
        .bind(run_id(3).0)
        .fetch_all(&mut *lock)
        .await
        .expect("the lock");
    let ending = end("x");
    let ends = (0..8).map(|n| store.finish_run(&t, run_id(n), &ending, None));
    for (n, ended) in join_all(ends).await.into_iter().enumerate() {
        match ended {
            Ok(first) => assert!(first && n != 3, "{n}"),
            Err(StoreError::Unavailable { .. }) => assert_eq!(n, 3),
            Err(error) => panic!("{n}: {error}"),
        }
    }
    lock.rollback().await.expect("it ends");
    assert!(store.finish_run(&t, run_id(3), &ending, None).await.expect("finish"));
}
