//! Dead letters: what could not be done, why, and the payload to do it again.

use serde::{Deserialize, Serialize};

use crate::clock::UnixMs;
use crate::ids::{MessageId, RunId, TenantId};
use crate::message::PINNED_AGENT;
use crate::queue::{Publication, Stored};
use crate::subject::Subject;

/// One entry of DEAD.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Position in DEAD; names it in `aofctl dead-letters`. Set when read, 0 before.
    #[serde(default)]
    pub seq: u64,
    /// Whose.
    pub tenant: TenantId,
    /// The role that gave up: `gateway`, `router`, `worker`, `approver`.
    pub role: String,
    /// A short constant for metrics: `agent_error`, `timeout`, `unreadable`, …
    pub reason: String,
    /// What went wrong, for people.
    pub detail: String,
    /// The subject it was on.
    pub subject: String,
    /// The payload it had, as text.
    pub payload: String,
    /// How many attempts failed.
    pub failures: u32,
    /// The message it was about, if it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<MessageId>,
    /// The run it was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// When.
    pub at_ms: UnixMs,
}

impl DeadLetter {
    /// As a publication on `aof.dead.<tenant>.<role>`; one a source message.
    ///
    /// # Errors
    /// Never in practice: every field is text or a number.
    pub fn publication(&self, source: &Stored) -> Result<Publication, serde_json::Error> {
        let id = crate::ids::EventId::derive(source.id, "dead").0;
        let letter = Publication::json(Subject::dead(&self.tenant, &self.role), id, self)?;
        // Whoever tries again must ask the agent that the sender asked.
        Ok(match source.headers.get(PINNED_AGENT) {
            Some(agent) => letter.with_header(PINNED_AGENT, agent),
            None => letter,
        })
    }

    /// Reads an entry back.
    ///
    /// # Errors
    /// When the payload is not a dead letter.
    pub fn from_stored(stored: &Stored) -> Result<Self, serde_json::Error> {
        let mut letter: Self = serde_json::from_slice(&stored.payload)?;
        letter.seq = stored.seq;
        Ok(letter)
    }
}
