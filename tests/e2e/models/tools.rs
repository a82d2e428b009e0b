//! Tool calls: run, refused, held, mistaken, invented, endless.

use super::*;

/// What the model was told about its last tool call, whichever API it was asked through.
fn last_message(request: &Value) -> String {
    let list = request["messages"].as_array().or(request["contents"].as_array());
    list.and_then(|l| l.last()).map(Value::to_string).unwrap_or_default()
}

#[tokio::test]
async fn every_provider_calls_a_tool_and_answers_with_what_it_said() {
    let Some(scene) = Scene::start() else { return };
    for (n, (provider, _)) in PROVIDERS.into_iter().enumerate() {
        let answer = scene.ask(provider, "list the pods").await;
        assert_eq!(answer["status"], "success", "{provider}: {answer}");
        assert_eq!(answer["answer"], "Let me look.\n\nOne pod: api-0, running.", "{provider}");
        assert_eq!(scene.ran(), vec!["get pods"; n + 1], "{provider}");
        let asked = scene.asked().await;
        assert_eq!(asked.len(), 2 * (n + 1), "{provider}");
        let result = last_message(&asked[2 * n + 1]);
        assert!(result.contains("api-0 Running"), "{provider}: {result}");
    }
    let steps = scene.api.events("run.step").await;
    assert_eq!(steps.len(), 4);
    assert_eq!(steps[0]["data"]["command"], "kubectl get pods", "{}", steps[0]);
}

#[tokio::test]
async fn what_the_guard_refuses_does_not_run_and_the_model_is_told() {
    let Some(scene) = Scene::start() else { return };
    let answer = scene.ask("anthropic", "drain the node").await;
    assert_eq!(answer["answer"], "I may not drain nodes.", "{answer}");
    assert_eq!(scene.ran(), Vec::<String>::new());
    let refused = scene.api.events("action.refused").await;
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0]["data"]["command"], "kubectl drain node-1", "{}", refused[0]);
}

#[tokio::test]
async fn a_destructive_call_waits_for_two_runs_once_and_the_model_goes_on() {
    let Some(scene) = Scene::start() else { return };
    for (n, provider) in ["openai", "anthropic"].into_iter().enumerate() {
        let answer = scene.ask(provider, "remove the pod").await;
        assert_eq!(answer["status"], "held", "{provider}: {answer}");
        let id = answer["approval_id"].as_str().expect("an approval").to_owned();
        let approval = scene.api.approval(&id).await;
        assert_eq!(approval["status"], "pending", "{provider}: known as soon as it is told");
        assert!(approval.to_string().contains("kubectl"), "{approval}");
        for (user, status) in [("alice", "pending"), ("bob", "")] {
            assert_eq!(scene.ran().len(), n, "{provider}: nothing ran before the quorum");
            let person = scene.api.person(user, &["read", "approve"]).await;
            let (voted, said) = person.vote(&id, "approve").await;
            assert_eq!(voted, 200, "{provider}: {said}");
            if !status.is_empty() {
                assert_eq!(person.approval(&id).await["status"], status, "{provider}");
            }
        }
        let end = end_of(&scene.api, &answer).await;
        assert_eq!(end["type"], "run.completed", "{provider}: {end}");
        let text = end["data"]["answer"].as_str().unwrap_or_default();
        assert!(text.starts_with("I will delete it."), "{provider}: {end}");
        assert!(text.ends_with("The pod is gone."), "{provider}: {end}");
        assert_eq!(scene.ran(), vec!["delete pod api-0"; n + 1], "{provider}: once");
        assert_eq!(scene.api.events("action.started").await.len(), n + 1);
        assert_eq!(scene.asked().await.len(), 2 * (n + 1), "{provider}: nothing asked twice");
    }
}

#[tokio::test]
async fn a_model_learns_from_bad_arguments_and_from_tools_that_are_not_there() {
    let Some(scene) = Scene::start() else { return };
    let answer = scene.ask("openai", "fumble").await;
    assert_eq!(answer["answer"], "Third time lucky.", "{answer}");
    let asked = scene.asked().await;
    assert_eq!(asked.len(), 4);
    assert!(last_message(&asked[1]).contains("must be a list of strings"), "{}", asked[1]);
    assert!(last_message(&asked[2]).contains("give the arguments as"), "{}", asked[2]);
    assert_eq!(scene.ran(), ["get pods"]);

    let answer = scene.ask("ollama", "invent").await;
    assert_eq!(answer["answer"], "Then I cannot.", "{answer}");
    assert_eq!(scene.ran().len(), 1);
}

#[tokio::test]
async fn endless_tool_calls_end_at_the_agents_limit() {
    let Some(scene) = Scene::start() else { return };
    let answer = scene.ask("google", "go on for ever").await;
    assert_eq!(answer["status"], "failed", "{answer}");
    let text = answer["answer"].as_str().unwrap_or_default();
    assert!(text.contains("4 model calls") && text.contains("max_iterations"), "{text}");
    assert_eq!(scene.asked().await.len(), 4);
    assert_eq!(scene.ran().len(), 4);
}
