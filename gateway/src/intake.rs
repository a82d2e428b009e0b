//! Takes in what one request of a platform carried: everything in one batch, whole or not at all.

use std::time::Duration;

use aof_shared::config::Instance;
use aof_shared::ids::MessageId;
use aof_shared::message::Message;
use aof_shared::queue::{Publication, QueueError, Receipt};
use aof_shared::store::{Note, NoteKey};
use aof_shared::subject::{LiveSubject, Stream};
use aof_shared::trace::Span;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::App;
use crate::ingress::{self, Accepted, Hop, ReceiptBody, VotePublication};
use crate::platform::Inbound;

/// What whoever called the bot and said nothing is told.
const EMPTY_NOTICE: &str =
    "I am here. Mention me again with what you would like me to do, in the same message.";

/// Longest wait for the store to take a note; platforms want their answer within 3 s.
const KEEP_WAIT_MS: u64 = 700;

/// What became of one thing that came in.
#[derive(Debug)]
pub(crate) struct Taken {
    /// For `agentflow_ingress_total`.
    pub(crate) outcome: &'static str,
    /// For the sender.
    pub(crate) receipt: Value,
}

/// Publishes what `items` are, in one batch and in their order. Once it returns, all of
/// them are as durable as the queue says. `open` opens the span that each belongs to.
///
/// # Errors
/// [`QueueError`]: nothing may be answered for; the same request may come again.
pub(crate) async fn take(
    app: &App,
    instance: &Instance,
    items: Vec<Inbound>,
    open: &(dyn Fn() -> Span + Send + Sync),
) -> Result<Vec<Taken>, QueueError> {
    let mut batch = Vec::new();
    let mut parcels = Vec::with_capacity(items.len());
    for item in items {
        parcels.push(Parcel::pack(app, instance, item, open, &mut batch));
    }
    let receipts = publish(app, batch, &mut parcels).await?;
    let mut receipts = receipts.into_iter();
    let mut taken = Vec::with_capacity(parcels.len());
    for parcel in parcels {
        let own: Vec<Receipt> = receipts.by_ref().take(parcel.publications).collect();
        taken.push(parcel.taken(app, instance, &own).await);
    }
    Ok(taken)
}

async fn publish(
    app: &App,
    batch: Vec<Publication>,
    parcels: &mut [Parcel],
) -> Result<Vec<Receipt>, QueueError> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let receipts = app.node.ports.queue.publish(batch).await;
    for span in parcels.iter_mut().filter_map(|parcel| parcel.publishing.as_mut()) {
        if receipts.is_err() {
            span.fail("not_accepted");
        }
    }
    // The publications' spans end here, whatever is done with their receipts.
    parcels.iter_mut().for_each(|parcel| parcel.publishing = None);
    receipts
}

/// Writes a note about what comes in, before it does. Best effort, and not for long: what
/// needs it finds another way without it, and the platform waits for its answer.
pub(crate) async fn keep(app: &App, instance: &Instance, (name, note): (String, Note)) {
    let key = NoteKey {
        tenant: instance.tenant.clone(),
        platform: instance.platform.clone(),
        instance: instance.name.clone(),
        name,
    };
    let writing = app.node.ports.store.put_note(&key, &note, app.now_ms());
    match tokio::time::timeout(Duration::from_millis(KEEP_WAIT_MS), writing).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "a note is not kept"),
        Err(_) => tracing::warn!("a note is not kept: the store takes too long"),
    }
}

/// One thing on its way in.
struct Parcel {
    what: What,
    /// How many of the batch's publications are its own.
    publications: usize,
    publishing: Option<Span>,
    _whole: Option<Span>,
}

enum What {
    Message(Box<Message>),
    Notice,
    Vote(Uuid),
    ChannelChanged(String),
    State,
    Ignored(&'static str),
}

impl Parcel {
    fn silent(what: What) -> Self {
        Self { what, publications: 0, publishing: None, _whole: None }
    }

    /// Adds the publications of `item` to `batch`.
    fn pack(
        app: &App,
        instance: &Instance,
        item: Inbound,
        open: &(dyn Fn() -> Span + Send + Sync),
        batch: &mut Vec<Publication>,
    ) -> Self {
        let before = batch.len();
        let whole;
        let mut publishing = None;
        let what = match item {
            Inbound::Ignored(reason) => return Self::silent(What::Ignored(reason)),
            Inbound::ChannelChanged { channel } => {
                return Self::silent(What::ChannelChanged(channel));
            }
            Inbound::State { state, reason } => {
                whole = open();
                batch.push(ingress::state(app, instance, (state, reason), whole.context()));
                What::State
            }
            Inbound::Empty(message) => {
                whole = open();
                batch.push(ingress::notice(&message, EMPTY_NOTICE, whole.context()));
                What::Notice
            }
            Inbound::Message(message) => {
                whole = open();
                let span = ingress::publishing_message(app, whole.context(), &message);
                batch.extend(ingress::message_batch(app, &message, Hop::of(span.context())));
                publishing = Some(span);
                What::Message(message)
            }
            Inbound::Vote { event_id, vote } => {
                whole = open();
                let tenant = instance.tenant.clone();
                let id = vote_id(instance, &event_id);
                let span = ingress::publishing(app, whole.context(), Stream::Actions, &tenant);
                let trace = span.context();
                batch.push(ingress::vote(VotePublication { tenant, id, vote: *vote, trace }));
                publishing = Some(span);
                What::Vote(id)
            }
        };
        Self { what, publications: batch.len() - before, publishing, _whole: Some(whole) }
    }

    /// What became of it, by the receipts of its publications.
    async fn taken(self, app: &App, instance: &Instance, receipts: &[Receipt]) -> Taken {
        let durability = app.node.ports.queue.durability();
        let duplicate = receipts.first().is_some_and(|receipt| receipt.duplicate);
        let outcome = if duplicate { "duplicate" } else { "accepted" };
        match self.what {
            What::Ignored(reason) => {
                Taken { outcome: "ignored", receipt: json!({ "ignored": reason }) }
            }
            What::Notice => Taken { outcome: "ignored", receipt: json!({ "ignored": "no text" }) },
            What::State => Taken { outcome: "accepted", receipt: json!({ "noted": true }) },
            What::ChannelChanged(channel) => {
                look_up_again(app, instance, channel).await;
                Taken { outcome: "accepted", receipt: json!({ "noted": true }) }
            }
            What::Message(message) => {
                if duplicate {
                    ingress::journal_duplicate(app, &message).await;
                }
                let journal_seq = receipts.last().map_or(0, |receipt| receipt.seq);
                let message_id = message.id;
                let accepted = Accepted { message_id, duplicate, durability, journal_seq };
                Taken { outcome, receipt: json!(ReceiptBody::from(accepted)) }
            }
            What::Vote(id) => {
                let receipt =
                    json!({ "vote_id": id, "duplicate": duplicate, "durability": durability });
                Taken { outcome, receipt }
            }
        }
    }
}

/// The same for every delivery of the same event.
fn vote_id(instance: &Instance, event_id: &str) -> Uuid {
    let event_id = format!("vote:{event_id}");
    MessageId::derive(&instance.tenant, &instance.platform, &instance.name, &event_id).0
}

/// Best effort: a name that is not asked for now is asked for with a later message.
async fn look_up_again(app: &App, instance: &Instance, channel: String) {
    let request = crate::resolve::Request {
        tenant: instance.tenant.clone(),
        instance: instance.name.clone(),
        channel,
        changed: true,
    };
    if let Ok(payload) = serde_json::to_vec(&request) {
        let subject = LiveSubject::resolve(&instance.platform);
        app.node.ports.live.send(&subject, payload.into()).await;
    }
}
