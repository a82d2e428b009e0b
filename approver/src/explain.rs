//! Says who is still needed, and why some votes do not count. Pure.

use aof_shared::action::{Approval, ApprovalStatus, Choice, Identity, Quorum, RecordedVote};
use aof_shared::clock::UnixMs;
use aof_shared::ids::ActionId;
use serde::{Deserialize, Serialize};

use crate::chain::{self, NotCounted};
use crate::quorum;

/// How an approval stands, and what would decide it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The action.
    pub id: ActionId,
    /// How it stands.
    pub status: ApprovalStatus,
    /// The chain.
    pub chain: String,
    /// How many distinct humans must agree.
    pub require: u32,
    /// How many more must; 0 once it is decided.
    pub missing: u32,
    /// Whose approval counts now.
    pub approved: Vec<Identity>,
    /// Who said no.
    pub denied: Vec<Identity>,
    /// Ids of the people any of whom may still approve.
    pub waiting_for: Vec<String>,
    /// Whose approval does not count, and why.
    pub not_counted: Vec<Uncounted>,
    /// From then on it counts as denied.
    pub expires_at_ms: UnixMs,
    /// All of it in one sentence.
    pub summary: String,
}

/// An approval that does not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uncounted {
    /// Whose.
    pub who: Identity,
    /// Why.
    pub why: NotCounted,
}

/// What an explanation is made from.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The action.
    pub id: ActionId,
    /// How it stands.
    pub status: ApprovalStatus,
    /// Who asked.
    pub requester: &'a Identity,
    /// Who may decide.
    pub quorum: &'a Quorum,
    /// Who has.
    pub votes: &'a [RecordedVote],
    /// From then on it counts as denied.
    pub expires_at_ms: UnixMs,
}

/// Explains `approval` from its chain and votes.
#[must_use]
pub fn explain(approval: &Approval) -> Explanation {
    let action = &approval.action;
    explain_case(&Case {
        id: action.id,
        status: approval.status,
        requester: &action.requester,
        quorum: &action.quorum,
        votes: &approval.votes,
        expires_at_ms: action.expires_at_ms,
    })
}

/// Explains a case, wherever its parts come from.
#[must_use]
pub fn explain_case(case: &Case<'_>) -> Explanation {
    let (chain, requester) = (case.quorum, case.requester);
    let latest = quorum::latest(chain, case.votes);
    let mut explanation = Explanation {
        id: case.id,
        status: case.status,
        chain: chain.chain.clone(),
        require: chain.require,
        missing: 0,
        approved: Vec::new(),
        denied: Vec::new(),
        waiting_for: Vec::new(),
        not_counted: Vec::new(),
        expires_at_ms: case.expires_at_ms,
        summary: String::new(),
    };
    for vote in latest {
        match (vote.choice, chain::may_approve(chain, requester, &vote.voter)) {
            (Choice::Deny, _) => explanation.denied.push(vote.voter.clone()),
            (Choice::Approve, Ok(())) => explanation.approved.push(vote.voter.clone()),
            (Choice::Approve, Err(why)) => {
                explanation.not_counted.push(Uncounted { who: vote.voter.clone(), why });
            }
            (Choice::Withdraw, _) => {}
        }
    }
    if case.status == ApprovalStatus::Pending {
        explanation.missing = quorum::tally(chain, requester, case.votes).missing();
        let agreed = |id: &str| explanation.approved.iter().any(|who| who.is(id));
        let open = chain::eligible(chain, requester).into_iter().filter(|id| !agreed(id));
        explanation.waiting_for = open.map(str::to_owned).collect();
    }
    explanation.summary = summarize(&explanation);
    explanation
}

fn summarize(explanation: &Explanation) -> String {
    let Explanation { chain, require, missing, waiting_for, .. } = explanation;
    let names = |who: &[Identity]| {
        let names: Vec<&str> = who.iter().map(|i| i.user.as_str()).collect();
        names.join(", ")
    };
    match explanation.status {
        ApprovalStatus::Pending if waiting_for.len() < *missing as usize => {
            format!("chain `{chain}` needs {missing} more, but only {} may", waiting_for.len())
        }
        ApprovalStatus::Pending => format!(
            "chain `{chain}` has {} of {require}; {missing} more of: {}",
            explanation.approved.len(),
            waiting_for.join(", ")
        ),
        ApprovalStatus::Denied if explanation.denied.is_empty() => {
            "denied by the system: see its events for the reason".to_owned()
        }
        ApprovalStatus::Denied => format!("denied by {}", names(&explanation.denied)),
        ApprovalStatus::Expired => {
            format!("expired with {} of {require} in chain `{chain}`", explanation.approved.len())
        }
        ApprovalStatus::Uncertain => {
            "started, and a crash hid how it ended: check by hand, it is not run again".to_owned()
        }
        ApprovalStatus::Approved => format!("approved by {}", names(&explanation.approved)),
        other => format!("{}, approved by {}", other.as_str(), names(&explanation.approved)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{action, quorum, vote};

    fn check(votes: &[&str], status: ApprovalStatus, expected: &str) -> Explanation {
        let mut action = action();
        action.quorum = quorum(&["me", "a", "b", "c"], 2);
        let votes = votes.iter().map(|v| vote(v)).collect();
        let approval =
            Approval { action, votes, status, decided_at_ms: None, outcome: None, posted: None };
        let explanation = explain(&approval);
        assert_eq!(explanation.summary, expected);
        explanation
    }

    #[test]
    fn names_who_is_still_needed() {
        use ApprovalStatus::{Approved, Denied, Expired, Pending};
        check(&[], Pending, "chain `critical` has 0 of 2; 2 more of: a, b, c");
        check(&["slack/a + 1"], Pending, "chain `critical` has 1 of 2; 1 more of: b, c");
        check(&["slack/a + 1", "chat/b + 2"], Approved, "approved by a, b");
        check(&["slack/c - 1"], Denied, "denied by c");
        check(&["slack/c + 1"], Expired, "expired with 1 of 2 in chain `critical`");
    }

    #[test]
    fn says_that_the_requesters_approval_does_not_count() {
        let found = check(
            &["slack/me + 1"],
            ApprovalStatus::Pending,
            "chain `critical` has 0 of 2; 2 more of: a, b, c",
        );
        assert_eq!(found.not_counted[0].why, NotCounted::OwnRequest);
    }
}
