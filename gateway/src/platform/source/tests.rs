//! What sources send, and what we make of it.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};

use super::*;
use crate::platform::contract::{self, Case, Headers, Said};

fn named(name: &str) -> &'static Source {
    SOURCES.iter().find(|source| source.facts.name == name).expect("a source")
}

fn hmac(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

fn case(name: &str, prove: fn(&str, &[u8], u64) -> Headers, message: Said) -> Case {
    let case = Case {
        platform: named(name),
        instance: contract::account(name, "a-source-secret", &json!({})),
        other_secret: "another-secret",
        prove,
        window_secs: None,
        covers_body: true,
        content_type: "application/json",
        message,
        echo: None,
        vote: None,
        noise: Vec::new(),
    };
    Case { covers_body: matches!(name, "github" | "pagerduty"), ..case }
}

fn said(body: &Value, channel: &'static str, user: &'static str, text: &'static str) -> Said {
    Said { body: body.to_string(), kind: MessageKind::Alert, channel, user, text }
}

fn bearer(secret: &str, _: &[u8], _: u64) -> Headers {
    vec![("authorization", format!("Bearer {secret}"))]
}

mod github {
    use super::*;

    fn case() -> Case {
        let sender = json!({ "login": "ann", "type": "User" });
        let repository = json!({ "full_name": "acme/web" });
        let issue = json!({ "number": 7, "title": "It is down", "html_url": "https://gh/7" });
        let opened = json!({ "action": "opened", "issue": issue, "repository": repository, "sender": sender });
        let by_bot = json!({ "action": "opened", "repository": repository,
            "sender": { "login": "ci", "type": "Bot" } });
        let prove = |secret: &str, body: &[u8], _| {
            vec![("x-hub-signature-256", format!("sha256={}", hmac(secret, body)))]
        };
        let text = "event opened in acme/web by ann: It is down https://gh/7";
        let said = said(&opened, "acme/web", "ann", text);
        Case { echo: Some(by_bot.to_string()), ..super::case("github", prove, said) }
    }

    contract::ingress_contract!(case());

    #[tokio::test]
    async fn every_captured_file_is_what_it_is() {
        let known = [("issues_edited_0.json", "message"), ("push_0.json", "message")];
        contract::captures(case(), "github", 20, &known).await;
    }
}

mod pagerduty {
    use super::*;

    fn case() -> Case {
        let service = json!({ "id": "PSVC", "summary": "API" });
        let data = json!({ "id": "PINC", "title": "A bump", "urgency": "high",
            "html_url": "https://pd/1", "service": service });
        let event = json!({ "id": "E1", "event_type": "incident.triggered", "data": data });
        let ping = json!({ "event": { "id": "E2", "event_type": "pagey.ping" } });
        let prove = |secret: &str, body: &[u8], _| {
            vec![("x-pagerduty-signature", format!("v1={}", hmac(secret, body)))]
        };
        let text = "incident.triggered: A bump [high] on API https://pd/1";
        let said = said(&json!({ "event": event }), "PSVC", "pagerduty", text);
        Case { noise: vec![ping.to_string()], ..super::case("pagerduty", prove, said) }
    }

    contract::ingress_contract!(case());

    #[tokio::test]
    async fn every_captured_file_is_what_it_is() {
        let known = [("docs_L106_incident_priority_updated.json", "message")];
        contract::captures(case(), "pagerduty", 5, &known).await;
    }
}

mod alertmanager {
    use super::*;

    fn group(status: &str) -> Value {
        let alert = json!({ "status": status, "fingerprint": "f1", "startsAt": "2026-01-01T00:00:00Z",
            "labels": { "pod": "api" }, "annotations": { "summary": "It loops" } });
        json!({ "receiver": "ops", "status": status, "groupKey": "{}:{a=\"b\"}",
            "commonLabels": { "alertname": "Loops" }, "alerts": [alert] })
    }

    fn case() -> Case {
        let text = "[firing] Loops\n- firing: It loops pod=api";
        super::case("alertmanager", bearer, said(&group("firing"), "ops", "alertmanager", text))
    }

    contract::ingress_contract!(case());

    #[test]
    fn what_resolves_is_another_event_of_the_same_conversation() {
        let (fires, ends) =
            (one("alertmanager", &group("firing")), one("alertmanager", &group("resolved")));
        assert_ne!(fires.id, ends.id);
        assert_eq!(fires.conversation, ends.conversation);
        assert_eq!(fires.id, one("alertmanager", &group("firing")).id, "sent again");
    }

    #[tokio::test]
    async fn every_captured_file_is_what_it_is() {
        let known = [("firing_2alerts_200.json", "message")];
        contract::captures(case(), "alertmanager", 5, &known).await;
    }
}

mod opsgenie {
    use super::*;

    fn case() -> Case {
        let alert = json!({ "alertId": "a1", "message": "CPU", "priority": "P1", "createdAt": 1 });
        let body = json!({ "action": "Create", "alert": alert, "integrationName": "AOF" });
        super::case("opsgenie", bearer, said(&body, "AOF", "opsgenie", "Create: CPU [P1]"))
    }

    contract::ingress_contract!(case());

    #[tokio::test]
    async fn every_captured_file_is_what_it_is() {
        contract::captures(case(), "opsgenie", 5, &[("create.json", "message")]).await;
    }
}

mod webhook {
    use super::*;

    fn case() -> Case {
        let body = json!({ "id": "1", "channel": "c", "user": "u", "text": "hello" });
        super::case("webhook", bearer, said(&body, "c", "u", "hello"))
    }

    contract::ingress_contract!(case());
}

/// What a source makes of `body` with these settings.
fn made(name: &str, body: &Value, settings: &Value) -> Result<Inbound, Malformed> {
    let instance = contract::account(name, "s", settings);
    let body = body.to_string();
    let headers = HeaderMap::new();
    let signed = Signed { headers: &headers, event: None, body: body.as_bytes(), now_ms: 1 };
    let delivery = named(name).normalize(&signed, &instance)?;
    Ok(delivery.items.into_iter().next().expect("one thing"))
}

fn one(name: &str, body: &Value) -> Message {
    match made(name, body, &json!({})) {
        Ok(Inbound::Message(message)) => *message,
        other => panic!("{body} became {other:?}"),
    }
}

/// Whether the published signature `given` passes as `headers` at `at`.
fn passes(source: (&str, &Value), headers: &[(&str, &str)], body: &str, at: u64) -> bool {
    let (name, settings) = source;
    let instance =
        contract::account(name, settings["secret"].as_str().expect("a secret"), settings);
    let pair = |(name, value): &(&str, &str)| {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        (name, HeaderValue::from_str(value).expect("a value"))
    };
    let headers: HeaderMap = headers.iter().map(pair).collect();
    let signed =
        Signed { headers: &headers, event: None, body: body.as_bytes(), now_ms: at * 1000 };
    let secret = instance.signing_secret.clone().expect("it has one");
    named(name).verify(&signed, &secret, &instance).is_some()
}

#[test]
fn published_signatures_pass_and_altered_ones_do_not() {
    let github = json!({ "secret": "It's a Secret to Everybody" });
    let hub = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let hello = |signature: &str, body: &str| {
        passes(("github", &github), &[("x-hub-signature-256", signature)], body, 1)
    };
    assert!(hello(hub, "Hello, World!"));
    assert!(!hello(hub, "Hello, World?") && !hello(&hub.replace("757", "756"), "Hello, World!"));

    let standard = json!({ "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "source": {
        "signature": { "scheme": "hmac-sha256", "header": "Webhook-Signature", "prefix": "v1,",
            "encoding": "base64", "secret": "base64", "signed": ["id", "timestamp", "body"],
            "id_header": "webhook-id", "timestamp_header": "webhook-timestamp" } } });
    let sent = |signature: &str, at: u64| {
        let headers = [
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", signature),
        ];
        passes(("webhook", &standard), &headers, "{\"test\": 2432232314}", at)
    };
    let right = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    assert!(sent(right, 1_614_265_330) && sent(&format!("v1,AAAA {right}"), 1_614_265_330));
    assert!(!sent(right, 1_614_265_631), "stale");
    assert!(!sent(&right.replace("g0h", "g0g"), 1_614_265_330));
}

#[test]
fn two_signatures_while_a_secret_changes_and_one_of_them_counts() {
    let (old, new) = (hmac("old", b"{}"), hmac("new", b"{}"));
    let header = format!("v1={old},v1={new}");
    let new = json!({ "secret": "new" });
    assert!(passes(("pagerduty", &new), &[("x-pagerduty-signature", &header)], "{}", 1));
    let third = json!({ "secret": "third" });
    assert!(!passes(("pagerduty", &third), &[("x-pagerduty-signature", &header)], "{}", 1));
}

#[test]
fn a_source_that_does_not_say_how_it_proves_itself_proves_nothing() {
    for signature in [
        json!({ "scheme": "none", "header": "x" }),
        json!({ "scheme": "hmac-sha256", "header": "x", "signed": ["timestamp"] }),
        json!({ "scheme": "token" }),
        json!("x"),
    ] {
        let settings = json!({ "secret": "s", "source": { "signature": signature } });
        let token = [("authorization", "Bearer s"), ("x", "s")];
        assert!(!passes(("webhook", &settings), &token, "{}", 1), "{settings}");
    }
}

#[test]
fn an_account_says_how_its_events_are_read() {
    let source = json!({ "source": { "id": "{{ body.run.id }}", "text": "deploy {{ body.app }}",
        "channel": "ci", "user": "{{ body.by }}", "conversation": "{{ body.app }}",
        "skip": "{{ body.state != 'failed' }}" } });
    let failed = json!({ "run": { "id": 9 }, "app": "web", "by": "ann", "state": "failed" });
    let Ok(Inbound::Message(message)) = made("webhook", &failed, &source) else {
        panic!("no message")
    };
    assert_eq!((message.event_id.as_str(), message.text.as_str()), ("9", "deploy web"));
    assert_eq!((message.channel.id.as_str(), message.user.id.as_str()), ("ci", "ann"));
    let passed = json!({ "state": "passed" });
    assert!(matches!(made("webhook", &passed, &source), Ok(Inbound::Ignored("skipped"))));
}

#[test]
fn a_template_that_is_none_or_never_ends_is_an_error_and_no_hang() {
    for text in [
        "{{ body.",
        "{{ nothing() }}",
        "{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}",
    ] {
        let made = made("webhook", &json!({ "text": "x" }), &json!({ "source": { "text": text } }));
        assert!(made.is_err(), "{text}: {made:?}");
    }
    let long = json!({ "id": "i".repeat(5_000), "text": "t".repeat(90_000) });
    let message = one("webhook", &long);
    assert_eq!((message.event_id.len(), message.text.len()), (64, MAX_TEXT_CHARS));
}
