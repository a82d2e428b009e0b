//! Records the configuration that decisions are made under, so that they can be made again.
//!
//! Each decision names the digest of what decided it; the journal has the document behind
//! the digest in `config.recorded`, published together with the first decision under it
//! and again each day, so that history that is cut off by age keeps what it refers to.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aof_shared::clock::UnixMs;
use aof_shared::config::RecordedConfig;
use aof_shared::event::{Event, EventType};
use aof_shared::ids::{EventId, Revision, TenantId};
use aof_shared::queue::Publication;
use serde_json::json;
use uuid::Uuid;

use crate::table::Table;

/// A document larger than this is left out of the journal, in bytes: it must fit into a
/// batch with what it is recorded for.
const MAX_BYTES: usize = 256 * 1_024;

/// How often a document is recorded while decisions are made under it, in milliseconds.
const EVERY_MS: u64 = 86_400_000;

/// What a tenant's decisions were made under lately.
#[derive(Debug)]
struct Known {
    /// The whole configuration's, which is cheaper to compare.
    revision: Revision,
    digest: Revision,
    /// The day that it was recorded on, counted from the epoch.
    day: u64,
}

/// What was recorded by this router.
#[derive(Debug, Default)]
pub(crate) struct Records(Mutex<HashMap<TenantId, Known>>);

impl Records {
    /// The digest of what decides for `tenant` in `table`, and what to publish before a
    /// decision names it.
    pub(crate) fn of(
        &self,
        table: &Table,
        tenant: &TenantId,
        now_ms: UnixMs,
    ) -> (Revision, Option<Publication>) {
        let day = now_ms / EVERY_MS;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = known.get(tenant);
        if let Some(last) = last.filter(|k| k.day == day && k.revision == *table.revision()) {
            return (last.digest.clone(), None);
        }
        let config = table.recorded(tenant);
        let digest = config.digest();
        let is_new = last.is_none_or(|k| k.day != day || k.digest != digest);
        let revision = table.revision().clone();
        known.insert(tenant.clone(), Known { revision, digest: digest.clone(), day });
        drop(known);
        let publication = is_new.then(|| event(&config, &digest, table, tenant, now_ms));
        (digest, publication.and_then(|event| event.publication().ok()))
    }

    /// What was to be published may not have been: everything is recorded again.
    pub(crate) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Once a document, tenant and day, whichever router is first.
fn event(
    config: &RecordedConfig,
    digest: &Revision,
    table: &Table,
    tenant: &TenantId,
    now_ms: UnixMs,
) -> Event {
    let label = format!("{tenant}/{digest}/{}", now_ms / EVERY_MS);
    let id = EventId::derive(Uuid::nil(), &label);
    let bytes = serde_json::to_vec(config).map_or(usize::MAX, |text| text.len());
    let data = if bytes > MAX_BYTES {
        json!({ "config": digest, "omitted_bytes": bytes })
    } else {
        json!({ "config": digest, "document": config })
    };
    Event::new(id, tenant, EventType::ConfigRecorded, now_ms).under(table.revision()).with(data)
}

#[cfg(test)]
mod tests {
    use aof_shared::config::Daemon;

    use super::*;
    use crate::fixture::{flow, table, tenant};

    /// What was published: the digest and whether the document came with it.
    fn recorded(found: (Revision, Option<Publication>)) -> (Revision, Option<Event>) {
        let read = |p: Publication| serde_json::from_slice(&p.payload).expect("an event");
        (found.0, found.1.map(read))
    }

    #[test]
    fn a_configuration_is_recorded_once_a_day_and_again_when_that_may_have_failed() {
        let records = Records::default();
        let table = table(vec![flow("ops").agent("shell", &[])]);
        let of = |now_ms| recorded(records.of(&table, &tenant("a"), now_ms));
        let (digest, first) = of(1);
        let first = first.expect("the document");
        assert_eq!(first.data["config"], digest.as_str());
        let document: RecordedConfig =
            serde_json::from_value(first.data["document"].clone()).expect("a document");
        assert_eq!(document.digest(), digest);
        assert_eq!(of(2), (digest.clone(), None));
        let next_day = of(EVERY_MS).1.expect("another day");
        assert_ne!(next_day.id, first.id);
        records.forget();
        assert_eq!(of(3).1.expect("again").id, first.id, "which dedupes");
    }

    #[test]
    fn a_tenant_gets_its_own_document() {
        let records = Records::default();
        let flows = vec![flow("x").of("a").agent("one", &[]), flow("y").of("b").agent("two", &[])];
        let table = Table::build(
            std::sync::Arc::new(crate::fixture::snapshot(flows, Daemon::default())),
            None,
        );
        for (own, other) in [("a", "\"y\""), ("b", "\"x\"")] {
            let (_, event) = recorded(records.of(&table, &tenant(own), 1));
            let event = event.expect("a document");
            let text = event.data.to_string();
            assert_eq!(event.tenant, tenant(own));
            assert!(!text.contains(other), "{text}");
        }
    }
}
