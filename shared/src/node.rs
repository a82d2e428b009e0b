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

/// Which parts of a node can work, and why not. Readiness is all of them. Warnings say what
/// an operator should know of and keep nothing from working.
#[derive(Debug, Clone, Default)]
pub struct Health {
    parts: Arc<Mutex<BTreeMap<&'static str, Option<String>>>>,
    warnings: Arc<Mutex<BTreeMap<String, String>>>,
}

/// Warnings kept at once; each part has at most one.
const MAX_WARNINGS: usize = 1_000;

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

    /// Says what is wrong with `part` although it works, or with `None` that it is over.
    /// Readiness stays as it is. Beyond [`MAX_WARNINGS`] parts, new ones are left out.
    pub fn warn(&self, part: impl Into<String>, warning: Option<String>) {
        let part = part.into();
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        match warning {
            None => drop(warnings.remove(&part)),
            Some(_) if warnings.len() >= MAX_WARNINGS && !warnings.contains_key(&part) => {}
            Some(warning) => drop(warnings.insert(part, warning)),
        }
    }

    /// What is wrong although everything works, by part.
    #[must_use]
    pub fn warnings(&self) -> BTreeMap<String, String> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_shown_until_it_is_over_and_stops_nothing() {
        let health = Health::default();
        health.up("router");
        health.warn("configuration", Some("a.yaml:3: no".to_owned()));
        assert!(health.ready());
        let shown = BTreeMap::from([("configuration".to_owned(), "a.yaml:3: no".to_owned())]);
        assert_eq!(health.warnings(), shown);
        health.warn("configuration", None);
        assert!(health.warnings().is_empty());
    }
}
