//! One message from its publication to its end: live chunks as they come, the journal for the truth.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use aof_shared::event::{Event, EventType};
use aof_shared::ids::{ActionId, RunId, TenantId};
use aof_shared::message::{AnswerChunk, Message, RunStatus};
use aof_shared::queue::Listener;
use aof_shared::store::Store;
use aof_shared::subject::LiveSubject;

use super::ChatAnswer;
use super::answer::Assembly;
use crate::app::App;
use crate::ingress::{Accepted, Hop, publish_message};
use crate::outcome::Watch;
use crate::problem::Problem;

/// Longest wait for the approver to store what the journal says is held.
const STORED_WAIT: Duration = Duration::from_secs(2);
/// Pause between looks at the store.
const STORED_POLL: Duration = Duration::from_millis(10);

/// What happened to a message.
#[derive(Debug, Clone)]
pub(super) enum Update {
    /// Text to put at a byte position of the answer.
    Delta { offset: usize, text: String },
    /// Something other than text happened.
    Step { text: String },
    /// It waits for people.
    Held(ChatAnswer),
    /// It ended.
    Done(ChatAnswer),
}

/// A message that is on its way.
pub(super) struct Turn {
    accepted: Accepted,
    tenant: TenantId,
    store: Arc<dyn Store>,
    live: Option<Box<dyn Listener>>,
    watch: Watch,
    run: Option<RunId>,
    assembly: Assembly,
    ready: VecDeque<Update>,
    ended: bool,
}

impl Turn {
    /// Listens, then publishes. A message that ended long ago is answered from the journal.
    ///
    /// # Errors
    /// 503 when nothing was accepted.
    pub(super) async fn begin(app: &App, message: Message, hop: Hop) -> Result<Self, Problem> {
        let ports = &app.node.ports;
        let live = ports.live.listen(&LiveSubject::answer(&message.tenant, message.id)).await?;
        let watch = app.outcomes.watch(&message.tenant, message.id).await?;
        let accepted = publish_message(app, &message, hop).await?;
        app.count(message.platform.as_str(), outcome(&accepted));
        let mut turn = Self {
            accepted,
            tenant: message.tenant.clone(),
            store: Arc::clone(&ports.store),
            live: Some(live),
            watch,
            run: None,
            assembly: Assembly::default(),
            ready: VecDeque::new(),
            ended: false,
        };
        if accepted.duplicate
            && let Some(event) = turn.watch.look_back(accepted.journal_seq).await?
        {
            turn.journaled(&event);
        }
        Ok(turn)
    }

    /// What was accepted.
    pub(super) fn accepted(&self) -> Accepted {
        self.accepted
    }

    /// The next thing that happened; `None` after the end, and when the node stops.
    pub(super) async fn next(&mut self) -> Option<Update> {
        loop {
            if let Some(Update::Held(ChatAnswer { approval_id: Some(id), .. })) = self.ready.front()
            {
                let id = ActionId(*id);
                stored(&*self.store, &self.tenant, id).await;
            }
            if let Some(update) = self.ready.pop_front() {
                return Some(update);
            }
            if self.ended {
                return None;
            }
            let live = async {
                match self.live.as_mut() {
                    Some(live) => live.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                chunk = live => match chunk {
                    Some(chunk) => self.streamed(&chunk),
                    None => self.live = None,
                },
                event = self.watch.next() => self.journaled(&event?),
            }
        }
    }

    /// The answer of a message that has not ended.
    pub(super) fn so_far(&self) -> ChatAnswer {
        self.answer("accepted", String::new())
    }

    fn answer(&self, status: &str, answer: String) -> ChatAnswer {
        ChatAnswer {
            message_id: self.accepted.message_id.0,
            run_id: self.run.map(|r| r.0),
            status: status.to_owned(),
            answer,
            approval_id: None,
            duplicate: self.accepted.duplicate,
            durability: self.accepted.durability,
        }
    }

    fn streamed(&mut self, chunk: &[u8]) {
        match serde_json::from_slice(chunk) {
            Ok(AnswerChunk::Delta { offset, text }) => {
                let delta = self.assembly.chunk(offset, &text);
                self.push_delta(delta);
            }
            Ok(AnswerChunk::Step { text }) => self.ready.push_back(Update::Step { text }),
            Ok(AnswerChunk::Done { text, status }) if status != RunStatus::Held => {
                let delta = self.assembly.whole(&text);
                self.push_delta(delta);
            }
            // What is held is told by the journal, which names the approval.
            Ok(AnswerChunk::Done { .. }) => {}
            Err(error) => tracing::debug!(%error, "live chunk cannot be read"),
        }
    }

    fn push_delta(&mut self, delta: Option<(usize, String)>) {
        if let Some((offset, text)) = delta {
            self.ready.push_back(Update::Delta { offset, text });
        }
    }

    fn journaled(&mut self, event: &Event) {
        self.run = event.run_id.or(self.run);
        if event.kind == EventType::ActionHeld {
            let mut answer = self.answer("held", String::new());
            answer.approval_id = approval_of(event);
            self.ready.push_back(Update::Held(answer));
            return;
        }
        let (status, text) = ending(event);
        let delta = self.assembly.whole(&text);
        self.push_delta(delta);
        self.ready.push_back(Update::Done(self.answer(&status, text)));
        self.ended = true;
    }
}

/// Waits until an approval can be looked at and voted on: the journal may be ahead of the
/// approver. Its id is told in any case.
async fn stored(store: &dyn Store, tenant: &TenantId, id: ActionId) {
    let known = async {
        while !matches!(store.approval(tenant, id).await, Ok(Some(_))) {
            tokio::time::sleep(STORED_POLL).await;
        }
    };
    if tokio::time::timeout(STORED_WAIT, known).await.is_err() {
        tracing::warn!(action.id = %id, "a held action is not stored yet");
    }
}

fn outcome(accepted: &Accepted) -> &'static str {
    if accepted.duplicate { "duplicate" } else { "accepted" }
}

/// The approval that an `action.held` names.
fn approval_of(event: &Event) -> Option<uuid::Uuid> {
    event.data.get("action_id")?.as_str()?.parse().ok()
}

/// How a terminal event says that the message ended, and what it says to people.
fn ending(event: &Event) -> (String, String) {
    let text = |name: &str| event.data.get(name).and_then(|v| v.as_str()).map(str::to_owned);
    let why = || text("answer").or_else(|| text("error")).or_else(|| text("detail"));
    let why = || why().or_else(|| text("reason")).unwrap_or_default();
    let status = match event.kind {
        EventType::RunCompleted => text("status").unwrap_or_else(|| "success".to_owned()),
        EventType::MessageIgnored => "ignored".to_owned(),
        EventType::MessageUnrouted => "unrouted".to_owned(),
        _ => "failed".to_owned(),
    };
    (status, why())
}
