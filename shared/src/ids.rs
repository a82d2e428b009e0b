//! Identities. Names are one subject token; hop ids are derived, so a redelivery arrives at the same id.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Longest name in bytes; with it the longest subject stays under 600 bytes.
const MAX_NAME_BYTES: usize = 128;

/// Root of every derived id. Changing it orphans everything stored.
const NAMESPACE: Uuid = Uuid::from_u128(0x5b1d_9c6e_0f4a_5c1e_9d57_a0f1_0c1d_57e4);

/// A name that cannot be one subject token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a usable {what}: use 1 to 128 letters, digits, `-` or `_`")]
pub struct InvalidName {
    what: &'static str,
    name: String,
}

fn check_name(what: &'static str, name: &str) -> Result<(), InvalidName> {
    let fits = !name.is_empty() && name.len() <= MAX_NAME_BYTES;
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if fits && plain {
        return Ok(());
    }
    let shown = name.chars().take(MAX_NAME_BYTES).collect();
    Err(InvalidName { what, name: shown })
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks that `name` is one subject token.
            ///
            /// # Errors
            /// [`InvalidName`] when it is empty, longer than 128 bytes or holds anything
            /// but letters, digits, `-` and `_`.
            pub fn new(name: impl AsRef<str>) -> Result<Self, InvalidName> {
                check_name($what, name.as_ref())?;
                Ok(Self(Arc::from(name.as_ref())))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(name: String) -> Result<Self, InvalidName> {
                Self::new(name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(name: &str) -> Result<Self, InvalidName> {
                Self::new(name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type!(
    /// An organisation: *account* in HTTP paths, *organization* in manifests.
    TenantId, "tenant name"
);
name_type!(
    /// A flow, unique within its tenant.
    FlowName, "flow name"
);
name_type!(
    /// An agent.
    AgentName, "agent name"
);
name_type!(
    /// A platform account that messages come in through; belongs to one tenant.
    InstanceName, "instance name"
);
name_type!(
    /// A platform: `slack`, `telegram`, `discord`, `whatsapp`, `evolution`, `chat`, …
    PlatformName, "platform name"
);

impl Default for TenantId {
    fn default() -> Self {
        Self::default_tenant()
    }
}

impl TenantId {
    /// The tenant of flows that name no organisation.
    #[must_use]
    pub fn default_tenant() -> Self {
        Self(Arc::from("default"))
    }
}

impl FlowName {
    /// Stands where a message went to `routing.default_agent` without any flow.
    #[must_use]
    pub fn default_route() -> Self {
        Self(Arc::from("_default"))
    }
}

impl PlatformName {
    /// The chat API and `aofctl chat`.
    #[must_use]
    pub fn chat() -> Self {
        Self(Arc::from("chat"))
    }

    /// Slack.
    #[must_use]
    pub fn slack() -> Self {
        Self(Arc::from("slack"))
    }
}

macro_rules! uuid_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_type!(
    /// One message of a platform, whichever of its deliveries arrived.
    MessageId
);
uuid_type!(
    /// The work that a message means for one flow.
    TaskId
);
uuid_type!(
    /// The one run of a task.
    RunId
);
uuid_type!(
    /// One held action: a step of a run that needs a decision.
    ActionId
);
uuid_type!(
    /// One message to a platform; sent at most once.
    ReplyId
);
uuid_type!(
    /// One entry of the journal.
    EventId
);

/// UUIDv5 over the parts, with their lengths, so that no two lists of parts collide.
fn derive(parts: &[&[u8]]) -> Uuid {
    let mut name = Vec::with_capacity(parts.iter().map(|p| p.len() + 8).sum());
    for part in parts {
        name.extend_from_slice(&(part.len() as u64).to_be_bytes());
        name.extend_from_slice(part);
    }
    Uuid::new_v5(&NAMESPACE, &name)
}

impl MessageId {
    /// Derives the id from what the platform itself calls the event.
    #[must_use]
    pub fn derive(
        tenant: &TenantId,
        platform: &PlatformName,
        instance: &InstanceName,
        event_id: &str,
    ) -> Self {
        let names = [tenant.as_str(), platform.as_str(), instance.as_str(), event_id];
        Self(derive(&[
            &b"message"[..],
            names[0].as_bytes(),
            names[1].as_bytes(),
            names[2].as_bytes(),
            names[3].as_bytes(),
        ]))
    }
}

impl TaskId {
    /// Derives the id of the task that `message` is for `flow`.
    #[must_use]
    pub fn derive(message: MessageId, flow: &FlowName) -> Self {
        Self(derive(&[b"task", message.0.as_bytes(), flow.as_str().as_bytes()]))
    }
}

impl RunId {
    /// Derives the id of the one run of `task`.
    #[must_use]
    pub fn derive(task: TaskId) -> Self {
        Self(derive(&[b"run", task.0.as_bytes()]))
    }
}

impl ActionId {
    /// Derives the id of the action that step number `step` of `run` holds.
    #[must_use]
    pub fn derive(run: RunId, step: u32) -> Self {
        Self(derive(&[b"action", run.0.as_bytes(), &step.to_be_bytes()]))
    }
}

impl ReplyId {
    /// Derives the id of what `source` (a run, an action, a message) says under `label`.
    #[must_use]
    pub fn derive(source: Uuid, label: &str) -> Self {
        Self(derive(&[b"reply", source.as_bytes(), label.as_bytes()]))
    }
}

impl EventId {
    /// Derives the id of the event that `source` causes once under `label`.
    #[must_use]
    pub fn derive(source: Uuid, label: &str) -> Self {
        Self(derive(&[b"event", source.as_bytes(), label.as_bytes()]))
    }
}

/// Content hash of a configuration: 16 hex digits of SHA-256.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(Arc<str>);

impl Revision {
    /// Hashes `content`.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        use sha2::{Digest, Sha256};
        let digest = Sha256::digest(content);
        Self(Arc::from(hex::encode(&digest[..8])))
    }

    /// The hash as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Revision {
    /// The hash of nothing.
    fn default() -> Self {
        Self::of(b"")
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_subject_token() {
        for bad in ["", "a.b", "a b", "*", ">", "a/b", "é", "a\n"] {
            assert!(TenantId::new(bad).is_err(), "{bad:?} must be refused");
        }
        assert!(TenantId::new("a".repeat(129)).is_err());
        assert!(TenantId::new("Org-a_1").is_ok());
    }

    #[test]
    fn derived_ids_repeat_and_do_not_collide_across_part_borders() {
        let a = derive(&[b"ab", b"c"]);
        assert_eq!(a, derive(&[b"ab", b"c"]));
        assert_ne!(a, derive(&[b"a", b"bc"]));
    }
}
