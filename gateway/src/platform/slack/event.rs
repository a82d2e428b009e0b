//! The Events API: messages, mentions, reactions; everything else is ignored with a reason.

use aof_shared::action::{Choice, Identity, Vote, VoteTarget};
use aof_shared::clock::UnixMs;
use aof_shared::config::Instance;
use aof_shared::ids::MessageId;
use aof_shared::message::{Address, Channel, Media, Message, MessageKind, User};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::text::{BotMention, mentions, plain, redact};
use super::{Text, choice_of, claimed, filled, ts_ms};
use crate::platform::{Answer, Claim, Delivery, Inbound, Malformed, setting};

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow, default)]
    challenge: Option<Text<'a>>,
    #[serde(borrow, default)]
    event_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    event: Option<&'a RawValue>,
    #[serde(borrow, default)]
    authorizations: Option<Vec<Authorization<'a>>>,
}

#[derive(Deserialize)]
struct Authorization<'a> {
    #[serde(borrow, default)]
    user_id: Option<Text<'a>>,
    #[serde(default)]
    is_bot: Option<bool>,
    #[serde(borrow, default)]
    team_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    enterprise_id: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
}

#[derive(Deserialize)]
struct MessageEvent<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow, default)]
    subtype: Option<Text<'a>>,
    #[serde(default)]
    hidden: Option<bool>,
    #[serde(borrow, default)]
    bot_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    user: Option<Text<'a>>,
    #[serde(borrow, default)]
    text: Option<Text<'a>>,
    #[serde(borrow, default)]
    ts: Option<Text<'a>>,
    #[serde(borrow, default)]
    thread_ts: Option<Text<'a>>,
    #[serde(borrow, default)]
    channel: Option<Text<'a>>,
    #[serde(borrow, default)]
    channel_type: Option<Text<'a>>,
    #[serde(borrow, default)]
    files: Option<Vec<File<'a>>>,
}

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow, default)]
    mimetype: Option<Text<'a>>,
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    url_private: Option<Text<'a>>,
    #[serde(default)]
    size: Option<u64>,
}

#[derive(Deserialize)]
struct Reaction<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow, default)]
    user: Option<Text<'a>>,
    #[serde(borrow, default)]
    reaction: Option<Text<'a>>,
    #[serde(borrow, default)]
    item: Option<Item<'a>>,
    #[serde(borrow, default)]
    event_ts: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow, default)]
    channel: Option<Text<'a>>,
    #[serde(borrow, default)]
    ts: Option<Text<'a>>,
}

/// Where the event says it is from. The installed workspace counts, not the writer's,
/// which differs in shared channels. Source: platforms.md, *Slack*.
pub(super) fn claim(body: &[u8]) -> Claim {
    #[derive(Deserialize)]
    struct Origin<'a> {
        #[serde(borrow, default)]
        api_app_id: Option<Text<'a>>,
        #[serde(borrow, default)]
        team_id: Option<Text<'a>>,
        #[serde(borrow, default)]
        enterprise_id: Option<Text<'a>>,
        #[serde(borrow, default)]
        authorizations: Option<Vec<Authorization<'a>>>,
    }
    let Ok(origin) = serde_json::from_slice::<Origin<'_>>(body) else { return Claim::default() };
    let installed = origin.authorizations.as_ref().and_then(|a| a.first());
    let (team, enterprise) = match installed {
        Some(installed) => (installed.team_id.as_ref(), installed.enterprise_id.as_ref()),
        None => (origin.team_id.as_ref(), origin.enterprise_id.as_ref()),
    };
    claimed([filled(team), filled(enterprise), filled(origin.api_app_id.as_ref())])
}

/// Says what an event is.
pub(super) fn normalize(
    body: &str,
    instance: &Instance,
    now_ms: UnixMs,
) -> Result<Delivery, Malformed> {
    let envelope: Envelope<'_> = serde_json::from_str(body).map_err(|e| unreadable("body", &e))?;
    let inbound = match envelope.kind.as_str() {
        "url_verification" => {
            let challenge = required(envelope.challenge.as_ref(), "challenge")?;
            return Ok(Delivery::answered(json!({ "challenge": challenge })));
        }
        "event_callback" => {
            let raw = envelope.event.ok_or_else(|| Malformed("`event` is missing".to_owned()))?;
            let kind: Kind<'_> =
                serde_json::from_str(raw.get()).map_err(|e| unreadable("event", &e))?;
            let source = Source { body, envelope: &envelope, instance, now_ms };
            match kind.kind.as_str() {
                "message" | "app_mention" => source.message(raw)?,
                "reaction_added" | "reaction_removed" => source.reaction(raw)?,
                kind if CHANNEL_CHANGES.contains(&kind) => channel_changed(raw),
                other => Inbound::Ignored(noise(other, instance)),
            }
        }
        "app_rate_limited" => {
            tracing::warn!(instance.name = %instance.name, "slack drops events: rate limited");
            Inbound::Ignored("rate limited")
        }
        _ => Inbound::Ignored("unknown type"),
    };
    Ok(Delivery::one(inbound, Answer::Receipt))
}

fn unreadable(what: &str, error: &serde_json::Error) -> Malformed {
    Malformed(format!("the {what} is not a Slack event: {error}"))
}

/// After these a channel's name may be another. Source: platforms.md, *Channel names*.
const CHANNEL_CHANGES: [&str; 7] = [
    "channel_rename",
    "channel_archive",
    "channel_unarchive",
    "channel_deleted",
    "group_rename",
    "group_archive",
    "group_unarchive",
];

/// `channel` is an id, or an object that has one.
fn channel_changed(raw: &RawValue) -> Inbound {
    #[derive(Deserialize)]
    struct Changed {
        channel: serde_json::Value,
    }
    let changed = serde_json::from_str::<Changed>(raw.get()).ok();
    let id = changed.as_ref().and_then(|c| c.channel.as_str().or_else(|| c.channel["id"].as_str()));
    match id.filter(|id| !id.is_empty()) {
        Some(id) => Inbound::ChannelChanged { channel: id.to_owned() },
        None => Inbound::Ignored("no channel"),
    }
}

fn noise(kind: &str, instance: &Instance) -> &'static str {
    match kind {
        "tokens_revoked" | "app_uninstalled" => {
            tracing::warn!(instance.name = %instance.name, kind, "slack took the app's access away");
            "access revoked"
        }
        "member_joined_channel" | "member_left_channel" => "membership",
        _ => "event type",
    }
}

/// What every kind of event is read against.
struct Source<'a> {
    body: &'a str,
    envelope: &'a Envelope<'a>,
    instance: &'a Instance,
    now_ms: UnixMs,
}

impl Source<'_> {
    /// The bot's own user id: as the installation says, else as the instance is set.
    fn bot_user(&self) -> Option<&str> {
        let installed = self.envelope.authorizations.as_ref().and_then(|a| a.first());
        installed
            .filter(|a| a.is_bot == Some(true))
            .and_then(|a| filled(a.user_id.as_ref()))
            .or_else(|| setting(self.instance, "bot_user_id"))
    }

    fn message(&self, raw: &RawValue) -> Result<Inbound, Malformed> {
        let event: MessageEvent<'_> =
            serde_json::from_str(raw.get()).map_err(|e| unreadable("message", &e))?;
        if let Some(reason) = self.not_for_us(&event) {
            return Ok(Inbound::Ignored(reason));
        }
        let Some(user) = filled(event.user.as_ref()) else {
            return Ok(Inbound::Ignored("no user"));
        };
        let channel = required(event.channel.as_ref(), "event.channel")?;
        let ts = required(event.ts.as_ref(), "event.ts")?;
        let sent_at_ms = ts_ms(ts).ok_or_else(|| Malformed("`event.ts` is no time".to_owned()))?;
        let markup = event.text.as_ref().map_or("", Text::as_str);
        let direct = filled(event.channel_type.as_ref()) == Some("im") || channel.starts_with('D');
        let bot = self.bot_user();
        let mentioned = event.kind.as_str() == "app_mention"
            || direct
            || bot.is_some_and(|bot| mentions(markup, bot));
        let text = match bot {
            Some(bot) => plain(markup, BotMention::Of(bot)),
            None if event.kind.as_str() == "app_mention" => plain(markup, BotMention::Leading),
            None => plain(markup, BotMention::Of("")),
        };
        if text.is_empty() && (!mentioned || event.files.is_some()) {
            return Ok(Inbound::Ignored("no text"));
        }
        let instance = self.instance;
        let thread = filled(event.thread_ts.as_ref()).unwrap_or(ts);
        let event_id = format!("{channel}:{ts}");
        let message = Message {
            id: MessageId::derive(&instance.tenant, &instance.platform, &instance.name, &event_id),
            tenant: instance.tenant.clone(),
            instance: instance.name.clone(),
            platform: instance.platform.clone(),
            kind: if mentioned { MessageKind::Mention } else { MessageKind::Message },
            channel: Channel { id: channel.to_owned(), name: None, direct },
            thread: Some(thread.to_owned()),
            reply_to: filled(event.thread_ts.as_ref()).filter(|t| *t != ts).map(str::to_owned),
            user: User::new(user),
            text,
            media: media(event.files.as_deref().unwrap_or_default()),
            conversation: format!("{channel}:{thread}"),
            event_id,
            sent_at_ms,
            received_at_ms: self.now_ms,
            raw: redact(self.body),
        };
        if message.text.is_empty() {
            return Ok(Inbound::Empty(Box::new(message)));
        }
        Ok(Inbound::Message(Box::new(message)))
    }

    /// Echoes, other bots, history and housekeeping never start an agent. Source: A8.
    fn not_for_us(&self, event: &MessageEvent<'_>) -> Option<&'static str> {
        let user = filled(event.user.as_ref());
        if user.is_some() && user == self.bot_user() {
            return Some("own message");
        }
        if let Some(bot) = filled(event.bot_id.as_ref()) {
            let own = setting(self.instance, "bot_id") == Some(bot);
            return Some(if own { "own message" } else { "another bot" });
        }
        if event.hidden == Some(true) {
            return Some("hidden");
        }
        match filled(event.subtype.as_ref()) {
            None | Some("file_share" | "thread_broadcast" | "me_message") => None,
            Some("bot_message") => Some("another bot"),
            Some("message_changed" | "message_deleted") => Some("edit"),
            Some(_) => Some("subtype"),
        }
    }

    fn reaction(&self, raw: &RawValue) -> Result<Inbound, Malformed> {
        let event: Reaction<'_> =
            serde_json::from_str(raw.get()).map_err(|e| unreadable("reaction", &e))?;
        let ignored = |reason| Ok(Inbound::Ignored(reason));
        let Some(choice) = event.reaction.as_ref().and_then(|r| choice_of(r.as_str())) else {
            return ignored("other emoji");
        };
        let Some(user) = filled(event.user.as_ref()) else { return ignored("no user") };
        if Some(user) == self.bot_user() {
            return ignored("own reaction");
        }
        let Some(item) = &event.item else { return ignored("not on a message") };
        if filled(item.kind.as_ref()).is_some_and(|kind| kind != "message") {
            return ignored("not on a message");
        }
        let channel = required(item.channel.as_ref(), "event.item.channel")?;
        let posted = required(item.ts.as_ref(), "event.item.ts")?;
        let event_id = required(self.envelope.event_id.as_ref(), "event_id")?;
        let removed = event.kind.as_str() == "reaction_removed";
        let instance = self.instance;
        let at = Address {
            tenant: instance.tenant.clone(),
            platform: instance.platform.clone(),
            instance: instance.name.clone(),
            channel: channel.to_owned(),
            thread: None,
        };
        let vote = Vote {
            target: VoteTarget::Posted { at, message: posted.to_owned() },
            voter: Identity::new(instance.platform.clone(), user),
            choice: if removed { Choice::Withdraw } else { choice },
            reason: None,
            cast_at_ms: filled(event.event_ts.as_ref()).and_then(ts_ms).unwrap_or(self.now_ms),
        };
        let event_id = event_id.to_owned();
        Ok(Inbound::Vote { event_id, vote: Box::new(vote) })
    }
}

fn required<'a>(text: Option<&'a Text<'_>>, name: &str) -> Result<&'a str, Malformed> {
    filled(text).ok_or_else(|| Malformed(format!("`{name}` is missing")))
}

fn media(files: &[File<'_>]) -> Vec<Media> {
    let owned = |text: Option<&Text<'_>>| filled(text).map(str::to_owned);
    let of = |file: &File<'_>| {
        Some(Media {
            mime: owned(file.mimetype.as_ref())
                .unwrap_or_else(|| "application/octet-stream".to_owned()),
            name: owned(file.name.as_ref()),
            url: owned(file.url_private.as_ref())?,
            size_bytes: file.size,
        })
    };
    files.iter().filter_map(of).collect()
}
