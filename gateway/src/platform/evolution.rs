//! Evolution API v2: WhatsApp accounts that are linked as a device.
//!
//! It signs no body. What proves a delivery is a secret that it was told to send (as a bearer
//! token, signed for ten minutes or as it is), or, where none is configured, the account's own
//! API key, which it writes into every body. The key is taken out before anything is kept.

mod body;
mod jid;
mod message;
mod proof;
mod redact;

#[cfg(test)]
mod tests;

use aof_shared::config::Instance;
use aof_shared::secret::Secret;

use super::{
    Answer, Claim, Delivery, Facts, Malformed, Platform, Sharing, Signed, Unreadable, Verified,
    setting,
};

/// A 4xx is final at Evolution and costs this event alone. Source: platforms.md, *Evolution v2*.
const FACTS: Facts = Facts {
    name: "evolution",
    secret: "webhook_secret",
    pins: &[],
    event_in_path: true,
    unreadable: Unreadable::Refused,
};

/// Evolution's webhooks.
#[derive(Debug)]
pub(crate) struct Evolution;

impl Platform for Evolution {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn sharing(&self) -> Sharing {
        Sharing::Default
    }

    fn claim(&self, _signed: &Signed<'_>) -> Claim {
        Claim::default()
    }

    /// The secret that it sends; the account's API key where it was told none.
    fn secret<'a>(&self, instance: &'a Instance) -> Option<&'a Secret> {
        instance.signing_secret.as_ref().or(instance.bot_token.as_ref())
    }

    fn verify(
        &self,
        signed: &Signed<'_>,
        secret: &Secret,
        instance: &Instance,
    ) -> Option<Verified> {
        let proven = if instance.signing_secret.is_some() {
            let header = setting(instance, "webhook_header").unwrap_or(proof::HEADER);
            proof::by_header(signed, header, secret)
        } else {
            proof::by_body(signed.body, secret)
        };
        // None of them covers the body or is new each time.
        proven.then(Verified::repeatable)
    }

    fn normalize(&self, signed: &Signed<'_>, instance: &Instance) -> Result<Delivery, Malformed> {
        let items = body::normalize(signed, instance)?;
        Ok(Delivery { items, answer: Answer::Receipt })
    }
}

/// What the account is called there.
pub(crate) fn name_of(instance: &Instance) -> &str {
    setting(instance, "instance_name").unwrap_or(instance.name.as_str())
}
