//! One trace a message, as a receiver of the standard protocol sees it.

use std::path::Path;

use aof_harness::{Api, Jaeger, Node, SeenSpan, edges, tree, until};
use serde_json::{Value, json};

use crate::cluster::{ADMIN_KEY, Cluster};
use crate::{root, serve};

/// A trace of a caller, sampled.
const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const CALLERS_TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLERS_SPAN: &str = "b7ad6b7169203331";

/// A flow whose removals wait for two.
const HOLDS: &str = "  trigger: {type: Chat, config: {channels: [ops]}}\n  agents: [{name: remover}]\n  approval:\n    chains: [{name: two, approvers: [alice, bob], require: 2}]\n    rules: [{pattern: rm, chain: two}]\n";

/// Every hop of a message whose action was held, approved by two and run.
const HELD_AND_RUN: [&str; 14] = [
    "approver.decide > gateway.reply.deliver",
    "approver.decide > worker.consume.delivery",
    "approver.hold > gateway.reply.deliver",
    "approver.vote > approver.decide",
    "gateway.api.chat > gateway.ingress",
    "gateway.ingress > router.dispatch",
    "router.dispatch > worker.consume.delivery",
    "worker.action.hold > approver.hold",
    "worker.action.hold > approver.vote",
    "worker.action.hold > approver.vote",
    "worker.agent.call > worker.action.hold",
    "worker.consume.delivery > gateway.reply.deliver",
    "worker.consume.delivery > worker.action.decide",
    "worker.consume.delivery > worker.agent.call",
];

fn otel<'a>(jaeger: &'a Jaeger, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", jaeger.grpc.as_str());
    [&[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], more].concat()
}

/// Says `text` in `#ops` as a caller with a trace of its own.
async fn chat_within(api: &Api, traceparent: &str, text: &str) -> Value {
    let url = format!("{}/accounts/{}/chat", api.url, api.account);
    let body = json!({"channel": "ops", "text": text});
    let sent = api.http.post(url).bearer_auth(&api.key).header("traceparent", traceparent);
    sent.json(&body).send().await.expect("the node answers").json().await.expect("JSON")
}

async fn arrived(jaeger: &Jaeger, trace: &str, wanted: usize) -> Vec<SeenSpan> {
    until(&format!("{wanted} spans of {trace}"), async || {
        let spans = jaeger.spans(trace).await;
        (spans.len() >= wanted).then_some(spans)
    })
    .await
}

/// Waits for the journal's trace id of the event that ended `message`.
async fn trace_of(api: &Api, message: &Value) -> String {
    let ended = until("the message to end", async || {
        let ended = api.events("run.completed").await;
        ended.into_iter().find(|event| &event["message_id"] == message)
    })
    .await;
    ended["trace_id"].as_str().expect("a trace id").to_owned()
}

#[tokio::test]
async fn a_message_with_an_approval_is_one_trace_across_a_restart() {
    let Some(jaeger) = Jaeger::start() else { return };
    let (scratch, data) = (tempfile::tempdir().expect("ok"), tempfile::tempdir().expect("ok"));
    let doomed = scratch.path().join("doomed");
    std::fs::create_dir(&doomed).expect("a folder");
    let config = root().join("examples/quickstart/daemon-config.yaml");
    let start = |config: &Path| {
        let binary = env!("CARGO_BIN_EXE_aofctl");
        Node::serve(binary, config, data.path(), &otel(&jaeger, &[("OTEL_SERVICE_NAME", "aof")]))
    };
    let node = start(&config);
    let api = Api::operator(&node, "default");
    let answer = chat_within(&api, CALLER, &format!("rm -r {}", doomed.display())).await;
    assert_eq!(answer["status"], "held", "{answer}");
    let alice = api.person("alice", &["read", "approve"]).await;
    let bob = api.person("bob", &["read", "approve"]).await;
    assert_eq!(node.drain(), Some(0));

    let node = start(&config);
    let again = |api: Api| Api { url: node.url.clone(), ..api };
    let (api, id) = (again(api), answer["approval_id"].as_str().expect("an id"));
    assert_eq!(again(alice).vote(id, "approve").await.0, 200);
    assert_eq!(again(bob).vote(id, "approve").await.0, 200);
    let spans = complete(&jaeger, &api, &answer).await;
    assert!(spans.iter().all(|s| s.service == "aof"), "{spans:?}");
    votes_link_to_what_the_gateway_saw(&jaeger, &spans).await;
    assert_eq!(node.drain(), Some(0));
}

/// The spans of the caller's trace once every hop is there: its tree, tags, and what may not
/// be in it.
async fn complete(jaeger: &Jaeger, api: &Api, answer: &Value) -> Vec<SeenSpan> {
    assert_eq!(trace_of(api, &answer["message_id"]).await, CALLERS_TRACE);
    let spans = until("the answer to be delivered", async || {
        let spans = jaeger.spans(CALLERS_TRACE).await;
        let edges = edges(&spans);
        HELD_AND_RUN.iter().all(|hop| edges.iter().any(|e| e == hop)).then_some(spans)
    })
    .await;
    println!("{}", tree(&spans));
    let root = spans.iter().find(|s| s.name == "gateway.api.chat").expect("a first span");
    assert_eq!(root.parent.as_deref(), Some(CALLERS_SPAN), "the caller's trace goes on");
    assert_tagged(&spans);
    let shown = format!("{spans:?}");
    for private in ["alice", "bob", "rm -r", "doomed", &api.key] {
        assert!(!shown.contains(private), "{private} is in a span:\n{shown}");
    }
    spans
}

#[tokio::test]
async fn a_message_is_one_trace_across_the_processes_of_a_cluster() {
    let Some(jaeger) = Jaeger::start() else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    let doomed = scratch.path().join("doomed");
    std::fs::create_dir(&doomed).expect("a folder");
    let mut cluster = Cluster::new();
    let env = otel(&jaeger, &[]).into_iter().map(|(k, v)| (k.to_owned(), v.to_owned()));
    cluster.env = env.collect();
    cluster.manifests.agent("remover", "  runtime: command\n  tools: [rm]\n");
    cluster.manifests.flow("ops-flow", HOLDS);
    let roles = ["gateway", "router", "worker", "approver"];
    let nodes = roles.map(|role| cluster.node(role));
    cluster.ready(&nodes).await;
    let api = Api {
        http: reqwest::Client::new(),
        url: nodes[0].url.clone(),
        account: "default".to_owned(),
        key: ADMIN_KEY.to_owned(),
    };
    let command = format!("rm -r {}", doomed.display());
    let answer = until("the gateway to take it", async || {
        let answer = chat_within(&api, CALLER, &command).await;
        (answer["status"] != 503).then_some(answer)
    })
    .await;
    let id = answer["approval_id"].as_str().unwrap_or_else(|| panic!("not held: {answer}"));
    for who in ["alice", "bob"] {
        let voter = api.person(who, &["read", "approve"]).await;
        assert_eq!(voter.vote(id, "approve").await.0, 200);
    }
    let spans = complete(&jaeger, &api, &answer).await;
    for span in &spans {
        let role = span.name.split('.').next().unwrap_or_default();
        assert_eq!(span.service, format!("aof-{role}"), "{span:?}");
    }
    votes_link_to_what_the_gateway_saw(&jaeger, &spans).await;
}

fn assert_tagged(spans: &[SeenSpan]) {
    let of = |name: &str| spans.iter().find(|s| s.name == name).expect("seen before");
    for (name, tag, expected) in [
        ("router.dispatch", "messaging.destination.name", "INBOUND"),
        ("router.dispatch", "flow.name", "ops-flow"),
        ("worker.agent.call", "guard.verdict", "hold"),
        ("worker.agent.call", "gen_ai.tool.name", "rm"),
        ("worker.consume.delivery", "run.status", "held"),
        ("approver.decide", "approval.status", "approved"),
        ("approver.vote", "tenant.id", "default"),
    ] {
        assert_eq!(of(name).tags.get(tag), Some(&json!(expected)), "{tag} of {name}");
    }
    let acted = of("worker.action.decide");
    assert_eq!(acted.tags["process.exit.code"], json!(0), "{acted:?}");
    for about in ["action.id", "run.id"] {
        assert_eq!(acted.tags[about], of("approver.hold").tags[about]);
    }
}

async fn votes_link_to_what_the_gateway_saw(jaeger: &Jaeger, spans: &[SeenSpan]) {
    let votes: Vec<_> = spans.iter().filter(|s| s.name == "approver.vote").collect();
    assert_eq!(votes.len(), 2);
    for vote in votes {
        let [(trace, span)] = &vote.links[..] else { panic!("{vote:?}") };
        let seen = arrived(jaeger, trace, 2).await;
        assert!(seen.iter().any(|s| &s.id == span && s.name == "gateway.ingress"), "{seen:?}");
        assert_eq!(edges(&seen), ["gateway.api.approvals > gateway.ingress"]);
    }
}

#[tokio::test]
async fn the_sampler_decides_what_starts_here_and_the_flag_what_goes_on() {
    let Some(jaeger) = Jaeger::start() else { return };
    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", jaeger.http.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0"),
    ];
    let running = serve(root().join("examples/quickstart/daemon-config.yaml"), &env);
    let api = Api::operator(&running.node, "default");
    let quiet = api.chat("ops", "uname -s").await;
    let unwanted = CALLER.replace("-01", "-00").replace("0af7", "0bf7");
    chat_within(&api, &unwanted, "uname -s").await;
    let wanted = chat_within(&api, CALLER, "uname -s").await;
    let spans = arrived(&jaeger, CALLERS_TRACE, 6).await;
    assert!(edges(&spans).contains(&"worker.consume.delivery > worker.agent.call".to_owned()));
    assert_eq!(trace_of(&api, &wanted["message_id"]).await, CALLERS_TRACE);
    let trace = trace_of(&api, &quiet["message_id"]).await;
    let mut metrics = String::new();
    for url in &running.node.urls {
        let answer = reqwest::get(format!("{url}/metrics")).await.expect("an answer");
        metrics.push_str(&answer.text().await.expect("a body"));
    }
    let exemplar = format!("trace_id=\"{CALLERS_TRACE}\"");
    assert!(metrics.contains(&exemplar) && !metrics.contains(&trace), "{metrics}");
    assert_eq!(running.node.drain(), Some(0));
    assert!(jaeger.spans(&trace).await.is_empty(), "not sampled");
    assert!(jaeger.spans(&CALLERS_TRACE.replace("0af7", "0bf7")).await.is_empty(), "not sampled");
}

#[tokio::test]
async fn a_receiver_that_is_away_costs_one_log_line_and_no_message() {
    let env = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")];
    let running = serve(root().join("examples/quickstart/daemon-config.yaml"), &env);
    let api = Api::operator(&running.node, "default");
    let dropped = async || {
        let metrics = reqwest::get(format!("{}/metrics", running.node.url)).await.ok()?;
        let metrics = metrics.text().await.ok()?;
        let line =
            metrics.lines().find(|l| l.starts_with("agentflow_trace_spans_dropped_total"))?;
        line.split(' ').nth(1)?.parse::<u64>().ok()
    };
    let mut before = 0;
    for _ in 0..3 {
        assert_eq!(api.chat("ops", "uname -s").await["status"], "success");
        before =
            until("spans to be counted", async || dropped().await.filter(|n| *n > before)).await;
    }
    let logs = running.node.logs();
    let lines = |log: &String| log.matches("traces do not reach their receiver").count();
    assert!(logs.iter().all(|log| lines(log) <= 1), "once a process: {logs:?}");
    assert!(logs.iter().any(|log| lines(log) == 1), "{logs:?}");
    assert_eq!(running.node.drain(), Some(0));
}
