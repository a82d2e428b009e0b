//! What WhatsApp and Evolution really sent, through a real node.

use std::collections::BTreeMap;

use aof_harness::{Manifests, Node, hub_signature};
use serde_json::Value;

const SECRET: &str = "00112233445566778899aabbccddeeff";
const JWT_KEY: &str = "evo-webhook-secret";

fn fixtures() -> Option<std::path::PathBuf> {
    let root = std::env::var_os("AOF_FIXTURES").filter(|root| !root.is_empty());
    if root.is_none() {
        println!("left out: AOF_FIXTURES does not name the folder of captured payloads");
    }
    root.map(std::path::PathBuf::from)
}

struct Running {
    node: Node,
    http: reqwest::Client,
    _manifests: Manifests,
    _data: tempfile::TempDir,
}

fn start() -> Running {
    let manifests = Manifests::new("");
    manifests.agent("echo", "  model: echo:repeat\n");
    let whatsapp = format!(
        "  trigger:\n    type: WhatsApp\n    config: {{instance: wa, app_secret: {SECRET}, phone_number_id: \
         '1122334455667', verify_token: meatyhamhock}}\n  agents: [{{name: echo}}]\n"
    );
    manifests.flow("whatsapp", &whatsapp);
    let evolution = format!(
        "  trigger:\n    type: Evolution\n    config: {{instance_name: org-a-ops, is_default: true, jwt_key: \
         {JWT_KEY}}}\n  agents: [{{name: echo}}]\n"
    );
    manifests.flow("evolution", &evolution);
    let data = tempfile::tempdir().expect("a folder");
    let node = Node::start(env!("CARGO_BIN_EXE_aofctl"), manifests.dir.path(), data.path());
    Running { node, http: reqwest::Client::new(), _manifests: manifests, _data: data }
}

impl Running {
    async fn post(&self, path: &str, proof: (&str, &str), body: String) -> (u16, Value) {
        let request = self.http.post(format!("{}/webhook/{path}", self.node.url));
        let answer = request.header(proof.0, proof.1).body(body).send().await;
        let answer = answer.expect("an answer");
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or_default())
    }
}

/// What became of one file, with the reason that was given.
fn became((status, body): &(u16, Value)) -> String {
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    match status {
        200 if body["vote_id"].is_string() => "vote".to_owned(),
        200 if body["message_id"].is_string() => "message".to_owned(),
        200 if body["noted"] == true => "state of the instance".to_owned(),
        200 if body["ignored"].is_string() => format!("ignored: {}", text("ignored")),
        200 => format!("several: {body}"),
        _ => format!("refused {status}: {}", text("detail")),
    }
}

/// Every captured file of `platform` with its name, those of its own API left out.
fn captured(root: &std::path::Path, platform: &str) -> Vec<(String, String)> {
    let dir = root.join(platform);
    let entries = std::fs::read_dir(&dir).expect("the folder of captures");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut found: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).expect("a readable file"))
        })
        .filter(|(name, _)| !name.starts_with("api_") && !name.starts_with("verification_"))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no files in {}", dir.display());
    found
}

fn show(platform: &str, table: &BTreeMap<String, Vec<String>>) {
    println!("{platform}: {} files", table.values().map(Vec::len).sum::<usize>());
    for (became, names) in table {
        println!("{:>3}  {became}\n       {}", names.len(), names.join(", "));
    }
}

fn of<'a>(table: &'a BTreeMap<String, Vec<String>>, name: &str) -> &'a str {
    let found = table.iter().find(|(_, names)| names.iter().any(|n| n == name));
    found.map_or("missing", |(became, _)| became.as_str())
}

#[tokio::test]
async fn every_captured_payload_of_whatsapp_is_what_it_is() {
    let Some(root) = fixtures() else { return };
    let running = start();
    let mut table: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, body) in captured(&root, "whatsapp") {
        let signature = hub_signature(SECRET, &body);
        let answer = running.post("whatsapp", ("x-hub-signature-256", &signature), body).await;
        let became = became(&answer);
        assert!(!became.starts_with("refused"), "{name}: {became}");
        table.entry(became).or_default().push(name);
    }
    show("whatsapp", &table);
    assert_eq!(of(&table, "pywa_message__text"), "message");
    assert_eq!(of(&table, "pywa_callback_button__quick_reply"), "message");
    assert_eq!(of(&table, "pywa_message__unreaction_no_emoji"), "vote");
    assert_eq!(of(&table, "pywa_message_status__read"), "ignored: status");
    assert_eq!(of(&table, "pywa_outgoing_message__edit"), "ignored: own message");
    assert_eq!(of(&table, "pywa_deleted_message__revoke"), "ignored: another number");
}

#[tokio::test]
async fn every_captured_payload_of_evolution_is_what_it_is() {
    let Some(root) = fixtures() else { return };
    let running = start();
    let bearer = format!("Bearer {JWT_KEY}");
    let mut table: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, body) in captured(&root, "evolution") {
        let proof = ("authorization", bearer.as_str());
        let answer = running.post("evolution/org-a-ops", proof, body).await;
        let became = became(&answer);
        assert!(!became.starts_with("refused"), "{name}: {became}");
        table.entry(became).or_default().push(name);
    }
    show("evolution", &table);
    for name in ["text_real_v2", "group_text", "image_caption", "lid_v2_3_2026", "quoted"] {
        assert_eq!(of(&table, &format!("messages_upsert_{name}")), "message", "{name}");
    }
    for name in ["group_reaction_real", "reaction_removed"] {
        assert_eq!(of(&table, &format!("messages_upsert_{name}")), "vote", "{name}");
    }
    for name in ["connection_update_open", "connection_update_close_401", "qrcode_updated"] {
        assert_eq!(of(&table, name), "state of the instance", "{name}");
    }
}

#[tokio::test]
async fn the_vectors_pass_and_each_one_altered_is_refused() {
    let Some(root) = fixtures() else { return };
    let running = start();
    let file = std::fs::read_to_string(root.join("vectors/vectors.json")).expect("the vectors");
    let vectors: Vec<Value> = serde_json::from_str(&file).expect("a list");
    let hub = vectors.iter().find(|v| v["name"] == "whatsapp_hub_escaped").expect("the vector");
    assert_eq!(hub["secret"], SECRET);
    let text = |name: &str| hub[name].as_str().expect("text").to_owned();
    let (body, signature) = (text("body"), text("signature"));
    let send = async |signature: &str, body: String| {
        running.post("whatsapp/wa", ("x-hub-signature-256", signature), body).await
    };
    let (status, answer) = send(&signature, body.clone()).await;
    assert!(status == 200 && answer["message_id"].is_string(), "{answer}");
    for at in 0..signature.len() {
        let mut altered = signature.clone().into_bytes();
        altered[at] ^= 1;
        let altered = String::from_utf8(altered).expect("ASCII");
        assert_eq!(send(&altered, body.clone()).await.0, 401, "{altered}");
    }
    for at in 0..body.len() {
        let mut altered = body.clone().into_bytes();
        altered[at] ^= 1;
        let altered = String::from_utf8(altered).expect("ASCII");
        assert_eq!(send(&signature, altered).await.0, 401, "byte {at}");
    }
    let get = std::fs::read_to_string(root.join("whatsapp/verification_get.json"));
    let get: Value = serde_json::from_str(&get.expect("a file")).expect("JSON");
    for (token, expected) in [(get["query"]["hub.verify_token"].as_str(), 200), (Some("x"), 403)] {
        let pair = |(name, value): (&String, &Value)| {
            let value = value.as_str().expect("text");
            let value = if name == "hub.verify_token" { token.expect("a token") } else { value };
            format!("{name}={value}")
        };
        let query = get["query"].as_object().expect("a query").iter().map(pair);
        let query = query.collect::<Vec<_>>().join("&");
        let url = format!("{}/webhook/whatsapp/wa?{query}", running.node.url);
        let answer = running.http.get(url).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), expected);
        if expected == 200 {
            assert_eq!(answer.text().await.expect("a body"), get["expect"]["body"]);
        }
    }
}
