//! Models: one call streams text, and ends in text, tool calls and a count of tokens.
//!
//! A transient failure (429, 5xx, no connection, silence) is tried again with jitter,
//! as long as no text of the call was shown yet; what the caller did wrong is not. A
//! provider that keeps failing is left alone for a while by its [`breaker::Breaker`].
//!
//! Providers are `openai`, `anthropic`, `google` (or `gemini`), `ollama`, any other name
//! with a `base_url` in `spec.models` (taken to speak the OpenAI API unless `api` says
//! otherwise), and the built-in [`echo`].

mod breaker;
mod echo;
mod failure;
mod genai;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aof_shared::config::{Daemon, ModelRef};
use backon::{BackoffBuilder, ExponentialBuilder};

use self::breaker::Breaker;
pub(crate) use self::echo::PROVIDER as ECHO;
use crate::agent::stream::AnswerStream;
use crate::checkpoint::{Call, Entry};

/// Tries after the first one.
const RETRIES: usize = 3;
/// First wait between tries; doubles, with jitter.
const RETRY_MIN: Duration = Duration::from_millis(400);
/// Longest wait between tries, and longest `Retry-After` that is waited for.
const RETRY_MAX: Duration = Duration::from_secs(15);

/// What a model is asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    /// Instructions.
    pub(crate) system: String,
    /// Earlier turns: role and text, oldest first.
    pub(crate) history: Vec<(Role, String)>,
    /// What the user wants now.
    pub(crate) user: String,
    /// What happened since.
    pub(crate) transcript: Vec<Entry>,
    /// Tools that it may call.
    pub(crate) tools: Vec<ToolSpec>,
    /// Sampling temperature.
    pub(crate) temperature: Option<f64>,
    /// Most tokens of the answer.
    pub(crate) max_tokens: Option<u32>,
}

/// Who said an earlier turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The user.
    User,
    /// The agent.
    Assistant,
}

/// A tool as a model sees it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ToolSpec {
    /// Letters, digits, `-` and `_`.
    pub(crate) name: String,
    /// What it does.
    pub(crate) description: String,
    /// JSON schema of its arguments.
    pub(crate) schema: serde_json::Value,
}

/// What a model said.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Said {
    /// The text of this call, all of it streamed already.
    pub(crate) text: String,
    /// Tools that it wants.
    pub(crate) calls: Vec<Call>,
    /// Tokens, prompt and answer; estimated where the provider does not say.
    pub(crate) tokens: u64,
}

/// Why a model gave no answer. `Display` is for the person who asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModelError {
    /// Trying again may help.
    #[error("the model did not answer; {reason}")]
    Transient {
        /// What was wrong.
        reason: String,
        /// When the provider says to come back.
        retry_after: Option<Duration>,
    },
    /// Trying again does not help.
    #[error("the model does not take the request; {reason}")]
    Rejected {
        /// What was wrong and what to do.
        reason: String,
    },
    /// The configuration lacks something; no provider was asked.
    #[error("{0}")]
    Unconfigured(String),
    /// The provider is left alone for a while.
    #[error("the model provider `{provider}` keeps failing; it is tried again in {wait_s} s")]
    Open {
        /// The provider.
        provider: String,
        /// Seconds.
        wait_s: u64,
    },
}

impl ModelError {
    /// A short constant for metrics and dead letters.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Transient { .. } => "model_unavailable",
            Self::Rejected { .. } => "model_rejected",
            Self::Unconfigured(_) => "model_unconfigured",
            Self::Open { .. } => "model_circuit_open",
        }
    }

    fn transient(reason: impl Into<String>) -> Self {
        Self::Transient { reason: reason.into(), retry_after: None }
    }
}

/// How often and how long to try again.
#[derive(Debug, Clone, Copy)]
struct Retry {
    times: usize,
    min: Duration,
    max: Duration,
}

/// The models of a node: shared connections, one breaker a provider.
pub(crate) struct Models {
    genai: genai::Clients,
    breakers: Mutex<HashMap<String, Arc<Breaker>>>,
    retry: Retry,
}

impl Models {
    pub(crate) fn new() -> Self {
        Self {
            genai: genai::Clients::new(),
            breakers: Mutex::default(),
            retry: Retry { times: RETRIES, min: RETRY_MIN, max: RETRY_MAX },
        }
    }

    /// Asks a model, streaming its text into `stream`.
    ///
    /// # Errors
    /// [`ModelError`], after the tries that could help.
    pub(crate) async fn ask(
        &self,
        daemon: &Daemon,
        model: &ModelRef,
        request: &Request,
        stream: &mut AnswerStream,
    ) -> Result<Said, ModelError> {
        if model.provider == ECHO {
            return Ok(echo::answer(request, stream).await);
        }
        let breaker = self.breaker(&model.provider);
        let mut waits = ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(self.retry.min)
            .with_max_delay(self.retry.max)
            .with_max_times(self.retry.times)
            .build();
        let shown = stream.len();
        loop {
            breaker.admit().map_err(|wait| ModelError::Open {
                provider: model.provider.clone(),
                wait_s: wait.as_secs().max(1),
            })?;
            let guard = breaker.attempt();
            let error = match Box::pin(self.genai.call(daemon, model, request, stream)).await {
                Ok(said) => {
                    guard.succeeded();
                    return Ok(said);
                }
                Err(error @ ModelError::Transient { .. }) => {
                    guard.failed();
                    error
                }
                Err(error) => {
                    guard.succeeded();
                    return Err(error);
                }
            };
            let ModelError::Transient { retry_after, .. } = &error else { return Err(error) };
            let Some(wait) = waits.next().filter(|_| stream.len() == shown) else {
                return Err(error);
            };
            let wait = retry_after.unwrap_or(wait).max(wait.min(self.retry.max));
            if wait > RETRY_MAX {
                return Err(error);
            }
            tracing::debug!(provider = %model.provider, error = %error, "model call failed");
            tokio::time::sleep(wait).await;
        }
    }

    fn breaker(&self, provider: &str) -> Arc<Breaker> {
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(breakers.entry(provider.to_owned()).or_default())
    }

    /// Waits in milliseconds instead of seconds, for tests.
    #[cfg(test)]
    pub(crate) fn impatient() -> Self {
        let retry =
            Retry { times: RETRIES, min: Duration::from_millis(2), max: Duration::from_millis(10) };
        Self { retry, ..Self::new() }
    }
}

/// Bytes of text that make about one token, where a provider does not count.
const BYTES_A_TOKEN: usize = 4;

/// About how many tokens `text` is.
pub(crate) fn estimate_tokens(text: &str) -> u64 {
    u64::try_from(text.len().div_ceil(BYTES_A_TOKEN)).unwrap_or(u64::MAX)
}
