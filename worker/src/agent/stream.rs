//! An answer on its way: its text so far, sent on to whoever listens.

use std::sync::Arc;

use aof_shared::ids::{MessageId, TenantId};
use aof_shared::message::{AnswerChunk, RunStatus};
use aof_shared::queue::Live;
use aof_shared::subject::LiveSubject;

/// Between what a model says before and after its tools ran.
const PARAGRAPH: &str = "\n\n";

/// The text of an answer, streamed as it grows. The final text is what was streamed.
pub(crate) struct AnswerStream {
    live: Arc<dyn Live>,
    subject: LiveSubject,
    text: String,
    break_next: bool,
}

impl AnswerStream {
    /// Goes on after `text`, which was streamed before.
    pub(crate) fn new(
        live: Arc<dyn Live>,
        tenant: &TenantId,
        message: MessageId,
        text: String,
    ) -> Self {
        let break_next = !text.is_empty();
        Self { live, subject: LiveSubject::answer(tenant, message), text, break_next }
    }

    /// Everything streamed so far.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Its length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    /// The next text starts a paragraph.
    pub(crate) fn new_paragraph(&mut self) {
        self.break_next = !self.text.is_empty();
    }

    /// Appends and sends `text`.
    pub(crate) async fn push(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let offset = self.text.len();
        if std::mem::take(&mut self.break_next) {
            self.text.push_str(PARAGRAPH);
        }
        self.text.push_str(text);
        let text = self.text[offset..].to_owned();
        self.send(&AnswerChunk::Delta { offset, text }).await;
    }

    /// Says that something other than text happened.
    pub(crate) async fn step(&self, text: String) {
        self.send(&AnswerChunk::Step { text }).await;
    }

    /// Says that the run waits for people.
    pub(crate) async fn held(&self, text: String) {
        self.send(&AnswerChunk::Done { text, status: RunStatus::Held }).await;
    }

    async fn send(&self, chunk: &AnswerChunk) {
        send(&*self.live, &self.subject, chunk).await;
    }
}

/// Sends one chunk; nobody may rely on it.
pub(crate) async fn send(live: &dyn Live, subject: &LiveSubject, chunk: &AnswerChunk) {
    if let Ok(json) = serde_json::to_vec(chunk) {
        live.send(subject, json.into()).await;
    }
}
