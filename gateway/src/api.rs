//! The HTTP API: one file a resource.

mod accounts;
mod agents;
mod approvals;
pub(crate) mod body;
mod chat;
mod dead_letters;
mod events;
mod keys;
mod messages;
mod span;
mod status;
mod whoami;

use utoipa_axum::router::OpenApiRouter;

use crate::app::Shared;

/// The routes of all resources.
pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .merge(chat::routes())
        .merge(agents::routes())
        .merge(approvals::routes())
        .merge(events::routes())
        .merge(messages::routes())
        .merge(accounts::routes())
        .merge(keys::routes())
        .merge(dead_letters::routes())
        .merge(status::routes())
        .merge(whoami::routes())
}

#[cfg(test)]
mod tests;
