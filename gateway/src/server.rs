//! The accept loop: bounded connections, header deadlines, and a graceful end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use aof_shared::lifecycle::Lifecycle;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt as _;

use crate::front::Answering;

/// A client that has not sent its whole head by then is cut off; also ends idle
/// keep-alive connections.
const HEADER_READ_MS: u64 = 15_000;
/// How long the loop rests when the process is out of descriptors.
const ACCEPT_BACKOFF_MS: u64 = 50;
/// Largest request head in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Accepts until the lifecycle stops. Every connection is a task of the lifecycle.
pub(crate) async fn run(
    listener: TcpListener,
    answering: Answering,
    lifecycle: Lifecycle,
    max_connections: usize,
) {
    let places = Arc::new(Semaphore::new(max_connections));
    loop {
        let place = tokio::select! {
            () = lifecycle.stopped() => return,
            place = places.clone().acquire_owned() => place.expect("nobody closes the semaphore"),
        };
        let accepted = tokio::select! {
            () = lifecycle.stopped() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _)) => {
                let connection = serve(socket, answering.clone(), lifecycle.clone(), place);
                lifecycle.spawn(connection);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(ACCEPT_BACKOFF_MS)).await;
            }
        }
    }
}

async fn serve(
    socket: TcpStream,
    answering: Answering,
    lifecycle: Lifecycle,
    place: OwnedSemaphorePermit,
) {
    // Answers are small and complete: waiting to fill a packet only adds latency.
    let _ = socket.set_nodelay(true);
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        let router = answering.load();
        axum::Router::clone(&router).oneshot(request)
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(HEADER_READ_MS))
        .max_buf_size(MAX_HEAD_BYTES);
    let connection = builder.serve_connection(TokioIo::new(socket), service);
    let mut connection = std::pin::pin!(connection);
    let ended: Result<Result<(), hyper::Error>, Infallible> = tokio::select! {
        ended = connection.as_mut() => Ok(ended),
        () = lifecycle.stopped() => {
            connection.as_mut().graceful_shutdown();
            Ok(connection.await)
        }
    };
    if let Ok(Err(error)) = ended {
        tracing::debug!(%error, "connection ended early");
    }
    drop(place);
}
