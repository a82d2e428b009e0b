//! A stand-in for a model that takes its time and says what it was asked.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};

/// Listens until the benchmark's runtime ends: OpenAI's chat completions, streamed, each
/// after `takes`.
pub(crate) async fn listen(takes: Duration) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("an address");
    let app = Router::new().route("/v1/chat/completions", post(complete)).with_state(takes);
    #[expect(clippy::disallowed_methods, reason = "ends with the benchmark's runtime")]
    tokio::spawn(async move { axum::serve(listener, app).await });
    addr
}

async fn complete(State(takes): State<Duration>, Json(asked): Json<Value>) -> Response {
    tokio::time::sleep(takes).await;
    let messages = asked["messages"].as_array().cloned().unwrap_or_default();
    let last = messages.last().map(|message| message["content"].clone()).unwrap_or_default();
    let text = last.as_str().map_or_else(|| last[0]["text"].clone(), |text| text.into());
    let piece = |delta: Value, end: Value| {
        let chunk = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": delta, "finish_reason": end}]});
        format!("data: {chunk}\n\n")
    };
    let body = piece(json!({"role": "assistant", "content": text}), json!(null))
        + &piece(json!({}), json!("stop"))
        + "data: [DONE]\n\n";
    Response::builder()
        .header("content-type", "text/event-stream")
        .body(body.into())
        .expect("a response")
}
