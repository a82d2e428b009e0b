//! What the store port promises, one test a promise: `store_contract!(fixture)`.

mod actions;
mod isolation;
mod records;
mod retried;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use crate::action::{
    ApprovalStatus, Choice, Command, HeldAction, Identity, Quorum, RecordedVote, SelfApproval,
};
use crate::ids::{
    ActionId, AgentName, FlowName, InstanceName, MessageId, PlatformName, Revision, RunId, TaskId,
    TenantId,
};
use crate::message::{Address, Channel, Message, MessageKind, Priority, RunStatus, Task, User};
use crate::store::{MemoryKey, NoteKey, RunEnd, RunStart, Settlement, Store, Turn};

pub use actions::*;
pub use isolation::*;
pub use records::*;
pub use retried::*;

/// Who works on the runs of a test.
pub(crate) const HOLDER: Uuid = Uuid::from_u128(0xA0F);
/// A time that tests stand at, in milliseconds.
pub(crate) const NOW_MS: u64 = 1_705_314_600_000;

/// A backend with nothing in it.
#[async_trait]
pub trait StoreFixture: Send + Sync {
    /// The store under test.
    fn store(&self) -> Arc<dyn Store>;
    /// Closes the backend and opens it again; everything in memory is gone.
    async fn restart(&mut self);
}

/// Runs every promise against `$fixture`, an expression that makes a [`StoreFixture`].
#[macro_export]
macro_rules! store_contract {
    ($fixture:expr) => {
        $crate::store_contract!(@tests $fixture,
            a_run_begins_once_and_resumes_from_its_checkpoint,
            a_run_is_saved_by_its_last_holder_alone,
            a_finished_run_stays_as_it_ended,
            memory_is_appended_once_and_read_newest_last,
            concurrent_begins_begin_once,
            a_reply_is_claimed_once,
            an_aborted_claim_can_be_claimed_again,
            keys_are_found_by_hash_and_revoked_once,
            the_first_operators_key_is_made_once,
            channel_names_are_remembered,
            a_note_is_there_until_it_expires,
            text_of_any_kind_comes_back_as_it_was,
            a_held_action_is_stored_once,
            the_latest_vote_of_a_person_counts,
            votes_are_taken_only_while_pending,
            settling_happens_once_with_its_outbox,
            concurrent_settlements_settle_once,
            overdue_is_what_is_pending_and_over,
            an_action_starts_once,
            an_unapproved_or_changed_action_never_starts,
            a_start_without_an_end_is_uncertain_for_ever,
            an_ended_action_tells_how,
            an_approval_is_found_by_its_post,
            listings_are_newest_first_and_bounded,
            no_read_shows_another_tenants_records,
            no_write_touches_another_tenants_records,
        );
    };
    (@tests $fixture:expr, $($name:ident),+ $(,)?) => {
        $(
            #[tokio::test]
            async fn $name() {
                $crate::store::contract::$name(&mut $fixture.await).await;
            }
        )+
    };
}

/// Runs the promises that hold for callers that try again, against a store whose answers
/// get lost; see [`UnderFaults`].
#[macro_export]
macro_rules! store_contract_under_faults {
    ($fixture:expr) => {
        $crate::store_contract!(@tests $fixture,
            a_retried_begin_begins_at_most_once,
            a_retried_end_is_written_once,
            a_retried_claim_is_fresh_at_most_once,
            a_retried_key_is_there_once,
            a_retried_vote_counts_once,
            a_retried_settlement_is_published_once,
            a_retried_start_is_fresh_at_most_once,
        );
    };
}

pub(crate) fn tenant(name: &str) -> TenantId {
    TenantId::new(name).expect("a test's tenant name is valid")
}

fn flow() -> FlowName {
    FlowName::new("flow").expect("a valid name")
}

fn agent() -> AgentName {
    AgentName::new("agent").expect("a valid name")
}

fn instance() -> InstanceName {
    InstanceName::new("main").expect("a valid name")
}

pub(crate) fn run_id(n: u128) -> RunId {
    RunId(Uuid::from_u128(n))
}

pub(crate) fn action_id(n: u128) -> ActionId {
    ActionId(Uuid::from_u128(n))
}

pub(crate) fn start(tenant: &TenantId, run: RunId) -> RunStart {
    RunStart {
        run,
        tenant: tenant.clone(),
        message: MessageId(Uuid::from_u128(1)),
        flow: flow(),
        agent: agent(),
        revision: Revision::default(),
        at_ms: NOW_MS,
    }
}

pub(crate) fn end(answer: &str) -> RunEnd {
    RunEnd {
        status: RunStatus::Success,
        answer: answer.to_owned(),
        tokens: 7,
        elapsed_ms: 8,
        at_ms: NOW_MS + 8,
    }
}

pub(crate) fn memory(tenant: &TenantId) -> MemoryKey {
    MemoryKey { tenant: tenant.clone(), flow: flow(), session: "s".to_owned() }
}

pub(crate) fn turn(text: &str) -> Turn {
    Turn { role: "user".to_owned(), text: text.to_owned(), agent: None, at_ms: NOW_MS }
}

fn user(name: &str) -> Identity {
    Identity::new(PlatformName::slack(), name)
}

fn vote(name: &str, choice: Choice, cast_at_ms: u64) -> RecordedVote {
    RecordedVote { voter: user(name), choice, reason: None, cast_at_ms }
}

fn address(tenant: &TenantId) -> Address {
    Address {
        tenant: tenant.clone(),
        platform: PlatformName::slack(),
        instance: instance(),
        channel: "C1".to_owned(),
        thread: None,
    }
}

fn note_key(tenant: &TenantId, name: &str) -> NoteKey {
    NoteKey {
        tenant: tenant.clone(),
        platform: PlatformName::slack(),
        instance: instance(),
        name: name.to_owned(),
    }
}

pub(crate) fn settlement(status: ApprovalStatus) -> Settlement {
    Settlement { status, at_ms: NOW_MS, outbox: Vec::new() }
}

fn message(tenant: &TenantId) -> Message {
    Message {
        id: MessageId(Uuid::from_u128(1)),
        tenant: tenant.clone(),
        instance: instance(),
        platform: PlatformName::slack(),
        kind: MessageKind::Mention,
        channel: Channel { id: "C1".to_owned(), name: None, direct: false },
        thread: Some("1.0".to_owned()),
        reply_to: None,
        user: User::new("U1"),
        text: "delete it".to_owned(),
        media: Vec::new(),
        event_id: "E1".to_owned(),
        conversation: "C1/1.0".to_owned(),
        sent_at_ms: NOW_MS,
        received_at_ms: NOW_MS,
        raw: String::new(),
    }
}

/// A pending action that expires a minute after [`NOW_MS`].
pub(crate) fn held(tenant: &TenantId, id: ActionId) -> HeldAction {
    let mut action = HeldAction {
        id,
        tenant: tenant.clone(),
        flow: flow(),
        revision: Revision::default(),
        agent: agent(),
        run: run_id(1),
        step: 1,
        requester: user("U1"),
        command: Command {
            argv: vec!["/bin/rm".to_owned(), "x".to_owned()],
            directory: "/tmp".to_owned(),
            environment: BTreeMap::new(),
            target: "here".to_owned(),
        },
        rule: "rm *".to_owned(),
        quorum: Quorum {
            chain: "c".to_owned(),
            approvers: vec!["U2".to_owned()],
            require: 1,
            self_approval: SelfApproval::Never,
        },
        held_at_ms: NOW_MS,
        expires_at_ms: NOW_MS + 60_000,
        nonce: id.to_string(),
        digest: String::new(),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        task: Box::new(Task {
            id: TaskId(Uuid::from_u128(1)),
            run: run_id(1),
            message: message(tenant),
            flow: flow(),
            agent: agent(),
            revision: Revision::default(),
            score: 100,
            priority: Priority::Normal,
            decision: None,
        }),
    };
    action.digest = action.compute_digest();
    action
}

/// Holds an action and approves it.
async fn approved(store: &Arc<dyn Store>, tenant: &TenantId, id: ActionId) -> HeldAction {
    let action = held(tenant, id);
    assert!(store.hold(&action).await.expect("hold"));
    let settled = store.settle(tenant, id, &settlement(ApprovalStatus::Approved)).await;
    assert!(settled.expect("settle"));
    action
}
