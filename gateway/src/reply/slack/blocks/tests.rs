//! What people see in each state, as snapshots; what a command cannot do to the card.

use aof_shared::action::{Quorum, RecordedVote};
use aof_shared::ids::{ActionId, AgentName, FlowName, PlatformName};
use uuid::Uuid;

use super::*;

pub(crate) fn view(status: ApprovalStatus) -> ApprovalView {
    ApprovalView {
        id: ActionId(Uuid::from_u128(7)),
        requester: Identity::new(PlatformName::slack(), "U015DEV01"),
        argv: ["kubectl", "delete", "pod", "web 1"].map(str::to_owned).to_vec(),
        target: "cluster prod-us-east-1, namespace default, in /srv/work".to_owned(),
        flow: FlowName::new("prod-k8s-flow").expect("a name"),
        agent: AgentName::new("k8s-ops").expect("a name"),
        rule: "kubectl delete".to_owned(),
        quorum: Quorum {
            chain: "critical".to_owned(),
            approvers: vec!["U015LEAD".to_owned(), "alice@example.org".to_owned()],
            require: 2,
            self_approval: SelfApproval::Never,
        },
        votes: Vec::new(),
        missing: 2,
        status,
        expires_at_ms: 1_705_314_600_000,
        digest: "0123456789ab".to_owned(),
        outcome: None,
        version: 1,
    }
}

fn vote(user: &str, choice: Choice, reason: Option<&str>) -> RecordedVote {
    RecordedVote {
        voter: Identity::new(PlatformName::slack(), user),
        choice,
        reason: reason.map(str::to_owned),
        cast_at_ms: 1_705_314_500_000,
    }
}

#[test]
fn every_state_is_drawn() {
    use ApprovalStatus as S;
    for status in [
        S::Pending,
        S::Approved,
        S::Denied,
        S::Expired,
        S::Started,
        S::Executed,
        S::Failed,
        S::Uncertain,
    ] {
        let mut view = view(status);
        view.votes = match status {
            S::Pending => vec![vote("U015LEAD", Choice::Approve, None)],
            S::Denied => vec![vote("U015LEAD", Choice::Deny, Some("not <today>"))],
            S::Expired => Vec::new(),
            _ => vec![
                vote("U015LEAD", Choice::Approve, None),
                vote("U016MANAGER", Choice::Approve, Some("ok")),
            ],
        };
        view.outcome = match status {
            S::Executed => Some("exit 0\npod \"web 1\" deleted\n".to_owned()),
            S::Failed => Some("exit 1\nError from server (NotFound)".to_owned()),
            _ => None,
        };
        let card = card(&view);
        let shown = serde_json::json!({"text": card.text, "blocks": card.blocks});
        // Which order JSON keeps depends on what else is built: see serde_json/preserve_order.
        insta::with_settings!({ sort_maps => true }, {
            insta::assert_json_snapshot!(format!("card_{}", status.as_str()), shown);
        });
    }
}

#[test]
fn only_a_pending_card_has_buttons() {
    let has = |status| card(&view(status)).blocks.to_string().contains(APPROVE);
    assert!(has(ApprovalStatus::Pending));
    assert!(!has(ApprovalStatus::Approved));
    assert!(!has(ApprovalStatus::Uncertain));
}

#[test]
fn a_command_cannot_write_markup_into_the_card() {
    let mut view = view(ApprovalStatus::Pending);
    view.argv = vec!["echo".to_owned(), "```\n*Approved* <!channel> <@U1>".to_owned()];
    view.rule = "<!here> *bold* `x`".to_owned();
    view.target = "@channel\n*Missing* 0".to_owned();
    view.votes = vec![vote("U1|<!channel>", Choice::Approve, Some("<!everyone>\n*Executed*"))];
    let card = card(&view);
    assert!(!card.text.contains("<!"), "{}", card.text);
    for block in card.blocks.as_array().expect("blocks") {
        if block["type"] != "section" {
            continue;
        }
        let text = block["text"]["text"].as_str().expect("text");
        let dates_out = text.replace("<!date", "");
        assert!(!dates_out.contains("<!"), "{text}");
        assert!(!text.contains("@channel"), "{text}");
        assert!(!text.contains("\n*Missing* 0"), "{text}");
        assert!(!text.contains("\n*Executed*"), "{text}");
    }
}

#[test]
fn a_long_command_is_shown_in_blocks_and_says_what_is_missing() {
    let mut view = view(ApprovalStatus::Pending);
    view.argv = vec!["x".repeat(10_000)];
    let drawn = card(&view).blocks;
    let shown: String = drawn
        .as_array()
        .expect("blocks")
        .iter()
        .filter_map(|block| block["elements"][0]["elements"][0]["text"].as_str())
        .collect();
    assert_eq!(shown, view.argv[0], "all of it, in order");
    assert!(!drawn.to_string().contains("not shown here"));
    view.argv = vec!["y".repeat(100_000)];
    let drawn = card(&view).blocks;
    assert!(drawn.to_string().contains("more characters of the command are not shown here"));
    assert!(drawn.as_array().expect("blocks").len() < 50);
}
