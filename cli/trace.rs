//! The causal tree of one message, from its events. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::output;

/// Longest description of an event in characters.
const MAX_DETAIL_CHARS: usize = 96;
/// Fields that say most, in this order; all others stay in the JSON.
const TOLD: [&str; 20] = [
    "flow",
    "agent",
    "platform",
    "user",
    "voter",
    "choice",
    "why",
    "missing",
    "outcome",
    "by",
    "reason",
    "unresolved_channel",
    "role",
    "detail",
    "status",
    "text",
    "argv",
    "tool",
    "command",
    "findings",
];

/// One event and what it led to.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Node {
    /// The event.
    pub event: Value,
    /// Milliseconds since the first event of the tree.
    pub after_ms: u64,
    /// What it led to, in order.
    pub children: Vec<Node>,
}

/// The events of the message that `id` names: by itself, or by its run, action, event or trace.
#[must_use]
pub fn of_message(events: Vec<Value>, id: &str) -> Vec<Value> {
    let named = |event: &Value| {
        let ids = ["message_id", "run_id", "id", "trace_id"].map(|field| &event[field]);
        ids.into_iter().chain([&event["data"]["action_id"]]).any(|v| v.as_str() == Some(id))
    };
    let messages: BTreeSet<String> = events
        .iter()
        .filter(|event| named(event))
        .filter_map(|event| event["message_id"].as_str().map(str::to_owned))
        .collect();
    let mut chosen: Vec<Value> = events
        .into_iter()
        .filter(|event| match event["message_id"].as_str() {
            Some(message) => messages.contains(message),
            None => named(event),
        })
        .collect();
    chosen.sort_by_key(seq);
    chosen
}

fn seq(event: &Value) -> u64 {
    event["seq"].as_u64().unwrap_or_default()
}

fn at_ms(event: &Value) -> Option<i64> {
    let time = event["time"].as_str()?;
    time.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}

/// Builds the trees of `events`, which are in order. An event whose cause is not among the
/// earlier ones hangs below its action's holding, else below the first event.
#[must_use]
pub fn tree(events: &[Value]) -> Vec<Node> {
    let start = events.first().and_then(at_ms).unwrap_or_default();
    let mut position: BTreeMap<&str, usize> = BTreeMap::new();
    let mut held: BTreeMap<&str, usize> = BTreeMap::new();
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); events.len()];
    let mut roots = Vec::new();
    for (n, event) in events.iter().enumerate() {
        let cause = event["causation_id"].as_str().and_then(|id| position.get(id));
        let action = event["data"]["action_id"].as_str();
        let holding = action.and_then(|id| held.get(id));
        match cause.or(holding).copied().or((n > 0).then_some(0)) {
            Some(parent) => children[parent].push(n),
            None => roots.push(n),
        }
        if let Some(id) = event["id"].as_str() {
            position.insert(id, n);
        }
        if let (Some(action), Some("action.held")) = (action, event["type"].as_str()) {
            held.insert(action, n);
        }
    }
    // From the last to the first: children come after their parents.
    let mut built: Vec<Option<Node>> = vec![None; events.len()];
    for n in (0..events.len()).rev() {
        let below = children[n].iter().filter_map(|c| built[*c].take()).collect();
        let after = at_ms(&events[n]).unwrap_or(start).saturating_sub(start);
        let after_ms = u64::try_from(after).unwrap_or_default();
        built[n] = Some(Node { event: events[n].clone(), after_ms, children: below });
    }
    roots.into_iter().filter_map(|n| built[n].take()).collect()
}

/// The trees as indented lines with times.
#[must_use]
pub fn draw(trees: &[Node]) -> String {
    let mut rows = Vec::new();
    for tree in trees {
        draw_node(tree, "", "", &mut rows);
    }
    let width = rows.iter().map(|(label, _, _)| label.chars().count()).max().unwrap_or_default();
    let line = |(label, time, detail): &(String, String, String)| {
        let pad = " ".repeat(width - label.chars().count());
        format!("{label}{pad}  {time:>9}  {detail}").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn draw_node(node: &Node, first: &str, rest: &str, rows: &mut Vec<(String, String, String)>) {
    let kind = node.event["type"].as_str().unwrap_or("?");
    let time = format!("+{}", output::duration(node.after_ms));
    rows.push((format!("{first}{kind}"), time, detail(&node.event)));
    for (n, child) in node.children.iter().enumerate() {
        let last = n + 1 == node.children.len();
        let (turn, bar) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        draw_node(child, &format!("{rest}{turn}"), &format!("{rest}{bar}"), rows);
    }
}

/// What an event says, in one line.
#[must_use]
pub fn detail(event: &Value) -> String {
    let data = &event["data"];
    let told = TOLD.iter().filter_map(|field| {
        let value = match (&data[*field], *field) {
            (Value::Null, _) => return None,
            (argv @ Value::Array(_), "argv") => output::shell_words(argv),
            (Value::Array(who), "by") => {
                who.iter().map(output::identity).collect::<Vec<_>>().join(",")
            }
            (Value::Array(findings), "findings") => {
                findings.first().map(output::text).unwrap_or_default()
            }
            (value @ Value::Object(_), _) => output::identity(value),
            (value, _) => output::text(value),
        };
        (!value.is_empty()).then(|| format!("{field}={value}"))
    });
    let line = output::visible(&told.collect::<Vec<_>>().join(" ").replace('\n', " "));
    if line.chars().count() <= MAX_DETAIL_CHARS {
        return line;
    }
    let kept: String = line.chars().take(MAX_DETAIL_CHARS - 1).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(seq: u64, kind: &str, cause: Option<&str>, data: Value) -> Value {
        json!({
            "id": format!("e{seq}"), "seq": seq, "type": kind, "message_id": "m1",
            "time": format!("2026-01-01T00:00:0{}.{:03}Z", seq / 4, seq * 10),
            "causation_id": cause, "data": data,
        })
    }

    fn story() -> Vec<Value> {
        vec![
            event(1, "message.accepted", None, json!({"platform": "slack", "user": "me"})),
            event(2, "message.routed", Some("e1"), json!({"flow": "prod", "agent": "ops"})),
            event(3, "action.held", Some("e2"), json!({"action_id": "a1", "argv": ["rm", "x y"]})),
            event(
                4,
                "approval.voted",
                Some("a vote, no event"),
                json!({"action_id": "a1", "voter": {"platform": "slack", "user": "a"},
                       "choice": "approve", "missing": 0}),
            ),
            event(5, "action.approved", Some("e4"), json!({"action_id": "a1"})),
            event(6, "run.completed", Some("later"), json!({"status": "success"})),
        ]
    }

    #[test]
    fn the_tree_follows_causes_with_times() {
        let expected = "\
message.accepted                 +0 ms  platform=slack user=me
├─ message.routed               +10 ms  flow=prod agent=ops
│  └─ action.held               +20 ms  argv=rm 'x y'
│     └─ approval.voted         +1.0 s  voter=slack:a choice=approve missing=0
│        └─ action.approved     +1.0 s
└─ run.completed                +1.0 s  status=success";
        assert_eq!(draw(&tree(&story())), expected);
    }

    #[test]
    fn a_rejected_edit_names_its_first_finding() {
        let data = json!({"serving": "r1", "errors": 2, "findings": ["a.yaml:3: error: no", "x"]});
        let shown = detail(&event(1, "config.rejected", None, data));
        assert_eq!(shown, "findings=a.yaml:3: error: no");
    }

    #[test]
    fn a_message_is_found_by_any_of_its_ids() {
        let mut events = story();
        let mut other = event(7, "message.accepted", None, json!({}));
        other["message_id"] = json!("m2");
        events.push(other);
        for id in ["m1", "a1", "e5"] {
            assert_eq!(of_message(events.clone(), id).len(), 6, "{id}");
        }
        assert_eq!(of_message(events.clone(), "m2").len(), 1);
        assert!(of_message(events, "nobody").is_empty());
    }
}
