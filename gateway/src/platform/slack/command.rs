//! Forms: slash commands, and the envelope of interactions.

use std::borrow::Cow;

use aof_shared::clock::UnixMs;
use aof_shared::config::Instance;
use aof_shared::ids::MessageId;
use aof_shared::message::{Channel, Message, MessageKind, User};

use super::text::{BotMention, is_credential, plain};
use super::{claimed, interaction};
use crate::platform::{Claim, Inbound, Malformed, setting};

/// Fields that a form of Slack's may have; more is not Slack's.
const MAX_FIELDS: usize = 64;

/// A form's fields, decoded.
struct Form(Vec<(String, String)>);

impl Form {
    fn parse(body: &str) -> Result<Self, Malformed> {
        let fields: Vec<(String, String)> = serde_urlencoded::from_str(body)
            .map_err(|e| Malformed(format!("the body is not a form: {e}")))?;
        if fields.len() > MAX_FIELDS {
            return Err(Malformed(format!("the form has more than {MAX_FIELDS} fields")));
        }
        Ok(Self(fields))
    }

    /// The first field of this name, unless it is empty.
    fn get(&self, name: &str) -> Option<&str> {
        let field = self.0.iter().find(|(key, _)| key == name);
        field.map(|(_, value)| value.as_str()).filter(|v| !v.is_empty())
    }

    fn required(&self, name: &str) -> Result<&str, Malformed> {
        self.get(name).ok_or_else(|| Malformed(format!("`{name}` is missing")))
    }

    /// The form again, credentials replaced by `***`.
    fn redacted(&self) -> String {
        let kept = |(key, value): &(String, String)| {
            let value =
                if is_credential(key) { Cow::Borrowed("***") } else { value.clone().into() };
            (key.clone(), value)
        };
        let fields: Vec<_> = self.0.iter().map(kept).collect();
        serde_urlencoded::to_string(fields).expect("pairs of text are a form")
    }
}

/// Where the form says it is from.
pub(super) fn claim(body: &[u8]) -> Claim {
    let Some(form) = std::str::from_utf8(body).ok().and_then(|b| Form::parse(b).ok()) else {
        return Claim::default();
    };
    if let Some(payload) = form.get("payload") {
        return interaction::claim(payload);
    }
    claimed([form.get("team_id"), form.get("enterprise_id"), form.get("api_app_id")])
}

/// Says what a form is.
pub(super) fn normalize(
    body: &str,
    instance: &Instance,
    now_ms: UnixMs,
) -> Result<Inbound, Malformed> {
    let form = Form::parse(body)?;
    if let Some(payload) = form.get("payload") {
        return interaction::normalize(payload, instance, now_ms);
    }
    if form.get("ssl_check").is_some() {
        return Ok(Inbound::Ignored("certificate check"));
    }
    slash(&form, instance, now_ms)
}

/// A slash command. Its channel name is never matched on: private channels all say
/// `privategroup`. Source: platforms.md, *Channel names*.
fn slash(form: &Form, instance: &Instance, now_ms: UnixMs) -> Result<Inbound, Malformed> {
    let command = form.required("command")?;
    let user = form.required("user_id")?;
    let channel = form.required("channel_id")?;
    let event_id = form.required("trigger_id")?.to_owned();
    let markup = form.get("text").unwrap_or_else(|| command.trim_start_matches('/'));
    let bot = setting(instance, "bot_user_id").unwrap_or_default();
    let message = Message {
        id: MessageId::derive(&instance.tenant, &instance.platform, &instance.name, &event_id),
        tenant: instance.tenant.clone(),
        instance: instance.name.clone(),
        platform: instance.platform.clone(),
        kind: MessageKind::Command,
        channel: Channel { id: channel.to_owned(), name: None, direct: channel.starts_with('D') },
        thread: None,
        reply_to: None,
        user: User::new(user).named(form.get("user_name").map(str::to_owned)),
        text: plain(markup, BotMention::Of(bot)),
        media: Vec::new(),
        // A command stands alone: those of one person in one channel keep their order.
        conversation: format!("{channel}:{user}"),
        event_id,
        sent_at_ms: now_ms,
        received_at_ms: now_ms,
        raw: form.redacted(),
    };
    Ok(Inbound::Message(Box::new(message)))
}
