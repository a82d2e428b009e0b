//! Gives up on what can never be handled: one dead letter and one event.

use aof_shared::dead::DeadLetter;
use aof_shared::event::{Event, EventType};
use aof_shared::ids::{EventId, MessageId, RunId};
use aof_shared::queue::Stored;
use serde_json::json;

use crate::ROLE;
use crate::desk::{Desk, HandleError};

/// Why something is given up, and what it was about as far as that is known.
#[derive(Debug, Default)]
pub(crate) struct Burial {
    /// A short constant for metrics.
    pub(crate) reason: &'static str,
    /// For people.
    pub(crate) detail: String,
    pub(crate) failures: u32,
    pub(crate) message_id: Option<MessageId>,
    pub(crate) run_id: Option<RunId>,
}

/// Makes a dead letter of `source`. Its ids are derived: doing it twice is doing it once.
pub(crate) async fn bury(desk: &Desk, source: &Stored, burial: Burial) -> Result<(), HandleError> {
    let Burial { reason, detail, failures, message_id, run_id } = burial;
    let at_ms = desk.now_ms();
    let tenant = source.subject.tenant();
    let subject = source.subject.to_string();
    let letter = DeadLetter {
        seq: 0,
        tenant: tenant.clone(),
        role: ROLE.to_owned(),
        reason: reason.to_owned(),
        detail: detail.clone(),
        subject: subject.clone(),
        payload: String::from_utf8_lossy(&source.payload).into_owned(),
        failures,
        message_id,
        run_id,
        at_ms,
    };
    let id = EventId::derive(source.id, "dead_letter.added");
    let mut event = Event::new(id, tenant, EventType::DeadLetterAdded, at_ms)
        .with(json!({ "role": ROLE, "reason": reason, "detail": detail, "subject": subject }));
    (event.message_id, event.run_id) = (message_id, run_id);
    desk.publish(vec![letter.publication(source)?, event.publication()?]).await?;
    desk.count_dead_letter(reason);
    tracing::error!(tenant.id = %tenant, subject, reason, detail, "given up");
    Ok(())
}
