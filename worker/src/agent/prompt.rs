//! What a model is told: the agent's instructions, where it works, and its tools. Pure.

use std::collections::BTreeMap;

use aof_shared::message::Message;
use serde_json::json;

use crate::job::Setup;
use crate::model::ToolSpec;
use crate::tool::http;

/// Longest tool name that all providers take.
const MAX_TOOL_NAME: usize = 64;

/// The system text: instructions, then the flow's surroundings.
pub(super) fn system(setup: &Setup) -> String {
    let mut lines = Vec::new();
    let instructions = setup.agent.instructions.trim();
    if !instructions.is_empty() {
        lines.push(instructions.to_owned());
    }
    let context = &setup.flow.context;
    for (what, value) in [("cluster", &context.cluster_name), ("namespace", &context.namespace)] {
        if let Some(value) = value {
            lines.push(format!("You work in the {what} `{value}`."));
        }
    }
    if !setup.tools().is_empty() {
        lines.push(
            "Tools run without a shell: no pipes, redirections, variables or wildcards. A \
             destructive command waits for people's approval before it runs."
                .to_owned(),
        );
    }
    lines.join("\n\n")
}

/// What the user wrote, and which files came with it.
pub(super) fn user(message: &Message) -> String {
    let mut text = message.text.clone();
    for media in &message.media {
        let name = media.name.as_deref().unwrap_or("unnamed");
        text.push_str(&format!("\n[file: {name}, {}]", media.mime));
    }
    text
}

/// The tools as a model sees them, and which tool each name stands for.
pub(super) fn tools(names: &[String]) -> (Vec<ToolSpec>, BTreeMap<String, String>) {
    let mut specs = Vec::with_capacity(names.len());
    let mut meant = BTreeMap::new();
    for tool in names {
        let name: String = tool
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' })
            .take(MAX_TOOL_NAME)
            .collect();
        if meant.insert(name.clone(), tool.clone()).is_none() {
            specs.push(spec(name, tool));
        }
    }
    (specs, meant)
}

fn spec(name: String, tool: &str) -> ToolSpec {
    if http::NAMES.contains(&tool) {
        let language = if tool == "loki_query" { "LogQL" } else { "PromQL" };
        return ToolSpec {
            name,
            description: format!("Runs a {language} query and returns the server's JSON."),
            schema: json!({
                "type": "object",
                "properties": {"query": {"type": "string", "description": language}},
                "required": ["query"],
            }),
        };
    }
    ToolSpec {
        name,
        description: format!("Runs the program `{tool}` and returns what it prints."),
        schema: json!({
            "type": "object",
            "properties": {"args": {
                "type": "array",
                "items": {"type": "string"},
                "description": format!("the arguments after `{tool}`, one a list item"),
            }},
            "required": ["args"],
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tool_names_suit_every_provider_and_map_back() {
        let names = ["kubectl", "python3.12", "loki_query"].map(str::to_owned);
        let (specs, meant) = tools(&names);
        let seen: Vec<_> = specs.iter().map(|spec| spec.name.as_str()).collect();
        assert_eq!(seen, ["kubectl", "python3_12", "loki_query"]);
        assert_eq!(meant["python3_12"], "python3.12");
        assert_eq!(specs[2].schema["required"][0], "query");
    }
}
