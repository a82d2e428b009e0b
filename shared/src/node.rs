//! What a role is started with, and how it says that it can work.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Config;
use crate::lifecycle::Lifecycle;
use crate::store::Ports;
use crate::telemetry::Metrics;

/// What every role gets: ports, configuration, metrics, health, and its lifecycle.
#[derive(Clone)]
pub struct Node {
    /// The backend.
    pub ports: Ports,
    /// The configuration in force.
    pub config: Config,
    /// The node's series.
    pub metrics: Arc<Metrics>,
    /// Which parts can work.
    pub health: Health,
    /// Owns the tasks and says when to drain.
    pub lifecycle: Lifecycle,
}

/// Why a role did not start. Says what to do next.
#[derive(Debug, thiserror::Error)]
#[error("{role} cannot start: {reason}")]
pub struct StartError {
    /// The role.
    pub role: &'static str,
    /// What is wrong and what to do.
    pub reason: String,
    /// The cause.
    #[source]
    pub source: Option<crate::queue::BoxError>,
}

/// Which parts of a node can work, and why not. Readiness is all of them.
#[derive(Debug, Clone, Default)]
pub struct Health {
    parts: Arc<Mutex<BTreeMap<&'static str, Option<String>>>>,
}

impl Health {
    /// The part can work.
    pub fn up(&self, part: &'static str) {
        self.set(part, None);
    }

    /// The part cannot work, and why.
    pub fn down(&self, part: &'static str, reason: impl Into<String>) {
        self.set(part, Some(reason.into()));
    }

    fn set(&self, part: &'static str, reason: Option<String>) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).insert(part, reason);
    }

    /// Every part with the reason why it cannot work, if it cannot.
    #[must_use]
    pub fn parts(&self) -> BTreeMap<&'static str, Option<String>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// True when every part that was ever named can work.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.parts().values().all(Option::is_none)
    }
}
