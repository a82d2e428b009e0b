//! Which flow and agent win, and that the index finds what a full scan finds.

use std::sync::Arc;

use aof_shared::config::Daemon;
use aof_shared::ids::TenantId;
use aof_shared::message::{Message, MessageKind, Priority, User};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::{Miss, Table};
use crate::channel::Naming;
use crate::explain::explain;
use crate::fixture::{
    NewFlow, flow, message, platform, snapshot, table, tenant, with_default_agent,
};
use crate::score::{Request, score};
use crate::select::scan;

fn decide(table: &Table, message: &Message) -> Result<(String, String), Miss> {
    let decision = table.decide(&Request::new(message, Naming::Unresolved));
    decision.verdict.map(|r| (r.flow.as_str().to_owned(), r.agent.as_str().to_owned()))
}

fn check_agent(text: &str, expected: &str) {
    let table = table(vec![
        flow("prod-k8s-flow")
            .agent("k8s-ops", &["kubectl", "k8s", "pod", "deploy", "scale"])
            .agent("incident-responder", &["incident", "outage", "alert", "pagerduty"])
            .critical()
            .agent("helper", &[]),
    ]);
    let found = decide(&table, &message(text));
    assert_eq!(found, Ok(("prod-k8s-flow".into(), expected.into())), "{text}");
}

#[test]
fn the_first_agent_with_a_fitting_pattern_works() {
    check_agent("scale deploy", "k8s-ops");
    check_agent("Restart the PODs", "k8s-ops");
    check_agent("outage", "incident-responder");
    check_agent("Outage!", "incident-responder");
    check_agent("an outage of a pod", "k8s-ops");
    check_agent("what is the weather", "helper");
}

#[test]
fn without_a_fitting_agent_the_first_one_works() {
    let flows = vec![flow("f").agent("a", &["x"]).agent("b", &["y"])];
    assert_eq!(decide(&table(flows), &message("none")), Ok(("f".into(), "a".into())));
    let empty = table(vec![flow("f")]);
    assert_eq!(decide(&empty, &message("m")), Ok(("f".into(), "general-assistant".into())));
}

#[test]
fn priority_is_the_chosen_agents() {
    let table = table(vec![flow("f").agent("a", &["slow"]).agent("b", &["outage"]).critical()]);
    for (text, priority) in [("slow", Priority::Normal), ("outage", Priority::Critical)] {
        let message = message(text);
        let decision = table.decide(&Request::new(&message, Naming::Nameless));
        assert_eq!(decision.verdict.map(|r| r.priority), Ok(priority));
    }
}

#[test]
fn ties_go_to_the_first_in_load_order() {
    // 100 = channel alone = platform + pattern.
    let flows = || {
        vec![
            flow("words").on("slack").patterns(&["go"]).agent("a", &[]),
            flow("place").channels(&["C0PROD111"]).agent("a", &[]),
        ]
    };
    assert_eq!(decide(&table(flows()), &message("go")), Ok(("words".into(), "a".into())));
    let mut reversed = flows();
    reversed.reverse();
    assert_eq!(decide(&table(reversed), &message("go")), Ok(("place".into(), "a".into())));
}

#[test]
fn a_message_without_a_flow_goes_where_the_daemon_says() {
    let none = Daemon::default();
    let strict = Daemon { strict_mode: true, ..with_default_agent() };
    let default = Ok(("_default".to_owned(), "general-assistant".to_owned()));
    let mut chatter = message("hi");
    chatter.kind = MessageKind::Message;
    let mut direct = chatter.clone();
    direct.channel.direct = true;
    let mut chat = chatter.clone();
    chat.platform = platform("chat");
    for (daemon, message, expected) in [
        (with_default_agent(), &message("hi"), default.clone()),
        (with_default_agent(), &direct, default.clone()),
        (with_default_agent(), &chat, default),
        (with_default_agent(), &chatter, Err(Miss::Chatter)),
        (none, &message("hi"), Err(Miss::NoDefault)),
        (strict.clone(), &message("hi"), Err(Miss::Strict)),
        (strict, &chatter, Err(Miss::Chatter)),
    ] {
        let table = Table::build(Arc::new(snapshot(Vec::new(), daemon)), None);
        assert_eq!(decide(&table, message), expected, "{message:?}");
    }
}

#[test]
fn who_asks_for_an_agent_gets_it_from_a_flow_that_has_it_or_not_at_all() {
    let table = table(vec![
        flow("best").on("slack").channels(&["C0PROD111"]).agent("a", &[]),
        flow("has-it").on("slack").agent("a", &[]).agent("b", &["other"]),
        flow("elsewhere").on("discord").agent("c", &[]),
    ]);
    let asked = |name: &str| {
        let (message, name) = (message("m"), name.parse().expect("a valid name"));
        let request = Request::new(&message, Naming::Nameless).pinned_to(Some(&name));
        table.decide(&request).verdict.map(|r| r.flow.as_str().to_owned())
    };
    assert_eq!(asked("a"), Ok("best".into()));
    assert_eq!(asked("b"), Ok("has-it".into()));
    assert_eq!(asked("general-assistant"), Ok("_default".into()));
    assert_eq!(asked("c"), Err(Miss::UnknownAgent));
    assert_eq!(asked("nobody"), Err(Miss::UnknownAgent));
}

#[test]
fn a_decision_hangs_on_a_name_only_where_it_could_change_it() {
    let named = || flow("f").on("slack").channels(&["production"]).users(&["U1"]);
    let hangs = |flows: Vec<NewFlow>, message: &Message| {
        table(flows).hangs_on_name(&Request::new(message, Naming::Unresolved))
    };
    assert!(hangs(vec![named()], &message("m")));
    assert!(!hangs(vec![flow("f").channels(&["C0PROD111"])], &message("m")));
    assert!(!hangs(vec![named().users(&["U2"])], &message("m")));
    assert!(!hangs(vec![named().on("discord")], &message("m")));
    assert!(!hangs(vec![named().channels(&["production", "C0PROD111"])], &message("m")));
    assert!(!hangs(vec![named().of("org-a")], &message("m")));
}

#[test]
fn a_reload_keeps_what_did_not_change() {
    let flows = |word| {
        vec![
            flow("a").of("org-a").patterns(&["(x|y)+ same"]),
            flow("b").of("org-b").patterns(&[word]),
        ]
    };
    let first = Table::build(Arc::new(snapshot(flows("(old)+"), Daemon::default())), None);
    let second = Table::build(Arc::new(snapshot(flows("(new)+"), Daemon::default())), Some(&first));
    let same = |name| Arc::ptr_eq(&first.tenants[&tenant(name)], &second.tenants[&tenant(name)]);
    assert!(same("org-a"));
    assert!(!same("org-b"));
    drop(first);
    let third = Table::build(second.snapshot.clone(), Some(&second));
    assert!(!format!("{:?}", third.patterns).contains("(old)+"), "old patterns are forgotten");
}

#[test]
fn a_hostile_pattern_costs_its_own_tenant_nothing_it_could_notice() {
    let hostile = [r"(\w{50}){50}", "(", "(a*)*z", "(x+x+)+y", "(?:[ab]*a[ab]{60})c"];
    let table = table(vec![flow("h").patterns(&hostile), flow("ok").agent("a", &[])]);
    let long = "ab".repeat(50_000);
    assert_eq!(decide(&table, &message(&long)), Ok(("ok".into(), "a".into())));
}

#[test]
fn the_explanation_tells_every_flow_and_agrees_with_the_decision() {
    let table = table(vec![
        flow("wins").on("slack").patterns(&["go"]).agent("a", &[]),
        flow("ties").channels(&["C0PROD111"]),
        flow("loses").on("slack"),
        flow("names").on("slack").channels(&["production"]),
        flow("broken").patterns(&["("]).users(&["U2"]),
        flow("foreign").of("org-a"),
    ]);
    let message = message("go");
    let told = explain(&table, &Request::new(&message, Naming::Unresolved));
    let lines: Vec<_> = told.flows.iter().map(|f| (&*f.flow, f.score, &*f.verdict)).collect();
    assert_eq!(
        lines,
        [
            ("wins", 100, "selected"),
            ("ties", 100, "lost the tie at 100: another flow was loaded first"),
            ("loses", 40, "lost: 40 is less than 100"),
            ("names", 0, "excluded: channel not matched (the channel's name is not known)"),
            ("broken", 0, "excluded: user and pattern not matched"),
        ]
    );
    assert_eq!(told.selected.map(|s| (s.flow, s.agent)), Some(("wins".into(), "a".into())));
    assert!(told.flows[4].filters[5].wants.contains("not a regular expression"));
}

#[test]
fn the_index_lists_as_many_as_a_scan_when_scores_tie_and_flows_match_twice() {
    // 100 by words, 100 by place, in turn; then 140 by id and by name at once.
    let words = || flow("w").on("slack").patterns(&["go"]);
    let tied =
        || (0..24).map(|n| if n % 2 == 0 { words() } else { flow("p").channels(&["C0PROD111"]) });
    let twice = || (0..6).map(|_| flow("t").on("slack").channels(&["C0PROD111", "production"]));
    for flows in [tied().collect(), tied().chain(twice()).collect::<Vec<_>>()] {
        let (table, message) = (table(flows), message("go"));
        let request = Request::new(&message, Naming::Named("production"));
        let orders = |list: Vec<crate::select::Candidate<'_>>| -> Vec<usize> {
            list.iter().map(|c| c.order).collect()
        };
        let scanned = orders(scan(table.flows(&message.tenant), &request));
        assert_eq!(scanned.len(), crate::select::MAX_CANDIDATES);
        assert_eq!(orders(table.candidates(&request)), scanned);
    }
}

// Small alphabets, so that filters match often and scores tie.
const CHANNELS: [&str; 5] = ["C0PROD111", "C0TEST222", "production", "#production", "staging"];
const PATTERNS: [&str; 8] =
    ["deploy", "^scale", "pod|node", "(?i)OUT.GE", r"\d+", ".", "a{2}", "prod.*now"];
const WORDS: [&str; 8] = ["deploy", "scale", "pod", "outage", "42", "aa", "prod", "now"];
const KINDS: [MessageKind; 2] = [MessageKind::Mention, MessageKind::Message];

fn some_flow() -> impl Strategy<Value = NewFlow> {
    let place = (
        select(vec!["default", "org-a"]),
        proptest::option::of(select(vec!["slack", "discord"])),
        subsequence(CHANNELS.to_vec(), 0..=2),
    );
    let rest = (
        subsequence(vec!["U1", "U2"], 0..=1),
        subsequence(PATTERNS.to_vec(), 0..=2),
        subsequence(KINDS.to_vec(), 0..=1),
    );
    (place, rest).prop_map(|((of, on, channels), (users, patterns, kinds))| {
        let new = flow("f").of(of).channels(&channels).users(&users).patterns(&patterns);
        let new = new.events(&kinds);
        if let Some(on) = on { new.on(on) } else { new }
    })
}

fn some_message() -> impl Strategy<Value = (Message, Naming<'static>)> {
    let naming =
        select(vec![Naming::Named("production"), Naming::Named("staging"), Naming::Unresolved]);
    let ids = select(vec![("U1", ""), ("U2", ""), ("U7", "U2"), ("U1", "U2")]);
    let who = (ids, select(vec!["slack", "discord"]), select(KINDS.to_vec()));
    (proptest::collection::vec(select(WORDS.to_vec()), 0..5), who, naming).prop_map(
        |(words, ((user, alias), on, kind), naming)| {
            let mut message = message(&words.join(" "));
            message.user = User::new(user).known_as([alias.to_owned()]);
            message.platform = platform(on);
            message.kind = kind;
            (message, naming)
        },
    )
}

fn copy(flows: &[NewFlow]) -> Vec<NewFlow> {
    let numbered = flows.iter().enumerate().map(|(number, new)| {
        let mut new = NewFlow(new.0.clone());
        new.0.name = format!("f{number}").parse().expect("a valid name");
        new
    });
    numbered.collect()
}

proptest! {
    #[test]
    fn the_index_finds_what_a_full_scan_finds(
        flows in proptest::collection::vec(some_flow(), 0..40),
        (message, naming) in some_message(),
    ) {
        let table = table(copy(&flows));
        let request = Request::new(&message, naming);
        let short = |list: Vec<crate::select::Candidate<'_>>| -> Vec<(usize, u32)> {
            list.iter().map(|c| (c.order, c.score)).collect()
        };
        let scanned = short(scan(table.flows(&message.tenant), &request));
        prop_assert_eq!(short(table.candidates(&request)), scanned);
    }

    #[test]
    fn order_decides_nothing_but_ties(
        flows in proptest::collection::vec(some_flow(), 1..20),
        (message, naming) in some_message(),
    ) {
        let request = Request::new(&message, naming);
        let forward = table(copy(&flows));
        let mut reversed = copy(&flows);
        reversed.reverse();
        let backward = table(reversed);
        let best = |table: &Table| table.candidates(&request).first().map(|c| c.score);
        prop_assert_eq!(best(&forward), best(&backward));
        let again = table(copy(&flows));
        let first = |table: &Table| table.candidates(&request).first().map(|c| c.order);
        prop_assert_eq!(first(&forward), first(&again));
    }

    #[test]
    fn a_matching_filter_never_lowers_the_score_and_a_failing_one_excludes(
        base in some_flow(),
        (message, naming) in some_message(),
    ) {
        let request = Request::new(&message, naming);
        let scored = |new: NewFlow| {
            let table = table(vec![new]);
            table.flows(&message.tenant).first().and_then(|f| score(f, &request))
        };
        let copied = || NewFlow(base.0.clone());
        if let Some(before) = scored(copied()) {
            let user = message.user.id.as_str();
            for narrowed in [
                copied().on(message.platform.as_str()),
                copied().channels(&["C0PROD111"]),
                copied().users(&[user]),
                copied().patterns(&[""]),
                copied().events(&[message.kind]),
            ] {
                let after = scored(narrowed);
                prop_assert!(after.is_some_and(|a| a >= before), "{before} {after:?}");
            }
        }
        for excluding in [
            copied().on("telegram"),
            copied().channels(&["C0NEVER99"]),
            copied().users(&["U9"]),
            copied().patterns(&["never in there"]),
            copied().events(&[MessageKind::Alert]),
            copied().account("another"),
            copied().of("org-z"),
        ] {
            prop_assert_eq!(scored(excluding), None);
        }
    }

    #[test]
    fn no_flow_of_another_tenant_is_ever_a_candidate(
        flows in proptest::collection::vec(some_flow(), 0..40),
        (message, naming) in some_message(),
    ) {
        let table = table(copy(&flows));
        for name in ["default", "org-a", "org-b"] {
            let mut message = message.clone();
            message.tenant = TenantId::new(name).expect("a valid name");
            let found = table.candidates(&Request::new(&message, naming));
            prop_assert!(found.iter().all(|c| c.flow.flow().tenant == message.tenant));
        }
    }
}
