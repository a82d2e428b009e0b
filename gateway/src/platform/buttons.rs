//! What the buttons of an approval card carry, on platforms where a button has one id: which
//! vote, and on which action. Pure.

use aof_shared::action::Choice;
use aof_shared::ids::ActionId;

/// Opens the id of a button that agrees.
const APPROVE: &str = "aof.approve:";
/// Opens the id of a button that refuses.
const DENY: &str = "aof.deny:";

/// The ids of the two buttons of `action`: to approve, to deny. 49 characters at most.
pub(crate) fn ids_of(action: ActionId) -> [String; 2] {
    [format!("{APPROVE}{action}"), format!("{DENY}{action}")]
}

/// The vote that a pressed button casts; `None` for buttons that are not ours.
pub(crate) fn vote_of(id: &str) -> Option<(ActionId, Choice)> {
    let (action, choice) = match (id.strip_prefix(APPROVE), id.strip_prefix(DENY)) {
        (Some(action), _) => (action, Choice::Approve),
        (_, Some(action)) => (action, Choice::Deny),
        (None, None) => return None,
    };
    Some((action.parse().ok()?, choice))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_button_names_its_vote_and_its_action() {
        let action = ActionId(Uuid::from_u128(7));
        let [approve, deny] = ids_of(action);
        assert_eq!(vote_of(&approve), Some((action, Choice::Approve)));
        assert_eq!(vote_of(&deny), Some((action, Choice::Deny)));
        for other in ["", "approve:apr_01", "aof.approve:", "aof.approve:x", "callback_data"] {
            assert_eq!(vote_of(other), None, "{other}");
        }
    }
}
