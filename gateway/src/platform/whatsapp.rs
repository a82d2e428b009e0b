//! WhatsApp Cloud: messages, buttons and reactions of business numbers, as Meta sends them.
//!
//! One Meta app has one secret and any number of numbers, and one body may carry several
//! numbers' messages. So the secret verifies the request, and each message goes to the
//! instance whose `phone_number_id` it came in through.

mod body;
mod message;
mod verify;

#[cfg(test)]
mod tests;

use aof_shared::config::Instance;
use aof_shared::secret::Secret;

use super::{
    Answer, Claim, Delivery, Facts, Handshake, Malformed, Platform, Sharing, Signed, Unreadable,
    Verified, setting,
};

/// The setting that says which number an instance is.
pub(crate) const NUMBER: &str = "phone_number_id";

/// Meta resends what is not a 2xx for days, and less and less often: an unreadable body would
/// hold up its successors. Source: platforms.md, *WhatsApp Cloud*.
const FACTS: Facts = Facts {
    name: "whatsapp",
    secret: "app_secret",
    pins: &[NUMBER],
    event_in_path: false,
    unreadable: Unreadable::Ignored,
};

/// WhatsApp's webhooks.
#[derive(Debug)]
pub(crate) struct WhatsApp;

impl Platform for WhatsApp {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn sharing(&self) -> Sharing {
        Sharing::Each
    }

    fn claim(&self, signed: &Signed<'_>) -> Claim {
        let numbers = body::numbers(signed.body).into_iter();
        Claim(numbers.map(|number| (NUMBER, number)).collect())
    }

    fn verify(
        &self,
        signed: &Signed<'_>,
        secret: &Secret,
        _instance: &Instance,
    ) -> Option<Verified> {
        verify::verify(signed, secret).then(Verified::repeatable)
    }

    fn normalize(&self, signed: &Signed<'_>, instance: &Instance) -> Result<Delivery, Malformed> {
        let items = body::normalize(signed.body, instance, signed.now_ms)?;
        Ok(Delivery { items, answer: Answer::Receipt })
    }

    fn handshake(&self, query: &[(String, String)], instance: &Instance) -> Handshake {
        let parameter = |name: &str| {
            let found = query.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
        };
        let (Some(challenge), Some("subscribe"), Some(given), Some(token)) = (
            parameter("hub.challenge"),
            parameter("hub.mode"),
            parameter("hub.verify_token"),
            setting(instance, "verify_token"),
        ) else {
            return Handshake::Refused;
        };
        if verify::is_same(given, token) {
            Handshake::Accepted(challenge.to_owned())
        } else {
            Handshake::Refused
        }
    }
}
