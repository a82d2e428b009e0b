//! Every provider's API: the answer streams, its tokens are counted, its address is right.

use super::*;

const GREETING: &str = "Hello there, people of the cluster!\n\nAll is *well*.";

#[tokio::test]
async fn every_provider_streams_its_answer_and_its_tokens_are_counted() {
    let Some(scene) = Scene::start() else { return };
    for (provider, _) in PROVIDERS {
        let answer = streamed(&scene.api, provider, "greet").await;
        assert_eq!(answer.done["status"], "success", "{provider}: {}", answer.done);
        assert_eq!(answer.done["answer"], GREETING, "{provider}");
        assert_eq!(answer.text, GREETING, "{provider}: the deltas are the answer");
        assert!(answer.deltas.len() > 3, "{provider}: it streamed: {:?}", answer.deltas);

        let end = end_of(&scene.api, &answer.done).await;
        // The scripted Ollama counts nothing, so the node estimates.
        let tokens = end["data"]["tokens"].as_u64().unwrap_or_default();
        let counts = if provider == "ollama" { tokens > 0 } else { tokens == 27 };
        assert!(counts, "{provider}: {end}");
        let line = format!("\"tokens_used\":{tokens}");
        let message = answer.done["message_id"].as_str().expect("an id").to_owned();
        until("the log line with its tokens", async || {
            let log = scene.node.log();
            log.lines().any(|l| l.contains(&line) && l.contains(&message)).then_some(())
        })
        .await;
    }
    let requests = scene.model.journal().await;
    let paths: Vec<_> = requests.iter().filter_map(|r| r["path"].as_str()).collect();
    let gemini = "/v1beta/models/scripted:streamGenerateContent?alt=sse";
    assert_eq!(paths.len(), 4);
    assert_eq!(paths[0], "/v1/chat/completions");
    assert_eq!(paths[1], "/v1/messages");
    assert!(gemini.starts_with(paths[2]) && paths[2].contains("scripted"), "{}", paths[2]);
    assert_eq!(paths[3], "/api/chat");
    assert!(!scene.node.log().contains("genai"), "{}", scene.node.log());
}

#[tokio::test]
async fn a_key_goes_to_its_own_provider_only_and_is_shown_to_nobody() {
    let Some(model) = scripted(Some(KEY)) else { return };
    let scene = Scene::on(model, "");
    for (provider, _) in PROVIDERS {
        let answer = scene.ask(provider, "greet").await;
        let expected = if provider == "openai" { "success" } else { "failed" };
        assert_eq!(answer["status"], expected, "{provider}: {answer}");
    }
    // A provider that names the key in its complaint, as some do.
    let answer = scene.ask("openai", "intrude").await;
    assert_eq!(answer["status"], "failed", "{answer}");
    let told = answer["answer"].as_str().unwrap_or_default();
    assert!(told.contains("401") && told.contains("Incorrect API key"), "{told}");
    let journal = serde_json::to_string(&scene.api.journal().await).expect("JSON");
    for (place, text) in [("answer", told), ("journal", &journal), ("log", &scene.node.log())] {
        assert!(!text.contains(KEY), "{place}: {text}");
    }
}
