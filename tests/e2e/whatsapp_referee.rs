//! A WhatsApp client that others wrote as referee of what is signed, what a body says, and what is
//! sent.

use std::process::Command;

use aof_harness::{Api, Manifests, Node, Phones, hub_signature, until, whatsapp_body};
use serde_json::{Value, json};

const SECRET: &str = "an app secret";

/// What the referee prints, one object a line.
fn referee(python: &std::path::Path) -> Vec<Value> {
    let output = Command::new(python)
        .arg(crate::root().join("tests/e2e/whatsapp_referee.py"))
        .arg(SECRET)
        .output()
        .expect("python runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

struct Running {
    node: Node,
    api: Api,
    phones: Phones,
    http: reqwest::Client,
    _manifests: Manifests,
    _data: tempfile::TempDir,
}

async fn start(agent: &str) -> Running {
    let (phones, address) = Phones::start().await;
    let manifests = Manifests::new("");
    manifests.agent("agent", agent);
    let flow = format!(
        "  trigger:\n    type: WhatsApp\n    config: {{instance: wa, access_token: tok, app_secret: {SECRET}, \
         phone_number_id: '1001', api_base_url: 'http://{address}'}}\n  agents: [{{name: agent}}]\n  \
         approval: {{allowed_users: [US.9], require_for: [mktemp]}}\n"
    );
    manifests.flow("ops", &flow);
    let data = tempfile::tempdir().expect("a folder");
    let node = Node::start(env!("CARGO_BIN_EXE_aofctl"), manifests.dir.path(), data.path());
    let api = Api::operator(&node, "default");
    let http = reqwest::Client::new();
    Running { node, api, phones, http, _manifests: manifests, _data: data }
}

impl Running {
    async fn post(&self, body: String, signature: &str) -> u16 {
        let request = self.http.post(format!("{}/webhook/whatsapp/wa", self.node.url)).body(body);
        let answer = request.header("x-hub-signature-256", signature).send().await;
        answer.expect("an answer").status().as_u16()
    }

    /// The newest message that went out, once there are `count`.
    async fn sent(&self, count: usize) -> (String, Value) {
        let calls = until(&format!("{count} messages"), async || {
            let calls = self.phones.calls();
            (calls.len() >= count).then_some(calls)
        })
        .await;
        (calls[count - 1].path.clone(), calls[count - 1].body.clone())
    }
}

#[tokio::test]
async fn the_node_and_pywa_agree_on_every_signature_and_every_message() {
    let Some(python) = aof_harness::tool("python/bin/python") else { return };
    let running = start("  model: echo:repeat\n").await;
    let cases = referee(&python);
    let mut read = 0;
    for case in cases.iter().filter(|line| line["case"].is_string()) {
        let text = |name: &str| case[name].as_str().expect("text").to_owned();
        let status = running.post(text("body"), &text("signature")).await;
        println!("{:<24} {:>5} {status}", text("case"), case["taken"].to_string());
        assert_eq!(status == 200, case["taken"] == true, "{}", text("case"));
        let wanted = &case["read"];
        if wanted.is_null() {
            continue;
        }
        read += 1;
        let (_, sent) = running.sent(read).await;
        assert_eq!(sent["context"]["message_id"], wanted["id"], "{}", text("case"));
        let said = sent["text"]["body"].as_str().expect("text");
        assert!(said.contains(wanted["text"].as_str().expect("text")), "{said} {wanted}");
        let accepted = running.api.events("message.accepted").await;
        let last = accepted.last().expect("an event");
        assert_eq!(
            (&last["data"]["user"], &last["data"]["event_id"]),
            (&wanted["user"], &wanted["id"])
        );
    }
    assert_eq!(read, 6);
}

/// The message with what differs by design replaced by what the referee has there.
fn blanked(mut body: Value) -> Value {
    let blank = |body: &mut Value, pointer: &str, with: &str| {
        if let Some(found) = body.pointer_mut(pointer) {
            *found = json!(with);
        }
    };
    for (pointer, with) in [
        ("/text/body", "TEXT"),
        ("/interactive/body/text", "TEXT"),
        ("/interactive/action/buttons/0/reply/id", "APPROVE"),
        ("/interactive/action/buttons/1/reply/id", "DENY"),
    ] {
        blank(&mut body, pointer, with);
    }
    body
}

#[tokio::test]
async fn the_node_sends_what_pywa_sends() {
    let Some(python) = aof_harness::tool("python/bin/python") else { return };
    let running = start("  runtime: command\n  tools: [uname, mktemp]\n").await;
    let sends = referee(&python);
    let sends: Vec<&Value> = sends.iter().filter(|line| line["sends"].is_string()).collect();
    let said = |text: &str| json!({"id": "wamid.A", "type": "text", "text": {"body": text}});
    let known = ("US.1001", "15550002001");
    let hidden = whatsapp_body("1001", known, &said("uname"));
    let hidden = hidden.replace("\"from\":\"15550002001\"", "\"from_user_id\":\"US.1001\"");
    let hidden = hidden.replace("\"wa_id\":\"15550002001\"", "\"wa_id\":null");
    let asked = [
        whatsapp_body("1001", known, &said("uname")),
        hidden.replace("wamid.A", "wamid.B"),
        whatsapp_body("1001", known, &said("mktemp -u")).replace("wamid.A", "wamid.C"),
    ];
    assert_eq!(sends.len(), asked.len());
    for (at, body) in asked.into_iter().enumerate() {
        let signature = hub_signature(SECRET, &body);
        assert_eq!(running.post(body, &signature).await, 200);
        let (path, mut sent) = running.sent(at + 1).await;
        sent["context"]["message_id"] = json!("wamid.A");
        assert!(sends[at]["sends"].as_str().expect("a path").ends_with(&path), "{path}");
        assert_eq!(blanked(sent), sends[at]["body"]);
    }
}
