//! A chat's answer as server-sent events: `accepted`, `delta`, `step`, `done`.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::Stream;
use futures_util::stream::unfold;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::turn::{Turn, Update};
use crate::api::events::HEARTBEAT_MS;
use crate::app::Shared;
use crate::ingress::ReceiptBody;
use crate::streams::StreamPermit;

/// Longest stream of one answer: an approval's time and two long runs.
const MAX_STREAM_MS: u64 = 3_600_000;

struct Open {
    app: Shared,
    turn: Turn,
    /// Given back when the client leaves.
    _permit: StreamPermit,
    ends_at: Instant,
    sent: u64,
    over: bool,
}

/// Streams what happens to `turn` until it ended, the node stops, or the client leaves.
pub(super) fn answer(
    app: Shared,
    turn: Turn,
    permit: StreamPermit,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let ends_at = Instant::now() + Duration::from_millis(MAX_STREAM_MS);
    let open = Open { app, turn, _permit: permit, ends_at, sent: 0, over: false };
    let events = unfold(open, |mut open| async move {
        let (name, data) = open.next().await?;
        open.sent += 1;
        let event = Event::default().id(open.sent.to_string()).event(name).data(data.to_string());
        Some((Ok(event), open))
    });
    let heartbeat = Duration::from_millis(HEARTBEAT_MS);
    Sse::new(events).keep_alive(KeepAlive::new().interval(heartbeat).text("heartbeat"))
}

impl Open {
    async fn next(&mut self) -> Option<(&'static str, Value)> {
        if self.over {
            return None;
        }
        if self.sent == 0 {
            return Some(("accepted", json!(ReceiptBody::from(self.turn.accepted()))));
        }
        let update = tokio::select! {
            update = self.turn.next() => update,
            () = self.app.node.lifecycle.stopped() => None,
            () = tokio::time::sleep_until(self.ends_at) => None,
        };
        self.over =
            !matches!(update, Some(Update::Delta { .. } | Update::Step { .. } | Update::Held(_)));
        Some(match update {
            Some(Update::Delta { offset, text }) => {
                ("delta", json!({ "offset": offset, "text": text }))
            }
            Some(Update::Step { text }) => ("step", json!({ "text": text })),
            Some(Update::Held(held)) => {
                let text = "waits for approval";
                ("step", json!({ "text": text, "status": "held", "approval_id": held.approval_id }))
            }
            Some(Update::Done(answer)) => ("done", json!(answer)),
            // The node stops or the time is over: the message goes on without the stream.
            None => ("done", json!(self.turn.so_far())),
        })
    }
}
