//! Many clients at once never take more than there is.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::{clients, in_window, options, shared};
use crate::limit::{Admission, Demand, Places};

const CLIENTS: usize = 8;
/// Callers on each client's connection.
const CALLERS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_sliding_window_holds_more_than_its_limit() {
    const LIMIT: u32 = 20;
    const WINDOW: Duration = Duration::from_millis(200);
    const WINDOWS: u32 = 8;
    let clients = clients(&options(shared()), CLIENTS).await;
    let asked = in_window(LIMIT, 200);
    let begun = Instant::now();
    let callers = (0..CLIENTS * CALLERS).map(|n| {
        let (limits, asked) = (&clients[n % CLIENTS], &asked);
        async move {
            let mut admitted = Vec::new();
            while begun.elapsed() < WINDOW * WINDOWS {
                let sent = begun.elapsed();
                match limits.admit(asked).await.expect("a decision") {
                    Admission::Granted => admitted.push((sent, begun.elapsed())),
                    Admission::Deferred { retry_after_ms, .. } => {
                        assert!((1..=200).contains(&retry_after_ms), "{retry_after_ms} ms");
                        tokio::time::sleep(Duration::from_millis(retry_after_ms)).await;
                    }
                }
            }
            admitted
        }
    });
    let admitted: Vec<_> = join_all(callers).await.into_iter().flatten().collect();
    for (start, _) in &admitted {
        // Decided somewhere between sent and answered; these for sure within one window.
        let within =
            |(sent, answered): &&(Duration, Duration)| sent >= start && *answered < *start + WINDOW;
        let inside = admitted.iter().filter(within).count();
        assert!(inside <= LIMIT as usize, "{inside} admissions in {WINDOW:?} from {start:?}");
    }
    let least = (LIMIT * WINDOWS / 2) as usize;
    assert!(admitted.len() >= least, "only {} were admitted", admitted.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_than_its_places_are_held() {
    const PLACES: u32 = 5;
    const ROUNDS: usize = 25;
    let clients = clients(&options(shared()), CLIENTS).await;
    let (held, most) = (AtomicU32::new(0), AtomicU32::new(0));
    let callers = (0..CLIENTS * CALLERS).map(|n| {
        let (limits, held, most) = (&clients[n % CLIENTS], &held, &most);
        async move {
            let places = Places { scope: "p".to_owned(), limit: PLACES };
            let asked = Demand {
                places: vec![places],
                holder: format!("caller {n}"),
                ttl_ms: 60_000,
                ..Demand::default()
            };
            for _ in 0..ROUNDS {
                while limits.admit(&asked).await.expect("a decision") != Admission::Granted {
                    tokio::task::yield_now().await;
                }
                let now = held.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                tokio::task::yield_now().await;
                assert!(limits.renew(&asked).await.expect("renewed"));
                held.fetch_sub(1, Ordering::SeqCst);
                limits.release(&asked).await.expect("released");
            }
        }
    });
    join_all(callers).await;
    assert_eq!(most.into_inner(), PLACES, "the most that were held at once");
}
