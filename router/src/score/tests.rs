//! Golden scores: 001's patterns and weights, message by message.

use aof_shared::message::{Message, MessageKind, User};

use crate::channel::Naming;
use crate::fixture::{NewFlow, flow, message, platform, table, tenant};
use crate::score::{Request, score};
use crate::table::Table;

/// 001's flows: channels, users, patterns, platforms, and a catch-all.
fn flows() -> Vec<NewFlow> {
    let mention = [MessageKind::Mention];
    let both = [MessageKind::Mention, MessageKind::Message];
    vec![
        flow("prod-k8s-flow").on("slack").events(&both).channels(&["production", "prod-alerts"]),
        flow("staging-dev-flow").on("slack").events(&both).channels(&["#staging"]),
        flow("admin-only-flow").on("slack").events(&mention).users(&["U015ADMIN", "U016ADMIN"]),
        flow("developer-flow").on("slack").events(&mention),
        flow("incident-flow").on("slack").events(&mention).patterns(&[
            "^(incident|outage|alert|page)",
            "CRITICAL|HIGH|URGENT",
            "PagerDuty|OpsGenie",
        ]),
        flow("shared-assistant-telegram").on("telegram"),
        flow("any-platform-words").patterns(&["deploy"]),
        flow("everything")
            .channels(&["C0PROD111"])
            .users(&["U015ADMIN"])
            .on("slack")
            .patterns(&["."]),
        flow("catch-all"),
        flow("org-a-flow").of("org-a").on("slack"),
        flow("one-account").account("other"),
    ]
}

/// Scores in the order of [`flows`]; 0 stands for excluded.
fn check(message: &Message, naming: Naming<'_>, expected: [u32; 11]) {
    let table: Table = table(flows());
    let request = Request::new(message, naming);
    let default = table.flows(&tenant("default"));
    let org_a = table.flows(&tenant("org-a"));
    let in_order = default.iter().take(9).chain(org_a).chain(default.iter().skip(9));
    let scores: Vec<u32> = in_order.map(|flow| score(flow, &request).unwrap_or(0)).collect();
    assert_eq!(scores, expected, "{message:?} {naming:?}");
}

fn by(user: &str, text: &str) -> Message {
    let mut message = message(text);
    message.user = User::new(user);
    message
}

#[test]
fn matched_weights_add_up_and_unmatched_filters_exclude() {
    let named = Naming::Named;
    let hello = by("U1", "hello");
    check(&hello, named("production"), [140, 0, 0, 40, 0, 0, 0, 0, 10, 0, 0]);
    check(&hello, named("staging"), [0, 140, 0, 40, 0, 0, 0, 0, 10, 0, 0]);
    check(&hello, named("random"), [0, 0, 0, 40, 0, 0, 0, 0, 10, 0, 0]);
    check(&hello, Naming::Unresolved, [0, 0, 0, 40, 0, 0, 0, 0, 10, 0, 0]);
    let admin = by("U015ADMIN", "hello");
    check(&admin, named("random"), [0, 0, 120, 40, 0, 0, 0, 280, 10, 0, 0]);
    let outage = by("U1", "outage in prod");
    check(&outage, named("random"), [0, 0, 0, 40, 100, 0, 0, 0, 10, 0, 0]);
    check(&by("U1", "it is URGENT"), named("x"), [0, 0, 0, 40, 100, 0, 0, 0, 10, 0, 0]);
    check(&by("U1", "urgently"), named("x"), [0, 0, 0, 40, 0, 0, 0, 0, 10, 0, 0]);
    check(&by("U1", "  outage"), named("x"), [0, 0, 0, 40, 100, 0, 0, 0, 10, 0, 0]);
    check(&by("U1", "deploy"), named("production"), [140, 0, 0, 40, 0, 0, 60, 0, 10, 0, 0]);
}

#[test]
fn events_and_accounts_only_exclude() {
    let mut chatter = by("U1", "hello");
    chatter.kind = MessageKind::Message;
    check(&chatter, Naming::Named("production"), [140, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0]);
    chatter.instance = "other".parse().expect("a valid name");
    check(&chatter, Naming::Nameless, [0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 10]);
}

#[test]
fn platforms_and_tenants_stay_apart() {
    let mut telegram = by("U1", "deploy it");
    telegram.platform = platform("telegram");
    check(&telegram, Naming::Nameless, [0, 0, 0, 0, 0, 40, 60, 0, 10, 0, 0]);
    let mut foreign = by("U015ADMIN", "outage deploy");
    foreign.tenant = tenant("org-a");
    check(&foreign, Naming::Named("production"), [0, 0, 0, 0, 0, 0, 0, 0, 0, 40, 0]);
}

#[test]
fn patterns_see_the_start_of_a_long_text_only() {
    let table = table(vec![flow("end").patterns(&["needle"])]);
    let scored = |text: String| {
        let message = message(&text);
        table.candidates(&Request::new(&message, Naming::Nameless)).len()
    };
    assert_eq!(scored(format!("{}needle", "é".repeat(1_000))), 1);
    assert_eq!(scored(format!("{}needle", "é".repeat(8_000))), 0);
}
