//! A wire to a server that can be cut: what stands for the network between two processes.

use std::net::SocketAddr;
use std::sync::OnceLock;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Bytes passed on at once.
const CHUNK_BYTES: usize = 16 << 10;

/// How a wire is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Whole,
    /// Connections are closed, and new ones at once.
    Cut,
    /// Nothing passes and nobody is told; what was sent arrives once it is whole again.
    Silent,
}

/// A port of 127.0.0.1 that leads to a server's.
pub struct Wire {
    addr: SocketAddr,
    server: SocketAddr,
    state: watch::Sender<State>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Wire {
    /// Leads to `server`, which need not be there yet.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn to(server: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("the option is known");
        let addr = listener.local_addr().expect("a bound socket");
        let (state, seen) = watch::channel(State::Whole);
        let accepting = runtime().spawn(accept(listener, server, seen));
        Self { addr, server, state, accepting }
    }

    /// `url` of the server, by way of this wire.
    #[must_use]
    pub fn through(&self, url: &str) -> String {
        url.replace(&self.server.to_string(), &self.addr.to_string())
    }

    /// Closes every connection and refuses new ones.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Lets nothing through and tells nobody, as a lost route does.
    pub fn silence(&self) {
        self.state.send_replace(State::Silent);
    }

    /// Ends a [`Wire::cut`] or a [`Wire::silence`].
    pub fn mend(&self) {
        self.state.send_replace(State::Whole);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// The one thread that all wires of a test process run on; none of theirs own.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("wires").enable_all().build().expect("a thread")
    })
}

async fn accept(
    listener: std::net::TcpListener,
    server: SocketAddr,
    state: watch::Receiver<State>,
) {
    let listener = TcpListener::from_std(listener).expect("a listener that does not block");
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        runtime().spawn(join(client, server, state.clone()));
    }
}

/// Passes bytes both ways until one side ends or the wire is cut.
async fn join(client: TcpStream, server: SocketAddr, mut state: watch::Receiver<State>) {
    let Ok(State::Whole) = state.wait_for(|s| *s != State::Silent).await.map(|s| *s) else {
        return;
    };
    let Ok(server) = TcpStream::connect(server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        _ = pass(from_client, to_server, state.clone()) => {}
        _ = pass(from_server, to_client, state.clone()) => {}
        _ = state.wait_for(|s| *s == State::Cut) => {}
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
) -> Option<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = from.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
        state.wait_for(|s| *s == State::Whole).await.ok()?;
        to.write_all(&chunk[..read]).await.ok()?;
    }
}
