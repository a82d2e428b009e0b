//! Platform accounts: read from triggers and from the daemon, shared by equal
//! credentials, each owned by one tenant.

use std::collections::BTreeMap;

use crate::ids::{InstanceName, PlatformName, TenantId};
use crate::secret::Secret;

use super::env::is_variable_name;
use super::finding::At;
use super::platform::{KeyPair, Platform};
use super::read::{Fields, Text};
use super::yaml::Node;

/// An account as one place of the manifests describes it.
#[derive(Debug, Clone)]
pub(super) struct Account {
    pub(super) platform: PlatformName,
    /// `instance:`, the name that its webhook has.
    pub(super) name: Option<InstanceName>,
    /// `organization:` of a daemon's platform.
    pub(super) tenant: Option<TenantId>,
    pub(super) bot_token: Option<Secret>,
    pub(super) signing_secret: Option<Secret>,
    pub(super) api_base_url: Option<String>,
    pub(super) settings: BTreeMap<String, serde_json::Value>,
    /// What tells it apart from others with the same credentials.
    pub(super) discriminator: Vec<String>,
    /// Some credential is given, even if its variable is not set.
    pub(super) attempted: bool,
    pub(super) at: At,
}

impl Account {
    /// Whether it has anything that proves who it is.
    pub(super) fn has_credentials(&self) -> bool {
        self.bot_token.is_some() || self.signing_secret.is_some()
    }
}

impl Account {
    /// Adds everything that tells it from another account, for a digest.
    pub(super) fn write_to(&self, content: &mut Vec<u8>) {
        let secrets = [&self.bot_token, &self.signing_secret];
        let secrets = secrets.map(|secret| secret.as_ref().map_or("", Secret::expose));
        let name = self.name.as_ref().map_or("", InstanceName::as_str);
        let url = self.api_base_url.as_deref().unwrap_or_default();
        for part in secrets.into_iter().chain([name, url]) {
            content.extend_from_slice(&(part.len() as u64).to_be_bytes());
            content.extend_from_slice(part.as_bytes());
        }
        for (key, value) in &self.settings {
            content.extend_from_slice(format!("{key}={value}\n").as_bytes());
        }
        content.push(u8::from(self.attempted));
    }
}

/// Reads everything of an account that `fields` has; other keys stay unasked.
pub(super) fn read(fields: &mut Fields<'_, '_>, platform: &'static Platform) -> Account {
    let name = fields.text("instance").and_then(|text| instance_name(fields, &text));
    let pairs = || platform.token.iter().chain(platform.secret);
    let attempted =
        pairs().any(|(key, by_env)| fields.entry(key).is_some() || fields.entry(by_env).is_some());
    let mut account = Account {
        platform: PlatformName::new(platform.name).expect("names in the table are plain"),
        name,
        tenant: None,
        bot_token: credential(fields, platform.token),
        signing_secret: credential(fields, platform.secret),
        api_base_url: base_url(fields),
        settings: BTreeMap::new(),
        discriminator: Vec::new(),
        attempted,
        at: fields.at,
    };
    for (key, by_env) in platform.settings {
        let value = match fields.take(key) {
            Some(node) => Some(setting(fields, node, key)),
            None => variable(fields, by_env).map(|value| value.expose().into()),
        };
        account.settings.extend(value.map(|value| ((*key).to_owned(), value)));
    }
    let told_apart = platform.account.iter().filter_map(|key| account.settings.get(*key));
    account.discriminator = told_apart.map(ToString::to_string).collect();
    if account.name.is_none() && platform.name == "evolution" {
        let named = account.settings.get("instance_name").and_then(|v| v.as_str());
        account.name = named.and_then(|name| InstanceName::new(name).ok());
    }
    complete(fields, platform, &account);
    account
}

/// A setting's value. A number stays as it is written: ids are texts that may look like one.
fn setting(fields: &Fields<'_, '_>, node: &Node<'_>, key: &str) -> serde_json::Value {
    match fields.scope.json(node, key) {
        serde_json::Value::Number(number) => {
            let written = fields.scope.text(node, key);
            written.map_or_else(|| number.to_string(), |text| text.value).into()
        }
        other => other,
    }
}

/// What an account cannot do without, beside its credentials.
fn complete(fields: &Fields<'_, '_>, platform: &Platform, account: &Account) {
    let (missing, help) = match platform.name {
        "whatsapp" if !account.settings.contains_key("phone_number_id") => (
            "phone_number_id",
            "messages of its number are told apart by it: see the number in Meta's *API setup*",
        ),
        "evolution" if account.api_base_url.is_none() => {
            ("api_base_url", "answers are sent there: the address of the Evolution API")
        }
        _ => return,
    };
    if account.attempted {
        let message = format!("this {} account has no `{missing}`", platform.name);
        fields.scope.warn_with("incomplete-account", account.at, (message, help.to_owned()));
    }
}

/// The credential that one of `keys` holds or names.
fn credential(fields: &mut Fields<'_, '_>, keys: &[KeyPair]) -> Option<Secret> {
    let mut found: Option<Secret> = None;
    for (key, by_env) in keys {
        for secret in [written(fields, key), variable(fields, by_env)].into_iter().flatten() {
            if found.as_ref().is_some_and(|first| first != &secret) {
                let message = format!("`{key}` and another key both give this credential");
                fields.scope.error("duplicate-key", fields.at, message);
            }
            found.get_or_insert(secret);
        }
    }
    found
}

fn written(fields: &mut Fields<'_, '_>, key: &'static str) -> Option<Secret> {
    let text = fields.text(key)?;
    if text.value.trim().is_empty() {
        let help = "give it a value, or leave the key out".to_owned();
        let says = (format!("`{key}` is empty"), help);
        fields.scope.error_with("empty-credential", text.at, says);
        return None;
    }
    Some(Secret::new(text.value.trim()))
}

/// The value of the variable that `key` names.
pub(super) fn variable(fields: &mut Fields<'_, '_>, key: &'static str) -> Option<Secret> {
    let text = fields.text(key)?;
    let scope = fields.scope;
    if !is_variable_name(&text.value) {
        let help = format!("write the variable's name, or use `{}`", key.trim_end_matches("_env"));
        let says = (format!("`{key}` must name an environment variable"), help);
        scope.error_with("wrong-variable", text.at, says);
        return None;
    }
    match scope.env.get(&text.value) {
        Some(value) if !value.trim().is_empty() => Some(Secret::new(value.trim())),
        found => {
            let state = if found.is_some() { "empty" } else { "not set" };
            let message = format!("variable `{}` is {state}", text.shown());
            let help = format!("set {}, or remove `{key}`", text.shown());
            scope.error_with("unset-variable", text.at, (message, help));
            None
        }
    }
}

fn instance_name(fields: &Fields<'_, '_>, text: &Text) -> Option<InstanceName> {
    let name = InstanceName::new(&text.value).ok();
    if name.is_none() {
        let says = (
            format!("`{}` cannot be part of a webhook's address", text.shown()),
            NAME_RULE.to_owned(),
        );
        fields.scope.error_with("bad-name", text.at, says);
    }
    name
}

/// What a name may be, for people.
pub(super) const NAME_RULE: &str = "use 1 to 128 letters, digits, `-` or `_`";

fn base_url(fields: &mut Fields<'_, '_>) -> Option<String> {
    let text = fields.text("api_base_url")?;
    let url = text.value.trim_end_matches('/');
    if url.starts_with("http://") || url.starts_with("https://") {
        return Some(url.to_owned());
    }
    let message = "`api_base_url` must start with `http://` or `https://`";
    fields.scope.error("wrong-url", text.at, message);
    None
}
