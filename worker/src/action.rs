//! Held actions: asking for a decision, and running what was decided, once.

pub(crate) mod decide;
pub(crate) mod end;
pub(crate) mod hold;

use std::path::PathBuf;

use aof_shared::action::{Approval, ApprovalStatus, HeldAction};
use aof_shared::ids::ReplyId;
use aof_shared::message::{Reply, ReplyContent};
use aof_shared::queue::Publication;
use aof_shared::subject::Subject;

use crate::job::{Interrupted, Job};

/// The publication of a card that shows how `action` stands now.
///
/// # Errors
/// [`Interrupted`].
async fn card(
    job: &Job,
    action: &HeldAction,
    status: ApprovalStatus,
    outcome: &str,
) -> Result<Publication, Interrupted> {
    let stored = job.worker.node.ports.store.approval(job.tenant(), action.id).await?;
    let mut approval = stored.unwrap_or_else(|| Approval {
        action: action.clone(),
        votes: Vec::new(),
        status,
        decided_at_ms: None,
        outcome: None,
        posted: None,
    });
    approval.status = status;
    approval.outcome = Some(outcome.to_owned());
    let version = job.now_ms();
    let view = Box::new(approval.view(0, version));
    let to = action.address();
    let reply = Reply {
        id: ReplyId::derive(action.id.0, &format!("card-{version}")),
        message: action.message().id,
        run: Some(action.run),
        content: ReplyContent::Approval { view },
        to,
    };
    let key = reply_key(&reply);
    let subject = Subject::reply(job.tenant(), &reply.to.platform);
    Ok(Publication::json(subject, reply.id.0, &reply)?.ordered_by(key))
}

/// The ordering key of REPLIES: platform/instance/channel.
pub(crate) fn reply_key(reply: &Reply) -> String {
    let to = &reply.to;
    format!("{}/{}/{}", to.platform, to.instance, to.channel)
}

/// The program of a resolved command.
fn program(action: &HeldAction) -> PathBuf {
    action.command.argv.first().map(PathBuf::from).unwrap_or_default()
}
