//! Models of providers that nobody knows: their runs would all fail.

use std::collections::BTreeMap;

use crate::config::{MODEL_PROVIDERS, ModelEndpoint, Runtime};

use super::super::document::{Body, FileDocs};
use super::super::suggest::nearest;
use super::{Finding, warning};

/// Warns of agents whose provider is neither known nor has an address in `models`.
pub(in crate::manifest) fn check(
    files: &[&mut FileDocs],
    models: &BTreeMap<String, ModelEndpoint>,
    findings: &mut Vec<Finding>,
) {
    for file in files {
        for document in &file.documents {
            let Body::Agent(doc) = &document.body else { continue };
            let provider = doc.agent.model.provider.as_str();
            let configured = models.get(provider);
            let addressed = configured.is_some_and(|endpoint| endpoint.base_url.is_some());
            let api = configured.and_then(|endpoint| endpoint.api.as_deref()).unwrap_or(provider);
            let known = api.is_empty() || MODEL_PROVIDERS.contains(&api);
            if known || addressed || doc.agent.runtime != Runtime::Model {
                continue;
            }
            let help = match nearest(api, MODEL_PROVIDERS.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("set `spec.models.{provider}.base_url` in `DaemonConfig`"),
            };
            let message = "no model provider has this name: runs of this agent will fail";
            let finding = warning("unknown-provider", &file.path, doc.model_at, message);
            findings.push(finding.help(help));
        }
    }
}
