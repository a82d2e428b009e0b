//! Where in a chat an answer goes: into a topic, as a reply to a message, or both.

use std::fmt;
use std::str::FromStr;

/// A place in a chat, written `<topic>/<message>` with either left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// `message_thread_id` of a forum's topic.
    pub(crate) topic: Option<i64>,
    /// The message to reply to.
    pub(crate) message: Option<i64>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(topic) = self.topic {
            write!(f, "{topic}")?;
        }
        f.write_str("/")?;
        if let Some(message) = self.message {
            write!(f, "{message}")?;
        }
        Ok(())
    }
}

/// What is written there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoPlace;

impl FromStr for Place {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let (topic, message) = text.split_once('/').ok_or(NoPlace)?;
        let id = |text: &str| match text {
            "" => Ok(None),
            digits => digits.parse().map(Some).map_err(|_| NoPlace),
        };
        Ok(Self { topic: id(topic)?, message: id(message)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written() {
        let check = |topic, message, written: &str| {
            let place = Place { topic, message };
            assert_eq!(place.to_string(), written);
            assert_eq!(written.parse(), Ok(place));
        };
        check(None, None, "/");
        check(Some(7), None, "7/");
        check(None, Some(42), "/42");
        check(Some(7), Some(42), "7/42");
        for odd in ["", "7", "x/1", "1/x", "1/2/3"] {
            assert_eq!(odd.parse::<Place>(), Err(NoPlace), "{odd}");
        }
    }
}
