//! The session with Discord as the store keeps it, so that any gateway can go on with it.

use serde::{Deserialize, Serialize};
use twilight_gateway::Intents;

use aof_shared::config::Instance;
use aof_shared::secret::Secret;
use aof_shared::store::{Note, NoteKey, Ports, StoreError};

use crate::reply::discord::bot_of;

/// How long a session is kept; Discord forgets it after minutes, and says so.
const KEPT_MS: u64 = 86_400_000;

/// Where the queue stands in a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Session {
    /// The session's id.
    pub(super) id: String,
    /// Position of the last dispatch that the queue has.
    pub(super) seq: u64,
    /// Where it is resumed.
    pub(super) resume_url: String,
    /// The bot's own user id.
    pub(super) bot: String,
    /// Digest of the token that it belongs to.
    token: String,
    /// What it brings; a session that brings something else cannot go on.
    intents: u64,
}

/// Keeps the session of one account.
pub(super) struct Sessions {
    ports: Ports,
    key: NoteKey,
    token: String,
    intents: Intents,
}

impl Sessions {
    pub(super) fn new(ports: Ports, instance: &Instance, intents: Intents) -> Self {
        let key = NoteKey {
            tenant: instance.tenant.clone(),
            platform: instance.platform.clone(),
            instance: instance.name.clone(),
            name: "session".to_owned(),
        };
        Self { ports, key, token: bot_of(instance), intents }
    }

    /// A session that began just now.
    pub(super) fn begun(&self, ready: &super::envelope::Ready, seq: u64) -> Session {
        Session {
            id: ready.session_id.clone(),
            seq,
            resume_url: ready.resume_gateway_url.clone(),
            bot: ready.user.id.clone(),
            token: self.token.clone(),
            intents: self.intents.bits(),
        }
    }

    /// The session to go on with.
    pub(super) async fn load(&self) -> Result<Option<Session>, StoreError> {
        let note = self.ports.store.note(&self.key, self.ports.clock.now_ms()).await?;
        let session = note.and_then(|n| serde_json::from_str::<Session>(n.value.expose()).ok());
        Ok(session.filter(|s| s.token == self.token && s.intents == self.intents.bits()))
    }

    /// Stores where the queue stands.
    pub(super) async fn save(&self, session: &Session) -> Result<(), StoreError> {
        let now_ms = self.ports.clock.now_ms();
        let value = serde_json::to_string(session).unwrap_or_default();
        let note = Note { value: Secret::new(value), expires_at_ms: now_ms + KEPT_MS };
        self.ports.store.put_note(&self.key, &note, now_ms).await
    }
}
