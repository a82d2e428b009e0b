//! Clusters that share servers, and servers that are several.

use aof_harness::until;
use aof_servers::{Nats, NatsOptions};
use serde_json::{Value, json};

use super::stand::{Stand, config, manifests, ready, url};

/// Chats before, while and after each server of three is away.
const CHATS: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_on_the_same_servers_see_nothing_of_each_other() {
    let stand = Stand::new(&NatsOptions::default());
    let clusters = ["blue", "green"].map(|name| {
        let runtime = "  runtime: {max_concurrent_tasks: 1}\n";
        let manifests = manifests(&format!("  cluster: {{name: {name}}}\n{runtime}"));
        let rest = format!("  context: {{env: {{WHOSE: {name}}}}}\n  agents: [{{name: shell}}]\n");
        manifests.flow("ops", &format!("  trigger: {{type: Chat}}\n{rest}"));
        let node = stand.node("gateway,router,worker,approver", &config(&manifests), &[]);
        (name, node, manifests)
    });
    for (_, node, _) in &clusters {
        ready(&[node]).await;
    }
    let [blue, green] = clusters.each_ref().map(|(_, node, _)| url(node));
    // The one place of each is its own.
    let has = async |url: &str, kind: &str| {
        stand.journal(url).await.iter().any(|event| event["type"] == kind)
    };
    let free = async {
        until("the busy run to start", async || has(&blue, "run.started").await.then_some(()))
            .await;
        let free = stand.chat(&green, "free", "echo free").await;
        assert!(!has(&blue, "run.completed").await, "it waited for a place of the other");
        free
    };
    let busy = async {
        loop {
            stand.say(&blue, "busy", "sleep 300").await;
        }
    };
    let free = tokio::select! {
        free = free => free,
        () = busy => unreachable!("it never ends"),
    };
    assert_eq!(free["status"], "success", "{free}");
    // The busy one has the only place there: nobody waits for it here.
    let said = stand.chat(&green, "busy", "printenv WHOSE").await;
    assert_eq!((&said["duplicate"], &said["status"]), (&json!(false), &json!("success")), "{said}");
    assert!(said["answer"].as_str().is_some_and(|text| text.contains("green")), "{said}");
    for (url, said) in [(&blue, &["u1:busy"][..]), (&green, &["u1:free", "u1:busy"])] {
        let journal = stand.journal(url).await;
        let accepted = journal.iter().filter(|event| event["type"] == "message.accepted");
        let accepted: Vec<&Value> = accepted.map(|event| &event["data"]["event_id"]).collect();
        assert_eq!(accepted, said);
        let (_, status) = stand.get(url, "/status").await;
        assert_eq!(status["nodes"].as_array().map(Vec::len), Some(1), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "with replicas a chat was seen to wait a minute while all servers were there; not understood yet"]
async fn any_of_three_nats_servers_may_die() {
    let members = Nats::cluster(3, &NatsOptions::default());
    let urls = members.iter().map(Nats::url).collect::<Vec<_>>().join(",");
    let stand = Stand::new(&NatsOptions::default());
    let manifests = manifests("  cluster: {replicas: 3}\n");
    let config = config(&manifests);
    let env = [("NATS_URL", urls.as_str())];
    let front = stand.node("gateway,approver", &config, &env);
    let behind = stand.node("router,worker", &config, &env);
    ready(&[&front, &behind]).await;
    let gateway = url(&front);
    let mut ids = Vec::new();
    let mut chat = async |phase: &str| {
        for n in 0..CHATS {
            let said = stand.chat(&gateway, &format!("{phase}-{n}"), "echo here").await;
            assert_eq!(
                (&said["status"], &said["durability"]),
                (&json!("success"), &json!("quorum"))
            );
            ids.push(said["message_id"].as_str().expect("an id").to_owned());
        }
    };
    for (n, member) in members.iter().enumerate() {
        chat(&format!("before-{n}")).await;
        member.kill();
        chat(&format!("without-{n}")).await;
        tokio::task::block_in_place(|| member.start_again());
    }
    chat("after").await;
    let journal = stand.journal(&gateway).await;
    let ended = journal.iter().filter(|event| event["type"] == "run.completed");
    let ended: Vec<&str> = ended.filter_map(|event| event["message_id"].as_str()).collect();
    for id in &ids {
        assert_eq!(ended.iter().filter(|ended| *ended == id).count(), 1, "{id}");
    }
}
