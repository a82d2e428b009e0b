//! A store whose answers get lost, from a seed: for contract suites and simulations.
//!
//! What it injects stays inside the port's promises: a refusal is `Unavailable` and nothing
//! happened; a lost answer is `Unconfirmed` and it did.

use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use crate::action::{Approval, HeldAction, RecordedVote};
use crate::clock::UnixMs;
use crate::ids::{ActionId, InstanceName, PlatformName, ReplyId, RunId, TenantId};
use crate::message::Address;
use crate::queue::faults::{Dice, Fault};
use crate::store::{
    ActionEnd, ActionStart, ApiKey, ApprovalFilter, ChannelName, MemoryKey, Note, NoteKey,
    OutboxEntry, RunEnd, RunStart, RunState, SendState, Settlement, Store, StoreError, Turn,
};

/// Wraps a store.
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    dice: Arc<Dice>,
}

impl FaultyStore {
    /// `inner`, with the faults that `dice` rolls.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, dice: Arc<Dice>) -> Self {
        Self { inner, dice }
    }

    async fn write<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.dice.maybe_late().await;
        match self.dice.fault() {
            Fault::Before => Err(unavailable()),
            Fault::After => work.await.and(Err(unconfirmed())),
            Fault::None => work.await,
        }
    }

    /// A read has no effect to be in doubt about.
    async fn read<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.dice.maybe_late().await;
        match self.dice.fault() {
            Fault::Before | Fault::After => Err(unavailable()),
            Fault::None => work.await,
        }
    }
}

fn unavailable() -> StoreError {
    StoreError::Unavailable { reason: "injected fault".to_owned(), source: None }
}

fn unconfirmed() -> StoreError {
    StoreError::Unconfirmed { reason: "injected fault".to_owned() }
}

#[async_trait]
impl Store for FaultyStore {
    async fn begin_run(&self, start: &RunStart, holder: Uuid) -> Result<RunState, StoreError> {
        self.write(self.inner.begin_run(start, holder)).await
    }

    async fn save_checkpoint(
        &self,
        tenant: &TenantId,
        run: RunId,
        holder: Uuid,
        checkpoint: &serde_json::Value,
    ) -> Result<bool, StoreError> {
        self.write(self.inner.save_checkpoint(tenant, run, holder, checkpoint)).await
    }

    async fn run(
        &self,
        tenant: &TenantId,
        run: RunId,
    ) -> Result<Option<(RunStart, RunState)>, StoreError> {
        self.read(self.inner.run(tenant, run)).await
    }

    async fn finish_run(
        &self,
        tenant: &TenantId,
        run: RunId,
        end: &RunEnd,
        memory: Option<(&MemoryKey, &[Turn])>,
    ) -> Result<bool, StoreError> {
        self.write(self.inner.finish_run(tenant, run, end, memory)).await
    }

    async fn history(&self, key: &MemoryKey, limit: u32) -> Result<Vec<Turn>, StoreError> {
        self.read(self.inner.history(key, limit)).await
    }

    async fn hold(&self, action: &HeldAction) -> Result<bool, StoreError> {
        self.write(self.inner.hold(action)).await
    }

    async fn approval(
        &self,
        tenant: &TenantId,
        id: ActionId,
    ) -> Result<Option<Approval>, StoreError> {
        self.read(self.inner.approval(tenant, id)).await
    }

    async fn approvals(
        &self,
        tenant: &TenantId,
        filter: &ApprovalFilter,
    ) -> Result<Vec<Approval>, StoreError> {
        self.read(self.inner.approvals(tenant, filter)).await
    }

    async fn approval_posted_as(
        &self,
        at: &Address,
        message: &str,
    ) -> Result<Option<Approval>, StoreError> {
        self.read(self.inner.approval_posted_as(at, message)).await
    }

    async fn set_posted(
        &self,
        tenant: &TenantId,
        id: ActionId,
        at: &Address,
        message: &str,
    ) -> Result<(), StoreError> {
        self.write(self.inner.set_posted(tenant, id, at, message)).await
    }

    async fn record_vote(
        &self,
        tenant: &TenantId,
        id: ActionId,
        vote: &RecordedVote,
    ) -> Result<Option<Approval>, StoreError> {
        self.write(self.inner.record_vote(tenant, id, vote)).await
    }

    async fn settle(
        &self,
        tenant: &TenantId,
        id: ActionId,
        settlement: &Settlement,
    ) -> Result<bool, StoreError> {
        self.write(self.inner.settle(tenant, id, settlement)).await
    }

    async fn overdue(&self, now_ms: UnixMs, limit: usize) -> Result<Vec<Approval>, StoreError> {
        self.read(self.inner.overdue(now_ms, limit)).await
    }

    async fn next_expiry(&self) -> Result<Option<UnixMs>, StoreError> {
        self.read(self.inner.next_expiry()).await
    }

    async fn start_action(
        &self,
        tenant: &TenantId,
        id: ActionId,
        digest: &str,
    ) -> Result<ActionStart, StoreError> {
        self.write(self.inner.start_action(tenant, id, digest)).await
    }

    async fn finish_action(
        &self,
        tenant: &TenantId,
        id: ActionId,
        end: &ActionEnd,
    ) -> Result<(), StoreError> {
        self.write(self.inner.finish_action(tenant, id, end)).await
    }

    async fn outbox(&self, limit: usize) -> Result<Vec<OutboxEntry>, StoreError> {
        self.read(self.inner.outbox(limit)).await
    }

    async fn outbox_done(&self, seqs: &[u64]) -> Result<(), StoreError> {
        self.write(self.inner.outbox_done(seqs)).await
    }

    async fn begin_send(
        &self,
        tenant: &TenantId,
        reply: ReplyId,
        at_ms: UnixMs,
    ) -> Result<SendState, StoreError> {
        self.write(self.inner.begin_send(tenant, reply, at_ms)).await
    }

    async fn finish_send(
        &self,
        tenant: &TenantId,
        reply: ReplyId,
        platform_id: Option<&str>,
    ) -> Result<(), StoreError> {
        self.write(self.inner.finish_send(tenant, reply, platform_id)).await
    }

    async fn abort_send(&self, tenant: &TenantId, reply: ReplyId) -> Result<(), StoreError> {
        self.write(self.inner.abort_send(tenant, reply)).await
    }

    async fn put_key(&self, key: &ApiKey) -> Result<(), StoreError> {
        self.write(self.inner.put_key(key)).await
    }

    async fn put_first_key(&self, key: &ApiKey) -> Result<bool, StoreError> {
        self.write(self.inner.put_first_key(key)).await
    }

    async fn key_by_hash(&self, hash: &str) -> Result<Option<ApiKey>, StoreError> {
        self.read(self.inner.key_by_hash(hash)).await
    }

    async fn keys(&self, tenant: Option<&TenantId>) -> Result<Vec<ApiKey>, StoreError> {
        self.read(self.inner.keys(tenant)).await
    }

    async fn revoke_key(
        &self,
        tenant: Option<&TenantId>,
        id: &str,
        at_ms: UnixMs,
    ) -> Result<bool, StoreError> {
        self.write(self.inner.revoke_key(tenant, id, at_ms)).await
    }

    async fn put_channels(
        &self,
        tenant: &TenantId,
        platform: &PlatformName,
        instance: &InstanceName,
        channels: &[ChannelName],
    ) -> Result<(), StoreError> {
        self.write(self.inner.put_channels(tenant, platform, instance, channels)).await
    }

    async fn channel(
        &self,
        tenant: &TenantId,
        platform: &PlatformName,
        instance: &InstanceName,
        id: &str,
    ) -> Result<Option<ChannelName>, StoreError> {
        self.read(self.inner.channel(tenant, platform, instance, id)).await
    }

    async fn put_note(&self, key: &NoteKey, note: &Note, now_ms: UnixMs) -> Result<(), StoreError> {
        self.write(self.inner.put_note(key, note, now_ms)).await
    }

    async fn note(&self, key: &NoteKey, now_ms: UnixMs) -> Result<Option<Note>, StoreError> {
        self.read(self.inner.note(key, now_ms)).await
    }
}
