//! Runs, memory, sends, keys, channels.

use futures_util::future::join_all;
use serde_json::json;
use uuid::Uuid;

use super::{
    HOLDER, NOW_MS, StoreFixture, action_id, address, approved, end, instance, memory, note_key,
    run_id, start, tenant, turn,
};
use crate::action::ApprovalStatus;
use crate::ids::{PlatformName, ReplyId, TenantId};
use crate::message::Address;
use crate::secret::Secret;
use crate::store::{ActionEnd, ApiKey, ChannelName, MemoryKey, Note, RunState, SendState};

/// Begun, resumed without a step, resumed after one, also after a restart.
pub async fn a_run_begins_once_and_resumes_from_its_checkpoint(fixture: &mut impl StoreFixture) {
    let (t, run) = (tenant("a"), run_id(1));
    let begun = start(&t, run);
    let store = fixture.store();
    assert_eq!(store.run(&t, run).await.expect("run"), None);
    assert_eq!(store.begin_run(&begun, HOLDER).await.expect("begin"), RunState::Begun);
    let resumed = RunState::Resumed { checkpoint: None };
    assert_eq!(store.begin_run(&begun, HOLDER).await.expect("begin"), resumed);
    store.save_checkpoint(&t, run, HOLDER, &json!({"step": 1})).await.expect("save");
    store.save_checkpoint(&t, run, HOLDER, &json!({"step": 2})).await.expect("save");
    drop(store);
    fixture.restart().await;
    let resumed = RunState::Resumed { checkpoint: Some(json!({"step": 2})) };
    let store = fixture.store();
    assert_eq!(store.begin_run(&begun, HOLDER).await.expect("begin"), resumed);
    assert_eq!(store.run(&t, run).await.expect("run"), Some((begun, resumed)));
}

/// Whoever was taken over from, or comes after the end, saves nothing and hears of it.
pub async fn a_run_is_saved_by_its_last_holder_alone(fixture: &mut impl StoreFixture) {
    let (t, run, other) = (tenant("a"), run_id(1), Uuid::from_u128(2));
    let (begun, store) = (start(&t, run), fixture.store());
    let save = async |holder, step: u8| {
        store.save_checkpoint(&t, run, holder, &json!({ "step": step })).await.expect("save")
    };
    store.begin_run(&begun, HOLDER).await.expect("begin");
    assert!(save(HOLDER, 1).await);
    assert!(!save(other, 2).await, "it never began");
    let resumed = RunState::Resumed { checkpoint: Some(json!({"step": 1})) };
    assert_eq!(store.begin_run(&begun, other).await.expect("begin"), resumed);
    assert!(!save(HOLDER, 3).await, "it was taken over");
    assert!(save(other, 4).await);
    let resumed = RunState::Resumed { checkpoint: Some(json!({"step": 4})) };
    assert_eq!(store.begin_run(&begun, HOLDER).await.expect("begin"), resumed, "and back");
    assert!(save(HOLDER, 5).await);
    // The same run of another organization has holders of its own.
    let stranger = start(&tenant("b"), run);
    store.begin_run(&stranger, other).await.expect("begin");
    assert!(save(HOLDER, 6).await);
    assert!(store.finish_run(&t, run, &end("x"), None).await.expect("finish"));
    assert!(!save(HOLDER, 7).await, "it is over");
}

/// Nothing that comes late changes an end.
pub async fn a_finished_run_stays_as_it_ended(fixture: &mut impl StoreFixture) {
    let (t, run, store) = (tenant("a"), run_id(1), fixture.store());
    store.begin_run(&start(&t, run), HOLDER).await.expect("begin");
    assert!(store.finish_run(&t, run, &end("one"), None).await.expect("finish"));
    assert!(!store.finish_run(&t, run, &end("two"), None).await.expect("finish"));
    store.save_checkpoint(&t, run, HOLDER, &json!(1)).await.expect("save");
    let state = store.begin_run(&start(&t, run), HOLDER).await.expect("begin");
    assert_eq!(state, RunState::Finished(end("one")));
}

/// A run's turns are written with its end, once; a limit cuts the oldest.
pub async fn memory_is_appended_once_and_read_newest_last(fixture: &mut impl StoreFixture) {
    let (t, store) = (tenant("a"), fixture.store());
    let key = memory(&t);
    for n in 1..=3_u128 {
        let run = run_id(n);
        store.begin_run(&start(&t, run), HOLDER).await.expect("begin");
        let turns = [turn(&format!("q{n}")), turn(&format!("a{n}"))];
        for first in [true, false] {
            let ended = store.finish_run(&t, run, &end("x"), Some((&key, &turns))).await;
            assert_eq!(ended.expect("finish"), first);
        }
    }
    let texts = async |limit| {
        let turns = store.history(&key, limit).await.expect("history");
        turns.into_iter().map(|turn| turn.text).collect::<Vec<_>>()
    };
    assert_eq!(texts(10).await, ["q1", "a1", "q2", "a2", "q3", "a3"]);
    assert_eq!(texts(3).await, ["a2", "q3", "a3"]);
    let mut other = key.clone();
    other.session = "another".to_owned();
    assert!(store.history(&other, 10).await.expect("history").is_empty());
}

/// Of many at once exactly one begins.
pub async fn concurrent_begins_begin_once(fixture: &mut impl StoreFixture) {
    let (t, store) = (tenant("a"), fixture.store());
    let begun = start(&t, run_id(1));
    let states = join_all((0..50).map(|_| store.begin_run(&begun, HOLDER))).await;
    let new = states.iter().filter(|state| matches!(state, Ok(RunState::Begun))).count();
    assert_eq!(new, 1);
}

/// Fresh once; then unknown until it is finished; then what it was sent as.
pub async fn a_reply_is_claimed_once(fixture: &mut impl StoreFixture) {
    let (t, reply) = (tenant("a"), ReplyId(Uuid::from_u128(1)));
    let claim = async |fixture: &dyn StoreFixture| {
        fixture.store().begin_send(&t, reply, NOW_MS).await.expect("claim")
    };
    assert_eq!(claim(fixture).await, SendState::Fresh);
    assert_eq!(claim(fixture).await, SendState::Unknown);
    fixture.restart().await;
    assert_eq!(claim(fixture).await, SendState::Unknown);
    fixture.store().finish_send(&t, reply, Some("1.2")).await.expect("finish");
    assert_eq!(claim(fixture).await, SendState::Sent(Some("1.2".to_owned())));
}

/// Only a claim that sent nothing can be taken back.
pub async fn an_aborted_claim_can_be_claimed_again(fixture: &mut impl StoreFixture) {
    let (t, reply, store) = (tenant("a"), ReplyId(Uuid::from_u128(1)), fixture.store());
    for _ in 0..2 {
        let state = store.begin_send(&t, reply, NOW_MS).await.expect("claim");
        assert_eq!(state, SendState::Fresh);
        store.abort_send(&t, reply).await.expect("abort");
    }
    store.begin_send(&t, reply, NOW_MS).await.expect("claim");
    store.finish_send(&t, reply, None).await.expect("finish");
    store.abort_send(&t, reply).await.expect("abort");
    let state = store.begin_send(&t, reply, NOW_MS).await.expect("claim");
    assert_eq!(state, SendState::Sent(None));
}

pub(super) fn key(id: &str, tenant: Option<&TenantId>) -> ApiKey {
    ApiKey {
        id: id.to_owned(),
        hash: format!("hash-{id}"),
        tenant: tenant.cloned(),
        user: "U1".to_owned(),
        scopes: vec!["chat".to_owned()],
        created_at_ms: NOW_MS,
        expires_at_ms: None,
        revoked_at_ms: None,
    }
}

/// A revoked key is still found, with the time of its first revocation.
pub async fn keys_are_found_by_hash_and_revoked_once(fixture: &mut impl StoreFixture) {
    let (t, store) = (tenant("a"), fixture.store());
    let mut one = key("1", Some(&t));
    store.put_key(&one).await.expect("put");
    store.put_key(&key("op", None)).await.expect("put");
    assert_eq!(store.key_by_hash("hash-1").await.expect("get"), Some(one.clone()));
    assert_eq!(store.key_by_hash("hash-2").await.expect("get"), None);
    assert!(store.revoke_key(Some(&t), "1", NOW_MS + 1).await.expect("revoke"));
    assert!(store.revoke_key(Some(&t), "1", NOW_MS + 2).await.expect("revoke"));
    assert!(!store.revoke_key(Some(&t), "2", NOW_MS).await.expect("revoke"));
    one.revoked_at_ms = Some(NOW_MS + 1);
    assert_eq!(store.key_by_hash("hash-1").await.expect("get"), Some(one));
    assert_eq!(store.keys(None).await.expect("keys").len(), 2);
    assert!(store.revoke_key(None, "op", NOW_MS).await.expect("revoke"));
}

/// Nodes that start together make one operator's key; a revoked or expired one is replaced.
pub async fn the_first_operators_key_is_made_once(fixture: &mut impl StoreFixture) {
    let store = fixture.store();
    store.put_key(&key("tenants", Some(&tenant("a")))).await.expect("put");
    let makers = (0..8).map(|n| {
        let store = fixture.store();
        async move { store.put_first_key(&key(&format!("op{n}"), None)).await.expect("put") }
    });
    let made = futures_util::future::join_all(makers).await;
    assert_eq!(made.iter().filter(|made| **made).count(), 1, "{made:?}");
    let operators = async || {
        let keys = store.keys(None).await.expect("keys");
        keys.into_iter().filter(|key| key.tenant.is_none()).collect::<Vec<_>>()
    };
    let [only] = operators().await.try_into().expect("one key");
    assert!(store.revoke_key(None, &only.id, NOW_MS).await.expect("revoke"));
    let expiring = ApiKey { expires_at_ms: Some(NOW_MS + 10), ..key("second", None) };
    assert!(store.put_first_key(&expiring).await.expect("put"), "a revoked one does not count");
    let later = ApiKey { created_at_ms: NOW_MS + 10, ..key("third", None) };
    assert!(!store.put_first_key(&key("early", None)).await.expect("put"));
    assert!(store.put_first_key(&later).await.expect("put"), "an expired one does not count");
    assert_eq!(operators().await.len(), 3);
}

/// Known names, names known not to be, and later answers in place of earlier ones.
pub async fn channel_names_are_remembered(fixture: &mut impl StoreFixture) {
    let (t, store, slack) = (tenant("a"), fixture.store(), PlatformName::slack());
    let named = |name: Option<&str>, asked_at_ms| ChannelName {
        id: "C1".to_owned(),
        name: name.map(ToOwned::to_owned),
        asked_at_ms,
    };
    let channel = async || store.channel(&t, &slack, &instance(), "C1").await.expect("channel");
    assert_eq!(channel().await, None);
    for known in [named(Some("prod"), 1), named(Some("renamed"), 2), named(None, 3)] {
        let put = store.put_channels(&t, &slack, &instance(), std::slice::from_ref(&known)).await;
        put.expect("put");
        assert_eq!(channel().await, Some(known));
    }
}

/// Also after a restart; the later of two counts, and each key is its own.
pub async fn a_note_is_there_until_it_expires(fixture: &mut impl StoreFixture) {
    let (t, store) = (tenant("a"), fixture.store());
    let key = note_key(&t, "session");
    assert_eq!(store.note(&key, NOW_MS).await.expect("note"), None);
    for text in ["first", "second \0 \u{1f980}"] {
        let note = Note { value: Secret::new(text), expires_at_ms: NOW_MS + 10 };
        store.put_note(&key, &note, NOW_MS).await.expect("put");
    }
    assert_eq!(store.note(&note_key(&t, "other"), NOW_MS).await.expect("note"), None);
    drop(store);
    fixture.restart().await;
    let store = fixture.store();
    let found = store.note(&key, NOW_MS + 9).await.expect("note").expect("it is there");
    assert_eq!(found.value.expose(), "second \0 \u{1f980}");
    assert_eq!(store.note(&key, NOW_MS + 10).await.expect("note"), None, "it expired");
    let note = Note { value: Secret::new("third"), expires_at_ms: NOW_MS + 30 };
    store.put_note(&note_key(&t, "other"), &note, NOW_MS + 20).await.expect("put");
    assert_eq!(store.note(&key, NOW_MS).await.expect("note"), None, "it was deleted");
}

/// What people and platforms write: any character, any length.
pub async fn text_of_any_kind_comes_back_as_it_was(fixture: &mut impl StoreFixture) {
    let (t, store, slack) = (tenant("a"), fixture.store(), PlatformName::slack());
    for (n, text) in ["", "nul \0 end", "e\u{301} \u{1f980} \u{ffff}", &"long ".repeat(2_000)]
        .into_iter()
        .enumerate()
    {
        let n = u128::try_from(n).expect("small");
        let run = run_id(n);
        let key = MemoryKey { session: text.to_owned(), ..memory(&t) };
        store.begin_run(&start(&t, run), HOLDER).await.expect("begin");
        store.save_checkpoint(&t, run, HOLDER, &json!({"text": text})).await.expect("save");
        let resumed = RunState::Resumed { checkpoint: Some(json!({"text": text})) };
        assert_eq!(store.begin_run(&start(&t, run), HOLDER).await.expect("begin"), resumed);
        let turns = [turn(text)];
        store.finish_run(&t, run, &end(text), Some((&key, &turns))).await.expect("finish");
        let (_, state) = store.run(&t, run).await.expect("run").expect("it is there");
        assert_eq!(state, RunState::Finished(end(text)));
        assert_eq!(store.history(&key, 10).await.expect("history"), turns);
        let reply = ReplyId(Uuid::from_u128(n));
        store.begin_send(&t, reply, NOW_MS).await.expect("claim");
        store.finish_send(&t, reply, Some(text)).await.expect("finish");
        let sent = store.begin_send(&t, reply, NOW_MS).await.expect("claim");
        assert_eq!(sent, SendState::Sent(Some(text.to_owned())));
        let action = approved(&store, &t, action_id(n)).await;
        let at = Address { channel: text.to_owned(), ..address(&t) };
        store.set_posted(&t, action.id, &at, text).await.expect("posted");
        let ended = ActionEnd { status: ApprovalStatus::Executed, outcome: text.to_owned() };
        store.finish_action(&t, action.id, &ended).await.expect("finish");
        let found = store.approval_posted_as(&at, text).await.expect("get").expect("there");
        assert_eq!(found.action.id, action.id);
        assert_eq!((found.outcome.as_deref(), found.posted.as_deref()), (Some(text), Some(text)));
        let name = Some(text.to_owned());
        let channel = ChannelName { id: text.to_owned(), name, asked_at_ms: NOW_MS };
        let put = store.put_channels(&t, &slack, &instance(), std::slice::from_ref(&channel)).await;
        put.expect("put");
        let known = store.channel(&t, &slack, &instance(), text).await.expect("channel");
        assert_eq!(known, Some(channel));
    }
}
