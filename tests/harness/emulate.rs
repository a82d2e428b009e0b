//! Slack's Web API by people who are not us: `emulate` from npm.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::until;

/// The token of the app in [`Emulate::start`]'s seed.
pub const BOT_TOKEN: &str = "xoxb-test";

/// Ports that may turn out to be taken before it has one.
const MAX_STARTS: u32 = 5;

/// Its program, for [`crate::tool`].
pub const EMULATE: &str = "node_modules/emulate/dist/index.js";

/// A running stand-in with its workspace; ends with its value.
pub struct Emulate {
    pub addr: SocketAddr,
    http: reqwest::Client,
    child: Child,
    _dir: Option<tempfile::TempDir>,
}

/// One member of the workspace.
pub struct Member {
    pub id: String,
    pub token: String,
}

impl Emulate {
    /// Starts it with the app as user `aof`, with `members` and with `channels` that all are in.
    pub async fn start(script: &Path, members: &[&str], channels: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let seed = dir.path().join("seed.yaml");
        std::fs::write(&seed, seed_of(members, channels)).expect("a writable folder");
        // It closes what is idle for five seconds, just when somebody may be asking.
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0);
        let http = http.build().expect("a client");
        for _ in 0..MAX_STARTS {
            let (addr, child) = launch(script, &seed);
            let mut emulate = Self { addr, http: http.clone(), child, _dir: None };
            if emulate.listens().await {
                emulate._dir = Some(dir);
                return emulate;
            }
        }
        panic!("emulate ended {MAX_STARTS} times before it listened");
    }

    /// Waits until it answers; `false` when it ended instead.
    async fn listens(&mut self) -> bool {
        until("emulate to listen or to end", async || {
            if self.child.try_wait().expect("a child").is_some() {
                return Some(false);
            }
            let answer = self.call(BOT_TOKEN, "auth.test", &[]).await?;
            (answer["ok"] == true).then_some(true)
        })
        .await
    }

    /// Its answer to a call by whoever has `token`; `None` when nobody listens.
    async fn call(&self, token: &str, method: &str, form: &[(&str, &str)]) -> Option<Value> {
        let url = format!("http://{}/api/{method}", self.addr);
        let sent = self.http.post(url).bearer_auth(token).form(form).send().await.ok()?;
        sent.json().await.ok()
    }

    /// The same, and it must be `ok`.
    pub async fn ask(&self, token: &str, method: &str, form: &[(&str, &str)]) -> Value {
        let answer = self.call(token, method, form).await.expect("emulate answers");
        assert_eq!(answer["ok"], true, "{method} {form:?}: {answer}");
        answer
    }

    /// A member of the seed; `aof` is the app itself.
    pub async fn member(&self, name: &str) -> Member {
        let token = if name == "aof" { BOT_TOKEN.to_owned() } else { token_of(name) };
        let who = self.ask(&token, "auth.test", &[]).await;
        Member { id: who["user_id"].as_str().expect("an id").to_owned(), token }
    }

    /// The id of the channel of this name.
    pub async fn channel(&self, name: &str) -> String {
        let list = self.ask(BOT_TOKEN, "conversations.list", &[]).await;
        let channels = list["channels"].as_array().expect("channels").clone();
        let channel = channels.into_iter().find(|channel| channel["name"] == name);
        channel.expect("it is seeded")["id"].as_str().expect("an id").to_owned()
    }

    /// The messages of a thread, its root first.
    pub async fn thread(&self, channel: &str, ts: &str) -> Vec<Value> {
        let form = [("channel", channel), ("ts", ts)];
        let thread = self.ask(BOT_TOKEN, "conversations.replies", &form).await;
        thread["messages"].as_array().expect("messages").clone()
    }
}

impl Drop for Emulate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts it on a port that is free for now: it takes no port 0.
fn launch(script: &Path, seed: &Path) -> (SocketAddr, Child) {
    let addr = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port");
    let child = Command::new("node")
        .arg(script)
        .args(["start", "--service", "slack", "--port", &addr.port().to_string(), "--seed"])
        .arg(seed)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("node runs");
    (addr, child)
}

fn token_of(name: &str) -> String {
    format!("xoxp-{name}")
}

fn seed_of(members: &[&str], channels: &[&str]) -> String {
    let mut seed = "slack:\n  users:\n    - {name: aof}\n".to_owned();
    for name in members {
        seed.push_str(&format!("    - {{name: {name}}}\n"));
    }
    seed.push_str("  channels:\n");
    for name in channels {
        seed.push_str(&format!("    - {{name: {name}}}\n"));
    }
    seed.push_str(&format!("  tokens:\n    - {{token: {BOT_TOKEN}, type: bot, user: aof}}\n"));
    for name in members {
        let token = token_of(name);
        seed.push_str(&format!("    - {{token: {token}, type: user, user: {name}}}\n"));
    }
    seed
}
