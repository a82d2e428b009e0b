//! What every platform's webhooks must do, proven for each by the same tests.
//!
//! A platform describes itself as a [`Case`] and calls [`ingress_contract!`] with it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use aof_shared::action::Choice;
use aof_shared::config::Instance;
use aof_shared::ids::{InstanceName, PlatformName, TenantId};
use aof_shared::message::MessageKind;
use aof_shared::secret::Secret;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::{Inbound, Malformed, Platform, Signed, Verified};
use crate::testing::{AT, Gateway, read};

/// Bytes of a body that are altered one by one, spread over it.
const ALTERED_BYTES: usize = 48;

/// Headers by name.
pub(crate) type Headers = Vec<(&'static str, String)>;

/// One platform as the contract needs it.
pub(crate) struct Case {
    /// The platform.
    pub(crate) platform: &'static dyn Platform,
    /// An account of tenant `a`, as [`account`] makes them, with a secret.
    pub(crate) instance: Instance,
    /// Another secret, as wrong as can be and still one.
    pub(crate) other_secret: &'static str,
    /// Headers that prove that the holder of the secret sent this body at these seconds.
    pub(crate) prove: fn(secret: &str, body: &[u8], at_secs: u64) -> Headers,
    /// How many seconds the proof's time may be off, where it has one.
    pub(crate) window_secs: Option<u64>,
    /// Whether the proof covers the body.
    pub(crate) covers_body: bool,
    /// `content-type`.
    pub(crate) content_type: &'static str,
    /// A person's message.
    pub(crate) message: Said,
    /// A message that the bot itself wrote, where the platform sends it back.
    pub(crate) echo: Option<String>,
    /// A person's vote, where the platform has a way to cast one.
    pub(crate) vote: Option<(String, Choice)>,
    /// Other things that the platform sends.
    pub(crate) noise: Vec<String>,
}

/// A body that is a message, and which.
pub(crate) struct Said {
    /// As sent.
    pub(crate) body: String,
    /// The kind of message.
    pub(crate) kind: MessageKind,
    /// Where.
    pub(crate) channel: &'static str,
    /// Who.
    pub(crate) user: &'static str,
    /// What.
    pub(crate) text: &'static str,
}

/// An account of tenant `a` called `a`.
pub(crate) fn account(platform: &str, secret: &str, settings: &Value) -> Instance {
    Instance {
        name: InstanceName::new("a").expect("a plain name"),
        tenant: TenantId::new("a").expect("a plain name"),
        platform: PlatformName::new(platform).expect("a plain name"),
        bot_token: None,
        signing_secret: Some(Secret::new(secret)),
        api_base_url: None,
        needs_channel_names: false,
        settings: settings.as_object().cloned().unwrap_or_default().into_iter().collect(),
    }
}

/// Instantiates the contract for the case that `$case` makes.
macro_rules! ingress_contract {
    ($case:expr) => {
        mod ingress_contract {
            use super::*;
            use $crate::platform::contract;

            #[test]
            fn only_the_right_proof_passes() {
                contract::only_the_right_proof_passes(&$case);
            }
            #[test]
            fn what_comes_is_what_it_is() {
                contract::what_comes_is_what_it_is(&$case);
            }
            #[test]
            fn odd_bodies_are_never_a_panic() {
                contract::odd_bodies_are_never_a_panic(&$case);
            }
            #[tokio::test]
            async fn the_route_takes_it_once_and_for_its_owner() {
                contract::the_route_takes_it_once_and_for_its_owner($case).await;
            }
            #[tokio::test]
            async fn the_status_follows_the_platforms_policy() {
                contract::the_status_follows_the_platforms_policy($case).await;
            }
        }
    };
}
pub(crate) use ingress_contract;

impl Case {
    fn secret(&self) -> &str {
        self.instance.signing_secret.as_ref().expect("a case has a secret").expose()
    }

    fn verified(&self, secret: &str, headers: &Headers, body: &[u8]) -> Option<Verified> {
        let headers = header_map(headers);
        let signed = Signed { headers: &headers, event: None, body, now_ms: AT * 1000 };
        self.platform.verify(&signed, &Secret::new(secret), &self.instance)
    }

    fn normalized(&self, body: &str) -> Result<Vec<Inbound>, Malformed> {
        let headers = header_map(&vec![("content-type", self.content_type.to_owned())]);
        let body = body.as_bytes();
        let signed = Signed { headers: &headers, event: None, body, now_ms: AT * 1000 };
        self.platform.normalize(&signed, &self.instance).map(|delivery| delivery.items)
    }

    fn one(&self, body: &str) -> Inbound {
        let items = self.normalized(body).unwrap_or_else(|e| panic!("{e}: {body}"));
        let [item] = <[Inbound; 1]>::try_from(items).expect("one thing");
        item
    }

    async fn send(&self, gateway: &Gateway, path: &str, body: &str, headers: &Headers) -> Got {
        let mut request = gateway.http.post(gateway.at(path)).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.header("content-type", self.content_type);
        read(request.send().await.expect("an answer")).await
    }
}

/// Status and body.
type Got = (u16, Value);

fn header_map(headers: &Headers) -> HeaderMap {
    let pair = |(name, value): &(&'static str, String)| {
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("a header value");
        (HeaderName::from_static(name), value)
    };
    headers.iter().map(pair).collect()
}

/// Missing, altered, another's, stale: nothing but the right proof passes.
pub(crate) fn only_the_right_proof_passes(case: &Case) {
    let (secret, body) = (case.secret(), case.message.body.as_bytes());
    let good = (case.prove)(secret, body, AT);
    assert!(case.verified(secret, &good, body).is_some(), "the right proof");
    assert_eq!(case.verified(case.other_secret, &good, body), None, "another's secret");
    let others = (case.prove)(case.other_secret, body, AT);
    assert_eq!(case.verified(secret, &others, body), None, "another's proof");
    assert_eq!(case.verified("", &good, body), None, "no secret");
    assert_eq!(case.verified(secret, &Vec::new(), body), None, "no proof");
    for at in 0..good.len() {
        let mut missing = good.clone();
        let (name, value) = missing.remove(at);
        assert_eq!(case.verified(secret, &missing, body), None, "without {name}");
        for byte in 0..value.len() {
            let mut altered = value.clone().into_bytes();
            altered[byte] ^= 1;
            let Ok(altered) = String::from_utf8(altered) else { continue };
            if HeaderValue::from_str(&altered).is_err() {
                continue;
            }
            let mut headers = good.clone();
            headers[at].1.clone_from(&altered);
            assert_eq!(case.verified(secret, &headers, body), None, "{name}: {altered}");
        }
    }
    if case.covers_body {
        for byte in (0..body.len()).step_by((body.len() / ALTERED_BYTES).max(1)) {
            let mut altered = body.to_vec();
            altered[byte] ^= 1;
            assert_eq!(case.verified(secret, &good, &altered), None, "byte {byte}");
        }
    }
    if let Some(window) = case.window_secs {
        for (at, passes) in [
            (AT - window, true),
            (AT + window, true),
            (AT - window - 1, false),
            (AT + window + 1, false),
        ] {
            let headers = (case.prove)(secret, body, at);
            assert_eq!(case.verified(secret, &headers, body).is_some(), passes, "at {at}");
        }
    }
}

/// Messages, echoes, votes and noise become what they are.
pub(crate) fn what_comes_is_what_it_is(case: &Case) {
    let said = &case.message;
    let Inbound::Message(message) = case.one(&said.body) else { panic!("{}", said.body) };
    assert_eq!(message.kind, said.kind);
    assert_eq!(message.channel.id, said.channel);
    assert_eq!(message.user.id, said.user);
    assert_eq!(message.text, said.text);
    assert_eq!(message.tenant, case.instance.tenant);
    assert_eq!(message.instance, case.instance.name);
    assert_eq!(message.platform.as_str(), case.platform.facts().name);
    assert_eq!(message.received_at_ms, AT * 1000);
    assert!(!message.event_id.is_empty() && !message.conversation.is_empty());
    assert!(!message.raw.contains(case.secret()), "{}", message.raw);
    let Inbound::Message(again) = case.one(&said.body) else { panic!("{}", said.body) };
    assert_eq!(message.id, again.id, "a retry is the same message");
    if let Some(echo) = &case.echo {
        assert!(matches!(case.one(echo), Inbound::Ignored(_)), "{echo}");
    }
    if let Some((body, choice)) = &case.vote {
        let Inbound::Vote { event_id, vote } = case.one(body) else { panic!("{body}") };
        assert_eq!((vote.choice, event_id.is_empty()), (*choice, false), "{body}");
        assert_eq!(vote.voter.platform.as_str(), case.platform.facts().name);
    }
    for noise in &case.noise {
        let items = case.normalized(noise).unwrap_or_else(|e| panic!("{e}: {noise}"));
        assert!(items.iter().all(|i| matches!(i, Inbound::Ignored(_))), "{items:?}");
    }
}

/// Cut bodies, bodies without a field, and fields of another type are read or refused.
pub(crate) fn odd_bodies_are_never_a_panic(case: &Case) {
    let vote = case.vote.as_ref().map(|(body, _)| body);
    for body in [&case.message.body].into_iter().chain(vote).chain(&case.noise) {
        for end in (0..body.len()).filter(|end| body.is_char_boundary(*end)) {
            let _ = case.normalized(&body[..end]);
        }
        let Ok(whole) = serde_json::from_str::<Value>(body) else { continue };
        for pointer in pointers(&whole, "") {
            for odd in [Value::Null, json!(-1), json!(""), json!([]), json!({}), json!(1e300)] {
                let mut altered = whole.clone();
                *altered.pointer_mut(&pointer).expect("a pointer into it") = odd;
                let _ = case.normalized(&altered.to_string());
            }
        }
    }
    for odd in ["", "null", "[]", "{}", "0", "\"\"", "\u{feff}{}", "[[[[[[[[", "\0"] {
        let _ = case.normalized(odd);
    }
}

/// Every place in `value`, as JSON pointers.
fn pointers(value: &Value, at: &str) -> Vec<String> {
    let below: Vec<(String, &Value)> = match value {
        Value::Object(members) => {
            let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
            members.iter().map(|(name, value)| (escaped(name), value)).collect()
        }
        Value::Array(items) => {
            items.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect()
        }
        _ => Vec::new(),
    };
    let deeper = below.into_iter().flat_map(|(name, v)| pointers(v, &format!("{at}/{name}")));
    std::iter::once(at.to_owned()).chain(deeper).collect()
}

/// Over HTTP: for the owner of the secret alone, once, and what comes twice is known.
pub(crate) async fn the_route_takes_it_once_and_for_its_owner(case: Case) {
    let other = Instance {
        name: InstanceName::new("b").expect("a plain name"),
        tenant: TenantId::new("b").expect("a plain name"),
        signing_secret: Some(Secret::new(case.other_secret)),
        ..case.instance.clone()
    };
    let instances = vec![Arc::new(case.instance.clone()), Arc::new(other)];
    let gateway = Gateway::start_with_instances(instances).await;
    let name = case.platform.facts().name;
    let (own, others) = (format!("/webhook/{name}/a"), format!("/webhook/{name}/b"));
    let body = case.message.body.clone();
    let proof = (case.prove)(case.secret(), body.as_bytes(), AT);
    assert_eq!(case.send(&gateway, &own, &body, &Vec::new()).await.0, 401, "unsigned");
    assert_eq!(case.send(&gateway, &others, &body, &proof).await.0, 401, "another's address");
    assert!(gateway.inbound().await.is_empty());
    let (status, answer) = case.send(&gateway, &own, &body, &proof).await;
    assert_eq!(status, 200, "{answer}");
    let repeatable = case.verified(case.secret(), &proof, body.as_bytes());
    let repeatable = repeatable.expect("it verifies").once.is_none();
    let (status, _) = case.send(&gateway, &own, &body, &proof).await;
    assert_eq!(status, if repeatable { 200 } else { 401 }, "the same request again");
    let theirs = (case.prove)(case.other_secret, body.as_bytes(), AT);
    assert_eq!(case.send(&gateway, &others, &body, &theirs).await.0, 200, "its own event");
    let inbound = gateway.inbound().await;
    let tenants: Vec<_> = inbound.iter().map(|message| message.tenant.as_str()).collect();
    assert_eq!(tenants, ["a", "b"], "each tenant has its own, once");
    assert_ne!(inbound[0].id, inbound[1].id);
    let event = format!("{own}/some-event");
    let status = case.send(&gateway, &event, &body, &Vec::new()).await.0;
    assert_eq!(status, if case.platform.facts().event_in_path { 401 } else { 404 });
}

/// 503 for our trouble, and the same request passes later; what cannot be read is answered
/// as [`super::Facts::unreadable`] says; never any other 5xx.
pub(crate) async fn the_status_follows_the_platforms_policy(case: Case) {
    let instance = Arc::new(case.instance.clone());
    let gateway = Gateway::start_with_instances(vec![instance]).await;
    let path = format!("/webhook/{}/a", case.platform.facts().name);
    let body = case.message.body.clone();
    let proof = (case.prove)(case.secret(), body.as_bytes(), AT);
    gateway.full.store(true, Ordering::SeqCst);
    assert_eq!(case.send(&gateway, &path, &body, &proof).await.0, 503);
    gateway.full.store(false, Ordering::SeqCst);
    assert_eq!(case.send(&gateway, &path, &body, &proof).await.0, 200);
    assert_eq!(gateway.inbound().await.len(), 1);
    let odd = "{\"unfinished\":";
    let proof = (case.prove)(case.secret(), odd.as_bytes(), AT);
    let (status, answer) = case.send(&gateway, &path, odd, &proof).await;
    let expected = match case.platform.facts().unreadable {
        super::Unreadable::Refused => 400,
        super::Unreadable::Ignored => 200,
    };
    assert_eq!(status, expected, "{answer}");
    let sent = case.vote.iter().map(|(body, _)| body).chain(&case.noise).chain(&case.echo);
    for body in sent {
        let proof = (case.prove)(case.secret(), body.as_bytes(), AT);
        let (status, answer) = case.send(&gateway, &path, body, &proof).await;
        assert_eq!(status, 200, "{body}: {answer}");
    }
    assert_eq!(gateway.inbound().await.len(), 1, "nothing else is a message");
}

/// Sends every file that `platform` really sent through the route, signed. Each is a
/// message, a vote, ignored with a reason or refused with one; those that are `known` are
/// what they are known as. Left out, and said so, where no folder of captures is named.
pub(crate) async fn captures(case: Case, platform: &str, least: usize, known: &[(&str, &str)]) {
    let Some(root) = std::env::var_os("AOF_FIXTURES").filter(|root| !root.is_empty()) else {
        eprintln!("left out: AOF_FIXTURES does not name the folder of captured payloads");
        return;
    };
    let gateway = Gateway::start_with_instances(vec![Arc::new(case.instance.clone())]).await;
    let path = format!("/webhook/{}/a", case.platform.facts().name);
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    let folder = std::path::Path::new(&root).join(platform);
    for entry in std::fs::read_dir(&folder).expect("the folder of captures") {
        let file = entry.expect("an entry").path();
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        if !name.ends_with(".json") {
            continue;
        }
        let body = std::fs::read_to_string(&file).expect("a readable file");
        let proof = (case.prove)(case.secret(), body.as_bytes(), AT);
        let before = gateway.inbound().await.len();
        let (status, answer) = case.send(&gateway, &path, &body, &proof).await;
        assert!(status < 500, "{name}: {status} {answer}");
        let stored = gateway.inbound().await.len() > before || answer["duplicate"] == true;
        let became = match answer["ignored"].as_str().or(answer["detail"].as_str()) {
            _ if stored => "message",
            Some(reason) => reason,
            None if status == 200 => "answered",
            None => panic!("{name}: {status} without a reason: {answer}"),
        };
        if let Some((_, expected)) = known.iter().find(|(known, _)| *known == name) {
            assert_eq!(became, *expected, "{name}: {status} {answer}");
        }
        *counts.entry(format!("{status} {became}")).or_default() += 1;
    }
    println!("{platform}: {counts:#?}");
    let seen: usize = counts.values().sum();
    assert!(seen >= least, "only {seen} files in {}", folder.display());
}
