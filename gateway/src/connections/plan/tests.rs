//! Who wants a connection, and which.

use aof_shared::secret::Secret;
use serde_json::json;

use super::*;
use crate::platform::contract::account;

fn bot(name: &str, token: Option<&str>, settings: &serde_json::Value) -> Arc<Instance> {
    let mut instance = account("discord", "key", settings);
    instance.name = name.parse().expect("a name");
    instance.tenant = name.parse().expect("a name");
    instance.bot_token = token.map(Secret::new);
    Arc::new(instance)
}

fn flow(tenant: &str, change: impl FnOnce(&mut Flow)) -> Arc<Flow> {
    let mut flow = Flow::new(tenant.parse().expect("a name"), "ops".parse().expect("a name"));
    change(&mut flow);
    Arc::new(flow)
}

fn planned(instances: Vec<Arc<Instance>>, flows: Vec<Arc<Flow>>) -> Vec<(String, Intents)> {
    let wanted = wanted(&Snapshot { instances, flows, ..Snapshot::default() });
    let mut planned: Vec<_> =
        wanted.iter().map(|w| (w.instance.name.to_string(), w.intents)).collect();
    planned.sort_by(|a, b| a.0.cmp(&b.0));
    planned
}

#[test]
fn only_what_flows_want_is_asked_for() {
    let listening = Intents::GUILDS | Intents::GUILD_MESSAGES | Intents::DIRECT_MESSAGES;
    let reacting = Intents::GUILD_MESSAGE_REACTIONS | Intents::DIRECT_MESSAGE_REACTIONS;
    let events = |kinds: &[MessageKind]| {
        let kinds = kinds.to_vec();
        move |flow: &mut Flow| flow.trigger.events = kinds
    };
    for (flows, expected) in [
        (vec![], None),
        (vec![flow("a", |_| {})], Some(listening | Intents::MESSAGE_CONTENT)),
        (vec![flow("a", events(&[MessageKind::Mention]))], Some(listening)),
        (vec![flow("a", events(&[MessageKind::Command]))], None),
        (vec![flow("b", |_| {})], None),
        (vec![flow("a", |f| f.trigger.platform = Some("slack".parse().expect("one")))], None),
        (
            vec![flow("a", |f| {
                f.trigger.events = vec![MessageKind::Command];
                f.approval.mode = ApprovalMode::Required;
            })],
            Some(Intents::GUILDS | reacting),
        ),
    ] {
        let planned = planned(vec![bot("a", Some("t"), &json!({}))], flows.clone());
        let expected: Vec<_> = expected.into_iter().map(|i| ("a".to_owned(), i)).collect();
        assert_eq!(planned, expected, "{flows:?}");
    }
    let none = planned(vec![bot("a", None, &json!({}))], vec![flow("a", |_| {})]);
    assert!(none.is_empty(), "without a token there is nobody to connect");
}

#[test]
fn a_bot_of_several_tenants_is_connected_only_where_servers_tell_them_apart() {
    let flows = || vec![flow("a", |_| {}), flow("b", |_| {})];
    let of = |a: serde_json::Value, b: serde_json::Value| {
        vec![bot("a", Some("t"), &a), bot("b", Some("t"), &b)]
    };
    let names = |instances| -> Vec<String> {
        planned(instances, flows()).into_iter().map(|(name, _)| name).collect()
    };
    assert!(names(of(json!({}), json!({}))).is_empty());
    assert!(names(of(json!({"guild_ids": ["1"]}), json!({}))).is_empty());
    let apart = of(json!({"guild_ids": ["1"]}), json!({"guild_ids": ["2"]}));
    assert_eq!(names(apart), ["a", "b"]);
}
