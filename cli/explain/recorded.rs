//! A message as a node's journal tells it. Texts are not journaled.

use anyhow::bail;
use aof_shared::ids::{AgentName, InstanceName, MessageId, PlatformName, TenantId};
use aof_shared::message::MessageKind;
use serde_json::Value;

use crate::client::{Client, Connect};
use crate::journal::{Selection, history};
use crate::trace::of_message;

/// What the journal says of a message.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Recorded {
    pub(super) id: Option<MessageId>,
    pub(super) platform: Option<PlatformName>,
    pub(super) instance: Option<InstanceName>,
    pub(super) channel: Option<String>,
    /// The name that the router knew then.
    pub(super) channel_name: Option<String>,
    pub(super) user: Option<String>,
    pub(super) kind: Option<MessageKind>,
    pub(super) agent: Option<AgentName>,
    /// What became of it: `routed to …`, or the event's type.
    pub(super) outcome: Option<String>,
}

/// Reads the message that `id` names: by itself, or by its run, event or trace.
pub(super) async fn read(server: &str, tenant: &TenantId, id: &str) -> anyhow::Result<Recorded> {
    let connect = Connect { server: server.to_owned(), account: Some(tenant.clone()) };
    let client = Client::new(&connect).await?;
    let by_message = Selection { of: Some(("message_id", id.to_owned())), ..Selection::default() };
    // Any other id is looked for among all messages.
    let by_any = Selection { types: vec!["message.*".to_owned()], ..Selection::default() };
    for selection in [by_message, by_any] {
        let mut events = Vec::new();
        let read = history(&client, &selection, |event| events.push(event)).await;
        if let Some(recorded) = from_events(&of_message(events, id)) {
            return Ok(recorded);
        }
        if selection.of.is_none() {
            read?;
        }
    }
    bail!("the journal of `{tenant}` holds no message, run or event {id}")
}

fn from_events(events: &[Value]) -> Option<Recorded> {
    let of_type = |kind: &str| events.iter().find(|event| event["type"] == kind);
    let accepted = of_type("message.accepted")?;
    let data = &accepted["data"];
    let text = |name: &str| data[name].as_str().map(str::to_owned);
    let decided = ["message.routed", "message.unrouted", "message.ignored"];
    let decided = decided.into_iter().find_map(of_type);
    Some(Recorded {
        id: accepted["message_id"].as_str().and_then(|id| id.parse().ok()),
        platform: text("platform").and_then(|name| name.parse().ok()),
        instance: text("instance").and_then(|name| name.parse().ok()),
        channel: text("channel"),
        channel_name: decided.and_then(|e| e["data"]["channel_name"].as_str()).map(str::to_owned),
        user: text("user"),
        kind: serde_json::from_value(data["kind"].clone()).ok(),
        agent: text("agent").and_then(|name| name.parse().ok()),
        outcome: decided.map(outcome),
    })
}

fn outcome(event: &Value) -> String {
    let revision = event["revision"].as_str().unwrap_or("unknown");
    let what = match event["data"]["flow"].as_str() {
        Some(flow) => format!("routed to {flow} with score {}", event["data"]["score"]),
        None => event["type"].as_str().unwrap_or("unknown").to_owned(),
    };
    format!("{what}, under revision {revision}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_is_read_from_its_events() {
        let id = "5b1d9c6e-0f4a-5c1e-9d57-a0f10c1d57e4";
        let events = [
            json!({ "type": "message.accepted", "message_id": id, "data": {
                "platform": "slack", "instance": "main", "channel": "C024BE91L",
                "user": "U1", "kind": "command", "agent": null } }),
            json!({ "type": "message.routed", "message_id": id, "revision": "abc", "data": {
                "flow": "prod", "score": 140, "channel_name": "production" } }),
        ];
        let recorded = from_events(&events).expect("an accepted message");
        assert_eq!(recorded.channel.as_deref(), Some("C024BE91L"));
        assert_eq!(recorded.channel_name.as_deref(), Some("production"));
        assert_eq!(recorded.kind, Some(MessageKind::Command));
        assert_eq!(recorded.agent, None);
        let outcome = "routed to prod with score 140, under revision abc";
        assert_eq!(recorded.outcome.as_deref(), Some(outcome));
        assert_eq!(from_events(&events[1..]), None);
    }
}
