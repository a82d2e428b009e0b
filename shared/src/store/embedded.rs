//! The store on SQLite. Every write is one job of the writer, so its transaction may hold
//! neighbours' work too; every statement names the tenant.

mod approvals;
mod holders;
mod notes;
mod outbox;
pub(crate) mod record;
mod records;
pub(crate) mod rows;
mod runs;

use async_trait::async_trait;
use rusqlite::Connection;
use uuid::Uuid;

use crate::action::{Approval, HeldAction, RecordedVote};
use crate::clock::UnixMs;
use crate::ids::{ActionId, InstanceName, PlatformName, ReplyId, RunId, TenantId};
use crate::message::Address;
use crate::sqlite::{Db, DbError};
use crate::store::{
    ActionEnd, ActionStart, ApiKey, ApprovalFilter, ChannelName, MemoryKey, Note, NoteKey,
    OutboxEntry, RunEnd, RunStart, RunState, SendState, Settlement, Store, StoreError, Turn,
};

use holders::Holders;
use rows::Rows;

/// The adapter.
pub(crate) struct EmbeddedStore {
    db: Db,
    rows: Rows,
    holders: Holders,
}

impl EmbeddedStore {
    /// `rows` is a hook of `db`.
    pub(crate) fn new(db: Db, rows: Rows) -> Self {
        Self { db, rows, holders: Holders::default() }
    }

    async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<T, DbError> + Send + 'static,
    {
        self.db.write(work).await.map_err(store_error)
    }

    async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, DbError> + Send + 'static,
    {
        self.db.read(work).await.map_err(store_error)
    }
}

fn store_error(error: DbError) -> StoreError {
    match error {
        DbError::Unconfirmed { reason } => StoreError::Unconfirmed { reason },
        DbError::Corrupt { what, .. } => StoreError::Corrupt { what, source: Box::new(error) },
        DbError::Full | DbError::Unavailable { .. } => {
            StoreError::Unavailable { reason: error.to_string(), source: Some(Box::new(error)) }
        }
    }
}

/// Reads a JSON column.
fn from_json<T: serde::de::DeserializeOwned>(what: &'static str, text: &str) -> Result<T, DbError> {
    serde_json::from_str(text).map_err(|e| DbError::Corrupt { what, reason: e.to_string() })
}

/// Writes a JSON column.
fn to_json<T: serde::Serialize>(what: &'static str, value: &T) -> Result<String, DbError> {
    serde_json::to_string(value).map_err(|e| DbError::Corrupt { what, reason: e.to_string() })
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn begin_run(&self, start: &RunStart, holder: Uuid) -> Result<RunState, StoreError> {
        let (start, rows, holders) = (start.clone(), self.rows.clone(), self.holders.clone());
        let begin = move |conn: &Connection| {
            let state = runs::begin(conn, &rows, &start)?;
            if !matches!(state, RunState::Finished(_)) {
                holders.set(&start.tenant, start.run, holder);
            }
            Ok(state)
        };
        self.write(begin).await
    }

    async fn save_checkpoint(
        &self,
        tenant: &TenantId,
        run: RunId,
        holder: Uuid,
        checkpoint: &serde_json::Value,
    ) -> Result<bool, StoreError> {
        let (tenant, text, rows) = (tenant.clone(), checkpoint.to_string(), self.rows.clone());
        let holders = self.holders.clone();
        let save = move |conn: &Connection| {
            let holds = holders.is(&tenant, run, holder);
            Ok(holds && runs::save_checkpoint(conn, &rows, (&tenant, run), &text)?)
        };
        self.write(save).await
    }

    async fn run(
        &self,
        tenant: &TenantId,
        run: RunId,
    ) -> Result<Option<(RunStart, RunState)>, StoreError> {
        let (tenant, rows) = (tenant.clone(), self.rows.clone());
        self.read(move |conn| runs::get(conn, &rows, &tenant, run)).await
    }

    async fn finish_run(
        &self,
        tenant: &TenantId,
        run: RunId,
        end: &RunEnd,
        memory: Option<(&MemoryKey, &[Turn])>,
    ) -> Result<bool, StoreError> {
        let (tenant, end, rows) = (tenant.clone(), end.clone(), self.rows.clone());
        let memory = memory.map(|(key, turns)| (key.clone(), turns.to_vec()));
        let holders = self.holders.clone();
        let with = move |conn: &Connection| {
            holders.forget(&tenant, run);
            runs::finish(conn, &rows, (&tenant, run), (&end, memory.as_ref()))
        };
        self.write(with).await
    }

    async fn history(&self, key: &MemoryKey, limit: u32) -> Result<Vec<Turn>, StoreError> {
        let key = key.clone();
        self.read(move |conn| runs::history(conn, &key, limit)).await
    }

    async fn hold(&self, action: &HeldAction) -> Result<bool, StoreError> {
        let action = action.clone();
        self.write(move |conn| approvals::hold(conn, &action)).await
    }

    async fn approval(
        &self,
        tenant: &TenantId,
        id: ActionId,
    ) -> Result<Option<Approval>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |conn| approvals::get(conn, &tenant, id)).await
    }

    async fn approvals(
        &self,
        tenant: &TenantId,
        filter: &ApprovalFilter,
    ) -> Result<Vec<Approval>, StoreError> {
        let (tenant, filter) = (tenant.clone(), filter.clone());
        self.read(move |conn| approvals::list(conn, &tenant, &filter)).await
    }

    async fn approval_posted_as(
        &self,
        at: &Address,
        message: &str,
    ) -> Result<Option<Approval>, StoreError> {
        let (at, message) = (at.clone(), message.to_owned());
        self.read(move |conn| approvals::posted_as(conn, &at, &message)).await
    }

    async fn set_posted(
        &self,
        tenant: &TenantId,
        id: ActionId,
        at: &Address,
        message: &str,
    ) -> Result<(), StoreError> {
        let (tenant, at, message) = (tenant.clone(), at.clone(), message.to_owned());
        self.write(move |conn| approvals::set_posted(conn, &tenant, id, (&at, &message))).await
    }

    async fn record_vote(
        &self,
        tenant: &TenantId,
        id: ActionId,
        vote: &RecordedVote,
    ) -> Result<Option<Approval>, StoreError> {
        let (tenant, vote) = (tenant.clone(), vote.clone());
        self.write(move |conn| approvals::record_vote(conn, &tenant, id, &vote)).await
    }

    async fn settle(
        &self,
        tenant: &TenantId,
        id: ActionId,
        settlement: &Settlement,
    ) -> Result<bool, StoreError> {
        let (tenant, settlement) = (tenant.clone(), settlement.clone());
        self.write(move |conn| approvals::settle(conn, &tenant, id, &settlement)).await
    }

    async fn overdue(&self, now_ms: UnixMs, limit: usize) -> Result<Vec<Approval>, StoreError> {
        self.read(move |conn| approvals::overdue(conn, now_ms, limit)).await
    }

    async fn next_expiry(&self) -> Result<Option<UnixMs>, StoreError> {
        self.read(approvals::next_expiry).await
    }

    async fn start_action(
        &self,
        tenant: &TenantId,
        id: ActionId,
        digest: &str,
    ) -> Result<ActionStart, StoreError> {
        let (tenant, digest) = (tenant.clone(), digest.to_owned());
        self.write(move |conn| approvals::start(conn, &tenant, id, &digest)).await
    }

    async fn finish_action(
        &self,
        tenant: &TenantId,
        id: ActionId,
        end: &ActionEnd,
    ) -> Result<(), StoreError> {
        let (tenant, end) = (tenant.clone(), end.clone());
        self.write(move |conn| approvals::finish(conn, &tenant, id, &end)).await
    }

    async fn outbox(&self, limit: usize) -> Result<Vec<OutboxEntry>, StoreError> {
        self.read(move |conn| outbox::oldest(conn, limit)).await
    }

    async fn outbox_done(&self, seqs: &[u64]) -> Result<(), StoreError> {
        let seqs = seqs.to_vec();
        self.write(move |conn| outbox::done(conn, &seqs)).await
    }

    async fn begin_send(
        &self,
        tenant: &TenantId,
        reply: ReplyId,
        at_ms: UnixMs,
    ) -> Result<SendState, StoreError> {
        let (tenant, rows) = (tenant.clone(), self.rows.clone());
        self.write(move |conn| outbox::begin_send(conn, &rows, (&tenant, reply), at_ms)).await
    }

    async fn finish_send(
        &self,
        tenant: &TenantId,
        reply: ReplyId,
        platform_id: Option<&str>,
    ) -> Result<(), StoreError> {
        let (tenant, id, rows) =
            (tenant.clone(), platform_id.map(ToOwned::to_owned), self.rows.clone());
        let with = move |conn: &Connection| {
            outbox::finish_send(conn, &rows, (&tenant, reply), id.as_deref())
        };
        self.write(with).await
    }

    async fn abort_send(&self, tenant: &TenantId, reply: ReplyId) -> Result<(), StoreError> {
        let (tenant, rows) = (tenant.clone(), self.rows.clone());
        self.write(move |conn| outbox::abort_send(conn, &rows, (&tenant, reply))).await
    }

    async fn put_key(&self, key: &ApiKey) -> Result<(), StoreError> {
        let key = key.clone();
        self.write(move |conn| records::put_key(conn, &key)).await
    }

    async fn put_first_key(&self, key: &ApiKey) -> Result<bool, StoreError> {
        let key = key.clone();
        self.write(move |conn| records::put_first_key(conn, &key)).await
    }

    async fn key_by_hash(&self, hash: &str) -> Result<Option<ApiKey>, StoreError> {
        let hash = hash.to_owned();
        self.read(move |conn| records::key_by_hash(conn, &hash)).await
    }

    async fn keys(&self, tenant: Option<&TenantId>) -> Result<Vec<ApiKey>, StoreError> {
        let tenant = tenant.cloned();
        self.read(move |conn| records::keys(conn, tenant.as_ref())).await
    }

    async fn revoke_key(
        &self,
        tenant: Option<&TenantId>,
        id: &str,
        at_ms: UnixMs,
    ) -> Result<bool, StoreError> {
        let (tenant, id) = (tenant.cloned(), id.to_owned());
        self.write(move |conn| records::revoke_key(conn, tenant.as_ref(), &id, at_ms)).await
    }

    async fn put_channels(
        &self,
        tenant: &TenantId,
        platform: &PlatformName,
        instance: &InstanceName,
        channels: &[ChannelName],
    ) -> Result<(), StoreError> {
        let of = (tenant.clone(), platform.clone(), instance.clone());
        let channels = channels.to_vec();
        self.write(move |conn| records::put_channels(conn, &of, &channels)).await
    }

    async fn channel(
        &self,
        tenant: &TenantId,
        platform: &PlatformName,
        instance: &InstanceName,
        id: &str,
    ) -> Result<Option<ChannelName>, StoreError> {
        let of = (tenant.clone(), platform.clone(), instance.clone());
        let id = id.to_owned();
        self.read(move |conn| records::channel(conn, &of, &id)).await
    }

    async fn put_note(&self, key: &NoteKey, note: &Note, now_ms: UnixMs) -> Result<(), StoreError> {
        let (key, note) = (key.clone(), note.clone());
        self.write(move |conn| notes::put(conn, &key, &note, now_ms)).await
    }

    async fn note(&self, key: &NoteKey, now_ms: UnixMs) -> Result<Option<Note>, StoreError> {
        let key = key.clone();
        self.read(move |conn| notes::get(conn, &key, now_ms)).await
    }
}
