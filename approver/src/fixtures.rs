//! What the tests of this crate are about: people, votes, one held action.

use aof_shared::action::{
    Choice, Command, HeldAction, Identity, Quorum, RecordedVote, SelfApproval,
};
use aof_shared::ids::{
    ActionId, AgentName, FlowName, InstanceName, MessageId, PlatformName, Revision, RunId, TaskId,
    TenantId,
};
use aof_shared::message::{Channel, Message, MessageKind, Priority, Task, User};

/// When everything in the tests starts.
pub(crate) const NOW_MS: u64 = 1_800_000_000_000;
/// How long the fixture's action waits.
pub(crate) const TIMEOUT_MS: u64 = 300_000;

/// `platform/user`, or `platform/user=alias`.
pub(crate) fn who(text: &str) -> Identity {
    let (platform, user) = text.split_once('/').expect("platform/user");
    let platform = platform.parse().expect("a platform name");
    let (user, alias) = user.split_once('=').unwrap_or((user, ""));
    Identity::of(platform, &User::new(user).known_as([alias.to_owned()]))
}

/// `platform/user choice time`, where the choice is `+`, `-` or `0`.
pub(crate) fn vote(text: &str) -> RecordedVote {
    let parts: Vec<&str> = text.split(' ').collect();
    let choice = match parts[1] {
        "+" => Choice::Approve,
        "-" => Choice::Deny,
        _ => Choice::Withdraw,
    };
    let cast_at_ms = parts[2].parse().expect("a time in ms");
    RecordedVote { voter: who(parts[0]), choice, reason: None, cast_at_ms }
}

/// The chain `critical`.
pub(crate) fn quorum(approvers: &[&str], require: u32) -> Quorum {
    Quorum {
        chain: "critical".to_owned(),
        approvers: approvers.iter().map(|&a| a.to_owned()).collect(),
        require,
        self_approval: SelfApproval::Allowed,
    }
}

/// An action of `default` that `slack/me` asked for and `a` and `b` must both approve.
pub(crate) fn action() -> HeldAction {
    action_of(&TenantId::default_tenant(), "Ev1")
}

/// The same, from the message `event_id` of `tenant`.
pub(crate) fn action_of(tenant: &TenantId, event_id: &str) -> HeldAction {
    let task = task(tenant, event_id);
    let mut action = HeldAction {
        id: ActionId::derive(task.run, 1),
        tenant: tenant.clone(),
        flow: task.flow.clone(),
        revision: task.revision.clone(),
        agent: task.agent.clone(),
        run: task.run,
        step: 1,
        requester: who("slack/me"),
        command: Command {
            argv: ["/usr/bin/kubectl", "delete", "pod", "api-0"].map(str::to_owned).to_vec(),
            directory: "/srv".to_owned(),
            environment: [("KUBECONFIG".to_owned(), "/etc/kube".to_owned())].into(),
            target: "prod/default".to_owned(),
        },
        rule: "kubectl delete".to_owned(),
        quorum: quorum(&["a", "b"], 2),
        held_at_ms: NOW_MS,
        expires_at_ms: NOW_MS + TIMEOUT_MS,
        nonce: "n".to_owned(),
        digest: String::new(),
        task: Box::new(task),
        traceparent: None,
    };
    action.digest = action.compute_digest();
    action
}

fn task(tenant: &TenantId, event_id: &str) -> Task {
    let platform = PlatformName::slack();
    let instance = InstanceName::new("main").expect("a valid name");
    let flow = FlowName::new("prod-k8s-flow").expect("a valid name");
    let message = MessageId::derive(tenant, &platform, &instance, event_id);
    let id = TaskId::derive(message, &flow);
    Task {
        id,
        run: RunId::derive(id),
        message: Message {
            id: message,
            tenant: tenant.clone(),
            instance,
            platform,
            kind: MessageKind::Mention,
            channel: Channel { id: "C1".to_owned(), name: None, direct: false },
            thread: Some("1.1".to_owned()),
            reply_to: None,
            user: User::new("me"),
            text: "delete the pod".to_owned(),
            media: Vec::new(),
            event_id: event_id.to_owned(),
            conversation: "C1/1.1".to_owned(),
            sent_at_ms: NOW_MS,
            received_at_ms: NOW_MS,
            raw: String::new(),
        },
        flow,
        agent: AgentName::new("k8s-ops").expect("a valid name"),
        revision: Revision::of(b"r1"),
        score: 100,
        priority: Priority::Normal,
        decision: None,
    }
}
