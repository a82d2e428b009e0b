//! Who may decide: matches people with a chain's entries. Pure: no I/O, no clock.
//!
//! An entry is a user id (`U015VBH1GTZ`), or one bound to a platform
//! (`slack:U015VBH1GTZ`). The id names the human; the platform only narrows from where
//! they may vote. So two accounts with one id are one human, and count once. Where a
//! platform knows a person by several ids (a phone number and an opaque one), any of them
//! names them.

use std::collections::BTreeSet;

use aof_shared::action::{Identity, Quorum, SelfApproval};
use aof_shared::ids::PlatformName;
use serde::{Deserialize, Serialize};

/// Why somebody's vote does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotCounted {
    /// No entry of the chain is theirs.
    NotListed,
    /// It is their own request, and the chain does not let them approve it.
    OwnRequest,
}

impl NotCounted {
    /// For people.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotListed => "not an approver of this chain",
            Self::OwnRequest => "requesters do not approve what they asked for themselves",
        }
    }
}

/// A chain that cannot be satisfied, whoever votes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// It would be satisfied by nobody at all.
    #[error("chain `{chain}` requires 0 approvals; it must require at least 1")]
    RequiresNobody {
        /// The chain.
        chain: String,
    },
    /// Fewer people may approve than must.
    #[error(
        "chain `{chain}` requires {require} distinct people, but only {available} may approve this"
    )]
    TooFew {
        /// The chain.
        chain: String,
        /// How many must.
        require: u32,
        /// How many may, the requester left out where their vote does not count.
        available: usize,
    },
}

/// Splits `platform:id`; an entry whose first part is no platform name is an id whole.
fn parse_entry(entry: &str) -> (Option<&str>, &str) {
    let Some((platform, id)) = entry.split_once(':') else { return (None, entry) };
    let letter = platform.starts_with(|c: char| c.is_ascii_alphabetic());
    if letter && !id.is_empty() && PlatformName::new(platform).is_ok() {
        return (Some(platform), id);
    }
    (None, entry)
}

/// True when `entry` of a chain is `who`. Ids are compared exactly.
#[must_use]
pub fn matches(entry: &str, who: &Identity) -> bool {
    let (platform, id) = parse_entry(entry);
    who.is(id) && platform.is_none_or(|p| p == who.platform.as_str())
}

/// True when some entry of the chain is `who`.
#[must_use]
pub fn is_listed(quorum: &Quorum, who: &Identity) -> bool {
    quorum.approvers.iter().any(|entry| matches(entry, who))
}

/// True when the requester may approve by themselves.
fn counts_own_approval(quorum: &Quorum) -> bool {
    quorum.self_approval == SelfApproval::Allowed && quorum.require == 1
}

/// Whether an approval by `who` counts. A denial only needs [`is_listed`]: listed
/// requesters may always stop what they asked for.
///
/// # Errors
/// [`NotCounted`], with the reason.
pub fn may_approve(
    quorum: &Quorum,
    requester: &Identity,
    who: &Identity,
) -> Result<(), NotCounted> {
    if !is_listed(quorum, who) {
        return Err(NotCounted::NotListed);
    }
    if who.is_same_human(requester) && !counts_own_approval(quorum) {
        return Err(NotCounted::OwnRequest);
    }
    Ok(())
}

/// The humans whose approval would count, sorted.
#[must_use]
pub fn eligible<'a>(quorum: &'a Quorum, requester: &Identity) -> BTreeSet<&'a str> {
    let own = counts_own_approval(quorum);
    let humans = quorum.approvers.iter().map(|entry| parse_entry(entry).1);
    humans.filter(|id| !id.is_empty() && (own || !requester.is(id))).collect()
}

/// Checks that enough people could approve.
///
/// # Errors
/// [`Unreachable`], which says why not.
pub fn check_reachable(quorum: &Quorum, requester: &Identity) -> Result<(), Unreachable> {
    let chain = quorum.chain.clone();
    if quorum.require == 0 {
        return Err(Unreachable::RequiresNobody { chain });
    }
    let available = eligible(quorum, requester).len();
    if available < quorum.require as usize {
        return Err(Unreachable::TooFew { chain, require: quorum.require, available });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{quorum, who};

    #[test]
    fn entries_match_exactly_and_on_their_platform_only() {
        let table = [
            ("U1", "slack/U1", true),
            ("U1", "telegram/U1", true),
            ("U1", "slack/u1", false),
            ("U1", "slack/U11", false),
            ("slack:U1", "slack/U1", true),
            ("slack:U1", "telegram/U1", false),
            ("slack:U1", "chat/slack:U1", false),
            ("55119:3@s.net", "whatsapp/55119:3@s.net", true),
            ("@ada:matrix.org", "matrix/@ada:matrix.org", true),
            ("", "chat/", true), // never eligible, see below
            ("*", "chat/anyone", false),
        ];
        for (entry, identity, expected) in table {
            assert_eq!(matches(entry, &who(identity)), expected, "{entry} and {identity}");
        }
        assert!(eligible(&quorum(&[""], 1), &who("chat/x")).is_empty());
    }

    #[test]
    fn a_requester_approves_only_where_that_is_allowed_listed_and_enough() {
        let check = |approvers: &[&str], require, own, expected| {
            let quorum = Quorum { self_approval: own, ..quorum(approvers, require) };
            let me = who("slack/me");
            assert_eq!(may_approve(&quorum, &me, &me), expected, "{quorum:?}");
        };
        check(&["me", "you"], 1, SelfApproval::Allowed, Ok(()));
        check(&["me", "you"], 1, SelfApproval::Never, Err(NotCounted::OwnRequest));
        check(&["me", "you"], 2, SelfApproval::Allowed, Err(NotCounted::OwnRequest));
        check(&["you"], 1, SelfApproval::Allowed, Err(NotCounted::NotListed));
        let elsewhere = may_approve(&quorum(&["me", "you"], 2), &who("slack/me"), &who("chat/me"));
        assert_eq!(elsewhere, Err(NotCounted::OwnRequest), "another platform is the same human");
    }

    #[test]
    fn quorums_nobody_can_reach_are_found() {
        let check = |approvers: &[&str], require, reachable| {
            let found = check_reachable(&quorum(approvers, require), &who("slack/me"));
            assert_eq!(found.is_ok(), reachable, "{approvers:?} {require}: {found:?}");
        };
        check(&["a", "b"], 2, true);
        check(&["a", "b"], 0, false);
        check(&["a", "b"], 3, false);
        check(&["a", "a"], 2, false);
        check(&["slack:a", "telegram:a"], 2, false);
        check(&["a", "me"], 2, false);
        check(&["me"], 1, true);
        check(&[], 1, false);
    }
}
