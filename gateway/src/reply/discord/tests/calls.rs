//! Calls that are limited, repeated, or answer a command in place.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use wiremock::matchers::{any, method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use aof_shared::backend::open_embedded;
use aof_shared::clock::ManualClock;
use aof_shared::config::{Config, Snapshot};
use aof_shared::lifecycle::Lifecycle;
use aof_shared::message::{Reply, ReplyContent, RunStatus};
use aof_shared::secret::Secret;
use aof_shared::store::{Note, NoteKey, Store};

use super::says;
use crate::platform::contract::account;
use crate::platform::discord::interaction::note_name;
use crate::reply::accounts::Accounts;
use crate::reply::call::Caller;
use crate::reply::discord::DiscordOutlet;
use crate::reply::pace::Pacer;
use crate::reply::paced::Paced;
use crate::reply::port::{Outlet, SendError};

const AT_MS: u64 = 1_700_000_000_000;
const CHANNEL: &str = "300000000000000001";
const OTHER_CHANNEL: &str = "300000000000000002";
const TIMEOUT: Duration = Duration::from_millis(400);

/// An outlet whose Discord is a stub.
struct Bench {
    server: MockServer,
    outlet: DiscordOutlet,
    store: Arc<dyn Store>,
    clock: ManualClock,
    _dir: TempDir,
}

impl Bench {
    async fn start(token: Option<&str>) -> Self {
        let server = MockServer::start().await;
        let dir = tempfile::tempdir().expect("a directory");
        let clock = ManualClock::at(AT_MS);
        let ports = open_embedded(dir.path(), Arc::new(clock.clone()), &Lifecycle::new())
            .expect("it opens");
        let mut instance = account("discord", "key", &json!({}));
        instance.bot_token = token.map(Secret::new);
        instance.api_base_url = Some(server.uri());
        let snapshot = Snapshot { instances: vec![Arc::new(instance)], ..Snapshot::default() };
        let paced = Paced {
            caller: Caller::with_timeout(TIMEOUT),
            pacer: Pacer::new(ports.limits, Arc::new(clock.clone())),
            accounts: Accounts::new(Config::new(snapshot)),
            store: Arc::clone(&ports.store),
        };
        let outlet = DiscordOutlet::new(paced);
        Self { server, outlet, store: ports.store, clock, _dir: dir }
    }

    async fn answers(&self, answer: ResponseTemplate) {
        self.server.reset().await;
        Mock::given(any()).respond_with(answer).mount(&self.server).await;
    }

    async fn send(&self, reply: &Reply) -> Result<Option<String>, SendError> {
        let piece = &self.outlet.pieces(reply)[0];
        self.outlet.send(reply, piece).await.map(|posted| posted.id)
    }

    async fn requests(&self) -> Vec<Request> {
        self.server.received_requests().await.expect("they are recorded")
    }

    /// As the ingress notes what answers the command that `reply` is about.
    async fn note(&self, reply: &Reply) {
        let key = NoteKey {
            tenant: reply.to.tenant.clone(),
            platform: reply.to.platform.clone(),
            instance: reply.to.instance.clone(),
            name: note_name(reply.message),
        };
        let value = json!({"application_id": "8", "token": "t0ken"}).to_string();
        let note = Note { value: Secret::new(value), expires_at_ms: AT_MS + 900_000 };
        self.store.put_note(&key, &note, AT_MS).await.expect("it is stored");
    }
}

fn reply_in(channel: &str) -> Reply {
    let mut reply = super::case()
        .reply(ReplyContent::Answer { text: "all is well".to_owned(), status: RunStatus::Success });
    reply.to.tenant = "a".parse().expect("a name");
    reply.to.instance = "a".parse().expect("a name");
    reply.to.channel = channel.to_owned();
    reply.to.thread = None;
    reply
}

fn taken() -> ResponseTemplate {
    says(200, json!({"id": "5", "channel_id": CHANNEL}))
}

fn wait_of(result: &Result<Option<String>, SendError>) -> u64 {
    match result {
        Err(SendError::Limited { retry_after_ms, .. }) => *retry_after_ms,
        other => panic!("{other:?}"),
    }
}

fn json_of(request: &Request) -> Value {
    serde_json::from_slice(&request.body).expect("JSON")
}

#[tokio::test]
async fn a_bucket_that_is_used_up_is_left_alone_until_it_fills_again() {
    let bench = Bench::start(Some("t")).await;
    let last = taken()
        .insert_header("x-ratelimit-bucket", "abcd1234")
        .insert_header("x-ratelimit-remaining", "0")
        .insert_header("x-ratelimit-reset-after", "2.5");
    bench.answers(last).await;
    bench.send(&reply_in(CHANNEL)).await.expect("it is taken");
    assert_eq!(wait_of(&bench.send(&reply_in(CHANNEL)).await), 2_500);
    assert_eq!(bench.requests().await.len(), 1, "Discord is not asked");
    bench.send(&reply_in(OTHER_CHANNEL)).await.expect("another channel has its own");
    bench.clock.advance_ms(2_500);
    bench.send(&reply_in(CHANNEL)).await.expect("it is full again");
}

#[tokio::test]
async fn a_global_limit_closes_every_channel_and_a_channels_own_does_not() {
    for (global, waits) in [(true, true), (false, false)] {
        let bench = Bench::start(Some("t")).await;
        bench.answers(says(429, json!({"retry_after": 0.8, "global": global}))).await;
        assert_eq!(wait_of(&bench.send(&reply_in(CHANNEL)).await), 800);
        bench.answers(taken()).await;
        let other = bench.send(&reply_in(OTHER_CHANNEL)).await;
        assert_eq!(other.is_err(), waits, "global: {global}, {other:?}");
    }
}

#[tokio::test]
async fn a_token_that_was_refused_is_not_shown_again_for_a_while() {
    let bench = Bench::start(Some("t")).await;
    bench.answers(says(401, json!({"message": "401: Unauthorized", "code": 0}))).await;
    for _ in 0..3 {
        let refused = bench.send(&reply_in(CHANNEL)).await;
        assert!(matches!(refused, Err(SendError::Refused { reason: "unauthorized", .. })));
    }
    assert_eq!(bench.requests().await.len(), 1, "Discord is asked once");
    bench.clock.advance_ms(300_000);
    bench.answers(taken()).await;
    bench.send(&reply_in(CHANNEL)).await.expect("it is tried again later");
}

#[tokio::test]
async fn too_many_refusals_stop_all_calls_before_discord_bans_the_address() {
    let bench = Bench::start(Some("t")).await;
    bench.answers(says(403, json!({"message": "Missing Access", "code": 50_001}))).await;
    let mut calls = 0;
    let stopped = loop {
        bench.clock.advance_ms(100);
        let result = bench.send(&reply_in(&format!("{}", 300_000_000 + calls))).await;
        match result {
            Err(SendError::Refused { reason: "missing_access", .. }) => calls += 1,
            other => break other,
        }
        assert!(calls <= 1_000, "nothing stops it");
    };
    assert_eq!(calls, 1_000);
    assert!(wait_of(&stopped) > 400_000, "the rest of ten minutes: {stopped:?}");
}

#[tokio::test]
async fn what_may_have_arrived_is_sent_again_with_the_same_nonce() {
    let bench = Bench::start(Some("t")).await;
    let slow = taken().set_delay(2 * TIMEOUT);
    Mock::given(any()).respond_with(slow).up_to_n_times(1).mount(&bench.server).await;
    Mock::given(any()).respond_with(taken()).mount(&bench.server).await;
    let posted = bench.send(&reply_in(CHANNEL)).await.expect("the second answer tells");
    assert_eq!(posted.as_deref(), Some("5"));
    let bodies: Vec<Value> = bench.requests().await.iter().map(json_of).collect();
    assert_eq!(bodies.len(), 2);
    assert_eq!(bodies[0]["nonce"], bodies[1]["nonce"]);
    assert_eq!(bodies[0]["enforce_nonce"], true);
    let nonce = bodies[0]["nonce"].as_str().expect("text");
    assert!((1..=25).contains(&nonce.len()), "{nonce}");
}

#[tokio::test]
async fn a_command_is_answered_in_place_and_by_a_message_once_that_is_over() {
    let bench = Bench::start(Some("t")).await;
    let reply = reply_in(CHANNEL);
    bench.note(&reply).await;
    bench.answers(taken()).await;
    bench.send(&reply).await.expect("it is taken");
    let request = bench.requests().await.remove(0);
    assert_eq!(request.url.path(), "/webhooks/8/t0ken/messages/@original");
    assert!(!request.headers.contains_key("authorization"), "its token speaks");

    // Discord says that it is over.
    bench.server.reset().await;
    let over = says(404, json!({"code": 10_015, "message": "Unknown Webhook"}));
    Mock::given(method("PATCH")).respond_with(over).mount(&bench.server).await;
    let post = format!("/channels/{CHANNEL}/messages");
    Mock::given(path(&post)).respond_with(taken()).mount(&bench.server).await;
    bench.send(&reply).await.expect("it is a message of its own");

    // The clock says so.
    bench.clock.advance_ms(900_000);
    bench.answers(taken()).await;
    bench.send(&reply).await.expect("it is taken");
    assert_eq!(bench.requests().await[0].url.path(), post);
}

#[tokio::test]
async fn a_bot_without_a_token_speaks_through_the_interaction_alone() {
    let bench = Bench::start(None).await;
    let reply = reply_in(CHANNEL);
    bench.answers(taken()).await;
    let refused = bench.send(&reply).await;
    assert!(matches!(refused, Err(SendError::Refused { reason: "no_token", .. })), "{refused:?}");
    bench.note(&reply).await;
    let view = Box::new(crate::reply::contract::view());
    let card = Reply { content: ReplyContent::Approval { view }, ..reply };
    bench.send(&card).await.expect("it is taken");
    let request = bench.requests().await.remove(0);
    assert_eq!(request.url.path(), "/webhooks/8/t0ken");
    assert_eq!(request.url.query(), Some("wait=true"));
}
