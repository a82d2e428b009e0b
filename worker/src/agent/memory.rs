//! Which history a message belongs to, and what of it a model is given. Pure.
//!
//! A history's session key, by the agent's strategy (features.md, C4):
//!
//! | strategy | key |
//! |---|---|
//! | `per_user` | `user/<platform>/<user>` |
//! | `per_chat` | `chat/<platform>/<instance>/<conversation>` |
//! | `per_user_per_chat` | `user-chat/<platform>/<instance>/<user>/<conversation>` |
//!
//! where `/` and `%` within a part are written `%2F` and `%25`. Tenant and flow are part
//! of every [`MemoryKey`], so no flow reads another's history (C3).

use aof_shared::config::SessionStrategy;
use aof_shared::ids::FlowName;
use aof_shared::message::Message;
use aof_shared::store::{MemoryKey, Turn};

use crate::model::{Role, estimate_tokens};

/// The history of `message` in `flow`.
pub(crate) fn key(strategy: SessionStrategy, flow: &FlowName, message: &Message) -> MemoryKey {
    let user = part(&message.user.id);
    let chat = part(&message.conversation);
    let (platform, instance) = (&message.platform, &message.instance);
    let session = match strategy {
        SessionStrategy::PerUser => format!("user/{platform}/{user}"),
        SessionStrategy::PerChat => format!("chat/{platform}/{instance}/{chat}"),
        SessionStrategy::PerUserPerChat => {
            format!("user-chat/{platform}/{instance}/{user}/{chat}")
        }
    };
    MemoryKey { tenant: message.tenant.clone(), flow: flow.clone(), session }
}

fn part(text: &str) -> String {
    text.replace('%', "%25").replace('/', "%2F")
}

/// The newest turns that fit into `budget` tokens, oldest first, starting with a user's.
pub(crate) fn fitting(turns: Vec<Turn>, budget: Option<u64>) -> Vec<(Role, String)> {
    let mut left = budget.unwrap_or(u64::MAX);
    let mut kept = Vec::new();
    for turn in turns.into_iter().rev() {
        let role = match turn.role.as_str() {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            _ => continue,
        };
        let cost = estimate_tokens(&turn.text);
        if cost > left {
            break;
        }
        left -= cost;
        kept.push((role, turn.text));
    }
    while kept.last().is_some_and(|(role, _)| *role == Role::Assistant) {
        kept.pop();
    }
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::fixture;

    #[test]
    fn every_strategy_gives_its_documented_key() {
        let mut message = fixture::message("acme", "e1", "hi");
        message.conversation = "C1/50%".to_owned();
        let flow = FlowName::new("ops").expect("a valid name");
        for (strategy, session) in [
            (SessionStrategy::PerUser, "user/slack/U1"),
            (SessionStrategy::PerChat, "chat/slack/main/C1%2F50%25"),
            (SessionStrategy::PerUserPerChat, "user-chat/slack/main/U1/C1%2F50%25"),
        ] {
            let key = key(strategy, &flow, &message);
            assert_eq!((key.session.as_str(), key.flow.as_str()), (session, "ops"));
            assert_eq!(key.tenant.as_str(), "acme");
        }
    }

    #[test]
    fn the_newest_turns_fit_and_a_user_speaks_first() {
        let turn = |role: &str, text: &str| Turn {
            role: role.to_owned(),
            text: text.to_owned(),
            agent: None,
            at_ms: 1,
        };
        let turns = vec![
            turn("user", "aaaaaaaa"),
            turn("assistant", "bbbbbbbb"),
            turn("user", "cccccccc"),
            turn("assistant", "dddddddd"),
        ];
        let kept = |budget| {
            let kept = fitting(turns.clone(), budget);
            kept.into_iter().map(|(_, text)| text).collect::<Vec<_>>()
        };
        assert_eq!(kept(None).len(), 4);
        assert_eq!(kept(Some(6)), ["cccccccc", "dddddddd"]);
        assert_eq!(kept(Some(4)), ["cccccccc", "dddddddd"]);
        assert_eq!(kept(Some(3)), Vec::<String>::new());
    }
}
