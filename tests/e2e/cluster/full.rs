//! NATS without room for more.

use aof_harness::until;
use aof_servers::NatsOptions;
use serde_json::Value;

use super::stand::{Stand, config, manifests, ready, url};

/// Room at first, in megabytes.
const SMALL_MB: usize = 8;
/// Room once an operator has made some.
const LARGE_MB: usize = 64;
/// Bytes of one message: too long for a command, so that nothing of it runs.
const TEXT_BYTES: usize = 600_000;

/// More than fit, although what is done leaves the work queues.
const MAX_CHATS: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_refuses_shows_red_and_goes_on_once_there_is_room() {
    let room = |mb: usize| format!("max_file_store: {mb}MB");
    let options = NatsOptions { jetstream: room(SMALL_MB), ..NatsOptions::default() };
    let stand = Stand::new(&options);
    let manifests = manifests("");
    let config = config(&manifests);
    let gateway = stand.node("gateway", &config, &[]);
    let others = stand.node("router,worker,approver", &config, &[]);
    ready(&[&gateway, &others]).await;
    let at = url(&gateway);
    let text = format!("echo {}", "x".repeat(TEXT_BYTES));
    let (mut accepted, mut refused) = (Vec::new(), Value::Null);
    for n in 0..MAX_CHATS {
        let (status, answer) = stand.say(&at, &format!("large-{n}"), &text).await;
        if status == 503 {
            refused = answer;
            break;
        }
        accepted.extend(answer["message_id"].as_str().map(str::to_owned));
    }
    assert!(refused["detail"].is_string(), "{MAX_CHATS} messages fit: {refused}");
    assert!(!accepted.is_empty(), "{refused}");
    let why = until("the gateway to be red", async || {
        let (status, shown) = stand.get(&at, "/readyz").await;
        let why = shown["parts"]["storage"].as_str().map(str::to_owned);
        why.filter(|_| status == 503)
    })
    .await;
    assert!(why.contains("is full"), "{why}");
    assert_eq!(stand.get(&at, "/livez").await.0, 200, "a restart would not help");
    tokio::task::block_in_place(|| {
        stand.nats.stop();
        stand.nats.set_jetstream(&room(LARGE_MB));
        stand.nats.start_again();
    });
    ready(&[&gateway, &others]).await;
    assert_eq!(stand.chat(&at, "after", "echo after").await["status"], "success");
    until("everything that was accepted to end once", async || {
        let journal = stand.journal(&at).await;
        let ended = journal.iter().filter(|event| event["type"] == "run.completed");
        let ended: Vec<&str> = ended.filter_map(|event| event["message_id"].as_str()).collect();
        let once = |id: &String| ended.iter().filter(|ended| *ended == id).count() == 1;
        accepted.iter().all(once).then_some(())
    })
    .await;
    let journal = stand.journal(&at).await;
    let outage = journal.iter().find(|event| event["type"] == "storage.recovered");
    assert!(outage.is_some_and(|event: &Value| event["data"]["since"].is_string()), "{journal:?}");
}
