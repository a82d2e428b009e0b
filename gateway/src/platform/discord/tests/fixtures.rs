//! What Discord documents and sends, all of it, through the route and through the connection.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::*;
use crate::testing::{Gateway, read};

/// The folder of captured payloads, if the environment names it.
fn root() -> Option<PathBuf> {
    let root = std::env::var_os("AOF_FIXTURES").filter(|root| !root.is_empty());
    if root.is_none() {
        println!("left out: AOF_FIXTURES does not name the folder of captured payloads");
    }
    root.map(PathBuf::from)
}

/// Name and content of every payload, sorted.
fn payloads(root: PathBuf) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root.join("discord")).expect("the folder of captures") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            found.push((name, std::fs::read_to_string(&path).expect("a readable file")));
        }
    }
    found.sort();
    assert!(found.len() > 50, "only {} files", found.len());
    found
}

fn print(table: &BTreeMap<String, Vec<String>>) {
    for (became, names) in table {
        println!("{:>3}  {became}\n       {}", names.len(), names.join(", "));
    }
}

#[tokio::test]
async fn every_payload_through_the_route_is_taken_ignored_or_refused_with_a_reason() {
    let Some(root) = root() else { return };
    let instance = Arc::new(account("discord", &public(1), &json!({})));
    let gateway = Gateway::start_with_instances(vec![instance]).await;
    let mut table: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, body) in payloads(root) {
        // Two files may be equal, and a request counts once.
        gateway.clock.advance_ms(1_000);
        let before = gateway.inbound().await.len();
        let mut request = gateway.http.post(gateway.at("/webhook/discord/a")).body(body.clone());
        for (header, value) in (case().prove)(&public(1), body.as_bytes(), gateway.now_secs()) {
            request = request.header(header, value);
        }
        let (status, answer) = read(request.send().await.expect("an answer")).await;
        let became = match status {
            200 if gateway.inbound().await.len() > before => "message".to_owned(),
            200 => format!("answered: {answer}"),
            400 => format!("refused: {}", answer["detail"].as_str().unwrap_or_default()),
            other => panic!("{name}: {other} {answer}"),
        };
        table.entry(became).or_default().push(name);
    }
    print(&table);
    let of = |name: &str| {
        let found = table.iter().find(|(_, names)| names.iter().any(|n| n == name));
        found.map_or("missing", |(became, _)| became.as_str())
    };
    assert_eq!(of("sdk_ping"), r#"answered: {"type":1}"#);
    assert_eq!(of("application-commands__slash_command_interaction_L500"), "message");
    assert_eq!(of("application-commands__user_command_interaction_L854"), "message");
    assert_eq!(of("sdk_message_component"), r#"answered: {"type":6}"#);
    assert!(of("sdk_autocomplete").contains(r#""choices":[]"#));
    assert!(of("sdk_application_command").starts_with("refused: "), "it names nobody");
}

#[test]
fn every_payload_through_the_connection_is_read_or_refused_with_a_reason() {
    let Some(root) = root() else { return };
    let instance = account("discord", &public(1), &json!({}));
    let source =
        Source { instance: &instance, bot: BOT, parent: None, delivery: "s:1", now_ms: AT * 1_000 };
    let mut table: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, body) in payloads(root) {
        let event = name.strip_prefix("gateway_").unwrap_or("message_create");
        let event = event.trim_end_matches(|c: char| c == '_' || c.is_ascii_digit());
        let became = match event::normalize(&event.to_uppercase(), &body, &source) {
            Ok(Inbound::Message(message)) => format!("{:?}", message.kind),
            Ok(Inbound::Ignored(reason)) => format!("ignored: {reason}"),
            Ok(other) => format!("{other:?}").chars().take(40).collect(),
            Err(error) => format!("refused: {error}"),
        };
        table.entry(became).or_default().push(name);
    }
    print(&table);
    let of = |name: &str| {
        let found = table.iter().find(|(_, names)| names.iter().any(|n| n == name));
        found.map_or("missing", |(became, _)| became.as_str())
    };
    assert_eq!(of("gateway_message_create_2"), "ignored: another bot");
    assert_eq!(of("gateway_message_reaction_add_1"), "ignored: other emoji");
    assert_eq!(of("gateway_message_reaction_remove_all_1"), "ignored: reactions cleared");
    assert_eq!(of("gateway_typing_start_1"), "ignored: typing");
}

#[test]
fn published_vectors_verify_and_each_of_them_altered_by_a_bit_does_not() {
    let Some(root) = root() else { return };
    let text = std::fs::read_to_string(root.join("vectors/vectors.json")).expect("the vectors");
    let vectors: Value = serde_json::from_str(&text).expect("JSON");
    let of_discord = |v: &&Value| v["name"].as_str().is_some_and(|n| n.starts_with("discord_"));
    let vectors: Vec<&Value> =
        vectors.as_array().expect("a list").iter().filter(of_discord).collect();
    assert_eq!(vectors.len(), 2);
    for vector in vectors {
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let headers = &vector["request_headers"];
        let (key, at) = (text(&headers["public_key"]), text(&headers["X-Signature-Timestamp"]));
        let signature = hex::decode(text(&vector["signature"])).expect("hex");
        let body = text(&vector["body"]).into_bytes();
        let now_ms = at.parse::<u64>().expect("seconds") * 1_000;
        let passes = |signature: &[u8], at: &str, body: &[u8]| {
            let mut headers = HeaderMap::new();
            let hex = hex::encode(signature);
            headers.insert("x-signature-ed25519", hex.parse().expect("a header"));
            headers.insert("x-signature-timestamp", at.parse().expect("a header"));
            let signed = Signed { headers: &headers, event: None, body, now_ms };
            let instance = account("discord", &key, &json!({}));
            Discord.verify(&signed, &Secret::new(&key), &instance).is_some()
        };
        assert!(passes(&signature, &at, &body), "{}", vector["name"]);
        // One bit of each byte, another one each time.
        for byte in 0..signature.len() {
            let mut altered = signature.clone();
            altered[byte] ^= 1 << (byte % 8);
            assert!(!passes(&altered, &at, &body), "byte {byte} of the signature");
        }
        for byte in 0..body.len() {
            let mut altered = body.clone();
            altered[byte] ^= 1 << (byte % 8);
            assert!(!passes(&signature, &at, &altered), "byte {byte} of the body");
        }
        assert!(!passes(&signature, "1700000001", &body), "another second");
    }
}
