//! Revisions, instances and groups: what several documents decide together.

use std::path::Path;
use std::sync::Arc;

use aof_shared::config::{Flow, Snapshot};
use aof_shared::manifest::{Env, Loader, Sources};

const AGENT: &str = "apiVersion: aof.dev/v1\nkind: Agent\nmetadata: {name: a}\n\
                     spec: {model: 'echo:repeat'}\n";

fn flow(name: &str, trigger: &str, more: &str) -> String {
    format!(
        "apiVersion: aof.dev/v1\nkind: AgentFlow\nmetadata: {{name: {name}}}\nspec:\n  \
         trigger: {trigger}\n  agents: [{{name: a}}]\n{more}"
    )
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    files.iter().for_each(|(name, text)| write(dir.path(), name, text));
    dir
}

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).expect("written");
}

fn loader(dir: &Path) -> Loader {
    let paths = vec![dir.to_owned()];
    Loader::new(Sources { paths, ..Sources::new(Env::new(|name| Some(name.to_lowercase()))) })
}

fn load(loader: &mut Loader) -> Snapshot {
    let loaded = loader.load();
    loaded.snapshot.unwrap_or_else(|| panic!("{:?}", loaded.findings))
}

fn find<'s>(snapshot: &'s Snapshot, name: &str) -> &'s Arc<Flow> {
    snapshot.flows.iter().find(|flow| flow.name.as_str() == name).expect("the flow")
}

#[test]
fn a_flows_revision_follows_its_own_documents_only() {
    let ops = flow("ops", "{type: Chat, config: {channels: [ops]}}", "");
    let dev = flow("dev", "{type: Chat, config: {channels: [dev]}}", "");
    let dir = folder(&[("agent.yaml", AGENT), ("ops.yaml", &ops), ("dev.yaml", &dev)]);
    let mut loader = loader(dir.path());
    let first = load(&mut loader);

    write(dir.path(), "dev.yaml", &dev.replace("spec:\n", "spec:   # a remark\n"));
    let second = load(&mut loader);
    assert_ne!(first.revision, second.revision);
    assert_ne!(find(&first, "dev").revision, find(&second, "dev").revision);
    assert!(Arc::ptr_eq(find(&first, "ops"), find(&second, "ops")), "untouched, so the same");

    write(dir.path(), "agent.yaml", &AGENT.replace("repeat", "other"));
    let third = load(&mut loader);
    assert_ne!(find(&second, "ops").revision, find(&third, "ops").revision);

    write(dir.path(), "agent.yaml", AGENT);
    assert_eq!(load(&mut loader).revision, second.revision, "the same content again");
}

#[test]
fn variables_are_no_part_of_a_revision() {
    let text = flow("ops", "{type: Chat, config: {channels: ['${CHANNEL}']}}", "");
    let dir = folder(&[("agent.yaml", AGENT), ("ops.yaml", &text)]);
    let with = |value: &'static str| {
        let env = Env::new(move |_| Some(value.to_owned()));
        let paths = vec![dir.path().to_owned()];
        load(&mut Loader::new(Sources { paths, ..Sources::new(env) }))
    };
    let (one, two) = (with("one"), with("two"));
    assert_eq!(
        (&one.revision, &find(&one, "ops").revision),
        (&two.revision, &find(&two, "ops").revision)
    );
    assert_ne!(find(&one, "ops").trigger.channels, find(&two, "ops").trigger.channels);
}

#[test]
fn groups_become_people_and_change_the_revision_of_flows_that_name_them() {
    let daemon = "apiVersion: aof.dev/v1\nkind: DaemonConfig\nmetadata: {name: d}\nspec:\n  \
                  groups: {sre: [alice, bob]}\n";
    let more =
        "  approval:\n    chains: [{name: default, approvers: [sre, carol, alice], require: 2}]\n";
    let ops = flow("ops", "{type: Chat, config: {channels: [ops]}}", more);
    let dev = flow("dev", "{type: Chat, config: {channels: [dev]}}", "");
    let dir =
        folder(&[("a.yaml", AGENT), ("d.yaml", daemon), ("ops.yaml", &ops), ("x.yaml", &dev)]);
    let mut loader = loader(dir.path());
    let first = load(&mut loader);
    let people = |snapshot: &Snapshot| find(snapshot, "ops").approval.chains[0].approvers.clone();
    assert_eq!(people(&first), ["alice", "bob", "carol"]);
    write(dir.path(), "d.yaml", &daemon.replace("bob", "dora"));
    let second = load(&mut loader);
    assert_eq!(people(&second), ["alice", "dora", "carol"]);
    assert_ne!(find(&first, "ops").revision, find(&second, "ops").revision);
    assert_eq!(find(&first, "dev").revision, find(&second, "dev").revision);
}

#[test]
fn instances_are_named_so_that_their_addresses_last() {
    let slack = |name: &str, organization: &str, config: &str| {
        let text = flow(name, &format!("{{type: Slack, config: {{{config}}}}}"), "");
        let label = format!("metadata: {{name: {name}, labels: {{organization: {organization}}}}}");
        text.replace(&format!("metadata: {{name: {name}}}"), &label)
    };
    let daemon = "apiVersion: aof.dev/v1\nkind: DaemonConfig\nmetadata: {name: d}\nspec:\n  \
                  platforms: {slack: {bot_token_env: MAIN}, telegram: {enabled: false, bot_token_env: X}}\n";
    let files = [
        ("a.yaml", AGENT.to_owned()),
        ("b.yaml", daemon.to_owned()),
        ("c.yaml", slack("alone", "one", "bot_token: t1, signing_secret: s, channels: [ops]")),
        ("d.yaml", slack("first", "two", "bot_token: t2, channels: [C0123456789]")),
        ("e.yaml", slack("second", "two", "bot_token: t3, users: [U0123456]")),
        ("f.yaml", slack("named", "three", "bot_token: t4, instance: my-team")),
        ("g.yaml", slack("user", "three", "instance: my-team, channels: [x]")),
        ("h.yaml", slack("any", "default", "channels: [ops]")),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(n, t)| (*n, t.as_str())).collect();
    let dir = folder(&files);
    let snapshot = load(&mut loader(dir.path()));
    let of = |name: &str| find(&snapshot, name).trigger.instance.as_ref().map(ToString::to_string);
    assert_eq!(of("alone").as_deref(), Some("one"));
    // The first 8 hex digits of SHA-256 of `t2` and `t3`.
    let hashed = [of("first").expect("one"), of("second").expect("one")];
    assert!(hashed.iter().all(|name| name.len() == "two-".len() + 8), "{hashed:?}");
    assert_ne!(hashed[0], hashed[1]);
    assert_eq!(of("named").as_deref(), Some("my-team"));
    assert_eq!(of("user").as_deref(), Some("my-team"));
    assert_eq!(of("any"), None, "any of the tenant's");
    let needs: Vec<(&str, bool)> =
        snapshot.instances.iter().map(|i| (i.name.as_str(), i.needs_channel_names)).collect();
    assert_eq!(needs[0], ("default", true));
    assert_eq!(needs[1], ("one", true));
    assert_eq!((needs[2].1, needs[3].1), (false, false));
    assert_eq!(needs[4], ("my-team", true));
    assert_eq!(needs.len(), 5);
    let shown = format!("{:?}", snapshot.instances);
    assert!(!shown.contains("t1") && shown.contains("***"), "{shown}");
}

#[test]
fn an_error_leaves_no_snapshot_and_mending_it_brings_all_back() {
    let good = flow("ops", "{type: Chat}", "");
    let dir = folder(&[("a.yaml", AGENT), ("ops.yaml", &good)]);
    let mut loader = loader(dir.path());
    let first = load(&mut loader);
    write(dir.path(), "ops.yaml", &good.replace("{name: a}", "{name: b}"));
    let broken = loader.load();
    assert!(broken.snapshot.is_none() && broken.findings[0].code == "missing-agent");
    write(dir.path(), "ops.yaml", &good);
    assert_eq!(load(&mut loader).revision, first.revision);
    std::fs::remove_file(dir.path().join("ops.yaml")).expect("removed");
    assert!(load(&mut loader).flows.is_empty());
}
