//! The loop on the embedded backend: what arrives where, how often, and in what order.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use aof_shared::backend::open_embedded;
use aof_shared::clock::{ManualClock, SystemClock};
use aof_shared::config::{Config, Daemon, Instance, RecordedConfig, Snapshot};
use aof_shared::dead::DeadLetter;
use aof_shared::event::{Event, EventType};
use aof_shared::ids::{EventId, MessageId, PlatformName, RunId, TaskId, TenantId};
use aof_shared::lifecycle::Lifecycle;
use aof_shared::message::{Message, MessageKind, Priority, Reply, Task};
use aof_shared::node::{Health, Node};
use aof_shared::queue::{ConsumerSpec, Publication, ReadRange, Stored};
use aof_shared::store::ChannelName;
use aof_shared::subject::{LiveSubject, Stream, Subject};
use aof_shared::telemetry::Metrics;
use aof_shared::trace::{TRACEPARENT, TraceContext, causation};
use tempfile::TempDir;
use uuid::Uuid;

use crate::fixture::{NewFlow, flow, message, snapshot, tenant, with_default_agent};
use crate::names::GIVE_UP_AFTER_MS;

/// Longest wait for anything here.
const DEADLINE: Duration = Duration::from_secs(20);

/// A node with only the router running.
struct Rig {
    node: Node,
    root: Lifecycle,
    clock: ManualClock,
    _dir: TempDir,
}

async fn rig(snapshot: Snapshot) -> Rig {
    let dir = tempfile::tempdir().expect("a directory");
    let root = Lifecycle::new();
    let mut ports =
        open_embedded(dir.path(), Arc::new(SystemClock), &root).expect("an open backend");
    // The queue's delays are real; what the router waits for is the test's to say.
    let clock = ManualClock::at(1_000_000);
    ports.clock = Arc::new(clock.clone());
    let node = Node {
        ports,
        config: Config::new(snapshot),
        metrics: Arc::new(Metrics::default()),
        tracer: aof_shared::trace::Tracer::default(),
        health: Health::default(),
        members: Default::default(),
        lifecycle: root.child(),
    };
    crate::start(&node).await.expect("a started router");
    Rig { node, root, clock, _dir: dir }
}

/// Waits for a state; never for a time.
async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("no {what} in time"))
}

impl Rig {
    async fn publish(&self, message: &Message, id: Uuid) -> TraceContext {
        let trace = TraceContext::start();
        let subject = Subject::inbound(&message.tenant, &message.platform);
        let publication = Publication::json(subject, id, message)
            .expect("a message is JSON")
            .ordered_by(message.ordering_key())
            .with_header(TRACEPARENT, trace.traceparent());
        self.node.ports.queue.publish(vec![publication]).await.expect("published");
        trace
    }

    async fn send(&self, message: &Message) -> TraceContext {
        self.publish(message, message.id.0).await
    }

    async fn stored(&self, stream: Stream, of: &str, count: usize) -> Vec<Stored> {
        self.stored_under(stream, of, Vec::new(), count).await
    }

    async fn stored_under(
        &self,
        stream: Stream,
        of: &str,
        rests: Vec<String>,
        count: usize,
    ) -> Vec<Stored> {
        let range = ReadRange { tenant: Some(tenant(of)), rests, ..ReadRange::default() };
        let read = async {
            loop {
                let read = self.node.ports.queue.read(stream, range.clone(), 1_000, 100).await;
                let read = read.expect("a readable stream");
                if read.len() >= count {
                    return read;
                }
            }
        };
        within(&format!("{count} of {stream} for {of}"), read).await
    }

    /// What the journal says of messages.
    async fn events(&self, of: &str, count: usize) -> Vec<Event> {
        let kinds = EventType::ALL.iter().filter(|kind| **kind != EventType::ConfigRecorded);
        let rests = kinds.map(|kind| kind.name().to_owned()).collect();
        let stored = self.stored_under(Stream::Events, of, rests, count).await;
        stored.iter().map(|s| Event::from_stored(s).expect("an event")).collect()
    }

    /// Takes every task that waits for `tenant`, one after the other.
    async fn tasks(&self, of: &str, count: usize) -> Vec<(Stored, Task)> {
        let spec = ConsumerSpec {
            stream: Stream::Tasks,
            name: "worker".into(),
            rest: None,
            ack_wait_ms: 30_000,
            max_ack_pending: 100,
        };
        let consumer = self.node.ports.queue.consumer(spec).await.expect("a consumer");
        let mut taken = Vec::new();
        let take = async {
            while taken.len() < count {
                let pulled = consumer.pull(Some(&tenant(of)), 10, 100).await.expect("a pull");
                let mut keys = HashSet::new();
                for delivery in pulled {
                    let task: Task =
                        serde_json::from_slice(&delivery.message.payload).expect("a task");
                    assert!(keys.insert(task.message.ordering_key()), "one at a time");
                    taken.push((delivery.message.clone(), task));
                    delivery.ack().await.expect("acked");
                }
            }
        };
        within(&format!("{count} tasks of {of}"), take).await;
        taken
    }

    async fn close(self) {
        self.node.lifecycle.stop();
        within("drained router", self.node.lifecycle.drained()).await;
        self.root.stop();
    }
}

fn with_account(flows: Vec<NewFlow>, daemon: Daemon) -> Snapshot {
    let instance = Instance {
        name: "main".parse().expect("a valid name"),
        tenant: TenantId::default(),
        platform: PlatformName::slack(),
        bot_token: None,
        signing_secret: None,
        api_base_url: None,
        needs_channel_names: true,
        settings: std::collections::BTreeMap::new(),
    };
    Snapshot { instances: vec![Arc::new(instance)], ..snapshot(flows, daemon) }
}

fn production() -> Vec<NewFlow> {
    vec![flow("prod").on("slack").channels(&["production"]).agent("k8s-ops", &[])]
}

fn numbered(conversation: &str, number: usize) -> Message {
    let mut message = message(&format!("{conversation} {number}"));
    message.conversation = conversation.to_owned();
    message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_lands_on_its_own_tenants_subject_only() {
    let of = |name: &str| flow("same-name").of(name).agent("agent", &[]).critical();
    let rig = rig(snapshot(vec![of("org-a"), of("org-b")], Daemon::default())).await;
    for name in ["org-a", "org-b"] {
        let mut sent = message("hello");
        sent.tenant = tenant(name);
        sent.id = MessageId::derive(&sent.tenant, &sent.platform, &sent.instance, "hello");
        let trace = rig.send(&sent).await;
        let (stored, task) = rig.tasks(name, 1).await.remove(0);
        let parts = (stored.subject.stream(), stored.subject.tenant().as_str());
        assert_eq!(parts, (Stream::Tasks, name));
        assert_eq!(stored.subject.rest(), "same-name");
        assert_eq!((task.id, task.run), {
            let id = TaskId::derive(sent.id, &task.flow);
            (id, RunId::derive(id))
        });
        assert_eq!(stored.id, task.id.0);
        assert_eq!(task.priority, Priority::Critical);
        assert_eq!(task.message.raw, "", "the raw body stays in INBOUND");
        assert_eq!(task.message.tenant, sent.tenant);
        assert_eq!(TraceContext::of(&stored.headers).trace_id(), trace.trace_id());
        assert_eq!(causation(&stored.headers), Some(EventId::derive(sent.id.0, "routed")));
        let events = rig.events(name, 1).await;
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].kind, EventType::MessageRouted);
        assert_eq!(events[0].data["candidates"][0]["flow"], "same-name");
        assert_eq!(events[0].data["score"], 10);
        assert!(!events[0].data.to_string().contains("hello"), "the text is not journaled");
    }
    rig.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_names_all_that_it_was_made_from() {
    let rig = rig(snapshot(vec![flow("f").agent("a", &[])], Daemon::default())).await;
    for text in ["one", "two"] {
        rig.send(&message(text)).await;
    }
    let decisions = rig.events("default", 2).await;
    let recorded = vec![EventType::ConfigRecorded.name().to_owned()];
    let recorded = rig.stored_under(Stream::Events, "default", recorded, 1).await;
    assert_eq!(recorded.len(), 1, "once for all decisions under it");
    let recorded = Event::from_stored(&recorded[0]).expect("an event");
    let config: RecordedConfig =
        serde_json::from_value(recorded.data["document"].clone()).expect("a configuration");
    let inbound = rig.stored(Stream::Inbound, "default", 2).await;
    for (decision, stored) in decisions.iter().zip(inbound) {
        assert_eq!(decision.data["config"], config.digest().as_str());
        assert_eq!(decision.data["inbound_seq"], stored.seq);
        assert_eq!(decision.message_id.map(|m| m.0), Some(stored.id));
        assert_eq!(decision.data["naming"], "unasked", "no flow names a channel");
    }
    rig.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_routed_twice_is_published_once() {
    let rig = rig(snapshot(vec![flow("f").agent("a", &[])], Daemon::default())).await;
    let sent = message("once");
    rig.send(&sent).await;
    rig.publish(&sent, Uuid::from_u128(7)).await;
    let after = message("after");
    rig.send(&after).await;
    let tasks = rig.tasks("default", 2).await;
    let texts: Vec<_> = tasks.iter().map(|(_, task)| task.message.text.as_str()).collect();
    assert_eq!(texts, ["once", "after"]);
    assert_eq!(rig.events("default", 2).await.len(), 2);
    rig.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_keeps_its_order() {
    const EACH: usize = 40;
    let rig = rig(snapshot(vec![flow("f").agent("a", &[])], Daemon::default())).await;
    for number in 0..EACH {
        for conversation in ["one", "two", "three"] {
            rig.send(&numbered(conversation, number)).await;
        }
    }
    let tasks = rig.tasks("default", 3 * EACH).await;
    for conversation in ["one", "two", "three"] {
        let of = tasks.iter().filter(|(_, t)| t.message.conversation == conversation);
        let order: Vec<String> = of.map(|(_, t)| t.message.text.clone()).collect();
        let sent: Vec<_> = (0..EACH).map(|n| format!("{conversation} {n}")).collect();
        assert_eq!(order, sent);
    }
    rig.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_waits_for_its_channels_name_and_then_matches_it() {
    let rig = rig(with_account(production(), with_default_agent())).await;
    let ports = &rig.node.ports;
    let subject = LiveSubject::resolve(&PlatformName::slack());
    let mut asked = ports.live.listen(&subject).await.expect("a listener");
    let sent = message("hello");
    rig.send(&sent).await;
    let request = within("request for the name", asked.next()).await.expect("a request");
    let request: serde_json::Value = serde_json::from_slice(&request).expect("JSON");
    let expected = serde_json::json!({
        "tenant": "default", "instance": "main", "channel": "C0PROD111",
    });
    assert_eq!(request, expected);
    let names = [ChannelName {
        id: "C0PROD111".into(),
        name: Some("production".into()),
        asked_at_ms: 1_000_000,
    }];
    let stored = ports.store.put_channels(&sent.tenant, &sent.platform, &sent.instance, &names);
    stored.await.expect("a stored name");
    // The router remembers for a moment that nobody knew the name.
    rig.clock.advance_ms(1_000);
    let (_, task) = rig.tasks("default", 1).await.remove(0);
    assert_eq!((task.flow.as_str(), task.score), ("prod", 140));
    let event = rig.events("default", 1).await.remove(0);
    assert_eq!(event.data["channel_id"], "C0PROD111");
    assert_eq!(event.data["channel_name"], "production");
    rig.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_nobody_resolves_matches_nothing_after_a_bounded_wait() {
    let rig = rig(with_account(production(), Daemon::default())).await;
    let subject = LiveSubject::resolve(&PlatformName::slack());
    let mut asked = rig.node.ports.live.listen(&subject).await.expect("a listener");
    let mut sent = message("hello");
    // What the message itself says of the name counts for nothing.
    sent.channel.name = Some("production".into());
    rig.send(&sent).await;
    within("request for the name", asked.next()).await;
    rig.clock.advance_ms(GIVE_UP_AFTER_MS);
    let event = rig.events("default", 1).await.remove(0);
    assert_eq!(event.kind, EventType::MessageUnrouted);
    assert_eq!(event.data["unresolved_channel"], true);
    assert_eq!(event.data["reason"], "unresolved_channel");
    let detail = event.data["detail"].as_str().expect("a sentence");
    assert!(detail.contains("could not look up this channel's name"), "{detail}");
    assert_eq!(event.data["channel_name"], serde_json::Value::Null);
    rig.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_resolver_nobody_waits() {
    let rig = rig(snapshot(production(), with_default_agent())).await;
    rig.send(&message("hello")).await;
    let (_, task) = rig.tasks("default", 1).await.remove(0);
    assert_eq!(task.flow.as_str(), "_default");
    let event = rig.events("default", 1).await.remove(0);
    assert_eq!(event.data["unresolved_channel"], true);
    rig.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_mode_says_so_to_whoever_spoke_to_the_bot() {
    let strict = Daemon { strict_mode: true, ..with_default_agent() };
    let rig = rig(snapshot(Vec::new(), strict)).await;
    let spoken = message("hello bot");
    let mut chatter = message("hello all");
    chatter.kind = MessageKind::Message;
    let mut alert = message("disk full");
    alert.kind = MessageKind::Alert;
    for sent in [&spoken, &chatter, &alert] {
        rig.send(sent).await;
    }
    let events = rig.events("default", 3).await;
    let ended = |of: &Message| {
        let event = events.iter().find(|e| e.message_id == Some(of.id)).expect("an event");
        assert_eq!(event.id, EventId::derive(of.id.0, "terminal"));
        (event.kind, event.data["reason"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(ended(&spoken), (EventType::MessageUnrouted, "strict_mode".into()));
    assert_eq!(ended(&alert), (EventType::MessageUnrouted, "strict_mode".into()));
    assert_eq!(ended(&chatter), (EventType::MessageIgnored, "no_flow".into()));
    let replies = rig.stored(Stream::Replies, "default", 1).await;
    assert_eq!(replies.len(), 1, "one notice, to the one who spoke to the bot");
    let reply: Reply = serde_json::from_slice(&replies[0].payload).expect("a reply");
    assert_eq!((reply.message, reply.to), (spoken.id, spoken.address()));
    rig.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_becomes_a_dead_letter_and_holds_up_nothing() {
    let rig = rig(snapshot(vec![flow("f").agent("a", &[])], Daemon::default())).await;
    let good = message("good");
    let subject = Subject::inbound(&good.tenant, &good.platform);
    let broken = Publication::new(subject, Uuid::from_u128(1), "not json");
    let mut foreign = message("foreign");
    foreign.tenant = tenant("org-a");
    let subject = Subject::inbound(&good.tenant, &good.platform);
    let foreign = Publication::json(subject, Uuid::from_u128(2), &foreign).expect("JSON");
    rig.node.ports.queue.publish(vec![broken, foreign]).await.expect("published");
    rig.send(&good).await;
    assert_eq!(rig.tasks("default", 1).await[0].1.message.text, "good");
    let dead = rig.stored(Stream::Dead, "default", 2).await;
    let dead: Vec<_> = dead.iter().map(|s| DeadLetter::from_stored(s).expect("readable")).collect();
    let mut reasons: Vec<_> = dead.iter().map(|d| d.reason.as_str()).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, ["unreadable", "wrong_tenant"]);
    assert!(dead.iter().any(|d| d.payload == "not json"));
    let events = rig.events("default", 3).await;
    let terminal = EventId::derive(Uuid::from_u128(1), "terminal");
    let event = events.iter().find(|e| e.id == terminal).expect("the terminal event");
    assert_eq!(event.kind, EventType::DeadLetterAdded);
    rig.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_router_leaves_the_rest_to_the_next_one() {
    let mut rig = rig(snapshot(vec![flow("f").agent("a", &[])], Daemon::default())).await;
    rig.send(&numbered("one", 0)).await;
    rig.tasks("default", 1).await;
    rig.node.lifecycle.stop();
    within("drained router", rig.node.lifecycle.drained()).await;
    rig.send(&numbered("one", 1)).await;
    rig.node.lifecycle = rig.root.child();
    crate::start(&rig.node).await.expect("a started router");
    let (_, task) = rig.tasks("default", 1).await.remove(0);
    assert_eq!(task.message.text, "one 1");
    rig.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_configuration_takes_over_whole() {
    let rig = rig(snapshot(vec![flow("old").agent("a", &[])], Daemon::default())).await;
    rig.send(&numbered("one", 0)).await;
    assert_eq!(rig.tasks("default", 1).await[0].1.flow.as_str(), "old");
    let new = snapshot(vec![flow("new").agent("a", &[])], Daemon::default());
    let revision = new.revision.clone();
    rig.node.config.apply(new);
    let swapped = async {
        for number in 1.. {
            rig.send(&numbered("one", number)).await;
            let (_, task) = rig.tasks("default", 1).await.remove(0);
            assert_eq!(task.flow.as_str() == "new", task.revision == revision);
            if task.flow.as_str() == "new" {
                return;
            }
        }
    };
    within("task of the new flow", swapped).await;
    rig.close().await;
}
