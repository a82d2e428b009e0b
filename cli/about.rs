//! Options that narrow the journal to what it is about, the same for every command. Pure.

use uuid::Uuid;

/// What events are about.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct About {
    /// Only messages that this flow took
    #[arg(long, value_name = "NAME")]
    pub(crate) flow: Option<String>,
    /// Only messages that went to this agent
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<String>,
    /// Only messages that this user wrote, by the platform's id
    #[arg(long, value_name = "ID")]
    pub(crate) user: Option<String>,
    /// Only this conversation, as events name it
    #[arg(long, value_name = "NAME")]
    pub(crate) conversation: Option<String>,
    /// Only this message
    #[arg(long, value_name = "ID")]
    pub(crate) message: Option<Uuid>,
    /// Only this run
    #[arg(long, value_name = "ID")]
    pub(crate) run: Option<Uuid>,
}

impl About {
    /// As parameters of the journal.
    pub(crate) fn parameters(&self) -> Vec<(&'static str, String)> {
        let id = |id: &Option<Uuid>| id.as_ref().map(Uuid::to_string);
        let all = [
            ("flow", self.flow.clone()),
            ("agent", self.agent.clone()),
            ("user", self.user.clone()),
            ("conversation", self.conversation.clone()),
            ("message_id", id(&self.message)),
            ("run_id", id(&self.run)),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// True when it names one message or run.
    pub(crate) fn is_one(&self) -> bool {
        self.message.is_some() || self.run.is_some()
    }
}
