//! What tools and models gave in the past, instead of tools and models: a run in a sandbox
//! starts nothing and asks nobody.

use std::collections::HashMap;

use aof_shared::ids::{AgentName, MessageId};

use crate::checkpoint::Outcome;

/// Answers of the past, by message.
#[derive(Debug, Default)]
pub struct Recording {
    tools: HashMap<(MessageId, String), (Option<i32>, String)>,
    answers: HashMap<(MessageId, AgentName), String>,
}

impl Recording {
    /// Adds what a command, as the journal writes it, gave: its exit code, when it ran to its
    /// end, and what it printed. Of several times the first counts.
    pub fn add_tool(&mut self, message: MessageId, command: &str, code: Option<i32>, text: &str) {
        let key = (message, command.to_owned());
        self.tools.entry(key).or_insert_with(|| (code, text.to_owned()));
    }

    /// Adds what an agent answered in the end.
    pub fn add_answer(&mut self, message: MessageId, agent: &AgentName, answer: &str) {
        self.answers.insert((message, agent.clone()), answer.to_owned());
    }

    /// What the command gave; that it was not recorded counts as not started.
    pub(crate) fn tool(&self, message: MessageId, command: &str) -> (Outcome, String) {
        match self.tools.get(&(message, command.to_owned())) {
            Some((Some(code), text)) => (Outcome::Exited { code: *code }, text.clone()),
            Some((None, text)) => (Outcome::Failed, text.clone()),
            None => (Outcome::Failed, "not in the recording; nothing was run".to_owned()),
        }
    }

    /// What the agent's model answered in the end.
    pub(crate) fn answer(&self, message: MessageId, agent: &AgentName) -> Option<&str> {
        self.answers.get(&(message, agent.clone())).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn only_what_this_message_gave_answers_for_it() {
        let [one, two] = [1, 2].map(|n| MessageId(Uuid::from_u128(n)));
        let agent = AgentName::new("ops").expect("a plain name");
        let mut recording = Recording::default();
        recording.add_tool(one, "uname -s", Some(0), "Linux");
        recording.add_tool(one, "uname -s", Some(1), "later");
        recording.add_answer(one, &agent, "done");
        assert_eq!(recording.tool(one, "uname -s"), (Outcome::Exited { code: 0 }, "Linux".into()));
        assert_eq!(recording.tool(two, "uname -s").0, Outcome::Failed);
        assert_eq!(recording.answer(one, &agent), Some("done"));
        assert_eq!(recording.answer(two, &agent), None);
    }
}
