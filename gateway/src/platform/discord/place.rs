//! Where an answer goes: `Message::thread` as Discord's own terms. Pure.
//!
//! A thread is a channel of its own, and flows are written for the channel that it hangs
//! below. So the message's channel is the parent, and this names the thread, the message to
//! reply to, or both: `thread`, `/message`, `thread/message`.

/// What [`aof_shared::message::Message::thread`] says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    /// The thread to write in; `None`: the channel itself.
    pub(crate) thread: Option<&'a str>,
    /// The message to reply to.
    pub(crate) reply_to: Option<&'a str>,
}

impl<'a> Place<'a> {
    /// Reads what [`Place::write`] wrote.
    pub(crate) fn read(text: Option<&'a str>) -> Self {
        let text = text.unwrap_or_default();
        let (thread, reply_to) = text.split_once('/').unwrap_or((text, ""));
        let filled = |part: &'a str| Some(part).filter(|part| !part.is_empty());
        Self { thread: filled(thread), reply_to: filled(reply_to) }
    }

    /// As text; `None` when it says nothing.
    pub(crate) fn write(&self) -> Option<String> {
        match (self.thread, self.reply_to) {
            (None, None) => None,
            (Some(thread), None) => Some(thread.to_owned()),
            (thread, Some(message)) => Some(format!("{}/{message}", thread.unwrap_or_default())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for (thread, reply_to) in
            [(None, None), (Some("1"), None), (None, Some("2")), (Some("1"), Some("2"))]
        {
            let place = Place { thread, reply_to };
            let text = place.write();
            assert_eq!(Place::read(text.as_deref()), place, "{text:?}");
        }
    }
}
