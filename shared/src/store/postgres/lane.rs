//! Writes in groups: what waits while the last statement runs is the next statement.
//!
//! A row alone costs a round trip and a flush of the log; a hundred together cost hardly
//! more. Each kind of hot write has a lane: a bounded queue and one task with one
//! connection. A group is one statement, so it is one transaction and one round trip.
//!
//! A group that is refused for what one of its rows holds is halved until the row is alone,
//! so a bad row fails nobody else. Nothing is sent twice when it may have happened.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;
use std::io::ErrorKind;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::db::{ANSWER_WAIT_MS, Failure, IDLE_CHECK_MS};
use super::open::CONNECT_WAIT_MS;
use crate::lifecycle::Lifecycle;
use crate::store::StoreError;

/// Writes that may wait in a lane; then callers wait for room.
const MAX_WAITING: usize = 4_096;
/// Most rows in one statement.
const MAX_GROUP: usize = 512;
/// Most bytes in one statement, of what the rows hold.
const MAX_GROUP_BYTES: usize = 8 * 1024 * 1024;
/// Longest wait for room, in ms.
const ROOM_WAIT_MS: u64 = 2_000;
/// Longest wait for the outcome, in ms: a statement that runs, and one's own.
const OUTCOME_WAIT_MS: u64 = 2 * ANSWER_WAIT_MS + CONNECT_WAIT_MS;
/// Pause between attempts to connect, in ms.
const CONNECT_PAUSE_MS: u64 = 50;
/// Longest search for the row that spoils a group, in ms; the rest is refused then.
const HALVING_MS: u64 = 10_000;

/// The server ends a statement that waits this long for somebody's lock: the search for the
/// locked row takes one such wait a halving.
const LOCK_TIMEOUT_MS: u64 = 500;

/// The settings of a lane's session, over those of any session.
pub(super) fn session(options: PgConnectOptions) -> PgConnectOptions {
    options.options([
        // A lane meets tables of any size: each statement is planned for the size of now.
        ("plan_cache_mode", "force_custom_plan".to_owned()),
        ("lock_timeout", LOCK_TIMEOUT_MS.to_string()),
    ])
}

/// One kind of write.
pub(super) trait Kind: Send + 'static {
    /// What is written.
    type Item: Send + Sync + 'static;
    /// What the writer learns.
    type Answer: Send + 'static;
    /// Two writes with one key never share a statement.
    type Key: Hash + Eq + Ord;
    /// For logs.
    const NAME: &'static str;

    /// The row that it is about.
    fn key(item: &Self::Item) -> Self::Key;
    /// About how many bytes it holds.
    fn bytes(item: &Self::Item) -> usize;
    /// Writes all in one statement of their order, and answers in that order.
    fn write(
        conn: &mut PgConnection,
        items: &[&Self::Item],
    ) -> impl Future<Output = Result<Vec<Self::Answer>, Failure>> + Send;
}

/// The entrance of a lane.
pub(super) struct Lane<K: Kind> {
    waiting: mpsc::Sender<Waiting<K>>,
}

struct Waiting<K: Kind> {
    item: K::Item,
    answer: oneshot::Sender<Result<K::Answer, StoreError>>,
}

impl<K: Kind> Lane<K> {
    /// Starts the task; it connects when there is something to write, and ends when
    /// `lifecycle` stops or the lane is dropped, after what waits is written.
    pub(super) fn start(options: PgConnectOptions, lifecycle: &Lifecycle) -> Self {
        let (waiting, queue) = mpsc::channel(MAX_WAITING);
        let stop = lifecycle.clone();
        lifecycle.spawn(async move {
            let link = Link { options, conn: None, used: Instant::now() };
            Driver::<K> { queue, held: VecDeque::new(), link }.run(&stop).await;
        });
        Self { waiting }
    }

    /// Writes `item` with whatever else waits.
    pub(super) async fn write(&self, item: K::Item) -> Result<K::Answer, StoreError> {
        let (answer, outcome) = oneshot::channel();
        let waiting = Waiting { item, answer };
        let room = Duration::from_millis(ROOM_WAIT_MS);
        self.waiting.send_timeout(waiting, room).await.map_err(|error| {
            let reason = match error {
                mpsc::error::SendTimeoutError::Timeout(_) => "too many writes wait",
                mpsc::error::SendTimeoutError::Closed(_) => "the store is closed",
            };
            StoreError::Unavailable { reason: reason.to_owned(), source: None }
        })?;
        let unconfirmed = |reason: String| Err(StoreError::Unconfirmed { reason });
        match tokio::time::timeout(Duration::from_millis(OUTCOME_WAIT_MS), outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => unconfirmed("the store ended while it wrote".to_owned()),
            Err(_) => unconfirmed(format!("no answer in {OUTCOME_WAIT_MS} ms")),
        }
    }
}

/// The lane's task.
struct Driver<K: Kind> {
    queue: mpsc::Receiver<Waiting<K>>,
    /// Taken from the queue, for one of the next statements.
    held: VecDeque<Waiting<K>>,
    link: Link,
}

impl<K: Kind> Driver<K> {
    async fn run(mut self, lifecycle: &Lifecycle) {
        while self.fill(lifecycle).await {
            let group = self.group();
            if !group.is_empty() {
                self.settle(group).await;
            }
        }
        self.link.close().await;
    }

    /// Waits until something is held; `false` when nothing will come any more.
    async fn fill(&mut self, lifecycle: &Lifecycle) -> bool {
        let mut taken = Vec::new();
        let room = MAX_GROUP.saturating_sub(self.held.len());
        if self.held.is_empty() {
            tokio::select! {
                _ = self.queue.recv_many(&mut taken, MAX_GROUP) => {}
                () = lifecycle.stopped(), if !self.queue.is_closed() => {
                    self.queue.close();
                    self.queue.recv_many(&mut taken, MAX_GROUP).await;
                }
            }
        } else {
            while taken.len() < room
                && let Ok(next) = self.queue.try_recv()
            {
                taken.push(next);
            }
        }
        self.held.extend(taken);
        !self.held.is_empty()
    }

    /// The next statement's rows, sorted, so that two nodes lock them in one order. What
    /// repeats a key waits for the one after.
    fn group(&mut self) -> Vec<Waiting<K>> {
        let mut keys = HashSet::new();
        let (mut group, mut later) = (Vec::new(), VecDeque::new());
        let mut bytes = 0;
        for waiting in self.held.drain(..) {
            // Nobody waits for it any more: what was given up must not happen later.
            if waiting.answer.is_closed() {
                continue;
            }
            let size = K::bytes(&waiting.item);
            let fits = group.is_empty() || bytes + size <= MAX_GROUP_BYTES;
            let key = K::key(&waiting.item);
            // Also what repeats a key that waits: the order of one key's writes stands.
            if keys.insert(key) && fits {
                bytes += size;
                group.push(waiting);
            } else {
                later.push_back(waiting);
            }
        }
        self.held = later;
        group.sort_by_cached_key(|waiting| K::key(&waiting.item));
        group
    }

    /// Writes a group and answers each.
    async fn settle(&mut self, group: Vec<Waiting<K>>) {
        let (items, answers): (Vec<_>, Vec<_>) =
            group.into_iter().map(|waiting| (waiting.item, waiting.answer)).unzip();
        let items: Vec<&K::Item> = items.iter().collect();
        let mut answers = answers.into_iter();
        let give_up = Instant::now() + Duration::from_millis(HALVING_MS);
        // Parts that are still to be written, the next one last.
        let mut parts = vec![&items[..]];
        while let Some(part) = parts.pop() {
            let failure = match self.link.write::<K>(part).await {
                Ok(done) => {
                    for (answer, done) in answers.by_ref().take(part.len()).zip(done) {
                        // Whoever asked may have gone; it is written all the same.
                        let _ = answer.send(Ok(done));
                    }
                    continue;
                }
                Err(failure) => failure,
            };
            if part.len() > 1 && spoilt_by_a_row(&failure) && Instant::now() < give_up {
                tracing::debug!(lane = K::NAME, rows = part.len(), ?failure, "halving a group");
                let (first, second) = part.split_at(part.len() / 2);
                parts.extend([second, first]);
                continue;
            }
            refuse(answers.by_ref().take(part.len()), failure);
        }
    }
}

/// The same answer to all; the cause goes to the log once.
fn refuse<T>(
    answers: impl Iterator<Item = oneshot::Sender<Result<T, StoreError>>>,
    failure: Failure,
) {
    let error = failure.of_write();
    for answer in answers {
        let _ = answer.send(Err(copy(&error)));
    }
}

/// Errors hold their source once; the others get its words.
fn copy(error: &StoreError) -> StoreError {
    match error {
        StoreError::Unavailable { reason, source } => StoreError::Unavailable {
            reason: reason.clone(),
            source: source.as_ref().map(|source| source.to_string().into()),
        },
        StoreError::Unconfirmed { reason } => StoreError::Unconfirmed { reason: reason.clone() },
        StoreError::Corrupt { what, source } => {
            StoreError::Corrupt { what, source: source.to_string().into() }
        }
    }
}

/// True when another part of the group may go through: what a row holds, or a lock on it.
fn spoilt_by_a_row(failure: &Failure) -> bool {
    match failure {
        Failure::Refused { code, .. } => {
            // Data, integrity, limits of the program, conflicts; a lock; a time-out.
            ["21", "22", "23", "40", "54"].iter().any(|class| code.starts_with(class))
                || code == "55P03"
                || code == "57014"
        }
        Failure::Corrupt { .. } => true,
        Failure::Undone(_) | Failure::Lost(_) => false,
    }
}

/// The lane's connection.
struct Link {
    options: PgConnectOptions,
    conn: Option<PgConnection>,
    used: Instant,
}

impl Link {
    async fn write<K: Kind>(&mut self, items: &[&K::Item]) -> Result<Vec<K::Answer>, Failure> {
        let mut conn = self.connection().await?;
        let wait = Duration::from_millis(ANSWER_WAIT_MS);
        let done = match tokio::time::timeout(wait, K::write(&mut conn, items)).await {
            Ok(done) => done,
            Err(_) => Err(Failure::Lost(format!("no answer in {ANSWER_WAIT_MS} ms").into())),
        };
        if !done.as_ref().is_err_and(Failure::breaks) {
            self.used = Instant::now();
            self.conn = Some(conn);
        }
        done
    }

    /// The connection at hand if it lives, else a new one.
    async fn connection(&mut self) -> Result<PgConnection, Failure> {
        let wait = Duration::from_millis(CONNECT_WAIT_MS);
        if let Some(mut conn) = self.conn.take() {
            let fresh = self.used.elapsed() < Duration::from_millis(IDLE_CHECK_MS);
            if fresh || matches!(tokio::time::timeout(wait, conn.ping()).await, Ok(Ok(()))) {
                return Ok(conn);
            }
        }
        match tokio::time::timeout(wait, self.connect()).await {
            Ok(conn) => conn.map_err(Failure::unsent),
            Err(_) => Err(Failure::unsent(format!("no connection in {CONNECT_WAIT_MS} ms"))),
        }
    }

    /// Again while the server is starting; the caller bounds the wait.
    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        loop {
            match self.options.connect().await {
                Err(sqlx::Error::Io(error)) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(sqlx::Error::Database(said)) if said.is_transient_in_connect_phase() => {}
                other => return other,
            }
            tokio::time::sleep(Duration::from_millis(CONNECT_PAUSE_MS)).await;
        }
    }

    async fn close(&mut self) {
        if let Some(conn) = self.conn.take() {
            let wait = Duration::from_millis(CONNECT_WAIT_MS);
            // A server that is away has nothing to be told.
            let _ = tokio::time::timeout(wait, conn.close()).await;
        }
    }
}
