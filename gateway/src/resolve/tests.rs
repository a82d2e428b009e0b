//! Names from a stubbed Slack into the store: at the start, on request, and when it is away.

use std::sync::Arc;

use serde_json::json;
use tempfile::TempDir;
use wiremock::matchers::{body_string_contains, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use aof_shared::config::{Config, Flow, Snapshot};
use aof_shared::node::Health;
use aof_shared::store::ChannelName;
use aof_shared::telemetry::Metrics;

use super::*;
use crate::reply::tests::harness::{instance, ports, requests, until};

struct Bench {
    node: Node,
    slack: MockServer,
    _dir: TempDir,
}

impl Bench {
    /// A node whose names are not read yet: mount the stub first, then call [`start`].
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let slack = MockServer::start().await;
        let mut flow = Flow::new("org-a".parse().expect("a name"), "f".parse().expect("a name"));
        flow.trigger.channels = vec!["#production".to_owned()];
        let snapshot = Snapshot {
            instances: vec![Arc::new(instance(&slack.uri()))],
            flows: vec![Arc::new(flow)],
            ..Snapshot::default()
        };
        let lifecycle = Lifecycle::new();
        let node = Node {
            ports: ports(dir.path(), &lifecycle).await,
            config: Config::new(snapshot),
            metrics: Arc::new(Metrics::default()),
            tracer: aof_shared::trace::Tracer::default(),
            health: Health::default(),
            members: Default::default(),
            lifecycle,
        };
        Self { node, slack, _dir: dir }
    }

    async fn answer(&self, method: &str, body: serde_json::Value) {
        Mock::given(path(method))
            .respond_with(ResponseTemplate::new(200).set_body_json(body))
            .mount(&self.slack)
            .await;
    }

    async fn known(&self, tenant: &str, channel: &str) -> Option<ChannelName> {
        let tenant = tenant.parse().expect("a name");
        let main = "main".parse().expect("a name");
        let store = &self.node.ports.store;
        store.channel(&tenant, &PlatformName::slack(), &main, channel).await.expect("it answers")
    }

    async fn name(&self, channel: &str) -> Option<String> {
        until("a name", || self.known("org-a", channel)).await.name
    }

    /// Asks until somebody listens: a signal reaches only those who do.
    async fn ask(&self, tenant: &str, channel: &str, calls: usize) {
        let request = json!({"tenant": tenant, "instance": "main", "channel": channel});
        let subject = LiveSubject::resolve(&PlatformName::slack());
        until("a lookup", || async {
            self.node.ports.live.send(&subject, request.to_string().into()).await;
            let calls_now = self.slack.received_requests().await.expect("recorded").len();
            (calls_now >= calls).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn names_are_read_at_the_start_page_by_page() {
    let bench = Bench::new().await;
    Mock::given(path("/conversations.list"))
        .and(body_string_contains("cursor=two"))
        .respond_with(
            ResponseTemplate::new(200)
                .set_body_json(json!({"ok": true, "channels": [{"id": "C2", "name": "staging"}]})),
        )
        .mount(&bench.slack)
        .await;
    bench
        .answer(
            "/conversations.list",
            json!({"ok": true, "channels": [{"id": "C1", "name": "production"}],
                "response_metadata": {"next_cursor": "two"}}),
        )
        .await;
    start(&bench.node).await;
    assert_eq!(bench.name("C1").await.as_deref(), Some("production"));
    assert_eq!(bench.name("C2").await.as_deref(), Some("staging"));
    assert_eq!(bench.known("org-b", "C1").await, None, "another tenant's names are its own");
}

#[tokio::test]
async fn a_platform_that_is_away_is_warned_of_by_its_host_until_names_come() {
    let bench = Bench::new().await;
    let up = bench.node.config.current();
    let away =
        Snapshot { instances: vec![Arc::new(instance("http://127.0.0.1:1"))], ..(*up).clone() };
    bench.node.config.apply(away);
    start(&bench.node).await;
    let part = "channel names of org-a/slack/main";
    let health = &bench.node.health;
    let warning = until("a warning", || async { health.warnings().get(part).cloned() }).await;
    assert!(warning.contains("no connection to 127.0.0.1:1"), "{warning}");
    assert!(health.ready(), "messages are taken all the same");
    bench
        .answer("/conversations.list", json!({"ok": true, "channels": [{"id": "C1", "name": "a"}]}))
        .await;
    bench.node.config.apply((*up).clone());
    until("its end", || async { health.warnings().is_empty().then_some(()) }).await;
}

#[tokio::test]
async fn an_app_without_private_channels_still_knows_the_public_ones() {
    let bench = Bench::new().await;
    Mock::given(path("/conversations.list"))
        .and(body_string_contains("private_channel"))
        .respond_with(
            ResponseTemplate::new(200).set_body_json(
                json!({"ok": false, "error": "missing_scope", "needed": "groups:read"}),
            ),
        )
        .mount(&bench.slack)
        .await;
    bench
        .answer(
            "/conversations.list",
            json!({"ok": true, "channels": [{"id": "C1", "name": "production"}]}),
        )
        .await;
    start(&bench.node).await;
    assert_eq!(bench.name("C1").await.as_deref(), Some("production"));
}

#[tokio::test]
async fn an_unknown_channel_is_asked_for_once_and_remembered() {
    let bench = Bench::new().await;
    bench.answer("/conversations.list", json!({"ok": true, "channels": []})).await;
    Mock::given(path("/conversations.info"))
        .and(body_string_contains("channel=C7"))
        .respond_with(
            ResponseTemplate::new(200)
                .set_body_json(json!({"ok": true, "channel": {"id": "C7", "name": "late"}})),
        )
        .expect(1)
        .mount(&bench.slack)
        .await;
    bench.answer("/conversations.info", json!({"ok": false, "error": "channel_not_found"})).await;
    start(&bench.node).await;
    requests(&bench.slack, 1).await;
    bench.ask("org-a", "C7", 2).await;
    assert_eq!(bench.name("C7").await.as_deref(), Some("late"));
    bench.ask("org-a", "C7", 2).await;
    bench.ask("org-a", "C8", 3).await;
    assert_eq!(bench.name("C8").await, None, "Slack says there is none");
}

#[tokio::test]
async fn a_request_for_another_tenants_account_is_not_answered() {
    let bench = Bench::new().await;
    bench.answer("/conversations.list", json!({"ok": true, "channels": []})).await;
    bench
        .answer("/conversations.info", json!({"ok": true, "channel": {"name": "production"}}))
        .await;
    start(&bench.node).await;
    requests(&bench.slack, 1).await;
    bench.ask("org-b", "C1", 1).await;
    bench.ask("org-a", "C2", 2).await;
    bench.name("C2").await;
    assert_eq!(bench.known("org-b", "C1").await, None);
    let asked = bench.slack.received_requests().await.expect("recorded");
    assert!(asked.iter().all(|r| !String::from_utf8_lossy(&r.body).contains("C1")));
}
