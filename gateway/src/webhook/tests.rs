//! Webhooks over real HTTP: what is accepted, what is refused, and what it leaves behind.

use aof_shared::dead::DeadLetter;
use aof_shared::message::{Reply, ReplyContent};
use aof_shared::queue::ReadRange;
use aof_shared::subject::Stream;
use aof_shared::trace::{TRACEPARENT, TraceContext};
use serde_json::{Value, json};

use crate::reply::tests::harness::until;
use crate::testing::{AT, DEADLINE, Gateway, SECRET, read, sign};

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

fn event(kind: &str, ts: &str, text: &str) -> String {
    let installed = json!([{ "team_id": "T1", "user_id": "UBOT", "is_bot": true }]);
    let event = json!({ "type": kind, "channel": "C1", "user": "U1", "text": text, "ts": ts });
    json!({ "token": "t0k", "type": "event_callback", "event_id": format!("Ev{kind}{ts}"),
        "event": event, "authorizations": installed, "tenant": "b", "X-Tenant-ID": "b" })
    .to_string()
}

#[tokio::test]
async fn the_published_signature_passes_once_and_nothing_near_it_does() {
    let gateway = Gateway::start().await;
    let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    let published = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
    let at = AT.to_string();
    let send = async |signature: Option<&str>, at: Option<&str>, body: &str| {
        let mut request = gateway.http.post(gateway.at("/webhook/slack/a"));
        let headers = [("x-slack-signature", signature), ("x-slack-request-timestamp", at)];
        for (name, value) in headers.into_iter().filter_map(|(n, v)| Some((n, v?))) {
            request = request.header(name, value);
        }
        let request = request.header("content-type", FORM).body(body.to_owned());
        read(request.send().await.expect("an answer")).await
    };
    let (stale, early) = ((AT - 301).to_string(), (AT + 301).to_string());
    let signed = |at: u64| sign(SECRET, at, body.as_bytes())[0].1.clone();
    let refused = [
        (None, Some(at.as_str()), body.to_owned()),
        (Some(published.to_owned()), None, body.to_owned()),
        (Some(published.to_owned()), Some(&at), body.replace("text=", "text=x")),
        (Some(published.replace('a', "b")), Some(&at), body.to_owned()),
        (Some(signed(AT - 301)), Some(&stale), body.to_owned()),
        (Some(signed(AT + 301)), Some(&early), body.to_owned()),
    ];
    for (signature, at, body) in &refused {
        let (status, _) = send(signature.as_deref(), *at, body).await;
        assert_eq!(status, 401, "{signature:?} {at:?}");
    }
    assert!(gateway.inbound().await.is_empty() && gateway.journal().await.is_empty());
    let (status, shown) = send(Some(published), Some(&at), body).await;
    assert_eq!((status, shown), (200, json!("")), "Slack shows the body to the person");
    let (status, _) = send(Some(published), Some(&at), body).await;
    assert_eq!(status, 401, "an exact replay");
    assert_eq!(gateway.inbound().await.len(), 1);
    assert_eq!(gateway.journal().await, ["message.accepted"]);
    let series = r#"agentflow_ingress_total{platform="slack",outcome="unauthorized"}"#;
    assert_eq!(gateway.metric(series).await, 7);
}

#[tokio::test]
async fn a_retry_under_a_fresh_signature_is_a_duplicate() {
    let gateway = Gateway::start().await;
    let mention = event("app_mention", "1531420600.000100", "<@UBOT> uname");
    let plain = event("message", "1531420600.000100", "<@UBOT> uname");
    let mut ids = Vec::new();
    for (body, duplicate) in [(&mention, false), (&plain, true), (&mention, true)] {
        gateway.clock.advance_ms(1_000);
        let request = gateway.signed("a", JSON, body).header("x-slack-retry-num", "1");
        let (status, receipt) = read(request.send().await.expect("an answer")).await;
        assert_eq!((status, &receipt["duplicate"]), (200, &json!(duplicate)), "{receipt}");
        assert_eq!(receipt["durability"], "fsync");
        ids.push(receipt["message_id"].clone());
    }
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let inbound = gateway.inbound().await;
    assert_eq!((inbound.len(), inbound[0].text.as_str()), (1, "uname"));
    let kinds = gateway.journal().await;
    assert_eq!(kinds, ["message.accepted", "message.duplicate", "message.duplicate"]);
}

#[tokio::test]
async fn a_mention_without_text_is_answered_once_and_starts_nothing() {
    let gateway = Gateway::start().await;
    for kind in ["app_mention", "message"] {
        let body = event(kind, "1531420600.000100", "<@UBOT> ");
        let answer = gateway.signed("a", JSON, &body).send().await.expect("an answer");
        assert_eq!(read(answer).await, (200, json!({ "ignored": "no text" })));
    }
    assert!(gateway.inbound().await.is_empty());
    // The account has no token: what would be said ends among the dead, whole.
    let dead = until("a notice", || async {
        let queue = &gateway.ports.queue;
        let waiting = queue.backlog(Stream::Replies).await.expect("REPLIES can be read");
        let dead = queue.read(Stream::Dead, ReadRange::default(), 10, 0).await;
        waiting.is_empty().then(|| dead.expect("DEAD can be read"))
    })
    .await;
    assert_eq!(dead.len(), 1, "both deliveries are one notice");
    assert_eq!(gateway.journal().await, ["reply.failed"]);
    let letter = DeadLetter::from_stored(&dead[0]).expect("a dead letter");
    let reply: Reply = serde_json::from_str(&letter.payload).expect("a reply");
    assert_eq!(reply.to.thread.as_deref(), Some("1531420600.000100"));
    assert!(matches!(&reply.content, ReplyContent::Notice { text } if text.contains("Mention me")));
}

#[tokio::test]
async fn the_tenant_is_the_credentials_whatever_the_request_says() {
    let gateway = Gateway::start().await;
    let body = event("message", "1531420600.000100", "hi");
    let claimed = gateway.signed("a", JSON, &body).header("x-tenant-id", "b");
    assert_eq!(read(claimed.send().await.expect("an answer")).await.0, 200);
    assert_eq!(gateway.inbound().await[0].tenant.as_str(), "a");
    let headers = sign(SECRET, AT, body.as_bytes());
    for path in ["/webhook/slack/b", "/webhook/slack"] {
        let mut forged = gateway.http.post(gateway.at(path)).body(body.clone());
        for (name, value) in &headers {
            forged = forged.header(*name, value);
        }
        let (status, _) = read(forged.send().await.expect("an answer")).await;
        assert_eq!(status, 401, "{path}: another's signature, and a replay");
    }
    gateway.clock.advance_ms(1_000);
    let unnamed = gateway.signed("", JSON, &body).send().await.expect("an answer");
    assert_eq!(read(unnamed).await.0, 404, "an empty name is no instance");
    let mut unnamed = gateway.http.post(gateway.at("/webhook/slack")).body(body.clone());
    for (name, value) in sign("secret of b", gateway.now_secs(), body.as_bytes()) {
        unnamed = unnamed.header(name, value);
    }
    assert_eq!(read(unnamed.send().await.expect("an answer")).await.0, 200);
    assert_eq!(gateway.inbound().await[1].tenant.as_str(), "b");
}

#[tokio::test]
async fn bad_input_is_a_problem_and_never_a_5xx() {
    let gateway = Gateway::start_with(|o| crate::Options { max_body_bytes: 4096, ..o }).await;
    let check = async |instance: &str, kind: &str, body: &str, expected: u16| {
        gateway.clock.advance_ms(1_000);
        let answer = gateway.signed(instance, kind, body).send().await.expect("an answer");
        assert_eq!(read(answer).await.0, expected, "{body:.40}");
    };
    check("nobody", JSON, "{}", 404).await;
    check("a", JSON, "not json", 400).await;
    check("a", JSON, "[1]", 400).await;
    check("a", JSON, r#"{"type":"event_callback"}"#, 400).await;
    check("a", FORM, "nothing=here", 400).await;
    check("a", JSON, &"x".repeat(4097), 413).await;
    check("a", JSON, r#"{"type":"url_verification","challenge":"c"}"#, 200).await;
    let unsigned = gateway.http.post(gateway.at("/webhook/slack/a"));
    let unsigned = unsigned.body(r#"{"type":"url_verification","challenge":"c"}"#);
    assert_eq!(read(unsigned.send().await.expect("an answer")).await.0, 401);
    let odd = gateway.http.post(gateway.at("/webhook/%FF/a")).body("{}");
    assert_eq!(read(odd.send().await.expect("an answer")).await.0, 400);
    let other = gateway.http.post(gateway.at("/webhook/irc/a")).body("{}");
    assert_eq!(read(other.send().await.expect("an answer")).await.0, 404);
    let wrong = gateway.http.get(gateway.at("/webhook/slack/a")).send().await;
    assert_eq!(read(wrong.expect("an answer")).await.0, 405);
    let endless = reqwest::Body::wrap_stream(futures_util::stream::iter(
        (0..64).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 1024])),
    ));
    let chunked = gateway.http.post(gateway.at("/webhook/slack/a")).body(endless);
    assert_eq!(read(chunked.send().await.expect("an answer")).await.0, 413);
    assert!(gateway.inbound().await.is_empty());
}

#[tokio::test]
async fn what_the_queue_refuses_is_503_and_the_same_request_passes_later() {
    let gateway = Gateway::start().await;
    let body = event("message", "1531420600.000100", "hi");
    let hi = json!({ "text": "hi" });
    gateway.full.store(true, std::sync::atomic::Ordering::SeqCst);
    let answer = gateway.signed("a", JSON, &body).send().await.expect("an answer");
    let retry_after = answer.headers().get("retry-after").cloned();
    assert!(retry_after.is_some_and(|v| v.to_str().is_ok_and(|v| v.parse::<u32>().is_ok())));
    assert_eq!(read(answer).await.0, 503);
    assert_eq!(gateway.post(&gateway.admin, "/accounts/a/chat", &hi).await.0, 503);
    assert!(gateway.inbound().await.is_empty());
    gateway.full.store(false, std::sync::atomic::Ordering::SeqCst);
    let again = gateway.signed("a", JSON, &body).send().await.expect("an answer");
    let (status, receipt) = read(again).await;
    assert_eq!((status, &receipt["duplicate"]), (200, &json!(false)), "{receipt}");
    let series = r#"agentflow_ingress_total{platform="slack",outcome="unavailable"}"#;
    assert_eq!(gateway.metric(series).await, 1);
}

/// What each kind of file becomes. A file that is not listed must not be a 5xx.
const KNOWN: [(&str, &str); 22] = [
    ("app_mention.json", "message"),
    ("events_assistant__message_L400.json", "message"),
    ("events_org_apps__message_L203.json", "ignored"),
    ("message_file_share.json", "message"),
    ("slash_command.json", "message"),
    ("block_actions.json", "ignored"),
    ("events__app_uninstalled_L299.json", "ignored"),
    ("events__member_joined_channel_L228.json", "ignored"),
    ("events__tokens_revoked_L315.json", "ignored"),
    ("events_assistant__message_message_changed_L418.json", "ignored"),
    ("events_org_apps__app_home_opened_L153.json", "ignored"),
    ("events_shared_channels__reaction_added_L137.json", "ignored"),
    ("message_changed.json", "ignored"),
    ("message_deleted.json", "ignored"),
    ("message_from_other_bot_bot_id_no_subtype.json", "ignored"),
    ("message_own_bot_via_response_url.json", "ignored"),
    ("reaction_added_by_own_bot_user.json", "ignored"),
    ("shape_reaction_added.json", "ignored"),
    ("shortcut_global.json", "ignored"),
    ("view_submission.json", "ignored"),
    ("shape_slash_command.json", "refused"),
    ("api_example_reactions.add_200.json", "refused"),
];

/// Interactions and commands travel as forms; their files are JSON.
fn as_sent(file: &Value) -> (&'static str, String) {
    let form = |fields: &[(String, String)]| {
        (FORM, serde_urlencoded::to_string(fields).expect("pairs are a form"))
    };
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let events = ["event_callback", "url_verification", "app_rate_limited"];
    match (file.get("type").and_then(Value::as_str), file.get("command")) {
        (Some(kind), _) if !events.contains(&kind) && file.get("envelope_id").is_none() => {
            form(&[("payload".to_owned(), file.to_string())])
        }
        (None, Some(_)) => {
            let fields = file.as_object().expect("an object").iter();
            form(&fields.map(|(k, v)| (k.clone(), text(v))).collect::<Vec<_>>())
        }
        _ => (JSON, file.to_string()),
    }
}

#[tokio::test]
async fn every_captured_file_is_what_it_is() {
    let Some(root) = std::env::var_os("AOF_FIXTURES") else {
        eprintln!("left out: AOF_FIXTURES does not name the folder of captured payloads");
        return;
    };
    let gateway = Gateway::start().await;
    let dir = std::path::Path::new(&root).join("slack");
    let mut seen = 0;
    for entry in std::fs::read_dir(&dir).expect("the folder of captures") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if !name.ends_with(".json") {
            continue;
        }
        let file = std::fs::read_to_string(&path).expect("a readable file");
        let (kind, body) = as_sent(&serde_json::from_str(&file).expect("JSON"));
        gateway.clock.advance_ms(1_000);
        let before = gateway.inbound().await.len();
        let answer = gateway.signed("a", kind, &body).send().await.expect("an answer");
        let (status, answered) = read(answer).await;
        assert!(status < 500, "{name}: {status} {answered}");
        let became = match gateway.inbound().await.len() - before {
            1 => "message",
            _ if answered["duplicate"] == true => "message",
            _ if status == 200 => "ignored",
            _ => "refused",
        };
        if let Some((_, expected)) = KNOWN.iter().find(|(known, _)| *known == name) {
            assert_eq!(became, *expected, "{name}: {status} {answered}");
        }
        seen += 1;
    }
    assert!(seen > 20, "only {seen} files in {}", dir.display());
}

#[tokio::test]
async fn a_stopped_gateway_answers_what_it_took_and_takes_nothing_new() {
    let gateway = Gateway::start().await;
    let body = event("message", "1531420600.000100", "hi");
    assert_eq!(
        read(gateway.signed("a", JSON, &body).send().await.expect("an answer")).await.0,
        200
    );
    gateway.lifecycle.stop();
    tokio::time::timeout(DEADLINE, gateway.lifecycle.drained()).await.expect("everything ends");
    let body = event("message", "1531420600.000200", "hi");
    assert!(gateway.signed("a", JSON, &body).send().await.is_err(), "nobody listens");
}

#[tokio::test]
async fn the_trace_of_whoever_sends_a_webhook_is_not_taken_over() {
    let gateway = Gateway::start().await;
    let given = TraceContext::start();
    let body = event("app_mention", "1531420600.000100", "<@UBOT> uname");
    let request = gateway.signed("a", JSON, &body).header(TRACEPARENT, given.traceparent());
    let (status, _) = read(request.send().await.expect("an answer")).await;
    assert_eq!(status, 200);
    let stored = gateway.ports.queue.read(Stream::Inbound, ReadRange::default(), 1, 0).await;
    let stored = stored.expect("INBOUND reads");
    let trace = TraceContext::carried(&stored[0].headers).expect("a trace");
    assert_ne!(trace.trace_id(), given.trace_id());
}
