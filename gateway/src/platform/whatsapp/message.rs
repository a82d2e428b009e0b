//! One message of a person: text, a file, a button, a reaction.

use aof_shared::action::{Choice, Identity, Vote, VoteTarget};
use aof_shared::clock::UnixMs;
use aof_shared::config::Instance;
use aof_shared::ids::MessageId;
use aof_shared::message::{Address, Channel, Media, Message, MessageKind, User};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::platform::{Inbound, buttons, emoji};
use crate::reply::whatsapp::media_url;

/// What the messages of one change have in common.
pub(super) struct Chat<'a> {
    pub(super) instance: &'a Instance,
    pub(super) now_ms: UnixMs,
    pub(super) contacts: &'a [Contact],
    /// The business number as people see it.
    pub(super) own_number: Option<String>,
}

/// Someone as the change describes them. A person is known by a `user_id` that stays; the
/// phone number may be missing for those who have a user name.
#[derive(Debug, Default, Clone, Deserialize)]
pub(super) struct Contact {
    #[serde(default)]
    profile: Option<Profile>,
    #[serde(default)]
    wa_id: Option<String>,
    #[serde(default)]
    user_id: Option<String>,
    #[serde(default)]
    parent_user_id: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Profile {
    #[serde(default)]
    name: Option<String>,
}

#[derive(Deserialize)]
struct Said {
    id: String,
    timestamp: String,
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    from_user_id: Option<String>,
    #[serde(default)]
    from_parent_user_id: Option<String>,
    #[serde(default)]
    group_id: Option<String>,
    #[serde(default)]
    context: Option<Context>,
    #[serde(default)]
    text: Option<Text>,
    #[serde(default)]
    button: Option<Button>,
    #[serde(default)]
    interactive: Option<Interactive>,
    #[serde(default)]
    reaction: Option<Reaction>,
    #[serde(default)]
    location: Option<Location>,
    #[serde(default)]
    image: Option<File>,
    #[serde(default)]
    video: Option<File>,
    #[serde(default)]
    audio: Option<File>,
    #[serde(default)]
    document: Option<File>,
    #[serde(default)]
    sticker: Option<File>,
}

#[derive(Deserialize)]
struct Context {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    from: Option<String>,
}

#[derive(Deserialize)]
struct Text {
    body: String,
}

#[derive(Deserialize)]
struct Button {
    #[serde(default)]
    payload: Option<String>,
    #[serde(default)]
    text: Option<String>,
}

#[derive(Deserialize)]
struct Interactive {
    #[serde(default)]
    button_reply: Option<Picked>,
    #[serde(default)]
    list_reply: Option<Picked>,
}

#[derive(Deserialize)]
struct Picked {
    id: String,
    #[serde(default)]
    title: Option<String>,
}

#[derive(Deserialize)]
struct Reaction {
    message_id: String,
    #[serde(default)]
    emoji: Option<String>,
}

#[derive(Deserialize)]
struct Location {
    latitude: f64,
    longitude: f64,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    address: Option<String>,
}

#[derive(Deserialize)]
struct File {
    id: String,
    #[serde(default)]
    mime_type: Option<String>,
    #[serde(default)]
    filename: Option<String>,
    #[serde(default)]
    caption: Option<String>,
}

/// Says what one message is; `None` when it cannot be read.
pub(super) fn normalize(chat: &Chat<'_>, json: &RawValue, raw: &str) -> Option<Inbound> {
    let said: Said = serde_json::from_str(json.get()).ok()?;
    let sent_at_ms = said.timestamp.parse::<u64>().ok()?.checked_mul(1_000)?;
    if said.id.is_empty() {
        return None;
    }
    let Some(user) = chat.user(&said) else { return Some(Inbound::Ignored("no user")) };
    let at = Known { chat, said: &said, user, sent_at_ms };
    if let Some(reaction) = &said.reaction {
        return Some(at.reaction(reaction));
    }
    if let Some((id, _)) = said.pressed()
        && let Some((action, choice)) = buttons::vote_of(id)
    {
        return Some(at.vote(VoteTarget::Action { id: action }, choice));
    }
    Some(match said.text_or_reason() {
        Ok(text) => at.message(text, raw),
        Err(reason) => Inbound::Ignored(reason),
    })
}

impl Chat<'_> {
    /// Who wrote it: by `user_id` where there is one, with every other id as an alias.
    fn user(&self, said: &Said) -> Option<User> {
        let contact = self.contact(said).cloned().unwrap_or_default();
        let ids = [
            said.from_user_id.clone(),
            contact.user_id,
            contact.wa_id,
            said.from.clone(),
            contact.parent_user_id,
            said.from_parent_user_id.clone(),
        ];
        let mut ids = ids.into_iter().flatten().filter(|id| !id.is_empty());
        let user = User::new(ids.next()?).known_as(ids);
        Some(user.named(contact.profile.and_then(|profile| profile.name)))
    }

    fn contact(&self, said: &Said) -> Option<&Contact> {
        let same = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
        let of = |contact: &&Contact| {
            same(&contact.user_id, &said.from_user_id) || same(&contact.wa_id, &said.from)
        };
        let named = self.contacts.iter().find(of);
        // The number a person has and the one they are reached at differ in some countries.
        named.or(if let [only] = self.contacts { Some(only) } else { None })
    }
}

impl Said {
    /// The pressed button's or picked row's id and title.
    fn pressed(&self) -> Option<(&str, Option<&str>)> {
        if let Some(button) = &self.button {
            return Some((button.payload.as_deref()?, button.text.as_deref()));
        }
        let interactive = self.interactive.as_ref()?;
        let picked = interactive.button_reply.as_ref().or(interactive.list_reply.as_ref())?;
        Some((&picked.id, picked.title.as_deref()))
    }

    fn file(&self) -> Option<&File> {
        let files = [&self.image, &self.video, &self.audio, &self.document, &self.sticker];
        files.into_iter().flatten().next()
    }

    /// What they said, or why it starts nothing.
    fn text_or_reason(&self) -> Result<String, &'static str> {
        if let Some((id, title)) = self.pressed() {
            return Ok(title.unwrap_or(id).to_owned());
        }
        if let Some(text) = &self.text {
            return Ok(text.body.trim().to_owned());
        }
        if let Some(file) = self.file() {
            return Ok(file.caption.as_deref().unwrap_or_default().trim().to_owned());
        }
        if let Some(place) = &self.location {
            return Ok(place.text());
        }
        Err(match self.kind.as_str() {
            "edit" => "edit",
            "revoke" => "deleted",
            "contacts" => "contacts",
            "order" => "order",
            "system" | "identity" | "request_welcome" => "system",
            "interactive" | "button" => "form",
            _ => "unsupported",
        })
    }
}

impl Location {
    fn text(&self) -> String {
        let named = [self.name.as_deref(), self.address.as_deref()];
        let named: Vec<&str> = named.into_iter().flatten().collect();
        format!("{} ({}, {})", named.join(", "), self.latitude, self.longitude).trim().to_owned()
    }
}

/// A message with what was found out about it.
struct Known<'a> {
    chat: &'a Chat<'a>,
    said: &'a Said,
    user: User,
    sent_at_ms: UnixMs,
}

impl Known<'_> {
    /// Where answers go: the group, or the person by phone number where it is known, which
    /// keeps it known. Source: Meta, "Business-scoped user IDs".
    fn channel(&self) -> Channel {
        let direct = self.said.group_id.is_none();
        let number = self.said.from.clone().filter(|from| !from.is_empty());
        let id = self.said.group_id.clone().or(number).unwrap_or_else(|| self.user.id.clone());
        Channel { id, name: None, direct }
    }

    fn message(self, text: String, raw: &str) -> Inbound {
        let (instance, said) = (self.chat.instance, self.said);
        let channel = self.channel();
        let context = said.context.as_ref();
        let to_us = context.and_then(|c| c.from.as_deref()).is_some_and(|from| {
            self.chat.own_number.as_deref().is_some_and(|own| digits(own) == digits(from))
        });
        let mentioned = channel.direct || to_us;
        let conversation = said.group_id.clone().unwrap_or_else(|| self.user.id.clone());
        let event_id = said.id.clone();
        let message = Message {
            id: MessageId::derive(&instance.tenant, &instance.platform, &instance.name, &event_id),
            tenant: instance.tenant.clone(),
            instance: instance.name.clone(),
            platform: instance.platform.clone(),
            kind: if mentioned { MessageKind::Mention } else { MessageKind::Message },
            channel,
            thread: Some(said.id.clone()),
            reply_to: context.and_then(|c| c.id.clone()).filter(|id| !id.is_empty()),
            user: self.user,
            text,
            media: said.file().map(|file| media(file, instance)).into_iter().collect(),
            event_id,
            conversation,
            sent_at_ms: self.sent_at_ms,
            received_at_ms: self.chat.now_ms,
            raw: raw.to_owned(),
        };
        match (message.text.is_empty(), mentioned) {
            (false, _) => Inbound::Message(Box::new(message)),
            (true, true) => Inbound::Empty(Box::new(message)),
            (true, false) => Inbound::Ignored("no text"),
        }
    }

    /// A person has one reaction to a message: taking it away and choosing one that is no
    /// vote both take a vote back.
    fn reaction(self, reaction: &Reaction) -> Inbound {
        let given = reaction.emoji.as_deref().unwrap_or_default();
        let choice = emoji::choice_of(given).unwrap_or(Choice::Withdraw);
        let instance = self.chat.instance;
        let at = Address {
            tenant: instance.tenant.clone(),
            platform: instance.platform.clone(),
            instance: instance.name.clone(),
            channel: self.channel().id,
            thread: None,
        };
        let message = reaction.message_id.clone();
        self.vote(VoteTarget::Posted { at, message }, choice)
    }

    fn vote(self, target: VoteTarget, choice: Choice) -> Inbound {
        let vote = Vote {
            target,
            voter: Identity::of(self.chat.instance.platform.clone(), &self.user),
            choice,
            reason: None,
            cast_at_ms: self.sent_at_ms,
        };
        Inbound::Vote { event_id: self.said.id.clone(), vote: Box::new(vote) }
    }
}

fn digits(number: &str) -> String {
    number.chars().filter(char::is_ascii_digit).collect()
}

fn media(file: &File, instance: &Instance) -> Media {
    let mime = file.mime_type.clone();
    Media {
        mime: mime.unwrap_or_else(|| "application/octet-stream".to_owned()),
        name: file.filename.clone(),
        url: media_url(instance, &file.id),
        size_bytes: None,
    }
}
