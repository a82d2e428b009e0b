//! What every outlet must do, proven for each by the same tests against a stubbed platform.
//!
//! A platform describes itself as a [`Case`] and calls [`egress_contract!`] with it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use aof_shared::action::{ApprovalStatus, ApprovalView};
use aof_shared::backend::open_embedded;
use aof_shared::clock::ManualClock;
use aof_shared::config::{Config, Instance, Snapshot};
use aof_shared::ids::{MessageId, PlatformName, ReplyId};
use aof_shared::lifecycle::Lifecycle;
use aof_shared::message::{Address, Reply, ReplyContent, RunStatus};
use aof_shared::secret::Secret;
use uuid::Uuid;

use super::accounts::Accounts;
use super::call::Caller;
use super::outlets;
use super::pace::Pacer;
use super::paced::Paced;
use super::port::{Body, Outlet, Piece, Posted, SendError};

/// When the tests' clock stands.
const AT_MS: u64 = 1_700_000_000_000;
/// The stubbed platform has to answer within this.
const TIMEOUT: Duration = Duration::from_millis(400);
/// The token of every case; it appears in no error.
pub(crate) const TOKEN: &str = "12345:secret-token-of-the-contract";

/// One platform as the contract needs it.
pub(crate) struct Case {
    /// The platform, as the registry names it.
    pub(crate) platform: &'static str,
    /// Settings of the account.
    pub(crate) settings: Value,
    /// Where replies go.
    pub(crate) channel: &'static str,
    /// The thread in it, where the platform has threads.
    pub(crate) thread: Option<&'static str>,
    /// The answer to a message that was taken, and the id that it got.
    pub(crate) posted: (ResponseTemplate, &'static str),
    /// The answer to a call over a limit, and how many milliseconds it asks to wait.
    pub(crate) limited: (ResponseTemplate, u64),
    /// Answers that refuse for good, and the reason of the dead letter.
    pub(crate) refused: Vec<(ResponseTemplate, &'static str)>,
    /// The answer to an update of a card that is gone, where cards can be updated.
    pub(crate) gone: Option<ResponseTemplate>,
    /// The text in a request, and its length as the platform counts.
    pub(crate) text_of: fn(&Value) -> String,
    /// How the platform counts a text's length.
    pub(crate) length: fn(&str) -> usize,
    /// Its longest message.
    pub(crate) max_length: usize,
}

/// Instantiates the contract for the case that `$case` makes.
macro_rules! egress_contract {
    ($case:expr) => {
        mod egress_contract {
            use super::*;
            use $crate::reply::contract;

            #[tokio::test]
            async fn a_reply_is_posted_where_the_account_says() {
                contract::a_reply_is_posted_where_the_account_says($case).await;
            }
            #[tokio::test]
            async fn long_text_is_cut_within_the_limit_and_nothing_is_lost() {
                contract::long_text_is_cut_within_the_limit_and_nothing_is_lost($case).await;
            }
            #[tokio::test]
            async fn a_limit_is_kept_to_and_waited_for() {
                contract::a_limit_is_kept_to_and_waited_for($case).await;
            }
            #[tokio::test]
            async fn an_error_says_whether_it_may_have_happened() {
                contract::an_error_says_whether_it_may_have_happened($case).await;
            }
            #[tokio::test]
            async fn a_card_is_posted_and_then_updated() {
                contract::a_card_is_posted_and_then_updated($case).await;
            }
        }
    };
}
pub(crate) use egress_contract;

/// An outlet under test, and its stubbed platform.
pub(crate) struct Bench {
    /// The stub.
    pub(crate) server: MockServer,
    /// The outlet.
    pub(crate) outlet: Arc<dyn Outlet>,
    clock: ManualClock,
    _dir: TempDir,
}

impl Bench {
    /// An outlet of `case`'s account whose API is `url`, else a fresh stub.
    pub(crate) async fn start(case: &Case, url: Option<&str>) -> Self {
        let server = MockServer::start().await;
        let dir = tempfile::tempdir().expect("a directory");
        let clock = ManualClock::at(AT_MS);
        let ports = open_embedded(dir.path(), Arc::new(clock.clone()), &Lifecycle::new())
            .expect("it opens");
        let url = url.map_or_else(|| server.uri(), str::to_owned);
        let instances = vec![Arc::new(case.instance(&url))];
        let snapshot = Snapshot { instances, ..Snapshot::default() };
        let paced = Paced {
            caller: Caller::with_timeout(TIMEOUT),
            pacer: Pacer::new(ports.limits, Arc::new(clock.clone())),
            accounts: Accounts::new(Config::new(snapshot)),
            store: ports.store,
        };
        let name = PlatformName::new(case.platform).expect("a plain name");
        let outlet = outlets(&paced).remove(&name).expect("the registry has the platform");
        Self { server, outlet, clock, _dir: dir }
    }

    async fn answers(&self, answer: &ResponseTemplate) {
        self.server.reset().await;
        Mock::given(any()).respond_with(answer.clone()).mount(&self.server).await;
    }

    /// Sends after all windows are over.
    async fn send(&self, reply: &Reply, piece: &Piece) -> Result<Posted, SendError> {
        self.clock.advance_ms(3_600_001);
        self.outlet.send(reply, piece).await
    }

    async fn requests(&self) -> Vec<Request> {
        self.server.received_requests().await.expect("they are recorded")
    }
}

/// Calls as `accounts`, on limits that stay as long as the directory.
pub(crate) fn paced_for(accounts: Accounts) -> (Paced, TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = ManualClock::at(AT_MS);
    let ports = open_embedded(dir.path(), Arc::new(clock.clone()), &Lifecycle::new());
    let ports = ports.expect("it opens");
    let pacer = Pacer::new(ports.limits, Arc::new(clock));
    let caller = Caller::with_timeout(TIMEOUT);
    (Paced { caller, pacer, accounts, store: ports.store }, dir)
}

impl Case {
    fn instance(&self, url: &str) -> Instance {
        Instance {
            name: "main".parse().expect("a name"),
            tenant: "org-a".parse().expect("a name"),
            platform: PlatformName::new(self.platform).expect("a plain name"),
            bot_token: Some(Secret::new(TOKEN)),
            signing_secret: None,
            api_base_url: Some(url.to_owned()),
            needs_channel_names: false,
            settings: self.settings.as_object().cloned().unwrap_or_default().into_iter().collect(),
        }
    }

    /// A reply to the case's channel.
    pub(crate) fn reply(&self, content: ReplyContent) -> Reply {
        let message = MessageId(Uuid::from_u128(7));
        let to = Address {
            tenant: "org-a".parse().expect("a name"),
            platform: PlatformName::new(self.platform).expect("a plain name"),
            instance: "main".parse().expect("a name"),
            channel: self.channel.to_owned(),
            thread: self.thread.map(str::to_owned),
        };
        let id = ReplyId::derive(message.0, "answer");
        Reply { id, to, message, run: None, content }
    }

    /// An answer in Markdown.
    pub(crate) fn answer(&self, text: &str) -> Reply {
        let text = text.to_owned();
        self.reply(ReplyContent::Answer { text, status: RunStatus::Success })
    }
}

fn text(body: &[u8]) -> Value {
    serde_json::from_slice(body).expect("a JSON body")
}

/// The call goes to `api_base_url` with the token, and its answer's id is read.
pub(crate) async fn a_reply_is_posted_where_the_account_says(case: Case) {
    let bench = Bench::start(&case, None).await;
    bench.answers(&case.posted.0).await;
    let reply = case.answer("all is well");
    let pieces = bench.outlet.pieces(&reply);
    assert_eq!(pieces.len(), 1);
    assert_eq!((pieces[0].id, &pieces), (reply.id, &bench.outlet.pieces(&reply)));
    let posted = bench.send(&reply, &pieces[0]).await.expect("it is taken");
    assert_eq!(posted.id.as_deref(), Some(case.posted.1));
    let requests = bench.requests().await;
    let request = requests.last().expect("a request");
    assert!((case.text_of)(&text(&request.body)).contains("all is well"));
    let carries = |value: &str| value.contains(TOKEN);
    let in_headers = request.headers.values().any(|v| v.to_str().is_ok_and(carries));
    assert!(in_headers || carries(request.url.path()), "the token proves who speaks");
    let mut stranger = reply.clone();
    stranger.to.tenant = "org-b".parse().expect("a name");
    let refused = bench.send(&stranger, &pieces[0]).await;
    assert!(matches!(refused, Err(SendError::Refused { reason: "no_instance", .. })));
    assert_eq!(bench.requests().await.len(), requests.len(), "nobody speaks as another's");
}

/// Every part is within the platform's limit as it counts, and all text arrives.
pub(crate) async fn long_text_is_cut_within_the_limit_and_nothing_is_lost(case: Case) {
    let bench = Bench::start(&case, None).await;
    bench.answers(&case.posted.0).await;
    let line = "a **line** with `code` and 🦀 — <b>&amp;</b> [x](https://e.x) _end\n";
    let long = line.repeat(3 * case.max_length / line.len() + 1);
    for (markdown, marks) in [
        (long.clone(), long.matches('🦀').count()),
        (format!("```\n{long}```"), long.matches('🦀').count()),
        ("🦀".repeat(case.max_length + 1), case.max_length + 1),
    ] {
        let reply = case.answer(&markdown);
        let pieces = bench.outlet.pieces(&reply);
        assert!(pieces.len() > 1, "one message is not enough");
        bench.answers(&case.posted.0).await;
        for piece in &pieces {
            bench.send(&reply, piece).await.expect("it is taken");
        }
        let mut seen = 0;
        for request in bench.requests().await {
            let text = (case.text_of)(&text(&request.body));
            assert!((case.length)(&text) <= case.max_length, "{}", (case.length)(&text));
            seen += text.matches('🦀').count();
        }
        assert_eq!(seen, marks, "nothing is lost");
    }
    for empty in ["", " \n"] {
        let pieces = bench.outlet.pieces(&case.answer(empty));
        assert!(matches!(&pieces[..], [Piece { body: Body::Text(t), .. }] if !t.trim().is_empty()));
    }
}

/// The platform's own word for how long is taken, and known to this node afterwards.
pub(crate) async fn a_limit_is_kept_to_and_waited_for(case: Case) {
    let bench = Bench::start(&case, None).await;
    bench.answers(&case.limited.0).await;
    let reply = case.answer("hi");
    let piece = &bench.outlet.pieces(&reply)[0];
    let limited = bench.send(&reply, piece).await;
    let Err(SendError::Limited { retry_after_ms, scope }) = limited else { panic!("{limited:?}") };
    assert_eq!(retry_after_ms, case.limited.1);
    assert!(scope.starts_with(&format!("{}/", case.platform)), "{scope}");
    assert_eq!(bench.outlet.wait_ms(&reply, &piece.body), case.limited.1);
    bench.answers(&case.posted.0).await;
    let held = bench.outlet.send(&reply, piece).await;
    assert!(matches!(held, Err(SendError::Limited { .. })), "it still waits: {held:?}");
    assert!(bench.requests().await.is_empty(), "the platform is not asked");
    bench.clock.advance_ms(case.limited.1);
    bench.outlet.send(&reply, piece).await.expect("it is over");
}

/// Refused, unavailable or unknown; no error holds the token.
pub(crate) async fn an_error_says_whether_it_may_have_happened(case: Case) {
    let bench = Bench::start(&case, None).await;
    let reply = case.answer("hi");
    let piece = &bench.outlet.pieces(&reply)[0];
    for (answer, expected) in &case.refused {
        bench.answers(answer).await;
        match bench.send(&reply, piece).await {
            Err(SendError::Refused { reason, detail }) => {
                assert_eq!(reason, *expected);
                assert!(!detail.is_empty() && !detail.contains(TOKEN), "{detail}");
            }
            other => panic!("{expected}: {other:?}"),
        }
    }
    for (answer, expected) in [
        (ResponseTemplate::new(502).set_body_string("<html>"), "unavailable"),
        (ResponseTemplate::new(503), "unavailable"),
        (ResponseTemplate::new(504), "unknown"),
        (case.posted.0.clone().set_delay(2 * TIMEOUT), "unknown"),
        (ResponseTemplate::new(404).set_body_string("not here"), "refused"),
        // Some platforms fail like this after the message went out: never refused for good.
        (ResponseTemplate::new(500), "unavailable or unknown"),
    ] {
        bench.answers(&answer).await;
        let error = bench.send(&reply, piece).await.expect_err("no message was taken");
        let got = match &error {
            SendError::Unavailable { .. } => "unavailable",
            SendError::Unknown { .. } => "unknown",
            SendError::Refused { .. } => "refused",
            other => panic!("{expected}: {other:?}"),
        };
        assert!(expected.split(" or ").any(|one| one == got), "{got}: {answer:?}");
        assert!(!format!("{error} {error:?}").contains(TOKEN), "{error:?}");
    }
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = gone.local_addr().expect("an address");
    drop(gone);
    let nobody = Bench::start(&case, Some(&format!("http://{address}"))).await;
    let error = nobody.send(&reply, piece).await.expect_err("nobody listens");
    assert!(matches!(error, SendError::Unavailable { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains(TOKEN), "{error:?}");
}

/// A card says what would run, and where it can be updated it is, in place.
pub(crate) async fn a_card_is_posted_and_then_updated(case: Case) {
    let bench = Bench::start(&case, None).await;
    bench.answers(&case.posted.0).await;
    let view = view();
    let reply = case.reply(ReplyContent::Approval { view: Box::new(view.clone()) });
    let [piece] = <[Piece; 1]>::try_from(bench.outlet.pieces(&reply)).expect("one piece");
    assert!(matches!(piece.body, Body::Card { replaces: None, .. }));
    assert!(!bench.outlet.repeatable(&piece.body), "a second post would show twice");
    let posted = bench.send(&reply, &piece).await.expect("it is taken");
    assert_eq!(posted.id.as_deref(), Some(case.posted.1));
    let shown = String::from_utf8(bench.requests().await[0].body.clone()).expect("text");
    assert!(shown.contains("rm -rf /srv/old"), "{shown}");
    assert!(shown.contains(&view.id.to_string()), "the action's id: {shown}");
    let Some(gone) = &case.gone else { return };
    let done = ApprovalView { status: ApprovalStatus::Executed, version: 2, ..view };
    let body = Body::Card { view: Box::new(done), replaces: posted.id };
    assert!(bench.outlet.repeatable(&body), "an update shows nothing twice");
    let piece = Piece { id: reply.id, body };
    bench.answers(&case.posted.0).await;
    bench.send(&reply, &piece).await.expect("it is taken");
    let request = bench.requests().await.remove(0);
    let shown = String::from_utf8(request.body).expect("text");
    let named = shown.contains(case.posted.1) || request.url.path().contains(case.posted.1);
    assert!(named && shown.contains("Executed"), "{} {shown}", request.url);
    bench.answers(gone).await;
    assert_eq!(bench.send(&reply, &piece).await, Err(SendError::Gone));
}

/// A held action that waits for one vote.
pub(crate) fn view() -> ApprovalView {
    let argv = ["rm", "-rf", "/srv/old"].map(str::to_owned).to_vec();
    ApprovalView { argv, ..super::slack::blocks::tests::view(ApprovalStatus::Pending) }
}
