//! Discord's API: one call, and what its answer means for the sender.

use reqwest::RequestBuilder;
use reqwest::header::{AUTHORIZATION, USER_AGENT};
use serde_json::Value;

use aof_shared::config::Instance;

use super::rates::{Rates, limit_of, unauthorized};
use super::route::Route;
use crate::reply::call::{Answer, base_url, quoted, token, unknown};
use crate::reply::paced::Paced;
use crate::reply::port::SendError;

/// Where Discord's API is unless the instance says otherwise.
const DEFAULT_BASE_URL: &str = "https://discord.com/api/v10";
/// Discord asks for this form. Source: "API Reference", *User Agent*.
const AGENT: &str = concat!("DiscordBot (aofctl, ", env!("CARGO_PKG_VERSION"), ")");

/// Discord, paced: every call takes its admission first, and its answers close what is used
/// up. Cheap to clone.
#[derive(Clone)]
pub struct Discord {
    pub(super) paced: Paced,
    pub(super) rates: Rates,
}

impl Discord {
    /// Calls through `paced`.
    #[must_use]
    pub fn new(paced: Paced) -> Self {
        Self { paced, rates: Rates::default() }
    }

    /// Calls `route` as `instance`; `Null` where the answer is empty.
    ///
    /// # Errors
    /// [`SendError`], `Limited` also when the pacing says no, and `Gone` when the message or
    /// the interaction is.
    pub(crate) async fn call(
        &self,
        instance: &Instance,
        route: Route<'_>,
        body: Option<&Value>,
    ) -> Result<Value, SendError> {
        let pacer = &self.paced.pacer;
        self.rates.check(instance, &route, pacer.now_ms())?;
        let request = self.request(instance, &route, body)?;
        let paces = self.rates.paces(instance, &route);
        let read = |answer: &Answer| {
            self.rates.learn((instance, &route), answer, pacer, pacer.now_ms());
            classify(&route, answer)
        };
        self.paced.call(&paces, request, read).await
    }

    fn request(
        &self,
        instance: &Instance,
        route: &Route<'_>,
        body: Option<&Value>,
    ) -> Result<RequestBuilder, SendError> {
        let url = format!("{}{}", base_url(instance, DEFAULT_BASE_URL), route.path());
        let mut request = self.paced.caller.request(route.method(), &url);
        request = request.header(USER_AGENT, AGENT);
        if !route.by_interaction() {
            let token = token(instance, "bot_token")?;
            request = request.header(AUTHORIZATION, format!("Bot {token}"));
        }
        Ok(match body {
            Some(body) => request.json(body),
            // Some proxies want a length where there is no body.
            None => request.header("content-length", "0"),
        })
    }
}

/// Decides what an answer means. Pure.
fn classify(route: &Route<'_>, answer: &Answer) -> Result<Value, SendError> {
    let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
    match (answer.status, body) {
        (204, _) => Ok(Value::Null),
        (200..=299, Some(body)) => Ok(body),
        (200..=299, None) => Err(unknown("its answer could not be read")),
        (429, _) => {
            let (retry_after_ms, _) = limit_of(answer);
            Err(SendError::Limited { retry_after_ms, scope: route.label().to_owned() })
        }
        (401, Some(body)) if body.is_object() && !route.by_interaction() => Err(unauthorized()),
        (400..=499, Some(body)) if body["code"].is_u64() || body["message"].is_string() => {
            Err(named(route, &body))
        }
        _ => Err(answer
            .failure("Discord", route.label())
            .unwrap_or_else(|| unknown("its answer could not be read"))),
    }
}

/// What a JSON error code means. Source: Discord, "Opcodes and Status Codes", *JSON*.
fn named(route: &Route<'_>, body: &Value) -> SendError {
    let code = body["code"].as_u64().unwrap_or_default();
    // The interaction is over, or nobody put its answer off: say it another way.
    if route.by_interaction() && matches!(code, 10_008 | 10_015 | 10_062 | 50_027) {
        return SendError::Gone;
    }
    if route.edits() && matches!(code, 10_008 | 50_005) {
        return SendError::Gone;
    }
    let known = REFUSALS.iter().find(|(known, ..)| *known == code);
    let (reason, advice) = known.map_or(
        ("platform_refused", "see the code in Discord's documentation"),
        |(_, reason, advice)| (reason, advice),
    );
    let message = quoted(body["message"].as_str().unwrap_or_default());
    SendError::Refused { reason, detail: format!("Discord answered {code} ({message}): {advice}") }
}

/// What Discord refuses for good, and what to do.
const REFUSALS: [(u64, &str, &str); 13] = [
    (10_003, "channel_not_found", "the channel does not exist, or the bot may not see it"),
    (10_004, "guild_not_found", "the bot is not in the server; check `guild_ids`, or invite it"),
    (10_008, "message_not_found", "the message to answer is gone"),
    (10_014, "unknown_emoji", "the emoji does not exist"),
    (20_028, "channel_write_limit", "the channel takes no more messages for a while"),
    (50_001, "missing_access", "the bot may not see the channel: give it View Channel there"),
    (50_006, "no_text", "there was nothing to say"),
    (50_007, "cannot_message_user", "the person does not take direct messages from the bot"),
    (50_013, "missing_permissions", "give the bot Send Messages (in threads too) and Embed Links"),
    (50_035, "invalid_body", "Discord does not take the message as it is; report this"),
    (50_083, "thread_archived", "the thread is archived; open it again"),
    (160_002, "missing_permissions", "give the bot Read Message History, which replies need"),
    (200_000, "blocked_by_automod", "the server's AutoMod blocks the text"),
];
