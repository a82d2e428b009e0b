//! Models that fail: what passes is tried again, what does not ends with words that help.

use std::time::{Duration, Instant};

use super::*;

/// The failed run's answer.
async fn failure(scene: &Scene, channel: &str, text: &str) -> String {
    let answer = scene.ask(channel, text).await;
    assert_eq!(answer["status"], "failed", "{channel}: {answer}");
    let told = answer["answer"].as_str().unwrap_or_default().to_owned();
    // Words for people: no type names, no struct dumps, no client library.
    for inside in ["Error {", "genai", "ModelIden", "AdapterKind", "reqwest", "serde"] {
        assert!(!told.contains(inside), "{channel}: {told}");
    }
    told
}

#[tokio::test]
async fn empty_and_garbled_answers_end_with_a_clear_message() {
    let Some(scene) = Scene::start() else { return };
    for (provider, _) in PROVIDERS {
        let told = failure(&scene, provider, "say nothing").await;
        assert!(told.contains("empty answer"), "{provider}: {told}");
    }
    assert_eq!(scene.asked().await.len(), 4, "an empty answer is an answer");
    // A quick one of each way of framing: events, lines.
    for provider in ["openai", "ollama"] {
        let told = failure(&scene, provider, "garble").await;
        assert!(told.contains("makes no sense"), "{provider}: {told}");
    }
    let letters = scene.api.get("dead-letters").await.1;
    assert_eq!(letters["dead_letters"].as_array().map(Vec::len), Some(6), "{letters}");
}

#[tokio::test]
async fn a_rate_limit_is_waited_out() {
    let Some(scene) = Scene::start() else { return };
    let began = Instant::now();
    let answer = scene.ask("openai", "hurry").await;
    assert_eq!(answer["answer"], "There you are.", "{answer}");
    assert!(began.elapsed() >= Duration::from_secs(2), "Retry-After: 2");
    assert_eq!(scene.asked().await.len(), 2);
}

#[tokio::test]
async fn a_provider_that_keeps_failing_is_left_alone() {
    let Some(scene) = Scene::start() else { return };
    let (one, two) = tokio::join!(
        failure(&scene, "openai", "break the first"),
        failure(&scene, "openai", "break the second"),
    );
    for told in [one, two] {
        assert!(told.contains("500") && told.contains("out of order"), "{told}");
    }
    let asked = scene.asked().await.len();
    assert_eq!(asked, 8, "four tries each");
    let began = Instant::now();
    let told = failure(&scene, "openai", "greet").await;
    assert!(told.contains("`openai` keeps failing") && told.contains("tried again in"), "{told}");
    assert!(began.elapsed() < Duration::from_secs(5), "at once");
    assert_eq!(scene.asked().await.len(), asked, "it was not asked again");
    // Another provider is none the worse.
    assert_eq!(scene.ask("anthropic", "greet").await["status"], "success");
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_no_answer() {
    let Some(scene) = Scene::start() else { return };
    for (n, (provider, _)) in PROVIDERS.into_iter().enumerate() {
        let answer = streamed(&scene.api, provider, "hang up").await;
        assert_eq!(answer.done["status"], "failed", "{provider}: {}", answer.done);
        assert_eq!(answer.deltas[0], "This se", "{provider}: some of it was shown");
        let told = answer.done["answer"].as_str().unwrap_or_default();
        assert_eq!(answer.text, told, "{provider}: then it was replaced");
        assert!(told.contains("broke off"), "{provider}: {told}");
        assert_eq!(scene.asked().await.len(), n + 1, "{provider}: what was shown is not redone");
    }
}

#[tokio::test]
async fn a_model_that_hangs_is_stopped_with_the_task() {
    let Some(model) = scripted(None) else { return };
    let scene = Scene::on(model, "  runtime: {task_timeout_secs: 2}\n");
    let told = failure(&scene, "openai", "dawdle").await;
    assert!(told.contains("2 s") && told.contains("time limit"), "{told}");
    assert_eq!(scene.ask("openai", "greet").await["status"], "success", "its place is free");
}

#[tokio::test]
async fn nobody_at_the_address_is_said_plainly() {
    let Some(scene) = Scene::start() else { return };
    let Scene { model, node, api, manifests, bin, _data } = scene;
    drop(model);
    let answer = api.chat("openai", "greet").await;
    assert_eq!(answer["status"], "failed", "{answer}");
    let told = answer["answer"].as_str().unwrap_or_default();
    assert!(told.contains("could not be reached"), "{told}");
    drop((node, manifests, bin));
}

#[tokio::test]
async fn a_model_that_is_not_set_up_says_what_to_set() {
    let manifests = Manifests::new("  routing: {default_agent: keyless}\n");
    manifests.agent("keyless", "  model: anthropic:claude-sonnet-4-5\n");
    manifests.agent("unknown", "  model: acme:m1\n");
    let spec = "  trigger: {type: Chat, config: {channels: [u]}}\n  agents: [{name: unknown}]\n";
    manifests.flow("unknown", spec);
    let data = tempfile::tempdir().expect("a folder");
    let config = manifests.dir.path().join("daemon.yaml");
    let node = Node::serve(
        env!("CARGO_BIN_EXE_aofctl"),
        &config,
        data.path(),
        &[("ANTHROPIC_API_KEY", "")],
    );
    let api = Api::operator(&node, "default");
    for (channel, parts) in [
        ("any", ["needs a key", "ANTHROPIC_API_KEY", "spec.models.anthropic.api_key_env"]),
        ("u", ["`acme`", "not known", "spec.models.acme.base_url"]),
    ] {
        let answer = api.chat(channel, "hello").await;
        assert_eq!(answer["status"], "failed", "{answer}");
        let told = answer["answer"].as_str().unwrap_or_default();
        assert!(parts.iter().all(|part| told.contains(part)), "{told}");
    }
}
