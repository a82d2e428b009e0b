//! When a new session may be started: Discord takes so many a day, and resets the token of a
//! bot that starts more.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::oneshot;
use twilight_gateway::queue::Queue;

use aof_shared::config::Instance;
use aof_shared::lifecycle::Lifecycle;
use aof_shared::limit::{Admission, Demand, Limits, Window};

use super::pause;
use crate::reply::discord::{Discord, Route, bot_of};

/// Sessions of one bot in a day; Discord takes 1,000. Source: "Gateway", *Session Start Limit*.
const SESSIONS_A_DAY: u32 = 900;
/// The day.
const DAY_MS: u64 = 86_400_000;
/// One session of a bot in this time. Source: the same, *Rate Limiting*, `max_concurrency`.
const SESSION_WINDOW_MS: u64 = 5_000;
/// Fewest sessions that are left to the operator.
const MIN_REMAINING: u64 = 10;
/// Pause when it cannot be decided.
const PAUSE_MS: u64 = 1_000;
/// Longest pause that Discord is believed; a day, and an hour for clocks.
const MAX_PAUSE_MS: u64 = DAY_MS + 3_600_000;

/// Admits new sessions of one account.
#[derive(Clone)]
pub(super) struct Identify {
    pub(super) discord: Discord,
    pub(super) instance: Arc<Instance>,
    pub(super) limits: Arc<dyn Limits>,
    pub(super) lifecycle: Lifecycle,
}

impl Queue for Identify {
    fn enqueue(&self, _shard: u32) -> oneshot::Receiver<()> {
        let (admitted, wait) = oneshot::channel();
        let this = self.clone();
        self.lifecycle.spawn(async move {
            if this.admit().await {
                // Whoever asked may be gone.
                let _ = admitted.send(());
            } else {
                // Told to stop: the connection goes the same way.
                admitted_never(admitted).await;
            }
        });
        wait
    }
}

/// Keeps the question open: an answer would start a session, a closed channel ask again.
async fn admitted_never(mut admitted: oneshot::Sender<()>) {
    admitted.closed().await;
}

impl Identify {
    /// Waits until a session may be started; `false` when told to stop.
    async fn admit(&self) -> bool {
        loop {
            let wait_ms = match self.discord.call(&self.instance, Route::Gateway, None).await {
                Ok(gateway) => exhausted_ms(&gateway),
                // The windows below still hold.
                Err(_) => None,
            };
            let wait_ms = match wait_ms {
                Some(wait_ms) => wait_ms,
                None => match self.limits.admit(&self.demand()).await {
                    Ok(Admission::Granted) => return !self.lifecycle.stopping(),
                    Ok(Admission::Deferred { retry_after_ms, .. }) => retry_after_ms,
                    Err(_) => PAUSE_MS,
                },
            };
            if wait_ms > SESSION_WINDOW_MS {
                tracing::warn!(instance.name = %self.instance.name, wait_ms,
                    "a Discord session has to wait: too many were started today");
            }
            if !pause(&self.lifecycle, wait_ms.max(1)).await {
                return false;
            }
        }
    }

    fn demand(&self) -> Demand {
        let scope = format!("discord/bot/{}/sessions", bot_of(&self.instance));
        let window = |name: &str, limit, window_ms| Window {
            scope: format!("{scope}/{name}"),
            limit,
            window_ms,
        };
        let windows =
            vec![window("now", 1, SESSION_WINDOW_MS), window("day", SESSIONS_A_DAY, DAY_MS)];
        Demand { windows, ..Demand::default() }
    }
}

/// How long the bot must wait because Discord lets it start no more sessions.
fn exhausted_ms(gateway: &Value) -> Option<u64> {
    let limit = &gateway["session_start_limit"];
    let remaining = limit["remaining"].as_u64()?;
    let reset_ms = limit["reset_after"].as_u64()?;
    (remaining < MIN_REMAINING).then(|| reset_ms.clamp(PAUSE_MS, MAX_PAUSE_MS))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_sessions_of_a_day_are_left_alone() {
        let limit = |remaining: u64| json!({"session_start_limit": {"remaining": remaining, "reset_after": 60_000}});
        assert_eq!(exhausted_ms(&limit(1_000)), None);
        assert_eq!(exhausted_ms(&limit(MIN_REMAINING)), None);
        assert_eq!(exhausted_ms(&limit(0)), Some(60_000));
        assert_eq!(exhausted_ms(&json!({})), None);
    }
}
