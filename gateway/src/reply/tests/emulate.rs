//! The same against a stand-in for Slack that is not ours: `emulate` from npm.

use std::time::Duration;

use aof_harness::{BOT_TOKEN, EMULATE, Emulate};

use aof_shared::action::ApprovalStatus;
use aof_shared::ids::PlatformName;
use aof_shared::subject::Stream;

use super::cards::{card, held, settle};
use super::harness::{Bench, answer, until};

#[tokio::test]
async fn posts_threads_cards_and_channels_work_on_emulate() {
    let Some(script) = aof_harness::tool(EMULATE) else { return };
    let emulate = Emulate::start(&script, &[], &["production"]).await;
    assert_eq!(BOT_TOKEN, "xoxb-test", "the bench's own");
    let dir = tempfile::tempdir().expect("a directory");
    let bench =
        Bench::open(dir.path(), &format!("http://{}/api", emulate.addr), Duration::from_secs(5))
            .await;

    let channel = resolved(&bench, &emulate).await;
    let root = answer(&channel, "# Done\n**web** is `up`");
    bench.publish(&root).await;
    let event = bench.event("reply.sent", &root).await;
    let ts = event.data["platform_id"].as_str().expect("a ts").to_owned();
    let mut inside = answer(&channel, "and more");
    inside.to.thread = Some(ts.clone());
    bench.publish(&inside).await;
    bench.event("reply.sent", &inside).await;
    let thread = emulate.thread(&channel, &ts).await;
    assert_eq!(thread[0]["text"], "*Done*\n*web* is `up`");
    assert_eq!(thread[1]["text"], "and more");

    approval(&bench, &emulate, &channel, &ts).await;

    let nowhere = answer("CNOWHERE00", "hi");
    bench.publish(&nowhere).await;
    let event = bench.event("reply.failed", &nowhere).await;
    assert_eq!(event.data["reason"], "channel_not_found");
    bench.settled(Stream::Replies).await;
}

/// Channel names are read at the start; a wrong id is remembered as such.
async fn resolved(bench: &Bench, emulate: &Emulate) -> String {
    let id = emulate.channel("production").await;
    crate::resolve::start(&bench.node).await;
    let tenant = "org-a".parse().expect("a name");
    let instance = "main".parse().expect("a name");
    let slack = PlatformName::slack();
    let store = &bench.node.ports.store;
    let known = until("a channel's name", || async {
        store.channel(&tenant, &slack, &instance, &id).await.expect("the store answers")
    })
    .await;
    assert_eq!(known.name.as_deref(), Some("production"));
    id
}

/// A card is posted with its reactions, and updated in place.
async fn approval(bench: &Bench, emulate: &Emulate, channel: &str, thread: &str) {
    let action = held(bench, channel, thread).await;
    let first = card(bench, &action, 1).await;
    bench.publish(&first).await;
    let event = bench.event("reply.sent", &first).await;
    let ts = event.data["platform_id"].as_str().expect("a ts").to_owned();
    let message = until("two reactions", || async {
        let messages = emulate.thread(channel, thread).await;
        let card = messages.into_iter().find(|m| m["ts"] == ts.as_str())?;
        (card["reactions"].as_array().map(Vec::len) == Some(2)).then_some(card)
    })
    .await;
    assert!(message["blocks"].to_string().contains("aof.deny"), "{message}");
    settle(bench, &action, ApprovalStatus::Approved).await;
    let second = card(bench, &action, 2).await;
    bench.publish(&second).await;
    bench.event("reply.sent", &second).await;
    let messages = emulate.thread(channel, thread).await;
    let updated = messages.iter().find(|m| m["ts"] == ts.as_str()).expect("the same message");
    assert!(updated["text"].as_str().expect("text").contains("Approved"));
    assert!(!updated["blocks"].to_string().contains("aof.deny"), "{updated}");
}
