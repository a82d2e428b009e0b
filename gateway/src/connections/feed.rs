//! Takes in what a connection dispatches, one after the other.
//!
//! The next dispatch is not read before the queue has the one before. While the queue is
//! away no heartbeat is sent either, so Discord ends the connection and keeps what follows
//! for the resumption: the bound on what waits is Discord's, and no memory of ours.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use aof_shared::config::Instance;
use aof_shared::lifecycle::Lifecycle;
use aof_shared::throttle::Throttle;

use super::envelope::{Dispatch, Ready, dispatch};
use super::pause;
use super::plan::Wanted;
use super::session::{Session, Sessions};
use super::threads::Threads;
use crate::app::Shared;
use crate::intake;
use crate::platform::discord::{event, interaction};
use crate::platform::{Answer, Inbound};
use crate::reply::discord::{Discord, Route};

/// Where the queue stands is stored this often while something comes in: what came since is
/// sent again after a crash, and known by its id.
const SAVE_EVERY_MS: u64 = 1_000;
/// Longest wait for the store when it is written; it is tried again later.
const SAVE_WAIT_MS: u64 = 500;
/// Time until then.
const SAVE_AGAIN_MS: u64 = 10_000;
/// Attempts to read the stored session before a new one is started.
const LOAD_ATTEMPTS: u32 = 10;
/// Pause between them, and before what the queue did not take is offered again.
const AGAIN_MS: u64 = 1_000;
/// One log line in this time about a queue that is away.
const SAY_AWAY_EVERY_MS: u64 = 30_000;

/// One connection's way into the queue.
pub(super) struct Feed {
    app: Shared,
    discord: Discord,
    instance: Arc<Instance>,
    sessions: Sessions,
    session: Option<Session>,
    threads: Threads,
    /// When to store where the queue stands; `None`: it is stored.
    save_at: Option<Instant>,
    said: Throttle,
}

impl Feed {
    /// Goes on where the store says.
    pub(super) async fn open(app: &Shared, discord: &Discord, wanted: &Wanted) -> Self {
        let sessions = Sessions::new(app.node.ports.clone(), &wanted.instance, wanted.intents);
        let mut session = None;
        for _ in 0..LOAD_ATTEMPTS {
            match sessions.load().await {
                Ok(stored) => {
                    session = stored;
                    break;
                }
                Err(error) => {
                    tracing::warn!(%error, "the Discord session waits for the store");
                    tokio::time::sleep(Duration::from_millis(AGAIN_MS)).await;
                }
            }
        }
        Self {
            app: app.clone(),
            discord: discord.clone(),
            instance: Arc::clone(&wanted.instance),
            sessions,
            session,
            threads: Threads::new(),
            save_at: None,
            said: Throttle::new(SAY_AWAY_EVERY_MS),
        }
    }

    /// The session to go on with.
    pub(super) fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// Waits until where the queue stands has to be stored.
    pub(super) async fn save_is_due(&self) {
        match self.save_at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// Stores where the queue stands, unless it is stored.
    pub(super) async fn save(&mut self) {
        let (Some(session), Some(_)) = (&self.session, self.save_at) else { return };
        let saving = self.sessions.save(session);
        match tokio::time::timeout(Duration::from_millis(SAVE_WAIT_MS), saving).await {
            Ok(Ok(())) => self.save_at = None,
            Ok(Err(_)) | Err(_) => self.save_in(SAVE_AGAIN_MS),
        }
    }

    fn save_in(&mut self, ms: u64) {
        self.save_at = Some(Instant::now() + Duration::from_millis(ms));
    }

    /// Takes a payload in. `true`: the connection is up from now.
    pub(super) async fn take(&mut self, payload: &str, lifecycle: &Lifecycle) -> bool {
        let Some(dispatch) = dispatch(payload) else { return false };
        let up = match dispatch.kind {
            "READY" => self.begin(&dispatch).await,
            "RESUMED" => {
                tracing::info!(instance.name = %self.instance.name, "Discord session resumed");
                true
            }
            _ => false,
        };
        let taken = match dispatch.kind {
            "READY" | "RESUMED" => true,
            "INTERACTION_CREATE" => self.interaction(&dispatch, lifecycle).await,
            _ => self.event(&dispatch, lifecycle).await,
        };
        if taken && let Some(session) = &mut self.session {
            session.seq = dispatch.seq;
            if self.save_at.is_none() {
                self.save_in(SAVE_EVERY_MS);
            }
        }
        up
    }

    async fn begin(&mut self, dispatch: &Dispatch<'_>) -> bool {
        match serde_json::from_str::<Ready>(dispatch.data) {
            Ok(ready) => {
                tracing::info!(instance.name = %self.instance.name, "Discord session begun");
                self.session = Some(self.sessions.begun(&ready, dispatch.seq));
                self.save_in(0);
                self.save().await;
                true
            }
            Err(error) => {
                tracing::error!(%error, "Discord began a session in a way that is not known");
                false
            }
        }
    }

    async fn event(&mut self, dispatch: &Dispatch<'_>, lifecycle: &Lifecycle) -> bool {
        let Some(session) = self.session.clone() else { return false };
        self.threads.learn(dispatch.kind, dispatch.data);
        let parent = if dispatch.kind == "MESSAGE_CREATE" {
            self.threads.parent_of(dispatch.data, &self.discord, &self.instance).await
        } else {
            None
        };
        let source = event::Source {
            instance: &self.instance,
            bot: &session.bot,
            parent: parent.as_deref(),
            delivery: &format!("{}:{}", session.id, dispatch.seq),
            now_ms: self.app.now_ms(),
        };
        match event::normalize(dispatch.kind, dispatch.data, &source) {
            Ok(item) => self.publish(vec![item], lifecycle).await,
            Err(error) => self.unreadable(dispatch.kind, &error),
        }
    }

    /// What comes over the connection because the application has no Interactions Endpoint URL.
    async fn interaction(&mut self, dispatch: &Dispatch<'_>, lifecycle: &Lifecycle) -> bool {
        #[derive(serde::Deserialize)]
        struct Asked {
            id: String,
            token: String,
        }
        let now_ms = self.app.now_ms();
        let delivery = match interaction::normalize(dispatch.data, &self.instance, now_ms) {
            Ok(delivery) => delivery,
            Err(error) => return self.unreadable(dispatch.kind, &error),
        };
        if let Some((name, note)) = interaction::note(dispatch.data.as_bytes(), &delivery) {
            intake::keep(&self.app, &self.instance, (name, note)).await;
        }
        if !self.publish(delivery.items, lifecycle).await {
            return false;
        }
        let asked = serde_json::from_str::<Asked>(dispatch.data);
        if let (Ok(Asked { id, token }), Answer::Json(body)) = (asked, &delivery.answer) {
            let route = Route::Callback { id: &id, token: &token };
            if let Err(error) = self.discord.call(&self.instance, route, Some(body)).await {
                tracing::info!(%error, "an interaction was not answered in time");
            }
        }
        true
    }

    /// It would be as unreadable again.
    fn unreadable(&self, kind: &str, error: &crate::platform::Malformed) -> bool {
        self.app.count(self.instance.platform.as_str(), "invalid");
        if self.said.allows("unreadable", self.app.now_ms()) {
            tracing::warn!(instance.name = %self.instance.name, kind, %error,
                "a dispatch of Discord's that cannot be read is ignored");
        }
        true
    }

    /// Publishes `items`, however long the queue is away. `false`: told to stop meanwhile.
    async fn publish(&self, items: Vec<Inbound>, lifecycle: &Lifecycle) -> bool {
        let open = || {
            let mut span = self.app.span("gateway.connections.feed", None, &self.instance.tenant);
            span.tag("platform", &self.instance.platform);
            span.tag("instance.name", &self.instance.name);
            span
        };
        loop {
            match intake::take(&self.app, &self.instance, items.clone(), &open).await {
                Ok(taken) => {
                    for taken in taken {
                        self.app.count(self.instance.platform.as_str(), taken.outcome);
                    }
                    return true;
                }
                Err(error) => {
                    self.app.count(self.instance.platform.as_str(), "unavailable");
                    if self.said.allows("queue", self.app.now_ms()) {
                        tracing::warn!(%error, "Discord's messages wait for the queue");
                    }
                }
            }
            if !pause(lifecycle, AGAIN_MS).await {
                return false;
            }
        }
    }
}
