//! Reads `kind: Agent`, in the form with `metadata` and `spec` and in the flat one.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{
    Agent, DEFAULT_MAX_ITERATIONS, Memory, ModelRef, Runtime, SessionStrategy, SourceRef,
};
use crate::ids::{AgentName, Revision};

use super::finding::At;
use super::instance::NAME_RULE;
use super::read::{Fields, Text};
use super::tool;
use super::yaml::Value;

/// An agent and where its name stands.
#[derive(Debug)]
pub(super) struct AgentDoc {
    pub(super) agent: Arc<Agent>,
    pub(super) at: At,
    /// Its name as written, when it came from a variable.
    pub(super) written: Option<Box<str>>,
    /// Where its model is named.
    pub(super) model_at: At,
}

/// Reads an agent's fields below `spec`, or of the whole document in the flat form.
pub(super) fn read(
    mut spec: Fields<'_, '_>,
    name: &Text,
    source: &str,
    line: u32,
) -> Option<AgentDoc> {
    let scope = spec.scope;
    let model = spec.text("model");
    let model_at = model.as_ref().map_or(name.at, |text| text.at);
    let model = model.map(|text| model_ref(&text.value)).unwrap_or_default();
    let instructions = spec.any(&["instructions", "system_prompt"]);
    let instructions = instructions.and_then(|(_, node)| scope.text(node, "instructions"));
    let tools = tool::tools(&mut spec).unwrap_or_default();
    let tool_config = tool::tool_config(&mut spec, Some(&tools));
    let mut agent = Agent {
        revision: Revision::of(source.as_bytes()),
        source: SourceRef { file: PathBuf::from(&**scope.file), line: line as usize },
        runtime: runtime(&mut spec),
        model,
        instructions: instructions.map(|text| text.value).unwrap_or_default(),
        tools,
        tool_config,
        max_iterations: spec.positive("max_iterations").unwrap_or(DEFAULT_MAX_ITERATIONS),
        temperature: temperature(&mut spec),
        max_tokens: spec.positive("max_tokens"),
        memory: memory(&mut spec),
        ..Agent::new(agent_name(&spec, name)?)
    };
    if let Some(mut config) = spec.fields("model_config", "spec.model_config") {
        agent.temperature = agent.temperature.or(temperature(&mut config));
        agent.max_tokens = agent.max_tokens.or(config.positive("max_tokens"));
        config.finish();
    }
    if let Some((key, _)) = spec.entry("mcp_servers") {
        let message = "`mcp_servers` has no effect yet: tools of MCP servers are not offered";
        let help = "name command-line tools in `tools` meanwhile".to_owned();
        scope.warn_with("not-supported", key.at, (message.to_owned(), help));
    }
    spec.known(&["description", "labels", "capabilities"]);
    spec.finish();
    if agent.runtime == Runtime::Model && agent.model.name.is_empty() {
        let help = "add `model: provider:name`, or `runtime: command` to run without one";
        let message = format!("agent `{}` names no model", name.shown());
        scope.warn_with("no-model", name.at, (message, help.to_owned()));
    }
    Some(AgentDoc { agent: Arc::new(agent), at: name.at, written: name.written.clone(), model_at })
}

/// `name`, when it is one subject token.
pub(super) fn agent_name(fields: &Fields<'_, '_>, name: &Text) -> Option<AgentName> {
    let agent = AgentName::new(&name.value).ok();
    if agent.is_none() {
        let message = format!("`{}` is not a usable agent name", name.shown());
        fields.scope.error_with("bad-name", name.at, (message, NAME_RULE.to_owned()));
    }
    agent
}

/// Splits `provider:name` at the first colon.
fn model_ref(text: &str) -> ModelRef {
    let (provider, name) = text.split_once(':').unwrap_or(("", text));
    ModelRef { provider: provider.trim().to_ascii_lowercase(), name: name.trim().to_owned() }
}

fn runtime(spec: &mut Fields<'_, '_>) -> Runtime {
    let Some(text) = spec.text("runtime") else { return Runtime::default() };
    match text.value.as_str() {
        "model" => Runtime::Model,
        "command" => Runtime::Command,
        "remote" => Runtime::Remote,
        _ => {
            let message = format!("`{}` is not a runtime", text.shown());
            let help = "use `model`, `command` or `remote`".to_owned();
            spec.scope.error_with("wrong-value", text.at, (message, help));
            Runtime::default()
        }
    }
}

fn temperature(spec: &mut Fields<'_, '_>) -> Option<f64> {
    let text = spec.text("temperature")?;
    let number = text.value.parse::<f64>().ok().filter(|t| (0.0..=2.0).contains(t));
    if number.is_none() {
        let message = "`temperature` must be a number from 0 to 2";
        spec.scope.error("wrong-number", text.at, message);
    }
    number
}

/// `memory`: a word (`none`, or a store's name, which is ours to choose), or its fields.
fn memory(spec: &mut Fields<'_, '_>) -> Memory {
    let mut memory = Memory::default();
    let Some(node) = spec.take("memory") else { return memory };
    if let Value::Scalar { text, .. } = &node.value {
        if matches!(text.as_ref(), "none" | "false" | "off") {
            memory.max_messages = 0;
        }
        return memory;
    }
    let Some(mut fields) = Fields::of(spec.scope, node, "spec.memory") else { return memory };
    if let Some(text) = fields.text("session") {
        memory.session = match text.value.as_str() {
            "per_user" => SessionStrategy::PerUser,
            "per_chat" => SessionStrategy::PerChat,
            "per_user_per_chat" => SessionStrategy::PerUserPerChat,
            _ => {
                let message = format!("`{}` is not a way to share memory", text.shown());
                let help = "use `per_user`, `per_chat` or `per_user_per_chat`".to_owned();
                fields.scope.error_with("wrong-value", text.at, (message, help));
                memory.session
            }
        };
    }
    if let Some(text) = fields.text("max_messages") {
        match text.value.parse() {
            Ok(number) => memory.max_messages = number,
            Err(_) => {
                let message = "`max_messages` must be a whole number";
                fields.scope.error("wrong-number", text.at, message);
            }
        }
    }
    fields.known(&["type", "config"]);
    fields.finish();
    memory
}
