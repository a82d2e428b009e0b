//! What answers mean, as a table; what lost answers mean, over real sockets.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wiremock::matchers::{body_string_contains, header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use aof_shared::ids::{InstanceName, PlatformName, TenantId};
use aof_shared::secret::Secret;

use super::*;

pub(crate) fn instance(base_url: &str) -> Instance {
    Instance {
        name: InstanceName::new("main").expect("a name"),
        tenant: TenantId::new("org-a").expect("a name"),
        platform: PlatformName::slack(),
        bot_token: Some(Secret::new("xoxb-secret")),
        signing_secret: None,
        api_base_url: Some(base_url.to_owned()),
        needs_channel_names: true,
        settings: std::collections::BTreeMap::new(),
    }
}

async fn call(
    caller: &Caller,
    instance: &Instance,
    method: Method,
    body: &Value,
) -> Result<Value, SendError> {
    let answer = caller.send(request(caller, instance, method, body)?).await?;
    classify(method, &answer)
}

/// Which kind of error it is, in a word.
fn kind(result: &Result<Value, SendError>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(SendError::Limited { .. }) => "limited",
        Err(SendError::Unavailable { .. }) => "unavailable",
        Err(SendError::Refused { reason, .. }) => reason,
        Err(SendError::Gone) => "gone",
        Err(SendError::Unknown { .. }) => "unknown",
    }
}

#[test]
fn every_answer_says_whether_it_may_have_happened() {
    for (status, body, expected) in [
        (200, r#"{"ok":true,"ts":"1.2"}"#, "ok"),
        (429, "", "limited"),
        (429, r#"{"ok":false,"error":"ratelimited"}"#, "limited"),
        (200, r#"{"ok":false,"error":"ratelimited"}"#, "limited"),
        (200, r#"{"ok":false,"error":"channel_not_found"}"#, "channel_not_found"),
        (200, r#"{"ok":false,"error":"not_in_channel"}"#, "not_in_channel"),
        (401, r#"{"ok":false,"error":"invalid_auth"}"#, "invalid_auth"),
        (200, r#"{"ok":false,"error":"a_new_one"}"#, "platform_refused"),
        (200, r#"{"ok":false,"error":"message_not_found"}"#, "gone"),
        (200, r#"{"ok":false,"error":"cant_update_message"}"#, "gone"),
        (200, r#"{"ok":false,"error":"internal_error"}"#, "unknown"),
        (500, r#"{"ok":false,"error":"fatal_error"}"#, "unknown"),
        (200, r#"{"ok":false,"error":"service_unavailable"}"#, "unavailable"),
        (500, "<html>", "unavailable"),
        (502, "", "unavailable"),
        (503, "", "unavailable"),
        (504, "", "unknown"),
        (200, "", "unknown"),
        (200, r#"{"ok":tr"#, "unknown"),
        (200, "[]", "unknown"),
        (302, "", "http_error"),
        (404, "not found", "http_error"),
    ] {
        let answer = Answer { status, body: body.into(), ..Answer::default() };
        assert_eq!(kind(&classify(Method::PostMessage, &answer)), expected, "{status} {body}");
    }
}

#[test]
fn a_refusal_says_what_to_do() {
    let body = br#"{"ok":false,"error":"missing_scope","needed":"chat:write"}"#;
    let answer = Answer { status: 200, body: body.to_vec(), ..Answer::default() };
    let Err(SendError::Refused { detail, .. }) = classify(Method::PostMessage, &answer) else {
        panic!("it must be refused");
    };
    assert_eq!(
        detail,
        "Slack answered `missing_scope` (scope `chat:write`): \
         add the scope to the app and install it again"
    );
}

#[tokio::test]
async fn sends_the_token_and_reads_retry_after() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path("/chat.postMessage"))
        .and(header("authorization", "Bearer xoxb-secret"))
        .and(header("content-type", "application/json; charset=utf-8"))
        .respond_with(ResponseTemplate::new(429).insert_header("retry-after", "7"))
        .mount(&server)
        .await;
    Mock::given(path("/conversations.info"))
        .and(body_string_contains("channel=C1"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({"ok": true})))
        .mount(&server)
        .await;
    let client = Caller::new().expect("a client");
    let instance = instance(&server.uri());
    let limited = call(&client, &instance, Method::PostMessage, &json!({})).await;
    let expected =
        SendError::Limited { retry_after_ms: 7_000, scope: "slack/chat.postMessage".to_owned() };
    assert_eq!(limited, Err(expected));
    let info = call(&client, &instance, Method::ChannelInfo, &json!({"channel": "C1"})).await;
    assert!(info.is_ok(), "{info:?}");
}

#[tokio::test]
async fn no_connection_is_certain_and_costs_nothing() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let client = Caller::new().expect("a client");
    let instance = instance(&format!("http://{address}"));
    let result = call(&client, &instance, Method::PostMessage, &json!({})).await;
    assert_eq!(kind(&result), "unavailable", "{result:?}");
}

/// Answers one request with `bytes` and closes, or stays silent for `None`.
async fn serve_once(bytes: Option<&'static [u8]>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    #[expect(clippy::disallowed_methods, reason = "a server of this test alone")]
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a caller");
        let mut head = [0_u8; 4_096];
        let _ = socket.read(&mut head).await;
        match bytes {
            Some(bytes) => {
                let _ = socket.write_all(bytes).await;
            }
            None => std::future::pending::<()>().await,
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn what_was_written_and_not_answered_is_unknown() {
    for (case, bytes) in [
        ("closed without an answer", Some(&b""[..])),
        ("torn in the body", Some(&b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{\"ok\""[..])),
        ("silent", None),
    ] {
        let client = Caller::with_timeout(Duration::from_millis(300));
        let instance = instance(&serve_once(bytes).await);
        let result = call(&client, &instance, Method::PostMessage, &json!({})).await;
        assert_eq!(kind(&result), "unknown", "{case}: {result:?}");
    }
}

#[tokio::test]
async fn errors_hold_no_token() {
    let client = Caller::with_timeout(Duration::from_millis(100));
    for base in ["http://user:xoxb-secret@127.0.0.1:1", "nonsense://xoxb-secret", "xoxb-secret"] {
        let result = call(&client, &instance(base), Method::PostMessage, &json!({})).await;
        let error = result.expect_err("nobody listens");
        assert!(!format!("{error} {error:?}").contains("xoxb"), "{error:?}");
    }
}
