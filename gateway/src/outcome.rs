//! Follows the journal for those who wait for how their message ends.
//!
//! One reader a gateway, and only while somebody waits: terminal events have derived
//! ids, so a waiting message costs a map entry and an event nobody waits for is not parsed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aof_shared::event::{Event, EventType};
use aof_shared::ids::{EventId, MessageId, TenantId};
use aof_shared::lifecycle::Lifecycle;
use aof_shared::node::Node;
use aof_shared::queue::{Queue, QueueError, ReadRange, Stored};
use aof_shared::subject::Stream;
use tokio::sync::mpsc;
use uuid::Uuid;

/// The events that a message can end in. Source: ARCHITECTURE.md, *Terminal events*.
pub(crate) const TERMINAL: [EventType; 5] = [
    EventType::RunCompleted,
    EventType::RunFailed,
    EventType::MessageIgnored,
    EventType::MessageUnrouted,
    EventType::DeadLetterAdded,
];

/// Events read at once.
const PAGE: usize = 256;
/// How long one read waits for something new.
const READ_WAIT_MS: u64 = 1_000;
/// How long the reader rests when the queue is away.
const BACKOFF_MS: u64 = 250;
/// Events that one waiting chat may lag behind; a run holds far fewer actions.
const BUFFERED_EVENTS: usize = 64;

/// The id of the one event that `message` ends in.
pub(crate) fn terminal_id(message: MessageId) -> EventId {
    EventId::derive(message.0, "terminal")
}

/// Everyone who waits, and the reader that serves them.
#[derive(Clone)]
pub(crate) struct Outcomes {
    queue: Arc<dyn Queue>,
    lifecycle: Lifecycle,
    waiting: Arc<Mutex<Waiting>>,
    /// Held while the reader is being started, so that nobody publishes before it has its place.
    starting: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Waiting {
    by_terminal: HashMap<Uuid, Vec<Waiter>>,
    next: u64,
    reading: bool,
}

struct Waiter {
    number: u64,
    tenant: TenantId,
    events: mpsc::Sender<Event>,
}

/// Waits for one message. Dropping it stops waiting.
pub(crate) struct Watch {
    outcomes: Outcomes,
    terminal: Uuid,
    number: u64,
    tenant: TenantId,
    events: mpsc::Receiver<Event>,
}

impl Outcomes {
    /// Nobody waits.
    pub(crate) fn new(node: &Node) -> Self {
        Self {
            queue: node.ports.queue.clone(),
            lifecycle: node.lifecycle.clone(),
            waiting: Arc::default(),
            starting: Arc::default(),
        }
    }

    /// Starts to wait for `message`. Call it before the message is published.
    ///
    /// # Errors
    /// [`QueueError`] when the journal cannot be read.
    pub(crate) async fn watch(
        &self,
        tenant: &TenantId,
        message: MessageId,
    ) -> Result<Watch, QueueError> {
        let terminal = terminal_id(message).0;
        let (sender, events) = mpsc::channel(BUFFERED_EVENTS);
        let _starting = self.starting.lock().await;
        let (number, reading) = {
            let mut waiting = self.lock();
            let number = waiting.next;
            waiting.next += 1;
            let waiter = Waiter { number, tenant: tenant.clone(), events: sender };
            waiting.by_terminal.entry(terminal).or_default().push(waiter);
            (number, waiting.reading)
        };
        let outcomes = self.clone();
        let watch = Watch { outcomes, terminal, number, tenant: tenant.clone(), events };
        if !reading {
            let (_, last) = self.queue.bounds(Stream::Events).await?;
            self.lock().reading = true;
            let reader = self.clone();
            self.lifecycle.spawn(async move { reader.read_on(last).await });
        }
        Ok(watch)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads until nobody waits any more or the node stops.
    async fn read_on(&self, mut after_seq: u64) {
        loop {
            {
                let mut waiting = self.lock();
                if self.lifecycle.stopping() {
                    waiting.by_terminal.clear();
                }
                if waiting.by_terminal.is_empty() {
                    waiting.reading = false;
                    return;
                }
            }
            let mut rests: Vec<String> = TERMINAL.map(|t| t.name().to_owned()).to_vec();
            rests.push(EventType::ActionHeld.name().to_owned());
            let range = ReadRange { rests, after_seq, ..ReadRange::default() };
            let read = tokio::select! {
                () = self.lifecycle.stopped() => continue,
                read = self.queue.read(Stream::Events, range, PAGE, READ_WAIT_MS) => read,
            };
            match read {
                Ok(page) => {
                    after_seq = page.last().map_or(after_seq, |s| s.seq);
                    page.iter().for_each(|stored| self.deliver(stored));
                }
                Err(error) => {
                    tracing::debug!(%error, "journal cannot be read");
                    tokio::time::sleep(Duration::from_millis(BACKOFF_MS)).await;
                }
            }
        }
    }

    fn deliver(&self, stored: &Stored) {
        let held = stored.subject.rest() == EventType::ActionHeld.name();
        let mut waiting = self.lock();
        if !held && !waiting.by_terminal.contains_key(&stored.id) {
            return;
        }
        let Ok(event) = Event::from_stored(stored) else { return };
        let Some(message) = event.message_id else { return };
        let Some(waiters) = waiting.by_terminal.get_mut(&terminal_id(message).0) else { return };
        for waiter in waiters.iter().filter(|w| &w.tenant == stored.subject.tenant()) {
            // A full channel belongs to someone who stopped reading; the terminal
            // event is still in the journal.
            let _ = waiter.events.try_send(event.clone());
        }
    }
}

impl Watch {
    /// The next event of the message: `action.held`, or its terminal one. `None` when
    /// the node stops.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// Looks for a terminal event that is in the journal already, after `after_seq`.
    ///
    /// # Errors
    /// [`QueueError`] when the journal cannot be read.
    pub(crate) async fn look_back(&self, after_seq: u64) -> Result<Option<Event>, QueueError> {
        let rests: Vec<String> = TERMINAL.map(|t| t.name().to_owned()).to_vec();
        let mut after_seq = after_seq;
        loop {
            let tenant = Some(self.tenant.clone());
            let range = ReadRange { tenant, rests: rests.clone(), after_seq, ..Default::default() };
            let page = self.outcomes.queue.read(Stream::Events, range, PAGE, 0).await?;
            if let Some(found) = page.iter().find(|s| s.id == self.terminal) {
                return Ok(Event::from_stored(found).ok());
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after_seq = last.seq,
                _ => return Ok(None),
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut waiting = self.outcomes.lock();
        if let Some(waiters) = waiting.by_terminal.get_mut(&self.terminal) {
            waiters.retain(|w| w.number != self.number);
            if waiters.is_empty() {
                waiting.by_terminal.remove(&self.terminal);
            }
        }
    }
}
