//! Which account a signed request belongs to.

use aof_shared::ids::{InstanceName, PlatformName, TenantId};
use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::*;
use crate::platform::slack::Slack;
use crate::testing::sign;

const AT: u64 = 1_700_000_000;

/// One instance as `tenant/name/secret`, with settings.
fn instance(described: &str, settings: &Value) -> Arc<Instance> {
    let parts: Vec<_> = described.split('/').collect();
    let settings = settings.as_object().expect("an object").clone();
    Arc::new(Instance {
        name: InstanceName::new(parts[1]).expect("a plain name"),
        tenant: TenantId::new(parts[0]).expect("a plain name"),
        platform: PlatformName::slack(),
        bot_token: None,
        signing_secret: Some(Secret::new(parts[2])).filter(|s| !s.expose().is_empty()),
        api_base_url: None,
        needs_channel_names: false,
        settings: settings.into_iter().collect(),
    })
}

/// Who a request from `team`, signed with `secret`, is from: a name, `ambiguous` or `nobody`.
fn check(candidates: &[Arc<Instance>], (secret, team): (&str, &str), expected: &str) {
    let body = json!({ "type": "x", "authorizations": [{ "team_id": team }] }).to_string();
    let mut headers = HeaderMap::new();
    for (name, value) in sign(secret, AT, body.as_bytes()) {
        headers.insert(name, value.parse().expect("a header value"));
    }
    let signed =
        Signed { headers: &headers, event: None, body: body.as_bytes(), now_ms: AT * 1000 };
    let found = match authenticate(&Slack, candidates, &signed) {
        Authenticated::As(owners, _) => owners[0].name.to_string(),
        Authenticated::Ambiguous => "ambiguous".to_owned(),
        Authenticated::Nobody => "nobody".to_owned(),
    };
    assert_eq!(found, expected, "signed with {secret} for {team}");
}

#[test]
fn the_secret_that_verifies_names_the_instance() {
    let none = json!({});
    let both = [instance("a/one/s1", &none), instance("b/two/s2", &none)];
    check(&both, ("s1", "T1"), "one");
    check(&both, ("s2", "T1"), "two");
    check(&both, ("s3", "T1"), "nobody");
    check(&[instance("a/one/", &none)], ("", "T1"), "nobody");
    check(&[], ("s1", "T1"), "nobody");
}

#[test]
fn one_app_in_two_workspaces_goes_by_the_workspace_and_never_by_chance() {
    let none = json!({});
    let shared = [instance("a/one/s", &none), instance("b/two/s", &none)];
    check(&shared, ("s", "T1"), "ambiguous");
    let pinned = [
        instance("a/one/s", &json!({ "team_id": "T1" })),
        instance("b/two/s", &json!({ "team_id": "T2" })),
    ];
    check(&pinned, ("s", "T1"), "one");
    check(&pinned, ("s", "T2"), "two");
    check(&pinned, ("s", "T3"), "nobody");
    let half = [instance("a/one/s", &json!({ "team_id": "T1" })), instance("b/two/s", &none)];
    check(&half, ("s", "T1"), "one");
    check(&half, ("s", "T9"), "two");
    let same = [instance("a/one/s", &none), instance("a/other/s", &none)];
    check(&same, ("s", "T1"), "one");
}

#[test]
fn a_pinned_instance_takes_no_other_workspace_even_alone() {
    let alone = [instance("a/one/s", &json!({ "team_id": "T1" }))];
    check(&alone, ("s", "T1"), "one");
    check(&alone, ("s", "T2"), "nobody");
}

#[test]
fn the_work_for_one_request_is_bounded() {
    let many: Vec<_> = (0..100).map(|n| instance(&format!("a/i{n}/s{n}"), &json!({}))).collect();
    check(&many, ("s0", "T1"), "i0");
    check(&many, (&format!("s{}", MAX_SECRETS_TRIED - 1), "T1"), "i15");
    check(&many, (&format!("s{MAX_SECRETS_TRIED}"), "T1"), "nobody");
}
