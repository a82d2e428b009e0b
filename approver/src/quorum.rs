//! Counts votes. Pure: no I/O, no clock, and the order of the votes does not matter.
//!
//! One human is one vote, whatever number of accounts they have; their latest counts,
//! and a withdrawal takes it back. One listed denier denies.

use std::collections::BTreeSet;

use aof_shared::action::{Choice, Identity, Quorum, RecordedVote};

use crate::chain;

/// How a quorum stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tally {
    /// So many more distinct humans must agree.
    Pending {
        /// How many; at least 1.
        missing: u32,
    },
    /// Enough agreed.
    Approved {
        /// Everyone who did, sorted by their id.
        by: Vec<Identity>,
    },
    /// Somebody who may said no.
    Denied {
        /// Everyone who did, sorted by their id.
        by: Vec<Identity>,
    },
}

impl Tally {
    /// How many more must agree; 0 once it is decided.
    #[must_use]
    pub fn missing(&self) -> u32 {
        if let Self::Pending { missing } = self { *missing } else { 0 }
    }
}

/// What counts more when one human said two things in the same millisecond.
fn weight(choice: Choice) -> u8 {
    match choice {
        Choice::Approve => 0,
        Choice::Withdraw => 1,
        Choice::Deny => 2,
    }
}

/// The latest vote of every listed human, sorted by the voter's id.
pub(crate) fn latest<'a>(quorum: &Quorum, votes: &'a [RecordedVote]) -> Vec<&'a RecordedVote> {
    // The voter decides between equals, so that every order gives one answer.
    let rank = |vote: &'a RecordedVote| (vote.cast_at_ms, weight(vote.choice), &vote.voter);
    let mut humans: Vec<(BTreeSet<&str>, &RecordedVote)> = Vec::new();
    for vote in votes.iter().filter(|v| chain::is_listed(quorum, &v.voter)) {
        let mut ids: BTreeSet<&str> = vote.voter.ids().collect();
        let mut latest = vote;
        // One vote may show that what seemed to be two people is one.
        humans.retain(|(known, before)| {
            let other = known.is_disjoint(&ids);
            if !other {
                ids.extend(known);
                latest = std::cmp::max_by_key(latest, before, |vote| rank(vote));
            }
            other
        });
        humans.push((ids, latest));
    }
    let mut latest: Vec<&RecordedVote> = humans.into_iter().map(|(_, vote)| vote).collect();
    latest.sort_by_key(|vote| (&vote.voter.user, &vote.voter.platform));
    latest
}

/// Counts `votes` on an action that `requester` asked for.
#[must_use]
pub fn tally(quorum: &Quorum, requester: &Identity, votes: &[RecordedVote]) -> Tally {
    let latest = latest(quorum, votes);
    let of = |choice| {
        let chosen = latest.iter().filter(move |vote| vote.choice == choice);
        chosen.map(|vote| vote.voter.clone())
    };
    let denied: Vec<Identity> = of(Choice::Deny).collect();
    if !denied.is_empty() {
        return Tally::Denied { by: denied };
    }
    let counts = |who: &Identity| chain::may_approve(quorum, requester, who).is_ok();
    let approved: Vec<Identity> = of(Choice::Approve).filter(counts).collect();
    let needed = quorum.require.max(1); // nothing is ever approved by nobody
    let missing = needed.saturating_sub(u32::try_from(approved.len()).unwrap_or(u32::MAX));
    if missing == 0 { Tally::Approved { by: approved } } else { Tally::Pending { missing } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{quorum, vote, who};
    use aof_shared::action::SelfApproval;
    use proptest::prelude::*;

    /// `votes`: `platform/user choice time`, where the choice is `+`, `-` or `0`.
    fn check(quorum: &Quorum, votes: &[&str], expected: &str) {
        let votes: Vec<RecordedVote> = votes.iter().map(|v| vote(v)).collect();
        let names = |by: &[Identity]| {
            let names: Vec<&str> = by.iter().map(|i| i.user.as_str()).collect();
            names.join(",")
        };
        let found = match tally(quorum, &who("slack/me"), &votes) {
            Tally::Pending { missing } => format!("missing {missing}"),
            Tally::Approved { by } => format!("approved {}", names(&by)),
            Tally::Denied { by } => format!("denied {}", names(&by)),
        };
        assert_eq!(found, expected, "{quorum:?} {votes:?}");
    }

    #[test]
    fn counts_distinct_listed_humans() {
        let two = quorum(&["a", "b", "c"], 2);
        check(&two, &[], "missing 2");
        check(&two, &["slack/a + 1"], "missing 1");
        check(&two, &["slack/a + 1", "slack/b + 2"], "approved a,b");
        check(&two, &["slack/a + 1", "slack/a + 2"], "missing 1");
        check(&two, &["slack/a + 1", "telegram/a + 2"], "missing 1");
        check(&two, &["slack/a + 1", "slack/x + 2"], "missing 1");
        check(&two, &["slack/a + 1", "slack/A + 2"], "missing 1");
        check(&two, &["slack/x - 1"], "missing 2");
        check(&two, &["slack/a + 1", "slack/b - 2"], "denied b");
        check(&two, &["slack/a + 1", "slack/b + 2", "chat/c - 3"], "denied c");
    }

    #[test]
    fn the_latest_word_of_a_human_counts() {
        let one = quorum(&["a", "b"], 1);
        check(&one, &["slack/a + 1", "slack/a 0 2"], "missing 1");
        check(&one, &["slack/a 0 1", "slack/a + 2"], "approved a");
        check(&one, &["slack/a - 1", "telegram/a + 2"], "approved a");
        check(&one, &["slack/a + 1", "telegram/a - 2"], "denied a");
        check(&one, &["slack/a + 5", "telegram/a - 5"], "denied a");
        check(&one, &["slack/a + 5", "telegram/a 0 5"], "missing 1");
    }

    #[test]
    fn someone_with_several_ids_is_one_human() {
        let two = quorum(&["a", "55", "b"], 2);
        check(&two, &["whatsapp/a=55 + 1"], "missing 1");
        check(&two, &["whatsapp/a=55 + 1", "whatsapp/55 + 2"], "missing 1");
        check(&two, &["whatsapp/a + 1", "whatsapp/55 + 2", "whatsapp/a=55 + 3"], "missing 1");
        check(&two, &["whatsapp/a=55 + 3", "whatsapp/55 + 2", "whatsapp/a + 1"], "missing 1");
        check(&two, &["whatsapp/a=55 + 1", "whatsapp/55 0 2"], "missing 2");
        check(&two, &["whatsapp/x=55 + 1", "slack/b + 2"], "approved b,x");
        let me = who("whatsapp/a=55");
        let votes = [vote("whatsapp/55 + 1"), vote("whatsapp/b + 1")];
        assert_eq!(tally(&two, &me, &votes), Tally::Pending { missing: 1 }, "their own request");
    }

    #[test]
    fn the_requester_counts_only_alone_and_only_when_allowed() {
        check(&quorum(&["me", "a"], 1), &["slack/me + 1"], "approved me");
        check(&quorum(&["me", "a", "b"], 2), &["slack/me + 1", "slack/a + 2"], "missing 1");
        let never = Quorum { self_approval: SelfApproval::Never, ..quorum(&["me", "a"], 1) };
        check(&never, &["slack/me + 1"], "missing 1");
        check(&never, &["chat/me + 1"], "missing 1");
        check(&never, &["slack/me - 1"], "denied me");
        check(&never, &["slack/a + 1"], "approved a");
    }

    #[test]
    fn a_quorum_of_none_is_not_reached_by_nobody() {
        check(&quorum(&["a"], 0), &[], "missing 1");
    }

    fn any_vote() -> impl Strategy<Value = RecordedVote> {
        let platform = prop_oneof![Just("slack"), Just("telegram"), Just("chat")];
        let user = prop_oneof![Just("me"), Just("a"), Just("b"), Just("c"), Just("x"), Just("b=a")];
        let choice = prop_oneof![3 => Just("+"), 1 => Just("-"), 1 => Just("0")];
        (platform, user, choice, 0_u64..6)
            .prop_map(|(p, u, c, t)| vote(&format!("{p}/{u} {c} {t}")))
    }

    fn any_quorum() -> impl Strategy<Value = Quorum> {
        let entries = ["me", "a", "b", "slack:c", "telegram:a"];
        let chosen = proptest::sample::subsequence(entries.to_vec(), 0..=entries.len());
        (chosen, 0_u32..4, any::<bool>()).prop_map(|(approvers, require, own)| Quorum {
            self_approval: if own { SelfApproval::Allowed } else { SelfApproval::Never },
            ..quorum(&approvers, require)
        })
    }

    proptest! {
        #[test]
        fn the_order_of_votes_does_not_matter(
            quorum in any_quorum(),
            (votes, shuffled) in proptest::collection::vec(any_vote(), 0..12)
                .prop_flat_map(|v| (Just(v.clone()), Just(v).prop_shuffle())),
        ) {
            let me = who("slack/me");
            prop_assert_eq!(tally(&quorum, &me, &votes), tally(&quorum, &me, &shuffled));
        }

        #[test]
        fn approved_means_enough_distinct_listed_humans_agree_and_none_denies(
            quorum in any_quorum(),
            votes in proptest::collection::vec(any_vote(), 0..12),
        ) {
            let me = who("slack/me");
            if let Tally::Approved { by } = tally(&quorum, &me, &votes) {
                let humans: std::collections::BTreeSet<_> = by.iter().map(|i| &i.user).collect();
                prop_assert_eq!(humans.len(), by.len());
                prop_assert!(humans.len() >= quorum.require.max(1) as usize);
                for who in &by {
                    prop_assert!(chain::may_approve(&quorum, &me, who).is_ok());
                    prop_assert!(votes.iter().any(|v| &v.voter == who && v.choice == Choice::Approve));
                }
            }
        }

        #[test]
        fn one_more_approval_never_takes_one_away(
            quorum in any_quorum(),
            votes in proptest::collection::vec(any_vote(), 0..12),
            newcomer in prop_oneof![Just("slack/a"), Just("chat/b"), Just("slack/c"), Just("slack/me")],
        ) {
            let me = who("slack/me");
            let before = tally(&quorum, &me, &votes);
            let mut more = votes.clone();
            more.push(vote(&format!("{newcomer} + 99")));
            let after = tally(&quorum, &me, &more);
            let still_approved = matches!(after, Tally::Approved { by: _ });
            let still_denied = matches!(after, Tally::Denied { by: _ });
            let holds = match before {
                Tally::Approved { by: _ } => still_approved,
                Tally::Pending { missing } => !still_denied && after.missing() <= missing,
                // Only the one who denied can take that back.
                Tally::Denied { by } => still_denied || by.len() == 1,
            };
            prop_assert!(holds);
        }

        #[test]
        fn votes_of_strangers_change_nothing(
            quorum in any_quorum(),
            votes in proptest::collection::vec(any_vote(), 0..12),
        ) {
            let me = who("slack/me");
            let listed: Vec<RecordedVote> =
                votes.iter().filter(|v| chain::is_listed(&quorum, &v.voter)).cloned().collect();
            prop_assert_eq!(tally(&quorum, &me, &votes), tally(&quorum, &me, &listed));
        }
    }
}
