//! Holds one account's connection whenever this gateway has its lease.

use twilight_gateway::queue::Queue;
use twilight_gateway::{CloseFrame, ConfigBuilder, Message, Shard, ShardId, ShardState};

use std::sync::Arc;
use std::time::Duration;

use aof_shared::config::Instance;
use aof_shared::lifecycle::Lifecycle;
use futures_util::StreamExt as _;

use super::feed::Feed;
use super::identify::Identify;
use super::lease::{Confirmed, Lease};
use super::pause;
use super::plan::Wanted;
use super::session::Session;
use crate::app::Shared;
use crate::reply::discord::{Discord, Route};
use crate::reply::port::SendError;

/// Pause before a connection that broke is tried from the start.
const RETRY_PAUSE_MS: u64 = 3_000;
/// Longest pause of a limit that is believed here.
const MAX_LIMIT_PAUSE_MS: u64 = 60_000;
/// Pause after what only a change of settings mends, at Discord or here.
const FATAL_PAUSE_MS: u64 = 600_000;
/// Attempts to connect before it is tried from the start; the waits between are 1, 2 and 4 s.
const MAX_RECONNECTS: u8 = 4;
/// How long a polite end may take.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// How a connection ended.
#[derive(Debug)]
enum Ended {
    /// The node stops, or the configuration does not want it any more.
    Stopped,
    /// Somebody else may have the lease.
    Lost,
    /// It may work later.
    Broken { why: String, pause_ms: u64 },
    /// It works once somebody changed something.
    Refused { why: String },
}

/// Keeps the connection of one account.
pub(super) struct Holder {
    app: Shared,
    discord: Discord,
    wanted: Wanted,
    lifecycle: Lifecycle,
    /// What warnings are about.
    part: String,
}

impl Holder {
    pub(super) fn new(app: Shared, discord: Discord, wanted: Wanted, lifecycle: Lifecycle) -> Self {
        let Instance { tenant, platform, name, .. } = wanted.instance.as_ref();
        let part = format!("connection of {tenant}/{platform}/{name}");
        Self { app, discord, wanted, lifecycle, part }
    }

    /// Runs until it is told to stop.
    pub(super) async fn run(self) {
        let limits = || Arc::clone(&self.app.node.ports.limits);
        while let Some(mut lease) =
            Lease::take(limits(), &self.wanted.instance, &self.lifecycle).await
        {
            let confirmed = lease.confirmed();
            tokio::select! {
                biased;
                () = lease.lost() => {}
                () = self.connect_again_and_again(&confirmed) => {}
            }
            self.warn(None);
            lease.release().await;
        }
        self.lifecycle.stop();
        self.lifecycle.drained().await;
    }

    /// Returns when it was told to stop, or the lease may be somebody else's.
    async fn connect_again_and_again(&self, confirmed: &Confirmed) {
        let Instance { tenant, name, .. } = self.wanted.instance.as_ref();
        loop {
            let (why, pause_ms) = match self.connected(confirmed).await {
                Ended::Stopped | Ended::Lost => return,
                Ended::Broken { why, pause_ms } => (why, pause_ms),
                Ended::Refused { why } => (why, FATAL_PAUSE_MS),
            };
            tracing::warn!(tenant.id = %tenant, instance.name = %name, why, pause_ms,
                "the connection to Discord ended; it is tried again");
            self.warn(Some(why));
            if !pause(&self.lifecycle, pause_ms).await {
                return;
            }
        }
    }

    fn warn(&self, why: Option<String>) {
        let why = why.map(|why| format!("{why}; until then no messages or reactions come in"));
        self.app.node.health.warn(self.part.clone(), why);
    }

    /// Connects, and takes in what comes until the connection ends.
    async fn connected(&self, confirmed: &Confirmed) -> Ended {
        let mut feed = Feed::open(&self.app, &self.discord, &self.wanted).await;
        let mut shard = match self.shard(feed.session()).await {
            Ok(shard) => shard,
            Err(ended) => return ended,
        };
        let mut closed = None;
        loop {
            let next = tokio::select! {
                biased;
                () = self.lifecycle.stopped() => {
                    close(&mut shard).await;
                    feed.save().await;
                    return Ended::Stopped;
                }
                () = feed.save_is_due() => {
                    feed.save().await;
                    continue;
                }
                next = shard.next() => next,
            };
            match next {
                Some(Ok(Message::Text(payload))) => {
                    if feed.take(&payload, &self.lifecycle).await {
                        self.warn(None);
                    }
                }
                Some(Ok(Message::Close(frame))) => {
                    closed = frame.map(|frame| frame.code);
                    tracing::info!(instance.name = %self.wanted.instance.name, code = closed,
                        "Discord's Gateway closed the connection");
                    if !confirmed.is_now() {
                        return Ended::Lost;
                    }
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "Discord's Gateway");
                    if reconnects(&shard) >= MAX_RECONNECTS {
                        feed.save().await;
                        let why = "Discord's Gateway cannot be reached".to_owned();
                        return Ended::Broken { why, pause_ms: RETRY_PAUSE_MS };
                    }
                }
                None => return Ended::Refused { why: refusal(closed) },
            }
        }
    }

    /// A connection that is not made yet; it goes on with `session` if there is one.
    async fn shard(&self, session: Option<&Session>) -> Result<Shard<Identify>, Ended> {
        let instance = &self.wanted.instance;
        let token = instance.bot_token.as_ref().map(|t| t.expose().to_owned()).unwrap_or_default();
        let url = match self.discord.call(instance, Route::Gateway, None).await {
            Ok(gateway) => gateway["url"].as_str().filter(|url| is_socket(url)).map(str::to_owned),
            Err(SendError::Refused { detail, .. }) => return Err(Ended::Refused { why: detail }),
            Err(SendError::Limited { retry_after_ms, .. }) => {
                let why = "Discord asks to wait before a connection is made".to_owned();
                let pause_ms = retry_after_ms.clamp(1, MAX_LIMIT_PAUSE_MS);
                return Err(Ended::Broken { why, pause_ms });
            }
            // The session says where it goes on.
            Err(_) if session.is_some() => None,
            Err(error) => {
                return Err(Ended::Broken { why: error.to_string(), pause_ms: RETRY_PAUSE_MS });
            }
        };
        let identify = Identify {
            discord: self.discord.clone(),
            instance: Arc::clone(instance),
            limits: Arc::clone(&self.app.node.ports.limits),
            lifecycle: self.lifecycle.clone(),
        };
        let mut config = ConfigBuilder::new(token, self.wanted.intents).queue(identify);
        if let Some(url) = url {
            config = config.proxy_url(url);
        }
        if let Some(session) = session {
            config =
                config.session(twilight_gateway::Session::new(session.seq, session.id.clone()));
            if is_socket(&session.resume_url) {
                config = config.resume_url(session.resume_url.clone());
            }
        }
        Ok(Shard::with_config(ShardId::ONE, config.build()))
    }
}

/// True for the address of a WebSocket that the library can read.
fn is_socket(url: &str) -> bool {
    let scheme = url.starts_with("wss://") || url.starts_with("ws://");
    scheme && url.trim_end_matches('/').parse::<axum::http::Uri>().is_ok()
}

fn reconnects<Q>(shard: &Shard<Q>) -> u8 {
    match shard.state() {
        ShardState::Disconnected { reconnect_attempts } => reconnect_attempts,
        _ => 0,
    }
}

/// Ends the connection such that the session can be resumed, here or elsewhere.
async fn close<Q: Queue + Unpin>(shard: &mut Shard<Q>) {
    shard.close(CloseFrame::RESUME);
    let answered = async {
        while let Some(Ok(message)) = shard.next().await {
            if message.is_close() {
                return;
            }
        }
    };
    // Nobody waits for an answer that does not come.
    let _ = tokio::time::timeout(CLOSE_WAIT, answered).await;
}

/// Why Discord ended a connection for good, and what to do. Source: Discord, "Opcodes and
/// Status Codes", *Gateway Close Event Codes*.
fn refusal(code: Option<u16>) -> String {
    match code {
        Some(4004) => "Discord does not know the bot token (4004): set a new `bot_token`",
        Some(4010 | 4011) => {
            "the bot is in more servers than one connection may serve (4011): split it"
        }
        Some(4013) => "Discord does not know an intent that is asked for (4013)",
        Some(4014) => {
            "the bot may not read messages (4014): switch on Message Content Intent on the \
             application's Bot page, or let flows take `app_mention` alone"
        }
        _ => "Discord ended the connection for good",
    }
    .to_owned()
}
