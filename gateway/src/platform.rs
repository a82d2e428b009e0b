//! What a platform is to the gateway: a table of facts, `verify`, and `normalize`. Pure: no I/O, no clock.

pub(crate) mod slack;

use aof_shared::action::Vote;
use aof_shared::clock::UnixMs;
use aof_shared::config::Instance;
use aof_shared::message::Message;
use aof_shared::secret::Secret;
use axum::http::HeaderMap;

use crate::seen::Fingerprint;

/// What is particular to a platform's webhooks.
#[derive(Debug)]
pub(crate) struct Facts {
    /// As paths, subjects and flows write it.
    pub(crate) name: &'static str,
    /// How far a request's timestamp may be from now, in milliseconds.
    pub(crate) window_ms: u64,
}

/// A request as received. Nothing in it is trusted before `verify` said yes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signed<'a> {
    /// The headers.
    pub(crate) headers: &'a HeaderMap,
    /// The raw body, over which the signature goes.
    pub(crate) body: &'a [u8],
    /// Now.
    pub(crate) now_ms: UnixMs,
}

/// What a body says of where it is from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The app.
    pub(crate) app: Option<String>,
    /// The workspace that the app is installed in.
    pub(crate) team: Option<String>,
    /// The organisation of workspaces.
    pub(crate) enterprise: Option<String>,
}

/// What a verified request is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Inbound {
    /// The platform checks that the URL is ours: send this back.
    Challenge(String),
    /// A message for the router.
    Message(Box<Message>, Answer),
    /// The bot was called and told nothing: whoever did is told how to go on.
    Empty(Box<Message>, Answer),
    /// A vote for the approver.
    Vote {
        /// The platform's own id of the event; what the vote's id is derived from.
        event_id: String,
        /// The vote.
        vote: Box<Vote>,
        /// How it is answered.
        answer: Answer,
    },
    /// What is known of a channel's name may be wrong now.
    ChannelChanged {
        /// The channel's platform id.
        channel: String,
        /// How it is answered.
        answer: Answer,
    },
    /// Nothing for us, and why.
    Ignored(&'static str, Answer),
}

/// What the platform does with the body of a 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing: it may be our receipt.
    Receipt,
    /// It shows it to the person: it stays empty.
    Empty,
}

/// A verified body that is not what the platform sends. Says what is missing.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) String);

/// A platform's side of the gateway.
pub(crate) trait Platform: Send + Sync {
    /// What is particular to it.
    fn facts(&self) -> &'static Facts;

    /// Reads, without trusting it, where the request says it is from.
    fn claim(&self, signed: &Signed<'_>) -> Claim;

    /// Checks the signature in constant time, and the timestamp. What it returns names
    /// the signed request, for the replay guard.
    fn verify(&self, signed: &Signed<'_>, secret: &Secret) -> Option<Fingerprint>;

    /// Says what a verified request is.
    ///
    /// # Errors
    /// [`Malformed`] when it is not what the platform sends.
    fn normalize(&self, signed: &Signed<'_>, instance: &Instance) -> Result<Inbound, Malformed>;
}

/// The platform of this name, if the gateway takes its webhooks.
pub(crate) fn by_name(name: &str) -> Option<&'static dyn Platform> {
    static PLATFORMS: [&dyn Platform; 1] = [&slack::Slack];
    PLATFORMS.into_iter().find(|p| p.facts().name == name)
}
