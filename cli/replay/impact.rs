//! What a node's past would have been under one configuration.

use aof_shared::ids::Revision;

use super::decide::Against;
use super::report::Report;
use super::rules::Rules;
use super::slice::Slice;
use super::source::Source;
use crate::client::Client;

/// A configuration that is about to be applied.
pub(crate) struct Impact {
    against: Against,
    revision: Revision,
}

impl Impact {
    /// Of `rules`.
    pub(crate) fn under(rules: Rules) -> Self {
        Self { revision: rules.revision().clone(), against: Against::One(Box::new(rules)) }
    }

    /// The configuration's revision.
    pub(crate) fn revision(&self) -> &Revision {
        &self.revision
    }

    /// What the slice of the client's account would have been.
    ///
    /// # Errors
    /// When the past cannot be read to its end.
    pub(crate) async fn of(
        &self,
        client: &Client,
        slice: &Slice,
        limit: usize,
    ) -> anyhow::Result<Report> {
        let source = Source::Node(client.clone());
        super::decide_all((&client.account, &source), slice, &self.against, limit).await
    }
}
