//! Which card is shown already, and which update still says something new.
//!
//! The store knows what was posted and how the action stands; what was drawn last is only
//! remembered, since forgetting it costs no more than one update too many.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use aof_shared::action::{ApprovalStatus, ApprovalView};
use aof_shared::ids::{ActionId, TenantId};
use aof_shared::message::{Address, Reply};
use aof_shared::store::{Store, StoreError};

use super::port::{Body, Posted};

/// Cards remembered.
const MAX_CARDS: u64 = 10_000;

/// What was drawn last: the view's version and a hash of the rest.
type Drawn = (u64, u64);

/// Knows the cards.
pub(crate) struct Cards {
    store: Arc<dyn Store>,
    drawn: moka::sync::Cache<(TenantId, ActionId), Drawn>,
}

impl Cards {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, drawn: moka::sync::Cache::new(MAX_CARDS) }
    }

    /// What to send for `view` now; `None` when people see it, or something newer, already.
    ///
    /// A view that the store has overtaken is drawn as the store has it: a reader sees no
    /// state twice, and no buttons on what is decided.
    pub(crate) async fn plan(
        &self,
        tenant: &TenantId,
        view: &ApprovalView,
    ) -> Result<Option<Body>, StoreError> {
        let stored = self.store.approval(tenant, view.id).await?;
        let mut view = Box::new(view.clone());
        let mut replaces = None;
        if let Some(stored) = stored {
            if rank(stored.status) > rank(view.status) {
                view = Box::new(stored.view(0, view.version));
            }
            replaces = stored.posted;
        }
        let last = self.drawn.get(&(tenant.clone(), view.id));
        let (version, content) = drawn(&view);
        let stale = last.is_some_and(|(v, c)| version < v || content == c);
        if stale && replaces.is_some() {
            return Ok(None);
        }
        Ok(Some(Body::Card { view, replaces }))
    }

    /// Remembers that `body` is shown as `posted`. Returns the error of the store, after
    /// which votes by reaction do not find the card.
    pub(crate) async fn shown(
        &self,
        reply: &Reply,
        body: &Body,
        posted: &Posted,
    ) -> Result<(), StoreError> {
        let Body::Card { view, replaces } = body else { return Ok(()) };
        self.drawn.insert((reply.to.tenant.clone(), view.id), drawn(view));
        let (None, Some(id)) = (replaces, &posted.id) else { return Ok(()) };
        let channel = posted.channel.clone().unwrap_or_else(|| reply.to.channel.clone());
        let at = Address { channel, ..reply.to.clone() };
        self.store.set_posted(&reply.to.tenant, view.id, &at, id).await
    }
}

fn drawn(view: &ApprovalView) -> Drawn {
    let mut hasher = DefaultHasher::new();
    let content = ApprovalView { version: 0, ..view.clone() };
    serde_json::to_string(&content).unwrap_or_default().hash(&mut hasher);
    (view.version, hasher.finish())
}

/// How far an action has come.
fn rank(status: ApprovalStatus) -> u8 {
    match status {
        ApprovalStatus::Pending => 0,
        ApprovalStatus::Approved | ApprovalStatus::Denied | ApprovalStatus::Expired => 1,
        ApprovalStatus::Started => 2,
        ApprovalStatus::Executed | ApprovalStatus::Failed | ApprovalStatus::Uncertain => 3,
    }
}
