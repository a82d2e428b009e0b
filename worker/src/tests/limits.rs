//! Windows, places and fairness: exact, without loss, and at nobody else's cost.

use std::collections::HashMap;

use aof_shared::config::{Daemon, RateLimits};
use aof_shared::event::EventType;
use aof_shared::message::{Reply, ReplyContent, Task};
use aof_shared::subject::Stream;

use super::*;

/// `n` tasks of `user`, each in a conversation of its own.
fn tasks(tenant: &str, user: &str, text: &str, n: usize) -> Vec<Task> {
    (0..n)
        .map(|n| {
            let mut message = fixture::message(tenant, &format!("{user}-{text}-{n}"), text);
            message.user.id = user.to_owned();
            fixture::task_of(message, "ops")
        })
        .collect()
}

async fn runs_at_once(rig: &Rig, tenant: &str) -> i64 {
    let labels = aof_shared::telemetry::TenantLabels { tenant: tenant.to_owned() };
    rig.node.metrics.inflight.get_or_create(&labels).get()
}

#[tokio::test]
async fn a_window_admits_exactly_its_limit_and_the_rest_waits_with_a_notice() {
    let daemon = Daemon {
        limits_per_organization: RateLimits {
            max_requests_per_minute: Some(3),
            ..RateLimits::default()
        },
        ..Daemon::default()
    };
    let agent = modeller("echo", &[]);
    let flows = vec![flow("acme", "ops", &[]), flow("globex", "ops", &[])];
    let rig = Rig::new(snapshot(agent, flows, daemon));
    let tasks = tasks("acme", "U1", "hi", 8);
    for task in &tasks {
        rig.send(task).await;
    }
    rig.start().await;
    let tenant = fixture::tenant("acme");
    let deferred = until("deferral", async || {
        let events = rig.events(&tenant).await;
        let done = events.iter().filter(|e| e.kind == EventType::RunCompleted).count();
        let deferred = events.iter().filter(|e| e.kind == EventType::RunDeferred).count();
        (done == 3 && deferred > 0).then_some(deferred)
    })
    .await;
    assert!(deferred >= 1);
    // Another tenant is not held up by it.
    let other = fixture::task("globex", "ops", "hello");
    rig.send(&other).await;
    assert_eq!(rig.end(&other).await.0, "success");
    let events = rig.events(&tenant).await;
    assert_eq!(events.iter().filter(|e| e.kind == EventType::RunCompleted).count(), 3);
    let backlog = rig.node.ports.queue.backlog(Stream::Tasks).await.expect("it reads");
    let waiting = backlog.iter().find(|b| b.tenant == tenant).map_or(0, |b| b.pending);
    assert_eq!(waiting, 5, "nothing is lost");
    let replies = rig.stored(Stream::Replies, &tenant).await;
    let notice = replies.iter().any(|stored| {
        let reply: Reply = serde_json::from_slice(&stored.payload).expect("a reply");
        matches!(reply.content, ReplyContent::Notice { text } if text.contains("runs in"))
    });
    assert!(notice, "the requester is told");
    rig.stop().await;
}

#[tokio::test]
async fn the_sixth_of_a_user_and_the_one_beyond_all_places_wait() {
    for (users, places, most) in [(1, 50, 5), (12, 7, 7)] {
        let daemon = Daemon { max_concurrent_tasks: places, ..Daemon::default() };
        let flows = vec![flow("acme", "ops", &[])];
        let rig = Rig::new(snapshot(commander(&["sleep"]), flows, daemon));
        let all: Vec<_> = (0..users)
            .flat_map(|u| tasks("acme", &format!("U{u}"), "sleep 1", 12 / users))
            .collect();
        for task in &all {
            rig.send(task).await;
        }
        rig.start().await;
        let mut highest = 0;
        loop {
            highest = highest.max(runs_at_once(&rig, "acme").await);
            let events = rig.events(&fixture::tenant("acme")).await;
            if events.iter().filter(|e| e.kind == EventType::RunCompleted).count() == all.len() {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        assert_eq!(highest, most, "{users} users, {places} places");
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_flood_of_one_tenant_does_not_hold_up_another() {
    let flows = vec![flow("noisy", "ops", &[]), flow("quiet", "ops", &[])];
    let daemon = Daemon { max_concurrent_tasks: 4, max_tasks_per_user: 100, ..Daemon::default() };
    let rig = Rig::new(snapshot(modeller("echo", &[]), flows, daemon));
    let flood = tasks("noisy", "U1", "flood", 400);
    let batch: Vec<_> = flood
        .iter()
        .map(|task| {
            let subject = aof_shared::subject::Subject::task(&task.message.tenant, &task.flow);
            Publication::json(subject, task.id.0, task)
                .expect("plain JSON")
                .ordered_by(task.message.ordering_key())
        })
        .collect();
    rig.node.ports.queue.publish(batch).await.expect("it is stored");
    let victims = tasks("quiet", "U2", "please", 10);
    for task in &victims {
        rig.send(task).await;
    }
    rig.start().await;
    rig.end(&victims[9]).await;
    let noisy = rig.events(&fixture::tenant("noisy")).await;
    let before = noisy.iter().filter(|e| e.kind == EventType::RunCompleted).count();
    assert!(before < 100, "{before} of the flood ran before ten of the other tenant");
    rig.stop().await;
}

#[tokio::test]
async fn one_conversation_runs_in_order_and_different_ones_in_parallel() {
    let rig = Rig::new(simple(modeller("echo", &[])));
    let mut order = HashMap::new();
    for n in 0..10 {
        for chat in ["a", "b", "c"] {
            let mut message =
                fixture::message("acme", &format!("{chat}{n}"), &format!("{chat}{n}"));
            message.conversation = chat.to_owned();
            let task = fixture::task_of(message, "ops");
            order.entry(chat).or_insert_with(Vec::new).push(task.message.id);
            rig.send(&task).await;
        }
    }
    rig.start().await;
    rig.settled().await;
    let events = rig.events(&fixture::tenant("acme")).await;
    for (chat, expected) in order {
        let conversation = format!("slack/main/{chat}");
        let ended: Vec<_> = events
            .iter()
            .filter(|e| terminal(e) && e.conversation.as_deref() == Some(conversation.as_str()))
            .filter_map(|e| e.message_id)
            .collect();
        assert_eq!(ended, expected, "{chat}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_day_budget_refuses_with_a_reason_and_survives_a_restart() {
    let daemon = || Daemon {
        limits_per_organization: RateLimits {
            max_tokens_per_day: Some(5),
            ..RateLimits::default()
        },
        ..Daemon::default()
    };
    let snapshot = || snapshot(modeller("echo", &[]), vec![flow("acme", "ops", &[])], daemon());
    // Echo is free; this is what a model would have used.
    let rig = Rig::new(snapshot());
    let day = crate::admit::day(rig.node.ports.clock.now_ms());
    let limits = &rig.node.ports.limits;
    limits.charge("org/acme/tokens", day, 9, "earlier").await.expect("it is charged");
    let rig = rig.restart(snapshot()).await;
    rig.start().await;
    let task = fixture::task("acme", "ops", "hello");
    rig.send(&task).await;
    let (status, answer) = rig.end(&task).await;
    assert_eq!(status, "refused");
    assert!(answer.contains("budget of 5 tokens"), "{answer}");
    rig.stop().await;
}
