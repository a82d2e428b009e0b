//! Sends a piece at most once: claimed before the call, released only when it is certain
//! that nothing was sent.
//!
//! A crash, a timeout or a lost answer leaves the claim; whoever finds it does not send.

use std::future::Future;
use std::time::Duration;

use aof_shared::clock::UnixMs;
use aof_shared::ids::{ReplyId, TenantId};
use aof_shared::message::Reply;
use aof_shared::store::{SendState, Store, StoreError};

use super::port::{Outlet, Piece, Posted, SendError};

/// Attempts to record what a call came to, before the claim is left as it is.
const RECORD_ATTEMPTS: u32 = 5;
/// Pause between them.
const RECORD_PAUSE_MS: u64 = 200;

/// What became of a piece.
#[derive(Debug)]
pub(crate) enum Sent {
    /// The platform has it, from now.
    Now(Posted),
    /// The platform has had it since an earlier delivery.
    Before(Option<String>),
    /// It may have it: do not send it again.
    Unknown(String),
}

/// Why a piece is not sent yet, or never will be.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The platform or its limits said so; nothing was sent.
    Platform(SendError),
    /// The store could not say whether it was sent before; nothing was sent.
    Store(StoreError),
}

impl Stop {
    /// In a word, for spans; `None` where a limit only asks to wait.
    pub(crate) fn failure(&self) -> Option<&'static str> {
        match self {
            Self::Store(_) => Some("store_unavailable"),
            Self::Platform(SendError::Limited { .. }) => None,
            Self::Platform(SendError::Refused { reason, .. }) => Some(reason),
            Self::Platform(SendError::Unavailable { .. }) => Some("unavailable"),
            Self::Platform(SendError::Gone) => Some("gone"),
            Self::Platform(SendError::Unknown { .. }) => Some("unknown"),
        }
    }
}

/// Sends `piece` under its claim. That it was sent is for the caller to record: with
/// [`Ports::record`](aof_shared::store::Ports::record), or [`finish`].
pub(crate) async fn send(
    store: &dyn Store,
    outlet: &dyn Outlet,
    reply: &Reply,
    piece: &Piece,
    now_ms: UnixMs,
) -> Result<Sent, Stop> {
    let tenant = &reply.to.tenant;
    match store.begin_send(tenant, piece.id, now_ms).await.map_err(Stop::Store)? {
        SendState::Sent(id) => return Ok(Sent::Before(id)),
        SendState::Unknown => {
            return Ok(Sent::Unknown("an earlier attempt did not see its end".to_owned()));
        }
        SendState::Fresh => {}
    }
    match outlet.send(reply, piece).await {
        Ok(posted) => Ok(Sent::Now(posted)),
        Err(SendError::Unknown { reason }) => Ok(Sent::Unknown(reason)),
        Err(error) => {
            record(tenant, "not sent", || store.abort_send(tenant, piece.id)).await;
            Err(Stop::Platform(error))
        }
    }
}

/// Records that a piece was sent.
pub(crate) async fn finish(
    store: &dyn Store,
    tenant: &TenantId,
    piece: ReplyId,
    platform_id: Option<&str>,
) {
    record(tenant, "sent", || store.finish_send(tenant, piece, platform_id)).await;
}

/// Writes what is known. When the store does not take it the claim stays, which is safe:
/// it is then treated as unknown.
async fn record<F>(tenant: &TenantId, what: &'static str, write: impl Fn() -> F)
where
    F: Future<Output = Result<(), StoreError>>,
{
    for attempt in 1..=RECORD_ATTEMPTS {
        match write().await {
            Ok(()) => return,
            Err(error) if attempt == RECORD_ATTEMPTS => {
                tracing::error!(tenant.id = %tenant, %error, what, "a send could not be recorded");
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(RECORD_PAUSE_MS)).await,
        }
    }
}
