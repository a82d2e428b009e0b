//! One message: text, a file, a button, a reaction.

use aof_shared::action::{Choice, Identity, Vote, VoteTarget};
use aof_shared::clock::UnixMs;
use aof_shared::config::Instance;
use aof_shared::ids::MessageId;
use aof_shared::message::{Address, Channel, Media, Message, MessageKind, User};
use serde_json::Value;

use super::jid::{self, Kind};
use crate::platform::{Inbound, buttons, emoji, setting};

/// Wrappers that a message may come in; looked through this deep.
const MAX_WRAPPERS: usize = 4;
/// A time above this is in milliseconds: in seconds it is the year 5138.
const MAX_SECS: u64 = 100_000_000_000;

/// What every message of one body is read against.
pub(super) struct Source<'a> {
    pub(super) instance: &'a Instance,
    pub(super) now_ms: UnixMs,
    /// The account's own address.
    pub(super) own: Option<String>,
}

/// Says what `said` is; `None` when it is no message. `raw` gives what is kept of the body.
pub(super) fn normalize(
    source: &Source<'_>,
    said: &Value,
    raw: impl FnOnce() -> String,
) -> Option<Inbound> {
    let key = &said["key"];
    let id = filled(&key["id"])?;
    let chat = Chat::of(key)?;
    if key["fromMe"] == true {
        return Some(Inbound::Ignored("own message"));
    }
    if let Some(reason) = chat.not_for_us() {
        return Some(Inbound::Ignored(reason));
    }
    let user = jid::user(&chat.people)?.named(filled(&said["pushName"]).map(str::to_owned));
    let known = Known {
        source,
        said,
        message: unwrapped(&said["message"]),
        id,
        chat,
        user,
        sent_at_ms: time_ms(&said["messageTimestamp"]).unwrap_or(source.now_ms),
    };
    let reaction = &known.message["reactionMessage"];
    if reaction.is_object() {
        return Some(known.reaction(reaction));
    }
    if let Some((id, _)) = pressed(known.message)
        && let Some((action, choice)) = buttons::vote_of(id)
    {
        return Some(known.vote(VoteTarget::Action { id: action }, choice));
    }
    Some(match text_of(known.message) {
        Ok(text) => known.into_message(text, raw),
        Err(reason) => Inbound::Ignored(reason),
    })
}

/// Where it was said, and by whom.
struct Chat {
    /// The chat's address that is kept.
    id: String,
    /// Every address of whoever wrote.
    people: Vec<String>,
    kind: Kind,
}

impl Chat {
    /// A chat's and a person's address may be an opaque one with the phone's beside it, under
    /// a name that changed over the versions.
    fn of(key: &Value) -> Option<Self> {
        let all = |names: &[&str]| -> Vec<String> {
            names.iter().filter_map(|name| filled(&key[*name])).map(jid::plain).collect()
        };
        let chats = all(&["remoteJid", "remoteJidAlt", "senderPn", "previousRemoteJid"]);
        let kind = jid::kind_of(chats.first()?);
        if kind == Kind::Group {
            let people = all(&["participant", "participantAlt", "participantPn", "participantLid"]);
            return Some(Self { id: chats.into_iter().next()?, people, kind });
        }
        let mut people = chats;
        people.extend(all(&["senderLid"]));
        people.retain(|jid| jid::kind_of(jid) == kind);
        let id = jid::chosen(&people)?.to_owned();
        Some(Self { id, people, kind })
    }

    /// Source: A8.
    fn not_for_us(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Other if self.id.ends_with("@newsletter") => Some("newsletter"),
            Kind::Other => Some("status broadcast"),
            Kind::Group if self.people.is_empty() => Some("no user"),
            Kind::Group | Kind::Person => None,
        }
    }
}

/// A message with what was found out about it.
struct Known<'a> {
    source: &'a Source<'a>,
    said: &'a Value,
    message: &'a Value,
    id: &'a str,
    chat: Chat,
    user: User,
    sent_at_ms: UnixMs,
}

impl Known<'_> {
    /// Whether it turns to the account: directly, by name, or by answering what it wrote.
    fn is_mention(&self, context: &Value) -> bool {
        let lid = setting(self.source.instance, "bot_lid");
        let own = [self.source.own.as_deref(), lid];
        let is_own =
            |jid: &Value| jid.as_str().is_some_and(|jid| own.contains(&Some(&jid::plain(jid))));
        let named = context["mentionedJid"].as_array();
        self.chat.kind == Kind::Person
            || is_own(&context["participant"])
            || named.is_some_and(|named| named.iter().any(is_own))
    }

    fn into_message(self, text: String, raw: impl FnOnce() -> String) -> Inbound {
        let instance = self.source.instance;
        let context = context_of(self.said, self.message);
        let mentioned = self.is_mention(context);
        let event_id = self.id.to_owned();
        let message = Message {
            id: MessageId::derive(&instance.tenant, &instance.platform, &instance.name, &event_id),
            tenant: instance.tenant.clone(),
            instance: instance.name.clone(),
            platform: instance.platform.clone(),
            kind: if mentioned { MessageKind::Mention } else { MessageKind::Message },
            thread: Some(event_id.clone()),
            reply_to: filled(&context["stanzaId"]).map(str::to_owned),
            text: without_own_name(text.trim(), self.source.own.as_deref()),
            media: media(self.message).into_iter().collect(),
            event_id,
            conversation: self.chat.id.clone(),
            channel: Channel {
                id: self.chat.id,
                name: None,
                direct: self.chat.kind == Kind::Person,
            },
            user: self.user,
            sent_at_ms: self.sent_at_ms,
            received_at_ms: self.source.now_ms,
            raw: raw(),
        };
        match (message.text.is_empty(), mentioned) {
            (false, _) => Inbound::Message(Box::new(message)),
            (true, true) => Inbound::Empty(Box::new(message)),
            (true, false) => Inbound::Ignored("no text"),
        }
    }

    /// A person has one reaction to a message: taking it away and choosing one that is no
    /// vote both take a vote back.
    fn reaction(self, reaction: &Value) -> Inbound {
        let Some(message) = filled(&reaction["key"]["id"]) else {
            return Inbound::Ignored("not on a message");
        };
        let given = reaction["text"].as_str().unwrap_or_default();
        let choice = emoji::choice_of(given).unwrap_or(Choice::Withdraw);
        let instance = self.source.instance;
        let at = Address {
            tenant: instance.tenant.clone(),
            platform: instance.platform.clone(),
            instance: instance.name.clone(),
            channel: self.chat.id.clone(),
            thread: None,
        };
        let target = VoteTarget::Posted { at, message: message.to_owned() };
        self.vote(target, choice)
    }

    fn vote(self, target: VoteTarget, choice: Choice) -> Inbound {
        let vote = Vote {
            target,
            voter: Identity::of(self.source.instance.platform.clone(), &self.user),
            choice,
            reason: None,
            cast_at_ms: self.sent_at_ms,
        };
        Inbound::Vote { event_id: self.id.to_owned(), vote: Box::new(vote) }
    }
}

/// The text unless it is missing or empty; Evolution sends both.
fn filled(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty())
}

/// The message itself, without what it is wrapped in for disappearing and the like.
fn unwrapped(message: &Value) -> &Value {
    const WRAPPERS: [&str; 6] = [
        "ephemeralMessage",
        "viewOnceMessage",
        "viewOnceMessageV2",
        "documentWithCaptionMessage",
        "deviceSentMessage",
        "groupMentionedMessage",
    ];
    let mut inner = message;
    for _ in 0..MAX_WRAPPERS {
        match WRAPPERS.iter().map(|name| &inner[*name]["message"]).find(|m| m.is_object()) {
            Some(found) => inner = found,
            None => break,
        }
    }
    inner
}

/// The pressed button's or picked row's id and title.
fn pressed(message: &Value) -> Option<(&str, Option<&str>)> {
    let picked = |part: &str, id: &str, title: &str| {
        let part = message.pointer(part)?;
        Some((filled(part.pointer(id)?)?, part.pointer(title).and_then(filled)))
    };
    picked("/buttonsResponseMessage", "/selectedButtonId", "/selectedDisplayText")
        .or_else(|| picked("/templateButtonReplyMessage", "/selectedId", "/selectedDisplayText"))
        .or_else(|| picked("/listResponseMessage", "/singleSelectReply/selectedRowId", "/title"))
}

/// Files, by the member that holds them.
const FILES: [&str; 5] =
    ["imageMessage", "videoMessage", "documentMessage", "audioMessage", "stickerMessage"];

/// What they said, or why it starts nothing.
fn text_of(message: &Value) -> Result<String, &'static str> {
    if let Some((id, title)) = pressed(message) {
        return Ok(title.unwrap_or(id).to_owned());
    }
    let extended = &message["extendedTextMessage"]["text"];
    if let Some(text) = message["conversation"].as_str().or(extended.as_str()) {
        return Ok(text.to_owned());
    }
    if let Some(file) = file(message) {
        return Ok(filled(&file["caption"]).unwrap_or_default().to_owned());
    }
    let place = &message["locationMessage"];
    if let (Some(latitude), Some(longitude)) =
        (place["degreesLatitude"].as_f64(), place["degreesLongitude"].as_f64())
    {
        let named: Vec<&str> =
            ["name", "address"].iter().filter_map(|name| filled(&place[*name])).collect();
        return Ok(format!("{} ({latitude}, {longitude})", named.join(", ")));
    }
    let has = |name: &str| !message[name].is_null();
    Err(if has("protocolMessage") || has("editedMessage") {
        "edit"
    } else if has("pollUpdateMessage") {
        "poll"
    } else if has("contactMessage") || has("contactsArrayMessage") {
        "contacts"
    } else {
        "unsupported"
    })
}

fn file(message: &Value) -> Option<&Value> {
    FILES.iter().map(|name| &message[*name]).find(|file| file.is_object())
}

/// The file, by the address that Evolution stored it under, else by WhatsApp's own.
fn media(message: &Value) -> Option<Media> {
    let file = file(message)?;
    let url = filled(&message["mediaUrl"]).or_else(|| filled(&file["url"]))?;
    Some(Media {
        mime: filled(&file["mimetype"]).unwrap_or("application/octet-stream").to_owned(),
        name: filled(&file["fileName"]).map(str::to_owned),
        url: url.to_owned(),
        size_bytes: integer(&file["fileLength"]),
    })
}

/// What the message answers and whom it names; hoisted in newer versions.
fn context_of<'a>(said: &'a Value, message: &'a Value) -> &'a Value {
    let hoisted = &said["contextInfo"];
    if hoisted.is_object() {
        return hoisted;
    }
    let parts = message.as_object().into_iter().flat_map(serde_json::Map::values);
    parts.map(|part| &part["contextInfo"]).find(|c| c.is_object()).unwrap_or(&Value::Null)
}

/// A number, its digits, or the two halves that JavaScript makes of a long one.
fn integer(value: &Value) -> Option<u64> {
    let half = |name: &str| u64::try_from(value[name].as_i64()?.rem_euclid(1 << 32)).ok();
    value
        .as_u64()
        .or_else(|| value.as_str()?.parse().ok())
        .or_else(|| Some((half("high")? << 32) | half("low")?))
}

/// `date_time` is local time that claims to be UTC: the message's own time is used.
fn time_ms(value: &Value) -> Option<UnixMs> {
    let time = integer(value).filter(|time| *time > 0)?;
    if time > MAX_SECS { Some(time) } else { time.checked_mul(1_000) }
}

/// The text without the account's own number, by which a group calls it.
fn without_own_name(text: &str, own: Option<&str>) -> String {
    let Some(number) = own.and_then(jid::phone) else { return text.to_owned() };
    let name = format!("@{number}");
    let Some(at) = text.find(&name) else { return text.to_owned() };
    let (before, after) = (text[..at].trim_end(), &text[at + name.len()..]);
    if after.starts_with(|c: char| c.is_ascii_digit()) {
        return text.to_owned();
    }
    format!("{before} {}", after.trim_start()).trim().to_owned()
}
