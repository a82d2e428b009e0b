//! Messages of people and posts of channels.

use aof_shared::ids::MessageId;
use aof_shared::message::{Channel, Media, Message, MessageKind, User};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::place::Place;
use super::text::{self, Entity, To};
use super::{Chat, From, Inbound, Malformed, Source, date_ms, read};

/// What a person who opens a chat with a bot sends first, without typing it.
const START: &str = "start";

#[derive(Deserialize)]
struct Sent {
    message_id: i64,
    date: i64,
    chat: Chat,
    #[serde(default)]
    from: Option<From>,
    /// Who speaks for an anonymous administrator or a channel.
    #[serde(default)]
    sender_chat: Option<Chat>,
    #[serde(default)]
    author_signature: Option<String>,
    #[serde(default)]
    via_bot: Option<From>,
    #[serde(default)]
    message_thread_id: Option<i64>,
    #[serde(default)]
    is_topic_message: bool,
    #[serde(default)]
    is_automatic_forward: bool,
    /// Set where the bot is no member and was only asked from afar.
    #[serde(default)]
    guest_query_id: Option<String>,
    #[serde(default)]
    reply_to_message: Option<Box<RepliedTo>>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    entities: Vec<Entity>,
    #[serde(default)]
    caption: Option<String>,
    #[serde(default)]
    caption_entities: Vec<Entity>,
    #[serde(flatten)]
    files: Files,
}

#[derive(Deserialize)]
struct RepliedTo {
    message_id: i64,
    #[serde(default)]
    from: Option<From>,
    /// A topic's first message stands here although nobody replied to it.
    #[serde(default)]
    forum_topic_created: Option<serde_json::Value>,
}

/// The kinds of files that a message may have; one at a time, but for `animation`, which
/// is a `document` as well.
#[derive(Deserialize)]
struct Files {
    #[serde(default)]
    photo: Vec<File>,
    #[serde(default)]
    animation: Option<File>,
    #[serde(default)]
    document: Option<File>,
    #[serde(default)]
    video: Option<File>,
    #[serde(default)]
    audio: Option<File>,
    #[serde(default)]
    voice: Option<File>,
    #[serde(default)]
    video_note: Option<File>,
    #[serde(default)]
    sticker: Option<File>,
}

#[derive(Deserialize)]
struct File {
    file_id: String,
    #[serde(default)]
    mime_type: Option<String>,
    #[serde(default)]
    file_name: Option<String>,
    #[serde(default)]
    file_size: Option<u64>,
}

impl Source<'_> {
    /// A message in a chat or group.
    pub(super) fn message(&self, raw: &RawValue) -> Result<Inbound, Malformed> {
        let sent: Sent = read(raw.get(), "message")?;
        self.normalize(&sent)
    }

    /// A post in a channel: the channel is who wrote it.
    pub(super) fn channel_post(&self, raw: &RawValue) -> Result<Inbound, Malformed> {
        let mut post: Sent = read(raw.get(), "channel post")?;
        post.sender_chat.get_or_insert_with(|| post.chat.clone());
        self.normalize(&post)
    }

    fn normalize(&self, sent: &Sent) -> Result<Inbound, Malformed> {
        if let Some(reason) = self.not_for_us(sent) {
            return Ok(Inbound::Ignored(reason));
        }
        let (typed, entities) = match (&sent.text, &sent.caption) {
            (Some(text), _) => (text.as_str(), &sent.entities),
            (None, Some(caption)) => (caption.as_str(), &sent.caption_entities),
            (None, None) => return Ok(Inbound::Ignored("no text")),
        };
        let Some(user) = author(sent) else { return Ok(Inbound::Ignored("no user")) };
        let said = text::read(typed, entities, &self.bot);
        let direct = sent.chat.kind == "private";
        let kind = match said.to {
            To::OtherBot => return Ok(Inbound::Ignored("another bot's command")),
            To::Command(_) => MessageKind::Command,
            To::Bot => MessageKind::Mention,
            To::All if direct || self.replies_to_us(sent) => MessageKind::Mention,
            To::All => MessageKind::Message,
        };
        let greeting = said.to == To::Command(START.to_owned()) && said.text == START;
        let files = media(&sent.files);
        if said.text.is_empty() && (kind == MessageKind::Message || !files.is_empty()) {
            return Ok(Inbound::Ignored("no text"));
        }
        let message = Message { media: files, text: said.text, ..self.shell(sent, kind, user)? };
        if greeting || message.text.is_empty() {
            return Ok(Inbound::Empty(Box::new(message)));
        }
        Ok(Inbound::Message(Box::new(message)))
    }

    /// Everything of the message but its text and files.
    fn shell(&self, sent: &Sent, kind: MessageKind, user: User) -> Result<Message, Malformed> {
        let sent_at_ms =
            date_ms(sent.date).ok_or_else(|| Malformed("`date` is no time".to_owned()))?;
        let (chat, instance) = (&sent.chat, self.instance);
        let direct = chat.kind == "private";
        let topic = sent.message_thread_id.filter(|_| sent.is_topic_message);
        // In a group an answer shows whom it answers; two people alone see it anyway.
        let message = Some(sent.message_id).filter(|_| !direct);
        let place = Place { topic, message };
        let event_id = format!("{}:{}", chat.id, sent.message_id);
        let replied = sent.reply_to_message.as_ref().filter(|r| r.forum_topic_created.is_none());
        Ok(Message {
            id: MessageId::derive(&instance.tenant, &instance.platform, &instance.name, &event_id),
            tenant: instance.tenant.clone(),
            instance: instance.name.clone(),
            platform: instance.platform.clone(),
            kind,
            channel: Channel { id: chat.id.to_string(), name: None, direct },
            thread: (place != Place::default()).then(|| place.to_string()),
            reply_to: replied.map(|replied| replied.message_id.to_string()),
            user,
            text: String::new(),
            media: Vec::new(),
            conversation: topic
                .map_or_else(|| chat.id.to_string(), |topic| format!("{}:{topic}", chat.id)),
            event_id,
            sent_at_ms,
            received_at_ms: self.now_ms,
            raw: self.body.to_owned(),
        })
    }

    /// Echoes, other bots and copies never start an agent. Source: A8.
    fn not_for_us(&self, sent: &Sent) -> Option<&'static str> {
        let ours = |from: &Option<From>| {
            self.bot.id.is_some() && from.as_ref().map(|from| from.id) == self.bot.id
        };
        if ours(&sent.from) || ours(&sent.via_bot) {
            return Some("own message");
        }
        if sent.is_automatic_forward {
            return Some("automatic forward");
        }
        if sent.guest_query_id.is_some() {
            return Some("guest message");
        }
        let by_bot = sent.from.as_ref().is_some_and(|from| from.is_bot);
        (by_bot && sent.sender_chat.is_none()).then_some("another bot")
    }

    fn replies_to_us(&self, sent: &Sent) -> bool {
        let to = sent.reply_to_message.as_ref().filter(|r| r.forum_topic_created.is_none());
        let author = to.and_then(|replied| replied.from.as_ref()).map(|from| from.id);
        author.is_some() && author == self.bot.id
    }
}

/// Who wrote it. An anonymous administrator is the group, a post's author the channel: ids
/// of chats are negative or of another range, so none of them is a person's.
fn author(sent: &Sent) -> Option<User> {
    if let Some(chat) = &sent.sender_chat {
        let name = sent.author_signature.clone().or_else(|| chat.title.clone());
        return Some(User::new(format!("chat:{}", chat.id)).named(name));
    }
    let from = sent.from.as_ref()?;
    let name = from.username.clone().or_else(|| from.first_name.clone());
    Some(User::new(from.id.to_string()).named(name))
}

fn media(files: &Files) -> Vec<Media> {
    let document = files.document.as_ref().filter(|_| files.animation.is_none());
    let largest = files.photo.iter().max_by_key(|photo| photo.file_size);
    let kinds = [
        (largest, "image/jpeg"),
        (files.animation.as_ref(), "video/mp4"),
        (document, "application/octet-stream"),
        (files.video.as_ref(), "video/mp4"),
        (files.audio.as_ref(), "audio/mpeg"),
        (files.voice.as_ref(), "audio/ogg"),
        (files.video_note.as_ref(), "video/mp4"),
        (files.sticker.as_ref(), "image/webp"),
    ];
    let of = |(file, mime): (Option<&File>, &str)| {
        let file = file?;
        Some(Media {
            mime: file.mime_type.clone().unwrap_or_else(|| mime.to_owned()),
            name: file.file_name.clone(),
            // `getFile` turns it into a URL, which holds the token and expires within an hour.
            url: format!("telegram:file/{}", file.file_id),
            size_bytes: file.file_size,
        })
    };
    kinds.into_iter().filter_map(of).collect()
}
