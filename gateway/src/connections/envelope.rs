//! What stands around each thing that the connection brings. Pure.

use serde::Deserialize;
use serde_json::value::RawValue;

/// A dispatch: an event with its name and its position in the session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dispatch<'a> {
    /// Its name, such as `MESSAGE_CREATE`.
    pub(super) kind: &'a str,
    /// Its position in the session, from 1.
    pub(super) seq: u64,
    /// The event.
    pub(super) data: &'a str,
}

/// Reads a payload; `None` for what is no dispatch. Source: Discord, "Gateway Events",
/// *Payload Structure*.
pub(super) fn dispatch(payload: &str) -> Option<Dispatch<'_>> {
    #[derive(Deserialize)]
    struct Payload<'a> {
        op: u8,
        #[serde(default)]
        t: Option<&'a str>,
        #[serde(default)]
        s: Option<u64>,
        #[serde(borrow, default)]
        d: Option<&'a RawValue>,
    }
    let payload: Payload<'_> = serde_json::from_str(payload).ok()?;
    if payload.op != 0 {
        return None;
    }
    Some(Dispatch { kind: payload.t?, seq: payload.s?, data: payload.d?.get() })
}

/// What a session starts with.
#[derive(Debug, Deserialize)]
pub(super) struct Ready {
    /// The session.
    pub(super) session_id: String,
    /// Where it is resumed.
    pub(super) resume_gateway_url: String,
    /// The bot itself.
    pub(super) user: Bot,
}

/// The bot.
#[derive(Debug, Deserialize)]
pub(super) struct Bot {
    /// Its user id.
    pub(super) id: String,
}
