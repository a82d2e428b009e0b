//! The store port: runs, memory, approvals, keys, and what must happen exactly once.
//!
//! An adapter MUST pass `contract` unchanged. Every method is one transaction, durable
//! when it returns. Every read and write names its tenant, and MUST NOT see another's.

#[cfg(any(test, feature = "testing"))]
pub mod contract;
pub(crate) mod embedded;
#[cfg(any(test, feature = "testing"))]
pub mod faults;
pub mod postgres;
mod record;

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::action::{Approval, ApprovalStatus, HeldAction, RecordedVote};
use crate::clock::UnixMs;
use crate::ids::{
    ActionId, AgentName, FlowName, InstanceName, MessageId, PlatformName, ReplyId, Revision, RunId,
    TenantId,
};
use crate::message::{Address, RunStatus};
use crate::queue::{BoxError, Publication};
use crate::secret::Secret;

pub use record::{Record, Recorded, Together, Unrecorded};

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Did not happen: away, full or shutting down. Try again later.
    #[error("store is unavailable: {reason}")]
    Unavailable {
        /// What was wrong, in lower case.
        reason: String,
        /// The cause.
        #[source]
        source: Option<BoxError>,
    },
    /// May have happened: ask again with the same ids.
    #[error("store gave no answer: {reason}")]
    Unconfirmed {
        /// What was wrong, in lower case.
        reason: String,
    },
    /// What is stored cannot be read; trying again does not help.
    #[error("stored {what} cannot be read")]
    Corrupt {
        /// Which kind of record.
        what: &'static str,
        /// The cause.
        #[source]
        source: BoxError,
    },
}

/// A run about to begin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunStart {
    /// The run.
    pub run: RunId,
    /// Whose.
    pub tenant: TenantId,
    /// The message that started it.
    pub message: MessageId,
    /// The flow.
    pub flow: FlowName,
    /// The agent.
    pub agent: AgentName,
    /// The configuration it runs under, to its end.
    pub revision: Revision,
    /// When.
    pub at_ms: UnixMs,
}

/// What `begin_run` found.
#[derive(Debug, Clone, PartialEq)]
pub enum RunState {
    /// It is new: it starts now.
    Begun,
    /// It had begun; go on from the checkpoint (`None`: no step was finished).
    Resumed {
        /// What the worker saved last.
        checkpoint: Option<serde_json::Value>,
    },
    /// It is over; nothing may run again.
    Finished(RunEnd),
}

/// How a run ended, with everything that is written together with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunEnd {
    /// How.
    pub status: RunStatus,
    /// The answer, Markdown.
    pub answer: String,
    /// Model tokens, prompt and answer.
    pub tokens: u64,
    /// Milliseconds from begin to end, waiting for people included.
    pub elapsed_ms: u64,
    /// When.
    pub at_ms: UnixMs,
}

/// One message of a conversation's memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// `user`, `assistant` or `tool`.
    pub role: String,
    /// What was said.
    pub text: String,
    /// The agent that said it, for answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// When.
    pub at_ms: UnixMs,
}

/// Which history: nobody reads one without naming all three.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MemoryKey {
    /// Whose.
    pub tenant: TenantId,
    /// Which flow's.
    pub flow: FlowName,
    /// Which session, from the agent's strategy.
    pub session: String,
}

/// What `start_action` found.
#[derive(Debug, Clone, PartialEq)]
pub enum ActionStart {
    /// Nobody started it: it may run now, once.
    Fresh,
    /// Somebody started it and its end is unknown: it is `uncertain` now. Never run it.
    Uncertain,
    /// It ended; here is what came of it.
    Ended(ActionEnd),
    /// The stored approval is not approved, or its digest is another.
    NotApproved,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionEnd {
    /// `Executed`, `Failed` or `Uncertain`.
    pub status: ApprovalStatus,
    /// Exit code, output or error, cut to a few kilobytes.
    pub outcome: String,
}

/// A change of an approval from `Pending`.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// `Approved`, `Denied` or `Expired`.
    pub status: ApprovalStatus,
    /// When.
    pub at_ms: UnixMs,
    /// Published after the commit, at least once, by whoever drains the outbox.
    pub outbox: Vec<Publication>,
}

/// What `begin_send` found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendState {
    /// Nobody tried: send it now.
    Fresh,
    /// Somebody tried and its end is unknown: do not send it again.
    Unknown,
    /// It was sent; the platform's id of the message.
    Sent(Option<String>),
}

/// An API key as stored. The key itself is shown once and never kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Public part: names the key in listings and revocations.
    pub id: String,
    /// SHA-256 (hex) of the whole key.
    pub hash: String,
    /// Whose; `None` for the operator's key, which may act for any tenant.
    pub tenant: Option<TenantId>,
    /// Who votes and chats with it.
    pub user: String,
    /// `chat`, `read`, `approve`, `operate`.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at_ms: UnixMs,
    /// From then on it is refused.
    pub expires_at_ms: Option<UnixMs>,
    /// When it was revoked.
    pub revoked_at_ms: Option<UnixMs>,
}

/// A channel's name, as the platform gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelName {
    /// The platform's id.
    pub id: String,
    /// Its name without `#`; `None`: the platform says there is no such channel.
    pub name: Option<String>,
    /// When that was asked.
    pub asked_at_ms: UnixMs,
}

/// Which [`Note`]: one of an account's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NoteKey {
    /// Whose.
    pub tenant: TenantId,
    /// The account's platform.
    pub platform: PlatformName,
    /// The account.
    pub instance: InstanceName,
    /// What it is about, such as `session` or `answer/<message>`.
    pub name: String,
}

/// What a platform's adapter has to know again later, on any node: a session to resume, a
/// token to answer with. It may be a secret, so it stands in no journal, log or listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The text, in the adapter's own terms.
    pub value: Secret,
    /// From then on it is not there, and sooner or later not stored.
    pub expires_at_ms: UnixMs,
}

/// An unpublished outbox entry.
#[derive(Debug, Clone)]
pub struct OutboxEntry {
    /// Its position.
    pub seq: u64,
    /// What to publish.
    pub publication: Publication,
}

/// Filter of `approvals`.
#[derive(Debug, Clone, Default)]
pub struct ApprovalFilter {
    /// Only this status.
    pub status: Option<ApprovalStatus>,
    /// At most so many, newest first.
    pub limit: usize,
}

/// Records.
#[async_trait]
pub trait Store: Send + Sync {
    /// Begins a run, or says that it had begun or is over. From then on `holder`, drawn for
    /// each delivery, is the only one that may save its checkpoint.
    async fn begin_run(&self, start: &RunStart, holder: Uuid) -> Result<RunState, StoreError>;

    /// Replaces the run's checkpoint. `false`: the run is over, or was begun or resumed by
    /// another holder meanwhile, and nothing was written; whoever asked MUST NOT go on.
    async fn save_checkpoint(
        &self,
        tenant: &TenantId,
        run: RunId,
        holder: Uuid,
        checkpoint: &serde_json::Value,
    ) -> Result<bool, StoreError>;

    /// The run as it stands now; `None` when there is none.
    async fn run(
        &self,
        tenant: &TenantId,
        run: RunId,
    ) -> Result<Option<(RunStart, RunState)>, StoreError>;

    /// Ends a run and appends `turns` to its memory, once. `false`: it was over already,
    /// and nothing was written.
    async fn finish_run(
        &self,
        tenant: &TenantId,
        run: RunId,
        end: &RunEnd,
        memory: Option<(&MemoryKey, &[Turn])>,
    ) -> Result<bool, StoreError>;

    /// The newest `limit` turns of a history, oldest first.
    async fn history(&self, key: &MemoryKey, limit: u32) -> Result<Vec<Turn>, StoreError>;

    /// Stores a held action. `false`: it was there already, and stays as it was.
    async fn hold(&self, action: &HeldAction) -> Result<bool, StoreError>;

    /// One approval.
    async fn approval(
        &self,
        tenant: &TenantId,
        id: ActionId,
    ) -> Result<Option<Approval>, StoreError>;

    /// Approvals of a tenant, newest first.
    async fn approvals(
        &self,
        tenant: &TenantId,
        filter: &ApprovalFilter,
    ) -> Result<Vec<Approval>, StoreError>;

    /// The approval that a platform message shows. `at.thread` does not count.
    async fn approval_posted_as(
        &self,
        at: &Address,
        message: &str,
    ) -> Result<Option<Approval>, StoreError>;

    /// Remembers which platform message shows the approval.
    async fn set_posted(
        &self,
        tenant: &TenantId,
        id: ActionId,
        at: &Address,
        message: &str,
    ) -> Result<(), StoreError>;

    /// Records a vote in place of the person's earlier one, while the approval is
    /// pending; returns the approval with it. `None`: not there, or no longer pending.
    async fn record_vote(
        &self,
        tenant: &TenantId,
        id: ActionId,
        vote: &RecordedVote,
    ) -> Result<Option<Approval>, StoreError>;

    /// Compare-and-set from `Pending`, with the outbox in the same transaction.
    /// `false`: somebody was first.
    async fn settle(
        &self,
        tenant: &TenantId,
        id: ActionId,
        settlement: &Settlement,
    ) -> Result<bool, StoreError>;

    /// Pending approvals of all tenants whose time is over at `now_ms`.
    async fn overdue(&self, now_ms: UnixMs, limit: usize) -> Result<Vec<Approval>, StoreError>;

    /// Earliest expiry of any pending approval.
    async fn next_expiry(&self) -> Result<Option<UnixMs>, StoreError>;

    /// Marks an approved action started, once. Compares `digest` with the stored one.
    async fn start_action(
        &self,
        tenant: &TenantId,
        id: ActionId,
        digest: &str,
    ) -> Result<ActionStart, StoreError>;

    /// Records how a started action ended.
    async fn finish_action(
        &self,
        tenant: &TenantId,
        id: ActionId,
        end: &ActionEnd,
    ) -> Result<(), StoreError>;

    /// The oldest unpublished outbox entries.
    async fn outbox(&self, limit: usize) -> Result<Vec<OutboxEntry>, StoreError>;

    /// Forgets published outbox entries.
    async fn outbox_done(&self, seqs: &[u64]) -> Result<(), StoreError>;

    /// Claims a reply for sending, once.
    async fn begin_send(
        &self,
        tenant: &TenantId,
        reply: ReplyId,
        at_ms: UnixMs,
    ) -> Result<SendState, StoreError>;

    /// Records that it was sent, as what.
    async fn finish_send(
        &self,
        tenant: &TenantId,
        reply: ReplyId,
        platform_id: Option<&str>,
    ) -> Result<(), StoreError>;

    /// Takes the claim back: it is certain that nothing was sent.
    async fn abort_send(&self, tenant: &TenantId, reply: ReplyId) -> Result<(), StoreError>;

    /// Stores a new key.
    async fn put_key(&self, key: &ApiKey) -> Result<(), StoreError>;

    /// Stores the operator's first key, unless a key of no tenant is there that counts when
    /// `key` was made: not revoked, not expired. `false`: there is one, and nothing was
    /// stored. Of many callers at once exactly one gets `true`.
    async fn put_first_key(&self, key: &ApiKey) -> Result<bool, StoreError>;

    /// The key with this hash, revoked and expired ones included.
    async fn key_by_hash(&self, hash: &str) -> Result<Option<ApiKey>, StoreError>;

    /// Keys of a tenant; `None` lists everyone's, for operators.
    async fn keys(&self, tenant: Option<&TenantId>) -> Result<Vec<ApiKey>, StoreError>;

    /// Revokes a key of `tenant` (`None`: of anyone). `false`: not there.
    async fn revoke_key(
        &self,
        tenant: Option<&TenantId>,
        id: &str,
        at_ms: UnixMs,
    ) -> Result<bool, StoreError>;

    /// Remembers channel names of an instance.
    async fn put_channels(
        &self,
        tenant: &TenantId,
        platform: &PlatformName,
        instance: &InstanceName,
        channels: &[ChannelName],
    ) -> Result<(), StoreError>;

    /// The remembered name of a channel; `None`: never asked.
    async fn channel(
        &self,
        tenant: &TenantId,
        platform: &PlatformName,
        instance: &InstanceName,
        id: &str,
    ) -> Result<Option<ChannelName>, StoreError>;

    /// Writes a note in place of an earlier one of the same key, and deletes some that have
    /// expired at `now_ms`, whosever.
    async fn put_note(&self, key: &NoteKey, note: &Note, now_ms: UnixMs) -> Result<(), StoreError>;

    /// The note; `None`: never written, or expired at `now_ms`.
    async fn note(&self, key: &NoteKey, now_ms: UnixMs) -> Result<Option<Note>, StoreError>;
}

/// What every role is built from: the ports of one backend.
#[derive(Clone)]
pub struct Ports {
    /// Streams.
    pub queue: Arc<dyn crate::queue::Queue>,
    /// Signals.
    pub live: Arc<dyn crate::queue::Live>,
    /// Limits.
    pub limits: Arc<dyn crate::limit::Limits>,
    /// Records.
    pub store: Arc<dyn Store>,
    /// Commits `queue` and `store` together, where one backend holds both. Whoever puts
    /// another queue or store in place that does more than watch MUST take this away.
    pub together: Option<Arc<dyn Together>>,
    /// Time.
    pub clock: Arc<dyn crate::clock::Clock>,
}
