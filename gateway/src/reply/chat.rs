//! Egress of the chat API: no HTTP call, the answer goes to whoever listens.
//!
//! Nothing is claimed here: a listener takes a second `Done` for the same answer, and the
//! journal keeps what nobody listened to.

use std::sync::Arc;

use async_trait::async_trait;

use aof_shared::action::{ApprovalStatus, ApprovalView};
use aof_shared::clock::rfc3339;
use aof_shared::message::{AnswerChunk, Reply, ReplyContent};
use aof_shared::queue::Live;
use aof_shared::subject::LiveSubject;

use super::port::{Body, Outlet, Piece, Posted, SendError};
use super::shell;

/// The chat platform's egress.
pub struct ChatOutlet {
    live: Arc<dyn Live>,
}

impl ChatOutlet {
    /// Sends over `live`.
    #[must_use]
    pub fn new(live: Arc<dyn Live>) -> Self {
        Self { live }
    }
}

#[async_trait]
impl Outlet for ChatOutlet {
    fn pieces(&self, reply: &Reply) -> Vec<Piece> {
        let body = match &reply.content {
            ReplyContent::Answer { text, .. } | ReplyContent::Notice { text } => {
                Body::Text(text.clone())
            }
            ReplyContent::Approval { view } => Body::Card { view: view.clone(), replaces: None },
        };
        vec![Piece { id: reply.id, body }]
    }

    fn repeatable(&self, _body: &Body) -> bool {
        true
    }

    fn wait_ms(&self, _reply: &Reply, _body: &Body) -> u64 {
        0
    }

    async fn send(&self, reply: &Reply, piece: &Piece) -> Result<Posted, SendError> {
        let chunk = match (&reply.content, &piece.body) {
            (ReplyContent::Answer { text, status }, _) => {
                AnswerChunk::Done { text: text.clone(), status: *status }
            }
            (_, Body::Text(text)) => AnswerChunk::Step { text: text.clone() },
            (_, Body::Card { view, .. }) => AnswerChunk::Step { text: line(view) },
        };
        let payload = serde_json::to_vec(&chunk).map_err(|error| SendError::Refused {
            reason: "unwritable",
            detail: format!("the answer cannot be written as JSON: {error}"),
        })?;
        let subject = LiveSubject::answer(&reply.to.tenant, reply.message);
        self.live.send(&subject, payload.into()).await;
        Ok(Posted { id: None, channel: None })
    }

    async fn decorate(&self, _reply: &Reply, _posted: &str) {}
}

/// How a held action stands, for a terminal; empty where the run itself says it.
fn line(view: &ApprovalView) -> String {
    let command = shell::quoted(&view.argv);
    let by = |what: &str| format!("{what}: {command}");
    match view.status {
        ApprovalStatus::Pending if !view.votes.is_empty() => {
            let until = rfc3339(view.expires_at_ms);
            format!("waits for {} more approval(s) until {until}", view.missing)
        }
        ApprovalStatus::Pending
        | ApprovalStatus::Approved
        | ApprovalStatus::Started
        | ApprovalStatus::Executed => String::new(),
        ApprovalStatus::Denied => by("denied"),
        ApprovalStatus::Expired => by("expired without a decision"),
        ApprovalStatus::Failed => by("failed"),
        ApprovalStatus::Uncertain => by("nobody knows how it ended, settle it by hand"),
    }
}
