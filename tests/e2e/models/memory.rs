//! What a model remembers: its own conversation, and nobody else's.

use super::*;

async fn say(api: &Api, channel: &str, user: &str, conversation: &str, text: &str) {
    let body =
        json!({"channel": channel, "user": user, "conversation": conversation, "text": text});
    let (status, answer) = api.post("chat", &body).await;
    assert_eq!((status, &answer["status"]), (200, &json!("success")), "{answer}");
}

/// The texts of the messages of the last request, without the instructions.
async fn last(scene: &Scene) -> Vec<String> {
    let asked = scene.asked().await;
    let messages = asked.last().expect("a request")["messages"].as_array().expect("a list");
    let said = messages.iter().filter(|m| m["role"] != "system");
    said.map(|m| m["content"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Two more flows for the agent `openai`: another channel, and another organisation.
fn neighbours(scene: &Scene) {
    let (manifests, bin) = (&scene.manifests, &scene.bin);
    agent(manifests, "sister", "openai:scripted", "");
    flow(manifests, "sister", bin, "");
    agent(manifests, "stranger", "openai:scripted", "");
    flow(manifests, "stranger", bin, "    organization: org-b\n");
    agent(manifests, "personal", "openai:scripted", "  memory: {session: per_user}\n");
    flow(manifests, "personal", bin, "");
}

#[tokio::test]
async fn a_conversation_is_remembered_by_its_own_flow_and_tenant_only() {
    let Some(scene) = Scene::start() else { return };
    neighbours(&scene);
    let foreign = Api::operator(&scene.node, "org-b");
    until("the new flows", async || {
        let body = json!({"channel": "stranger", "text": "remember x", "conversation": "probe"});
        let (_, answer) = foreign.post("chat", &body).await;
        (answer["answer"] == "Noted.").then_some(())
    })
    .await;

    say(&scene.api, "openai", "ann", "c1", "remember one").await;
    assert_eq!(last(&scene).await, ["remember one"]);
    say(&scene.api, "openai", "ann", "c1", "remember two").await;
    assert_eq!(last(&scene).await, ["remember one", "Noted.", "remember two"]);
    // Somebody else in the same conversation shares it: it is the chat's.
    say(&scene.api, "openai", "ben", "c1", "remember three").await;
    assert_eq!(last(&scene).await.len(), 5);

    for (api, channel, conversation, what) in [
        (&scene.api, "openai", "c2", "another conversation"),
        (&scene.api, "sister", "c1", "another flow"),
        (&foreign, "stranger", "c1", "another organisation"),
    ] {
        say(api, channel, "ann", conversation, "remember this").await;
        assert_eq!(last(&scene).await, ["remember this"], "{what}");
    }
    // And back: the others left nothing here.
    say(&scene.api, "openai", "ann", "c1", "remember four").await;
    let said = last(&scene).await;
    assert_eq!(said.len(), 7, "{said:?}");
    assert!(!said.contains(&"remember this".to_owned()), "{said:?}");
}

#[tokio::test]
async fn a_persons_history_follows_them_through_conversations() {
    let Some(scene) = Scene::start() else { return };
    neighbours(&scene);
    until("the new flows", async || {
        let answer = scene.ask("personal", "remember the probe").await;
        (answer["answer"] == "Noted.").then_some(())
    })
    .await;
    say(&scene.api, "personal", "ann", "c1", "remember one").await;
    say(&scene.api, "personal", "ann", "c2", "remember two").await;
    assert_eq!(last(&scene).await, ["remember one", "Noted.", "remember two"]);
    say(&scene.api, "personal", "ben", "c1", "remember three").await;
    assert_eq!(last(&scene).await, ["remember three"]);
}
