//! A switch that makes the real queue refuse to store, as a full disk does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aof_shared::queue::QueueError;
use aof_shared::queue::watched::WriteWatch;
use aof_shared::subject::Stream;

/// Refuses publications while it is on.
pub(crate) struct Refusing(pub(crate) Arc<AtomicBool>);

impl WriteWatch for Refusing {
    fn before(&self) -> Result<(), QueueError> {
        match self.0.load(Ordering::SeqCst) {
            true => Err(QueueError::Full { stream: Stream::Inbound }),
            false => Ok(()),
        }
    }
}
