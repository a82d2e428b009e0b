//! What this machine could do at best: a bare HTTP server that checks the signature, and
//! the disk's group commits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;

use super::client::Connection;
use super::{connections, requests};
use aof_harness as harness;

/// How long each ceiling is measured.
const SPAN: Duration = Duration::from_secs(5);
/// Rows in one group commit.
const BATCH: usize = 256;

pub(crate) async fn print() {
    let http = bare_http().await;
    let rows = group_commit();
    println!(
        "ceiling: bare HTTP with signature check {http:.0}/s; {rows:.0} rows/s in fsynced batches of {BATCH}"
    );
}

async fn bare_http() -> f64 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("an address");
    let app = Router::new().route("/webhook/slack/{instance}", post(verify));
    #[expect(clippy::disallowed_methods, reason = "ends with the benchmark's runtime")]
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let done = Arc::new(AtomicU64::new(0));
    let requests = requests(0..connections(), addr);
    let began = Instant::now();
    let posters = requests.iter().map(|request| poster(addr, request, began, Arc::clone(&done)));
    futures_util::future::join_all(posters).await;
    server.abort();
    done.load(Ordering::SeqCst) as f64 / began.elapsed().as_secs_f64()
}

async fn poster(addr: SocketAddr, request: &[u8], began: Instant, done: Arc<AtomicU64>) {
    let mut connection = Connection::open(addr).await;
    while began.elapsed() < SPAN {
        assert_eq!(connection.send(request).await, 200);
        done.fetch_add(1, Ordering::SeqCst);
    }
}

async fn verify(headers: HeaderMap, body: String) -> StatusCode {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let timestamp = text("x-slack-request-timestamp").parse().unwrap_or_default();
    if harness::sign(harness::SIGNING_SECRET, timestamp, &body) == text("x-slack-signature") {
        StatusCode::OK
    } else {
        StatusCode::UNAUTHORIZED
    }
}

fn group_commit() -> f64 {
    let dir = tempfile::Builder::new().tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let mut db = rusqlite::Connection::open(dir.path().join("ceiling.db")).expect("a database");
    db.pragma_update(None, "journal_mode", "WAL").expect("a pragma");
    db.pragma_update(None, "synchronous", "FULL").expect("a pragma");
    db.execute_batch("CREATE TABLE row (id INTEGER PRIMARY KEY, body BLOB)").expect("a table");
    let body = vec![b'x'; 1024];
    let (began, mut rows) = (Instant::now(), 0_usize);
    while began.elapsed() < SPAN {
        let batch = db.transaction().expect("a transaction");
        {
            let mut insert =
                batch.prepare_cached("INSERT INTO row (body) VALUES (?1)").expect("SQL");
            for _ in 0..BATCH {
                insert.execute([&body]).expect("a row");
            }
        }
        batch.commit().expect("a commit");
        rows += BATCH;
    }
    rows as f64 / began.elapsed().as_secs_f64()
}
