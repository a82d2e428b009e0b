//! Which parts of a node can work, and what to look at although they do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Warnings kept at once; each part has at most one.
const MAX_WARNINGS: usize = 1_000;

/// Which parts of a node can work, and why not.
///
/// Readiness is all of them but those that the node can serve without. Warnings say what an
/// operator should know of and keep nothing from working; notices are warnings that hold
/// nothing of any tenant, so that whoever may ask for readiness sees them too.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<Parts>>);

#[derive(Debug, Default)]
struct Parts {
    parts: BTreeMap<&'static str, Option<Down>>,
    warnings: BTreeMap<String, String>,
    notices: BTreeMap<String, String>,
    dead: BTreeMap<&'static str, &'static str>,
}

#[derive(Debug)]
struct Down {
    reason: String,
    /// Nothing can be served without it.
    needed: bool,
}

impl Health {
    fn lock(&self) -> MutexGuard<'_, Parts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The part can work.
    pub fn up(&self, part: &'static str) {
        self.lock().parts.insert(part, None);
    }

    /// The part cannot work, and why.
    pub fn down(&self, part: &'static str, reason: impl Into<String>) {
        let down = Down { reason: reason.into(), needed: true };
        self.lock().parts.insert(part, Some(down));
    }

    /// The part cannot work, and why; requests may come all the same, since what needs it
    /// waits for it.
    pub fn lacking(&self, part: &'static str, reason: impl Into<String>) {
        let down = Down { reason: reason.into(), needed: false };
        self.lock().parts.insert(part, Some(down));
    }

    /// The part will not work again in this process.
    pub fn dead(&self, part: &'static str, why: &'static str) {
        self.lock().dead.insert(part, why);
    }

    /// True while no part is dead. A restart helps when this is false, and only then.
    #[must_use]
    pub fn alive(&self) -> bool {
        self.lock().dead.is_empty()
    }

    /// Says what is wrong with `part` although it works, or with `None` that it is over.
    /// Readiness stays as it is. Beyond [`MAX_WARNINGS`] parts, new ones are left out.
    pub fn warn(&self, part: impl Into<String>, warning: Option<String>) {
        set(&mut self.lock().warnings, part.into(), warning);
    }

    /// As [`Health::warn`], for what everybody may see.
    pub fn notice(&self, part: impl Into<String>, notice: Option<String>) {
        set(&mut self.lock().notices, part.into(), notice);
    }

    /// What is wrong although everything works, by part; notices too.
    #[must_use]
    pub fn warnings(&self) -> BTreeMap<String, String> {
        let parts = self.lock();
        let all = parts.warnings.iter().chain(&parts.notices);
        all.map(|(part, why)| (part.clone(), why.clone())).collect()
    }

    /// The warnings that everybody may see.
    #[must_use]
    pub fn notices(&self) -> BTreeMap<String, String> {
        self.lock().notices.clone()
    }

    /// Every part with the reason why it cannot work, if it cannot.
    #[must_use]
    pub fn parts(&self) -> BTreeMap<&'static str, Option<String>> {
        let parts = self.lock();
        let reason = |down: &Option<Down>| down.as_ref().map(|down| down.reason.clone());
        let mut shown: BTreeMap<_, _> =
            parts.parts.iter().map(|(part, down)| (*part, reason(down))).collect();
        let dead = parts.dead.iter();
        shown.extend(dead.map(|(part, why)| (*part, Some(format!("{why}; restart the node")))));
        shown
    }

    /// True when every part that was ever named can work or can be done without.
    #[must_use]
    pub fn ready(&self) -> bool {
        let parts = self.lock();
        let needed = |down: &Option<Down>| down.as_ref().is_some_and(|down| down.needed);
        parts.dead.is_empty() && !parts.parts.values().any(needed)
    }
}

fn set(all: &mut BTreeMap<String, String>, part: String, says: Option<String>) {
    match says {
        None => drop(all.remove(&part)),
        Some(_) if all.len() >= MAX_WARNINGS && !all.contains_key(&part) => {}
        Some(says) => drop(all.insert(part, says)),
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
        health.notice("clock", Some("3 s off".to_owned()));
        assert!(health.ready());
        assert_eq!(health.warnings().len(), 2);
        assert_eq!(health.notices().len(), 1, "what names a tenant is for operators");
        health.warn("configuration", None);
        health.notice("clock", None);
        assert!(health.warnings().is_empty());
    }

    #[test]
    fn a_part_that_can_be_done_without_is_named_and_stops_nothing() {
        let health = Health::default();
        health.up("nats");
        health.lacking("redis", "away since noon");
        assert!(health.ready());
        assert_eq!(health.parts()["redis"].as_deref(), Some("away since noon"));
        health.down("nats", "away since one");
        assert!(!health.ready());
    }

    #[test]
    fn only_a_dead_part_is_a_reason_to_restart() {
        let health = Health::default();
        health.down("router", "NATS is away");
        assert!(health.alive());
        health.dead("router", "its loop ended");
        health.up("router");
        assert!(!health.alive() && !health.ready(), "nothing brings it back");
        assert!(health.parts()["router"].as_deref().is_some_and(|why| why.contains("restart")));
    }
}
