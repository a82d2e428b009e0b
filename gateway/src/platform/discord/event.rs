//! Dispatches of the Gateway connection: messages, reactions; everything else is ignored
//! with a reason. Source: Discord, "Gateway Events".

use aof_shared::action::{Choice, Identity, Vote, VoteTarget};
use aof_shared::clock::UnixMs;
use aof_shared::config::Instance;
use aof_shared::ids::MessageId;
use aof_shared::message::{Address, Channel, Media, Message, MessageKind, User};
use serde::Deserialize;

use super::place::Place;
use super::text::plain;
use super::{choice_of, guilds, is_snowflake, made_at_ms, required};
use crate::platform::{Inbound, Malformed};

/// What somebody wrote, and what somebody wrote as a reply; the others are housekeeping.
/// Source: Discord, "Message Types".
const WRITTEN: [u64; 2] = [0, 19];

/// What a dispatch is read against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    /// The account that the connection is of.
    pub(crate) instance: &'a Instance,
    /// The bot's own user id.
    pub(crate) bot: &'a str,
    /// The channel that the dispatch's thread hangs below, where it happened in a thread.
    pub(crate) parent: Option<&'a str>,
    /// Names this dispatch among all: a replay has the same, a second reaction another.
    pub(crate) delivery: &'a str,
    /// Now.
    pub(crate) now_ms: UnixMs,
}

#[derive(Deserialize)]
struct Written {
    #[serde(rename = "type", default)]
    kind: u64,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    channel_id: Option<String>,
    #[serde(default)]
    guild_id: Option<String>,
    #[serde(default)]
    author: Option<Person>,
    #[serde(default)]
    webhook_id: Option<String>,
    #[serde(default)]
    content: String,
    #[serde(default)]
    mentions: Vec<Person>,
    #[serde(default)]
    attachments: Vec<Attachment>,
    #[serde(default)]
    message_reference: Option<Reference>,
    #[serde(default)]
    referenced_message: Option<Referenced>,
}

#[derive(Deserialize)]
struct Person {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    bot: bool,
}

#[derive(Deserialize)]
struct Attachment {
    #[serde(default)]
    filename: Option<String>,
    #[serde(default)]
    content_type: Option<String>,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    size: Option<u64>,
}

#[derive(Deserialize)]
struct Reference {
    #[serde(default)]
    message_id: Option<String>,
}

#[derive(Deserialize)]
struct Referenced {
    #[serde(default)]
    author: Option<Person>,
}

#[derive(Deserialize)]
struct Reaction {
    #[serde(default)]
    user_id: Option<String>,
    #[serde(default)]
    channel_id: Option<String>,
    #[serde(default)]
    message_id: Option<String>,
    #[serde(default)]
    guild_id: Option<String>,
    #[serde(default)]
    member: Option<Member>,
    #[serde(default)]
    emoji: Option<Emoji>,
}

#[derive(Deserialize)]
struct Member {
    #[serde(default)]
    user: Option<Person>,
}

#[derive(Deserialize)]
struct Emoji {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    name: Option<String>,
}

/// Says what the dispatch `kind` with `data` is.
///
/// # Errors
/// [`Malformed`] when it is not what Discord sends.
pub(crate) fn normalize(kind: &str, data: &str, source: &Source<'_>) -> Result<Inbound, Malformed> {
    match kind {
        "MESSAGE_CREATE" => source.message(data),
        "MESSAGE_REACTION_ADD" => source.reaction(data, false),
        "MESSAGE_REACTION_REMOVE" => source.reaction(data, true),
        "CHANNEL_UPDATE" | "CHANNEL_CREATE" | "CHANNEL_DELETE" => Ok(changed(data)),
        "MESSAGE_UPDATE" | "MESSAGE_DELETE" | "MESSAGE_DELETE_BULK" => Ok(Inbound::Ignored("edit")),
        // Whoever may manage messages did it: it takes nobody's vote back.
        "MESSAGE_REACTION_REMOVE_ALL" | "MESSAGE_REACTION_REMOVE_EMOJI" => {
            Ok(Inbound::Ignored("reactions cleared"))
        }
        "TYPING_START" => Ok(Inbound::Ignored("typing")),
        _ => Ok(Inbound::Ignored("event type")),
    }
}

fn unreadable(what: &str, error: &serde_json::Error) -> Malformed {
    Malformed(format!("the {what} is not Discord's: {error}"))
}

/// A channel whose name may be another now.
fn changed(data: &str) -> Inbound {
    #[derive(Deserialize)]
    struct Changed {
        id: String,
    }
    match serde_json::from_str::<Changed>(data) {
        Ok(Changed { id }) if is_snowflake(&id) => Inbound::ChannelChanged { channel: id },
        _ => Inbound::Ignored("no channel"),
    }
}

impl Source<'_> {
    fn message(&self, data: &str) -> Result<Inbound, Malformed> {
        let written: Written = serde_json::from_str(data).map_err(|e| unreadable("message", &e))?;
        if let Some(reason) = self.not_for_us(&written) {
            return Ok(Inbound::Ignored(reason));
        }
        let author = written.author.as_ref();
        let user = required(author.and_then(|a| a.id.as_ref()), "author.id")?;
        let id = required(written.id.as_ref(), "id")?;
        let at = required(written.channel_id.as_ref(), "channel_id")?;
        let direct = written.guild_id.is_none();
        let mentioned = direct || self.is_called(&written);
        let text = plain(&written.content, self.bot);
        let replied = written.message_reference.as_ref().and_then(|r| r.message_id.clone());
        let thread = self.parent.map(|_| at);
        // In a direct conversation there is nothing to tell apart.
        let reply_to = Some(id).filter(|_| !direct);
        let instance = self.instance;
        let message = Message {
            id: MessageId::derive(&instance.tenant, &instance.platform, &instance.name, id),
            tenant: instance.tenant.clone(),
            instance: instance.name.clone(),
            platform: instance.platform.clone(),
            kind: if mentioned { MessageKind::Mention } else { MessageKind::Message },
            channel: Channel { id: self.parent.unwrap_or(at).to_owned(), name: None, direct },
            thread: Place { thread, reply_to }.write(),
            reply_to: replied,
            user: User::new(user).named(author.and_then(|a| a.username.clone())),
            media: media(&written.attachments),
            conversation: at.to_owned(),
            event_id: id.to_owned(),
            sent_at_ms: made_at_ms(id).unwrap_or(self.now_ms),
            received_at_ms: self.now_ms,
            raw: data.to_owned(),
            text,
        };
        if !message.text.is_empty() {
            return Ok(Inbound::Message(Box::new(message)));
        }
        // Without the privileged intent other people's messages come without their text.
        if !mentioned || !written.attachments.is_empty() {
            return Ok(Inbound::Ignored("no text"));
        }
        Ok(Inbound::Empty(Box::new(message)))
    }

    /// Mentioned, or replied to.
    fn is_called(&self, written: &Written) -> bool {
        let is_bot = |person: &Person| person.id.as_deref() == Some(self.bot);
        let replied = written.referenced_message.as_ref().and_then(|r| r.author.as_ref());
        written.mentions.iter().any(is_bot) || replied.is_some_and(is_bot)
    }

    /// Echoes, other bots, other servers and housekeeping never start an agent. Source: A8.
    fn not_for_us(&self, written: &Written) -> Option<&'static str> {
        let author = written.author.as_ref();
        if author.and_then(|a| a.id.as_deref()) == Some(self.bot) {
            return Some("own message");
        }
        if written.webhook_id.is_some() || author.is_some_and(|a| a.bot) {
            return Some("another bot");
        }
        if !WRITTEN.contains(&written.kind) {
            return Some("kind of message");
        }
        let admitted = guilds::admits(self.instance, written.guild_id.as_deref());
        (!admitted).then_some("another server")
    }

    fn reaction(&self, data: &str, removed: bool) -> Result<Inbound, Malformed> {
        let reaction: Reaction =
            serde_json::from_str(data).map_err(|e| unreadable("reaction", &e))?;
        let emoji = reaction.emoji.as_ref().filter(|emoji| emoji.id.is_none());
        let Some(choice) = emoji.and_then(|e| choice_of(e.name.as_deref()?)) else {
            return Ok(Inbound::Ignored("other emoji"));
        };
        let user = required(reaction.user_id.as_ref(), "user_id")?;
        if user == self.bot {
            return Ok(Inbound::Ignored("own reaction"));
        }
        if reaction.member.and_then(|m| m.user).is_some_and(|user| user.bot) {
            return Ok(Inbound::Ignored("another bot"));
        }
        if !guilds::admits(self.instance, reaction.guild_id.as_deref()) {
            return Ok(Inbound::Ignored("another server"));
        }
        let channel = required(reaction.channel_id.as_ref(), "channel_id")?;
        let posted = required(reaction.message_id.as_ref(), "message_id")?;
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
            cast_at_ms: self.now_ms,
        };
        let event_id = self.delivery.to_owned();
        Ok(Inbound::Vote { event_id, vote: Box::new(vote) })
    }
}

fn media(attachments: &[Attachment]) -> Vec<Media> {
    let of = |file: &Attachment| {
        let mime = file.content_type.clone();
        Some(Media {
            mime: mime.unwrap_or_else(|| "application/octet-stream".to_owned()),
            name: file.filename.clone(),
            url: file.url.clone()?,
            size_bytes: file.size,
        })
    };
    attachments.iter().filter_map(of).collect()
}
