//! A node with the egress alone, on the embedded backend in a directory of its own, and
//! a stubbed Slack. Everything waits for a state with a deadline.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, ResponseTemplate};

use aof_shared::backend::open_embedded;
use aof_shared::clock::SystemClock;
use aof_shared::config::{Config, Instance, Snapshot};
use aof_shared::dead::DeadLetter;
use aof_shared::event::Event;
use aof_shared::ids::{EventId, MessageId, PlatformName, ReplyId, TenantId};
use aof_shared::lifecycle::Lifecycle;
use aof_shared::message::{Address, Reply, ReplyContent, RunStatus};
use aof_shared::node::{Health, Node};
use aof_shared::queue::{Publication, ReadRange};
use aof_shared::secret::Secret;
use aof_shared::store::Ports;
use aof_shared::subject::{Stream, Subject};
use aof_shared::telemetry::Metrics;
use uuid::Uuid;

use crate::reply::call::Caller;
use crate::reply::chat::ChatOutlet;
use crate::reply::{outlets, paced_by, start_with};

/// Longest wait for anything that must happen.
const DEADLINE: Duration = Duration::from_secs(20);
/// Pause between looks.
const LOOK: Duration = Duration::from_millis(10);
/// The stubbed Slack has to answer within this.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);

/// A node under test.
pub(super) struct Bench {
    pub(super) node: Node,
    pub(super) slack: MockServer,
    _dir: Option<TempDir>,
}

impl Bench {
    /// A fresh node and a fresh Slack.
    pub(super) async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let slack = MockServer::start().await;
        let node = node(dir.path(), &slack.uri(), CALL_TIMEOUT).await;
        Self { node, slack, _dir: Some(dir) }
    }

    /// A node on `dir` that calls Slack at `url`.
    pub(super) async fn open(dir: &Path, url: &str, timeout: Duration) -> Self {
        let slack = MockServer::start().await;
        Self { node: node(dir, url, timeout).await, slack, _dir: None }
    }

    pub(super) async fn publish(&self, reply: &Reply) {
        self.publish_as(reply, reply.to.tenant.as_str()).await;
    }

    pub(super) async fn publish_as(&self, reply: &Reply, tenant: &str) {
        let tenant: TenantId = tenant.parse().expect("a name");
        self.publish_with(&tenant, reply.id.0, reply).await;
    }

    /// Publishes it once more, as a retried dead letter is: under another id.
    pub(super) async fn publish_under(&self, id: Uuid, reply: &Reply) {
        self.publish_with(&reply.to.tenant, id, reply).await;
    }

    async fn publish_with(&self, tenant: &TenantId, id: Uuid, reply: &Reply) {
        let to = &reply.to;
        let subject = Subject::reply(tenant, &to.platform);
        let key = format!("{}/{}/{}", to.platform, to.instance, to.channel);
        let publication =
            Publication::json(subject, id, reply).expect("it is JSON").ordered_by(key);
        self.node.ports.queue.publish(vec![publication]).await.expect("it is stored");
    }

    /// The event that ends `reply`, if it is `kind` and there.
    pub(super) async fn find(&self, kind: &str, reply: &Reply) -> Option<Event> {
        self.find_id(kind, EventId::derive(reply.id.0, "sent")).await
    }

    /// The event `id`, if it is `kind` and there.
    pub(super) async fn find_id(&self, kind: &str, id: EventId) -> Option<Event> {
        let range = ReadRange { rests: vec![kind.to_owned()], ..ReadRange::default() };
        let stored = self.node.ports.queue.read(Stream::Events, range, 1_000, 0).await;
        let events = stored.expect("the journal can be read");
        events.iter().find(|s| s.id == id.0).map(|s| Event::from_stored(s).expect("an event"))
    }

    /// Waits for it.
    pub(super) async fn event(&self, kind: &str, reply: &Reply) -> Event {
        until(kind, || self.find(kind, reply)).await
    }

    pub(super) async fn dead_letters(&self) -> Vec<DeadLetter> {
        let read = self.node.ports.queue.read(Stream::Dead, ReadRange::default(), 100, 0).await;
        let stored = read.expect("DEAD can be read");
        stored.iter().map(|s| DeadLetter::from_stored(s).expect("a dead letter")).collect()
    }

    /// Waits for the first dead letter.
    pub(super) async fn dead_letter(&self) -> DeadLetter {
        until("a dead letter", || async { self.dead_letters().await.into_iter().next() }).await
    }

    /// Waits until nothing of `stream` is left to settle.
    pub(super) async fn settled(&self, stream: Stream) {
        until("an empty stream", || async {
            let backlog = self.node.ports.queue.backlog(stream).await.expect("it can be read");
            backlog.is_empty().then_some(())
        })
        .await;
    }

    /// Waits until Slack has been called `count` times.
    pub(super) async fn request_count(&self, count: usize) {
        requests(&self.slack, count).await;
    }

    /// Bodies of the calls of `method`, in order.
    pub(super) async fn bodies(&self, method: &str) -> Vec<Value> {
        let requests = self.slack.received_requests().await.expect("they are recorded");
        let of_method = requests.iter().filter(|r| r.url.path() == method);
        of_method.map(|r| serde_json::from_slice(&r.body).expect("JSON")).collect()
    }

    /// The texts posted, in order.
    pub(super) async fn texts(&self) -> Vec<String> {
        let bodies = self.bodies("/chat.postMessage").await;
        bodies.iter().map(|b| b["text"].as_str().expect("text").to_owned()).collect()
    }
}

/// Waits until `server` has been called `count` times.
pub(crate) async fn requests(server: &MockServer, count: usize) {
    until("enough calls", || async {
        let requests = server.received_requests().await.expect("they are recorded");
        (requests.len() >= count).then_some(())
    })
    .await;
}

/// Looks until `look` finds something.
pub(crate) async fn until<T, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "no {what} in {DEADLINE:?}");
        tokio::time::sleep(LOOK).await;
    }
}

/// A runtime whose drop is a crash: every task ends where it stands.
pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Ports on `dir`; waits for an earlier holder in this process to let go.
pub(crate) async fn ports(dir: &Path, lifecycle: &Lifecycle) -> Ports {
    until("free directory", || async { open_embedded(dir, Arc::new(SystemClock), lifecycle).ok() })
        .await
}

async fn node(dir: &Path, url: &str, timeout: Duration) -> Node {
    let lifecycle = Lifecycle::new();
    let ports = ports(dir, &lifecycle).await;
    let snapshot = Snapshot { instances: vec![Arc::new(instance(url))], ..Snapshot::default() };
    let node = Node {
        ports,
        config: Config::new(snapshot),
        metrics: Arc::new(Metrics::default()),
        tracer: aof_shared::trace::Tracer::default(),
        health: Health::default(),
        members: Default::default(),
        lifecycle,
    };
    let mut outlets = outlets(&paced_by(&node, Caller::with_timeout(timeout)));
    outlets.insert(PlatformName::chat(), Arc::new(ChatOutlet::new(Arc::clone(&node.ports.live))));
    start_with(&node, outlets).await.expect("it starts");
    node
}

/// The account `main` of `org-a` at `url`.
pub(crate) fn instance(url: &str) -> Instance {
    Instance {
        name: "main".parse().expect("a name"),
        tenant: "org-a".parse().expect("a name"),
        platform: PlatformName::slack(),
        bot_token: Some(Secret::new("xoxb-test")),
        signing_secret: None,
        api_base_url: Some(url.to_owned()),
        needs_channel_names: true,
        settings: std::collections::BTreeMap::new(),
    }
}

/// Slack takes every post as `ts`.
pub(super) fn posted(ts: &str) -> Mock {
    posted_after(ts, Duration::ZERO)
}

/// The same, but answers late.
pub(super) fn posted_after(ts: &str, delay: Duration) -> Mock {
    let body = json!({"ok": true, "ts": ts});
    let answer = ResponseTemplate::new(200).set_body_json(body).set_delay(delay);
    Mock::given(path("/chat.postMessage")).respond_with(answer)
}

/// An answer of `org-a` in a Slack channel.
pub(super) fn answer(channel: &str, text: &str) -> Reply {
    reply_to(PlatformName::slack(), channel, text)
}

/// An answer on any platform.
pub(crate) fn reply_to(platform: PlatformName, channel: &str, text: &str) -> Reply {
    let message = MessageId(Uuid::now_v7());
    Reply {
        id: ReplyId::derive(message.0, "answer"),
        to: Address {
            tenant: "org-a".parse().expect("a name"),
            platform,
            instance: "main".parse().expect("a name"),
            channel: channel.to_owned(),
            thread: None,
        },
        message,
        run: None,
        content: ReplyContent::Answer { text: text.to_owned(), status: RunStatus::Success },
    }
}
