//! The store on PostgreSQL: one schema a cluster, shared by all its nodes.
//!
//! A method is one transaction. What every message costs (runs, checkpoints, claims of
//! replies) is written in groups, see [`lane`]; the rest is one statement each over a few
//! connections. A compare-and-set is an `UPDATE` whose `WHERE` holds the comparison:
//! PostgreSQL looks again after it waited for somebody else's. Every statement names the
//! tenant.

mod approvals;
mod db;
mod lane;
mod migrate;
mod notes;
mod open;
mod outbox;
mod records;
mod runs;
mod sends;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use crate::action::{Approval, HeldAction, RecordedVote};
use crate::clock::UnixMs;
use crate::ids::{ActionId, InstanceName, PlatformName, ReplyId, RunId, TenantId};
use crate::lifecycle::Lifecycle;
use crate::message::Address;
use crate::store::{
    ActionEnd, ActionStart, ApiKey, ApprovalFilter, ChannelName, MemoryKey, Note, NoteKey,
    OutboxEntry, RunEnd, RunStart, RunState, SendState, Settlement, Store, StoreError, Turn,
};

use db::{Db, int, json};
use lane::Lane;

pub use open::{OpenError, PostgresOptions};

/// The adapter.
struct PostgresStore {
    db: Arc<Db>,
    begins: Lane<runs::Begin>,
    checkpoints: Lane<runs::Checkpoint>,
    ends: Lane<runs::Finish>,
    claims: Lane<sends::Claim>,
    sent: Lane<sends::Sent>,
    /// Names this process where entries of the outbox are claimed.
    node: Uuid,
}

/// Opens the records of a cluster, and makes or upgrades their schema. With the store come
/// findings: settings of the server that can lose confirmed records, in plain words.
///
/// `lifecycle` owns the writers, which write what waits and end when it stops; stop it after
/// every role has ended.
///
/// # Errors
/// [`OpenError`]; nothing keeps running then.
pub async fn open(
    options: &PostgresOptions,
    lifecycle: &Lifecycle,
) -> Result<(Arc<dyn Store>, Vec<String>), OpenError> {
    let (connect, at) = open::parse(options)?;
    let findings = open::check(&connect, &at).await?;
    let db = Arc::new(Db::new(connect.clone()));
    let (closing, stop) = (Arc::clone(&db), lifecycle.clone());
    lifecycle.spawn(async move {
        stop.stopped().await;
        closing.close().await;
    });
    let connect = lane::session(connect);
    let store = PostgresStore {
        db,
        begins: Lane::start(connect.clone(), lifecycle),
        checkpoints: Lane::start(connect.clone(), lifecycle),
        ends: Lane::start(connect.clone(), lifecycle),
        claims: Lane::start(connect.clone(), lifecycle),
        sent: Lane::start(connect, lifecycle),
        node: Uuid::now_v7(),
    };
    Ok((Arc::new(store), findings))
}

#[async_trait]
impl Store for PostgresStore {
    async fn begin_run(&self, start: &RunStart, holder: Uuid) -> Result<RunState, StoreError> {
        self.begins.write(runs::Beginning::of(start, holder)?).await?
    }

    async fn save_checkpoint(
        &self,
        tenant: &TenantId,
        run: RunId,
        holder: Uuid,
        checkpoint: &serde_json::Value,
    ) -> Result<bool, StoreError> {
        let (tenant, checkpoint) = (tenant.clone(), json("checkpoint", checkpoint)?);
        self.checkpoints.write(runs::Saved { tenant, run, holder, checkpoint }).await
    }

    async fn run(
        &self,
        tenant: &TenantId,
        run: RunId,
    ) -> Result<Option<(RunStart, RunState)>, StoreError> {
        runs::get(&self.db, tenant, run).await
    }

    async fn finish_run(
        &self,
        tenant: &TenantId,
        run: RunId,
        end: &RunEnd,
        memory: Option<(&MemoryKey, &[Turn])>,
    ) -> Result<bool, StoreError> {
        self.ends.write(runs::Ending::of(tenant, run, end, memory)?).await
    }

    async fn history(&self, key: &MemoryKey, limit: u32) -> Result<Vec<Turn>, StoreError> {
        runs::history(&self.db, key, limit).await
    }

    async fn hold(&self, action: &HeldAction) -> Result<bool, StoreError> {
        approvals::hold(&self.db, action).await
    }

    async fn approval(
        &self,
        tenant: &TenantId,
        id: ActionId,
    ) -> Result<Option<Approval>, StoreError> {
        approvals::get(&self.db, tenant, id).await
    }

    async fn approvals(
        &self,
        tenant: &TenantId,
        filter: &ApprovalFilter,
    ) -> Result<Vec<Approval>, StoreError> {
        approvals::list(&self.db, tenant, filter).await
    }

    async fn approval_posted_as(
        &self,
        at: &Address,
        message: &str,
    ) -> Result<Option<Approval>, StoreError> {
        approvals::posted_as(&self.db, at, message).await
    }

    async fn set_posted(
        &self,
        tenant: &TenantId,
        id: ActionId,
        at: &Address,
        message: &str,
    ) -> Result<(), StoreError> {
        approvals::set_posted(&self.db, tenant, id, (at, message)).await
    }

    async fn record_vote(
        &self,
        tenant: &TenantId,
        id: ActionId,
        vote: &RecordedVote,
    ) -> Result<Option<Approval>, StoreError> {
        approvals::record_vote(&self.db, tenant, id, vote).await
    }

    async fn settle(
        &self,
        tenant: &TenantId,
        id: ActionId,
        settlement: &Settlement,
    ) -> Result<bool, StoreError> {
        approvals::settle(&self.db, tenant, id, settlement).await
    }

    async fn overdue(&self, now_ms: UnixMs, limit: usize) -> Result<Vec<Approval>, StoreError> {
        approvals::overdue(&self.db, now_ms, limit).await
    }

    async fn next_expiry(&self) -> Result<Option<UnixMs>, StoreError> {
        approvals::next_expiry(&self.db).await
    }

    async fn start_action(
        &self,
        tenant: &TenantId,
        id: ActionId,
        digest: &str,
    ) -> Result<ActionStart, StoreError> {
        approvals::start(&self.db, tenant, id, digest).await
    }

    async fn finish_action(
        &self,
        tenant: &TenantId,
        id: ActionId,
        end: &ActionEnd,
    ) -> Result<(), StoreError> {
        approvals::finish(&self.db, tenant, id, end).await
    }

    async fn outbox(&self, limit: usize) -> Result<Vec<OutboxEntry>, StoreError> {
        outbox::oldest(&self.db, self.node, limit).await
    }

    async fn outbox_done(&self, seqs: &[u64]) -> Result<(), StoreError> {
        outbox::done(&self.db, seqs).await
    }

    async fn begin_send(
        &self,
        tenant: &TenantId,
        reply: ReplyId,
        at_ms: UnixMs,
    ) -> Result<SendState, StoreError> {
        let (tenant, at_ms) = (tenant.clone(), int(at_ms));
        self.claims.write(sends::Claiming { tenant, reply, at_ms }).await?
    }

    async fn finish_send(
        &self,
        tenant: &TenantId,
        reply: ReplyId,
        platform_id: Option<&str>,
    ) -> Result<(), StoreError> {
        let platform_id = platform_id.map(|id| id.as_bytes().to_vec());
        self.sent.write(sends::Sending { tenant: tenant.clone(), reply, platform_id }).await
    }

    async fn abort_send(&self, tenant: &TenantId, reply: ReplyId) -> Result<(), StoreError> {
        sends::abort(&self.db, tenant, reply).await
    }

    async fn put_key(&self, key: &ApiKey) -> Result<(), StoreError> {
        records::put_key(&self.db, key).await
    }

    async fn put_first_key(&self, key: &ApiKey) -> Result<bool, StoreError> {
        records::put_first_key(&self.db, key).await
    }

    async fn key_by_hash(&self, hash: &str) -> Result<Option<ApiKey>, StoreError> {
        records::key_by_hash(&self.db, hash).await
    }

    async fn keys(&self, tenant: Option<&TenantId>) -> Result<Vec<ApiKey>, StoreError> {
        records::keys(&self.db, tenant).await
    }

    async fn revoke_key(
        &self,
        tenant: Option<&TenantId>,
        id: &str,
        at_ms: UnixMs,
    ) -> Result<bool, StoreError> {
        records::revoke_key(&self.db, tenant, id, at_ms).await
    }

    async fn put_channels(
        &self,
        tenant: &TenantId,
        platform: &PlatformName,
        instance: &InstanceName,
        channels: &[ChannelName],
    ) -> Result<(), StoreError> {
        records::put_channels(&self.db, (tenant, platform, instance), channels).await
    }

    async fn channel(
        &self,
        tenant: &TenantId,
        platform: &PlatformName,
        instance: &InstanceName,
        id: &str,
    ) -> Result<Option<ChannelName>, StoreError> {
        records::channel(&self.db, (tenant, platform, instance), id).await
    }

    async fn put_note(&self, key: &NoteKey, note: &Note, now_ms: UnixMs) -> Result<(), StoreError> {
        notes::put(&self.db, key, note, now_ms).await
    }

    async fn note(&self, key: &NoteKey, now_ms: UnixMs) -> Result<Option<Note>, StoreError> {
        notes::get(&self.db, key, now_ms).await
    }
}
