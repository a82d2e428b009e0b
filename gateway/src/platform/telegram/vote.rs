//! Votes: taps on a card's buttons, and reactions to it.

use aof_shared::action::{Choice, Identity, Vote, VoteTarget};
use aof_shared::ids::ActionId;
use aof_shared::message::Address;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::{Answer, Chat, Delivery, From, Inbound, Malformed, Source, date_ms, read};

/// Opens the data of the button that agrees; the action's id follows.
pub(crate) const APPROVE: &str = "aof.approve:";
/// Opens the data of the button that refuses.
pub(crate) const DENY: &str = "aof.deny:";
/// What whoever tapped is shown for a moment.
const NOTED: &str = "Noted. The card shows whether it counts.";

#[derive(Deserialize)]
struct Tap {
    id: String,
    from: From,
    #[serde(default)]
    data: Option<String>,
}

#[derive(Deserialize)]
struct Reaction {
    chat: Chat,
    message_id: i64,
    date: i64,
    /// Missing where an anonymous administrator or a channel reacted.
    #[serde(default)]
    user: Option<From>,
    old_reaction: Vec<Emoji>,
    new_reaction: Vec<Emoji>,
}

#[derive(Deserialize)]
struct Emoji {
    /// Missing for custom and paid ones.
    #[serde(default)]
    emoji: Option<String>,
}

impl Source<'_> {
    /// A tap on a button. The answer ends the wait that Telegram shows: it takes one method
    /// call in the body of the 200, so that nothing is called while the webhook waits.
    pub(super) fn tap(&self, raw: &RawValue) -> Result<Delivery, Malformed> {
        let tap: Tap = read(raw.get(), "callback query")?;
        let inbound = self.vote_of(&tap);
        let mut answer = json!({ "method": "answerCallbackQuery", "callback_query_id": tap.id });
        if matches!(inbound, Inbound::Vote { .. }) {
            answer["text"] = json!(NOTED);
        }
        Ok(Delivery::one(inbound, Answer::Json(answer)))
    }

    fn vote_of(&self, tap: &Tap) -> Inbound {
        let data = tap.data.as_deref().unwrap_or_default();
        let (choice, id) = match (data.strip_prefix(APPROVE), data.strip_prefix(DENY)) {
            (Some(id), _) => (Choice::Approve, id),
            (_, Some(id)) => (Choice::Deny, id),
            _ => return Inbound::Ignored("other button"),
        };
        let Ok(id) = id.parse::<ActionId>() else { return Inbound::Ignored("other button") };
        if tap.from.is_bot {
            return Inbound::Ignored("a bot's tap");
        }
        let vote = Vote {
            target: VoteTarget::Action { id },
            voter: self.voter(&tap.from),
            choice,
            reason: None,
            cast_at_ms: self.now_ms,
        };
        Inbound::Vote { event_id: format!("tap:{}", tap.id), vote: Box::new(vote) }
    }

    /// A reaction that was added, changed or taken back.
    pub(super) fn reaction(&self, raw: &RawValue, update: i64) -> Result<Inbound, Malformed> {
        let reaction: Reaction = read(raw.get(), "reaction")?;
        let Some(user) = &reaction.user else {
            return Ok(Inbound::Ignored("anonymous reaction"));
        };
        if user.is_bot {
            return Ok(Inbound::Ignored("a bot's reaction"));
        }
        let (before, now) = (choice_of(&reaction.old_reaction), choice_of(&reaction.new_reaction));
        let choice = match (before, now) {
            (_, Some(choice)) => choice,
            (Some(_), None) => Choice::Withdraw,
            (None, None) => return Ok(Inbound::Ignored("other emoji")),
        };
        let (instance, chat) = (self.instance, reaction.chat.id);
        let at = Address {
            tenant: instance.tenant.clone(),
            platform: instance.platform.clone(),
            instance: instance.name.clone(),
            channel: chat.to_string(),
            thread: None,
        };
        let vote = Vote {
            target: VoteTarget::Posted { at, message: reaction.message_id.to_string() },
            voter: self.voter(user),
            choice,
            reason: None,
            cast_at_ms: date_ms(reaction.date).unwrap_or(self.now_ms),
        };
        let event_id = format!("reaction:{update}:{chat}:{}:{}", reaction.message_id, user.id);
        Ok(Inbound::Vote { event_id, vote: Box::new(vote) })
    }

    fn voter(&self, from: &From) -> Identity {
        Identity::new(self.instance.platform.clone(), from.id.to_string())
    }
}

/// What a person's reactions say together; whoever says both refuses.
fn choice_of(reactions: &[Emoji]) -> Option<Choice> {
    let says = |emoji: &str| {
        let plain =
            |e: &Emoji| e.emoji.as_deref().is_some_and(|e| e.trim_end_matches('\u{fe0f}') == emoji);
        reactions.iter().any(plain)
    };
    if says("👎") { Some(Choice::Deny) } else { says("👍").then_some(Choice::Approve) }
}
