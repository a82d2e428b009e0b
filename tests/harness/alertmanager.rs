//! Prometheus' Alertmanager, a real one, that notifies a node.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::until;

/// Its program, for [`crate::tool`].
pub const ALERTMANAGER: &str = "bin/alertmanager";

/// Ports that may turn out to be taken before it has one.
const MAX_STARTS: u32 = 5;

/// A running Alertmanager; ends with its value.
pub struct Alertmanager {
    addr: SocketAddr,
    http: reqwest::Client,
    child: Child,
    _dir: tempfile::TempDir,
}

impl Alertmanager {
    /// Starts one that posts what it is told to `webhook`, with this bearer token.
    pub async fn start(program: &Path, webhook: &str, token: &str) -> Self {
        for _ in 0..MAX_STARTS {
            let dir = tempfile::tempdir().expect("a folder");
            let config = dir.path().join("alertmanager.yml");
            let receiver = json!({ "name": "ops", "webhook_configs": [{ "url": webhook,
                "http_config": { "authorization": { "credentials": token } } }] });
            let route = json!({ "receiver": "ops", "group_by": ["alertname"],
                "group_wait": "10ms", "group_interval": "100ms", "repeat_interval": "4h" });
            let settings = json!({ "route": route, "receivers": [receiver] });
            std::fs::write(&config, settings.to_string()).expect("JSON is YAML");
            let (addr, child) = launch(program, &config, dir.path());
            let http = reqwest::Client::builder().no_proxy().build().expect("a client");
            let mut started = Self { addr, http, child, _dir: dir };
            if started.listens().await {
                return started;
            }
        }
        panic!("Alertmanager ended {MAX_STARTS} times before it listened");
    }

    /// Waits until it is ready; `false` when it ended instead.
    async fn listens(&mut self) -> bool {
        until("Alertmanager to listen or to end", async || {
            if self.child.try_wait().expect("a child").is_some() {
                return Some(false);
            }
            let url = format!("http://{}/-/ready", self.addr);
            let answer = self.http.get(url).send().await.ok()?;
            answer.status().is_success().then_some(true)
        })
        .await
    }

    /// Tells it of an alert: firing, or over.
    pub async fn tell(&self, name: &str, firing: bool) {
        let labels = json!({ "alertname": name, "severity": "critical" });
        let mut alert = json!({ "labels": labels, "annotations": { "summary": "It is down" } });
        if !firing {
            alert["startsAt"] = Value::from("2020-01-01T00:00:00Z");
            alert["endsAt"] = Value::from("2020-01-01T00:01:00Z");
        }
        let url = format!("http://{}/api/v2/alerts", self.addr);
        let told = self.http.post(url).json(&json!([alert])).send().await.expect("an answer");
        assert!(told.status().is_success(), "{}", told.status());
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts it on a port that is free for now, alone.
fn launch(program: &Path, config: &Path, dir: &Path) -> (SocketAddr, Child) {
    let addr = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port");
    let option = |name: &str, value: &str| format!("--{name}={value}");
    let child = Command::new(program)
        .arg(option("config.file", &config.to_string_lossy()))
        .arg(option("storage.path", &dir.to_string_lossy()))
        .arg(option("web.listen-address", &addr.to_string()))
        .arg(option("cluster.listen-address", ""))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("Alertmanager runs");
    (addr, child)
}
