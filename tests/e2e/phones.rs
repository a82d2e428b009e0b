//! WhatsApp Cloud and Evolution, from a proven event to the answer and the approval. The APIs at
//! the other end are stand-ins of ours.

use aof_harness::{
    Api, Backend, Manifests, Node, PhoneCall, Phones, evolution_body, hub_signature, until,
    whatsapp_body,
};
use serde_json::{Value, json};

const APP_SECRET: &str = "an app secret";
const HOOK_SECRET: &str = "a webhook secret";
const API_KEY: &str = "0000AAAA-4BBB-8CCC";
const ANN: (&str, &str) = ("US.1001", "15550002001");
const LEA: (&str, &str) = ("US.1002", "15550002002");
const MAX: (&str, &str) = ("US.1003", "15550002003");

struct Story {
    node: Node,
    api: Api,
    phones: Phones,
    http: reqwest::Client,
    scratch: tempfile::TempDir,
    data: tempfile::TempDir,
    _manifests: Manifests,
}

/// Two numbers of one app and an Evolution account, each with the same flow; two must agree, one
/// of them known by phone number alone, the other by what the platform calls her.
async fn story() -> Story {
    let (phones, address) = Phones::start().await;
    let manifests = Manifests::new("");
    manifests.agent("shell", "  runtime: command\n  tools: [uname, mktemp]\n");
    let flow = |trigger: &str, lea: &str| {
        format!(
            "  trigger:\n{trigger}  agents: [{{name: shell}}]\n  approval:\n    chains:\n      - \
             {{name: two, approvers: [{lea}, '{}'], require: 2}}\n    rules:\n      - {{pattern: \
             mktemp, chain: two}}\n",
            MAX.1
        )
    };
    for number in ["1001", "1002"] {
        let trigger = format!(
            "    type: WhatsApp\n    config:\n      instance: n{number}\n      access_token: tok\n      app_secret: \
             {APP_SECRET}\n      verify_token: a-verify-token\n      phone_number_id: {number}\n      \
             api_base_url: http://{address}\n"
        );
        manifests.flow(&format!("whatsapp-{number}"), &flow(&trigger, LEA.0));
    }
    let trigger = format!(
        "    type: Evolution\n    config:\n      instance_name: ops\n      is_default: true\n      api_key: \
         {API_KEY}\n      webhook_secret: {HOOK_SECRET}\n      api_base_url: http://{address}\n"
    );
    manifests.flow("evolution", &flow(&trigger, "'82002@lid'"));
    let data = tempfile::tempdir().expect("a folder");
    let node = Node::start(env!("CARGO_BIN_EXE_aofctl"), manifests.dir.path(), data.path());
    let api = Api::operator(&node, "default");
    let http = reqwest::Client::new();
    let scratch = tempfile::tempdir().expect("a folder");
    Story { node, api, phones, http, scratch, data, _manifests: manifests }
}

impl Story {
    /// Posts a body with Meta's signature; status and answer.
    async fn whatsapp(&self, path: &str, body: String) -> (u16, Value) {
        let signature = hub_signature(APP_SECRET, &body);
        let request = self.http.post(format!("{}/webhook/whatsapp{path}", self.node.url));
        let sent = request.header("x-hub-signature-256", signature).body(body).send().await;
        read(sent.expect("an answer")).await
    }

    /// What somebody says to a number.
    async fn say(&self, who: (&str, &str), message: &Value) -> Value {
        let (status, answer) = self.whatsapp("", whatsapp_body("1001", who, message)).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// Posts a body as Evolution does; status and answer.
    async fn evolution(&self, path: &str, event: &str, data: &Value) -> (u16, Value) {
        let request = self.http.post(format!("{}/webhook/evolution{path}", self.node.url));
        let request = request.bearer_auth(HOOK_SECRET).body(evolution_body(event, data, API_KEY));
        read(request.send().await.expect("an answer")).await
    }

    async fn sent(&self, count: usize) -> Vec<PhoneCall> {
        until(&format!("{count} messages"), async || {
            let calls = self.phones.calls();
            (calls.len() >= count).then_some(calls)
        })
        .await
    }

    fn command(&self) -> String {
        format!("mktemp -p {} did.XXXXXX", self.scratch.path().display())
    }

    fn ran(&self) -> usize {
        std::fs::read_dir(self.scratch.path()).expect("a folder").count()
    }

    /// The one approval that waits, once its card is known.
    async fn held(&self) -> String {
        until("the approval", async || {
            let (_, list) = self.api.get("approvals?status=pending").await;
            let first = &list["approvals"][0];
            first["posted"].is_string().then(|| first["id"].as_str().map(str::to_owned)).flatten()
        })
        .await
    }

    /// Waits until so many votes were counted or not.
    async fn judged(&self, kind: &str, count: usize) {
        until(&format!("{count} {kind}"), async || {
            (self.api.events(kind).await.len() >= count).then_some(())
        })
        .await;
    }

    /// Waits until it ran, and looks that it ran once and that the card was answered.
    async fn executed(&self, id: &str, quoted: impl Fn(&PhoneCall) -> bool) {
        until("its execution", async || {
            (self.api.approval(id).await["status"] == "executed").then_some(())
        })
        .await;
        assert_eq!(self.ran(), 1, "it ran once");
        until("the outcome, in answer to the card", async || {
            let calls = self.phones.calls();
            let shows = |call: &PhoneCall| call.body.to_string().contains("Executed");
            calls.iter().any(|call| shows(call) && quoted(call)).then_some(())
        })
        .await;
    }
}

async fn read(answer: reqwest::Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    let text = answer.text().await.expect("a body");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn text(id: &str, said: &str) -> Value {
    json!({"id": id, "type": "text", "text": {"body": said}})
}

/// An Evolution message in the group of these tests.
fn in_group(id: &str, participant: &str, alt: Option<&str>, message: &Value) -> Value {
    json!({"key": {"remoteJid": "120363@g.us", "fromMe": false, "id": id,
        "participant": participant, "participantAlt": alt}, "pushName": "Someone",
        "message": message, "messageTimestamp": aof_harness::now_secs()})
}

#[tokio::test]
async fn whatsapp_answers_in_reply_and_each_number_speaks_for_itself() {
    let story = story().await;
    let message = text("wamid.A", "uname -s");
    let first = story.say(ANN, &message).await;
    let again = story.say(ANN, &message).await;
    assert_eq!((&first["duplicate"], &again["duplicate"]), (&json!(false), &json!(true)));
    let sent = story.sent(1).await;
    assert_eq!(
        (sent[0].path.as_str(), sent[0].credential.as_str()),
        ("/1001/messages", "Bearer tok")
    );
    assert_eq!(sent[0].body["to"], ANN.1);
    assert_eq!(sent[0].body["context"]["message_id"], "wamid.A");
    assert!(sent[0].body["text"]["body"].as_str().expect("text").contains("Linux"));
    let (status, _) =
        story.whatsapp("", whatsapp_body("1002", ANN, &text("wamid.B", "uname -s"))).await;
    assert_eq!(status, 200);
    assert_eq!(story.sent(2).await[1].path, "/1002/messages");
    let (_, other) =
        story.whatsapp("", whatsapp_body("1003", ANN, &text("wamid.C", "uname -s"))).await;
    assert_eq!(other["ignored"], "another number");
    let tampered = whatsapp_body("1001", ANN, &text("wamid.D", "uname -s"));
    let signature = hub_signature(APP_SECRET, &tampered);
    let request = story.http.post(format!("{}/webhook/whatsapp", story.node.url));
    let request = request.header("x-hub-signature-256", signature);
    let answer = request.body(tampered.replace("uname", "unamf")).send().await.expect("an answer");
    assert_eq!(answer.status(), 401);
    assert_eq!(story.api.events("run.started").await.len(), 2);
}

#[tokio::test]
async fn metas_challenge_is_answered_to_the_right_token_alone() {
    let story = story().await;
    for path in ["", "/n1001"] {
        let ask = async |token: &str| {
            let query =
                format!("hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token={token}");
            let url = format!("{}/webhook/whatsapp{path}?{query}", story.node.url);
            let answer = story.http.get(url).send().await.expect("an answer");
            let kind = answer.headers()["content-type"].to_str().expect("text").to_owned();
            (answer.status().as_u16(), kind, answer.text().await.expect("a body"))
        };
        let (status, kind, body) = ask("a-verify-token").await;
        assert_eq!((status, body.as_str()), (200, "1158201444"), "{path}");
        assert!(kind.starts_with("text/plain"), "{kind}");
        assert_eq!(ask("a-verify-tokem").await.0, 403, "{path}");
    }
}

#[tokio::test]
async fn whatsapps_buttons_and_reactions_of_two_listed_people_run_it_once() {
    let story = story().await;
    story.say(ANN, &text("wamid.A", &story.command())).await;
    let card = story.sent(1).await.remove(0);
    let buttons = &card.body["interactive"]["action"]["buttons"];
    let approve = buttons[0]["reply"]["id"].as_str().expect("an id").to_owned();
    let id = story.held().await;
    let press = |n: u32| {
        json!({"id": format!("wamid.P{n}"), "type": "interactive", "interactive": {
            "type": "button_reply", "button_reply": {"id": approve, "title": "Approve"}}})
    };
    // Whoever asked is not on the list; the one who is counts once, by whatever id.
    story.say(ANN, &press(1)).await;
    story.judged("approval.vote_rejected", 1).await;
    story.say(LEA, &press(2)).await;
    story.judged("approval.voted", 1).await;
    story.say(LEA, &press(3)).await;
    let react = json!({"id": "wamid.R1", "type": "reaction",
        "reaction": {"message_id": card.id, "emoji": "👍"}});
    story.say(("US.9999", "15550009999"), &react).await;
    assert_eq!(story.api.approval(&id).await["status"], "pending");
    // His id is not on the list, his phone number is.
    story.say(MAX, &press(4)).await;
    story.executed(&id, |call| call.body["context"]["message_id"] == card.id.as_str()).await;
}

#[tokio::test]
async fn evolutions_reactions_of_two_listed_people_run_it_once() {
    let story = story().await;
    let command = json!({"conversation": story.command()});
    let asked = in_group("ASKED", "82001@lid", None, &command);
    let (status, answer) = story.evolution("/ops/messages-upsert", "messages.upsert", &asked).await;
    assert_eq!(status, 200, "{answer}");
    let card = story.sent(1).await.remove(0);
    assert_eq!((card.path.as_str(), card.credential.as_str()), ("/message/sendText/ops", API_KEY));
    assert_eq!(card.body["number"], "120363@g.us");
    assert_eq!(card.body["quoted"]["key"]["id"], "ASKED");
    let id = story.held().await;
    let react = async |n: u32, who: &str, alt: Option<&str>, emoji: &str| {
        let reaction = json!({"reactionMessage": {"key": {"id": card.id, "fromMe": true,
            "remoteJid": "120363@g.us"}, "text": emoji}});
        let data = in_group(&format!("R{n}"), who, alt, &reaction);
        let (status, answer) = story.evolution("/ops", "messages.upsert", &data).await;
        assert!(status == 200 && answer["vote_id"].is_string(), "{answer}");
    };
    react(1, "82001@lid", None, "👍").await;
    story.judged("approval.vote_rejected", 1).await;
    react(2, "82002@lid", None, "👍").await;
    story.judged("approval.voted", 1).await;
    react(3, "82002@lid", None, "").await;
    story.judged("approval.voted", 2).await;
    react(4, "82003@lid", Some("15550002003@s.whatsapp.net"), "✅").await;
    story.judged("approval.voted", 3).await;
    assert_eq!(story.api.approval(&id).await["status"], "pending", "one took it back");
    react(5, "82002@lid", None, "👍🏽").await;
    story.executed(&id, |call| call.body["quoted"]["key"]["id"] == card.id.as_str()).await;
}

#[tokio::test]
async fn evolutions_addresses_lead_to_the_instance_they_name_or_nowhere() {
    let story = story().await;
    let said = |id: &str| {
        json!({"key": {"remoteJid": "15550002001@s.whatsapp.net", "fromMe": false, "id": id},
            "message": {"conversation": "uname -s"}, "messageTimestamp": 1_700_000_000})
    };
    for (path, id) in [("/ops", "A"), ("", "B"), ("/ops/messages-upsert", "C")] {
        let (status, answer) = story.evolution(path, "messages.upsert", &said(id)).await;
        assert_eq!((status, &answer["duplicate"]), (200, &json!(false)), "{path}: {answer}");
    }
    let sent = story.sent(3).await;
    assert_eq!(sent[0].body["number"], "15550002001");
    assert_eq!(story.evolution("/nobody", "messages.upsert", &said("D")).await.0, 404);
    let unproven = story.http.post(format!("{}/webhook/evolution/ops", story.node.url));
    let body = evolution_body("messages.upsert", &said("E"), API_KEY);
    let answer = unproven.body(body.clone()).send().await.expect("an answer");
    assert_eq!(answer.status(), 401, "a configured secret is not optional");
    let mismatched = story.http.post(format!("{}/webhook/evolution/ops", story.node.url));
    let body = body.replace("\"instance\":\"ops\"", "\"instance\":\"other\"");
    let answer = mismatched.bearer_auth(HOOK_SECRET).body(body).send().await.expect("an answer");
    assert_eq!(answer.status(), 400, "the address and the body name one instance");
}

#[tokio::test]
async fn evolutions_key_and_codes_are_stored_nowhere() {
    let story = story().await;
    let said = json!({"key": {"remoteJid": "15550002001@s.whatsapp.net", "fromMe": false,
        "id": "A"}, "message": {"conversation": "uname -s", "messageContextInfo":
        {"messageSecret": "s3cret-of-a-message"}}, "messageTimestamp": 1_700_000_000});
    assert_eq!(story.evolution("/ops", "messages.upsert", &said).await.0, 200);
    let code = json!({"qrcode": {"code": "2@code-to-log-in", "base64": "aW1hZ2Utb2YtaXQ"}});
    assert_eq!(story.evolution("/ops", "qrcode.updated", &code).await.0, 200);
    let closed = json!({"instance": "ops", "state": "close", "statusReason": 401});
    assert_eq!(story.evolution("/ops", "connection.update", &closed).await.0, 200);
    story.sent(1).await;
    let states = until("the states in the journal", async || {
        let states = story.api.events("instance.state").await;
        (states.len() == 2).then_some(states)
    })
    .await;
    assert_eq!(
        (&states[0]["data"]["state"], &states[1]["data"]["state"]),
        (&json!("qrcode"), &json!("close"))
    );
    assert_eq!(states[1]["data"]["reason"], 401);
    let mut bytes = 0;
    let folders = Backend::chosen().folders(story.data.path());
    for path in folders.iter().flat_map(|folder| files(folder)) {
        let content = std::fs::read(&path).unwrap_or_default();
        bytes += content.len();
        for secret in [API_KEY, "s3cret-of-a-message", "2@code-to-log-in", "aW1hZ2Utb2YtaXQ"] {
            let found = content.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!found, "{secret} is in {}", path.display());
        }
    }
    assert!(bytes > 10_000, "the database was looked at: {bytes} bytes");
}

/// Every file below `dir`.
fn files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}
