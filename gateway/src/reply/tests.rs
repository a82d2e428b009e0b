//! The loop against a stubbed Slack, on the embedded backend: what is sent, how often,
//! and what becomes of what cannot be sent.

mod bench;
mod cards;
mod emulate;
pub(crate) mod harness;

use std::time::Duration;

use serde_json::json;
use uuid::Uuid;
use wiremock::matchers::{body_partial_json, method, path};
use wiremock::{Mock, ResponseTemplate};

use aof_shared::ids::{EventId, PlatformName};
use aof_shared::message::{AnswerChunk, RunStatus};
use aof_shared::subject::{LiveSubject, Stream};

use self::harness::{Bench, answer, posted, posted_after, reply_to, until};

#[tokio::test]
async fn an_answer_is_posted_into_its_thread_and_journaled() {
    let bench = Bench::start().await;
    posted("171.1").expect(1).mount(&bench.slack).await;
    let mut reply = answer("C1", "**hi** <!channel>");
    reply.to.thread = Some("170.0".to_owned());
    bench.publish(&reply).await;
    let event = bench.event("reply.sent", &reply).await;
    assert_eq!(event.data["platform_id"], "171.1");
    assert_eq!(event.data["channel"], "C1");
    assert_eq!(event.data["status"], "success");
    assert_eq!(event.message_id, Some(reply.message));
    let sent = &bench.bodies("/chat.postMessage").await[0];
    assert_eq!(sent["text"], "*hi* &lt;!channel&gt;");
    assert_eq!(sent["thread_ts"], "170.0");
    assert_eq!(sent["unfurl_links"], false);
    bench.settled(Stream::Replies).await;
}

#[tokio::test]
async fn a_limited_channel_waits_alone_and_loses_nothing() {
    let bench = Bench::start().await;
    Mock::given(body_partial_json(json!({"channel": "C1"})))
        .respond_with(ResponseTemplate::new(429).insert_header("retry-after", "1"))
        .up_to_n_times(1)
        .mount(&bench.slack)
        .await;
    posted("171.1").mount(&bench.slack).await;
    let limited = answer("C1", "first");
    let free = answer("C2", "second");
    bench.publish(&limited).await;
    bench.request_count(1).await;
    bench.publish(&free).await;
    bench.event("reply.sent", &free).await;
    assert!(bench.find("reply.sent", &limited).await.is_none(), "it still waits");
    bench.event("reply.sent", &limited).await;
    assert_eq!(bench.bodies("/chat.postMessage").await.len(), 3);
}

#[tokio::test]
async fn one_channel_gets_one_message_a_second_in_order() {
    let bench = Bench::start().await;
    posted("171.1").mount(&bench.slack).await;
    let started = std::time::Instant::now();
    let replies: Vec<_> = (0..3).map(|n| answer("C1", &format!("number {n}"))).collect();
    for reply in &replies {
        bench.publish(reply).await;
    }
    bench.event("reply.sent", &replies[2]).await;
    assert!(started.elapsed() >= Duration::from_millis(1_900), "{:?}", started.elapsed());
    let texts = bench.texts().await;
    assert_eq!(texts, ["number 0", "number 1", "number 2"]);
}

#[tokio::test]
async fn long_text_goes_out_in_parts_each_once() {
    let bench = Bench::start().await;
    posted("171.1").mount(&bench.slack).await;
    let reply = answer("C1", &"a line of an answer\n".repeat(450));
    bench.publish(&reply).await;
    let event = bench.event("reply.sent", &reply).await;
    assert_eq!(event.data["parts"], 3);
    let texts = bench.texts().await;
    assert_eq!(texts.len(), 3, "each part once");
    assert_eq!(texts.concat().matches("answer").count(), 450);
}

#[tokio::test]
async fn what_the_platform_could_not_do_is_tried_again() {
    let bench = Bench::start().await;
    Mock::given(method("POST"))
        .respond_with(ResponseTemplate::new(503))
        .up_to_n_times(2)
        .mount(&bench.slack)
        .await;
    posted("171.1").mount(&bench.slack).await;
    let reply = answer("C1", "hi");
    bench.publish(&reply).await;
    bench.event("reply.sent", &reply).await;
    assert_eq!(bench.bodies("/chat.postMessage").await.len(), 3);
}

#[tokio::test]
async fn a_refusal_becomes_a_dead_letter_that_says_what_to_do() {
    let bench = Bench::start().await;
    Mock::given(path("/chat.postMessage"))
        .respond_with(
            ResponseTemplate::new(200)
                .set_body_json(json!({"ok": false, "error": "not_in_channel"})),
        )
        .expect(1)
        .mount(&bench.slack)
        .await;
    let reply = answer("C1", "hi");
    bench.publish(&reply).await;
    let event = bench.event("reply.failed", &reply).await;
    assert_eq!(event.data["outcome"], "not_sent");
    let letter = bench.dead_letter().await;
    assert_eq!(letter.reason, "not_in_channel");
    assert!(letter.detail.contains("invite the bot"), "{}", letter.detail);
    assert_eq!(letter.message_id, Some(reply.message));
    bench.settled(Stream::Replies).await;
}

#[tokio::test]
async fn a_retried_refusal_is_sent_once_and_says_so() {
    let bench = Bench::start().await;
    let refusal = json!({"ok": false, "error": "not_in_channel"});
    Mock::given(path("/chat.postMessage"))
        .respond_with(ResponseTemplate::new(200).set_body_json(refusal))
        .up_to_n_times(2)
        .mount(&bench.slack)
        .await;
    posted("171.1").mount(&bench.slack).await;
    let reply = answer("C1", "hi");
    let retries = [EventId(reply.id.0), EventId(Uuid::now_v7()), EventId(Uuid::now_v7())];
    for (publication, end) in retries.iter().zip(["reply.failed", "reply.failed", "reply.sent"]) {
        bench.publish_under(publication.0, &reply).await;
        let id = EventId::derive(publication.0, "sent");
        until(end, || async { bench.find_id(end, id).await }).await;
    }
    bench.publish_under(Uuid::now_v7(), &reply).await;
    bench.settled(Stream::Replies).await;
    assert_eq!(bench.bodies("/chat.postMessage").await.len(), 3, "what arrived is not sent again");
}

#[tokio::test]
async fn what_cannot_be_addressed_is_a_dead_letter() {
    let bench = Bench::start().await;
    let mut elsewhere = answer("C1", "hi");
    elsewhere.to.platform = PlatformName::new("irc").expect("a name");
    bench.publish(&elsewhere).await;
    assert_eq!(bench.dead_letter().await.reason, "no_outlet");
    let mut gone = answer("C1", "hi");
    gone.to.instance = "gone".parse().expect("a name");
    bench.publish(&gone).await;
    let event = bench.event("reply.failed", &gone).await;
    assert_eq!(event.data["reason"], "no_instance");
    assert!(bench.bodies("/chat.postMessage").await.is_empty());
}

#[tokio::test]
async fn a_reply_of_one_tenant_is_not_sent_as_another() {
    let bench = Bench::start().await;
    let mut forged = answer("C1", "hi");
    forged.to.tenant = "org-b".parse().expect("a name");
    bench.publish_as(&forged, "org-a").await;
    assert_eq!(bench.dead_letter().await.reason, "unreadable");
    assert!(bench.bodies("/chat.postMessage").await.is_empty());
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_not_sent_again() {
    let bench = Bench::start().await;
    posted_after("171.1", Duration::from_secs(30)).mount(&bench.slack).await;
    let reply = answer("C1", "hi");
    bench.publish(&reply).await;
    let event = bench.event("reply.failed", &reply).await;
    assert_eq!(event.data["outcome"], "unknown");
    bench.settled(Stream::Replies).await;
    assert_eq!(bench.bodies("/chat.postMessage").await.len(), 1);
    assert!(bench.dead_letters().await.is_empty(), "nobody may retry it blindly");
}

#[test]
fn a_crash_in_the_middle_of_a_call_does_not_send_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let reply = answer("C1", "hi");
    let slack = harness::runtime();
    let server = slack.block_on(async {
        let server = wiremock::MockServer::start().await;
        posted_after("171.1", Duration::from_secs(30)).mount(&server).await;
        server
    });
    let first = harness::runtime();
    first.block_on(async {
        let bench = Bench::open(dir.path(), &server.uri(), Duration::from_secs(60)).await;
        bench.publish(&reply).await;
        harness::requests(&server, 1).await;
    });
    drop(first);
    let second = harness::runtime();
    second.block_on(async {
        let bench = Bench::open(dir.path(), &server.uri(), Duration::from_secs(60)).await;
        let event = bench.event("reply.failed", &reply).await;
        assert_eq!(event.data["outcome"], "unknown");
        bench.settled(Stream::Replies).await;
    });
    let requests = slack.block_on(server.received_requests()).expect("they are recorded");
    assert_eq!(requests.len(), 1, "the second node must not send it");
}

#[tokio::test]
async fn chat_answers_go_to_whoever_listens() {
    let bench = Bench::start().await;
    let reply = reply_to(PlatformName::chat(), "c-1", "done");
    let subject = LiveSubject::answer(&reply.to.tenant, reply.message);
    let mut listener = bench.node.ports.live.listen(&subject).await.expect("a listener");
    bench.publish(&reply).await;
    let chunk = listener.next().await.expect("a chunk");
    let chunk: AnswerChunk = serde_json::from_slice(&chunk).expect("it is one");
    assert_eq!(chunk, AnswerChunk::Done { text: "done".to_owned(), status: RunStatus::Success });
    bench.event("reply.sent", &reply).await;
}
