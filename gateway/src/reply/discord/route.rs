//! The calls of Discord's API that are made, as method, path and limits. Pure.

use reqwest::Method;

use super::rates::digest;
use crate::platform::discord::interaction::Later;

/// A call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Route<'a> {
    /// The Gateway's address, and how many sessions may still be started.
    Gateway,
    /// The servers that the bot is in.
    Guilds,
    /// The channels of a server.
    GuildChannels { guild: &'a str },
    /// One channel.
    Channel { channel: &'a str },
    /// Write into a channel.
    CreateMessage { channel: &'a str },
    /// Change what the bot wrote.
    EditMessage { channel: &'a str, message: &'a str },
    /// React to a message with an emoji, in percent encoding.
    React { channel: &'a str, message: &'a str, emoji: &'a str },
    /// Answer an interaction at once.
    Callback { id: &'a str, token: &'a str },
    /// Answer an interaction that was put off.
    EditOriginal { later: &'a Later },
    /// Say more in answer to an interaction.
    FollowUp { later: &'a Later },
    /// Change what was said so.
    EditFollowUp { later: &'a Later, message: &'a str },
}

impl Route<'_> {
    /// The method.
    pub(crate) fn method(&self) -> Method {
        match self {
            Self::Gateway | Self::Guilds | Self::GuildChannels { .. } | Self::Channel { .. } => {
                Method::GET
            }
            Self::CreateMessage { .. } | Self::Callback { .. } | Self::FollowUp { .. } => {
                Method::POST
            }
            Self::EditMessage { .. } | Self::EditOriginal { .. } | Self::EditFollowUp { .. } => {
                Method::PATCH
            }
            Self::React { .. } => Method::PUT,
        }
    }

    /// The path behind the base URL. That of an interaction holds its token.
    pub(crate) fn path(&self) -> String {
        let webhook = |later: &Later| format!("/webhooks/{}/{}", later.application_id, later.token);
        match self {
            Self::Gateway => "/gateway/bot".to_owned(),
            Self::Guilds => "/users/@me/guilds".to_owned(),
            Self::GuildChannels { guild } => format!("/guilds/{guild}/channels"),
            Self::Channel { channel } => format!("/channels/{channel}"),
            Self::CreateMessage { channel } => format!("/channels/{channel}/messages"),
            Self::EditMessage { channel, message } => {
                format!("/channels/{channel}/messages/{message}")
            }
            Self::React { channel, message, emoji } => {
                format!("/channels/{channel}/messages/{message}/reactions/{emoji}/@me")
            }
            Self::Callback { id, token } => format!("/interactions/{id}/{token}/callback"),
            Self::EditOriginal { later } => format!("{}/messages/@original", webhook(later)),
            Self::FollowUp { later } => format!("{}?wait=true", webhook(later)),
            Self::EditFollowUp { later, message } => {
                format!("{}/messages/{message}", webhook(later))
            }
        }
    }

    /// What it is, for metrics and scopes.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Gateway => "discord/gateway",
            Self::Guilds => "discord/guilds",
            Self::GuildChannels { .. } => "discord/guild.channels",
            Self::Channel { .. } => "discord/channel",
            Self::CreateMessage { .. } => "discord/message.create",
            Self::EditMessage { .. } => "discord/message.edit",
            Self::React { .. } => "discord/reaction.create",
            Self::Callback { .. } => "discord/interaction.callback",
            Self::EditOriginal { .. } => "discord/interaction.edit",
            Self::FollowUp { .. } => "discord/interaction.follow",
            Self::EditFollowUp { .. } => "discord/interaction.follow.edit",
        }
    }

    /// What limits are counted by beside the call. Source: Discord, "Rate Limits", *Top-level
    /// resources*. An interaction's token stands there as its digest.
    pub(crate) fn major(&self) -> String {
        match self {
            Self::Gateway | Self::Guilds => String::new(),
            Self::GuildChannels { guild } => (*guild).to_owned(),
            Self::Channel { channel }
            | Self::CreateMessage { channel }
            | Self::EditMessage { channel, .. }
            | Self::React { channel, .. } => (*channel).to_owned(),
            Self::Callback { id, .. } => (*id).to_owned(),
            Self::EditOriginal { later }
            | Self::FollowUp { later }
            | Self::EditFollowUp { later, .. } => digest(&later.token),
        }
    }

    /// At most so many calls in so many milliseconds, for one [`Route::major`]. What Discord
    /// says in its answers comes on top; this keeps several gateways from finding out together.
    pub(crate) fn window(&self) -> (u32, u64) {
        match self {
            // Bots see one reaction in 250 ms.
            Self::React { .. } => (1, 250),
            Self::Gateway | Self::Guilds | Self::GuildChannels { .. } => (5, 10_000),
            _ => (5, 5_000),
        }
    }

    /// Whether the interaction's token proves who speaks, so that the bot's is not needed and
    /// its limit not touched.
    pub(crate) fn by_interaction(&self) -> bool {
        matches!(
            self,
            Self::Callback { .. }
                | Self::EditOriginal { .. }
                | Self::FollowUp { .. }
                | Self::EditFollowUp { .. }
        )
    }

    /// Whether a message that it changes may be gone.
    pub(crate) fn edits(&self) -> bool {
        matches!(self, Self::EditMessage { .. } | Self::EditFollowUp { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_documentation() {
        let later = Later { application_id: "9".to_owned(), token: "t".to_owned() };
        let later = &later;
        for (route, method, path) in [
            (Route::CreateMessage { channel: "1" }, "POST", "/channels/1/messages"),
            (Route::EditMessage { channel: "1", message: "2" }, "PATCH", "/channels/1/messages/2"),
            (
                Route::React { channel: "1", message: "2", emoji: "%F0" },
                "PUT",
                "/channels/1/messages/2/reactions/%F0/@me",
            ),
            (Route::EditOriginal { later }, "PATCH", "/webhooks/9/t/messages/@original"),
            (Route::FollowUp { later }, "POST", "/webhooks/9/t?wait=true"),
            (Route::Callback { id: "3", token: "t" }, "POST", "/interactions/3/t/callback"),
        ] {
            assert_eq!((route.method().as_str(), route.path().as_str()), (method, path));
        }
    }
}
