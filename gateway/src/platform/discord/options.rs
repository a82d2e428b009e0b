//! What somebody asked for with a command or a form, as one line of text. Pure.

use serde::Deserialize;
use serde_json::Value;

/// How deep options may lie: a group, a command in it, and its options.
const MAX_DEPTH: usize = 4;
/// Values that one command or form is read for; Discord takes 25 a level.
const MAX_VALUES: usize = 64;

/// The `data` of a command or a form.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Data {
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) custom_id: Option<String>,
    #[serde(default)]
    options: Vec<Given>,
    #[serde(default)]
    components: Vec<Value>,
    #[serde(default)]
    target_id: Option<String>,
    #[serde(default)]
    resolved: Value,
}

#[derive(Debug, Deserialize)]
struct Given {
    #[serde(default)]
    name: String,
    #[serde(default)]
    value: Value,
    #[serde(default)]
    options: Vec<Given>,
}

impl Data {
    /// Names of subcommands and all values, in their order; without any, the command's name.
    /// Of a command on a message that message's text, of one on a person their id.
    pub(super) fn text(&self) -> String {
        let mut words = Vec::new();
        collect(&self.options, 0, &mut words);
        fields(&Value::Array(self.components.clone()), 0, &mut words);
        let name = self.name.as_deref().unwrap_or_default();
        if let Some(target) = &self.target_id {
            let message = &self.resolved["messages"][target]["content"];
            words.push(name.to_owned());
            words.push(message.as_str().map_or_else(|| format!("@{target}"), str::to_owned));
        }
        let text = words.join(" ");
        if text.trim().is_empty() { name.to_owned() } else { text.trim().to_owned() }
    }
}

fn collect(options: &[Given], depth: usize, words: &mut Vec<String>) {
    for given in options {
        if words.len() >= MAX_VALUES || depth >= MAX_DEPTH {
            return;
        }
        if given.value.is_null() {
            words.push(given.name.clone());
            collect(&given.options, depth + 1, words);
        } else {
            words.extend(shown(&given.value));
        }
    }
}

/// The values of a form's fields: rows and labels hold `components` or one `component`.
fn fields(part: &Value, depth: usize, words: &mut Vec<String>) {
    if words.len() >= MAX_VALUES || depth > 2 * MAX_DEPTH {
        return;
    }
    match part {
        Value::Array(parts) => parts.iter().for_each(|part| fields(part, depth + 1, words)),
        Value::Object(part) => {
            words.extend(part.get("value").and_then(shown));
            let values = part.get("values").and_then(Value::as_array);
            words.extend(values.into_iter().flatten().filter_map(shown));
            for name in ["components", "component"] {
                if let Some(inner) = part.get(name) {
                    fields(inner, depth + 1, words);
                }
            }
        }
        _ => {}
    }
}

fn shown(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(data: Value, expected: &str) {
        let read: Data = serde_json::from_value(data.clone()).expect("data");
        assert_eq!(read.text(), expected, "{data}");
    }

    #[test]
    fn what_was_asked_for_is_one_line() {
        check(json!({"name": "ops"}), "ops");
        check(json!({"name": "ops", "options": [{"name": "q", "value": "get pods"}]}), "get pods");
        let replicas = json!([{"name": "app", "value": "web"}, {"name": "n", "value": 3}]);
        let scale = json!([{"name": "scale", "type": 1, "options": replicas}]);
        check(json!({"name": "ops", "options": scale}), "scale web 3");
        let on = json!({"messages": {"1": {"content": "it is down"}}});
        check(json!({"name": "Look at", "target_id": "1", "resolved": on}), "Look at it is down");
        check(json!({"name": "Who is", "target_id": "2"}), "Who is @2");
        let row = json!([{"type": 1, "components": [{"type": 4, "value": "why"}]}]);
        check(json!({"custom_id": "form", "components": row}), "why");
        let label = json!([{"type": 18, "component": {"type": 3, "values": ["a", "b"]}}]);
        check(json!({"custom_id": "form", "components": label}), "a b");
    }
}
