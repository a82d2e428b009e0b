//! What a run remembers between its steps, so that another worker goes on where it stopped.
//!
//! Saved before a tool starts (`pending`) and after its result. A tool that had started
//! when its worker died is never started again by itself: its result is
//! [`Outcome::Unknown`], whatever the tool was.

use aof_shared::action::HeldAction;
use aof_shared::clock::UnixMs;
use serde::{Deserialize, Serialize};

/// Written into every checkpoint; one that differs is not understood.
const VERSION: u32 = 1;

/// The state of a run between two steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    version: u32,
    /// When the run began.
    pub(crate) started_at_ms: UnixMs,
    /// Number of the next step, from 1.
    pub(crate) step: u32,
    /// Model calls so far.
    pub(crate) model_calls: u32,
    /// Model tokens so far.
    pub(crate) tokens: u64,
    /// The text streamed so far.
    pub(crate) answer: String,
    /// What happened after the user's message.
    pub(crate) transcript: Vec<Entry>,
    /// What had started, or waits for people.
    pub(crate) pending: Option<Pending>,
}

/// One entry of a run's transcript.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(crate) enum Entry {
    /// The model said something and wants tools.
    Said {
        /// What it said; may be empty.
        text: String,
        /// What it wants, in order.
        calls: Vec<Call>,
    },
    /// A tool call came to an end.
    Result(ToolResult),
}

/// A tool call that a model, or the message itself, asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Call {
    /// The model's own id for it.
    pub(crate) id: String,
    /// The tool.
    pub(crate) tool: String,
    /// Its arguments as the model gave them.
    pub(crate) arguments: serde_json::Value,
    /// What some providers want back with the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signatures: Option<Vec<String>>,
}

/// How a tool call ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ToolResult {
    /// Which call.
    pub(crate) call: String,
    /// The tool.
    pub(crate) tool: String,
    /// The command as people write it, secrets masked.
    pub(crate) command: String,
    /// Output or error, cut and masked.
    pub(crate) text: String,
    /// How.
    pub(crate) outcome: Outcome,
}

/// How a tool call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It ran to its end.
    Exited {
        /// The exit code; 0 for queries.
        code: i32,
    },
    /// It did not start, was stopped, or its server did not answer.
    Failed,
    /// The guard or the agent's list said no.
    Refused,
    /// It had started, and a crash hid how it ended.
    Unknown,
}

/// A step that is not over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(crate) enum Pending {
    /// A tool was about to start.
    Started {
        /// The call.
        call: Call,
        /// The command as people write it.
        command: String,
    },
    /// An action waits for people.
    Held {
        /// The call.
        call: Call,
        /// What waits.
        action: Box<HeldAction>,
    },
}

impl Checkpoint {
    /// A run that begins now.
    pub(crate) fn new(started_at_ms: UnixMs) -> Self {
        Self {
            version: VERSION,
            started_at_ms,
            step: 1,
            model_calls: 0,
            tokens: 0,
            answer: String::new(),
            transcript: Vec::new(),
            pending: None,
        }
    }

    /// Reads what was saved; `None` when another version wrote it.
    pub(crate) fn read(saved: &serde_json::Value) -> Option<Self> {
        let read = Self::deserialize(saved).ok()?;
        (read.version == VERSION).then_some(read)
    }

    /// As it is saved.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("every field is text, a number or a list of them")
    }

    /// The first call that the model asked for and that has no result yet.
    pub(crate) fn open_call(&self) -> Option<Call> {
        let is_said = |e: &&Entry| matches!(e, Entry::Said { .. });
        let Some(Entry::Said { calls, .. }) = self.transcript.iter().rev().find(is_said) else {
            return None;
        };
        let results = self.transcript.iter().rev().take_while(|e| !is_said(e)).count();
        calls.get(results).cloned()
    }

    /// The newest result, for the `command` runtime.
    pub(crate) fn last_result(&self) -> Option<&ToolResult> {
        self.transcript.iter().rev().find_map(|entry| match entry {
            Entry::Result(result) => Some(result),
            Entry::Said { .. } => None,
        })
    }

    /// Records a result and ends the step.
    pub(crate) fn record(&mut self, result: ToolResult) {
        self.transcript.push(Entry::Result(result));
        self.pending = None;
        self.step += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(id: &str) -> Call {
        Call {
            id: id.to_owned(),
            tool: "kubectl".to_owned(),
            arguments: serde_json::json!({"args": ["get", "pods"]}),
            signatures: None,
        }
    }

    fn result(id: &str) -> ToolResult {
        ToolResult {
            call: id.to_owned(),
            tool: "kubectl".to_owned(),
            command: "kubectl get pods".to_owned(),
            text: "ok".to_owned(),
            outcome: Outcome::Exited { code: 0 },
        }
    }

    #[test]
    fn calls_are_answered_in_order_and_once() {
        let mut checkpoint = Checkpoint::new(7);
        assert_eq!(checkpoint.open_call(), None);
        checkpoint
            .transcript
            .push(Entry::Said { text: String::new(), calls: vec![call("a"), call("b")] });
        assert_eq!(checkpoint.open_call(), Some(call("a")));
        checkpoint.record(result("a"));
        assert_eq!(checkpoint.open_call(), Some(call("b")));
        checkpoint.record(result("b"));
        assert_eq!(checkpoint.open_call(), None);
        checkpoint.transcript.push(Entry::Said { text: String::new(), calls: vec![call("c")] });
        assert_eq!(checkpoint.open_call(), Some(call("c")));
    }

    #[test]
    fn a_checkpoint_reads_back_and_a_foreign_one_does_not() {
        let mut checkpoint = Checkpoint::new(7);
        checkpoint.pending =
            Some(Pending::Started { call: call("a"), command: "kubectl get pods".to_owned() });
        checkpoint.record(result("z"));
        checkpoint.pending = Some(Pending::Started { call: call("b"), command: String::new() });
        assert_eq!(Checkpoint::read(&checkpoint.to_json()), Some(checkpoint.clone()));
        let mut foreign = checkpoint.to_json();
        foreign["version"] = 99.into();
        assert_eq!(Checkpoint::read(&foreign), None);
        assert_eq!(Checkpoint::read(&serde_json::json!({"step": 1})), None);
    }
}
