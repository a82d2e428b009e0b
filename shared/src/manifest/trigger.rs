//! Reads `spec.trigger`: what a flow listens to, and through which account.

use crate::config::Trigger;
use crate::ids::PlatformName;
use crate::message::MessageKind;
use crate::pattern::Case;

use super::finding::At;
use super::instance::{self, Account};
use super::pattern;
use super::platform::{EVENTS, PLATFORMS, Platform, kinds_of_event};
use super::read::{Fields, Scope, Text};
use super::suggest::nearest;

/// Stands for a platform that nobody knows; its flow has an error and never serves.
const UNKNOWN: &str = "unknown";

/// A trigger and what else its document says.
#[derive(Debug, Default)]
pub(super) struct TriggerDoc {
    pub(super) trigger: Trigger,
    pub(super) at: At,
    pub(super) channels_at: At,
    pub(super) account: Option<Box<Account>>,
    pub(super) names_channels: bool,
}

/// Reads `trigger`; `None`, with a finding, when there is none. One of an unknown type, with
/// a finding too, stands for itself, so that the rest of its flow is checked.
pub(super) fn read(spec: &mut Fields<'_, '_>, flow: &Text) -> Option<TriggerDoc> {
    let scope = spec.scope;
    let Some(node) = spec.take("trigger") else {
        let help = "add `trigger: { type: Slack }`".to_owned();
        let says = (format!("flow `{}` has no trigger", flow.shown()), help);
        scope.error_with("missing-key", flow.at, says);
        return None;
    };
    let mut fields = Fields::of(scope, node, "spec.trigger")?;
    let mut doc = TriggerDoc { at: node.at, ..TriggerDoc::default() };
    let mut platform = None;
    if let Some(kind) = fields.text("type") {
        doc.at = kind.at;
        platform = Platform::of_type(&kind.value);
        doc.trigger.platform = match platform {
            Some(platform) => Some(platform_name(platform)),
            None => {
                unknown_type(scope, &kind);
                PlatformName::new(UNKNOWN).ok()
            }
        };
    }
    if let Some(config) = fields.fields("config", "spec.trigger.config") {
        read_config(config, platform, &mut doc);
    }
    fields.known(&["description"]);
    fields.finish();
    Some(doc)
}

fn platform_name(platform: &Platform) -> PlatformName {
    PlatformName::new(platform.name).expect("names in the table are plain")
}

fn unknown_type(scope: &Scope<'_>, kind: &Text) {
    let types = || PLATFORMS.iter().flat_map(|p| p.types.iter().copied());
    let help = match nearest(&kind.value, types()).filter(|_| kind.written.is_none()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known: {}", types().collect::<Vec<_>>().join(", ")),
    };
    let message = format!("`{}` is not a type of trigger", kind.shown());
    scope.error_with("unknown-platform", kind.at, (message, help));
}

fn read_config(
    mut config: Fields<'_, '_>,
    platform: Option<&'static Platform>,
    doc: &mut TriggerDoc,
) {
    let scope = config.scope;
    let unknown = doc.trigger.platform.as_ref().is_some_and(|name| name.as_str() == UNKNOWN);
    doc.trigger.events = events(&mut config);
    let channels = filter(&mut config, "channels");
    let users = filter(&mut config, "users");
    let patterns = filter(&mut config, "patterns");
    patterns.iter().for_each(|text| pattern::check(scope, text, Case::Exact));
    doc.channels_at = channels.first().map_or(doc.at, |text| text.at);
    if let Some(platform) = platform {
        users.iter().for_each(|user| check_user(scope, platform, user));
        doc.names_channels = channels.iter().any(|c| platform.is_channel_name(&c.value));
        let account = instance::read(&mut config, platform);
        let defines = account.attempted || account.name.is_some();
        doc.account = defines.then(|| Box::new(account));
    } else {
        doc.names_channels = !unknown && !channels.is_empty();
    }
    let plain = |texts: Vec<Text>| texts.into_iter().map(|text| text.value).collect();
    doc.trigger.channels = plain(channels);
    doc.trigger.users = plain(users);
    doc.trigger.patterns = plain(patterns);
    // Which keys an unknown type has, nobody knows.
    if !unknown {
        config.finish();
    }
}

/// A filter's values. Given but empty would read as "no filter" and match everything.
fn filter(config: &mut Fields<'_, '_>, name: &'static str) -> Vec<Text> {
    let Some((key, node)) = config.entry(name) else { return Vec::new() };
    let values = config.scope.texts(node, name);
    if values.is_empty() {
        let message = format!("`{name}` is empty");
        let help = "name at least one, or leave the key out to match all".to_owned();
        config.scope.error_with("empty-filter", key.at, (message, help));
    }
    values
}

fn events(config: &mut Fields<'_, '_>) -> Vec<MessageKind> {
    let mut kinds = Vec::new();
    for event in config.texts("events") {
        let Some(more) = kinds_of_event(&event.value) else {
            let help = match nearest(&event.value, EVENTS).filter(|_| event.written.is_none()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known: {}", EVENTS.join(", ")),
            };
            let message = format!("`{}` is not an event that flows can filter on", event.shown());
            config.scope.error_with("unknown-event", event.at, (message, help));
            continue;
        };
        for kind in more {
            if !kinds.contains(kind) {
                kinds.push(*kind);
            }
        }
    }
    kinds
}

fn check_user(scope: &Scope<'_>, platform: &Platform, user: &Text) {
    if platform.is_user_id(&user.value) == Some(false) {
        let message = format!("`{}` is nobody's id on {}", user.shown(), platform.name);
        let help = format!("ids are {}", platform.user_id_shape());
        scope.warn_with("not-an-id", user.at, (message, help));
    }
}
