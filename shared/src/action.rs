//! Held actions: what exactly would run, who may decide, and what was decided.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::clock::UnixMs;
use crate::ids::{ActionId, AgentName, FlowName, PlatformName, Revision, RunId, TenantId};
use crate::message::{Address, Message, Task, User};
use crate::trace::TraceContext;

/// Someone, as a platform knows them. Two are equal when platform and id are; whether they
/// are one human is [`Identity::is_same_human`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Identity {
    /// The platform that verified them.
    pub platform: PlatformName,
    /// Their id there.
    pub user: String,
    /// Other ids that the platform verified for the same person.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
}

impl Identity {
    /// Someone with one id.
    #[must_use]
    pub fn new(platform: PlatformName, user: impl Into<String>) -> Self {
        Self { platform, user: user.into(), aliases: Vec::new() }
    }

    /// Whoever wrote a message.
    #[must_use]
    pub fn of(platform: PlatformName, user: &User) -> Self {
        Self { platform, user: user.id.clone(), aliases: user.aliases.clone() }
    }

    /// Every id of theirs, their own first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.user.as_str()).chain(self.aliases.iter().map(String::as_str))
    }

    /// True when `id` is theirs, compared exactly.
    #[must_use]
    pub fn is(&self, id: &str) -> bool {
        self.ids().any(|own| own == id)
    }

    /// True when both have an id in common, on whatever platform.
    #[must_use]
    pub fn is_same_human(&self, other: &Self) -> bool {
        self.ids().any(|id| other.is(id))
    }

    fn key(&self) -> (&PlatformName, &str) {
        (&self.platform, &self.user)
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Identity {}

impl std::hash::Hash for Identity {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl Ord for Identity {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Identity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Exactly what would run. The digest covers every field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The program as resolved to a path, then its arguments; run without a shell.
    pub argv: Vec<String>,
    /// Working directory, as the flow configures it (not the per-run scratch path).
    pub directory: String,
    /// The environment that the process gets, secrets replaced by their SHA-256.
    pub environment: BTreeMap<String, String>,
    /// What it acts on: cluster, namespace, kubeconfig; for people and for the digest.
    pub target: String,
}

/// Who may decide, resolved from the flow's rules when the action was held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quorum {
    /// The chain's name, for people.
    pub chain: String,
    /// Ids (and later group members) that may vote.
    pub approvers: Vec<String>,
    /// How many distinct humans must agree; at least 1.
    pub require: u32,
    /// Whether the requester's own vote counts when they are listed.
    pub self_approval: SelfApproval,
}

/// Whether the requester may vote on their own action.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SelfApproval {
    /// Counts when the requester is listed and the chain needs one vote.
    #[default]
    Allowed,
    /// Never counts.
    Never,
}

/// An action that waits for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldAction {
    /// Derived from run and step.
    pub id: ActionId,
    /// Whose.
    pub tenant: TenantId,
    /// The flow.
    pub flow: FlowName,
    /// Content hash of the flow and its agent when the action was held.
    pub revision: Revision,
    /// The agent.
    pub agent: AgentName,
    /// The run that waits.
    pub run: RunId,
    /// The step of the run.
    pub step: u32,
    /// Who asked.
    pub requester: Identity,
    /// What would run.
    pub command: Command,
    /// Why the guard held it: the rule's pattern.
    pub rule: String,
    /// Who may decide.
    pub quorum: Quorum,
    /// When it was held.
    pub held_at_ms: UnixMs,
    /// From then on it counts as denied.
    pub expires_at_ms: UnixMs,
    /// Drawn once, so that two equal actions have different digests.
    pub nonce: String,
    /// SHA-256 (hex) over everything above that decides what runs, see [`HeldAction::digest`].
    pub digest: String,
    /// The task to go on with after the decision.
    pub task: Box<Task>,
    /// The trace that it was held in, which the decision goes on with. Not in the digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

impl HeldAction {
    /// The span that it was held in.
    #[must_use]
    pub fn trace(&self) -> Option<TraceContext> {
        self.traceparent.as_deref().and_then(TraceContext::parse)
    }

    /// The digest over tenant, flow, revision, agent, run, step, argv, directory,
    /// environment, target, expiry and nonce. Source: features.md, M2.
    #[must_use]
    pub fn compute_digest(&self) -> String {
        use sha2::{Digest, Sha256};
        let bound = serde_json::json!([
            "aof-action-v1",
            self.id,
            self.tenant,
            self.flow,
            self.revision,
            self.agent,
            self.run,
            self.step,
            self.command.argv,
            self.command.directory,
            self.command.environment,
            self.command.target,
            self.expires_at_ms,
            self.nonce,
        ]);
        hex::encode(Sha256::digest(bound.to_string().as_bytes()))
    }

    /// Where the approval is shown.
    #[must_use]
    pub fn address(&self) -> Address {
        self.task.message.address()
    }

    /// The message that led here.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.task.message
    }
}

/// What a voter wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// Let it run.
    Approve,
    /// Do not.
    Deny,
    /// Take an earlier vote back (a removed reaction).
    Withdraw,
}

/// What a vote is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum VoteTarget {
    /// A button, the API or the CLI names the action.
    Action {
        /// The action.
        id: ActionId,
    },
    /// A reaction names the platform message that shows it.
    Posted {
        /// Where it was posted; the thread is ignored.
        at: Address,
        /// The platform's id of the message (Slack: `ts`).
        message: String,
    },
}

/// A vote on its way to the approver. The tenant is the subject's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// What it is about.
    pub target: VoteTarget,
    /// Who, as verified by the platform or the API key.
    pub voter: Identity,
    /// What they want.
    pub choice: Choice,
    /// Why, if they said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was cast.
    pub cast_at_ms: UnixMs,
}

/// What `aof.action.<tenant>` carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ActionMessage {
    /// A worker holds an action.
    Held(Box<HeldAction>),
    /// Somebody voted.
    Vote(Box<Vote>),
}

/// How an approval stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalStatus {
    /// Waits for votes.
    Pending,
    /// Quorum reached; the action will run.
    Approved,
    /// Somebody who may said no.
    Denied,
    /// Nobody decided in time.
    Expired,
    /// The command was started; its end is not known yet.
    Started,
    /// The command ended with exit code 0.
    Executed,
    /// The command ended otherwise, or was refused just before it started.
    Failed,
    /// Started, and a crash hid how it ended. Never run again by itself.
    Uncertain,
}

impl ApprovalStatus {
    /// As listings, metrics and the journal write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Started => "started",
            Self::Executed => "executed",
            Self::Failed => "failed",
            Self::Uncertain => "uncertain",
        }
    }
}

/// What was decided about a held action; travels to a worker inside a [`Task`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The action.
    pub action: ActionId,
    /// `Approved`, `Denied` or `Expired`.
    pub outcome: ApprovalStatus,
    /// The digest that was decided on; the worker derives it again before it runs anything.
    pub digest: String,
    /// Who decided; empty when it expired.
    pub by: Vec<Identity>,
    /// What they said, or what was missing when it expired; for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// When.
    pub decided_at_ms: UnixMs,
}

/// One counted or withdrawn vote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedVote {
    /// Who.
    pub voter: Identity,
    /// What they want now.
    pub choice: Choice,
    /// Why, if they said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When.
    pub cast_at_ms: UnixMs,
}

/// An approval as stored: the action, its votes, how it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    /// What waits.
    pub action: HeldAction,
    /// One entry a person, latest wins.
    pub votes: Vec<RecordedVote>,
    /// How it stands.
    pub status: ApprovalStatus,
    /// When it left `Pending`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_at_ms: Option<UnixMs>,
    /// What came of it: output or error, cut to a few kilobytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// The platform's id of the message that shows it, once posted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub posted: Option<String>,
}

/// What the message in the channel shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApprovalView {
    /// The action.
    pub id: ActionId,
    /// Who asked.
    pub requester: Identity,
    /// What exactly will run.
    pub argv: Vec<String>,
    /// Where: target and directory.
    pub target: String,
    /// The flow and agent.
    pub flow: FlowName,
    /// The agent.
    pub agent: AgentName,
    /// The rule that held it.
    pub rule: String,
    /// Who may decide.
    pub quorum: Quorum,
    /// Who has, and how.
    pub votes: Vec<RecordedVote>,
    /// How many more must agree.
    pub missing: u32,
    /// How it stands.
    pub status: ApprovalStatus,
    /// When it expires.
    pub expires_at_ms: UnixMs,
    /// First 12 hex digits of the digest, so that people can compare.
    pub digest: String,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Grows with every change, so that an update that arrives late is dropped.
    pub version: u64,
}

impl Approval {
    /// What people see now. `missing` is how many more must agree; `version` must grow
    /// with every change (the clock in milliseconds does).
    #[must_use]
    pub fn view(&self, missing: u32, version: u64) -> ApprovalView {
        let action = &self.action;
        ApprovalView {
            id: action.id,
            requester: action.requester.clone(),
            argv: action.command.argv.clone(),
            target: action.command.target.clone(),
            flow: action.flow.clone(),
            agent: action.agent.clone(),
            rule: action.rule.clone(),
            quorum: action.quorum.clone(),
            votes: self.votes.clone(),
            missing,
            status: self.status,
            expires_at_ms: action.expires_at_ms,
            digest: action.digest.chars().take(SHOWN_DIGEST_DIGITS).collect(),
            outcome: self.outcome.clone(),
            version,
        }
    }
}

/// Digits of the digest that people compare.
const SHOWN_DIGEST_DIGITS: usize = 12;
