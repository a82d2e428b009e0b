//! What the README shows.

use std::path::Path;

use aof_harness::{Api, until};
use serde_json::Value;

use crate::{Running, root, serve};

fn quickstart() -> Running {
    serve(root().join("examples/quickstart/daemon-config.yaml"), &[])
}

/// Asks for `rm -r old` and returns the id of the action that is held for it.
async fn held(api: &Api, scratch: &Path) -> (Value, String) {
    std::fs::create_dir_all(scratch.join("old")).expect("a folder");
    let command = format!("rm -r {}", scratch.join("old").display());
    let answer = api.chat("ops", &command).await;
    assert_eq!(answer["status"], "held", "{answer}");
    let id = answer["approval_id"].as_str().unwrap_or_else(|| panic!("no approval in {answer}"));
    (answer.clone(), id.to_owned())
}

async fn settled(api: &Api, id: &str, status: &str) -> Value {
    until(&format!("approval {id} to be {status}"), async || {
        let approval = api.approval(id).await;
        (approval["status"] == status).then_some(approval)
    })
    .await
}

#[tokio::test]
async fn a_harmless_command_is_routed_and_answered() {
    let running = quickstart();
    let api = Api::operator(&running.node, "default");
    let answer = api.chat("ops", "uname -s").await;
    assert_eq!(answer["status"], "success", "{answer}");
    assert!(answer["answer"].as_str().unwrap_or_default().contains("Linux"), "{answer}");
    assert_eq!(answer["durability"], "fsync");
    let routed = api.events("message.routed").await;
    assert_eq!(routed[0]["data"]["flow"], "ops-flow", "{routed:?}");
}

#[tokio::test]
async fn what_no_flow_takes_goes_to_the_default_agent() {
    let running = quickstart();
    let api = Api::operator(&running.node, "default");
    let answer = api.chat("somewhere", "hello there").await;
    assert!(answer["answer"].as_str().unwrap_or_default().contains("hello there"), "{answer}");
}

#[tokio::test]
async fn two_people_approve_and_it_runs_once() {
    let scratch = tempfile::tempdir().expect("a folder");
    let running = quickstart();
    let api = Api::operator(&running.node, "default");
    let (_, id) = held(&api, scratch.path()).await;
    let (alice, bob) = (
        api.person("alice", &["read", "approve"]).await,
        api.person("bob", &["read", "approve"]).await,
    );

    let (status, _) = alice.vote(&id, "approve").await;
    assert_eq!(status, 200);
    alice.vote(&id, "approve").await; // one person twice is one vote
    assert_eq!(alice.approval(&id).await["status"], "pending");
    assert!(scratch.path().join("old").exists(), "nothing ran before the quorum");

    bob.vote(&id, "approve").await;
    settled(&api, &id, "executed").await;
    assert!(!scratch.path().join("old").exists(), "it ran");
    assert_eq!(api.events("action.started").await.len(), 1);
    let ended = until("the run to end", async || {
        let ended = api.events("run.completed").await;
        ended.last().cloned()
    })
    .await;
    assert_eq!(ended["data"]["status"], "success");
}

#[tokio::test]
async fn one_no_ends_it_and_strangers_do_not_count() {
    let scratch = tempfile::tempdir().expect("a folder");
    let running = quickstart();
    let api = Api::operator(&running.node, "default");
    let (_, id) = held(&api, scratch.path()).await;
    let mallory = api.person("mallory", &["read", "approve"]).await;
    let (status, refused) = mallory.vote(&id, "approve").await;
    assert!(status == 403 || status == 409, "{status}: {refused}");
    assert_eq!(api.events("approval.vote_rejected").await.len(), 1);

    api.person("bob", &["read", "approve"]).await.vote(&id, "deny").await;
    settled(&api, &id, "denied").await;
    until("the run to end as denied", async || {
        let ended = api.events("run.completed").await;
        ended.iter().any(|e| e["data"]["status"] == "denied").then_some(())
    })
    .await;
    assert!(scratch.path().join("old").exists(), "it did not run");
}

#[tokio::test]
async fn a_restart_between_the_votes_changes_nothing() {
    let scratch = tempfile::tempdir().expect("a folder");
    let data = tempfile::tempdir().expect("a folder");
    let config = root().join("examples/quickstart/daemon-config.yaml");
    let start =
        || aof_harness::Node::serve(env!("CARGO_BIN_EXE_aofctl"), &config, data.path(), &[]);
    let node = start();
    let api = Api::operator(&node, "default");
    let (_, id) = held(&api, scratch.path()).await;
    let alice = api.person("alice", &["read", "approve"]).await;
    let bob = api.person("bob", &["read", "approve"]).await;
    alice.vote(&id, "approve").await;
    node.kill();

    let node = start();
    let again = |api: Api| Api { url: node.url.clone(), ..api };
    again(bob).vote(&id, "approve").await;
    settled(&again(api.clone()), &id, "executed").await;
    assert!(!scratch.path().join("old").exists(), "it ran after the restart");
    assert_eq!(node.drain(), Some(0), "SIGTERM drains and exits 0");
}
