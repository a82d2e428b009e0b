//! Reads one file: every document, by its kind.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::agent::{self, AgentDoc};
use super::daemon::{self, DaemonDoc};
use super::env::Env;
use super::finding::{At, Finding};
use super::flow::{self, FlowDoc, Head};
use super::read::{Fields, Scope, Text};
use super::suggest::nearest;
use super::yaml::{self, Node, Problem, Tree, Value};

/// `apiVersion`s that are understood (interface.md; design, field.md).
const API_VERSIONS: [&str; 5] = [
    "aof.dev/v1",
    "aof.dev/v1alpha1",
    "aof.sh/v1",
    "aof.sh/v1alpha1",
    "aof.agenticops.org/v1alpha1",
];

const KINDS: [&str; 3] = ["AgentFlow", "Agent", "DaemonConfig"];

/// Kinds of the same family that are not read, and what to do instead.
const OTHER_KINDS: [(&str, &str); 7] = [
    ("Trigger", "write the trigger into the AgentFlow that it starts"),
    ("Binding", "write trigger and context into the AgentFlow itself"),
    ("Context", "write the context into each AgentFlow that uses it"),
    ("Fleet", "name each of its agents in an AgentFlow, with `patterns`"),
    ("AgentFleet", "name each of its agents in an AgentFlow, with `patterns`"),
    ("Workflow", "name each of its agents in an AgentFlow, with `patterns`"),
    ("MCPServer", "name command-line tools in the agents' `tools`"),
];

/// What one document is.
#[derive(Debug)]
pub(super) enum Body {
    Flow(Box<FlowDoc>),
    Agent(Box<AgentDoc>),
    Daemon(Box<DaemonDoc>),
    /// Nothing that takes part.
    Other,
}

/// One document.
#[derive(Debug)]
pub(super) struct Document {
    /// SHA-256 of its source, before variables.
    pub(super) hash: [u8; 32],
    pub(super) body: Body,
}

/// One file.
#[derive(Debug)]
pub(super) struct FileDocs {
    pub(super) path: Arc<Path>,
    pub(super) documents: Vec<Document>,
    pub(super) findings: Vec<Finding>,
    /// Digest of what flows of other files may depend on; `None` for nothing.
    pub(super) exports: Option<[u8; 32]>,
    /// What joining its flows with the context showed; `None` until it is done.
    pub(super) joined: Option<Vec<Finding>>,
}

impl FileDocs {
    /// A file with no documents.
    pub(super) fn without_documents(path: &Arc<Path>, findings: Vec<Finding>) -> Self {
        let path = Arc::clone(path);
        Self { path, documents: Vec::new(), findings, exports: None, joined: None }
    }

    /// Its flows, each with the place of its document.
    pub(super) fn flows(&self) -> impl Iterator<Item = (usize, &FlowDoc)> {
        self.documents.iter().enumerate().filter_map(|(n, document)| match &document.body {
            Body::Flow(doc) => Some((n, &**doc)),
            _ => None,
        })
    }
}

/// Reads every document of `text`.
pub(super) fn read(path: &Arc<Path>, text: &str, env: &Env) -> FileDocs {
    let scope = Scope::new(env, path);
    let (trees, problems) = yaml::parse(text);
    problems.into_iter().for_each(|problem| report(&scope, problem));
    let documents: Vec<Document> = trees.iter().map(|tree| document(&scope, tree)).collect();
    let exports = exports(&documents);
    let findings = scope.findings.into_inner();
    FileDocs { exports, documents, ..FileDocs::without_documents(path, findings) }
}

/// Digest of agents, daemon and accounts, with the lines that findings may point to.
fn exports(documents: &[Document]) -> Option<[u8; 32]> {
    let mut hasher = Sha256::new();
    let mut any = false;
    for document in documents {
        let line = match &document.body {
            Body::Agent(doc) => doc.at.line,
            Body::Daemon(doc) => doc.at.line,
            Body::Flow(doc) if doc.account.is_some() || doc.names_channels => {
                hasher.update(doc.exports());
                any = true;
                continue;
            }
            _ => continue,
        };
        hasher.update(document.hash);
        hasher.update(line.to_be_bytes());
        any = true;
    }
    any.then(|| hasher.finalize().into())
}

fn report(scope: &Scope<'_>, problem: Problem) {
    match problem {
        Problem::Syntax { at, message } => {
            scope.error("syntax", at, format!("not valid YAML: {message}"));
        }
        Problem::DuplicateKey { at, key, first } => {
            let message = format!("`{key}` is given twice, first on line {}", first.line);
            scope.error_with("duplicate-key", at, (message, "keep one".to_owned()));
        }
    }
}

fn document(scope: &Scope<'_>, tree: &Tree<'_>) -> Document {
    let hash = Sha256::digest(tree.source.as_bytes()).into();
    let body = tree.root.as_ref().and_then(|root| body(scope, tree, root));
    Document { hash, body: body.unwrap_or(Body::Other) }
}

fn body(scope: &Scope<'_>, tree: &Tree<'_>, root: &Node<'_>) -> Option<Body> {
    let mut fields = Fields::of(scope, root, "the document")?;
    let kind = fields.text("kind");
    let version = fields.text("api_version");
    let Some(kind) = kind else {
        return without_kind(fields, tree);
    };
    if !KINDS.contains(&kind.value.as_str()) {
        other_kind(scope, &kind);
        return None;
    }
    check_version(scope, &kind, version.as_ref());
    let is_flat = !has_key(root, "spec") && kind.value == "Agent";
    if is_flat {
        return flat_agent(fields, tree);
    }
    let head = head(&mut fields, &kind, tree.line)?;
    let spec = fields.fields("spec", "spec");
    fields.finish();
    let Some(spec) = spec else {
        scope.error("missing-key", kind.at, format!("this {} has no `spec`", kind.shown()));
        return None;
    };
    match kind.value.as_str() {
        "AgentFlow" => flow::read(spec, head).map(|doc| Body::Flow(Box::new(doc))),
        "Agent" => agent::read(spec, &head.name, tree.source, tree.line)
            .map(|doc| Body::Agent(Box::new(doc))),
        _ => Some(Body::Daemon(Box::new(daemon::read(spec, kind.at)))),
    }
}

fn has_key(root: &Node<'_>, key: &str) -> bool {
    matches!(&root.value, Value::Map(entries) if entries.iter().any(|(k, _)| k.text == key))
}

/// An agent in the flat form needs no kind; anything else is not ours.
fn without_kind(fields: Fields<'_, '_>, tree: &Tree<'_>) -> Option<Body> {
    let root = tree.root.as_ref()?;
    let agent = ["model", "instructions", "system_prompt", "runtime"];
    if has_key(root, "name") && agent.iter().any(|key| has_key(root, key)) {
        return flat_agent(fields, tree);
    }
    let at = At { width: 1, ..root.at };
    let help = format!("add `kind:` ({}), or move it elsewhere", KINDS.join(", "));
    let says = ("this document has no `kind`: it is left out".to_owned(), help);
    fields.scope.warn_with("unknown-kind", at, says);
    None
}

fn flat_agent(mut fields: Fields<'_, '_>, tree: &Tree<'_>) -> Option<Body> {
    let Some(name) = fields.text("name") else {
        fields.scope.error("missing-key", fields.at, "this Agent has no `name`");
        return None;
    };
    fields.known(&["version", "metadata"]);
    fields.path = "an Agent";
    agent::read(fields, &name, tree.source, tree.line).map(|doc| Body::Agent(Box::new(doc)))
}

fn other_kind(scope: &Scope<'_>, kind: &Text) {
    let known = OTHER_KINDS.iter().find(|(name, _)| *name == kind.value);
    let (code, help) = match known {
        Some((_, help)) => ("not-supported", (*help).to_owned()),
        None => match nearest(&kind.value, KINDS).filter(|_| kind.written.is_none()) {
            Some(near) => ("unknown-kind", format!("did you mean `{near}`?")),
            None => ("unknown-kind", format!("known: {}", KINDS.join(", "))),
        },
    };
    let message = format!("kind `{}` is not read: this document is left out", kind.shown());
    scope.warn_with(code, kind.at, (message, help));
}

fn check_version(scope: &Scope<'_>, kind: &Text, version: Option<&Text>) {
    let (at, message) = match version {
        Some(text) if API_VERSIONS.contains(&text.value.as_str()) => return,
        Some(text) => (text.at, format!("apiVersion `{}` is not known", text.shown())),
        None => (kind.at, format!("this {} has no `apiVersion`", kind.shown())),
    };
    let help = format!("write `apiVersion: {}`", API_VERSIONS[0]);
    scope.error_with("unknown-version", at, (message, help));
}

fn head(fields: &mut Fields<'_, '_>, kind: &Text, line: u32) -> Option<Head> {
    let scope = fields.scope;
    let mut metadata = fields.fields("metadata", "metadata");
    let name = metadata.as_mut().and_then(|m| m.text("name"));
    let (mut labels, mut organization) = (BTreeMap::new(), None);
    if let Some(mut all) = metadata.as_mut().and_then(|m| m.fields("labels", "metadata.labels")) {
        for (key, node) in all.rest() {
            let Some(text) = scope.text(node, &key.text) else { continue };
            labels.insert(key.text.to_string(), text.value.clone());
            if key.text == "organization" {
                organization = Some(text);
            }
        }
    }
    if let Some(mut metadata) = metadata {
        metadata.known(&["annotations", "description", "version", "namespace"]);
        metadata.finish();
    }
    if name.is_none() {
        let help = "add `metadata: { name: … }`".to_owned();
        let says = (format!("this {} has no name", kind.shown()), help);
        scope.error_with("missing-key", kind.at, says);
    }
    Some(Head { name: name?, labels, organization, line })
}
