//! Reads which tools an agent has, and how each is restricted.

use std::collections::BTreeMap;

use crate::config::ToolConfig;

use super::finding::At;
use super::read::{Fields, Scope, Text, is_key};
use super::suggest::nearest;
use super::yaml::{Node, Value};

/// First words that well-known programs take, to notice slips in `allowed_commands`.
const COMMANDS: [(&str, &[&str]); 3] = [
    (
        "kubectl",
        &[
            "annotate",
            "apply",
            "attach",
            "auth",
            "autoscale",
            "cordon",
            "cp",
            "create",
            "debug",
            "delete",
            "describe",
            "diff",
            "drain",
            "edit",
            "events",
            "exec",
            "explain",
            "expose",
            "get",
            "label",
            "logs",
            "patch",
            "port-forward",
            "replace",
            "rollout",
            "run",
            "scale",
            "set",
            "taint",
            "top",
            "uncordon",
            "version",
            "wait",
        ],
    ),
    (
        "helm",
        &[
            "create",
            "dependency",
            "diff",
            "get",
            "history",
            "install",
            "lint",
            "list",
            "rollback",
            "search",
            "show",
            "status",
            "template",
            "test",
            "uninstall",
            "upgrade",
            "verify",
            "version",
        ],
    ),
    (
        "terraform",
        &[
            "apply",
            "destroy",
            "fmt",
            "graph",
            "import",
            "init",
            "output",
            "plan",
            "refresh",
            "show",
            "state",
            "taint",
            "untaint",
            "validate",
            "version",
            "workspace",
        ],
    ),
];

/// `tools`: names, or mappings that have one.
pub(super) fn tools(fields: &mut Fields<'_, '_>) -> Option<Vec<String>> {
    let node = fields.take("tools")?;
    let Value::List(items) = &node.value else {
        return Some(fields.scope.texts(node, "tools").into_iter().map(|t| t.value).collect());
    };
    Some(items.iter().filter_map(|item| tool_name(fields.scope, item)).collect())
}

fn tool_name(scope: &Scope<'_>, item: &Node<'_>) -> Option<String> {
    if !matches!(item.value, Value::Map(_)) {
        return scope.text(item, "tools").map(|text| text.value);
    }
    let mut tool = Fields::of(scope, item, "tools[]")?;
    let name = tool.text("name");
    if name.is_none() {
        let message = "this form of tool is not read: the tool is left out".to_owned();
        let help = "write the program's name, and its settings below `tool_config`".to_owned();
        scope.warn_with("not-supported", item.at, (message, help));
        return None;
    }
    tool.known(&["description", "type"]);
    tool.finish();
    name.map(|text| text.value)
}

/// `tool_config`: settings by tool. `tools` are those it may configure, when known.
pub(super) fn tool_config(
    fields: &mut Fields<'_, '_>,
    tools: Option<&[String]>,
) -> BTreeMap<String, ToolConfig> {
    let mut all = BTreeMap::new();
    let Some(mut configs) = fields.fields("tool_config", "tool_config") else { return all };
    for (key, node) in configs.rest() {
        let scope = configs.scope;
        if tools.is_some_and(|tools| !tools.iter().any(|tool| *tool == key.text)) {
            let message = format!("`{}` is configured here, but not among `tools`", key.text);
            let help = "add it to `tools`, or correct the name".to_owned();
            scope.warn_with("unused-tool-config", key.at, (message, help));
        }
        let Some(mut tool) = Fields::of(scope, node, "tool_config") else { continue };
        let mut config = ToolConfig::default();
        if let Some(node) = tool.take("allowed_commands") {
            let commands = scope.texts(node, "allowed_commands");
            commands.iter().for_each(|command| check_command(scope, &key.text, command));
            config.allowed_commands = Some(commands.into_iter().map(|t| t.value).collect());
        }
        for (setting, node) in tool.rest() {
            misspelt(scope, &setting.text, setting.at);
            if setting.text == "network" {
                check_network(scope, node);
            }
            config.settings.insert(setting.text.to_string(), scope.json(node, &setting.text));
        }
        all.insert(key.text.to_string(), config);
    }
    all
}

/// A misspelt `allowed_commands` or `network` would allow everything, so it does not load.
fn misspelt(scope: &Scope<'_>, key: &str, at: At) {
    let meant = match nearest(key, ["allowed_commands", "allow_commands", "network"]) {
        Some("network") => "network",
        Some(_) => "allowed_commands",
        None => return,
    };
    if !is_key(key, meant) {
        let message = format!("`{key}` restricts nothing");
        let help = format!("did you mean `{meant}`?");
        scope.error_with("unknown-key", at, (message, help));
    }
}

/// `none`, or ports: what is neither would close what was meant to be open.
fn check_network(scope: &Scope<'_>, node: &Node<'_>) {
    for text in scope.texts(node, "network") {
        let list = matches!(node.value, Value::List(_));
        let right = if list { text.value.parse::<u16>().is_ok() } else { text.value == "none" };
        if !right {
            let message = format!("`{}` is not a network for a tool", text.shown());
            let help = "use `none`, or a list of TCP ports such as `[443]`".to_owned();
            scope.error_with("wrong-value", text.at, (message, help));
        }
    }
}

/// A slip in a command's first word, which would never match.
fn check_command(scope: &Scope<'_>, tool: &str, command: &Text) {
    let Some((_, known)) = COMMANDS.iter().find(|(name, _)| *name == tool) else { return };
    let first = command.value.split_whitespace().next().unwrap_or_default();
    if known.contains(&first) || command.written.is_some() {
        return;
    }
    if let Some(near) = nearest(first, known.iter().copied()) {
        let message = format!("`{first}` is not a command of {tool}, so it allows nothing");
        let help = format!("did you mean `{near}`?");
        scope.warn_with("unknown-command", command.at, (message, help));
    }
}
