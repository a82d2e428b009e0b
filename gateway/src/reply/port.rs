//! The port of one platform's egress, and what may become of a call.

use async_trait::async_trait;

use aof_shared::action::ApprovalView;
use aof_shared::ids::ReplyId;
use aof_shared::message::Reply;

/// One thing to send: it fits into one message of the platform, and is claimed, paced
/// and sent on its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// The claim's id: the reply's own for the first piece, derived from it for others.
    pub id: ReplyId,
    /// What is sent.
    pub body: Body,
}

/// What a [`Piece`] says.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// Text in the platform's own markup, within its limit.
    Text(String),
    /// A card that shows a held action.
    Card {
        /// What people see.
        view: Box<ApprovalView>,
        /// The platform's id of the message to update; `None` posts a new one.
        replaces: Option<String>,
    },
}

impl Body {
    /// How many characters of text it carries; a card counts its command.
    #[must_use]
    pub fn chars(&self) -> usize {
        match self {
            Self::Text(text) => text.chars().count(),
            Self::Card { view, .. } => view.argv.iter().map(|a| a.chars().count() + 1).sum(),
        }
    }
}

/// What the platform made of a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// The platform's id of the message (Slack: `ts`), where it has ids.
    pub id: Option<String>,
    /// The channel as the platform calls it, when the answer names it.
    pub channel: Option<String>,
}

/// Why a piece was not sent, or may not have been.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Did not happen: over a limit. Try again after that long; costs no attempt.
    #[error("over a limit of the platform; it asks to wait {retry_after_ms} ms")]
    Limited {
        /// The delay that the platform or the pacing named; at least 1.
        retry_after_ms: u64,
        /// Whose limit, for metrics: `slack/chat.postMessage`.
        scope: String,
    },
    /// Did not happen, and may work later: costs an attempt.
    #[error("the platform could not be reached or could not do it: {reason}")]
    Unavailable {
        /// What was wrong, in lower case.
        reason: String,
    },
    /// Did not happen, and will not by trying again.
    #[error("{detail}")]
    Refused {
        /// A short constant for metrics, such as `not_in_channel`.
        reason: &'static str,
        /// What is wrong and what to do, for people.
        detail: String,
    },
    /// Did not happen: the message to update is gone. Posting a new one may work.
    #[error("the message to update is gone")]
    Gone,
    /// May have happened: MUST NOT be sent again unless it can be repeated.
    #[error("it is unknown whether the platform took it: {reason}")]
    Unknown {
        /// What was seen, in lower case.
        reason: String,
    },
}

/// One platform's egress. Shared by all channels; holds no state that a crash may lose.
#[async_trait]
pub trait Outlet: Send + Sync {
    /// Cuts `reply` into pieces, in the order they are read. MUST give the same pieces
    /// for the same reply: the claims hang on their ids. Never empty.
    fn pieces(&self, reply: &Reply) -> Vec<Piece>;

    /// True when sending `body` twice shows nothing twice, so that no claim is needed.
    fn repeatable(&self, body: &Body) -> bool;

    /// How long `body` has to wait for its turn as far as this node knows, in
    /// milliseconds. Takes nothing; 0 does not promise that [`Outlet::send`] is admitted.
    fn wait_ms(&self, reply: &Reply, body: &Body) -> u64;

    /// Sends a `piece` of `reply` within the platform's limits. MUST return within 20 s.
    ///
    /// # Errors
    /// [`SendError`], whose variants say whether it may have happened.
    async fn send(&self, reply: &Reply, piece: &Piece) -> Result<Posted, SendError>;

    /// Adds what a freshly posted card also needs (reactions to tap on). Best effort.
    async fn decorate(&self, reply: &Reply, posted: &str);
}
