//! What outlets of HTTP platforms share: accounts, paced calls, text as pieces.

use std::sync::Arc;

use aof_shared::config::Instance;
use aof_shared::ids::ReplyId;
use aof_shared::message::{Address, Reply, ReplyContent};
use aof_shared::store::Store;

use super::accounts::Accounts;
use super::call::{Answer, Caller};
use super::pace::{Pace, Pacer};
use super::port::{Body, Piece, SendError};

/// Calls a platform as one of its accounts, within its limits. Cheap to clone.
#[derive(Clone)]
pub struct Paced {
    /// Makes the calls.
    pub caller: Caller,
    /// Admits them.
    pub pacer: Pacer,
    /// Who they are made as.
    pub accounts: Accounts,
    /// Has what adapters noted.
    pub store: Arc<dyn Store>,
}

impl Paced {
    /// The account that `to` names.
    ///
    /// # Errors
    /// `Refused` when the tenant has no such account any more.
    pub fn instance(&self, to: &Address) -> Result<Arc<Instance>, SendError> {
        self.accounts.get(&to.tenant, &to.platform, &to.instance).ok_or_else(|| {
            SendError::Refused {
                reason: "no_instance",
                detail: format!(
                    "tenant `{}` has no instance `{}` of {} any more: add it to the \
                     configuration and retry the dead letter",
                    to.tenant, to.instance, to.platform
                ),
            }
        })
    }

    /// The longest wait of all of `paces` as far as this node knows, in milliseconds.
    #[must_use]
    pub fn wait_ms(&self, paces: &[Pace]) -> u64 {
        paces.iter().map(|pace| self.pacer.wait_ms(&pace.scope)).max().unwrap_or(0)
    }

    /// Sends `request` once all of `paces` admit it. `read` decides what the answer means;
    /// where that is a limit, the first of `paces` stays closed for as long.
    ///
    /// # Errors
    /// [`SendError`], `Limited` also when the pacing says no.
    pub async fn call<T>(
        &self,
        paces: &[Pace],
        request: reqwest::RequestBuilder,
        read: impl FnOnce(&Answer) -> Result<T, SendError>,
    ) -> Result<T, SendError> {
        self.pacer.admit_all(paces).await?;
        let result = self.caller.send(request).await.and_then(|answer| read(&answer));
        if let (Err(SendError::Limited { retry_after_ms, .. }), [first, ..]) = (&result, paces) {
            self.pacer.pause(&first.scope, *retry_after_ms);
        }
        result
    }
}

/// `reply` as pieces: `texts` cuts Markdown into messages of the platform, never none; a
/// card is one piece.
pub fn pieces(reply: &Reply, texts: impl FnOnce(&str) -> Vec<String>) -> Vec<Piece> {
    match &reply.content {
        ReplyContent::Answer { text, .. } | ReplyContent::Notice { text } => texts(text)
            .into_iter()
            .enumerate()
            .map(|(at, text)| Piece { id: part_id(reply.id, at), body: Body::Text(text) })
            .collect(),
        ReplyContent::Approval { view } => {
            let body = Body::Card { view: view.clone(), replaces: None };
            vec![Piece { id: reply.id, body }]
        }
    }
}

/// The claim's id of part number `at`, from 0.
fn part_id(reply: ReplyId, at: usize) -> ReplyId {
    if at == 0 { reply } else { ReplyId::derive(reply.0, &format!("part-{}", at + 1)) }
}

/// The first `max_chars` of `text`, and how many characters are cut off.
#[must_use]
pub fn bounded(text: &str, max_chars: usize) -> (&str, usize) {
    match text.char_indices().nth(max_chars) {
        None => (text, 0),
        Some((end, _)) => (&text[..end], text[end..].chars().count()),
    }
}
