//! Two tenants with the same ids: acting on each must not show or touch the other.

use std::sync::Arc;

use serde_json::json;
use uuid::Uuid;

use super::records::key;
use super::{
    HOLDER, NOW_MS, StoreFixture, action_id, address, end, held, instance, memory, note_key,
    run_id, settlement, start, tenant, turn, vote,
};
use crate::action::{ApprovalStatus, Choice};
use crate::ids::{PlatformName, ReplyId, TenantId};
use crate::secret::Secret;
use crate::store::{
    ActionEnd, ActionStart, ApprovalFilter, ChannelName, Note, RunState, SendState, Store,
};

/// Everything that a tenant can have, under ids that say nothing of the tenant.
async fn fill(store: &Arc<dyn Store>, t: &TenantId) {
    let (run, id) = (run_id(1), action_id(1));
    store.begin_run(&start(t, run), HOLDER).await.expect("begin");
    store.save_checkpoint(t, run, HOLDER, &json!({"of": t.as_str()})).await.expect("save");
    store.begin_run(&start(t, run_id(2)), HOLDER).await.expect("begin");
    let turns = [turn(t.as_str())];
    let ended = store.finish_run(t, run_id(2), &end(t.as_str()), Some((&memory(t), &turns))).await;
    assert!(ended.expect("finish"), "the other's run {run} must not stand in the way");
    assert!(store.hold(&held(t, id)).await.expect("hold"));
    store.record_vote(t, id, &vote(t.as_str(), Choice::Approve, 1)).await.expect("vote");
    store.set_posted(t, id, &address(t), "1.1").await.expect("posted");
    let reply = ReplyId(Uuid::from_u128(1));
    assert_eq!(store.begin_send(t, reply, NOW_MS).await.expect("claim"), SendState::Fresh);
    store.finish_send(t, reply, Some(t.as_str())).await.expect("finish");
    store.put_key(&key(t.as_str(), Some(t))).await.expect("put");
    let name = Some(t.to_string());
    let channel = ChannelName { id: "C1".to_owned(), name, asked_at_ms: 1 };
    let put = store.put_channels(t, &PlatformName::slack(), &instance(), &[channel]).await;
    put.expect("put");
    let note = Note { value: Secret::new(t.as_str()), expires_at_ms: NOW_MS + 1 };
    store.put_note(&note_key(t, "session"), &note, NOW_MS).await.expect("put");
}

/// Everything that `fill` wrote of `t`, and nothing else.
async fn check(store: &Arc<dyn Store>, t: &TenantId) {
    let (_, state) = store.run(t, run_id(1)).await.expect("run").expect("it is there");
    assert_eq!(state, RunState::Resumed { checkpoint: Some(json!({"of": t.as_str()})) });
    let (_, state) = store.run(t, run_id(2)).await.expect("run").expect("it is there");
    assert_eq!(state, RunState::Finished(end(t.as_str())));
    let turns = store.history(&memory(t), 10).await.expect("history");
    assert_eq!(turns, [turn(t.as_str())]);
    let approval = store.approval(t, action_id(1)).await.expect("get").expect("it is there");
    assert_eq!(&approval.action.tenant, t);
    assert_eq!(approval.status, ApprovalStatus::Pending);
    assert_eq!(approval.votes, [vote(t.as_str(), Choice::Approve, 1)]);
    let all = ApprovalFilter { status: None, limit: 10 };
    let listed = store.approvals(t, &all).await.expect("list");
    assert_eq!(listed, std::slice::from_ref(&approval));
    let posted = store.approval_posted_as(&address(t), "1.1").await.expect("get");
    assert_eq!(posted, Some(approval));
    let reply = ReplyId(Uuid::from_u128(1));
    let sent = store.begin_send(t, reply, NOW_MS).await.expect("claim");
    assert_eq!(sent, SendState::Sent(Some(t.to_string())));
    let keys = store.keys(Some(t)).await.expect("keys");
    assert_eq!(keys, [key(t.as_str(), Some(t))]);
    let channel = store.channel(t, &PlatformName::slack(), &instance(), "C1").await;
    assert_eq!(channel.expect("channel").expect("it is there").name, Some(t.to_string()));
    let note = store.note(&note_key(t, "session"), NOW_MS).await.expect("note");
    assert_eq!(note.expect("it is there").value.expose(), t.as_str());
}

/// Both have the same ids; each sees its own.
pub async fn no_read_shows_another_tenants_records(fixture: &mut impl StoreFixture) {
    let (a, b, nobody) = (tenant("a"), tenant("b"), tenant("c"));
    let store = fixture.store();
    for t in [&a, &b] {
        fill(&store, t).await;
    }
    for t in [&a, &b] {
        check(&store, t).await;
    }
    assert_eq!(store.run(&nobody, run_id(1)).await.expect("run"), None);
    assert_eq!(store.approval(&nobody, action_id(1)).await.expect("get"), None);
    assert_eq!(store.approval_posted_as(&address(&nobody), "1.1").await.expect("get"), None);
    assert_eq!(store.note(&note_key(&nobody, "session"), NOW_MS).await.expect("note"), None);
    assert!(store.history(&memory(&nobody), 10).await.expect("history").is_empty());
    assert!(store.keys(Some(&nobody)).await.expect("keys").is_empty());
}

/// Every write with one's own name and the other's ids leaves the other as it was.
pub async fn no_write_touches_another_tenants_records(fixture: &mut impl StoreFixture) {
    let (a, b) = (tenant("a"), tenant("b"));
    let store = fixture.store();
    // Once with nothing of the actor's own, then with the same ids on both sides.
    fill(&store, &b).await;
    attack(&store, &a, &b).await;
    check(&store, &b).await;
    let (a, b) = (tenant("c"), tenant("d"));
    for t in [&a, &b] {
        fill(&store, t).await;
    }
    drop(store);
    fixture.restart().await;
    let store = fixture.store();
    for (actor, owner) in [(&a, &b), (&b, &a)] {
        act(&store, actor).await;
        let owners = store.approval(owner, action_id(1)).await.expect("get").expect("there");
        let votes = usize::from(owner == &a) * 2 + usize::from(owner == &b);
        assert_eq!(owners.votes.len(), votes, "{owner}'s votes");
    }
}

/// One more vote under the actor's own name.
async fn act(store: &Arc<dyn Store>, actor: &TenantId) {
    let id = action_id(1);
    let voted = store.record_vote(actor, id, &vote("second", Choice::Deny, 2)).await;
    assert!(voted.expect("vote").is_some());
}

async fn attack(store: &Arc<dyn Store>, actor: &TenantId, owner: &TenantId) {
    let (run, id, reply) = (run_id(1), action_id(1), ReplyId(Uuid::from_u128(1)));
    store.save_checkpoint(actor, run, HOLDER, &json!("stolen")).await.expect("save");
    let turns = [turn("stolen")];
    let ended = store.finish_run(actor, run, &end("stolen"), Some((&memory(owner), &turns))).await;
    assert!(!ended.expect("finish"));
    let voted = store.record_vote(actor, id, &vote("thief", Choice::Approve, 9)).await;
    assert_eq!(voted.expect("vote"), None);
    let approve = settlement(ApprovalStatus::Approved);
    assert!(!store.settle(actor, id, &approve).await.expect("settle"));
    let digest = held(owner, id).digest;
    let started = store.start_action(actor, id, &digest).await.expect("start");
    assert_eq!(started, ActionStart::NotApproved);
    let end = ActionEnd { status: ApprovalStatus::Executed, outcome: "stolen".to_owned() };
    store.finish_action(actor, id, &end).await.expect("finish");
    store.set_posted(actor, id, &address(owner), "stolen").await.expect("posted");
    store.finish_send(actor, reply, Some("stolen")).await.expect("finish");
    store.abort_send(actor, reply).await.expect("abort");
    assert!(!store.revoke_key(Some(actor), owner.as_str(), NOW_MS).await.expect("revoke"));
}
