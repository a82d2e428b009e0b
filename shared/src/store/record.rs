//! A record of the store and the conclusion that it leads to: in one commit where one
//! backend holds both, one after the other elsewhere.

use async_trait::async_trait;

use super::{MemoryKey, Ports, RunEnd, StoreError, Turn};
use crate::ids::{ReplyId, RunId, TenantId};
use crate::queue::{Delivery, Publication};

/// What is recorded last, before everyone is told.
#[derive(Debug, Clone)]
pub enum Record {
    /// [`Store::finish_run`](super::Store::finish_run).
    RunEnd {
        /// Whose.
        tenant: TenantId,
        /// Which run.
        run: RunId,
        /// How it ended.
        end: RunEnd,
        /// What its conversation remembers of it.
        memory: Option<(MemoryKey, Vec<Turn>)>,
    },
    /// [`Store::finish_send`](super::Store::finish_send).
    Sent {
        /// Whose.
        tenant: TenantId,
        /// The claim.
        reply: ReplyId,
        /// What the platform calls it.
        platform_id: Option<String>,
    },
}

/// What [`Ports::record`] came to.
#[derive(Debug)]
pub enum Recorded {
    /// The batch is stored and the deliveries are acked.
    Concluded,
    /// The record alone is written: [`Queue::conclude`](crate::queue::Queue::conclude) is next.
    Written(Vec<Publication>, Vec<Delivery>),
    /// The run had ended before, and nothing was done.
    EndedBefore(Vec<Delivery>),
}

/// Nothing was recorded, or nobody knows; the deliveries are still held.
#[derive(Debug)]
pub struct Unrecorded {
    /// As of the store's method.
    pub error: StoreError,
    /// What it would have led to.
    pub batch: Vec<Publication>,
    /// Those that are still held; the others come again by themselves.
    pub deliveries: Vec<Delivery>,
}

/// A queue and a store that commit together.
#[async_trait]
pub trait Together: Send + Sync {
    /// MUST do what [`Ports::record`] and then `conclude` do, in one commit or not at all.
    ///
    /// # Errors
    /// The batch and what is still held: it did not happen, or nobody knows.
    async fn conclude(
        &self,
        record: &Record,
        batch: Vec<Publication>,
        deliveries: Vec<Delivery>,
    ) -> Result<Recorded, (Vec<Publication>, Vec<Delivery>)>;
}

impl Ports {
    /// Writes `record`, and concludes in the same commit where the backend can.
    ///
    /// # Errors
    /// [`Unrecorded`].
    pub async fn record(
        &self,
        record: &Record,
        mut batch: Vec<Publication>,
        mut deliveries: Vec<Delivery>,
    ) -> Result<Recorded, Unrecorded> {
        if let Some(together) = &self.together {
            // What fails in one commit is done in two, of which each says what was wrong.
            match together.conclude(record, batch, deliveries).await {
                Ok(recorded) => return Ok(recorded),
                Err(back) => (batch, deliveries) = back,
            }
        }
        match self.write(record).await {
            Ok(true) => Ok(Recorded::Written(batch, deliveries)),
            Ok(false) => Ok(Recorded::EndedBefore(deliveries)),
            Err(error) => Err(Unrecorded { error, batch, deliveries }),
        }
    }

    /// Writes `record` alone. `false`: the run had ended before.
    async fn write(&self, record: &Record) -> Result<bool, StoreError> {
        match record {
            Record::RunEnd { tenant, run, end, memory } => {
                let memory = memory.as_ref().map(|(key, turns)| (key, turns.as_slice()));
                self.store.finish_run(tenant, *run, end, memory).await
            }
            Record::Sent { tenant, reply, platform_id } => {
                self.store.finish_send(tenant, *reply, platform_id.as_deref()).await.map(|()| true)
            }
        }
    }
}

#[cfg(test)]
mod tests;
