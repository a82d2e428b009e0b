//! An incident, from the first look to the end, by documented commands alone: a bad edit
//! sends one organisation's production messages to the wrong agent.

use std::path::Path;
use std::process::{Command, Output};

use aof_harness::{Api, Manifests, Node, until};
use serde_json::Value;

const ORGANISATIONS: usize = 4;
/// Messages of each organisation before the edit, and as many after.
const MESSAGES: usize = 3;
/// Whose flow is edited badly.
const VICTIM: &str = "org-2";
/// What people ask for; a tool of the right agent only.
const TEXT: &str = "uname -s";

fn organisation(number: usize) -> String {
    format!("org-{number}")
}

fn flow(organisation: &str, name: &str, filter: &str, agent: &str) -> String {
    format!(
        "apiVersion: aof.dev/v1\nkind: AgentFlow\nmetadata: {{name: {name}}}\nspec:\n  \
         trigger: {{type: Chat{filter}}}\n  context: {{organization: {organisation}}}\n  \
         agents: [{{name: {agent}}}]\n"
    )
}

fn production(organisation: &str, channel: &str) -> String {
    flow(organisation, "production", &format!(", config: {{channels: [{channel}]}}"), "ops")
}

fn manifests() -> Manifests {
    let manifests = Manifests::new("");
    manifests.agent("ops", "  runtime: command\n  tools: [uname]\n");
    manifests.agent("scratch", "  runtime: command\n  tools: [\"true\"]\n");
    for organisation in (1..=ORGANISATIONS).map(organisation) {
        manifests
            .write(&format!("flows/{organisation}-a.yaml"), &production(&organisation, "prod"));
        manifests.write(
            &format!("flows/{organisation}-b.yaml"),
            &flow(&organisation, "playground", "", "scratch"),
        );
    }
    manifests
}

/// The node's commands, as the operator.
struct Terminal<'a> {
    node: &'a Node,
    /// Where the command line keeps how far it is.
    state: tempfile::TempDir,
}

impl Terminal<'_> {
    fn run(&self, args: &[&str]) -> Output {
        let key = self.node.admin_key();
        self.run_with(&key, args)
    }

    fn run_with(&self, key: &str, args: &[&str]) -> Output {
        aofctl(args)
            .env("AOF_SERVER", &self.node.url)
            .env("AOF_API_KEY", key)
            .env("XDG_STATE_HOME", self.state.path())
            .output()
            .expect("it runs")
    }

    /// Exit code and JSON.
    fn json(&self, args: &[&str]) -> (i32, Value) {
        let args = [args, &["--output", "json"]].concat();
        read(&self.run(&args))
    }
}

fn aofctl(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aofctl"));
    command.args(args).env_remove("AOF_ACCOUNT").env_remove("AOF_SERVER");
    command
}

fn read(output: &Output) -> (i32, Value) {
    let code = output.status.code().expect("it ends by itself");
    let document = serde_json::from_slice(&output.stdout);
    (code, document.unwrap_or_else(|error| panic!("{error}: {output:?}")))
}

/// Everyone asks for the same in their production channel, and waits for the answer.
async fn everybody_asks(node: &Node) {
    for number in 1..=ORGANISATIONS {
        let api = Api::operator(node, &organisation(number));
        for _ in 0..MESSAGES {
            api.chat("prod", TEXT).await;
        }
    }
}

/// The folder as it should have been.
fn fixed(manifests: &Manifests, dir: &Path) {
    for part in ["", "flows", "agents"] {
        std::fs::create_dir_all(dir.join(part)).expect("a folder");
        for entry in std::fs::read_dir(manifests.dir.path().join(part)).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                let name = path.file_name().expect("a name");
                std::fs::copy(&path, dir.join(part).join(name)).expect("copied");
            }
        }
    }
    let flow = dir.join(format!("flows/{VICTIM}-a.yaml"));
    std::fs::write(flow, production(VICTIM, "prod")).expect("written");
}

/// What of one account's report `field` says.
fn of<'r>(reports: &'r Value, account: &str) -> &'r Value {
    let accounts = reports["accounts"].as_array().expect("accounts");
    accounts.iter().find(|report| report["account"] == account).expect("the account's report")
}

/// Every decision and command of the slice was made again.
fn assert_covered(reports: &Value) {
    for report in reports["accounts"].as_array().expect("accounts") {
        let coverage = &report["coverage"];
        assert_eq!(coverage["decisions"], coverage["covered"], "{report:#}");
        assert_eq!(coverage["commands"], coverage["commands_covered"], "{report:#}");
    }
}

/// Only the victim's misrouted messages differ: they go to the right flow, and run.
fn assert_found(reports: &Value) {
    assert_covered(reports);
    for report in reports["accounts"].as_array().expect("accounts") {
        let is_victim = report["account"] == VICTIM;
        let expected = if is_victim {
            serde_json::json!({"moved": MESSAGES, "newly_allowed": MESSAGES})
        } else {
            serde_json::json!({})
        };
        assert_eq!(report["differences"], expected, "{report:#}");
    }
    let victim = of(reports, VICTIM);
    assert_eq!(victim["moves"]["playground/scratch → production/ops"], MESSAGES, "{victim:#}");
    let moved = &victim["listed"][0];
    assert_eq!(moved["text"], TEXT);
    assert_eq!(moved["before"]["candidates"][0]["flow"], "playground");
    assert_eq!(moved["after"]["candidates"][0]["flow"], "production");
    assert_eq!(moved["after"]["score"], 140);
}

#[tokio::test]
async fn a_bad_edit_is_found_shown_decided_again_and_mended_by_documented_commands() {
    let manifests = manifests();
    let data = tempfile::tempdir().expect("a folder");
    let node = Node::start(env!("CARGO_BIN_EXE_aofctl"), manifests.dir.path(), data.path());
    let state = tempfile::tempdir().expect("a folder");
    let terminal = Terminal { node: &node, state };
    everybody_asks(&node).await;

    let bad = production(VICTIM, "prodution");
    manifests.write(&format!("flows/{VICTIM}-a.yaml"), &bad);
    let victim = Api::operator(&node, VICTIM);
    until("the edit", async || (!victim.events("config.applied").await.is_empty()).then_some(()))
        .await;
    everybody_asks(&node).await;

    // Under what was in force nothing differs, which proves that nothing is missing.
    let (code, own) = terminal.json(&["replay", "--against", "recorded", "--all-accounts"]);
    assert_covered(&own);
    assert_eq!(own["accounts"].as_array().map(Vec::len), Some(ORGANISATIONS), "{own:#}");
    for report in own["accounts"].as_array().expect("accounts") {
        assert_eq!(report["differences"], serde_json::json!({}), "{report:#}");
        assert_eq!(report["coverage"]["decisions"], 2 * MESSAGES);
    }
    assert_eq!(code, 0);
    assert_eq!(of(&own, VICTIM)["recorded_under"].as_object().map(|m| m.len()), Some(2));

    // Find: whose messages would go elsewhere under the folder as it should be?
    let good = tempfile::tempdir().expect("a folder");
    fixed(&manifests, good.path());
    let good = good.path().to_str().expect("text");
    let (code, found) = terminal.json(&["replay", "--against", good, "--all-accounts"]);
    assert_found(&found);
    assert_eq!(code, 1, "something differs");

    // Show: the messages that the wrong agent got, and nobody else's.
    let (code, shown) = terminal.json(&["replay", "--agent", "scratch", "--account", VICTIM]);
    assert_eq!((code, &shown["messages_in_slice"]), (0, &MESSAGES.into()), "{shown:#}");
    for message in shown["messages"].as_array().expect("messages") {
        assert_eq!(message["text"], TEXT);
        assert!(message["events"].to_string().contains("action.refused"), "{message:#}");
    }
    let printed = terminal.run(&["replay", "--agent", "scratch", "--account", VICTIM]);
    let printed = String::from_utf8(printed.stdout).expect("text");
    assert_eq!(printed.matches("> uname -s").count(), MESSAGES, "{printed}");

    // One organisation's key reads its own past and nobody else's.
    for (own, other) in [("org-1", VICTIM), (VICTIM, "org-1")] {
        let key = Api::operator(&node, own).person("reader", &["read"]).await.key;
        let refused = terminal.run_with(&key, &["replay", "--account", other, "--against", good]);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        let everyone = terminal.run_with(&key, &["replay", "--all-accounts"]);
        assert_eq!(everyone.status.code(), Some(1), "{everyone:?}");
        let allowed = terminal.run_with(&key, &["replay", "--output", "json"]);
        assert!(!String::from_utf8_lossy(&allowed.stdout).contains(other), "{allowed:?}");
    }

    offline(&terminal, good);
    apart(&terminal, good).await;
    mended(&terminal, &manifests, good).await;
    again(&terminal).await;
}

/// In a sandbox the messages take the right way, and nothing is run or sent.
async fn apart(terminal: &Terminal<'_>, good: &str) {
    let api = Api::operator(terminal.node, VICTIM);
    let before = api.journal().await.len();
    let sandbox = ["replay", "--against", good, "--sandbox", "--account", VICTIM];
    let (code, told) = terminal.json(&sandbox);
    let messages = told["messages"].as_array().expect("messages");
    assert_eq!((code, messages.len()), (0, 2 * MESSAGES), "{told:#}");
    for (number, message) in messages.iter().enumerate() {
        let (then, now) = (&message["before"], &message["after"]);
        assert_eq!(now["place"], "production/ops", "{message:#}");
        assert_eq!(message["captured"].as_array().map(Vec::len), Some(1), "{message:#}");
        if number < MESSAGES {
            assert_eq!(then, now, "as it was recorded");
        } else {
            assert_eq!(
                (&then["place"], &then["status"]),
                (&"playground/scratch".into(), &"refused".into())
            );
            let answer = now["answer"].as_str().expect("an answer");
            assert!(answer.contains("not in the recording"), "{answer}");
        }
    }
    assert_eq!(api.journal().await.len(), before, "the node saw nothing of it");
}

/// The misrouted messages come in again, once, as new ones that name their origin.
async fn again(terminal: &Terminal<'_>) {
    let api = Api::operator(terminal.node, VICTIM);
    let of_scratch = async || {
        let routed = api.events("message.routed").await;
        let ids = routed.iter().filter(|event| event["data"]["agent"] == "scratch");
        ids.map(|event| event["message_id"].clone()).collect::<Vec<_>>()
    };
    let origins = of_scratch().await;
    let live = ["replay", "--agent", "scratch", "--account", VICTIM, "--live", "--name", "again"];
    let unsure = terminal.run(&live);
    assert_eq!(unsure.status.code(), Some(3), "nobody was there to ask: {unsure:?}");
    assert_eq!(of_scratch().await.len(), origins.len());
    let key = api.person("op", &["operate", "read"]).await.key;
    let mine = [&live[..6], &["--name", "mine", "--yes"][..]].concat();
    let refused = terminal.run_with(&key, &mine);
    assert_eq!(refused.status.code(), Some(1), "only the operator may: {refused:?}");
    let (code, job) = terminal.json(&[&live[..], &["--yes"][..]].concat());
    assert_eq!((code, &job["status"]), (0, &"done".into()), "{job:#}");
    assert_eq!((&job["done"], &job["skipped"]), (&origins.len().into(), &0.into()), "{job:#}");
    let replayed = until("every message again", async || {
        let accepted = api.events("message.accepted").await;
        let again = accepted.into_iter().filter(|event| event["data"]["replay"] == "again");
        let again: Vec<Value> = again.collect();
        (again.len() == origins.len()).then_some(again)
    })
    .await;
    let named: Vec<Value> = replayed.iter().map(|e| e["data"]["retry_of"].clone()).collect();
    assert_eq!(named, origins, "in order, each naming its origin");
    for event in &replayed {
        let id = &event["message_id"];
        until("its end", async || {
            let ended = api.events("run.completed").await;
            ended.into_iter().find(|e| e["message_id"] == *id).filter(|e| {
                assert_eq!(e["data"]["status"], "success", "{e:#}");
                true
            })
        })
        .await;
    }
    let (_, listed) = terminal.json(&["replays", "list"]);
    let names: Vec<_> = listed["replays"].as_array().expect("replays").iter().collect();
    assert!(
        names.iter().any(|job| job["name"] == "again" && job["status"] == "done"),
        "{listed:#}"
    );
    let (code, _) = terminal.json(&["replays", "resume", "again"]);
    assert_eq!(code, 1, "it is over");
    taken_up(terminal, &origins).await;
}

/// A replay whose terminal was killed goes on where it was, and nothing comes in twice.
async fn taken_up(terminal: &Terminal<'_>, origins: &[Value]) {
    let api = Api::operator(terminal.node, VICTIM);
    let came = async || {
        let accepted = api.events("message.accepted").await;
        accepted.iter().filter(|event| event["data"]["replay"] == "slow").count()
    };
    let slow = ["replay", "--agent", "scratch", "--account", VICTIM, "--live", "--yes"];
    let mut killed = aofctl(&[&slow[..], &["--name", "slow", "--speed", "0.0001"]].concat())
        .env("AOF_SERVER", &terminal.node.url)
        .env("AOF_API_KEY", terminal.node.admin_key())
        .env("XDG_STATE_HOME", terminal.state.path())
        .spawn()
        .expect("it starts");
    until("the first message", async || (came().await == 1).then_some(())).await;
    killed.kill().expect("killed");
    killed.wait().expect("ended");
    let (code, asked) = terminal.json(&["replays", "pause", "slow"]);
    assert_eq!((code, &asked["asked"]), (0, &"paused".into()));
    let (code, job) = terminal.json(&["replays", "resume", "slow", "--speed", "1000000"]);
    assert_eq!((code, &job["status"]), (0, &"done".into()), "{job:#}");
    assert_eq!((&job["done"], &job["duplicates"]), (&origins.len().into(), &1.into()), "{job:#}");
    assert_eq!(came().await, origins.len(), "each once");
}

/// The gate refuses what lets commands through, until somebody means it; then the next
/// message goes where it should.
async fn mended(terminal: &Terminal<'_>, manifests: &Manifests, good: &str) {
    let into = manifests.dir.path().to_str().expect("text");
    let flow = manifests.dir.path().join(format!("flows/{VICTIM}-a.yaml"));
    let bad = std::fs::read_to_string(&flow).expect("a flow");
    let gate = ["apply", good, "--impact", "1h", "--refuse-newly-allowed", "--into", into];
    let (code, refused) = terminal.json(&gate);
    assert_eq!((code, &refused["loosened"]), (1, &MESSAGES.into()), "{refused:#}");
    assert_eq!(std::fs::read_to_string(&flow).expect("a flow"), bad, "nothing was written");
    let (code, applied) = terminal.json(&["apply", good, "--impact", "1h", "--into", into]);
    assert_eq!((code, &applied["files_written"]), (0, &1.into()), "{applied:#}");
    let victim = Api::operator(terminal.node, VICTIM);
    until("the mended flow", async || {
        let answer = victim.chat("prod", TEXT).await;
        (answer["status"] == "success").then_some(())
    })
    .await;
}

/// A capsule says the same without a node, and refuses to when it was changed.
fn offline(terminal: &Terminal<'_>, good: &str) {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("incident.capsule");
    let path = file.to_str().expect("text");
    let save = ["replay", "--account", VICTIM, "--save", path];
    let (code, saved) = terminal.json(&save);
    assert_eq!(code, 0, "{saved:#}");
    let nobody = ["--server", "http://127.0.0.1:1", "--output", "json"];
    let alone = |more: &[&str]| {
        let args = [&["replay", path], more, &nobody].concat();
        read(&aofctl(&args).output().expect("it runs"))
    };
    let (code, own) = alone(&["--against", "recorded"]);
    assert_eq!((code, &own["accounts"][0]["differences"]), (0, &serde_json::json!({})), "{own:#}");
    assert_covered(&own);
    let (code, found) = alone(&["--against", good]);
    assert_eq!(code, 1);
    assert_found(&found);
    let (_, shown) = alone(&[]);
    let printed = shown.to_string();
    assert!(printed.contains(TEXT) && printed.contains("run.step"), "{shown:#}");
    let changed = std::fs::read_to_string(&file).expect("a capsule").replace("scratch", "innocent");
    std::fs::write(&file, changed).expect("written");
    let refused = aofctl(&["replay", path]).output().expect("it runs");
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("was changed"), "{refused:?}");
}
