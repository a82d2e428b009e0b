//! A gateway on the embedded backend, over real HTTP, for this crate's tests.

pub(crate) mod refusing;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use aof_shared::backend::open_embedded;
use aof_shared::clock::ManualClock;
use aof_shared::config::{Agent, Config, Flow, FlowAgent, Instance, Snapshot};
use aof_shared::event::{Event, EventType};
use aof_shared::ids::{AgentName, EventId, FlowName, InstanceName, PlatformName, TenantId};
use aof_shared::lifecycle::Lifecycle;
use aof_shared::message::Message;
use aof_shared::node::{Health, Node};
use aof_shared::queue::ReadRange;
use aof_shared::queue::watched::WatchedQueue;
use aof_shared::secret::Secret;
use aof_shared::store::Ports;
use aof_shared::subject::Stream;
use aof_shared::telemetry::Metrics;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use sha2::Sha256;

use self::refusing::Refusing;
use crate::{Options, ensure_admin_key};

/// The signing secret and the time of Slack's own published example.
pub(crate) const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
/// Seconds.
pub(crate) const AT: u64 = 1_531_420_618;
/// What a test waits for at most.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Slack's two signature headers over `body`.
pub(crate) fn sign(secret: &str, at_secs: u64, body: &[u8]) -> [(&'static str, String); 2] {
    let at = at_secs.to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.update(&[b"v0:", at.as_bytes(), b":", body].concat());
    let signature = format!("v0={}", hex::encode(mac.finalize().into_bytes()));
    [("x-slack-signature", signature), ("x-slack-request-timestamp", at)]
}

/// A name that is one.
pub(crate) fn tenant(name: &str) -> TenantId {
    TenantId::new(name).expect("a plain name")
}

/// A running gateway with tenants `a` and `b`, an instance, a flow and an agent each.
pub(crate) struct Gateway {
    pub(crate) url: String,
    pub(crate) ports: Ports,
    pub(crate) clock: ManualClock,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) health: Health,
    /// While true the queue refuses to store.
    pub(crate) full: Arc<AtomicBool>,
    pub(crate) http: reqwest::Client,
    pub(crate) admin: String,
    _dir: tempfile::TempDir,
}

impl Gateway {
    /// Starts one with a clock that stands at [`AT`].
    pub(crate) async fn start() -> Self {
        Self::start_with(|options| options).await
    }

    /// Starts one with these accounts alone.
    pub(crate) async fn start_with_instances(instances: Vec<Arc<Instance>>) -> Self {
        Self::start_on(Snapshot { instances, ..snapshot() }, |options| options).await
    }

    /// Starts one with other options.
    pub(crate) async fn start_with(change: impl FnOnce(Options) -> Options) -> Self {
        Self::start_on(snapshot(), change).await
    }

    async fn start_on(snapshot: Snapshot, change: impl FnOnce(Options) -> Options) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let clock = ManualClock::at(AT * 1000);
        let lifecycle = Lifecycle::new();
        let mut ports = open_embedded(dir.path(), Arc::new(clock.clone()), &lifecycle)
            .expect("an empty folder opens");
        let full = Arc::new(AtomicBool::new(false));
        ports.together = None;
        ports.queue = Arc::new(WatchedQueue::new(ports.queue, Refusing(full.clone())));
        let node = Node {
            ports: ports.clone(),
            config: Config::new(snapshot),
            metrics: Arc::new(Metrics::default()),
            tracer: aof_shared::trace::Tracer::default(),
            health: Health::default(),
            members: Default::default(),
            lifecycle: lifecycle.clone(),
        };
        let path = ensure_admin_key(ports.store.as_ref(), dir.path(), &clock).await.expect("a key");
        let admin = std::fs::read_to_string(path).expect("a file").trim().to_owned();
        let running =
            crate::start(&node, change(Options::new("127.0.0.1:0"))).await.expect("a free port");
        let url = format!("http://{}", running.local_addr);
        let http = reqwest::Client::new();
        let health = node.health.clone();
        Self { url, ports, clock, lifecycle, health, full, http, admin, _dir: dir }
    }

    /// A signed POST to `/webhook/slack/<instance>`, now by the gateway's clock.
    pub(crate) fn signed(&self, instance: &str, kind: &str, body: &str) -> RequestBuilder {
        self.signed_at(instance, kind, body, self.now_secs())
    }

    /// The same at another time.
    pub(crate) fn signed_at(
        &self,
        instance: &str,
        kind: &str,
        body: &str,
        at: u64,
    ) -> RequestBuilder {
        let secret = if instance == "b" { "secret of b" } else { SECRET };
        let mut request = self.http.post(format!("{}/webhook/slack/{instance}", self.url));
        for (name, value) in sign(secret, at, body.as_bytes()) {
            request = request.header(name, value);
        }
        request.header("content-type", kind).body(body.to_owned())
    }

    /// Seconds by the gateway's clock.
    pub(crate) fn now_secs(&self) -> u64 {
        self.ports.clock.now_ms() / 1000
    }

    /// A new key of `account`.
    pub(crate) async fn key(&self, account: &str, user: &str, scopes: &[&str]) -> String {
        let body = json!({ "user": user, "scopes": scopes });
        let path = format!("/accounts/{account}/keys");
        let made = self.http.post(self.at(&path)).bearer_auth(&self.admin).json(&body);
        let (status, made) = read(made.send().await.expect("an answer")).await;
        assert_eq!(status, 201, "{made}");
        made["key"].as_str().expect("a key").to_owned()
    }

    /// The URL of a path.
    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Status and JSON of a GET.
    pub(crate) async fn get(&self, key: &str, path: &str) -> (u16, Value) {
        read(self.http.get(self.at(path)).bearer_auth(key).send().await.expect("an answer")).await
    }

    /// Status and JSON of a POST.
    pub(crate) async fn post(&self, key: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = self.http.post(self.at(path)).bearer_auth(key).json(body);
        read(request.send().await.expect("an answer")).await
    }

    /// Status and JSON of a DELETE.
    pub(crate) async fn delete(&self, key: &str, path: &str) -> (u16, Value) {
        let request = self.http.delete(self.at(path)).bearer_auth(key);
        read(request.send().await.expect("an answer")).await
    }

    /// Everything in INBOUND, oldest first.
    pub(crate) async fn inbound(&self) -> Vec<Message> {
        let read = self.ports.queue.read(Stream::Inbound, ReadRange::default(), 1000, 0).await;
        let stored = read.expect("INBOUND reads");
        stored.iter().map(|s| serde_json::from_slice(&s.payload).expect("a message")).collect()
    }

    /// The journal's types, oldest first.
    pub(crate) async fn journal(&self) -> Vec<&'static str> {
        let read = self.ports.queue.read(Stream::Events, ReadRange::default(), 1000, 0).await;
        let stored = read.expect("EVENTS reads");
        stored.iter().map(|s| Event::from_stored(s).expect("an event").kind.name()).collect()
    }

    /// Appends an event of `kind` to the journal.
    pub(crate) async fn happen(&self, account: &str, kind: EventType, n: u64) -> u64 {
        let id = EventId::derive(uuid::Uuid::from_u128(u128::from(n)), account);
        let event = Event::new(id, &tenant(account), kind, AT * 1000).with(json!({ "n": n }));
        let publication = event.publication().expect("an event");
        self.ports.queue.publish(vec![publication]).await.expect("published")[0].seq
    }

    /// The value of a series, 0 when it is not there.
    pub(crate) async fn metric(&self, series: &str) -> u64 {
        let answer = self.http.get(self.at("/metrics")).send().await.expect("an answer");
        let text = answer.text().await.expect("text");
        let line = text.lines().find_map(|l| l.strip_prefix(series));
        line.map_or(0, |l| l.trim().parse().expect("a count"))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.lifecycle.stop();
    }
}

/// Status and JSON (or text) of an answer. A problem must be a whole problem document.
pub(crate) async fn read(answer: Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    let kind = answer.headers().get("content-type").map(|v| v.to_str().unwrap_or("").to_owned());
    let text = answer.text().await.expect("a whole body");
    let body: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
    if status >= 400 {
        assert_eq!(kind.as_deref(), Some("application/problem+json"), "{status} {body}");
        assert_eq!(body["status"], json!(status), "{body}");
        for name in ["type", "title", "detail"] {
            assert!(body[name].as_str().is_some_and(|t| !t.is_empty()), "{name} in {body}");
        }
    }
    (status, body)
}

fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (name, secret) in [("a", SECRET), ("b", "secret of b")] {
        snapshot.instances.push(Arc::new(Instance {
            name: InstanceName::new(name).expect("a plain name"),
            tenant: tenant(name),
            platform: PlatformName::slack(),
            bot_token: None,
            signing_secret: Some(Secret::new(secret)),
            api_base_url: None,
            needs_channel_names: false,
            settings: std::collections::BTreeMap::default(),
        }));
        let mut flow = Flow::new(tenant(name), FlowName::new("ops").expect("a plain name"));
        let agent = AgentName::new(format!("shell-{name}")).expect("a plain name");
        flow.agents.push(FlowAgent {
            name: agent.clone(),
            patterns: Vec::new(),
            priority: aof_shared::message::Priority::Normal,
            tools: None,
            tool_config: std::collections::BTreeMap::default(),
        });
        snapshot.flows.push(Arc::new(flow));
        snapshot.agents.insert(agent.clone(), Arc::new(Agent::new(agent)));
    }
    snapshot
}
