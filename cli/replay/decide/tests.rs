//! What moves, what is lost, what the guard says now; and that nothing differs from itself.

use aof_router::channel::Known;
use aof_shared::config::{
    Agent, Approval, ApprovalChain, ApprovalMode, Flow, FlowAgent, RecordedConfig, Runtime,
    Snapshot,
};
use aof_shared::ids::{InstanceName, PlatformName};
use aof_shared::message::{Channel, Message, MessageKind, Priority, User};
use uuid::Uuid;

use super::*;
use crate::replay::report::Report;

fn name(text: &str) -> AgentName {
    AgentName::new(text).expect("a plain name")
}

fn tenant() -> TenantId {
    TenantId::new("org-a").expect("a plain name")
}

/// A flow on `channel` whose agent lists `tools`, with `people` who must agree.
fn flow(title: &str, channel: &str, people: u32) -> Flow {
    let mut flow = Flow::new(tenant(), FlowName::new(title).expect("a plain name"));
    flow.trigger.channels = vec![channel.to_owned()];
    flow.agents = vec![FlowAgent {
        name: name("ops"),
        patterns: Vec::new(),
        priority: Priority::Normal,
        tools: None,
        tool_config: Default::default(),
    }];
    if people > 0 {
        let approvers = vec!["U1".to_owned(), "U2".to_owned()];
        let chain = ApprovalChain { name: "default".to_owned(), approvers, require: people };
        flow.approval =
            Approval { mode: ApprovalMode::Required, chains: vec![chain], ..Approval::default() };
    }
    flow
}

fn snapshot(flows: Vec<Flow>, tools: &[&str]) -> Snapshot {
    let mut agent = Agent::new(name("ops"));
    agent.runtime = Runtime::Command;
    agent.tools = tools.iter().map(|tool| (*tool).to_owned()).collect();
    let mut snapshot = Snapshot::default();
    snapshot.agents.insert(name("ops"), Arc::new(agent));
    snapshot.flows = flows.into_iter().map(Arc::new).collect();
    snapshot
}

fn input(number: u128, text: &str) -> Input {
    let message = Message {
        id: MessageId(Uuid::from_u128(number)),
        tenant: tenant(),
        instance: InstanceName::new("main").expect("a plain name"),
        platform: PlatformName::slack(),
        kind: MessageKind::Mention,
        channel: Channel { id: "C0000001".to_owned(), name: None, direct: false },
        thread: None,
        reply_to: None,
        user: User::new("U1"),
        text: text.to_owned(),
        media: Vec::new(),
        event_id: number.to_string(),
        conversation: "C0000001".to_owned(),
        sent_at_ms: 0,
        received_at_ms: 0,
        raw: String::new(),
    };
    Input { seq: u64::try_from(number).expect("small"), agent: None, message }
}

/// What a router that knew the channel as `production` recorded under `snapshot`.
fn recorded(snapshot: &Snapshot, input: &Input) -> Decision {
    let config = RecordedConfig::of(snapshot, &snapshot.flows).digest();
    let rules = Rules::new(snapshot.clone());
    let side = rules.decide(input, aof_router::channel::Naming::Named("production"));
    Decision {
        candidates: side.candidates,
        channel_name: Some("production".to_owned()),
        naming: Some(Known::Named),
        config: Some(config),
        inbound_seq: Some(input.seq),
        flow: side.flow,
        agent: side.agent,
        score: side.score,
        reason: side.reason,
    }
}

/// What `command` was judged under `snapshot`, in its first flow.
fn judged(snapshot: &Snapshot, command: &str) -> Judged {
    let argv: Vec<String> = command.split(' ').map(str::to_owned).collect();
    let flow = &snapshot.flows[0];
    let rules = Rules::new(snapshot.clone());
    let verdict = rules.judge(&tenant(), (&flow.name, &name("ops")), &argv).verdict;
    Judged::new(argv, verdict, flow)
}

/// Decides `commands`, each a message, as recorded under `was`, again under `against`.
fn again(was: &Snapshot, against: &Against, commands: &[&str]) -> Report {
    let mut decider = Decider::new(against, &tenant(), 100);
    for (number, command) in (1..).zip(commands) {
        let input = input(number, command);
        let about = || (input.message.id, "2026-01-01T00:00:00.000Z".to_owned());
        let decision = recorded(was, &input);
        decider.decision(about(), &decision, Some(&input));
        if decision.flow.is_some() {
            decider.command(about(), &judged(was, command));
        }
    }
    decider.finish()
}

fn one(snapshot: Snapshot) -> Against {
    Against::One(Box::new(Rules::new(snapshot)))
}

const COMMANDS: [&str; 3] = ["kubectl get pods", "kubectl delete pod x", "helm list"];

#[test]
fn what_is_decided_again_under_its_own_configuration_differs_in_nothing() {
    let was = snapshot(vec![flow("prod", "production", 2)], &["kubectl"]);
    let document = RecordedConfig::of(&was, &was.flows);
    let config = document.digest();
    let rules = Rules::new(document.snapshot(&tenant()));
    let against = Against::Recorded(HashMap::from([(config, rules)]));
    let report = again(&was, &against, &COMMANDS);
    assert_eq!(report.total(), 0, "{report:?}");
    let coverage = &report.coverage;
    assert_eq!((coverage.decisions, coverage.covered), (3, 3), "{coverage:?}");
    assert_eq!((coverage.commands, coverage.commands_covered), (3, 3), "{coverage:?}");
}

#[test]
fn an_edit_shows_what_moves_and_what_becomes_of_commands() {
    let was = snapshot(vec![flow("prod", "production", 2)], &["kubectl"]);
    let check = |now: Snapshot, expected: &[(Change, u64)]| {
        let report = again(&was, &one(now), &COMMANDS);
        let found: Vec<_> = report.differences.iter().map(|(c, n)| (*c, *n)).collect();
        assert_eq!(found, expected, "{report:?}");
        assert_eq!(report.listed.len() as u64, report.total());
        report
    };
    let lost =
        check(snapshot(vec![flow("prod", "staging", 2)], &["kubectl"]), &[(Change::Lost, 3)]);
    let nowhere = "its_message_goes_nowhere";
    assert_eq!(lost.coverage.commands_uncovered.get(nowhere), Some(&3));
    let moved = snapshot(vec![flow("other", "production", 2)], &["kubectl"]);
    let moved = check(moved, &[(Change::Moved, 3)]);
    assert_eq!(moved.moves.get("prod/ops → other/ops"), Some(&3));
    assert_eq!(moved.listed[0].before.candidates[0].flow.as_str(), "prod");
    assert_eq!(moved.listed[0].after.candidates[0].flow.as_str(), "other");
    assert_eq!(moved.listed[0].table[0].verdict, "selected");
    let command = moved.listed[1].command.as_ref().expect("the message is a command");
    assert_eq!(command.after.verdict.name(), "hold");
    let fewer = snapshot(vec![flow("prod", "production", 1)], &["kubectl"]);
    let fewer = check(fewer, &[(Change::FewerApprovers, 1)]);
    assert_eq!(fewer.loosened(), 1);
    let listed = snapshot(vec![flow("prod", "production", 2)], &["kubectl", "helm"]);
    assert_eq!(check(listed, &[(Change::NewlyAllowed, 1)]).loosened(), 1);
    let unlisted = snapshot(vec![flow("prod", "production", 2)], &["helm"]);
    check(unlisted, &[(Change::NewlyRefused, 2), (Change::NewlyAllowed, 1)]);
    let mut held = flow("prod", "production", 2);
    held.approval.require_for = vec!["kubectl get".to_owned()];
    check(snapshot(vec![held], &["kubectl"]), &[(Change::NewlyHeld, 1)]);
}

#[test]
fn a_message_that_nobody_took_may_find_a_flow() {
    let was = snapshot(vec![flow("prod", "staging", 2)], &["kubectl"]);
    let now = one(snapshot(vec![flow("prod", "production", 2)], &["kubectl"]));
    let report = again(&was, &now, &["kubectl get pods"]);
    assert_eq!(report.differences.get(&Change::Found), Some(&1), "{report:?}");
}

#[test]
fn what_cannot_be_decided_again_is_counted_with_the_reason() {
    let was = snapshot(vec![flow("prod", "production", 2)], &["kubectl"]);
    let against = one(was.clone());
    let mut decider = Decider::new(&against, &tenant(), 100);
    let input = input(1, "kubectl get pods");
    let decision = recorded(&was, &input);
    let about = || (input.message.id, String::new());
    decider.decision(about(), &decision, None);
    let old = Decision { inbound_seq: None, ..decision.clone() };
    decider.decision(about(), &old, Some(&input));
    let unasked = Decision { naming: Some(Known::Unasked), channel_name: None, ..decision };
    decider.decision(about(), &unasked, Some(&input));
    decider.command(about(), &judged(&was, "kubectl get pods"));
    let masked = Judged { masked: true, ..judged(&was, "kubectl get pods") };
    decider.command(about(), &masked);
    let coverage = decider.finish().coverage;
    assert_eq!((coverage.decisions, coverage.covered), (3, 0));
    let why: Vec<_> = coverage.uncovered.keys().copied().collect();
    let expected = [
        "channel_name_was_never_asked_for",
        "made_by_an_earlier_version",
        "message_no_longer_kept",
    ];
    assert_eq!(why, expected);
    let why: Vec<_> = coverage.commands_uncovered.keys().copied().collect();
    assert_eq!(why, ["a_secret_was_taken_out", "its_decision_is_not_covered"]);
}

#[test]
fn a_configuration_that_was_not_recorded_is_not_guessed() {
    let was = snapshot(vec![flow("prod", "production", 2)], &["kubectl"]);
    let report = again(&was, &Against::Recorded(HashMap::new()), &["kubectl get pods"]);
    assert_eq!(report.coverage.uncovered.get("configuration_not_recorded"), Some(&1));
}
