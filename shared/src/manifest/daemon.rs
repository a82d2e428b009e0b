//! Reads `kind: DaemonConfig`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use crate::config::{Cluster, Daemon, Kind, MAX_REPLICAS, ModelEndpoint, is_cluster_name};
use crate::ids::TenantId;
use crate::secret::Secret;

use super::agent::agent_name;
use super::finding::At;
use super::flow::{Reference, limits};
use super::instance::{self, Account, NAME_RULE};
use super::platform::{PLATFORMS, Platform};
use super::read::{Fields, Scope, Text};
use super::suggest::nearest;
use super::yaml::{Key, Node};

/// The daemon's document.
#[derive(Debug, Default)]
pub(super) struct DaemonDoc {
    pub(super) daemon: Daemon,
    pub(super) at: At,
    pub(super) default_agent: Option<Reference>,
    pub(super) accounts: Vec<Account>,
    /// `groups`, for approvers.
    pub(super) groups: HashMap<String, Vec<String>>,
    pub(super) agents_dir_at: At,
    pub(super) flows_dir_at: At,
}

/// Reads the daemon's fields below `spec`.
pub(super) fn read(mut spec: Fields<'_, '_>, at: At) -> DaemonDoc {
    let mut doc = DaemonDoc { at, ..DaemonDoc::default() };
    server(&mut spec, &mut doc.daemon);
    if let Some(mut platforms) = spec.fields("platforms", "spec.platforms") {
        for (key, node) in platforms.rest() {
            doc.accounts.extend(account(platforms.scope, key, node));
        }
    }
    directories(&mut spec, &mut doc);
    routing(&mut spec, &mut doc);
    runtime(&mut spec, &mut doc.daemon);
    if let Some(mut all) = spec.fields("limits", "spec.limits") {
        doc.daemon.limits_global = limits(&mut all, "global", "spec.limits.global");
        doc.daemon.limits_per_organization =
            limits(&mut all, "per_organization", "spec.limits.per_organization");
        doc.daemon.limits_per_user = limits(&mut all, "per_user", "spec.limits.per_user");
        all.finish();
    }
    doc.daemon.models = models(&mut spec);
    cluster(&mut spec, &mut doc.daemon.cluster);
    doc.groups = groups(&mut spec);
    spec.finish();
    doc
}

fn server(spec: &mut Fields<'_, '_>, daemon: &mut Daemon) {
    let Some(mut server) = spec.fields("server", "spec.server") else { return };
    let (host, port) = daemon.listen.rsplit_once(':').unwrap_or(("127.0.0.1", "8080"));
    let host = server.text("host").map_or_else(|| host.to_owned(), |text| text.value);
    let port = server.positive::<u16>("port").map_or_else(|| port.to_owned(), |p| p.to_string());
    let bracket = host.contains(':') && !host.starts_with('[');
    daemon.listen = if bracket { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let cluster = &mut daemon.cluster;
    cluster.redis_url = secret(&mut server, "redis_url");
    cluster.redis_of_001 = cluster.redis_url.is_some();
    cluster.announced = server.bool("cluster_mode").unwrap_or(false);
    cluster.node_id = server.text("node_id").map(|text| text.value);
    server.finish();
}

fn secret(fields: &mut Fields<'_, '_>, name: &'static str) -> Option<Secret> {
    fields.text(name).map(|text| Secret::new(&text.value))
}

/// One entry of `platforms`. What is not enabled is not read, so its variables may be unset.
fn account(scope: &Scope<'_>, key: &Key<'_>, node: &Node<'_>) -> Option<Account> {
    let Some(platform) = Platform::of_type(&key.text) else {
        let help = match nearest(&key.text, PLATFORMS.iter().map(|p| p.name)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "remove it: it has no effect".to_owned(),
        };
        let says = (format!("`{}` is not a platform", key.text), help);
        scope.warn_with("unknown-platform", key.at, says);
        return None;
    };
    let mut fields = Fields::of(scope, node, "spec.platforms.<platform>")?;
    if fields.bool("enabled") == Some(false) {
        return None;
    }
    let tenant = fields.text("organization").and_then(|text| {
        let tenant = TenantId::new(&text.value).ok();
        if tenant.is_none() {
            let message = format!("`{}` is not a usable organization", text.shown());
            scope.error_with("bad-name", text.at, (message, NAME_RULE.to_owned()));
        }
        tenant
    });
    let mut account = instance::read(&mut fields, platform);
    account.tenant = tenant;
    account.at = key.at;
    for (unknown, node) in fields.rest() {
        fields.unknown(unknown);
        account.settings.insert(unknown.text.to_string(), scope.json(node, &unknown.text));
    }
    if !account.attempted && platform.needs_credentials() {
        let keys: Vec<&str> = platform.token.iter().take(1).map(|(_, by_env)| *by_env).collect();
        let help = format!("add `{}`, or `enabled: false`", keys.join("`, `"));
        let message = format!("`{}` has no credentials", platform.name);
        scope.warn_with("no-credentials", key.at, (message, help));
    }
    account.has_credentials().then_some(account)
}

fn directories(spec: &mut Fields<'_, '_>, doc: &mut DaemonDoc) {
    let beside = |text: &Text, file: &Path| -> PathBuf {
        file.parent().unwrap_or(Path::new("")).join(text.value.trim_start_matches("./"))
    };
    let mut watch = [None, None];
    if let Some(mut agents) = spec.fields("agents", "spec.agents") {
        if let Some(text) = agents.text("directory") {
            doc.agents_dir_at = text.at;
            doc.daemon.agents_dir = Some(beside(&text, agents.scope.file));
        }
        watch[0] = agents.bool("watch");
        agents.finish();
    }
    if let Some(mut flows) = spec.fields("flows", "spec.flows") {
        let enabled = flows.bool("enabled") != Some(false);
        if let Some(text) = flows.text("directory").filter(|_| enabled) {
            doc.flows_dir_at = text.at;
            doc.daemon.flows_dir = Some(beside(&text, flows.scope.file));
        }
        watch[1] = flows.bool("watch");
        doc.daemon.recursive = flows.bool("recursive").unwrap_or(true);
        flows.finish();
    }
    doc.daemon.watch = watch != [Some(false), Some(false)];
}

fn routing(spec: &mut Fields<'_, '_>, doc: &mut DaemonDoc) {
    let Some(mut routing) = spec.fields("routing", "spec.routing") else { return };
    if let Some(text) = routing.text("default_agent") {
        doc.daemon.default_agent = agent_name(&routing, &text);
        doc.default_agent = Some(Reference { at: text.at, written: text.written });
    }
    doc.daemon.strict_mode = routing.bool("strict_mode").unwrap_or(false);
    routing.finish();
}

fn runtime(spec: &mut Fields<'_, '_>, daemon: &mut Daemon) {
    let Some(mut runtime) = spec.fields("runtime", "spec.runtime") else { return };
    daemon.max_concurrent_tasks =
        runtime.positive("max_concurrent_tasks").unwrap_or(daemon.max_concurrent_tasks);
    daemon.task_timeout_secs =
        runtime.positive("task_timeout_secs").unwrap_or(daemon.task_timeout_secs);
    daemon.max_tasks_per_user =
        runtime.positive("max_tasks_per_user").unwrap_or(daemon.max_tasks_per_user);
    if let Some(text) = runtime.text("task_queue")
        && text.value == "redis"
    {
        let message = "tasks are not kept in Redis: they are in the queue, limits in Redis";
        let help = "remove `task_queue`; set `spec.cluster` to run on a cluster".to_owned();
        runtime.scope.warn_with("no-effect", text.at, (message.to_owned(), help));
    }
    daemon.cluster.announced |= runtime.bool("distributed").unwrap_or(false);
    runtime.finish();
}

fn models(spec: &mut Fields<'_, '_>) -> BTreeMap<String, ModelEndpoint> {
    let mut models = BTreeMap::new();
    let Some(mut all) = spec.fields("models", "spec.models") else { return models };
    for (key, node) in all.rest() {
        let Some(mut fields) = Fields::of(all.scope, node, "spec.models.<provider>") else {
            continue;
        };
        let written = secret(&mut fields, "api_key");
        let endpoint = ModelEndpoint {
            api: fields.text("api").map(|text| text.value),
            base_url: fields.text("base_url").map(|text| text.value),
            api_key: instance::variable(&mut fields, "api_key_env").or(written),
        };
        fields.finish();
        models.insert(key.text.to_ascii_lowercase(), endpoint);
    }
    models
}

fn cluster(spec: &mut Fields<'_, '_>, cluster: &mut Cluster) {
    let Some(mut fields) = spec.fields("cluster", "spec.cluster") else { return };
    if let Some(name) = fields.text("name") {
        if is_cluster_name(&name.value) {
            cluster.name = name.value;
        } else {
            let message = format!("`{}` is not a usable name of a cluster", name.shown());
            let help = "use 1 to 32 of `a-z`, `0-9` and `-`".to_owned();
            fields.scope.error_with("bad-name", name.at, (message, help));
        }
    }
    cluster.nats_url = url(&mut fields, &Kind::NATS);
    cluster.nats_monitor_url = url(&mut fields, &Kind::MONITOR);
    if let Some(redis) = url(&mut fields, &Kind::REDIS) {
        cluster.redis_url = Some(redis);
        cluster.redis_of_001 = false;
    }
    cluster.database_url = url(&mut fields, &Kind::POSTGRES);
    if let Some(node) = fields.take("replicas") {
        let text = fields.scope.text(node, "replicas");
        match text.as_ref().and_then(|text| text.value.parse::<u8>().ok()) {
            Some(replicas @ 1..=MAX_REPLICAS) => cluster.replicas = replicas,
            _ => {
                let message = format!("`replicas` must be a number from 1 to {MAX_REPLICAS}");
                let help = "use 3 where there are three NATS servers, else 1".to_owned();
                fields.scope.error_with("wrong-number", node.at, (message, help));
            }
        }
    }
    fields.finish();
}

/// A server's URL. What is wrong is not shown: it may hold a password.
fn url(fields: &mut Fields<'_, '_>, kind: &Kind) -> Option<Secret> {
    let text = fields.text(kind.field)?;
    if kind.fits(&text.value) {
        return Some(Secret::new(&text.value));
    }
    let message = format!("`{}` is not a URL of {}", kind.field, kind.server);
    let help = format!("write it as `{}`", kind.example);
    fields.scope.error_with("bad-url", text.at, (message, help));
    None
}

fn groups(spec: &mut Fields<'_, '_>) -> HashMap<String, Vec<String>> {
    let mut groups = HashMap::new();
    let Some(mut all) = spec.fields("groups", "spec.groups") else { return groups };
    for (key, node) in all.rest() {
        let members = all.scope.texts(node, "groups");
        if members.is_empty() {
            let message = format!("group `{}` has no members", key.text);
            all.scope.error("empty-group", key.at, message);
        }
        groups.insert(key.text.to_string(), members.into_iter().map(|t| t.value).collect());
    }
    groups
}
