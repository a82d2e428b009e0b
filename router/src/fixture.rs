//! Flows and messages for the tests of this crate.

use std::sync::Arc;

use aof_shared::config::{Daemon, Flow, FlowAgent, Snapshot};
use aof_shared::ids::{
    AgentName, FlowName, InstanceName, MessageId, PlatformName, Revision, TenantId,
};
use aof_shared::message::{Channel, Message, MessageKind, Priority, User};

use crate::table::Table;

pub(crate) fn tenant(name: &str) -> TenantId {
    TenantId::new(name).expect("a valid name")
}

pub(crate) fn platform(name: &str) -> PlatformName {
    PlatformName::new(name).expect("a valid name")
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|t| (*t).to_owned()).collect()
}

/// Builds a flow in the order in which a manifest is read.
#[derive(Debug)]
pub(crate) struct NewFlow(pub(crate) Flow);

pub(crate) fn flow(name: &str) -> NewFlow {
    NewFlow(Flow::new(TenantId::default(), FlowName::new(name).expect("a valid name")))
}

impl NewFlow {
    pub(crate) fn of(mut self, name: &str) -> Self {
        self.0.tenant = tenant(name);
        self
    }
    pub(crate) fn on(mut self, name: &str) -> Self {
        self.0.trigger.platform = Some(platform(name));
        self
    }
    pub(crate) fn account(mut self, name: &str) -> Self {
        self.0.trigger.instance = Some(InstanceName::new(name).expect("a valid name"));
        self
    }
    pub(crate) fn events(mut self, kinds: &[MessageKind]) -> Self {
        self.0.trigger.events = kinds.to_vec();
        self
    }
    pub(crate) fn channels(mut self, list: &[&str]) -> Self {
        self.0.trigger.channels = texts(list);
        self
    }
    pub(crate) fn users(mut self, list: &[&str]) -> Self {
        self.0.trigger.users = texts(list);
        self
    }
    pub(crate) fn patterns(mut self, list: &[&str]) -> Self {
        self.0.trigger.patterns = texts(list);
        self
    }
    pub(crate) fn agent(mut self, name: &str, patterns: &[&str]) -> Self {
        self.0.agents.push(FlowAgent {
            name: AgentName::new(name).expect("a valid name"),
            patterns: texts(patterns),
            priority: Priority::Normal,
            tools: None,
            tool_config: std::collections::BTreeMap::new(),
        });
        self
    }
    pub(crate) fn critical(mut self) -> Self {
        self.0.agents.last_mut().expect("an agent").priority = Priority::Critical;
        self
    }
}

pub(crate) fn snapshot(flows: Vec<NewFlow>, daemon: Daemon) -> Snapshot {
    let flows: Vec<Arc<Flow>> = flows.into_iter().map(|f| Arc::new(f.0)).collect();
    let names: Vec<&str> = flows.iter().map(|f| f.name.as_str()).collect();
    let revision = Revision::of(names.join(",").as_bytes());
    Snapshot { revision, flows, daemon: Arc::new(daemon), ..Snapshot::default() }
}

pub(crate) fn with_default_agent() -> Daemon {
    let agent = AgentName::new("general-assistant").expect("a valid name");
    Daemon { default_agent: Some(agent), ..Daemon::default() }
}

pub(crate) fn table(flows: Vec<NewFlow>) -> Table {
    Table::build(Arc::new(snapshot(flows, with_default_agent())), None)
}

/// A mention on Slack in channel `C0PROD111` by `U1`.
pub(crate) fn message(text: &str) -> Message {
    let instance = InstanceName::new("main").expect("a valid name");
    let (tenant, platform) = (TenantId::default(), PlatformName::slack());
    Message {
        id: MessageId::derive(&tenant, &platform, &instance, text),
        tenant,
        instance,
        platform,
        kind: MessageKind::Mention,
        channel: Channel { id: "C0PROD111".into(), name: None, direct: false },
        thread: None,
        reply_to: None,
        user: User::new("U1"),
        text: text.into(),
        media: Vec::new(),
        event_id: text.into(),
        conversation: "C0PROD111/1".into(),
        sent_at_ms: 0,
        received_at_ms: 0,
        raw: "{}".into(),
    }
}
