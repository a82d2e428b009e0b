//! Connections to a scripted Gateway: begun, resumed, lost, taken over, refused.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aof_harness::{DISCORD_BOT, Discord, discord_message, discord_reaction, until};
use serde_json::{Value, json};
use tempfile::TempDir;

use aof_shared::action::ActionMessage;
use aof_shared::backend::open_embedded;
use aof_shared::clock::SystemClock;
use aof_shared::config::{Config, Flow, Instance, Snapshot};
use aof_shared::lifecycle::Lifecycle;
use aof_shared::message::{Message, MessageKind};
use aof_shared::node::{Health, Node};
use aof_shared::queue::ReadRange;
use aof_shared::queue::watched::WatchedQueue;
use aof_shared::secret::Secret;
use aof_shared::store::Ports;
use aof_shared::subject::Stream;
use aof_shared::telemetry::Metrics;

use crate::Options;
use crate::platform::contract::account;
use crate::testing::refusing::Refusing;

const CHANNEL: &str = "300000000000000001";
const PERSON: &str = "100000000000000001";

/// What ends a connection, and how.
type End = (&'static str, fn(&Discord));

/// A node of its own backend, and a stubbed Discord.
struct Bench {
    discord: Discord,
    /// `None` between two nodes on one folder.
    node: Option<Node>,
    /// While true the queue refuses to store.
    full: Arc<AtomicBool>,
    dir: TempDir,
    api: String,
}

fn snapshot(api: &str) -> Snapshot {
    let mut instance = account("discord", "key", &json!({}));
    instance.bot_token = Some(Secret::new("a bot token"));
    instance.api_base_url = Some(api.to_owned());
    let mut flow = Flow::new("a".parse().expect("a name"), "ops".parse().expect("a name"));
    flow.approval.mode = aof_shared::config::ApprovalMode::Required;
    let instances: Vec<Arc<Instance>> = vec![Arc::new(instance)];
    Snapshot { instances, flows: vec![Arc::new(flow)], ..Snapshot::default() }
}

fn node_on(mut ports: Ports, api: &str, lifecycle: Lifecycle, full: &Arc<AtomicBool>) -> Node {
    ports.together = None;
    ports.queue = Arc::new(WatchedQueue::new(ports.queue, Refusing(Arc::clone(full))));
    Node {
        ports,
        config: Config::new(snapshot(api)),
        metrics: Arc::new(Metrics::default()),
        tracer: aof_shared::trace::Tracer::default(),
        health: Health::default(),
        members: Default::default(),
        lifecycle,
    }
}

fn embedded(dir: &Path, lifecycle: &Lifecycle) -> Ports {
    open_embedded(dir, Arc::new(SystemClock), lifecycle).expect("the folder opens")
}

async fn gateway(node: &Node) {
    crate::start(node, Options::new("127.0.0.1:0")).await.expect("a gateway");
}

impl Bench {
    /// A stub, and a node that is not started yet.
    async fn new() -> Self {
        let (discord, address) = Discord::start(&[(CHANNEL, "production")]).await;
        let dir = tempfile::tempdir().expect("a folder");
        let api = format!("http://{address}/api/v10");
        let lifecycle = Lifecycle::new();
        let full = Arc::new(AtomicBool::new(false));
        let node = node_on(embedded(dir.path(), &lifecycle), &api, lifecycle, &full);
        Self { discord, node: Some(node), full, dir, api }
    }

    fn node(&self) -> &Node {
        self.node.as_ref().expect("a node")
    }

    /// One whose connection is up.
    async fn connected() -> Self {
        let bench = Self::new().await;
        gateway(bench.node()).await;
        bench.held().await;
        bench
    }

    async fn held(&self) {
        until("a connection", async || self.discord.gateway().is_held().then_some(())).await;
    }

    /// Somebody says something.
    fn say(&self, id: &str, text: &str) {
        let message = discord_message(id, CHANNEL, PERSON, text);
        self.discord.gateway().dispatch("MESSAGE_CREATE", message);
    }

    async fn inbound(&self) -> Vec<Message> {
        let read = self.node().ports.queue.read(Stream::Inbound, ReadRange::default(), 1_000, 0);
        let stored = read.await.expect("INBOUND reads");
        stored.iter().map(|s| serde_json::from_slice(&s.payload).expect("a message")).collect()
    }

    /// Waits for so many messages; their ids at Discord.
    async fn messages(&self, count: usize) -> Vec<String> {
        let messages = until(&format!("{count} messages"), async || {
            let messages = self.inbound().await;
            (messages.len() >= count).then_some(messages)
        })
        .await;
        messages.into_iter().map(|message| message.event_id).collect()
    }

    /// Ends the node as a drain does, and starts another on the same folder.
    async fn restart(&mut self) {
        self.stop().await;
        self.node = None; // the folder is one node's at a time
        let lifecycle = Lifecycle::new();
        let ports = embedded(self.dir.path(), &lifecycle);
        let node = node_on(ports, &self.api, lifecycle, &self.full);
        gateway(&node).await;
        self.node = Some(node);
    }

    async fn stop(&self) {
        self.node().lifecycle.stop();
        self.node().lifecycle.drained().await;
    }

    async fn warning(&self) -> String {
        until("a warning", async || {
            let warnings = self.node().health.warnings();
            warnings.get("connection of a/discord/a").cloned()
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_begins_with_what_flows_want_and_brings_messages_and_votes() {
    let bench = Bench::connected().await;
    let identified = &bench.discord.gateway().identified()[0];
    assert_eq!(identified["token"], "Bot a bot token");
    let intents = [0, 9, 10, 12, 13, 15].map(|bit| 1_u64 << bit).iter().sum::<u64>();
    assert_eq!(identified["intents"], json!(intents));
    bench.say("500000000000000001", &format!("<@{DISCORD_BOT}> uname"));
    let own = json!({"author": {"id": DISCORD_BOT, "bot": true}, "content": "hi"});
    bench.discord.gateway().dispatch("MESSAGE_CREATE", own);
    bench.say("500000000000000002", "just talking");
    assert_eq!(bench.messages(2).await, ["500000000000000001", "500000000000000002"]);
    let kinds: Vec<_> = bench.inbound().await.into_iter().map(|m| m.kind).collect();
    assert_eq!(kinds, [MessageKind::Mention, MessageKind::Message]);
    let reaction = discord_reaction(CHANNEL, "500000000000000009", PERSON, "👍");
    bench.discord.gateway().dispatch("MESSAGE_REACTION_ADD", reaction.clone());
    bench.discord.gateway().dispatch("MESSAGE_REACTION_REMOVE", reaction.clone());
    bench.discord.gateway().dispatch("MESSAGE_REACTION_ADD", reaction);
    let votes = until("three votes", async || {
        let read = bench.node().ports.queue.read(Stream::Actions, ReadRange::default(), 10, 0);
        let stored = read.await.expect("ACTIONS reads");
        (stored.len() >= 3).then_some(stored)
    })
    .await;
    for vote in votes {
        let vote: ActionMessage = serde_json::from_slice(&vote.payload).expect("a vote");
        assert!(matches!(vote, ActionMessage::Vote(_)), "{vote:?}");
    }
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_ends_a_connection_is_resumed_where_the_queue_stands() {
    let mut bench = Bench::connected().await;
    let gateway = bench.discord.gateway().clone();
    let mut said = 0;
    let ends: [End; 4] = [
        ("the connection is cut", |d| d.gateway().end(None)),
        ("it is closed with a code that can be resumed", |d| d.gateway().end(Some(4000))),
        ("a reconnect is asked for", |d| d.gateway().send(json!({"op": 7}))),
        ("the session is invalid but resumable", |d| {
            d.gateway().send(json!({"op": 9, "d": true}));
        }),
    ];
    for (what, end) in ends {
        let resumed = gateway.resumed().len();
        bench.say(&format!("50000000000000010{said}"), what);
        said += 1;
        bench.messages(said).await;
        end(&bench.discord);
        until(what, async || (gateway.resumed().len() > resumed).then_some(())).await;
        bench.held().await;
    }
    // While nobody is connected things go on; whoever comes next is told.
    bench.stop().await;
    bench.say("500000000000000200", "while the node was away");
    let resumed = gateway.resumed().len();
    bench.restart().await;
    until("a resumption", async || (gateway.resumed().len() > resumed).then_some(())).await;
    bench.messages(said + 1).await;
    assert_eq!(gateway.identified().len(), 1, "one session served all of it");
    let last: &Value = &gateway.resumed()[resumed];
    assert_eq!(last["seq"], json!(said + 1), "READY and what was said, which the queue has");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_over_is_begun_anew() {
    let bench = Bench::connected().await;
    bench.discord.gateway().behave(|b| b.resumes = false);
    bench.discord.gateway().end(None);
    until("another session", async || {
        (bench.discord.gateway().identified().len() == 2).then_some(())
    })
    .await;
    bench.held().await;
    bench.say("500000000000000001", "hello");
    bench.messages(1).await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_does_not_answer_heartbeats_is_left() {
    let bench = Bench::new().await;
    bench.discord.gateway().behave(|b| {
        b.heartbeat_interval_ms = 200;
        b.acknowledges = false;
    });
    gateway(bench.node()).await;
    until("another connection", async || {
        (!bench.discord.gateway().resumed().is_empty()).then_some(())
    })
    .await;
    assert!(bench.discord.gateway().heartbeats() > 0);
    bench.discord.gateway().behave(|b| b.acknowledges = true);
    bench.held().await;
    bench.say("500000000000000001", "hello");
    bench.messages(1).await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_queue_does_not_take_is_not_acknowledged() {
    let mut bench = Bench::connected().await;
    bench.say("500000000000000001", "before");
    bench.messages(1).await;
    bench.full.store(true, Ordering::SeqCst);
    bench.say("500000000000000002", "while it is full");
    until("a refusal", async || {
        let metrics =
            bench.node().metrics.ingress.get_or_create(&aof_shared::telemetry::IngressLabels {
                platform: "discord".to_owned(),
                outcome: "unavailable".to_owned(),
            });
        (metrics.get() > 0).then_some(())
    })
    .await;
    // It ends without having it, and starts again with room.
    bench.stop().await;
    bench.full.store(false, Ordering::SeqCst);
    bench.restart().await;
    bench.messages(2).await;
    let resumed = bench.discord.gateway().resumed();
    assert_eq!(resumed[0]["seq"], json!(2), "READY and the first message: {resumed:?}");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_gateways_one_holds_the_connection_and_the_other_takes_over() {
    let bench = Bench::connected().await;
    let second = Node {
        lifecycle: Lifecycle::new(),
        health: Health::default(),
        config: Config::new(snapshot(&bench.api)),
        ..bench.node().clone()
    };
    gateway(&second).await;
    bench.say("500000000000000001", "to the first");
    bench.messages(1).await;
    assert_eq!(bench.discord.gateway().connections(), 1, "the second waits");
    // The second's ports are the first's, which end with it: only its gateway is stopped.
    let first = bench.discord.gateway().resumed().len();
    second.lifecycle.stop();
    second.lifecycle.drained().await;
    assert_eq!(bench.discord.gateway().resumed().len(), first, "it never had it");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_people_can_mend_is_said_and_not_tried_over_and_over() {
    for (code, word) in [(4004, "bot_token"), (4014, "Message Content Intent")] {
        let bench = Bench::new().await;
        bench.discord.gateway().behave(|b| b.refuses = Some(code));
        gateway(bench.node()).await;
        let warning = bench.warning().await;
        assert!(warning.contains(word), "{warning}");
        assert_eq!(bench.discord.gateway().identified().len(), 1);
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_session_is_begun_once_discord_has_none_left() {
    let bench = Bench::new().await;
    bench.discord.gateway().behave(|b| b.remaining = 0);
    gateway(bench.node()).await;
    until("a connection that waits", async || {
        let asked = bench.discord.calls("GET", "/gateway/bot").len();
        (bench.discord.gateway().connections() > 0 && asked > 1).then_some(())
    })
    .await;
    assert!(bench.discord.gateway().identified().is_empty());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_come_over_the_connection_where_no_address_is_registered() {
    let bench = Bench::connected().await;
    bench.discord.gateway().dispatch(
        "INTERACTION_CREATE",
        json!({
            "type": 2, "id": "400000000000000001", "application_id": "800000000000000001",
            "token": "t0ken", "guild_id": aof_harness::DISCORD_SERVER, "channel_id": CHANNEL,
            "member": {"user": {"id": PERSON}},
            "data": {"name": "ops", "options": [{"name": "task", "value": "uname"}]},
        }),
    );
    let call =
        until("an answer", async || bench.discord.calls("POST", "/callback").into_iter().next())
            .await;
    assert_eq!(call.path, "/interactions/400000000000000001/t0ken/callback");
    assert_eq!(call.body, json!({"type": 5}));
    assert_eq!(bench.inbound().await[0].text, "uname");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_in_a_thread_belongs_to_the_channel_that_it_hangs_below() {
    let bench = Bench::connected().await;
    let thread = json!({"id": "300000000000000077", "type": 11, "parent_id": CHANNEL});
    bench.discord.gateway().dispatch("GUILD_CREATE", json!({"id": "2", "threads": [thread]}));
    let mut message =
        discord_message("500000000000000001", "300000000000000077", PERSON, "in the thread");
    message["position"] = json!(1);
    bench.discord.gateway().dispatch("MESSAGE_CREATE", message);
    bench.messages(1).await;
    let message = bench.inbound().await.remove(0);
    assert_eq!(message.channel.id, CHANNEL);
    assert_eq!(message.thread.as_deref(), Some("300000000000000077/500000000000000001"));
    bench.stop().await;
}
