//! Messages, tasks and flows for tests.

use aof_shared::action::{ApprovalStatus, Decision};
use aof_shared::config::Flow;
use aof_shared::ids::{
    ActionId, AgentName, FlowName, InstanceName, MessageId, PlatformName, Revision, RunId, TaskId,
    TenantId,
};
use aof_shared::message::{Channel, Message, MessageKind, Priority, Task, User};

pub(crate) fn tenant(name: &str) -> TenantId {
    TenantId::new(name).expect("a valid name")
}

pub(crate) fn message(tenant_name: &str, event: &str, text: &str) -> Message {
    let tenant = tenant(tenant_name);
    let platform = PlatformName::slack();
    let instance = InstanceName::new("main").expect("a valid name");
    Message {
        id: MessageId::derive(&tenant, &platform, &instance, event),
        tenant,
        instance,
        platform,
        kind: MessageKind::Mention,
        channel: Channel { id: "C1".to_owned(), name: Some("ops".to_owned()), direct: false },
        thread: None,
        reply_to: None,
        user: User::new("U1"),
        text: text.to_owned(),
        media: Vec::new(),
        event_id: event.to_owned(),
        conversation: format!("C1:{event}"),
        sent_at_ms: 1,
        received_at_ms: 1,
        raw: String::new(),
    }
}

pub(crate) fn task_of(message: Message, flow: &str) -> Task {
    let flow = FlowName::new(flow).expect("a valid name");
    let id = TaskId::derive(message.id, &flow);
    Task {
        id,
        run: RunId::derive(id),
        message,
        flow,
        agent: AgentName::new("helper").expect("a valid name"),
        revision: Revision::default(),
        score: 40,
        priority: Priority::Normal,
        decision: None,
    }
}

pub(crate) fn task(tenant: &str, flow: &str, text: &str) -> Task {
    task_of(message(tenant, text, text), flow)
}

pub(crate) fn flow(tenant_name: &str, name: &str) -> Flow {
    Flow::new(tenant(tenant_name), FlowName::new(name).expect("a valid name"))
}

pub(crate) fn decision(task: &Task) -> Decision {
    Decision {
        action: ActionId::derive(task.run, 1),
        outcome: ApprovalStatus::Approved,
        digest: String::new(),
        by: Vec::new(),
        reasons: Vec::new(),
        decided_at_ms: 1,
    }
}
