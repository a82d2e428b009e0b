//! Models that are not ours: a scripted one (aimock) and a real one (SmolLM2 in llama.cpp).

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::tool;

/// A process that serves models; killed when dropped.
pub struct ModelServer {
    pub url: String,
    child: Child,
    _dir: Option<tempfile::TempDir>,
}

impl ModelServer {
    /// aimock with the fixtures of one file: OpenAI, Anthropic, Gemini and Ollama APIs.
    /// With a key, it takes no other.
    pub fn scripted(fixtures: &Path, key: Option<&str>) -> Option<Self> {
        let program = tool("node_modules/.bin/aimock")?;
        let dir = tempfile::tempdir().expect("a scratch folder");
        let mut config = json!({
            "port": 0, "llm": {"fixtures": fixtures, "chunkSize": 7, "logLevel": "warn"},
        });
        if let Some(key) = key {
            config["auth"] = json!({"apiKeys": [key]});
        }
        let file = dir.path().join("aimock.json");
        std::fs::write(&file, config.to_string()).expect("a writable folder");
        let mut command = Command::new(program);
        command.arg("--config").arg(&file);
        Some(Self::start(command, Some(dir)))
    }

    /// llama.cpp's server with SmolLM2-135M-Instruct: the OpenAI API below `/v1`.
    pub fn real() -> Option<Self> {
        let python = tool("python/bin/python")?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("smollm2.py");
        let mut command = Command::new(python);
        command.arg(script);
        Some(Self::start(command, None))
    }

    /// Starts it and waits for the line that names its URL.
    fn start(mut command: Command, dir: Option<tempfile::TempDir>) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut errors = child.stderr.take().expect("piped");
        let complaints = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = errors.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let url = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let word = line.split_whitespace().find(|word| word.starts_with("http://"))?;
            Some(word.trim_end_matches('/').to_owned())
        });
        let Some(url) = url else {
            let status = child.wait().expect("the child ends");
            let complaints = complaints.join().unwrap_or_default();
            panic!("{command:?} ended ({status}) before it served:\n{complaints}");
        };
        std::thread::spawn(move || lines.for_each(drop));
        Self { url, child, _dir: dir }
    }

    /// What a scripted model was asked, oldest first: `path`, `headers`, `body`, `response`.
    pub async fn journal(&self) -> Vec<Value> {
        let url = format!("{}/__aimock/journal", self.url);
        let answer = reqwest::get(url).await.expect("aimock answers");
        serde_json::from_str(&answer.text().await.expect("a body")).expect("a list of requests")
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
