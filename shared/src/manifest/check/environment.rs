//! Production and everything else in one flow (001, *Environment Isolation*).

use super::{Finding, Located, error};
use crate::manifest::finding::At;

/// Words that mean production.
const PRODUCTION: [&str; 3] = ["prod", "production", "prd"];

/// Words that mean anything else.
const OTHER: [&str; 14] = [
    "staging",
    "stage",
    "stg",
    "dev",
    "devel",
    "develop",
    "development",
    "test",
    "testing",
    "qa",
    "uat",
    "sandbox",
    "preprod",
    "nonprod",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Environment {
    Production,
    Other,
}

/// What `text` tells, word by word; `None` when it tells nothing, or both.
fn of(text: &str) -> Option<Environment> {
    let mut found = None;
    for word in text.split(|c: char| !c.is_alphanumeric()).map(str::to_ascii_lowercase) {
        let this = if PRODUCTION.contains(&word.as_str()) {
            Environment::Production
        } else if OTHER.contains(&word.as_str()) {
            Environment::Other
        } else {
            continue;
        };
        if found.is_some_and(|before| before != this) {
            return None;
        }
        found = Some(this);
    }
    found
}

/// Reports a flow whose channels, label and context disagree on the environment.
pub(super) fn check(flow: Located<'_>, findings: &mut Vec<Finding>) {
    let doc = flow.doc;
    let label = doc.flow.labels.get("environment").and_then(|text| of(text));
    let label = label.map(|e| ("its label is", doc.name.at, e));
    let channels = doc.flow.trigger.channels.iter().filter_map(|text| of(text));
    let channels = channels.map(|e| ("its channels are", doc.channels_at, e));
    let context = doc.hints.iter().filter_map(|(at, text)| Some((*at, of(text)?)));
    let context = context.map(|(at, e)| ("its context is", at, e));
    let mut first: Option<(&str, At, Environment)> = None;
    for this in label.into_iter().chain(channels).chain(context) {
        let Some(before) = first else {
            first = Some(this);
            continue;
        };
        if before.2 == this.2 {
            continue;
        }
        let message = if before.0 == this.0 {
            format!("this flow mixes environments: {} for production and another", this.0)
        } else {
            let (one, other) = match before.2 {
                Environment::Production => ("production", "another"),
                Environment::Other => ("another", "production"),
            };
            let (a, b) = (before.0, this.0);
            format!("this flow mixes environments: {a} for {one}, {b} for {other}")
        };
        let help = "make one flow for each environment, each with its own context";
        findings.push(error("mixed-environments", flow.path, this.1, message).help(help));
        return;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_tell_the_environment() {
        use Environment::{Other, Production};
        for (text, expected) in [
            ("production", Some(Production)),
            ("#prod-alerts", Some(Production)),
            ("${KUBECONFIG_PROD}", Some(Production)),
            ("qa-testing", Some(Other)),
            ("sre-oncall", None),
            ("product-team", None),
            ("device", None),
            ("dev-to-prod", None),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
    }
}
