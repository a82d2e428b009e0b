//! Which events belong to messages of one flow, agent or user. Pure, and bounded.
//!
//! Few events name their flow: one does when the message is routed, and all that follow
//! name the message. So the messages are remembered, the newest [`MAX_MESSAGES`].

use std::collections::{HashSet, VecDeque};

use aof_shared::event::{Event, EventType};
use serde_json::Value;
use uuid::Uuid;

/// Messages remembered for one filter; 16 bytes each, twice.
const MAX_MESSAGES: usize = 100_000;

/// Takes events of messages that one of their events names a thing of.
#[derive(Debug, Clone)]
pub(super) struct Related {
    /// Where `data` names it.
    field: &'static str,
    /// What it must be.
    wanted: String,
    /// The events of a message that name it first.
    pub(super) named_by: &'static [EventType],
    known: HashSet<Uuid>,
    order: VecDeque<Uuid>,
}

impl Related {
    /// Events of messages whose `data.<field>` is `wanted` in one of `named_by`, from that
    /// one on.
    pub(super) fn new(field: &'static str, wanted: String, named_by: &'static [EventType]) -> Self {
        Self { field, wanted, named_by, known: HashSet::new(), order: VecDeque::new() }
    }

    /// True when `event` is of such a message. Ask for each event, in order.
    pub(super) fn takes(&mut self, event: &Event) -> bool {
        let id = event.message_id.map(|m| m.0);
        if id.is_some_and(|id| self.known.contains(&id)) {
            return true;
        }
        let named = match &event.data[self.field] {
            Value::String(name) => *name == self.wanted,
            _ => false,
        };
        if let (true, Some(id)) = (named, id) {
            self.remember(id);
        }
        named
    }

    fn remember(&mut self, id: Uuid) {
        if self.order.len() == MAX_MESSAGES
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.known.insert(id);
        self.order.push_back(id);
    }
}

#[cfg(test)]
mod tests {
    use aof_shared::ids::{EventId, MessageId, TenantId};
    use serde_json::json;

    use super::*;

    fn event(message: u128, data: Value) -> Event {
        let id = EventId(Uuid::from_u128(message));
        let mut event = Event::new(id, &TenantId::default(), EventType::RunStep, 0).with(data);
        event.message_id = Some(MessageId(Uuid::from_u128(message)));
        event
    }

    #[test]
    fn what_follows_a_message_of_the_flow_belongs_to_it() {
        let mut of = Related::new("flow", "prod".to_owned(), &[EventType::MessageRouted]);
        assert!(!of.takes(&event(1, json!({"user": "me"}))), "not routed yet");
        assert!(of.takes(&event(1, json!({"flow": "prod"}))));
        assert!(!of.takes(&event(2, json!({"flow": "dev"}))));
        assert!(of.takes(&event(1, json!({"step": 1}))));
        assert!(!of.takes(&event(2, json!({"step": 1}))));
    }

    #[test]
    fn only_so_many_messages_are_remembered_and_the_oldest_go_first() {
        let mut of = Related::new("flow", "prod".to_owned(), &[EventType::MessageRouted]);
        for n in 0..=MAX_MESSAGES as u128 {
            assert!(of.takes(&event(n, json!({"flow": "prod"}))));
        }
        assert!(!of.takes(&event(0, json!({}))));
        assert!(of.takes(&event(1, json!({}))));
        assert_eq!((of.known.len(), of.order.len()), (MAX_MESSAGES, MAX_MESSAGES));
    }
}
