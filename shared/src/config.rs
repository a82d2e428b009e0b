//! The configuration that the roles work under: one immutable snapshot a revision.
//!
//! Manifests are read and checked in [`crate::manifest`]; what comes out is this.

mod cluster;
mod recorded;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::action::SelfApproval;
use crate::ids::{AgentName, FlowName, InstanceName, PlatformName, Revision, TenantId};
use crate::message::{MessageKind, Priority};
use crate::secret::Secret;

pub use cluster::{Cluster, DEFAULT_CLUSTER, Servers, UnclearCluster};
pub(crate) use cluster::{Kind, MAX_REPLICAS, is_cluster_name};
pub use recorded::{RecordedAgent, RecordedConfig, RecordedFlow, RecordedFlowAgent};

/// Everything that is configured, under one revision.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Content hash over all documents.
    pub revision: Revision,
    /// Flows in load order (path, then document), which breaks ties.
    pub flows: Vec<Arc<Flow>>,
    /// Agents by name.
    pub agents: HashMap<AgentName, Arc<Agent>>,
    /// Platform accounts.
    pub instances: Vec<Arc<Instance>>,
    /// Groups of people that `approvers` may name, by tenant-independent name.
    pub groups: HashMap<String, Vec<String>>,
    /// `DaemonConfig`.
    pub daemon: Arc<Daemon>,
}

impl Snapshot {
    /// A flow of a tenant. Linear; hot paths keep their own index.
    #[must_use]
    pub fn flow(&self, tenant: &TenantId, name: &FlowName) -> Option<&Arc<Flow>> {
        self.flows.iter().find(|f| &f.tenant == tenant && &f.name == name)
    }
}

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SourceRef {
    /// The file.
    pub file: PathBuf,
    /// Line of the document, from 1.
    pub line: usize,
}

/// A flow (`kind: AgentFlow`).
#[derive(Debug, Clone)]
pub struct Flow {
    /// `metadata.name`.
    pub name: FlowName,
    /// See interface.md, *Manifests beyond 001*, for how it is found.
    pub tenant: TenantId,
    /// Content hash of this flow's document and of its agents'.
    pub revision: Revision,
    /// Where it was written.
    pub source: SourceRef,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// What it listens to.
    pub trigger: Trigger,
    /// What its tools run with.
    pub context: FlowContext,
    /// Who works on it.
    pub agents: Vec<FlowAgent>,
    /// What needs a decision.
    pub approval: Approval,
    /// `spec.limits`.
    pub limits: RateLimits,
}

impl Flow {
    /// A flow that takes every message of `tenant`, with no agent yet.
    #[must_use]
    pub fn new(tenant: TenantId, name: FlowName) -> Self {
        Self {
            name,
            tenant,
            revision: Revision::default(),
            source: SourceRef::default(),
            labels: BTreeMap::new(),
            trigger: Trigger::default(),
            context: FlowContext::default(),
            agents: Vec::new(),
            approval: Approval::default(),
            limits: RateLimits::default(),
        }
    }
}

/// What a flow listens to. A filter that is set must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trigger {
    /// `trigger.type` in lower case: the platform filter. `None`: any platform.
    pub platform: Option<PlatformName>,
    /// The account, when the trigger has credentials of its own. `None`: any of the tenant's.
    pub instance: Option<InstanceName>,
    /// `config.events` in our terms; empty takes all kinds.
    pub events: Vec<MessageKind>,
    /// `config.channels`: ids, names, or names with `#`.
    pub channels: Vec<String>,
    /// `config.users`: platform ids.
    pub users: Vec<String>,
    /// `config.patterns`: regular expressions, any of which matches.
    pub patterns: Vec<String>,
}

/// What a flow's tools run with. Nothing else reaches a tool's environment.
#[derive(Debug, Clone, Default)]
pub struct FlowContext {
    /// `context.kubeconfig`: given to tools as `KUBECONFIG`.
    pub kubeconfig: Option<String>,
    /// `context.namespace`.
    pub namespace: Option<String>,
    /// `context.cluster_name` or `context.cluster`.
    pub cluster_name: Option<String>,
    /// `context.working_dir`: where tools run; `None`: a fresh directory a run.
    pub working_dir: Option<PathBuf>,
    /// `context.env`: values may come from `${VAR}` and may be secret.
    pub env: BTreeMap<String, Secret>,
}

/// One agent of a flow.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowAgent {
    /// Its name; the agent itself may be missing only for platforms' built-ins.
    pub name: AgentName,
    /// Regular expressions that choose it; the first agent whose pattern matches wins,
    /// else the first agent without patterns, else the first agent.
    pub patterns: Vec<String>,
    /// `priority: critical`.
    pub priority: Priority,
    /// Replaces the agent's own list of tools.
    pub tools: Option<Vec<String>>,
    /// Replaces, tool by tool, the agent's own settings.
    pub tool_config: BTreeMap<String, ToolConfig>,
}

/// Settings of one tool.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ToolConfig {
    /// `allowed_commands`: the first words that may follow the program; `None`: any.
    pub allowed_commands: Option<Vec<String>>,
    /// Everything else, for tools that need it (`url`, `timeout_secs`, …).
    pub settings: BTreeMap<String, serde_json::Value>,
}

/// `spec.approval`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Approval {
    /// What the flow says of approvals at all.
    pub mode: ApprovalMode,
    /// `require_for`: command patterns that are held for the chain of `allowed_users`.
    pub require_for: Vec<String>,
    /// `rules`: first match names the chain.
    pub rules: Vec<ApprovalRule>,
    /// `allowed_users` as the chain `default`, then `chains`.
    pub chains: Vec<ApprovalChain>,
    /// `timeout_secs`, else the context's `APPROVAL_TIMEOUT`, else 300.
    pub timeout_secs: u64,
    /// `self_approval`.
    pub self_approval: SelfApproval,
}

/// What a flow says of approvals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalMode {
    /// Nothing: a destructive command is refused, since nobody could approve it.
    #[default]
    Unset,
    /// It has approvals: what matches is held.
    Required,
    /// `REQUIRE_APPROVAL: "false"` and no `approval`: destructive commands just run.
    Waived,
}

/// `approval.rules[]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRule {
    /// A command pattern.
    pub pattern: String,
    /// The chain's name.
    pub chain: String,
}

/// `approval.chains[]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalChain {
    /// Its name.
    pub name: String,
    /// Ids of people, groups already resolved.
    pub approvers: Vec<String>,
    /// How many distinct people must agree.
    pub require: u32,
}

/// Rate and token limits of one scope. `None`: no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// In any 60 seconds.
    pub max_requests_per_minute: Option<u32>,
    /// In any 3,600 seconds.
    pub max_requests_per_hour: Option<u32>,
    /// Prompt and answer of one request together.
    pub max_tokens_per_request: Option<u64>,
    /// In one UTC day.
    pub max_tokens_per_day: Option<u64>,
}

/// How an agent works.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runtime {
    /// A model with tools.
    #[default]
    Model,
    /// No model: the message is the command.
    Command,
    /// An agent API of one's own.
    Remote,
}

/// An agent (`kind: Agent`).
#[derive(Debug, Clone)]
pub struct Agent {
    /// `metadata.name` (or the flat form's `name`).
    pub name: AgentName,
    /// Content hash of its document.
    pub revision: Revision,
    /// Where it was written.
    pub source: SourceRef,
    /// `runtime`.
    pub runtime: Runtime,
    /// `model: provider:name`, split; the provider is empty when none was named.
    pub model: ModelRef,
    /// `instructions` or `system_prompt`.
    pub instructions: String,
    /// Names of tools: programs, or the built-in HTTP queries.
    pub tools: Vec<String>,
    /// `tool_config`.
    pub tool_config: BTreeMap<String, ToolConfig>,
    /// `max_iterations`: model calls in one run; 10 unless set.
    pub max_iterations: u32,
    /// `temperature`.
    pub temperature: Option<f64>,
    /// `max_tokens` of one answer.
    pub max_tokens: Option<u32>,
    /// `memory`: how conversations are kept.
    pub memory: Memory,
}

impl Agent {
    /// An agent with nothing set.
    #[must_use]
    pub fn new(name: AgentName) -> Self {
        Self {
            name,
            revision: Revision::default(),
            source: SourceRef::default(),
            runtime: Runtime::default(),
            model: ModelRef::default(),
            instructions: String::new(),
            tools: Vec::new(),
            tool_config: BTreeMap::new(),
            max_iterations: DEFAULT_MAX_ITERATIONS,
            temperature: None,
            max_tokens: None,
            memory: Memory::default(),
        }
    }
}

/// Model calls in one run, unless the agent says otherwise.
pub const DEFAULT_MAX_ITERATIONS: u32 = 10;

/// Providers of models that need no address: what `model: provider:name` may say, and
/// `models.<provider>.api`.
pub const MODEL_PROVIDERS: [&str; 39] = [
    "aihubmix",
    "aliyun",
    "anthropic",
    "api_route",
    "atlascloud",
    "baidu",
    "bedrock_api",
    "bigmodel",
    "cloudgpu",
    "cohere",
    "deepseek",
    "echo",
    "fireworks",
    "gemini",
    "gemini_ix",
    "github_copilot",
    "google",
    "groq",
    "heabsy",
    "kimi",
    "mimo",
    "minimax",
    "mistral",
    "moonshot",
    "nebius",
    "ollama",
    "ollama_cloud",
    "omlx",
    "open_router",
    "openai",
    "openai_resp",
    "opencode_go",
    "qwen_cloud",
    "requesty",
    "runcrate",
    "together",
    "vertex",
    "xai",
    "zai",
];

/// A model as `provider:name`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelRef {
    /// `openai`, `anthropic`, `google`, `ollama`, or a key of `spec.models`.
    pub provider: String,
    /// The model's name there.
    pub name: String,
}

/// How an agent remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Which messages share a history.
    pub session: SessionStrategy,
    /// Newest messages given to the model; 0 remembers nothing.
    pub max_messages: u32,
}

impl Default for Memory {
    fn default() -> Self {
        Self { session: SessionStrategy::PerChat, max_messages: 50 }
    }
}

/// Which messages of a flow share a history (features.md, C4).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionStrategy {
    /// One history a user, wherever they write.
    PerUser,
    /// One history a conversation.
    #[default]
    PerChat,
    /// One history a user and conversation.
    PerUserPerChat,
}

/// A platform account. Belongs to one tenant. `Debug` leaves out what settings hold.
#[derive(Clone)]
pub struct Instance {
    /// Its name in `/webhook/{platform}/{instance}`.
    pub name: InstanceName,
    /// Whose.
    pub tenant: TenantId,
    /// The platform.
    pub platform: PlatformName,
    /// `bot_token`.
    pub bot_token: Option<Secret>,
    /// `signing_secret`, or what the platform verifies with.
    pub signing_secret: Option<Secret>,
    /// `api_base_url`, without a trailing slash.
    pub api_base_url: Option<String>,
    /// Whether some flow of it filters on channel names, so that names must be resolved.
    pub needs_channel_names: bool,
    /// Everything else of the trigger's or daemon's configuration.
    pub settings: BTreeMap<String, serde_json::Value>,
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("name", &self.name)
            .field("tenant", &self.tenant)
            .field("platform", &self.platform)
            .field("bot_token", &self.bot_token)
            .field("signing_secret", &self.signing_secret)
            .field("api_base_url", &self.api_base_url)
            .field("needs_channel_names", &self.needs_channel_names)
            .field("settings", &self.settings.keys())
            .finish()
    }
}

/// `DaemonConfig.spec`.
#[derive(Debug, Clone)]
pub struct Daemon {
    /// `server.host:port`; `127.0.0.1:8080` unless set.
    pub listen: String,
    /// `agents.directory`, resolved against the file.
    pub agents_dir: Option<PathBuf>,
    /// `flows.directory`, resolved against the file.
    pub flows_dir: Option<PathBuf>,
    /// `agents.watch` or `flows.watch`; true unless both say false.
    pub watch: bool,
    /// `flows.recursive`; true unless set.
    pub recursive: bool,
    /// `routing.default_agent`.
    pub default_agent: Option<AgentName>,
    /// `routing.strict_mode`: unmatched messages do not go to the default agent.
    pub strict_mode: bool,
    /// `runtime.max_concurrent_tasks`; 50 unless set.
    pub max_concurrent_tasks: u32,
    /// `runtime.task_timeout_secs`; 300 unless set.
    pub task_timeout_secs: u64,
    /// `runtime.max_tasks_per_user`; 5 unless set.
    pub max_tasks_per_user: u32,
    /// `limits.global`.
    pub limits_global: RateLimits,
    /// `limits.per_organization`.
    pub limits_per_organization: RateLimits,
    /// `limits.per_user`.
    pub limits_per_user: RateLimits,
    /// `models.<provider>`.
    pub models: BTreeMap<String, ModelEndpoint>,
    /// `cluster`.
    pub cluster: Cluster,
}

impl Default for Daemon {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            agents_dir: None,
            flows_dir: None,
            watch: true,
            recursive: true,
            default_agent: None,
            strict_mode: false,
            max_concurrent_tasks: 50,
            task_timeout_secs: 300,
            max_tasks_per_user: 5,
            limits_global: RateLimits::default(),
            limits_per_organization: RateLimits::default(),
            limits_per_user: RateLimits::default(),
            models: BTreeMap::new(),
            cluster: Cluster::default(),
        }
    }
}

/// `models.<provider>`.
#[derive(Debug, Clone, Default)]
pub struct ModelEndpoint {
    /// Which API it speaks: `openai`, `anthropic`, `gemini`, `ollama`; the provider's
    /// name unless set.
    pub api: Option<String>,
    /// Where it is.
    pub base_url: Option<String>,
    /// The key, read from `api_key_env`.
    pub api_key: Option<Secret>,
}

/// How many superseded snapshots a node keeps for tasks that run under them.
const KEPT_SNAPSHOTS: usize = 8;

/// The snapshot in force, and the last few before it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Config {
    current: watch::Sender<Arc<Snapshot>>,
    earlier: Arc<Mutex<Vec<Arc<Snapshot>>>>,
}

impl Config {
    /// Starts with `snapshot`.
    #[must_use]
    pub fn new(snapshot: Snapshot) -> Self {
        let (current, _) = watch::channel(Arc::new(snapshot));
        Self { current, earlier: Arc::default() }
    }

    /// The snapshot in force.
    #[must_use]
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.borrow().clone()
    }

    /// The snapshot of `revision`, if it is in force or was lately.
    #[must_use]
    pub fn at(&self, revision: &Revision) -> Option<Arc<Snapshot>> {
        let current = self.current();
        if &current.revision == revision {
            return Some(current);
        }
        let earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        earlier.iter().find(|s| &s.revision == revision).cloned()
    }

    /// Puts `snapshot` in force, at once and whole.
    pub fn apply(&self, snapshot: Snapshot) {
        let old = self.current.send_replace(Arc::new(snapshot));
        let mut earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        earlier.insert(0, old);
        earlier.truncate(KEPT_SNAPSHOTS);
    }

    /// Sees every later snapshot.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.current.subscribe()
    }
}
