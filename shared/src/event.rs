//! The journal: what happened, to which message, because of what.

use serde::{Deserialize, Serialize};

use crate::clock::{UnixMs, rfc3339};
use crate::ids::{EventId, MessageId, Revision, RunId, TenantId};
use crate::queue::{Publication, Stored};
use crate::subject::Subject;

macro_rules! event_types {
    ($($variant:ident = $name:literal),+ $(,)?) => {
        /// The type of an event. Source: interface.md, *Event types*.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum EventType {
            $(#[doc = $name] #[serde(rename = $name)] $variant),+
        }

        impl EventType {
            /// All of them, in the order of a message's life.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The dotted name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

event_types! {
    MessageAccepted = "message.accepted",
    MessageDuplicate = "message.duplicate",
    MessageIgnored = "message.ignored",
    MessageRouted = "message.routed",
    MessageUnrouted = "message.unrouted",
    RunStarted = "run.started",
    RunStep = "run.step",
    RunDeferred = "run.deferred",
    RunCompleted = "run.completed",
    RunFailed = "run.failed",
    ActionRefused = "action.refused",
    ActionHeld = "action.held",
    ActionApproved = "action.approved",
    ActionDenied = "action.denied",
    ActionExpired = "action.expired",
    ActionStarted = "action.started",
    ActionExecuted = "action.executed",
    ActionFailed = "action.failed",
    ActionUncertain = "action.uncertain",
    ApprovalVoted = "approval.voted",
    ApprovalVoteRejected = "approval.vote_rejected",
    ReplySent = "reply.sent",
    ReplyFailed = "reply.failed",
    ConfigApplied = "config.applied",
    ConfigRejected = "config.rejected",
    ConfigRecorded = "config.recorded",
    InstanceState = "instance.state",
    StorageRecovered = "storage.recovered",
    DeadLetterAdded = "dead_letter.added",
    DeadLetterRetried = "dead_letter.retried",
    DeadLetterAbandoned = "dead_letter.abandoned",
}

/// One entry of the journal. `seq` is the stream's and grows within a tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Derived where the event has a cause that can only cause it once.
    pub id: EventId,
    /// Position in the journal; set when read, 0 before.
    #[serde(default)]
    pub seq: u64,
    /// RFC 3339, UTC, milliseconds.
    pub time: String,
    /// Whose.
    pub tenant: TenantId,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// The message it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<MessageId>,
    /// The run it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// The conversation it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<String>,
    /// The event that led to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation_id: Option<EventId>,
    /// W3C trace id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// The configuration that was in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    /// What is particular to the type.
    #[serde(default)]
    pub data: serde_json::Value,
}

impl Event {
    /// An event of `kind` with only its required fields set.
    #[must_use]
    pub fn new(id: EventId, tenant: &TenantId, kind: EventType, at_ms: UnixMs) -> Self {
        Self {
            id,
            seq: 0,
            time: rfc3339(at_ms),
            tenant: tenant.clone(),
            kind,
            message_id: None,
            run_id: None,
            conversation: None,
            causation_id: None,
            trace_id: None,
            revision: None,
            data: serde_json::Value::Null,
        }
    }

    /// Sets `data`.
    #[must_use]
    pub fn with(mut self, data: serde_json::Value) -> Self {
        self.data = data;
        self
    }

    /// Sets the message and its conversation.
    #[must_use]
    pub fn about(mut self, message: &crate::message::Message) -> Self {
        self.message_id = Some(message.id);
        self.conversation = Some(message.ordering_key());
        self
    }

    /// Sets the run.
    #[must_use]
    pub fn of_run(mut self, run: RunId) -> Self {
        self.run_id = Some(run);
        self
    }

    /// Sets the event that led here.
    #[must_use]
    pub fn caused_by(mut self, cause: EventId) -> Self {
        self.causation_id = Some(cause);
        self
    }

    /// Sets the revision.
    #[must_use]
    pub fn under(mut self, revision: &Revision) -> Self {
        self.revision = Some(revision.clone());
        self
    }

    /// As a publication on `aof.event.<tenant>.<type>`; its id dedupes.
    ///
    /// # Errors
    /// When `data` cannot be written as JSON.
    pub fn publication(&self) -> Result<Publication, serde_json::Error> {
        Publication::json(Subject::event(&self.tenant, self.kind.name()), self.id.0, self)
    }

    /// Reads an event back from the journal.
    ///
    /// # Errors
    /// When the payload is not an event.
    pub fn from_stored(stored: &Stored) -> Result<Self, serde_json::Error> {
        let mut event: Self = serde_json::from_slice(&stored.payload)?;
        event.seq = stored.seq;
        Ok(event)
    }
}
