//! Signed sources: GitHub, PagerDuty, Opsgenie, Alertmanager, and whatever else proves itself
//! by an HMAC or a token. How each is read is a recipe; an account's `source` changes any part.

mod proof;
mod recipe;

#[cfg(test)]
mod tests;

use aof_shared::config::Instance;
use aof_shared::ids::MessageId;
use aof_shared::message::{Channel, Message, MessageKind, User};
use aof_shared::secret::Secret;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use self::proof::Proof;
use self::recipe::{Recipe, Templates};
use super::{
    Answer, Claim, Delivery, Facts, Inbound, Malformed, Platform, Signed, Unreadable, Verified,
};

/// Longest id, channel, user or conversation that is kept as it is; a longer id is hashed.
const MAX_NAME_CHARS: usize = 200;
/// Longest text handed to an agent.
const MAX_TEXT_CHARS: usize = 20_000;
/// Headers that templates do not see: they hold the proof.
const HIDDEN: [&str; 3] = ["authorization", "cookie", "x-api-key"];

/// A platform whose deliveries are events, not messages of people.
#[derive(Debug)]
pub(crate) struct Source {
    facts: &'static Facts,
    recipe: Recipe,
}

/// Every source, by the name that its address has.
pub(crate) static SOURCES: [Source; 5] = [
    Source { facts: &facts("github", "webhook_secret"), recipe: recipe::GITHUB },
    Source { facts: &PAGERDUTY, recipe: recipe::PAGERDUTY },
    Source { facts: &facts("opsgenie", "webhook_secret"), recipe: recipe::OPSGENIE },
    Source { facts: &facts("alertmanager", "bearer_token"), recipe: recipe::ALERTMANAGER },
    Source { facts: &facts("webhook", "secret"), recipe: recipe::WEBHOOK },
];

/// Three answers of 4xx switch a subscription off for a day. Source: platforms.md.
const PAGERDUTY: Facts =
    Facts { unreadable: Unreadable::Ignored, ..facts("pagerduty", "webhook_secret") };

/// Whatever the others get a 400 for they do not send again.
const fn facts(name: &'static str, secret: &'static str) -> Facts {
    Facts { name, secret, pins: &[], event_in_path: false, unreadable: Unreadable::Refused }
}

impl Platform for Source {
    fn facts(&self) -> &'static Facts {
        self.facts
    }

    /// A body does not say which account it is for: each account has its own secret.
    fn claim(&self, _signed: &Signed<'_>) -> Claim {
        Claim::default()
    }

    fn verify(
        &self,
        signed: &Signed<'_>,
        secret: &Secret,
        instance: &Instance,
    ) -> Option<Verified> {
        let proof = Proof::of(instance, &self.recipe)?;
        proof.holds(signed, secret).then(Verified::repeatable)
    }

    fn normalize(&self, signed: &Signed<'_>, instance: &Instance) -> Result<Delivery, Malformed> {
        let body: Value = serde_json::from_slice(signed.body)
            .map_err(|e| Malformed(format!("the body is not JSON: {e}")))?;
        if !body.is_object() {
            return Err(Malformed("the body is not an object".to_owned()));
        }
        let proof = Proof::of(instance, &self.recipe);
        let headers = headers(signed, proof.as_ref());
        let digest = hex::encode(Sha256::digest(signed.body));
        let seen = json!({ "body": body, "headers": headers, "digest": digest });
        let templates = Templates::of(instance, &self.recipe)?;
        // Jinja writes it with a capital.
        if templates.render("skip", &seen)?.eq_ignore_ascii_case("true") {
            return Ok(Delivery::one(Inbound::Ignored("skipped"), Answer::Receipt));
        }
        let inbound = message(&templates, &seen, signed, instance)?;
        Ok(Delivery::one(inbound, Answer::Receipt))
    }
}

/// The headers that a template may read, in lower case.
fn headers(signed: &Signed<'_>, proof: Option<&Proof>) -> Map<String, Value> {
    let shown = |name: &str| !HIDDEN.contains(&name) && proof.is_none_or(|p| p.header != name);
    let named = signed.headers.iter().filter(|(name, _)| shown(name.as_str()));
    let text = named.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?)));
    text.map(|(name, value)| (name, json!(value))).collect()
}

fn message(
    templates: &Templates<'_>,
    seen: &Value,
    signed: &Signed<'_>,
    instance: &Instance,
) -> Result<Inbound, Malformed> {
    let field = |name: &str| templates.render(name, seen).map(|text| cut(&text, MAX_NAME_CHARS));
    let required = |name: &str| match field(name) {
        Ok(text) if text.is_empty() => Err(Malformed(format!("`{name}` comes out empty"))),
        other => other,
    };
    let text = cut(&templates.render("text", seen)?, MAX_TEXT_CHARS);
    if text.is_empty() {
        return Ok(Inbound::Ignored("no text"));
    }
    let event_id = short(templates.render("id", seen)?);
    if event_id.is_empty() {
        return Err(Malformed("`id` comes out empty".to_owned()));
    }
    let (channel, user) = (required("channel")?, required("user")?);
    let conversation = required("conversation")?;
    Ok(Inbound::Message(Box::new(Message {
        id: MessageId::derive(&instance.tenant, &instance.platform, &instance.name, &event_id),
        tenant: instance.tenant.clone(),
        instance: instance.name.clone(),
        platform: instance.platform.clone(),
        kind: MessageKind::Alert,
        channel: Channel { id: channel, name: None, direct: false },
        thread: None,
        reply_to: None,
        user: User::new(user),
        text,
        media: Vec::new(),
        event_id,
        conversation,
        sent_at_ms: signed.now_ms,
        received_at_ms: signed.now_ms,
        raw: String::from_utf8_lossy(signed.body).into_owned(),
    })))
}

fn cut(text: &str, max_chars: usize) -> String {
    text.chars().take(max_chars).collect()
}

/// An id that is too long to be shown stands as its digest: it stays one id.
fn short(id: String) -> String {
    if id.chars().count() <= MAX_NAME_CHARS { id } else { hex::encode(Sha256::digest(id)) }
}
