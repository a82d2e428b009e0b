//! Interactions: commands and forms become messages, the buttons of an approval votes.

use aof_shared::action::{Choice, Identity, Vote, VoteTarget};
use aof_shared::clock::UnixMs;
use aof_shared::config::Instance;
use aof_shared::ids::{ActionId, MessageId};
use aof_shared::message::{Channel, Message, MessageKind, User};
use aof_shared::secret::Secret;
use aof_shared::store::Note;
use serde::Deserialize;
use serde_json::{Value, json};

use super::options::Data;
use super::place::Place;
use super::{guilds, made_at_ms, required};
use crate::platform::{Answer, Delivery, Inbound, Malformed};

/// What the `custom_id` of the button that agrees starts with; the action's id follows.
pub(crate) const APPROVE: &str = "aof.approve:";
/// The same of the button that refuses.
pub(crate) const DENY: &str = "aof.deny:";
/// How long the token of an interaction is good for, in milliseconds. Source: Discord,
/// "Receiving and Responding".
pub(crate) const TOKEN_MS: u64 = 15 * 60_000;
/// Types of threads. Source: Discord, "Channel Types".
const THREADS: std::ops::RangeInclusive<u64> = 10..=12;
/// Shows an answer to the one who asked only.
const EPHEMERAL: u64 = 1 << 6;

/// How an interaction is answered at once. Source: Discord, "Interaction Callback Type".
mod callback {
    pub(super) const PONG: u64 = 1;
    pub(super) const MESSAGE: u64 = 4;
    pub(super) const LATER: u64 = 5;
    pub(super) const LATER_BY_UPDATE: u64 = 6;
    pub(super) const CHOICES: u64 = 8;
}

#[derive(Deserialize)]
struct Interaction {
    #[serde(rename = "type")]
    kind: u64,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    guild_id: Option<String>,
    #[serde(default)]
    channel_id: Option<String>,
    #[serde(default)]
    channel: Option<At>,
    #[serde(default)]
    member: Option<Member>,
    #[serde(default)]
    user: Option<Person>,
    #[serde(default)]
    data: Option<Data>,
    /// There in webhook events, which are no interactions.
    #[serde(default)]
    event: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct At {
    #[serde(rename = "type", default)]
    kind: u64,
    #[serde(default)]
    parent_id: Option<String>,
}

#[derive(Deserialize)]
struct Member {
    #[serde(default)]
    user: Option<Person>,
}

#[derive(Deserialize)]
struct Person {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    username: Option<String>,
}

/// What answers an interaction later, until it is over.
#[derive(Clone, PartialEq, Eq, serde::Serialize, Deserialize)]
pub(crate) struct Later {
    /// The application.
    pub(crate) application_id: String,
    /// The interaction's token: a secret.
    pub(crate) token: String,
}

/// What to know again when the message in `delivery` is answered: the note's name, and the
/// note. Of the interaction `body`, which is verified.
pub(crate) fn note(body: &[u8], delivery: &Delivery) -> Option<(String, Note)> {
    #[derive(Deserialize)]
    struct Told {
        id: String,
        #[serde(flatten)]
        later: Later,
    }
    let [Inbound::Message(message)] = &delivery.items[..] else { return None };
    let told: Told = serde_json::from_slice(body).ok()?;
    let expires_at_ms = made_at_ms(&told.id)? + TOKEN_MS;
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if !super::is_snowflake(&told.later.application_id) || !plain(&told.later.token) {
        return None; // they become part of a URL
    }
    let value = serde_json::to_string(&told.later).ok()?;
    Some((note_name(message.id), Note { value: Secret::new(value), expires_at_ms }))
}

/// What the note is called that answers `message` later.
pub(crate) fn note_name(message: MessageId) -> String {
    format!("answer/{message}")
}

impl std::fmt::Debug for Later {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Later")
            .field("application_id", &self.application_id)
            .finish_non_exhaustive()
    }
}

/// Says what an interaction is.
pub(crate) fn normalize(
    body: &str,
    instance: &Instance,
    now_ms: UnixMs,
) -> Result<Delivery, Malformed> {
    let interaction: Interaction = serde_json::from_str(body)
        .map_err(|e| Malformed(format!("the body is not an interaction: {e}")))?;
    if interaction.event.is_some() || interaction.kind == 0 {
        return Ok(Delivery::one(Inbound::Ignored("webhook event"), Answer::Empty));
    }
    let guild = interaction.guild_id.as_deref();
    let admitted = guilds::admits(instance, guild);
    match interaction.kind {
        1 => Ok(Delivery::answered(json!({"type": callback::PONG}))),
        4 => {
            let none = json!({"type": callback::CHOICES, "data": {"choices": []}});
            Ok(ignored("autocomplete", none))
        }
        2 | 3 | 5 if !admitted => Ok(ignored("another server", elsewhere())),
        3 => button(&interaction, instance, now_ms),
        2 | 5 => command(&interaction, (body, instance), now_ms),
        _ => Ok(Delivery::one(Inbound::Ignored("interaction type"), Answer::Receipt)),
    }
}

fn ignored(reason: &'static str, answer: Value) -> Delivery {
    Delivery::one(Inbound::Ignored(reason), Answer::Json(answer))
}

/// Told to whoever calls the bot in a server that the instance is not for.
fn elsewhere() -> Value {
    json!({"type": callback::MESSAGE, "data": {
        "content": "This bot does not work in this server.",
        "flags": EPHEMERAL,
    }})
}

impl Interaction {
    /// Who did it: `member` in a server, `user` elsewhere.
    fn person(&self) -> Option<&Person> {
        self.member.as_ref().and_then(|m| m.user.as_ref()).or(self.user.as_ref())
    }
}

fn button(
    interaction: &Interaction,
    instance: &Instance,
    now_ms: UnixMs,
) -> Result<Delivery, Malformed> {
    let unchanged = Answer::Json(json!({"type": callback::LATER_BY_UPDATE}));
    let custom = interaction.data.as_ref().and_then(|d| d.custom_id.as_deref()).unwrap_or_default();
    let (choice, action) = match (custom.strip_prefix(APPROVE), custom.strip_prefix(DENY)) {
        (Some(action), _) => (Choice::Approve, action),
        (_, Some(action)) => (Choice::Deny, action),
        _ => return Ok(Delivery::one(Inbound::Ignored("other component"), unchanged)),
    };
    let action: ActionId =
        action.parse().map_err(|_| Malformed("the button names no action".to_owned()))?;
    let user = required(interaction.person().and_then(|p| p.id.as_ref()), "user.id")?;
    let id = required(interaction.id.as_ref(), "id")?;
    let vote = Vote {
        target: VoteTarget::Action { id: action },
        voter: Identity::new(instance.platform.clone(), user),
        choice,
        reason: None,
        cast_at_ms: made_at_ms(id).unwrap_or(now_ms),
    };
    let vote = Inbound::Vote { event_id: id.to_owned(), vote: Box::new(vote) };
    Ok(Delivery::one(vote, unchanged))
}

fn command(
    interaction: &Interaction,
    (body, instance): (&str, &Instance),
    now_ms: UnixMs,
) -> Result<Delivery, Malformed> {
    let id = required(interaction.id.as_ref(), "id")?.to_owned();
    let person = interaction.person();
    let user = required(person.and_then(|p| p.id.as_ref()), "user.id")?;
    let at = required(interaction.channel_id.as_ref(), "channel_id")?;
    let parent = interaction.channel.as_ref().filter(|c| THREADS.contains(&c.kind));
    let parent = parent.and_then(|c| c.parent_id.as_deref()).filter(|id| super::is_snowflake(id));
    let data =
        interaction.data.as_ref().ok_or_else(|| Malformed("`data` is missing".to_owned()))?;
    let message = Message {
        id: MessageId::derive(&instance.tenant, &instance.platform, &instance.name, &id),
        tenant: instance.tenant.clone(),
        instance: instance.name.clone(),
        platform: instance.platform.clone(),
        kind: MessageKind::Command,
        channel: Channel {
            id: parent.unwrap_or(at).to_owned(),
            name: None,
            direct: interaction.guild_id.is_none(),
        },
        thread: Place { thread: parent.map(|_| at), reply_to: None }.write(),
        reply_to: None,
        user: User::new(user).named(person.and_then(|p| p.username.clone())),
        text: super::text::plain(&data.text(), ""),
        media: Vec::new(),
        // A command stands alone: those of one person in one channel keep their order.
        conversation: format!("{at}:{user}"),
        sent_at_ms: made_at_ms(&id).unwrap_or(now_ms),
        received_at_ms: now_ms,
        event_id: id,
        raw: redacted(body),
    };
    if message.text.is_empty() {
        return Err(Malformed("`data.name` is missing".to_owned()));
    }
    let later = Answer::Json(json!({"type": callback::LATER}));
    Ok(Delivery::one(Inbound::Message(Box::new(message)), later))
}

/// The body with its token replaced by `***`.
fn redacted(body: &str) -> String {
    let Ok(mut body) = serde_json::from_str::<Value>(body) else { return String::new() };
    if let Some(token) = body.get_mut("token") {
        *token = json!("***");
    }
    body.to_string()
}
