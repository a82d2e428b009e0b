//! A stand-in for Discord: its API, its Gateway, and what it signs. A stub of ours: no
//! software of anybody else's speaks the Gateway's side.

mod socket;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};

pub use socket::Behaviour;
use socket::Socket;

/// The bot's user id.
pub const DISCORD_BOT: &str = "900000000000000001";
/// The one server that the bot is in.
pub const DISCORD_SERVER: &str = "200000000000000001";
/// Base of the ids that the stub gives.
const FIRST_ID: u64 = 600_000_000_000_000_000;

/// One call of the API.
#[derive(Debug, Clone)]
pub struct DiscordCall {
    pub method: String,
    /// Behind `/api/v10`.
    pub path: String,
    pub authorization: String,
    pub body: Value,
}

/// Discord as far as the product uses it; records every call.
#[derive(Clone)]
pub struct Discord {
    calls: Arc<Mutex<Vec<DiscordCall>>>,
    channels: Arc<Vec<(String, String)>>,
    given: Arc<AtomicU64>,
    socket: Socket,
}

impl Discord {
    /// `channels` are id and name; the address is the API's.
    pub async fn start(channels: &[(&str, &str)]) -> (Self, SocketAddr) {
        let pairs = channels.iter().map(|(id, name)| ((*id).to_owned(), (*name).to_owned()));
        let discord = Self {
            calls: Arc::default(),
            channels: Arc::new(pairs.collect()),
            given: Arc::new(AtomicU64::new(FIRST_ID)),
            socket: Socket::start().await,
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let app = Router::new().fallback(answer).with_state(discord.clone());
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(async move { axum::serve(listener, app).await });
        (discord, address)
    }

    /// What the Gateway does, and what it saw.
    pub fn gateway(&self) -> &Socket {
        &self.socket
    }

    /// Calls of `method` whose path ends so.
    pub fn calls(&self, method: &str, path: &str) -> Vec<DiscordCall> {
        let calls = self.calls.lock().expect("ok");
        let fits = |call: &&DiscordCall| call.method == method && call.path.ends_with(path);
        calls.iter().filter(fits).cloned().collect()
    }

    /// A fresh id.
    pub fn id(&self) -> String {
        self.given.fetch_add(1 << 22, Ordering::SeqCst).to_string()
    }

    fn api(&self, method: &str, path: &str) -> Response {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let named = |(id, name): &(String, String)| json!({"id": id, "type": 0, "name": name});
        match (method, &parts[..]) {
            ("GET", ["gateway", "bot"]) => Json(self.socket.describe()).into_response(),
            ("GET", ["users", "@me", "guilds"]) => {
                Json(json!([{"id": DISCORD_SERVER, "name": "ops"}])).into_response()
            }
            ("GET", ["guilds", _, "channels"]) => {
                Json(self.channels.iter().map(named).collect::<Value>()).into_response()
            }
            ("GET", ["channels", id]) => {
                match self.channels.iter().find(|(known, _)| known == id) {
                    Some(channel) => Json(named(channel)).into_response(),
                    None => not_found(10_003),
                }
            }
            ("POST", ["channels", channel, "messages"]) => {
                Json(json!({"id": self.id(), "channel_id": channel})).into_response()
            }
            ("PATCH", ["channels", channel, "messages", id]) => {
                Json(json!({"id": id, "channel_id": channel})).into_response()
            }
            ("PATCH", ["webhooks", _, _, "messages", _]) | ("POST", ["webhooks", _, _]) => {
                Json(json!({"id": self.id(), "channel_id": "1"})).into_response()
            }
            ("PUT", _) | ("POST", ["interactions", ..]) => StatusCode::NO_CONTENT.into_response(),
            _ => not_found(0),
        }
    }
}

fn not_found(code: u64) -> Response {
    (StatusCode::NOT_FOUND, Json(json!({"code": code, "message": "not found"}))).into_response()
}

async fn answer(
    State(discord): State<Discord>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    let path = uri.path().strip_prefix("/api/v10").unwrap_or_default().to_owned();
    let authorization = headers.get("authorization").and_then(|v| v.to_str().ok());
    discord.calls.lock().expect("ok").push(DiscordCall {
        method: method.to_string(),
        path: path.clone(),
        authorization: authorization.unwrap_or_default().to_owned(),
        body: serde_json::from_str(&body).unwrap_or_default(),
    });
    discord.api(method.as_str(), &path)
}

/// The trigger lines of a Discord flow whose API is at `api`.
pub fn discord_trigger(api: SocketAddr, token: &str, more: &str) -> String {
    format!(
        "  trigger:\n    type: Discord\n    config:\n      events: [app_mention, message, slash_command]\n      bot_token: {token}\n      public_key: \"{}\"\n      api_base_url: http://{api}/api/v10\n{more}",
        discord_public_key()
    )
}

fn pair() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

/// The public key of the application whose interactions are signed here.
pub fn discord_public_key() -> String {
    hex::encode(pair().verifying_key().as_bytes())
}

/// Posts `body` to the node's webhook address, signed as Discord signs it, now.
pub async fn discord_interaction(node: &str, instance: &str, body: &str) -> reqwest::Response {
    let at = crate::now_secs().to_string();
    let signature = pair().sign(format!("{at}{body}").as_bytes());
    reqwest::Client::new()
        .post(format!("{node}/webhook/discord/{instance}"))
        .header("content-type", "application/json")
        .header("x-signature-timestamp", at)
        .header("x-signature-ed25519", hex::encode(signature.to_bytes()))
        .body(body.to_owned())
        .send()
        .await
        .expect("the node answers")
}

/// Somebody's message in a server, as `MESSAGE_CREATE` has it.
pub fn discord_message(id: &str, channel: &str, user: &str, text: &str) -> Value {
    json!({"type": 0, "id": id, "channel_id": channel, "guild_id": DISCORD_SERVER,
        "author": {"id": user, "username": "someone"}, "content": text, "attachments": [],
        "mentions": if text.contains(DISCORD_BOT) { json!([{"id": DISCORD_BOT}]) } else { json!([]) }})
}

/// Somebody's reaction in a server, as `MESSAGE_REACTION_ADD` has it.
pub fn discord_reaction(channel: &str, message: &str, user: &str, emoji: &str) -> Value {
    json!({"user_id": user, "channel_id": channel, "message_id": message,
        "guild_id": DISCORD_SERVER, "emoji": {"id": null, "name": emoji},
        "member": {"user": {"id": user}}})
}
