//! A receiver of traces that answers queries, and what it saw as a tree.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::tool;

/// The receiver, on free ports.
pub struct Jaeger {
    /// Where OTLP over gRPC goes.
    pub grpc: String,
    /// Where OTLP over HTTP goes, and queries.
    pub http: String,
    child: Child,
}

impl Jaeger {
    /// Starts it; `None`, said aloud, where `tests/run` did not install it.
    pub fn start() -> Option<Self> {
        let binary = tool("bin/aof-jaeger")?;
        let mut child =
            Command::new(binary).stdout(Stdio::piped()).spawn().expect("the receiver starts");
        let mut line = String::new();
        let mut printed = BufReader::new(child.stdout.take().expect("piped"));
        printed.read_line(&mut line).expect("a line");
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["grpc", grpc, "http", http] = words[..] else { panic!("{line:?}") };
        Some(Self { grpc: grpc.to_owned(), http: http.to_owned(), child })
    }

    /// The spans of a trace that have arrived.
    pub async fn spans(&self, trace: &str) -> Vec<SeenSpan> {
        let url = format!("{}/api/traces/{trace}", self.http);
        let answer = reqwest::get(url).await.expect("the receiver answers");
        if !answer.status().is_success() {
            return Vec::new();
        }
        let body: Value = answer.json().await.expect("JSON");
        let spans = body["data"][0]["spans"].as_array().cloned().unwrap_or_default();
        let processes = &body["data"][0]["processes"];
        let mut spans: Vec<SeenSpan> =
            spans.iter().map(|span| SeenSpan::of(span, processes)).collect();
        spans.sort_by_key(|span| span.start_us);
        spans
    }
}

impl Drop for Jaeger {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A span as the receiver tells it.
#[derive(Debug, Clone)]
pub struct SeenSpan {
    pub id: String,
    pub name: String,
    /// The service that made it.
    pub service: String,
    pub parent: Option<String>,
    /// Trace and span of each link.
    pub links: Vec<(String, String)>,
    pub tags: BTreeMap<String, Value>,
    pub start_us: u64,
    pub took_us: u64,
}

impl SeenSpan {
    fn of(span: &Value, processes: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let references = span["references"].as_array().cloned().unwrap_or_default();
        let (parents, links): (Vec<_>, Vec<_>) =
            references.iter().partition(|r| r["refType"] == "CHILD_OF");
        let tags = span["tags"].as_array().cloned().unwrap_or_default();
        Self {
            id: text(&span["spanID"]),
            name: text(&span["operationName"]),
            service: text(
                &processes[span["processID"].as_str().unwrap_or_default()]["serviceName"],
            ),
            parent: parents.first().map(|parent| text(&parent["spanID"])),
            links: links.iter().map(|l| (text(&l["traceID"]), text(&l["spanID"]))).collect(),
            tags: tags.iter().map(|tag| (text(&tag["key"]), tag["value"].clone())).collect(),
            start_us: span["startTime"].as_u64().unwrap_or_default(),
            took_us: span["duration"].as_u64().unwrap_or_default(),
        }
    }
}

/// `parent > child` for every span whose parent is there, sorted.
pub fn edges(spans: &[SeenSpan]) -> Vec<String> {
    let name = |id: &String| spans.iter().find(|s| &s.id == id).map(|s| s.name.clone());
    let mut edges: Vec<String> = spans
        .iter()
        .filter_map(|s| Some(format!("{} > {}", name(s.parent.as_ref()?)?, s.name)))
        .collect();
    edges.sort();
    edges
}

/// The spans as an indented tree, with what each took.
pub fn tree(spans: &[SeenSpan]) -> String {
    fn below(spans: &[SeenSpan], parent: &SeenSpan, depth: usize, out: &mut String) {
        let ms = parent.took_us as f64 / 1_000.0;
        let links = if parent.links.is_empty() { "" } else { "  (linked)" };
        out.push_str(&format!(
            "{}{}  {ms:.1} ms  {}{links}\n",
            "  ".repeat(depth),
            parent.name,
            parent.service
        ));
        for child in spans.iter().filter(|s| s.parent.as_deref() == Some(&parent.id)) {
            below(spans, child, depth + 1, out);
        }
    }
    let mut out = String::new();
    let known = |id: &str| spans.iter().any(|s| s.id == id);
    for root in spans.iter().filter(|s| !s.parent.as_deref().is_some_and(known)) {
        below(spans, root, 0, &mut out);
    }
    out
}
