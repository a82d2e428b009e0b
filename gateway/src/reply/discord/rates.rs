//! Discord's limits as its answers tell them, and the calls that are better not made.
//!
//! Discord groups calls into buckets and says in each answer which bucket it was and what is
//! left of it. Whoever makes too many calls that are refused is banned by address; so a token
//! that Discord refused is not tried again for a while, and refusals are counted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aof_shared::clock::UnixMs;
use aof_shared::config::Instance;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::route::Route;
use crate::reply::call::{Answer, millis};
use crate::reply::pace::{Pace, Pacer};
use crate::reply::port::SendError;

/// Calls of one bot in a second. Source: Discord, "Rate Limits", *Global Rate Limit*.
const GLOBAL_CALLS: u32 = 50;
/// The second.
const GLOBAL_WINDOW_MS: u64 = 1_000;
/// Stretch in which refused calls are counted. Source: the same, *Invalid Request Limit*.
const INVALID_WINDOW_MS: u64 = 600_000;
/// Refused calls of this node in it; Discord bans an address at 10,000, and several nodes may
/// share one.
const MAX_INVALID: u32 = 1_000;
/// How long a token that was refused is left alone, unless the configuration has another.
const REFUSED_TOKEN_MS: u64 = 300_000;
/// Tokens and buckets remembered.
const MAX_KNOWN: usize = 4_096;

/// What is known of the limits. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Rates(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// The bucket of a kind of call.
    buckets: HashMap<&'static str, String>,
    /// Until when the token with this digest is left alone.
    refused: HashMap<String, UnixMs>,
    invalid: u32,
    invalid_since_ms: UnixMs,
}

/// Names the bot without showing its token.
pub(crate) fn bot_of(instance: &Instance) -> String {
    let token = instance.bot_token.as_ref().map(aof_shared::secret::Secret::expose);
    digest(token.unwrap_or_default())
}

/// Names a secret without showing it.
pub(crate) fn digest(secret: &str) -> String {
    hex::encode(&Sha256::digest(secret.as_bytes())[..8])
}

fn global_scope(instance: &Instance) -> String {
    format!("discord/bot/{}", bot_of(instance))
}

impl Rates {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The windows that a call by `route` as `instance` takes.
    pub(crate) fn paces(&self, instance: &Instance, route: &Route<'_>) -> Vec<Pace> {
        let (limit, window_ms) = route.window();
        let label = route.label();
        let bucket = self.known().buckets.get(label).cloned().unwrap_or_default();
        let base = format!("discord/{}/{}", instance.tenant, instance.name);
        let scope = match bucket.as_str() {
            "" => format!("{base}/{label}/{}", route.major()),
            bucket => format!("{base}/{bucket}/{}", route.major()),
        };
        let mut paces = vec![Pace { scope, label, limit, window_ms }];
        if !route.by_interaction() {
            paces.push(Pace {
                scope: global_scope(instance),
                label: "discord/global",
                limit: GLOBAL_CALLS,
                window_ms: GLOBAL_WINDOW_MS,
            });
        }
        paces
    }

    /// Says no to a call that would be refused, or would bring a ban closer.
    ///
    /// # Errors
    /// `Refused` for a token that Discord refused lately, `Limited` after too many refusals.
    pub(crate) fn check(
        &self,
        instance: &Instance,
        route: &Route<'_>,
        now_ms: UnixMs,
    ) -> Result<(), SendError> {
        let known = self.known();
        let token = known.refused.get(&bot_of(instance)).filter(|_| !route.by_interaction());
        if token.is_some_and(|until| *until > now_ms) {
            return Err(unauthorized());
        }
        let over = known.invalid_since_ms.saturating_add(INVALID_WINDOW_MS);
        if known.invalid >= MAX_INVALID && over > now_ms {
            let scope = "discord/refused".to_owned();
            return Err(SendError::Limited { retry_after_ms: over - now_ms, scope });
        }
        Ok(())
    }

    /// Remembers what `answer` says of limits, and closes what it says is used up.
    pub(crate) fn learn(
        &self,
        (instance, route): (&Instance, &Route<'_>),
        answer: &Answer,
        pacer: &Pacer,
        now_ms: UnixMs,
    ) {
        let header = |name: &str| answer.headers.get(name).and_then(|v| v.to_str().ok());
        if let Some(bucket) = header("x-ratelimit-bucket").filter(|b| is_plain(b)) {
            let mut known = self.known();
            if known.buckets.len() < MAX_KNOWN {
                known.buckets.insert(route.label(), bucket.to_owned());
            }
        }
        let reset = header("x-ratelimit-reset-after").and_then(|s| millis(s.parse().ok()?));
        if let (Some("0"), Some(reset_ms)) = (header("x-ratelimit-remaining"), reset)
            && let Some(pace) = self.paces(instance, route).first()
        {
            pacer.pause(&pace.scope, reset_ms);
        }
        // A shared limit is a channel's or server's own, and nobody's fault.
        let shared = header("x-ratelimit-scope") == Some("shared");
        match answer.status {
            429 => {
                let (retry_after_ms, global) = limit_of(answer);
                if global {
                    pacer.pause(&global_scope(instance), retry_after_ms);
                }
                if !shared {
                    self.count_invalid(now_ms);
                }
            }
            401 if !route.by_interaction() => {
                self.count_invalid(now_ms);
                self.refuse_token(instance, now_ms);
            }
            401 | 403 => self.count_invalid(now_ms),
            _ => {}
        }
    }

    fn count_invalid(&self, now_ms: UnixMs) {
        let mut known = self.known();
        if now_ms.saturating_sub(known.invalid_since_ms) >= INVALID_WINDOW_MS {
            known.invalid = 0;
            known.invalid_since_ms = now_ms;
        }
        known.invalid = known.invalid.saturating_add(1);
    }

    fn refuse_token(&self, instance: &Instance, now_ms: UnixMs) {
        let mut known = self.known();
        known.refused.retain(|_, until| *until > now_ms);
        if known.refused.len() < MAX_KNOWN {
            known.refused.insert(bot_of(instance), now_ms.saturating_add(REFUSED_TOKEN_MS));
        }
    }
}

/// How long a 429 asks to wait, in milliseconds, and whether it is about the whole bot. The
/// body is more exact than the header, which has whole seconds.
pub(crate) fn limit_of(answer: &Answer) -> (u64, bool) {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let exact = body["retry_after"].as_f64().and_then(millis);
    let wait_ms = exact.or(answer.retry_after_ms());
    let scope = answer.headers.get("x-ratelimit-scope").map(|v| v.as_bytes() == b"global");
    let global = body["global"].as_bool().or(scope).unwrap_or(false);
    (wait_ms.unwrap_or(crate::reply::call::DEFAULT_RETRY_AFTER_MS), global)
}

/// What a 401 to the bot's token means.
pub(crate) fn unauthorized() -> SendError {
    SendError::Refused {
        reason: "unauthorized",
        detail: "Discord does not know the bot token: copy it again from the application's Bot \
                 page and set `bot_token`"
            .to_owned(),
    }
}

/// A bucket's name becomes part of a scope.
fn is_plain(bucket: &str) -> bool {
    (1..=64).contains(&bucket.len()) && bucket.bytes().all(|b| b.is_ascii_alphanumeric())
}
