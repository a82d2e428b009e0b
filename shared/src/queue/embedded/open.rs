//! Opening a consumer: registered between two commits, then fed with what waited.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::oneshot;

use crate::clock::UnixMs;
use crate::ids::TenantId;
use crate::lifecycle::Lifecycle;
use crate::queue::{ConsumerSpec, QueueError};
use crate::sqlite::{DbError, Job};
use crate::subject::Stream;

use super::consumer::Core;
use super::tables::{self, Head, column, of_stream, unsigned};
use super::{Shared, queue_error};
use crate::queue::dispatch::Item;

/// Rows loaded by one read.
const CHUNK_ROWS: usize = 4_096;
/// Rows loaded before the consumer is handed out; the rest follows in the background.
const FIRST_ROWS: usize = 16_384;

/// Failures and due time of messages that failed before.
type Retries = HashMap<u64, (u32, UnixMs)>;

/// Registers the consumer and starts loading.
pub(super) async fn open(
    shared: &Arc<Shared>,
    lifecycle: &Lifecycle,
    spec: &ConsumerSpec,
) -> Result<Arc<Core>, QueueError> {
    let refused = |error| queue_error(error, spec.stream);
    let (answer, answered) = oneshot::channel();
    let job = Register { shared: Arc::clone(shared), spec: spec.clone(), found: None, answer };
    shared.db.submit(Box::new(job)).await.map_err(refused)?;
    let registered = answered.await.map_err(|_| refused(DbError::closed()))?.map_err(refused)?;
    let core = Arc::clone(&registered.core);
    let mut loader = Loader::new(shared, registered);
    while loader.rows < FIRST_ROWS {
        if loader.step(shared).await.map_err(refused)? {
            return Ok(core);
        }
    }
    let weak = Arc::downgrade(shared);
    lifecycle.spawn(async move {
        // Holding the queue only for a step lets it close while this still loads.
        while let Some(shared) = weak.upgrade() {
            match loader.step(&shared).await {
                Ok(false) => {}
                Ok(true) => break,
                Err(error) => {
                    tracing::error!(%error, "a consumer's backlog could not be loaded");
                    break;
                }
            }
        }
    });
    Ok(core)
}

struct Registered {
    core: Arc<Core>,
    /// Everything up to here is loaded from disk; what comes after is handed over.
    upto: u64,
    floor: u64,
    retries: Retries,
}

/// Makes the consumer's row and puts it on the list of those that get new messages.
struct Register {
    shared: Arc<Shared>,
    spec: ConsumerSpec,
    found: Option<Registered>,
    answer: oneshot::Sender<Result<Registered, DbError>>,
}

fn consumer_id(conn: &Connection, spec: &ConsumerSpec) -> Result<i64, DbError> {
    let key = params![column(spec.stream), spec.name];
    let find = "SELECT id FROM consumers WHERE stream = ? AND name = ?";
    if let Some(id) = conn.query_row(find, key, |row| row.get(0)).optional()? {
        return Ok(id);
    }
    conn.execute("INSERT INTO consumers (stream, name, floor) VALUES (?, ?, 0)", key)?;
    Ok(conn.last_insert_rowid())
}

fn retries(conn: &Connection, consumer: i64) -> Result<Retries, DbError> {
    let sql = "SELECT seq, failures, due_at_ms FROM retries WHERE consumer = ?";
    let mut statement = conn.prepare(sql)?;
    let rows = statement.query_map([consumer], |row| {
        Ok((unsigned(row.get(0)?), (row.get(1)?, unsigned(row.get(2)?))))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The first message that the stream still holds; 0: none.
fn oldest(conn: &Connection, stream: Stream) -> Result<u64, DbError> {
    let sql = of_stream!(stream, "SELECT min(seq) FROM ", "");
    let first: Option<i64> = conn.query_row(sql, [], |row| row.get(0))?;
    Ok(first.map_or(0, unsigned))
}

impl Job for Register {
    fn run(&mut self, conn: &Connection) -> Result<(), DbError> {
        let id = consumer_id(conn, &self.spec)?;
        let mut ledger = self.shared.ledger.lock();
        let floor = if self.spec.stream.is_work_queue() {
            0
        } else {
            let progress = ledger.progress(conn, id)?;
            progress.raise_floor(oldest(conn, self.spec.stream)?.saturating_sub(1));
            progress.floor()
        };
        self.found = Some(Registered {
            core: Arc::new(Core::new(id, &self.spec, &self.shared)),
            upto: ledger.meta(self.spec.stream).last_seq,
            floor,
            retries: retries(conn, id)?,
        });
        Ok(())
    }

    fn done(self: Box<Self>, outcome: Result<(), DbError>) {
        let Self { shared, found, answer, .. } = *self;
        let registered = outcome.and_then(|()| found.ok_or_else(DbError::closed));
        if let Ok(registered) = &registered {
            shared.register(Arc::clone(&registered.core));
        }
        // An opener that gave up opens again and finds it registered.
        let _ = answer.send(registered);
    }
}

/// Reads heads in order and feeds them to the consumer.
struct Loader {
    core: Arc<Core>,
    after: u64,
    upto: u64,
    rows: usize,
    retries: Retries,
    tenants: HashMap<TenantId, TenantId>,
}

impl Loader {
    fn new(shared: &Shared, registered: Registered) -> Self {
        let Registered { core, upto, floor, retries } = registered;
        tracing::debug!(stream = %core.stream, consumer = %core.name, floor, upto, "loading");
        debug_assert!(upto <= shared.ledger.lock().meta(core.stream).last_seq);
        Self { core, after: floor, upto, rows: 0, retries, tenants: HashMap::new() }
    }

    /// Loads one chunk. `true`: that was all.
    async fn step(&mut self, shared: &Arc<Shared>) -> Result<bool, DbError> {
        let (stream, after, upto) = (self.core.stream, self.after, self.upto);
        let read =
            shared.db.read(move |conn| tables::heads(conn, stream, (after, upto), CHUNK_ROWS));
        let heads = read.await?;
        let all = heads.len() < CHUNK_ROWS;
        self.rows += heads.len();
        self.after = heads.last().map_or(upto, |head| head.seq);
        let (items, skipped) = self.sort_out(shared, heads);
        self.core.load(items);
        if !skipped.is_empty() {
            let (ledger, id) = (shared.ledger.clone(), self.core.id);
            shared.db.write(move |conn| ledger.lock().ack(conn, id, &skipped)).await?;
        }
        if all {
            self.core.loaded();
        }
        Ok(all)
    }

    /// Items to deliver, and messages that the consumer's filter leaves out.
    fn sort_out(&mut self, shared: &Shared, heads: Vec<Head>) -> (Vec<Item>, Vec<u64>) {
        let history = !self.core.stream.is_work_queue();
        let mut items = Vec::with_capacity(heads.len());
        let mut skipped = Vec::new();
        let ledger = shared.ledger.lock();
        for head in heads {
            if history && ledger.is_acked(self.core.id, head.seq) {
                continue;
            }
            if !self.core.wants(&head.rest) {
                if history {
                    skipped.push(head.seq);
                }
                continue;
            }
            items.push(self.item(head));
        }
        (items, skipped)
    }

    fn item(&mut self, head: Head) -> Item {
        let (failures, due_at_ms) = self.retries.remove(&head.seq).unwrap_or_default();
        // A million items of one tenant share its name.
        let tenant = self.tenants.entry(head.tenant.clone()).or_insert(head.tenant).clone();
        Item { seq: head.seq, tenant, priority: head.priority, key: head.key, failures, due_at_ms }
    }
}
