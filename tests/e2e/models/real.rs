//! A real model, small and offline: the answer streams to a terminal.

use std::process::Stdio;

use super::*;

#[tokio::test]
async fn a_real_model_answers_a_chat_end_to_end() {
    let Some(model) = ModelServer::real() else { return };
    let manifests = Manifests::new(&format!(
        "  models:\n    local:\n      base_url: {}/v1\n  routing: {{default_agent: small}}\n",
        model.url
    ));
    manifests.agent(
        "small",
        "  model: local:smollm2\n  instructions: Answer in one short sentence.\n  \
         temperature: 0\n  max_tokens: 24\n",
    );
    let data = tempfile::tempdir().expect("a folder");
    let config = manifests.dir.path().join("daemon.yaml");
    let node = Node::serve(aofctl().to_str().expect("UTF-8"), &config, data.path(), &[]);
    let api = Api::operator(&node, "default");

    let answer = streamed(&api, "any", "What is the capital of France?").await;
    assert_eq!(answer.done["status"], "success", "{}", answer.done);
    assert!(answer.deltas.len() > 3, "it streamed: {:?}", answer.deltas);
    assert_eq!(answer.done["answer"], answer.text, "the deltas are the answer");
    let tokens = end_of(&api, &answer.done).await["data"]["tokens"].as_u64().unwrap_or_default();
    assert!((10..200).contains(&tokens), "counted by the server: {tokens}");

    let command = tokio::process::Command::new(aofctl())
        .args(["chat", "--server", &node.url, "--channel", "other"])
        .arg("What is the capital of France?")
        .env("AOF_API_KEY", node.admin_key())
        .stdin(Stdio::null())
        .output();
    let output = command.await.expect("aofctl runs");
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(shown.trim().len() > 5, "{shown:?}");
    println!("the model said: {}", shown.trim());
}
