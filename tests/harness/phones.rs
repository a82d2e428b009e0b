//! Stand-ins for the APIs of WhatsApp Cloud and Evolution, and what they would send.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::routing::post;
use axum::{Json, Router};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

/// One call as it came in.
#[derive(Clone, Debug)]
pub struct PhoneCall {
    pub path: String,
    /// `authorization` or `apikey`.
    pub credential: String,
    pub body: Value,
    /// The id that it was answered with.
    pub id: String,
}

/// Takes every message and records it.
#[derive(Clone, Default)]
pub struct Phones(Arc<Mutex<Vec<PhoneCall>>>);

impl Phones {
    pub async fn start() -> (Self, SocketAddr) {
        let phones = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let app = Router::new().fallback(post(take)).with_state(phones.clone());
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(async move { axum::serve(listener, app).await });
        (phones, addr)
    }

    pub fn calls(&self) -> Vec<PhoneCall> {
        self.0.lock().expect("ok").clone()
    }
}

async fn take(
    State(phones): State<Phones>,
    uri: Uri,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Json<Value> {
    let credential = ["authorization", "apikey"].into_iter().find_map(|name| headers.get(name));
    let credential = credential.and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let path = uri.path().to_owned();
    let mut calls = phones.0.lock().expect("ok");
    let n = calls.len();
    let evolution = path.starts_with("/message/");
    let id = if evolution { format!("3EB0{n:08}") } else { format!("wamid.SENT{n}") };
    calls.push(PhoneCall { path, credential, body, id: id.clone() });
    Json(if evolution {
        json!({"key": {"remoteJid": "-", "fromMe": true, "id": id}, "status": "PENDING"})
    } else {
        json!({"messaging_product": "whatsapp", "messages": [{"id": id}]})
    })
}

/// Meta's signature over `body`.
pub fn hub_signature(secret: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.update(body.as_bytes());
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

/// A WhatsApp body that holds `message` (its `from` is `wa_id`) of somebody known as `user_id` to
/// the number `number`.
pub fn whatsapp_body(number: &str, (user_id, wa_id): (&str, &str), message: &Value) -> String {
    let mut message = message.clone();
    message["from"] = json!(wa_id);
    message["timestamp"] = json!(crate::now_secs().to_string());
    let value = json!({
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550001000", "phone_number_id": number},
        "contacts": [{"profile": {"name": "Ann"}, "wa_id": wa_id, "user_id": user_id}],
        "messages": [message],
    });
    json!({"object": "whatsapp_business_account",
        "entry": [{"id": "1", "changes": [{"field": "messages", "value": value}]}]})
    .to_string()
}

/// An Evolution body of the instance `ops` whose key is `apikey`.
pub fn evolution_body(event: &str, data: &Value, apikey: &str) -> String {
    json!({"event": event, "instance": "ops", "data": data, "apikey": apikey,
        "sender": "15550001000@s.whatsapp.net", "date_time": "2025-11-16T14:49:42.155Z",
        "server_url": "http://127.0.0.1:8081"})
    .to_string()
}
