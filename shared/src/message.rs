//! What travels between the roles: messages, tasks, replies.

use serde::{Deserialize, Serialize};

use crate::action::{ApprovalView, Decision};
use crate::clock::UnixMs;
use crate::ids::{
    AgentName, FlowName, InstanceName, MessageId, PlatformName, ReplyId, Revision, RunId, TaskId,
    TenantId,
};

/// Header of an INBOUND publication: the agent that the sender asked for by name. The
/// router picks among the flows that have it.
pub const PINNED_AGENT: &str = "agent";

/// What kind of input a message is. A trigger's `events` filter on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageKind {
    /// The bot was mentioned (`app_mention`), or written to directly.
    Mention,
    /// Any other message in a channel.
    Message,
    /// A slash command.
    Command,
    /// An alert or another event of a signed source.
    Alert,
}

/// Where a message was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// The platform's id, which never changes.
    pub id: String,
    /// The name, when the gateway knew it. Names change: matching goes through the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A conversation with the bot alone.
    #[serde(default)]
    pub direct: bool,
}

/// Who wrote a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The platform's id.
    pub id: String,
    /// What people call them; for showing only, never for deciding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Other ids that the platform verified for the same person, such as a phone number
    /// beside an opaque id. Lists of people match any of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
}

impl User {
    /// Someone with one id and no name.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), name: None, aliases: Vec::new() }
    }

    /// The same with what people call them.
    #[must_use]
    pub fn named(self, name: Option<String>) -> Self {
        Self { name, ..self }
    }

    /// The same with further ids of theirs; their own and empty ones are left out.
    #[must_use]
    pub fn known_as(self, aliases: impl IntoIterator<Item = String>) -> Self {
        let aliases = distinct(&self.id, aliases);
        Self { aliases, ..self }
    }

    /// Every id of theirs, their own first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.id.as_str()).chain(self.aliases.iter().map(String::as_str))
    }

    /// True when `id` is theirs, compared exactly.
    #[must_use]
    pub fn is(&self, id: &str) -> bool {
        self.ids().any(|own| own == id)
    }
}

/// `aliases` without `id`, empty ones and repetitions.
fn distinct(id: &str, aliases: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for alias in aliases {
        if !alias.is_empty() && alias != id && !kept.contains(&alias) {
            kept.push(alias);
        }
    }
    kept
}

/// A file that came with a message, by reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Media {
    /// MIME type as the platform gave it.
    pub mime: String,
    /// File name, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where the platform serves it; needs the instance's credentials.
    pub url: String,
    /// Size in bytes, if the platform said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
}

/// A message of any platform in the one shape that everything behind the gateway knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Derived from the platform's own event id.
    pub id: MessageId,
    /// From the credential that verified.
    pub tenant: TenantId,
    /// The account it came in through.
    pub instance: InstanceName,
    /// The platform.
    pub platform: PlatformName,
    /// What kind of input it is.
    pub kind: MessageKind,
    /// Where it was written.
    pub channel: Channel,
    /// The thread to answer in, in the platform's own terms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// The message it replies to, in the platform's own terms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// Who wrote it.
    pub user: User,
    /// What they wrote, with the mention of the bot taken out.
    pub text: String,
    /// Files, by reference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub media: Vec<Media>,
    /// The platform's own id of the event, which `id` is derived from.
    pub event_id: String,
    /// What is kept in order: messages of one conversation run one at a time.
    pub conversation: String,
    /// When the platform says it was written.
    pub sent_at_ms: UnixMs,
    /// When the gateway took it in.
    pub received_at_ms: UnixMs,
    /// The body as received, secrets redacted; kept in INBOUND, dropped from tasks.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub raw: String,
}

impl Message {
    /// The ordering key: one value per tenant, platform, instance and conversation.
    #[must_use]
    pub fn ordering_key(&self) -> String {
        format!("{}/{}/{}", self.platform, self.instance, self.conversation)
    }

    /// Where answers to it go.
    #[must_use]
    pub fn address(&self) -> Address {
        Address {
            tenant: self.tenant.clone(),
            platform: self.platform.clone(),
            instance: self.instance.clone(),
            channel: self.channel.id.clone(),
            thread: self.thread.clone(),
        }
    }
}

/// A place to answer to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Address {
    /// Whose.
    pub tenant: TenantId,
    /// The platform.
    pub platform: PlatformName,
    /// The account to speak as.
    pub instance: InstanceName,
    /// The channel's platform id.
    pub channel: String,
    /// The thread, in the platform's own terms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
}

/// Which work goes first within a tenant.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// In order of arrival.
    #[default]
    Normal,
    /// Overtakes queued normal work (`priority: critical`).
    Critical,
}

/// What the router hands to a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Derived from message and flow.
    pub id: TaskId,
    /// The run it starts or goes on with.
    pub run: RunId,
    /// The message, without its raw body.
    pub message: Message,
    /// The flow that won, or [`FlowName::default_route`].
    pub flow: FlowName,
    /// The agent chosen within the flow.
    pub agent: AgentName,
    /// The configuration that the decision was made under.
    pub revision: Revision,
    /// The winning score; 0 on the default route.
    pub score: u32,
    /// What it overtakes.
    #[serde(default)]
    pub priority: Priority,
    /// Set when the task goes on with a run whose action was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
}

/// What a role says to a platform, through REPLIES.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Sent at most once under this id.
    pub id: ReplyId,
    /// Where it goes.
    pub to: Address,
    /// The message that it answers.
    pub message: MessageId,
    /// The run that says it, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// What is said.
    pub content: ReplyContent,
}

/// What is said in a [`Reply`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ReplyContent {
    /// The final answer of a run, in Markdown.
    Answer {
        /// Markdown.
        text: String,
        /// How the run ended.
        status: RunStatus,
    },
    /// Anything said beside the answer: a limit, a refusal, a delay.
    Notice {
        /// Markdown.
        text: String,
    },
    /// A held action: post it, or update the one that was posted for the same action.
    Approval {
        /// What people see.
        view: Box<ApprovalView>,
    },
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// An answer was produced.
    Success,
    /// It waits for a decision.
    Held,
    /// People said no.
    Denied,
    /// Nobody decided in time.
    Expired,
    /// The guard or a limit said no.
    Refused,
    /// Something broke; the answer says what.
    Failed,
}

impl RunStatus {
    /// As logs, metrics and listings write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Held => "held",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// One piece of a streamed answer, sent over [`crate::queue::Live`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum AnswerChunk {
    /// Text to append, with its position so that a listener sees gaps.
    Delta {
        /// Position of `text` in the answer, in bytes.
        offset: usize,
        /// The text.
        text: String,
    },
    /// Something other than text happened: a tool ran, an action is held.
    Step {
        /// What, in one line.
        text: String,
    },
    /// The answer is complete.
    Done {
        /// The whole answer.
        text: String,
        /// How the run ended. `Held` is not final: another `Done` follows.
        status: RunStatus,
    },
}
