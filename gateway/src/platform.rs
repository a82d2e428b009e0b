//! What a platform is to the gateway: a table of facts, `verify`, and `normalize`. Pure: no I/O, no clock.
//!
//! A platform is one module here (what comes in), one outlet in `reply/` (what goes out),
//! and one row of the manifests' table (its keys and the shape of its ids).

pub(crate) mod buttons;
#[cfg(test)]
pub(crate) mod contract;
pub(crate) mod discord;
pub(crate) mod emoji;
pub(crate) mod evolution;
pub(crate) mod slack;
mod source;
pub(crate) mod telegram;
pub(crate) mod whatsapp;

use aof_shared::action::Vote;
use aof_shared::clock::UnixMs;
use aof_shared::config::Instance;
use aof_shared::message::Message;
use aof_shared::secret::Secret;
use aof_shared::store::Note;
use axum::http::HeaderMap;
use serde_json::Value;

use crate::seen::Fingerprint;

/// What is particular to a platform's webhooks.
#[derive(Debug)]
pub(crate) struct Facts {
    /// As paths, subjects and flows write it.
    pub(crate) name: &'static str,
    /// The setting of an instance that `verify` checks with, as manifests call it; for people.
    pub(crate) secret: &'static str,
    /// Settings that tie an instance to one workspace, app or number of those that share its secret.
    pub(crate) pins: &'static [&'static str],
    /// Whether the platform may append an event's name to the address it was given.
    pub(crate) event_in_path: bool,
    /// What is done with a verified body that cannot be read.
    pub(crate) unreadable: Unreadable,
}

/// What becomes of a verified body that is not what the platform sends: its own retry policy
/// decides. What is our trouble is 503 on every platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// 400: the platform gives up on this event, and on nothing else.
    Refused,
    /// 200, ignored and logged: the platform would send it again and again and hold back what
    /// follows, or switch the address off.
    Ignored,
}

/// Which of several instances a request is for, beside what their pins say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// One: the one whose pins fit.
    One,
    /// Each whose pin the body names: accounts of one secret may come in one body. Whom it
    /// names does not matter to whether it verifies.
    Each,
    /// One; on an address without a name the one with `is_default`.
    Default,
}

/// A request as received. Nothing in it is trusted before `verify` said yes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signed<'a> {
    /// The headers.
    pub(crate) headers: &'a HeaderMap,
    /// The event that the address names behind the instance, where [`Facts::event_in_path`].
    pub(crate) event: Option<&'a str>,
    /// The raw body, over which the signature goes.
    pub(crate) body: &'a [u8],
    /// Now.
    pub(crate) now_ms: UnixMs,
}

/// What a body says of where it is from: settings of [`Facts::pins`] with their values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Claim(pub(crate) Vec<(&'static str, String)>);

/// Proof that a request is the platform's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verified {
    /// Names the signed request, so that an exact replay is refused. `None` where the platform
    /// itself resends what it signed (no timestamp goes into the signature): such requests are
    /// deduplicated by the ids of what they carry.
    pub(crate) once: Option<Fingerprint>,
}

impl Verified {
    /// A request that the platform signs afresh each time it sends it.
    pub(crate) fn once(fingerprint: Fingerprint) -> Self {
        Self { once: Some(fingerprint) }
    }

    /// A request that the platform sends again as it is.
    pub(crate) fn repeatable() -> Self {
        Self { once: None }
    }
}

/// What a verified request carries, and how it is answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Delivery {
    /// Everything in it, in order; published in one batch before the answer.
    pub(crate) items: Vec<Inbound>,
    /// What goes back with the 200.
    pub(crate) answer: Answer,
}

impl Delivery {
    /// A delivery of one thing.
    pub(crate) fn one(item: Inbound, answer: Answer) -> Self {
        Self { items: vec![item], answer }
    }

    /// A request that carries nothing and only wants `body` back.
    pub(crate) fn answered(body: Value) -> Self {
        Self { items: Vec::new(), answer: Answer::Json(body) }
    }
}

/// One thing that came in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Inbound {
    /// A message for the router.
    Message(Box<Message>),
    /// The bot was called and told nothing: whoever did is told how to go on.
    Empty(Box<Message>),
    /// A vote for the approver.
    Vote {
        /// The platform's own id of the event; what the vote's id is derived from.
        event_id: String,
        /// The vote.
        vote: Box<Vote>,
    },
    /// What is known of a channel's name may be wrong now.
    ChannelChanged {
        /// The channel's platform id.
        channel: String,
    },
    /// How the account is linked to its platform now, for the journal.
    State {
        /// In a word, such as `open`.
        state: &'static str,
        /// The platform's own code.
        reason: Option<u64>,
    },
    /// Nothing for us, and why.
    Ignored(&'static str),
}

/// What the platform does with the body of a 200.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing: it may be our receipt.
    Receipt,
    /// It shows it to the person: it stays empty.
    Empty,
    /// It acts on it: it is exactly this.
    Json(Value),
}

/// How a `GET` of the webhook's address is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Handshake {
    /// The platform asks nothing that way: 405.
    Unknown,
    /// It does not prove that it is the platform: 403.
    Refused,
    /// This text, exactly, as `text/plain`.
    Accepted(String),
}

/// A verified body that is not what the platform sends. Says what is missing.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) String);

/// A platform's side of the gateway. What is true of all of them is proven by `contract`.
pub(crate) trait Platform: Send + Sync {
    /// What is particular to it.
    fn facts(&self) -> &'static Facts;

    /// Reads, without trusting it, where the request says it is from. Asked only where
    /// several instances may be meant, or one is pinned.
    fn claim(&self, signed: &Signed<'_>) -> Claim;

    /// Which of several instances a request is for.
    fn sharing(&self) -> Sharing {
        Sharing::One
    }

    /// What requests of `instance` are verified with.
    fn secret<'a>(&self, instance: &'a Instance) -> Option<&'a Secret> {
        instance.signing_secret.as_ref()
    }

    /// Checks in constant time that `secret`'s holder sent exactly this, and its timestamp
    /// where it has one. `instance` has that secret; its settings may say how it is used.
    fn verify(&self, signed: &Signed<'_>, secret: &Secret, instance: &Instance)
    -> Option<Verified>;

    /// Says what a verified request is.
    ///
    /// # Errors
    /// [`Malformed`] when it is not what the platform sends.
    fn normalize(&self, signed: &Signed<'_>, instance: &Instance) -> Result<Delivery, Malformed>;

    /// What has to be known again to answer what `delivery` carries, on any node: a note's
    /// name, and the note. Asked only of what is verified.
    fn note(&self, _signed: &Signed<'_>, _delivery: &Delivery) -> Option<(String, Note)> {
        None
    }

    /// Answers the request by which the platform checks that the address is ours.
    fn handshake(&self, _query: &[(String, String)], _instance: &Instance) -> Handshake {
        Handshake::Unknown
    }
}

/// The platforms whose webhooks the gateway takes, beside [`source::SOURCES`].
static PLATFORMS: [&dyn Platform; 5] = [
    &discord::Discord,
    &evolution::Evolution,
    &slack::Slack,
    &telegram::Telegram,
    &whatsapp::WhatsApp,
];

/// The platform of this name, if the gateway takes its webhooks.
pub(crate) fn by_name(name: &str) -> Option<&'static dyn Platform> {
    let sources = source::SOURCES.iter().map(|source| source as &dyn Platform);
    PLATFORMS.into_iter().chain(sources).find(|p| p.facts().name == name)
}

/// The names of the platforms whose deliveries are events that nobody waits for.
pub(crate) fn sources() -> impl Iterator<Item = &'static str> {
    source::SOURCES.iter().map(|source| source.facts().name)
}

/// A setting of the instance as text, unless it is missing or empty.
pub(crate) fn setting<'a>(instance: &'a Instance, name: &str) -> Option<&'a str> {
    instance.settings.get(name).and_then(|v| v.as_str()).filter(|v| !v.is_empty())
}
