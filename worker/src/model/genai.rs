//! Real models, over the `genai` crate: OpenAI-compatible, Anthropic, Gemini, Ollama.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aof_shared::config::{Daemon, ModelEndpoint, ModelRef};
use futures_util::StreamExt;
use genai::adapter::AdapterKind;
use genai::chat::{
    ChatMessage, ChatOptions, ChatRequest, ChatStreamEvent, ContentPart, MessageContent, StreamEnd,
    Tool, ToolCall, ToolResponse,
};
use genai::resolver::{AuthData, Endpoint};
use genai::{Client, ModelIden, ServiceTarget};

use crate::agent::stream::AnswerStream;
use crate::checkpoint::{Call, Entry};
use crate::model::failure::{NONSENSE, classify, shown};
use crate::model::{ModelError, Request, Role, Said, estimate_tokens};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for the first byte of an answer: a large local model may load first.
const HEADER_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest silence within an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest answer of one call; a model that never stops is cut off here.
const MAX_TEXT_BYTES: usize = 256 * 1024;
/// Most tool calls of one answer; more are nonsense.
const MAX_CALLS: usize = 16;
/// Sent where a server wants no key: some clients insist on one.
const NO_KEY: &str = "none";

/// Clients by what they talk to; connections are shared.
pub(super) struct Clients {
    http: Option<reqwest::Client>,
    clients: Mutex<HashMap<Target, Client>>,
}

/// Most endpoints that clients are kept for; configurations have a handful.
const MAX_CLIENTS: usize = 64;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Target {
    kind: AdapterKind,
    base_url: Option<String>,
    key: Option<String>,
}

impl Target {
    /// What must not be shown: the configured key, or that of the provider's variable.
    fn secret(&self) -> Option<String> {
        let conventional =
            || self.kind.default_key_env_name().and_then(|name| std::env::var(name).ok());
        let key = self.key.clone().filter(|key| key != NO_KEY).or_else(conventional);
        key.filter(|key| !key.is_empty())
    }

    /// Whether an answer came to its end. Two APIs have no sign of the end but the reason
    /// itself, and their streams also end, without one, when the connection closes.
    fn is_whole(&self, end: &StreamEnd) -> bool {
        match self.kind {
            AdapterKind::Gemini => end.captured_stop_reason.is_some(),
            // Versions before 0.3 give counts and no reason.
            AdapterKind::Ollama => {
                end.captured_stop_reason.is_some() || end.captured_usage.is_some()
            }
            _ => true,
        }
    }
}

impl Clients {
    pub(super) fn new() -> Self {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build();
        if let Err(error) = &http {
            tracing::error!(error = %error, "no HTTP client for models: TLS cannot be set up");
        }
        Self { http: http.ok(), clients: Mutex::default() }
    }

    /// One call, without retries.
    pub(super) async fn call(
        &self,
        daemon: &Daemon,
        model: &ModelRef,
        request: &Request,
        stream: &mut AnswerStream,
    ) -> Result<Said, ModelError> {
        let target = target(daemon, model)?;
        let client = self.client(&target)?;
        let failed = |e: &genai::Error| classify(e, target.secret().as_deref());
        let iden = ModelIden::new(target.kind, model.name.clone());
        let options = options(request);
        let asked = client.exec_chat_stream(iden, chat_request(request), Some(&options)).await;
        let mut events = asked.map_err(|e| failed(&e))?.stream;
        let mut text = String::new();
        let mut begun = false;
        while let Some(event) = events.next().await {
            match event.map_err(|e| failed(&e))? {
                ChatStreamEvent::Chunk(chunk) => {
                    begun = true;
                    text.push_str(&chunk.content);
                    stream.push(&chunk.content).await;
                    if text.len() > MAX_TEXT_BYTES {
                        let tokens = estimate_tokens(&text);
                        return Ok(Said { text, calls: Vec::new(), tokens });
                    }
                }
                ChatStreamEvent::End(end) if target.is_whole(&end) => {
                    return said(end, text, request);
                }
                ChatStreamEvent::Start | ChatStreamEvent::End(_) => {}
                _ => begun = true,
            }
        }
        Err(ModelError::transient(if begun { "its answer broke off" } else { NONSENSE }))
    }

    fn client(&self, target: &Target) -> Result<Client, ModelError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(target) {
            return Ok(client.clone());
        }
        let http = self.http.clone().ok_or_else(|| ModelError::Rejected {
            reason: "this node cannot set up TLS".to_owned(),
        })?;
        let built = build(http, target.clone())?;
        if clients.len() >= MAX_CLIENTS {
            clients.clear();
        }
        clients.insert(target.clone(), built.clone());
        Ok(built)
    }
}

fn build(http: reqwest::Client, target: Target) -> Result<Client, ModelError> {
    let resolve = move |mut service: ServiceTarget| -> Result<_, genai::resolver::Error> {
        if let Some(url) = &target.base_url {
            service.endpoint = Endpoint::from_owned(url.clone());
        }
        if let Some(key) = &target.key {
            service.auth = AuthData::from_single(key.clone());
        }
        Ok(service)
    };
    Client::builder()
        .with_reqwest(http)
        .with_service_target_resolver_fn(resolve)
        .build()
        .map_err(|e| ModelError::Rejected { reason: shown(&e.to_string()) })
}

/// Where a model is, and with which key.
fn target(daemon: &Daemon, model: &ModelRef) -> Result<Target, ModelError> {
    let nothing = ModelEndpoint::default();
    let endpoint = daemon.models.get(&model.provider).unwrap_or(&nothing);
    let api = endpoint.api.as_deref().unwrap_or(&model.provider);
    let kind = kind(api, model, endpoint.base_url.is_some())?;
    let base_url = endpoint.base_url.as_ref().map(|url| format!("{}/", url.trim_end_matches('/')));
    let key = endpoint.api_key.as_ref().map(|key| key.expose().to_owned());
    // The conventional variable's key belongs to the provider, not to another's address.
    let key = key.or_else(|| base_url.as_ref().map(|_| NO_KEY.to_owned()));
    let target = Target { kind, base_url, key };
    match kind.default_key_env_name() {
        Some(variable) if target.secret().is_none() && target.key.is_none() => {
            let provider = Some(&model.provider).filter(|name| !name.is_empty());
            let or = provider
                .map(|name| format!(", or name another in `spec.models.{name}.api_key_env`"));
            let or = or.unwrap_or_default();
            Err(ModelError::Unconfigured(format!(
                "the model `{}` needs a key; set {variable} where the node runs{or}",
                model.name
            )))
        }
        _ => Ok(target),
    }
}

fn kind(api: &str, model: &ModelRef, has_url: bool) -> Result<AdapterKind, ModelError> {
    match api {
        "openai" => Ok(AdapterKind::OpenAI),
        "anthropic" => Ok(AdapterKind::Anthropic),
        "google" | "gemini" => Ok(AdapterKind::Gemini),
        "ollama" => Ok(AdapterKind::Ollama),
        "" => AdapterKind::from_model(&model.name)
            .map_err(|e| ModelError::Unconfigured(shown(&e.to_string()))),
        other => match AdapterKind::from_lower_str(other) {
            Some(kind) => Ok(kind),
            None if has_url => Ok(AdapterKind::OpenAI),
            None => Err(ModelError::Unconfigured(format!(
                "the provider `{other}` of the model `{}` is not known; set \
                 `spec.models.{other}.base_url` in the daemon's configuration",
                model.name
            ))),
        },
    }
}

fn options(request: &Request) -> ChatOptions {
    let mut options = ChatOptions::default()
        .with_capture_usage(true)
        .with_capture_tool_calls(true)
        .with_stream_header_timeout(HEADER_TIMEOUT)
        .with_stream_read_timeout(READ_TIMEOUT);
    if let Some(temperature) = request.temperature {
        options = options.with_temperature(temperature);
    }
    if let Some(max_tokens) = request.max_tokens {
        options = options.with_max_tokens(max_tokens);
    }
    options
}

fn chat_request(request: &Request) -> ChatRequest {
    let mut messages = Vec::with_capacity(request.history.len() + request.transcript.len() + 1);
    for (role, text) in &request.history {
        messages.push(match role {
            Role::User => ChatMessage::user(text.as_str()),
            Role::Assistant => ChatMessage::assistant(text.as_str()),
        });
    }
    messages.push(ChatMessage::user(request.user.as_str()));
    messages.extend(request.transcript.iter().map(message_of));
    let mut chat = ChatRequest::new(messages);
    if !request.system.is_empty() {
        chat = chat.with_system(request.system.as_str());
    }
    if request.tools.is_empty() {
        return chat;
    }
    chat.with_tools(request.tools.iter().map(|tool| {
        Tool::new(tool.name.as_str())
            .with_description(tool.description.as_str())
            .with_schema(tool.schema.clone())
    }))
}

fn message_of(entry: &Entry) -> ChatMessage {
    match entry {
        Entry::Result(result) => {
            let response = ToolResponse::new(result.call.as_str(), result.text.as_str());
            response.with_fn_name(result.tool.as_str()).into()
        }
        Entry::Said { text, calls } => {
            let mut parts = Vec::with_capacity(calls.len() + 1);
            if !text.is_empty() {
                parts.push(ContentPart::Text(text.clone()));
            }
            parts.extend(calls.iter().map(|call| {
                ContentPart::ToolCall(ToolCall {
                    call_id: call.id.clone(),
                    fn_name: call.tool.clone(),
                    fn_arguments: call.arguments.clone(),
                    thought_signatures: call.signatures.clone(),
                })
            }));
            ChatMessage::assistant(MessageContent::from_parts(parts))
        }
    }
}

fn said(end: StreamEnd, text: String, request: &Request) -> Result<Said, ModelError> {
    let counted = end.captured_usage.as_ref().and_then(|usage| {
        let sum = usage.total_tokens.or_else(|| {
            Some(usage.prompt_tokens.unwrap_or(0) + usage.completion_tokens.unwrap_or(0))
        })?;
        u64::try_from(sum).ok().filter(|tokens| *tokens > 0)
    });
    let calls: Vec<Call> = end
        .captured_content
        .map(MessageContent::into_tool_calls)
        .unwrap_or_default()
        .into_iter()
        .enumerate()
        .map(|(n, call)| Call {
            // Some local servers leave the id out, and results must name one.
            id: if call.call_id.is_empty() { format!("call-{n}") } else { call.call_id },
            tool: call.fn_name,
            arguments: call.fn_arguments,
            signatures: call.thought_signatures,
        })
        .collect();
    if calls.len() > MAX_CALLS {
        return Err(ModelError::Rejected {
            reason: format!("it asked for {} tools at once; at most {MAX_CALLS} run", calls.len()),
        });
    }
    let tokens = counted.unwrap_or_else(|| estimate(request) + estimate_tokens(&text));
    Ok(Said { text, calls, tokens })
}

/// About how many tokens a request is.
fn estimate(request: &Request) -> u64 {
    let history: u64 = request.history.iter().map(|(_, text)| estimate_tokens(text)).sum();
    estimate_tokens(&request.system) + history + estimate_tokens(&request.user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_provider_that_manifests_may_name_is_one() {
        for provider in aof_shared::config::MODEL_PROVIDERS {
            let model = ModelRef { provider: provider.to_owned(), name: "m".to_owned() };
            let known = provider == super::super::ECHO || kind(provider, &model, false).is_ok();
            assert!(known, "{provider}");
        }
    }
}
