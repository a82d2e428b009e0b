//! The Gateway's side of the connection, as a script.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_websockets::{CloseCode, Message, ServerBuilder};

use super::DISCORD_BOT;

/// How the Gateway behaves from now on.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// What `HELLO` says, in milliseconds.
    pub heartbeat_interval_ms: u64,
    /// Whether heartbeats are acknowledged.
    pub acknowledges: bool,
    /// Whether sessions can be resumed; else they are invalid.
    pub resumes: bool,
    /// Sessions that may still be started.
    pub remaining: u64,
    /// With what a session that is started is refused.
    pub refuses: Option<u16>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            heartbeat_interval_ms: 41_250,
            acknowledges: true,
            resumes: true,
            remaining: 1_000,
            refuses: None,
        }
    }
}

/// What a connection is told to do.
enum Order {
    Send(Value),
    /// Ends it with this code; without one the TCP connection is cut.
    End(Option<u16>),
}

#[derive(Default)]
struct State {
    behaviour: Behaviour,
    /// The session that counts; the dispatches of it, from position 1.
    session: Option<(String, Vec<Value>)>,
    connection: Option<mpsc::UnboundedSender<Order>>,
    identified: Vec<Value>,
    resumed: Vec<Value>,
    heartbeats: u64,
    connections: u64,
}

/// A Gateway of one session at a time.
#[derive(Clone)]
pub struct Socket {
    state: Arc<Mutex<State>>,
    address: SocketAddr,
}

impl Socket {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let socket = Self { state: Arc::default(), address };
        let serving = socket.clone();
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serving = serving.clone();
                tokio::spawn(async move { serving.serve(stream).await });
            }
        });
        socket
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic in the stub")
    }

    fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    pub(super) fn describe(&self) -> Value {
        let remaining = self.state().behaviour.remaining;
        json!({"url": self.url(), "shards": 1, "session_start_limit": {"total": 1_000,
            "remaining": remaining, "reset_after": 14_400_000, "max_concurrency": 1}})
    }

    /// Changes how it behaves.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.state().behaviour);
    }

    /// Dispatches an event now, or with the next resumption.
    pub fn dispatch(&self, kind: &str, data: Value) {
        let mut state = self.state();
        let Some((_, dispatches)) = &mut state.session else { return };
        let payload = json!({"op": 0, "t": kind, "s": dispatches.len() + 1, "d": data});
        dispatches.push(payload.clone());
        if let Some(connection) = &state.connection {
            let _ = connection.send(Order::Send(payload));
        }
    }

    /// Sends a payload that is no dispatch, such as `{"op": 7}`.
    pub fn send(&self, payload: Value) {
        if let Some(connection) = &self.state().connection {
            let _ = connection.send(Order::Send(payload));
        }
    }

    /// Ends the connection with a code, or cuts it.
    pub fn end(&self, code: Option<u16>) {
        if let Some(connection) = self.state().connection.take() {
            let _ = connection.send(Order::End(code));
        }
    }

    /// Sessions that were started: what `IDENTIFY` said.
    pub fn identified(&self) -> Vec<Value> {
        self.state().identified.clone()
    }

    /// Resumptions: what `RESUME` said.
    pub fn resumed(&self) -> Vec<Value> {
        self.state().resumed.clone()
    }

    pub fn heartbeats(&self) -> u64 {
        self.state().heartbeats
    }

    /// Connections that were made.
    pub fn connections(&self) -> u64 {
        self.state().connections
    }

    /// Whether somebody holds a connection with a session.
    pub fn is_held(&self) -> bool {
        self.state().connection.as_ref().is_some_and(|connection| !connection.is_closed())
    }

    async fn serve(&self, stream: TcpStream) {
        let Ok((_, mut socket)) = ServerBuilder::new().accept(stream).await else { return };
        let (orders, mut ordered) = mpsc::unbounded_channel();
        let interval = {
            let mut state = self.state();
            state.connections += 1;
            state.behaviour.heartbeat_interval_ms
        };
        let hello = json!({"op": 10, "d": {"heartbeat_interval": interval}});
        if socket.send(Message::text(hello.to_string())).await.is_err() {
            return;
        }
        loop {
            let order = tokio::select! {
                order = ordered.recv() => order,
                said = socket.next() => match said {
                    Some(Ok(said)) => {
                        let Some(text) = said.as_text() else { continue };
                        let said = serde_json::from_str(text).expect("JSON");
                        self.heard(&said, &orders);
                        continue;
                    }
                    Some(Err(_)) | None => return,
                },
            };
            let sent = match order {
                Some(Order::Send(payload)) => socket.send(Message::text(payload.to_string())).await,
                Some(Order::End(Some(code))) => {
                    let code = CloseCode::try_from(code).expect("a code");
                    let _ = socket.send(Message::close(Some(code), "")).await;
                    continue;
                }
                Some(Order::End(None)) | None => return,
            };
            if sent.is_err() {
                return;
            }
        }
    }

    /// Answers what the bot said.
    fn heard(&self, said: &Value, orders: &mpsc::UnboundedSender<Order>) {
        let mut state = self.state();
        let send = |payload| {
            let _ = orders.send(Order::Send(payload));
        };
        match said["op"].as_u64() {
            Some(1) => {
                state.heartbeats += 1;
                if state.behaviour.acknowledges {
                    send(json!({"op": 11}));
                }
            }
            Some(2) => {
                state.identified.push(said["d"].clone());
                if let Some(code) = state.behaviour.refuses {
                    let _ = orders.send(Order::End(Some(code)));
                    return;
                }
                let id = format!("session-{}", state.identified.len());
                let ready = json!({"op": 0, "t": "READY", "s": 1, "d": {"v": 10,
                    "session_id": id, "resume_gateway_url": self.url(), "guilds": [],
                    "user": {"id": DISCORD_BOT, "bot": true}}});
                send(ready.clone());
                state.session = Some((id, vec![ready]));
                state.connection = Some(orders.clone());
            }
            Some(6) => {
                state.resumed.push(said["d"].clone());
                let (id, seq) = (said["d"]["session_id"].as_str(), said["d"]["seq"].as_u64());
                let known = state.session.as_ref().filter(|(known, _)| Some(known.as_str()) == id);
                let (Some((_, dispatches)), true) = (known, state.behaviour.resumes) else {
                    send(json!({"op": 9, "d": false}));
                    return;
                };
                let from = usize::try_from(seq.unwrap_or_default()).unwrap_or(usize::MAX);
                dispatches.iter().skip(from).cloned().for_each(send);
                let resumed = json!({"op": 0, "t": "RESUMED", "s": dispatches.len(), "d": {}});
                send(resumed);
                state.connection = Some(orders.clone());
            }
            _ => {}
        }
    }
}
